import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deferred import deferred
from leakfree.audit.checks.findings import STATUSES
from leakfree.audit.checks.parts import MINIMUM, images_needed, parts

with deferred:
    from scipy.stats import binomtest


def make(**sizes):
    """Rows from ``part=[(label, images), ...]``."""
    rows = [(p, c) for p, held in sizes.items() for c, n in held for _ in range(n)]
    table = pd.DataFrame(rows, columns=["part", "label"])
    table["image_id"] = [f"i{i:04}" for i in range(len(table))]
    return table


FULL = [("NORMAL", 100), ("PNEUMONIA", 120)]


@pytest.mark.parametrize("half_width", [0.05, 0.1, 0.2])
def test_the_minimum_is_the_smallest_that_keeps_the_interval(half_width):
    def widest(n):
        bounds = [binomtest(k, n).proportion_ci(method="wilson") for k in range(n + 1)]
        return max(high - low for low, high in bounds) / 2

    # The widest interval is that of one half, which an odd number cannot show.
    n = images_needed(half_width)
    assert widest(n) <= half_width and widest(n - 2 if n % 2 else n - 1) > half_width - 1e-3
    assert widest((n - 1) // 2 * 2) > half_width or widest(n - 1) == pytest.approx(half_width, abs=1e-3)


def test_the_minimum_by_hand():
    # 1.96^2 (1 / (4 0.01) - 1) = 92.2
    assert images_needed(0.1) == MINIMUM == 93
    for wrong in (0, 0.5, -1):
        with pytest.raises(ValueError, match="half width"):
            images_needed(wrong)


def test_parts_that_can_carry_a_score_pass():
    check = parts(make(train=FULL, test=[("NORMAL", MINIMUM), ("PNEUMONIA", MINIMUM)]), declared=["test"])
    assert check.status == "PASS" and not check.count and not check.advice
    assert check.details["parts"][0] == {
        "name": "test",
        "images": 2 * MINIMUM,
        "labels": {"NORMAL": MINIMUM, "PNEUMONIA": MINIMUM},
        "checked": True,
    }
    json.dumps(check.as_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (make(train=FULL, test=[("NORMAL", 200), ("PNEUMONIA", MINIMUM - 1)]), "only 92 PNEUMONIA"),
        (make(train=FULL, val=[("NORMAL", 8), ("PNEUMONIA", 8)]), "val has 16 images, fewer than 93"),
        (make(train=FULL, test=[("PNEUMONIA", 200)]), "test lacks NORMAL"),
        (make(train=FULL), "train is the only part"),
    ],
)
def test_what_is_wrong_is_said(table, words):
    check = parts(table)
    assert check.status == "WARN" and check.count == 1 and check.severity == "warning"
    assert words in check.summary and check.advice


def test_a_declared_part_without_an_image_is_empty():
    check = parts(make(train=FULL, test=FULL), declared=["train", "val", "test"])
    assert check.status == "WARN" and check.count == 1 and "val has no readable image" in check.summary
    assert [row["name"] for row in check.details["parts"]] == ["train", "val", "test"]
    assert parts(make(), declared=["train", "test"]).status == "WARN"


def test_images_without_a_part_are_listed():
    table = make(train=FULL, test=FULL)
    table.loc[[3, 1], "part"] = ["", None]
    check = parts(table, minimum=50)
    assert check.status == "WARN" and check.count == 1 and "2 images without a part" in check.summary
    assert check.files == ("i0001", "i0003")


def test_sealed_labels_are_neither_counted_nor_passed():
    sealed = make(train=FULL, test=[("sealed", 200)])
    check = parts(sealed)
    assert check.status == "INCONCLUSIVE" and "classes of test (200 images" in check.summary
    assert "lacks" not in check.summary
    assert check.details["parts"][1] == {
        "name": "test",
        "images": 200,
        "labels": {"NORMAL": 0, "PNEUMONIA": 0},
        "checked": False,
    }
    # One image without a label may be of the class that is lacking.
    check = parts(make(train=FULL, test=[("PNEUMONIA", 200), ("", 1)]))
    assert check.status == "INCONCLUSIVE" and "lacks" not in check.summary
    assert parts(make(train=FULL, test=[("sealed", 20)])).status == "WARN"


def test_without_labels_or_parts():
    table = make(train=FULL, test=FULL)
    assert parts(table.drop(columns="label")).status == "INCONCLUSIVE"
    assert parts(table.assign(label="a")).status == "INCONCLUSIVE"
    assert parts(table.drop(columns="part")).status == "NOT RUN"
    assert parts(table.assign(part="")).status == "NOT RUN"
    assert parts(table[:0]).status == "NOT RUN"


def test_the_minimum_can_be_chosen():
    table = make(train=[("a", 30), ("b", 30)], test=[("a", 10), ("b", 10)])
    assert parts(table).count == 2
    assert parts(table, minimum=10).status == "PASS"
    check = parts(table, minimum=11)
    assert check.count == 1 and "only 10 a, 10 b, fewer than 11" in check.summary


texts = st.one_of(
    st.none(), st.sampled_from(["", "a", "b", "sealed", "train", "test", "é|x"]), st.integers(0, 2)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(texts, texts), max_size=40), st.integers(1, 6), st.booleans(), st.data())
def test_no_table_raises_and_a_pass_holds(rows, minimum, named, data):
    table = pd.DataFrame({"part": [r[0] for r in rows], "label": [r[1] for r in rows]}, dtype=object)
    if named:
        table["image_id"] = [f"i{i}" for i in range(len(rows))]
    table.index = table.index + 3
    table = table.drop(columns=data.draw(st.sampled_from([[], ["part"], ["label"]])))
    check = parts(table, minimum=minimum)
    assert check.status in STATUSES
    json.dumps(check.as_json(), allow_nan=False)
    if check.status == "PASS":
        counts = table.astype(str).groupby(["part", "label"]).size().unstack(fill_value=0)
        assert (counts.to_numpy() >= minimum).all() and min(counts.shape) > 1
