"""Classical models of a run: searched over grouped folds, fitted once, and kept apart by their settings."""

import numpy as np
import pytest

from deferred import deferred
from leakfree.data.cohort import ingest
from leakfree.split.protocols import CLEAN

with deferred:
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree_study.run.cells import Cell
    from leakfree_study.run.classical import fit_once, fit_searched, searches_of, three_parts
    from leakfree_study.run.run import open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classical")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAKFREE_CACHE", str(folder / "cache"))
        ingest(PhantomSource(PhantomSettings(n_images=160, size=24, exact_duplicates=6)), folder / "store")
        yield open_run(
            "04_leakfree_classical", data=str(folder / "store"), run_dir=str(folder / "run"), jobs=1, seed=3
        )


def cell(run, model):
    manifest = three_parts(run, "binary", "series")
    return Cell(run.words.tasks["binary"], model, CLEAN, manifest, 3, 8, "series")


def test_three_parts_share_no_linked_group(run):
    manifest = three_parts(run, "binary", "series")
    table = run.development(run.words.tasks["binary"])
    groups = dict(zip(table["image_id"], run.groups(table, "series"), strict=True))
    held = [{groups[image_id] for image_id in ids} for ids in manifest.parts.values()]
    assert sum(map(len, held)) == len(set.union(*held)) == len(set(groups.values()))
    assert (manifest.name, manifest.seed) == ("04-patient-level-binary", 3)
    thinned = three_parts(run, "binary", "series", max_images=100)
    assert sum(map(len, thinned.parts.values())) <= 100


def test_a_search_leaves_its_table_and_what_it_chose(run):
    searched = fit_searched(run, cell(run, "logistic_regression"), 1, n_iter=2, folds=2)
    assert len(searched.history) == 2
    assert set(searched.facts["settings"]) == {"C", "solver"}
    best = searched.history.iloc[0]
    assert searched.facts["settings"]["C"] == pytest.approx(best["C"])
    once = fit_once(run, cell(run, "random_forest"), {"n_estimators": 5})
    assert once.history.empty and once.facts["settings"] == {"n_estimators": 5}
    table = searches_of([once, searched])
    assert table.columns[0] == "task" and table["task"].tolist() == ["binary"] * 2
    assert np.isfinite(searched.read("test").probabilities).all()
