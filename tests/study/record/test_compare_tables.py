"""One table against one: which cells and rows count, and how far they are apart."""

import re
from decimal import Decimal

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakfree_study.record.reproduce import TableError, compare_tables, read_table
from leakfree_study.record.tolerances import TableRules

RULES = TableRules.model_validate(
    {
        "key": ["model", "part"],
        "exact": ["n", "where"],
        "within": ["estimate"],
        "not_compared": {"seconds": "time"},
        "rows": [{"where": {"model": "forest"}, "exact": ["estimate"]}],
        "sealed_rows": {"part": "official"},
    }
)


def table(*changes):
    """Four rows as text, with cells ``(row, column, value)`` changed."""
    frame = pd.DataFrame(
        {
            "model": ["forest", "resnet", "forest", "resnet"],
            "part": ["test", "test", "official", "official"],
            "n": ["10", "10", "20", "20"],
            "where": ["a.csv", "b.csv", "c.csv", ""],
            "estimate": ["0.900000", "0.910000", "0.920000", ""],
            "seconds": ["1.5", "2.5", "3.5", "4.5"],
        }
    )
    for row, column, value in changes:
        frame.loc[row, column] = value
    return frame


def compare(fresh, published=None, **options):
    return compare_tables("t", table() if published is None else published, fresh, RULES, **options)


def test_a_table_agrees_with_itself():
    found = compare(table())
    assert (found.status, found.fails, found.rows) == ("agrees", False, 4)
    assert (found.numbers, found.exact, found.within) == (7, 6, 1)
    assert (found.largest, found.largest_at) == (0, None)
    assert found.not_compared == {"seconds": {"time": 0}}


def test_a_table_agrees_whatever_the_order_of_its_rows_and_columns():
    assert compare(table().iloc[::-1, ::-1]).status == "agrees"


@pytest.mark.parametrize(
    ("change", "agrees"),
    [
        ((1, "estimate", "0.929"), True),
        ((1, "estimate", "0.930000"), True),
        ((1, "estimate", "0.930001"), False),
        ((1, "estimate", "0.889999"), False),
        ((1, "estimate", "0.89"), True),
        ((0, "estimate", "0.900001"), False),
        ((0, "estimate", "0.9"), True),
        ((0, "n", "11"), False),
        ((0, "n", "10.0"), True),
        ((0, "where", "x.csv"), False),
        ((0, "where", ""), False),
        ((3, "where", "1"), False),
        ((1, "estimate", ""), False),
        ((1, "estimate", "nan"), False),
        ((1, "estimate", "inf"), False),
        ((3, "estimate", "0.5"), False),
        ((0, "seconds", "9999"), True),
        ((0, "seconds", "gone"), True),
    ],
)
def test_a_cell_agrees_under_its_rule(change, agrees):
    found = compare(table(change))
    assert found.fails is not agrees
    if not agrees:
        (one,) = found.differences
        row, column, value = change
        assert (one.row["model"], one.row["part"]) == tuple(table().loc[row, ["model", "part"]])
        assert (one.column, one.published, one.fresh) == (column, table().loc[row, column], value)
        assert one.allowed == ("0.02" if (row, column) in ((1, "estimate"), (3, "estimate")) else "exact")


def test_what_is_not_compared_is_counted():
    found = compare(table((0, "seconds", "7"), (1, "seconds", "7")))
    assert found.not_compared == {"seconds": {"time": 2}}


@given(st.integers(-1_000_000, 1_000_000))
def test_the_largest_deviation_is_that_of_the_texts(millionths):
    value = str(Decimal("0.910000") + Decimal(millionths) / 1_000_000)
    found = compare(table((1, "estimate", value)))
    assert found.largest == abs(Decimal(millionths)) / 1_000_000
    assert found.fails == (abs(millionths) > 20_000)
    assert (found.largest_at is None) == (millionths == 0)


def test_rows_of_one_run_only_fail_and_are_named():
    found = compare(table().drop(index=[0]), partial=False)
    assert found.status == "differs"
    assert (found.lost, found.extra) == ([{"model": "forest", "part": "test"}], [])
    found = compare(table(), table().drop(index=[1]))
    assert (found.status, found.extra) == ("differs", [{"model": "resnet", "part": "test"}])


def test_a_partial_run_may_lack_rows_but_not_bring_others():
    found = compare(table().drop(index=[0, 3]), partial=True)
    assert (found.status, len(found.not_run), found.lost) == ("agrees", 2, [])
    assert compare(table(), table().drop(index=[1]), partial=True).status == "differs"
    assert compare(table((1, "n", "9")).drop(index=[0]), partial=True).status == "differs"


def test_a_run_that_opened_nothing_may_lack_what_rests_on_its_sealed_test_only():
    found = compare(table().drop(index=[2, 3]), opened=False)
    assert (found.status, len(found.sealed)) == ("agrees", 2)
    assert compare(table().drop(index=[2, 3]), opened=True).lost[0]["part"] == "official"
    assert compare(table().drop(index=[1, 2, 3]), opened=False).lost == [{"model": "resnet", "part": "test"}]
    assert compare(table((2, "n", "21")), opened=False).status == "differs", "what is there counts"


def test_rows_that_follow_from_others_may_differ():
    free = RULES.model_copy(update={"free_rows": "wrong"})
    found = compare_tables("t", table().drop(index=[0]), table().drop(index=[1]), free)
    assert (found.status, len(found.free), found.rows) == ("agrees", 2, 2)
    changed = table((2, "n", "21")).drop(index=[1])
    assert compare_tables("t", table(), changed, free).status == "differs"


@pytest.mark.parametrize(
    ("published", "fresh", "problem"),
    [
        (table(), table().assign(new="1"), "column new has no rule"),
        (table().assign(new="1"), table().assign(new="1"), "column new has no rule"),
        (table(), table().assign(new="1"), "column new is in the fresh run only"),
        (table(), table().drop(columns="n"), "column n is missing in the fresh run"),
        (table(), table().drop(columns="model"), "column model is missing in the fresh run"),
        (table(), pd.concat([table(), table()]), "4 rows of the fresh run have the key of another"),
        (table((1, "model", "forest")), table(), "1 rows of the published run have the key of another"),
    ],
)
def test_columns_and_keys_that_are_wrong_fail_and_are_named(published, fresh, problem):
    found = compare(fresh, published)
    assert problem in found.problems
    assert found.status == "differs"


def test_a_table_without_rows_lacks_all_of_them():
    found = compare(pd.DataFrame())
    assert (found.problems, len(found.lost)) == ([], 4)
    assert compare(pd.DataFrame(), pd.DataFrame()).status == "agrees"


def test_tables_are_read_as_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n0.100000,NA\n,04\n")
    assert read_table(path).to_dict("list") == {"a": ["0.100000", ""], "b": ["NA", "04"]}
    path.write_text("\n")
    assert len(read_table(path)) == 0


@pytest.mark.parametrize("content", [b"a,b\n1,2,3\n4,5,6,7\n", b"a,b\n\xff\xfe,2\n", b'a,b\n"1,2\n'])
def test_what_is_no_table_is_one_line_with_its_name(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(TableError, match=re.escape("t.csv cannot be read")) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)
