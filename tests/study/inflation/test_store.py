"""Files of the inflation study: what is read back is what was written, and equal results give equal bytes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.data.patients import SCOPES
from leakfree.data.raw import LABELS
from leakfree.data.tasks import TASKS
from leakfree_study.inflation.draws import draw

with deferred:
    from leakfree_study.inflation import store
    from leakfree_study.inflation.jobs import Job, Outcome
    from leakfree_study.inflation.material import Material

    CLEAN = store.Arm("binary", "pixels", "1-nn", "clean")
    OTHER = store.Arm("three-class", "pixels", "1-nn", "clean", "merged")

SEEDS = (0, 1, 7)


def material():
    """Thirty patients of three images, thirty of one; ids that no text holds."""
    patients = np.array([*np.arange(30).repeat(3), *range(30, 60)])
    ids = np.array([f"image {i}, \udcff" for i in range(len(patients))], dtype=object)
    named = np.array([f"p{i}" for i in patients], dtype=object)
    groups = {"series": patients, "merged": np.where(patients < 30, patients, 100 + patients // 6)}
    return Material(ids, named, patients % 3, groups, {})


def three_arms():
    """Return a clean arm, a leaky one, and one of another task and scope."""
    return CLEAN, replace(CLEAN, name="siblings-50"), OTHER


def results(seeds=SEEDS, arms=None):
    """Invent outcomes: random probabilities, in an order of images that is not the cohort's."""
    arms = arms or three_arms()
    found = store.Results(material())
    rng = np.random.default_rng(5)
    for seed in seeds:
        for arm in arms:
            made = found.draw(arm.scope, seed)
            roles = ("test",) if arm.name.startswith("siblings") else ("test", "single")
            rows = rng.permutation(made.rows(*roles))
            task = TASKS[arm.task]
            p = rng.dirichlet(np.ones(len(task.classes)), len(rows)).astype(np.float32)
            truth = found.material.classes(task)[rows].astype(np.int8)
            ledger = {fact: f"{fact} {seed}" for fact in store.LEDGER}
            job = Job(arm.task, "clean", arm.features, arm.head, seed, scope=arm.scope)
            found.add(job, {arm.name: Outcome(rows, p, truth, ledger)})
    return found


def save(folder, found):
    return [
        store.save_images(folder, found.material),
        *store.save_draws(folder, found),
        *store.save_arms(folder, found),
    ]


# Paths


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("features", ["pixels", "embeddings"])
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("permuted", [False, True])
def test_an_arm_is_read_back_from_its_path(task, features, scope, permuted):
    for name in ("clean", "no-test-set", "siblings-100", "random-labels"):
        arm = store.Arm(task, features, "logistic-regression", name, scope, permuted)
        assert store.Arm.parse(arm.path) == arm


@pytest.mark.parametrize(
    "path",
    [
        "",
        "predictions/06/binary/pixels_1-nn.csv.gz",
        "predictions/06/binary/pixels_1-nn_clean.csv",
        "predictions/06/pixels_1-nn_clean.csv.gz",
        "predictions/05/binary/pixels_1-nn_clean.csv.gz",
        "predictions/06/binary/more/pixels_1-nn_clean.csv.gz",
        "predictions/06/../x/pixels_1-nn_clean.csv.gz",
        "predictions/06/binary/pixels_1-nn_clean_series.csv.gz",
        "predictions/06/binary/pixels_1-nn_clean_random-labels_merged.csv.gz",
        "predictions/06/binary/pixels_1-nn_clean_merged_more_random-labels.csv.gz",
        "predictions/06/binary/pixels_1-nn_clean.csv.gz\n",
        "ledgers/06_binary.csv.gz",
    ],
)
def test_another_path_is_of_no_arm(path):
    with pytest.raises(ValueError, match=r"path of predictions|should be"):
        store.Arm.parse(path)


# Files


def test_predictions_are_read_back_as_they_were_but_for_rounding(tmp_path):
    found = results()
    save(tmp_path, found)
    for arm, outcomes in found.arms.items():
        read = store.read_arm(tmp_path, arm, TASKS[arm.task])
        assert sorted(read) == sorted(outcomes)
        for seed, outcome in outcomes.items():
            order = np.argsort(outcome.rows)
            assert read[seed].rows.tolist() == outcome.rows[order].tolist()
            assert read[seed].truth.tolist() == outcome.truth[order].tolist()
            rounded = np.char.mod("%.5f", outcome.probabilities[order]).astype(np.float32)
            assert read[seed].probabilities.dtype == np.float32
            np.testing.assert_array_equal(read[seed].probabilities, rounded)
            assert abs(read[seed].probabilities - outcome.probabilities[order]).max() < 6e-6


def test_equal_results_give_equal_bytes_in_whatever_order_they_came(tmp_path):
    first = save(tmp_path / "a", results())
    found = results()
    backwards = store.Results(
        found.material, {arm: dict(reversed(found.arms[arm].items())) for arm in reversed(found.arms)}
    )
    second = save(tmp_path / "b", backwards)
    names = [p.relative_to(tmp_path / "a") for p in first]
    assert sorted(names) == sorted(p.relative_to(tmp_path / "b") for p in second)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
        if name.suffix == ".gz":
            assert (tmp_path / "a" / name).read_bytes()[4:8] == bytes(4)  # no time of writing


def test_what_is_read_back_is_written_as_the_same_bytes(tmp_path):
    found = results()
    paths = save(tmp_path / "a", found)
    save(tmp_path / "b", store.read_run(tmp_path / "a", found.material))
    assert sorted(store.files_of(tmp_path / "a")) == sorted(paths)
    for path in paths:
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path


def test_metrics_of_what_is_read_back_are_those_of_the_files(tmp_path):
    """Reading the files is a fixed point: a second time changes no number."""
    found = results()
    save(tmp_path, found)
    once = store.read_run(tmp_path, found.material)
    save(tmp_path, once)
    twice = store.read_run(tmp_path, found.material)
    counts = np.ones((1, 1000))
    for arm in found.arms:
        for metric in ("roc_auc", "macro_f1"):
            values = [
                [
                    float(s.values(metric, counts[:, : 1 + s.patients.max()])[0])
                    for s in r.scored(arm, "everyone")
                ]
                for r in (found, once, twice)
            ]
            assert len(values[0]) == len(SEEDS)
            assert values[1] == values[2]
            assert values[0] == pytest.approx(values[1], abs=0.02)
    assert {arm: list(of) for arm, of in once.arms.items()} == {
        arm: list(of) for arm, of in found.arms.items()
    }
    assert once.arms[CLEAN][7].ledger == found.arms[CLEAN][7].ledger


def test_images_draws_and_ledgers_are_in_the_files(tmp_path):
    found = results()
    save(tmp_path, found)
    images = pd.read_csv(tmp_path / "manifests/06_films.csv", encoding_errors="surrogateescape")
    assert images["image_id"].tolist() == found.material.ids.tolist()
    assert images["label"].tolist() == [LABELS[code] for code in found.material.labels]
    assert images["patient"].tolist() == found.material.patients.tolist()
    for scope, groups in found.material.groups.items():
        assert images[f"group_{scope}"].tolist() == groups.tolist()
        roles = pd.read_csv(tmp_path / f"manifests/06_draws_{scope}.csv.gz")
        assert list(roles) == ["film", *(f"draw_{seed}" for seed in SEEDS)]
        tested = draw(found.material.labels, groups, 7).rows("test")
        assert np.flatnonzero(roles["draw_7"] == "test").tolist() == tested.tolist()
    ledger = pd.read_csv(tmp_path / "ledgers/06_binary.csv.gz")
    assert list(ledger) == ["predictions", "draw", *store.LEDGER]
    expected = [(arm.path, seed) for arm in three_arms()[:2] for seed in SEEDS]
    assert list(zip(ledger["predictions"], ledger["draw"], strict=True)) == expected
    assert ledger["test_sha256"].tolist() == [f"test_sha256 {seed}" for _, seed in expected]


# Pairs


def test_populations_are_those_of_the_draw():
    found = results()
    groups = found.material.groups["series"]
    for seed, several, single, everyone in zip(
        SEEDS, *(found.scored(CLEAN, p) for p in ("several", "single", "everyone")), strict=True
    ):
        made = found.draw("series", seed)
        assert several.patients.tolist() == groups[np.sort(made.rows("test"))].tolist()
        assert single.patients.tolist() == groups[np.sort(made.rows("single"))].tolist()
        assert everyone.patients.tolist() == groups[made.rows("test", "single")].tolist()
        outcome = found.arms[CLEAN][seed]
        order = np.argsort(outcome.rows)
        np.testing.assert_array_equal(everyone.probabilities, outcome.probabilities[order])
        np.testing.assert_array_equal(everyone.truth, outcome.truth[order])
    assert len(found.scored(CLEAN, "training")[0].truth) == len(found.arms[CLEAN][0].rows)


def test_groups_are_those_of_the_scope():
    found = results()
    scored = found.scored(three_arms()[2], "everyone")[0]
    rows = found.draw("merged", 0).rows("test", "single")
    assert scored.patients.tolist() == found.material.groups["merged"][rows].tolist()


def test_arms_are_paired_on_the_draws_and_images_that_both_scored():
    found = results()
    leaky = three_arms()[1]
    del found.arms[leaky][1]
    lost = found.arms[leaky][7]
    found.arms[leaky][7] = Outcome(lost.rows[1:], lost.probabilities[1:], lost.truth[1:])
    here, there = found.scored(CLEAN, "everyone", leaky), found.scored(leaky, "everyone", CLEAN)
    assert len(here) == len(there) == 2
    for one, other in zip(here, there, strict=True):
        assert one.patients.tolist() == other.patients.tolist()
        assert one.truth.tolist() == other.truth.tolist()
    assert [len(s.truth) for s in there] == [len(found.arms[leaky][seed].rows) for seed in (0, 7)]
    assert len(found.scored(CLEAN, "everyone")) == 3
