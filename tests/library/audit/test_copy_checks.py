import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.audit.checks.findings import FAIL_ON

with deferred:
    from leakfree.audit.checks.copy_checks import MOST_EXAMPLES, copies_checks
    from leakfree.audit.copies.duplicates import CANDIDATE_COLUMNS, Copies
    from leakfree.data.groups import linked_groups

NAMES = ("same_file", "exact_duplicates", "near_duplicates", "label_conflicts")


def table(parts, labels=None, patients=None):
    n = len(parts)
    ids = [f"i{i}" for i in range(n)]
    columns = {"part": parts, "label": labels or ["a"] * n, "patient": patients or [""] * n}
    return pd.DataFrame({"image_id": ids, **columns})


def found(n, same_file=(), exact=(), near=(), pairs=()):
    """Copies of n images; `pairs` are (first, second, agreement, verified)."""
    keys = [str(i) for i in range(n)]
    for group in (*same_file, *exact, *near):
        for row in group[1:]:
            keys[row] = keys[group[0]]
    rows = [(a, b, "hash", "mirrored", True, 3, -1, value, good) for a, b, value, good in pairs]
    candidates = pd.DataFrame(rows, columns=list(CANDIDATE_COLUMNS))
    lists = [[list(group) for group in groups] for groups in (same_file, exact, near)]
    return Copies(*lists, candidates, linked_groups(keys), False, {"near by hash": len(rows)})


def run(films, copies, fail_on=FAIL_ON, incomplete=""):
    checks = copies_checks(films, copies, fail_on, incomplete)
    assert tuple(check.name for check in checks) == NAMES
    return {check.name: check for check in checks}


@pytest.mark.parametrize("name", NAMES[:3])
def test_a_copy_across_parts_fails_and_one_inside_warns(name):
    films = table(["train"] * 4 + ["test"] * 4)
    kind = {"same_file": "same_file", "exact_duplicates": "exact", "near_duplicates": "near"}[name]
    inside = run(films, found(8, **{kind: [(0, 1)]}))[name]
    assert (inside.status, inside.severity, inside.count, inside.files) == (
        "WARN",
        "warning",
        1,
        ("i0", "i1"),
    )
    groups = [(0, 1), (2, 6, 7)]
    across = run(films, found(8, **{kind: groups}))[name]
    assert (across.status, across.severity, across.count) == ("FAIL", "leak", 2)
    assert across.files == ("i0", "i1", "i2", "i6", "i7")
    assert across.details["across_parts"] == {"count": 1, "files": ["i2", "i6", "i7"]}
    # What crosses parts stands first.
    assert across.details["groups"] == [["i2", "i6", "i7"], ["i0", "i1"]]
    assert across.examples[0] == ("i2", "i6", "i7")
    assert run(films, found(8, **{kind: groups}), fail_on=())[name].status == "WARN"
    assert run(films, found(8, **{kind: groups}), fail_on=())[name].severity == "leak"


def test_all_files_are_listed_though_few_are_shown():
    n = 5 * MOST_EXAMPLES
    groups = [(i, n + i) for i in range(n)]
    check = run(table(["train"] * n + ["test"] * n), found(2 * n, exact=groups))["exact_duplicates"]
    assert len(check.files) == 2 * n and check.count == n and len(check.examples) == MOST_EXAMPLES
    assert len(check.details["groups"]) == n


def test_nothing_found_passes_only_if_all_was_looked_at():
    for name, check in run(table(["train", "test"]), found(2)).items():
        assert check.status == "PASS" and not check.files, name
    for name, check in run(table(["train", "test"]), found(2), incomplete="3 images lost").items():
        assert check.status == "INCONCLUSIVE" and "3 images lost" in check.summary, name
    unsplit = run(table(["train", ""]), found(2))
    assert [unsplit[name].status for name in NAMES] == ["INCONCLUSIVE"] * 3 + ["PASS"]
    assert run(table(["", ""]), found(2, exact=[(0, 1)]))["exact_duplicates"].status == "WARN"


def test_an_image_without_part_crosses_nothing():
    check = run(table(["train", "", "test"]), found(3, exact=[(0, 1)]))["exact_duplicates"]
    assert check.status == "WARN" and "no part" in check.summary
    assert run(table(["train", "", "test"]), found(3, exact=[(0, 1, 2)]))["exact_duplicates"].status == "FAIL"


def test_near_pairs_are_told_with_how_and_how_well_the_best_first():
    films = table(["train"] * 2 + ["test"] * 4)
    copies = found(
        6, near=[(0, 2), (1, 3)], pairs=[(0, 2, 0.96, True), (1, 3, 0.99, True), (4, 5, 0.2, False)]
    )
    check = run(films, copies)["near_duplicates"]
    assert check.examples == (("i1", "i3"), ("i0", "i2"))
    assert check.details["candidates"] == 3 and check.details["candidates_refuted_on_pixels"] == 1
    assert check.details["verified_pairs"][0] == {
        "files": ["i0", "i2"], "found_by": "hash", "how": "mirrored inverted", "bits_apart": 3,
        "keypoints": -1, "agreement": 0.96,
    }  # fmt: skip
    assert [pair["files"] for pair in check.details["verified_pairs"]] == [["i0", "i2"], ["i1", "i3"]]


def test_labels_of_all_kinds_of_copies_are_compared():
    films = table(["train"] * 8, ["a", "b", "a", "b", "a", "b", "a", "a"])
    check = run(films, found(8, same_file=[(0, 1)], exact=[(2, 3)], near=[(4, 5), (6, 7)]))["label_conflicts"]
    assert (check.status, check.count, check.severity) == ("WARN", 3, "warning")
    assert check.files == ("i0", "i1", "i2", "i3", "i4", "i5")
    failing = run(films, found(8, exact=[(2, 3)]), fail_on=("label_conflicts",))["label_conflicts"]
    assert failing.status == "FAIL"


def test_labels_that_may_not_be_read_are_no_label():
    for hidden in ("sealed", ""):
        none = run(table(["train", "test"], [hidden] * 2), found(2, exact=[(0, 1)]))["label_conflicts"]
        assert none.status == "NOT RUN" and not none.files
        some = run(table(["train", "test"], ["a", hidden]), found(2, exact=[(0, 1)]))["label_conflicts"]
        assert some.status == "INCONCLUSIVE" and some.details["images_without_label"] == 1
    mixed = run(table(["x"] * 3, ["a", "sealed", "b"]), found(3, exact=[(0, 1, 2)]))["label_conflicts"]
    assert mixed.status == "WARN" and mixed.files == ("i0", "i1", "i2")


def test_no_image_at_all_is_no_pass_of_labels():
    empty = table([])
    copies = Copies(
        [], [], [], pd.DataFrame(columns=list(CANDIDATE_COLUMNS)), np.empty(0, np.int64), False, {}
    )
    checks = run(empty, copies, incomplete="2 lost")
    assert [checks[name].status for name in NAMES] == ["INCONCLUSIVE"] * 3 + ["NOT RUN"]


def test_alike_images_of_one_patient_in_one_part_are_no_copies():
    """Neighbouring slices and frames; those across parts, of nobody or of two patients are."""
    parts = ["train", "train", "train", "test", "train", "train", "train", "train"]
    films = table(parts, list("abababab"), ["p", "p", "q", "q", "", "", "r", "s"])
    near = run(films, found(8, near=[(0, 1), (2, 3), (4, 5), (6, 7)]))
    assert (
        near["near_duplicates"].count == 3 and near["near_duplicates"].details["across_parts"]["count"] == 1
    )
    assert near["near_duplicates"].details["alike_of_one_patient"] == [["i0", "i1"]]
    assert "1 more (2 files) are alike images of one patient" in near["near_duplicates"].summary
    assert near["label_conflicts"].count == 3
    alone = run(films, found(8, near=[(0, 1)]))["near_duplicates"]
    assert (alone.status, alone.count) == ("PASS", 0) and "alike images of one patient" in alone.summary
    # The same pixels are a copy all the same, and cannot show two things.
    exact = run(films, found(8, exact=[(0, 1)], near=[(0, 1)]))
    assert exact["exact_duplicates"].count == 1 and exact["label_conflicts"].count == 1
