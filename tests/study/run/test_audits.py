"""Tables of audits: every check of every split, side by side, and pairs beside their readers' verdicts."""

from types import SimpleNamespace

import pandas as pd

from leakfree_study.run.audits import audit_table, outcomes, verified_pairs


def check(status, count=0, **details):
    return SimpleNamespace(
        status=status, count=count, files=["a"] * count, details=details, summary=f"{status}."
    )


def test_every_check_of_every_split_has_a_row_and_a_place():
    reports = {
        "one": SimpleNamespace(
            checks={"patients": check("fail", 3, across_parts={"count": 2}), "blank": check("pass")}
        ),
        "another": SimpleNamespace(checks={"patients": check("pass"), "blank": check("warn", 1)}),
    }
    table = audit_table(reports)
    assert table[["split", "check", "status", "count", "files", "across_parts"]].to_numpy().tolist() == [
        ["one", "patients", "fail", 3, 3, 2], ["one", "blank", "pass", 0, 0, ""],
        ["another", "patients", "pass", 0, 0, ""], ["another", "blank", "warn", 1, 1, ""],
    ]  # fmt: skip
    shown = outcomes(table)
    assert list(shown.index) == ["patients", "blank"] and list(shown.columns) == ["one", "another"]
    assert shown.to_numpy().tolist() == [["fail (3)", "pass"], ["pass", "warn (1)"]]


def test_pairs_have_the_verdict_of_their_readers_in_any_order():
    pairs = [
        {"files": ["a", "b"], "found_by": "hash", "how": "shifted", "agreement": 0.9},
        {"files": ["c", "d"], "found_by": "hash", "how": "same", "agreement": 1.0},
    ]
    near = check("fail", 2, verified_pairs=pairs)
    plain = verified_pairs(near)
    assert plain.columns.tolist() == ["first", "second", "found_by", "how", "agreement"]
    assert plain.iloc[0].tolist() == ["a", "b", "hash", "shifted", 0.9]
    verdicts = pd.DataFrame({"first": ["b"], "second": ["a"], "agreed": ["copy"]})
    assert verified_pairs(near, verdicts)["readers"].tolist() == ["copy", "not read"]
    assert verified_pairs(check("pass", verified_pairs=[]), verdicts).empty
