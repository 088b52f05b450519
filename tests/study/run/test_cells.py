"""Cells: what they write recomputes the tables, a ledger that disagrees leaves nothing, resume is honest."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.base.files import file_hash
from leakfree.base.precision import SETTING, resolve
from leakfree.data.patients import patient_ids
from leakfree.data.tasks import TASKS
from leakfree.split.protocols import CLEAN, IMAGE_LEVEL

with deferred:
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

    from leakfree.audit.gate import GateError
    from leakfree.data.cohort import ingest
    from leakfree.data.record import COPIES, save_cohort
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree.ledger.ledger import Ledger, LedgerError, consumed_hash
    from leakfree.models import training
    from leakfree.models.checkpoint import Checkpoint
    from leakfree.models.networks import build
    from leakfree.models.training import Budget, Normalisation, batches, predict
    from leakfree.split import manifest as splits
    from leakfree.split.manifest import Manifest
    from leakfree_study.models import classical
    from leakfree_study.run import cells
    from leakfree_study.run.cells import (
        Cell,
        NetworkJob,
        classical_cell,
        network_cell,
        network_cells,
        score_table,
    )
    from leakfree_study.run.run import open_run, read_outputs

    BUDGET = Budget(epochs=2, batch_size=16, learning_rate=2e-3)

SIZE = 16
NAME = "05_binary_simple-cnn-16_16px_clean_s42"
KEPT = f".cache/weights/{NAME}.safetensors"
DRAWN = {}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a small phantom cohort; it is drawn, and its pixels are decoded, once for this file."""
    folder = tmp_path_factory.mktemp("cells")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAKFREE_CACHE", str(folder / "cache"))
        ingest(PhantomSource(PhantomSettings(n_images=200, size=32)), folder / "store")
        yield folder / "store"
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def make_run(store):
    def make(folder, **settings):
        settings = {"jobs": 1, "seed": 42, **settings}
        return open_run("05_leakfree_deep", data=str(store), run_dir=str(folder), **settings)

    return make


def manifest_of(run, task, kind="patient-level"):
    table = run.development(TASKS[task])
    described = {"name": f"05-{kind}-{task}", "data_checksum": run.cohort.checksum}
    if kind == "image-level":
        return splits.image_level(table["image_id"], seed=1, **described)
    labels, groups = table["label"].to_numpy(dtype=object), run.groups(table)
    # Of the same images and groups it is the same, and nearly every test needs it.
    asked = (task, run.cohort.checksum, groups.tobytes())
    if asked not in DRAWN:
        DRAWN[asked] = splits.patient_level(
            table["image_id"], groups, labels, seed=1, scope="series", **described
        )
    return DRAWN[asked]


def make_job(run, task="binary", **settings):
    cell = Cell(TASKS[task], "simple-cnn-16", CLEAN, manifest_of(run, task), 42, SIZE)
    return NetworkJob(cell, BUDGET, **settings)


def fit_forest(x, y, groups):
    """Fit a small forest, as the notebook does."""
    estimator = classical.estimator("random_forest", len(set(y.tolist())), 42, 1, n_estimators=8).fit(x, y)
    return estimator, pd.DataFrame({"tried": [1, 2]}), {"settings": {"n_estimators": 8}, "converged": True}


def make_classical(run, task="etiology"):
    return Cell(TASKS[task], "random_forest", CLEAN, manifest_of(run, task), 42, SIZE)


@pytest.fixture(scope="module")
def finished(make_run, tmp_path_factory):
    """Return a run with a network and a classical model, and both results."""
    run = make_run(tmp_path_factory.mktemp("finished"))
    network = network_cells(run, [make_job(run)])[0]
    forest = classical_cell(run, make_classical(run), fit_forest, {"fixed": {"n_estimators": 8}})
    return run, network, forest


@pytest.fixture
def copied(finished, make_run, tmp_path):
    """Return a function that opens a copy of the finished run folder as a run of its own."""
    shutil.copytree(finished[0].folder, tmp_path / "run")
    return lambda **settings: make_run(tmp_path / "run", **settings)


def test_a_cell_writes_what_it_says(finished):
    run, network, forest = finished
    for result, name in ((network, NAME), (forest, "05_etiology_random_forest_16px_clean_s42")):
        assert {path.relative_to(run.folder).as_posix() for path in result.files} == {
            f"cells/{name}.json",
            f"predictions/{name}.csv",
            f"ledgers/{name}.json",
            f"manifests/{result.cell.manifest.name}.json",
        }
        assert all(path.is_file() for path in result.files)
        assert result.predictions == run.folder / "predictions" / f"{name}.csv"
    on_disk = {p for p in run.folder.rglob("*") if p.is_file() and p.parent.name != "outputs"}
    # Weights are kept beside the record, not on it.
    assert on_disk == {*network.files, *forest.files, run.folder / KEPT, run.folder / COPIES}
    noted = {run.folder / path for path in read_outputs(run.folder, "05_leakfree_deep")}
    assert noted == {*network.files, *forest.files}
    assert (network.weights, forest.weights) == (run.folder / KEPT, None)
    assert network.facts["weights_sha256"] == file_hash(run.folder / KEPT)
    assert "weights_sha256" not in forest.facts


@pytest.mark.parametrize("lost", ["bacterial", "viral"])
def test_a_training_part_without_a_class_stops_before_anything_is_fitted(make_run, tmp_path, lost):
    run = make_run(tmp_path)
    cell = make_classical(run)
    table = run.development()
    ids = set(table["image_id"][table["label"] == lost])
    train = tuple(i for i in cell.manifest.parts["train"] if i not in ids)
    cell = replace(cell, manifest=replace(cell.manifest, parts={**cell.manifest.parts, "train": train}))
    line = f"^05-patient-level-etiology: part train has no {lost} image, so .*max_images"
    with pytest.raises(training.TrainingError, match=line):
        classical_cell(run, cell, never, {})
    with pytest.raises(training.TrainingError, match=line):
        network_cell(run, replace(make_job(run), cell=replace(cell, model="simple-cnn-16")))
    assert not list(tmp_path.glob("predictions/*"))


def test_manifest_and_ledger_agree(finished):
    run, *results = finished
    for result in results:
        manifest = Manifest.load(run.folder / "manifests" / f"{result.cell.manifest.name}.json")
        assert manifest == result.cell.manifest
        ledger = json.loads(
            (run.folder / "ledgers" / result.predictions.name).with_suffix(".json").read_text()
        )
        assert ledger["manifest_hash"] == manifest.hash
        assert ledger["agrees"] is True
        assert ledger["found_leaks"] == {"images": 0, "linked groups": 0}
        times = {"train": 1, "val": 1, "test": 1}
        if result.cell.model == "simple-cnn-16":
            # Validation is read once an epoch, and once more with the weights that were kept.
            times = {"train": BUDGET.epochs, "val": BUDGET.epochs + 1, "test": 1}
        for part, count in times.items():
            expected = dict.fromkeys(sorted(manifest.parts[part]), count)
            assert ledger["stages"][part]["ids_by_times"] == {str(count): list(expected)}
            assert ledger["stages"][part]["sha256"] == consumed_hash(expected)
            assert ledger["stages"][part]["rows_hashed"] > 0
        assert result.facts["n_train"] == len(manifest.parts["train"])
        assert result.facts["shared_groups"] == result.facts["shared_images"] == 0


def test_predictions_hold_each_image_of_validation_and_test_once(finished):
    run, *results = finished
    table = run.cohort.table.set_index("image_id")
    patients = dict(zip(table.index, patient_ids(table.reset_index()), strict=True))
    for result in results:
        frame = pd.read_csv(result.predictions)
        task, parts = result.cell.task, result.cell.manifest.parts
        assert list(frame) == [
            "image_id", "patient", "part", "label", *(f"p_{name}" for name in task.classes), "seed",
        ]  # fmt: skip
        for part in ("val", "test"):
            assert frame.loc[frame["part"] == part, "image_id"].tolist() == list(parts[part])
        assert set(frame["part"]) == {"val", "test"}
        assert frame["patient"].tolist() == [patients[i] for i in frame["image_id"]]
        truth = [task.classes[task.mapping[table.loc[i, "label"]]] for i in frame["image_id"]]
        assert frame["label"].tolist() == truth
        assert set(table.loc[frame["image_id"], "part"]) == {"train"}  # never of the sealed part
        assert (frame["seed"] == 42).all()


def test_every_part_but_training_is_scored_and_in_the_ledger(make_run, tmp_path):
    run = make_run(tmp_path)
    table = run.development(TASKS["binary"])
    fractions = {"train": 0.5, "val": 0.15, "calibration": 0.1, "conformal": 0.1, "test": 0.15}
    manifest = splits.patient_level(
        table["image_id"],
        run.groups(table),
        table["label"].to_numpy(dtype=object),
        seed=1,
        scope="series",
        fractions=fractions,
        name="05-five-parts",
    )
    job = make_job(run)
    result = network_cell(run, replace(job, cell=replace(job.cell, manifest=manifest)))
    ledger = json.loads((run.folder / "ledgers" / f"{NAME}.json").read_text())
    assert set(ledger["stages"]) == set(fractions)
    for part in ("val", "calibration", "conformal", "test"):
        assert result.read(part).image_ids.tolist() == list(manifest.parts[part])
    assert ledger["stages"]["calibration"]["rows"] == len(manifest.parts["calibration"])


def test_a_cell_that_is_cut_off_goes_on_and_leaves_no_checkpoint(finished, make_run, tmp_path, monkeypatch):
    """Killed after its first epoch, then resumed: the weights and predictions of one that was not."""
    save, path = Checkpoint.save, tmp_path / ".cache" / "checkpoints" / f"{NAME}.pt"

    def cut(self, state):
        save(self, state)
        raise KeyboardInterrupt

    run = make_run(tmp_path, resume=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoint, "save", cut)
        network_cell(run, make_job(run))
    assert path.is_file()
    epochs, epoch = [], training._epoch
    monkeypatch.setattr(training, "_epoch", lambda *a: epochs.append(1) or epoch(*a))
    result = network_cell(run, make_job(run))
    assert len(epochs) == BUDGET.epochs - 1
    assert not path.exists()
    whole = finished[1]
    assert result.predictions.read_bytes() == whole.predictions.read_bytes()
    assert result.weights.read_bytes() == whole.weights.read_bytes()
    # Without --resume nothing is gone on with.
    path.write_bytes(b"left over")
    network_cell(make_run(tmp_path), make_job(run))
    assert len(epochs) == 2 * BUDGET.epochs - 1
    assert not path.exists()


def test_predictions_recompute_the_table(finished):
    run, *results = finished
    table = score_table(run, results, n_resamples=50)
    assert len(table) == 6
    for result in results:
        rows = table[table["model"] == result.cell.model].set_index("metric")
        frame = pd.read_csv(run.folder / rows["predictions"].iloc[0])
        frame = frame[frame["part"] == "test"]
        negative, positive = result.cell.task.classes
        guess = np.where(frame[f"p_{positive}"] > frame[f"p_{negative}"], positive, negative)
        expected = {
            "accuracy": accuracy_score(frame["label"], guess),
            "macro_f1": f1_score(frame["label"], guess, average="macro"),
            "roc_auc": roc_auc_score(frame["label"] == positive, frame[f"p_{positive}"]),
        }
        for metric, value in expected.items():
            assert rows.loc[metric, "estimate"] == pytest.approx(value, abs=1e-9), metric
            assert rows.loc[metric, "low"] <= value <= rows.loc[metric, "high"]
        assert (rows["n_images"] == len(frame)).all()
        assert (rows["n_patients"] == frame["patient"].nunique()).all()
        assert (rows["n_train"] == len(result.cell.manifest.parts["train"])).all()
        assert (rows["protocol"] == "clean").all()
        assert (rows["part"] == "test").all()
    again = score_table(run, results, n_resamples=50)
    pd.testing.assert_frame_equal(table, again)
    validation = score_table(run, results[:1], part="val", n_resamples=50)
    assert (validation["n_images"] == len(results[0].cell.manifest.parts["val"])).all()


def test_kept_weights_are_what_was_scored(finished):
    run, result, _ = finished
    facts = result.facts
    with safe_open(result.weights, "pt") as stored:
        described_inside = json.dumps(stored.metadata())
    assert all(word in described_inside for word in ("simple-cnn-16", "binary", "scratch"))
    state = load_file(result.weights)
    assert {value.dtype for value in state.values()} == {torch.float16}
    network, _ = build("simple-cnn-16", 2, SIZE)
    network.load_state_dict(state)  # strict: every key is there
    network = network.float().to(memory_format=torch.channels_last)
    torch.set_num_threads(1)
    cache = run.pixels(SIZE)
    ids, p = predict(
        network,
        cache,
        cache.rows(result.cell.manifest.parts["test"]),
        Normalisation(facts["mean"], facts["std"]),
        ledger=Ledger(cache.digests),
        stage="test",
    )
    read = result.read("test")
    assert read.image_ids.tolist() == ids.tolist()
    np.testing.assert_allclose(read.probabilities, p, atol=1e-6)


def test_normalisation_is_fitted_on_the_training_part(finished):
    run, result, _ = finished
    cache = run.pixels(SIZE)
    train = cache.pixels[cache.rows(result.cell.manifest.parts["train"])] / 255
    assert result.facts["mean"] == pytest.approx(train.mean(), abs=1e-6)
    assert result.facts["std"] == pytest.approx(train.std(), abs=1e-6)


def never(*args, **kwargs):
    raise AssertionError("computed again")


@pytest.mark.parametrize("kept", ["there", "gone", "edited"])
def test_resume_takes_over_a_finished_cell(finished, copied, monkeypatch, kept):
    """Also one whose weights are no longer what they were: they are not part of the record."""
    _, network, forest = finished
    monkeypatch.setattr(cells, "fit", never)
    run = copied(resume=True)
    if kept == "gone":
        shutil.rmtree(run.folder / ".cache")
    elif kept == "edited":
        (run.folder / KEPT).write_bytes(b"other")
    taken = network_cells(run, [make_job(run)])[0]
    assert taken.facts == network.facts
    assert taken.weights == run.folder / KEPT
    assert taken.weights.is_file() == (kept != "gone")
    pd.testing.assert_frame_equal(taken.history, network.history)
    assert {p.name for p in taken.files} == {p.name for p in network.files}
    assert score_table(run, [taken], n_resamples=20).equals(
        score_table(finished[0], [network], n_resamples=20)
    )
    taken = classical_cell(run, make_classical(run), never, {"fixed": {"n_estimators": 8}})
    assert taken.facts == forest.facts
    assert taken.weights is None
    pd.testing.assert_frame_equal(taken.history, forest.history)
    # What was taken over is an output of this notebook all the same.
    assert f"predictions/{NAME}.csv" in read_outputs(run.folder, "05_leakfree_deep")


def other(precision):
    return "float32" if precision == "bfloat16" else "bfloat16"


@pytest.mark.parametrize("noted", [True, False])
def test_a_cell_of_another_precision_is_taken_over_and_named(copied, monkeypatch, capsys, noted):
    monkeypatch.setattr(cells, "fit", never)
    run = copied(resume=True)
    path = run.folder / "cells" / f"{NAME}.json"
    record = json.loads(path.read_text())
    here = record["facts"].pop("precision")
    assert here == resolve()
    if noted:
        record["facts"]["precision"] = other(here)
    path.write_text(json.dumps(record))
    there = other(here) if noted else "bfloat16"  # what all networks took before it was noted
    taken = network_cell(run, make_job(run))
    assert taken.facts["precision"] == there
    told = capsys.readouterr().err
    if there == here:
        assert told == ""
    else:
        assert f"{NAME}: taken over as it was trained, in {there}; this processor would take {here}" in told


@pytest.mark.parametrize("by", ["environment", "budget"])
def test_only_a_forced_precision_fits_a_finished_cell_again(finished, copied, monkeypatch, by):
    run, wanted = copied(resume=True), other(finished[1].facts["precision"])
    job = make_job(run)
    if by == "budget":
        job = replace(job, budget=replace(BUDGET, precision=wanted))
    else:
        monkeypatch.setenv(SETTING, wanted)
    fitted = network_cell(run, job)
    assert fitted.facts["precision"] == wanted
    assert fitted.facts["weights_sha256"] != finished[1].facts["weights_sha256"]
    # It is the cell of that precision now, and is taken over as such.
    monkeypatch.setattr(cells, "fit", never)
    assert network_cell(run, job).facts == fitted.facts


def test_a_training_that_was_cut_off_goes_on_in_its_own_precision_only(make_run, tmp_path, monkeypatch):
    run = make_run(tmp_path, resume=True)
    seen, inner = [], cells.fit
    monkeypatch.setattr(cells, "fit", lambda *a, **k: (seen.append(k["checkpoint"].key), inner(*a, **k))[1])
    for wanted in ("float32", "bfloat16"):
        monkeypatch.setenv(SETTING, wanted)
        network_cell(run, make_job(run))
    assert len(set(seen)) == 2


def test_without_resume_everything_is_computed(copied, monkeypatch):
    monkeypatch.setattr(cells, "fit", never)
    run = copied()
    with pytest.raises(AssertionError, match="computed again"):
        network_cell(run, make_job(run))


@pytest.mark.parametrize(
    "file",
    [
        f"predictions/{NAME}.csv",
        f"ledgers/{NAME}.json",
        "manifests/05-patient-level-binary.json",
        f"cells/{NAME}.json",
    ],
)
@pytest.mark.parametrize("change", ["edited", "gone"])
def test_a_changed_file_is_computed_again(copied, monkeypatch, file, change):
    run = copied(resume=True)
    path = run.folder / file
    path.unlink() if change == "gone" else path.write_bytes(path.read_bytes()[:-20] + b"x" * 19 + b"\n")
    with monkeypatch.context() as patch:
        patch.setattr(cells, "fit", never)
        with pytest.raises(AssertionError, match="computed again"):
            network_cell(run, make_job(run))


def test_what_is_computed_again_is_what_was_there(finished, copied):
    original = finished[0].folder
    run = copied(resume=True)
    (run.folder / KEPT).unlink()
    (run.folder / "predictions" / f"{NAME}.csv").write_bytes(b"damaged")
    result = network_cell(run, make_job(run))
    for file in (f"predictions/{NAME}.csv", f"ledgers/{NAME}.json", KEPT):
        assert (run.folder / file).read_bytes() == (original / file).read_bytes()
    assert result.facts["weights_sha256"] == finished[1].facts["weights_sha256"]


def test_equal_weights_are_equal_bytes(finished, tmp_path):
    network = build("simple-cnn-16", 2, SIZE)[0]
    path, kept = tmp_path / "kept.safetensors", set()
    for _ in range(20):
        kept.add(cells._keep_weights(path, finished[1].cell, network, "scratch"))
        kept.add(file_hash(path))
    assert len(kept) == 1


def other_manifest(job):
    manifest = job.cell.manifest
    parts = {**manifest.parts, "train": manifest.parts["train"][1:]}
    return replace(job, cell=replace(job.cell, manifest=replace(manifest, parts=parts)))


@pytest.mark.parametrize(
    "change",
    [
        lambda job: replace(job, budget=replace(BUDGET, epochs=3)),
        lambda job: replace(job, budget=replace(BUDGET, augment=False)),
        lambda job: replace(job, weights="auto"),
        lambda job: replace(job, pretraining=1),
        lambda job: replace(job, cell=replace(job.cell, scope="person")),
        other_manifest,
    ],
    ids=["epochs", "augment", "weights", "pretraining", "scope", "manifest"],
)
def test_other_settings_are_computed_again(copied, monkeypatch, change):
    monkeypatch.setattr(cells, "fit", never)
    monkeypatch.setattr(cells, "pretrain", never)
    # A split by `series` leaks under `person`, which the gate would stop before anything is computed.
    monkeypatch.setattr(cells, "gate", lambda *arguments: {})
    run = copied(resume=True)
    with pytest.raises(AssertionError, match="computed again"):
        network_cell(run, change(make_job(run)))


def test_other_classical_settings_are_computed_again(copied):
    run = copied(resume=True)
    with pytest.raises(AssertionError, match="computed again"):
        classical_cell(run, make_classical(run), never, {"fixed": {"n_estimators": 9}})


def test_other_code_is_computed_again(copied, monkeypatch):
    run = copied(resume=True)
    monkeypatch.setattr(cells, "fit", never)
    monkeypatch.setattr(cells, "package_digest", lambda modules: "another")
    with pytest.raises(AssertionError, match="computed again"):
        network_cell(run, make_job(run))


#: What a cell imports and cannot change its numbers: it reads, writes, reports or runs them.
NO_NUMBERS = {
    *(f"leakfree/base/{name}" for name in ("errors", "escape", "files", "parallel", "provenance")),
    "leakfree/data/cohort",
    "leakfree/models/checkpoint",
    "leakfree/scores/metrics",
    "leakfree/split/manifest",
    "leakfree_study/run/made_with",
    "leakfree_study/run/run",
}


@pytest.mark.parametrize("kind", ["network", "classical"])
def test_every_module_behind_a_number_makes_cells_stale(kind):
    import rooms

    listed = set(cells.MODULES[kind])
    edges = {(here.replace(".", "/"), there.replace(".", "/")) for here, there in rooms.imports()}
    behind = {used for module, used in edges if module in listed}
    # The gate lets a cell run or not; how the audit's checks are worded is no number.
    behind -= {module for module in behind if module.startswith("leakfree/audit/")} - {"leakfree/audit/gate"}
    # Of the two kinds of model, each cell has one; embeddings are material of the grid.
    other = {"network": "leakfree_study/models/classical", "classical": "leakfree/models/networks"}[kind]
    behind -= {other}
    if kind == "classical":
        behind -= {"leakfree_study/models/pretraining", "leakfree/models/training", "leakfree/base/precision"}
    assert behind <= listed | NO_NUMBERS, behind - listed - NO_NUMBERS
    assert {"leakfree/models/training", "leakfree/models/networks"} <= listed or kind == "classical"


def test_a_change_elsewhere_leaves_cells_alone_and_one_behind_a_number_does_not(copied, monkeypatch):
    """The package's other modules, such as figures, do not make a trained network stale."""
    run = copied(resume=True)
    job = make_job(run)
    asked = []
    kept = cells.package_digest
    monkeypatch.setattr(cells, "package_digest", lambda modules: asked.extend(modules) or kept(modules))
    monkeypatch.setattr(cells, "fit", never)
    network_cell(run, job)
    used = {"leakfree/models/training", "leakfree/models/networks", "leakfree/data/pixels"}
    assert used <= set(asked)
    assert not [name for name in asked if "figures" in name or "book" in name or "cli" in name]


def test_other_copies_are_computed_again(copied, monkeypatch):
    run = copied(resume=True)
    monkeypatch.setattr(cells, "fit", never)
    known, job = run.copies(), make_job(run)  # of the split as it was: the copies alone have changed
    monkeypatch.setattr(run, "copies", lambda: replace(known, groups=known.groups[1:]))
    with pytest.raises(AssertionError, match="computed again"):
        network_cell(run, job)


def test_resume_recomputes_when_a_package_changed(copied, monkeypatch):
    run = copied(resume=True)
    monkeypatch.setattr(cells, "fit", never)
    monkeypatch.setattr(cells, "versions", lambda: {"torch": "another"})
    with pytest.raises(AssertionError, match="computed again"):
        network_cell(run, make_job(run))


def test_a_local_file_of_weights_counts_by_its_content(make_run, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(cells, "_cached", lambda run, cell, settings, *rest: seen.append(settings["weights"]))
    run = make_run(tmp_path / "run")
    path = tmp_path / "weights.pth"
    for content in (b"one", b"two"):
        path.write_bytes(content)
        network_cell(run, make_job(run, weights=str(path)))
    assert len(set(seen)) == 2


def nothing_left(folder):
    return not [p for name in ("predictions", "ledgers", "cells") for p in (folder / name).glob("*")]


def test_a_split_that_leaks_is_not_trained_on(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "fit", never)
    run = make_run(tmp_path)
    cell = replace(make_job(run).cell, manifest=manifest_of(run, "binary", "image-level"))
    with pytest.raises(
        GateError, match=r"patients stand in several parts.* Protocol clean does not allow it"
    ):
        network_cells(run, [NetworkJob(cell, BUDGET)])
    assert nothing_left(tmp_path)
    by_person = replace(make_job(run).cell, scope="person")
    with pytest.raises(GateError, match="under person"):
        network_cell(run, NetworkJob(by_person, BUDGET))


def test_an_undeclared_leak_leaves_nothing(make_run, tmp_path, monkeypatch):
    # The ledger is the second door: it stops the leak also where the gate did not look.
    monkeypatch.setattr(cells, "gate", lambda *arguments: {})
    run = make_run(tmp_path)
    cell = replace(make_job(run).cell, manifest=manifest_of(run, "binary", "image-level"))
    with pytest.raises(LedgerError, match=r"undeclared leak, \d+ linked groups on both sides"):
        network_cells(run, [NetworkJob(cell, BUDGET)])
    assert nothing_left(tmp_path)
    assert read_outputs(tmp_path, "05_leakfree_deep") == []


def test_a_declared_leak_is_found_and_counted(make_run, tmp_path):
    run = make_run(tmp_path)
    manifest = manifest_of(run, "etiology", "image-level")
    cell = replace(make_classical(run), manifest=manifest, protocol=IMAGE_LEVEL)
    result = classical_cell(run, cell, fit_forest, {})
    table = run.development()
    groups = dict(zip(table["image_id"], run.groups(table), strict=True))
    train, test = ({groups[i] for i in manifest.parts[part]} for part in ("train", "test"))
    assert result.facts["shared_groups"] == len(train & test) > 0
    assert (score_table(run, [result], n_resamples=20)["shared_groups"] == len(train & test)).all()


def test_a_declared_leak_that_is_not_there_leaves_nothing(make_run, tmp_path):
    run = make_run(tmp_path)
    cell = replace(make_classical(run), protocol=IMAGE_LEVEL)
    with pytest.raises(LedgerError, match="none was found"):
        classical_cell(run, cell, fit_forest, {})
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("missed", ["train", "val", "test"])
def test_a_stage_that_misses_an_image_leaves_nothing(make_run, tmp_path, monkeypatch, missed):
    run = make_run(tmp_path)
    inner = cells._Inputs.of.__func__

    def short(cls, *arguments):
        inputs = inner(cls, *arguments)
        inputs.rows[missed] = inputs.rows[missed][:-1]
        return inputs

    monkeypatch.setattr(cells._Inputs, "of", classmethod(short))
    with pytest.raises(LedgerError, match=f"stage {missed} consumed .* 1 missed"):
        classical_cell(run, make_classical(run), fit_forest, {})
    assert nothing_left(tmp_path)


def test_scoring_the_test_part_twice_leaves_nothing(make_run, tmp_path, monkeypatch):
    run = make_run(tmp_path)
    inner = cells.predict

    def twice(*args, stage, **kwargs):
        if stage == "test":
            inner(*args, stage=stage, **kwargs)
        return inner(*args, stage=stage, **kwargs)

    monkeypatch.setattr(cells, "predict", twice)
    with pytest.raises(LedgerError, match="scored more than once"):
        network_cell(run, make_job(run))
    assert nothing_left(tmp_path)


def test_a_disagreeing_ledger_leaves_no_weights(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "gate", lambda *arguments: {})
    run = make_run(tmp_path)
    cell = replace(make_job(run).cell, manifest=manifest_of(run, "binary", "image-level"))
    with pytest.raises(LedgerError):
        network_cell(run, NetworkJob(cell, BUDGET))
    assert not list(tmp_path.rglob("*.safetensors"))


def brief_pretrain(network, images, epochs, *, seed, ledger, description, precision):
    """Stand in for the pretraining: the same rows enter the ledger, and the weights are others."""
    for _ in range(epochs):
        for _ in batches(images.cache, images.train, 64, ledger, "train"):
            pass
    with torch.no_grad():
        network.features[0].weight.mul_(1.5)


def test_a_pretrained_cell_consumes_the_training_part_for_both(make_run, tmp_path):
    run = make_run(tmp_path)
    job = make_job(run)
    cell = replace(job.cell, model="resnet18", image_size=32, variant="pretrained")
    result = network_cell(run, NetworkJob(cell, replace(BUDGET, epochs=1, batch_size=64), pretraining=1))
    ledger = json.loads((run.folder / "ledgers" / f"{cell.name(run.number)}.json").read_text())
    train = sorted(cell.manifest.parts["train"])
    assert ledger["stages"]["train"]["ids_by_times"] == {"2": train}
    assert ledger["stages"]["test"]["ids_by_times"] == {"1": sorted(cell.manifest.parts["test"])}
    assert result.facts["n_train"] == len(train)
    assert result.facts["weights"] == "self-supervised"
    assert file_hash(result.weights) == result.facts["weights_sha256"]


def test_a_pretrained_cell_that_is_cut_off_is_not_pretrained_again(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "pretrain", brief_pretrain)
    whole_run, run = make_run(tmp_path / "whole"), make_run(tmp_path / "cut", resume=True)
    whole = network_cell(whole_run, make_job(whole_run, pretraining=2))
    save = Checkpoint.save

    def cut(self, state):
        save(self, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoint, "save", cut)
        network_cell(run, make_job(run, pretraining=2))
    monkeypatch.setattr(cells, "pretrain", never)
    result = network_cell(run, make_job(run, pretraining=2))
    assert result.facts["weights_sha256"] == whole.facts["weights_sha256"]
    ledger = f"ledgers/{NAME}.json"
    assert (run.folder / ledger).read_bytes() == (whole_run.folder / ledger).read_bytes()
    assert json.loads((run.folder / ledger).read_text())["stages"]["train"]["ids_by_times"].keys() == {"4"}


def test_pretrained_weights_are_the_start(finished, make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(cells, "pretrain", brief_pretrain)
    run = make_run(tmp_path)
    result = network_cell(run, make_job(run, pretraining=1))
    assert result.predictions.read_bytes() != finished[1].predictions.read_bytes()
    assert not np.allclose(result.read().probabilities, finished[1].read().probabilities, atol=1e-3)


@pytest.mark.slow
def test_side_by_side_is_the_same_as_one_after_the_other(make_run, tmp_path):
    from joblib.externals.loky import get_reusable_executor

    def everything(folder, jobs):
        run = make_run(folder, jobs=jobs)
        tasks = [make_job(run, "binary"), make_job(run, "etiology")]
        results = network_cells(run, tasks)
        assert [result.cell.task.name for result in results] == ["binary", "etiology"]
        files = {}
        for path in folder.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                if path.parent.name == "cells":
                    content = json.loads(content)
                    content["facts"].pop("training_seconds")
                    content["outputs"] = sorted(content["outputs"])
                files[path.relative_to(folder).as_posix()] = content
        return files, score_table(run, results, n_resamples=20)

    try:
        one, first = everything(tmp_path / "one", 1)
        two, second = everything(tmp_path / "two", 2)
    finally:
        get_reusable_executor().shutdown(wait=True)
    assert one.keys() == two.keys()
    assert len(one) == 12
    assert [name for name in one if one[name] != two[name]] == []
    pd.testing.assert_frame_equal(first, second)


# Cells of a finished run, taken from its record


def recorded_run(folder):
    return open_run("05_leakfree_deep", data=str(folder), run_dir=str(folder), jobs=1)


def recorded_jobs(run):
    """Name the cells of `finished` again, without its images."""
    job = make_job(run)
    cell = Cell(
        TASKS["etiology"], "random_forest", CLEAN, manifest_of(run, "etiology"), seed=42, image_size=16
    )
    return job, cell


def test_a_recorded_run_takes_its_cells_and_fits_nothing(finished, copied, monkeypatch):
    original, network, forest = finished
    folder = copied().folder
    save_cohort(folder, original.cohort)
    run = recorded_run(folder)
    assert run.recorded
    monkeypatch.setattr(cells, "fit", never)
    monkeypatch.setattr(cells, "versions", lambda: {"numpy": "another"})  # whatever made them
    job, cell = recorded_jobs(run)
    (taken,) = network_cells(run, [job])
    assert taken.facts == network.facts
    pd.testing.assert_frame_equal(taken.history, network.history)
    assert taken.read("test").probabilities.tolist() == network.read("test").probabilities.tolist()
    again = classical_cell(run, cell, never, {"trees": 10})
    assert again.facts == forest.facts


@pytest.mark.parametrize("change", ["missing", "predictions", "split"])
def test_a_recorded_cell_that_is_another_is_refused(finished, copied, change):
    folder = copied().folder
    save_cohort(folder, finished[0].cohort)
    run = recorded_run(folder)
    job, _ = recorded_jobs(run)
    record = folder / "cells" / f"{NAME}.json"
    if change == "missing":
        record.unlink()
    elif change == "predictions":
        path = folder / "predictions" / f"{NAME}.csv"
        path.write_text(path.read_text().replace("0.", "0.0", 1))
    else:
        parts = dict(job.cell.manifest.parts)
        parts["train"], parts["val"] = (*parts["train"], parts["val"][0]), parts["val"][1:]
        job = replace(job, cell=replace(job.cell, manifest=replace(job.cell.manifest, parts=parts)))
    with pytest.raises(cells.RecordError, match=NAME):
        network_cells(run, [job])
