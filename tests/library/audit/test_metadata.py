"""Further columns: what tells the label or the part is found, and what does not is passed."""

import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.audit.checks import metadata as module
from leakfree.audit.checks.metadata import metadata
from leakfree.data.reading.understand import META
from leakfree.data.reading.wishes import Wishes

with deferred:
    from leakfree.audit.target import open_target

N = 400


def table(**columns):
    rng = np.random.default_rng(1)
    known = {
        "label": np.where(np.arange(N) % 2, "sick", "well"),
        "part": np.where(rng.random(N) < 0.3, "test", "train"),
    }
    return pd.DataFrame({**known, **{META + name: values for name, values in columns.items()}}).astype(str)


def asked(**columns):
    return metadata(table(**columns), np.arange(N) // 2 * 2 + np.arange(N) % 2)


RNG = np.random.default_rng(0)
LABELS = np.arange(N) % 2
TRAIN = (table()["part"] == "train").to_numpy()
COLUMNS = {
    "site": (np.where(RNG.random(N) < 0.85, LABELS, 1 - LABELS), "site predicts the label"),
    "age": (np.where(LABELS, 60, 40) + RNG.integers(0, 15, N), "age predicts the label"),
    "histology": (np.where(LABELS, "x", "y"), "histology repeats the label"),
    "scanner": (np.where(TRAIN | (RNG.random(N) < 0.5), "A", "B"), "scanner differs between the parts"),
    "hospital": (np.where(TRAIN, RNG.integers(0, 3, N).astype(str), "H"), "hospital H makes up test"),
    "StudyDate": (np.where(TRAIN, "20200101", "20150101"), "100% of the held-out images are older"),
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_what_tells_is_found_and_named(name):
    values, told = COLUMNS[name]
    check = asked(**{name: values, "noise": RNG.integers(0, 4, N)})
    assert (
        check.status == "WARN"
        and told in check.summary
        and "noise" not in check.summary.split("Not answered")[0]
    )


def test_what_tells_nothing_passes_and_what_was_not_asked_does_not():
    assert asked(noise=RNG.integers(0, 4, N)).status == "PASS"
    assert metadata(table(), None).status == "NOT RUN"
    names = [f"file{k}" for k in range(N)]
    assert asked(name=names).status == "NOT RUN"
    few = metadata(table(noise=RNG.integers(0, 4, N)), np.arange(N) // 40)
    assert few.status == "INCONCLUSIVE" and "fewer than 20 groups" in few.summary


def test_columns_of_a_table_reach_the_check(write_folder, encode):
    root = write_folder(
        {f"{part}/{k}.png": encode(seed=k) for k, part in enumerate(["train", "train", "test"])}
    )
    (root / "t.csv").write_text(
        "file,label,patient,site,note\ntrain/0.png,a,1,S1,\ntrain/1.png,b,2,S2,\ntest/2.png,a,3,S1,\n"
    )
    found = open_target(str(root), wishes=Wishes(csv=(root / "t.csv",))).table
    assert [column for column in found.columns if column.startswith(META)] == [f"{META}site"]
    assert found[f"{META}site"].tolist() == ["S1", "S1", "S2"]


def test_a_source_of_few_patients_is_named_and_not_called_sure(monkeypatch):
    """Over chance by its whole interval, and not over what shuffled labels reach: pocus_lung's source."""
    thin = {"auc": 0.85, "low": 0.62, "high": 0.92, "permutation": {"mean": 0.5, "high": 0.85}}
    none = thin | {"auc": 0.6, "low": 0.5}
    results = iter([none, thin])
    monkeypatch.setattr(module, "_asked", lambda *arguments: next(results))
    check = metadata(table(other=RNG.integers(0, 3, N), source=RNG.integers(0, 3, N)).assign(part=""), None)
    assert check.status == "INCONCLUSIVE" and check.count == 0
    assert "source may tell the label (AUC 0.85, 0.62 to 0.92; shuffled up to 0.85)" in check.summary
    assert "other may" not in check.summary and "other and the label: too few groups" in check.summary
