"""The demo finds what it planted, says so, and leaves nothing half done."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from deferred import deferred
from leakfree.cli import main

with deferred:
    from leakfree.audit.auditor import AuditSettings, audit_images
    from leakfree.audit.demo import COUNT, run_demo, was_found
    from leakfree.audit.faults import FAULTS


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out.parent)
        code = main(["demo", "--out", "out", "--seed", "5"])
    return out, code


@pytest.mark.slow
def test_every_planted_fault_is_found(demo, capsys):
    out, code = demo
    planted = pd.read_csv(out / "planted.csv")
    assert code == 0
    assert planted["found"].all(), planted.loc[~planted["found"], ["kind", "file"]]
    assert set(planted["kind"]) == set(FAULTS)
    assert (planted["kind"].value_counts().drop("size_shortcut") == COUNT).all()
    assert sorted(path.name for path in out.iterdir()) == [
        "images", "planted.csv", "report.html", "report.json",
    ]  # fmt: skip


@pytest.mark.slow
def test_nothing_else_is_called_a_copy(demo):
    out, _ = demo
    planted = pd.read_csv(out / "planted.csv")
    copies = planted[~planted["kind"].isin(["patient_moved", "size_shortcut"])]
    pairs = {frozenset(pair) for pair in copies[["file", "of"]].itertuples(index=False, name=None)}
    checks = json.loads((out / "report.json").read_text(encoding="utf-8"))["checks"]
    groups = checks["exact_duplicates"]["groups"] + checks["near_duplicates"]["groups"]
    assert {frozenset(group) for group in groups} == pairs


@pytest.mark.slow
def test_what_the_report_does_not_name_is_not_found(demo):
    out, _ = demo
    planted = pd.read_csv(out / "planted.csv")
    report = audit_images(out / "images", AuditSettings(skip=("near_duplicates", "shortcuts", "shift")))
    found = dict(zip(planted["kind"], was_found(planted, report), strict=True))
    assert found["exact_copy"] and found["relabelled_copy"] and found["patient_moved"]
    assert not any(found[kind] for kind in ("mirrored", "cropped_10", "size_shortcut"))
    blind = replace(report.checks["patients"], files=())
    report = replace(report, checks={**report.checks, "patients": blind})
    assert not dict(zip(planted["kind"], was_found(planted, report), strict=True))["patient_moved"]


def test_a_folder_in_the_way_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    assert run_demo(tmp_path) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
