"""The deep study's split keeps linked groups together, and its jobs follow their recipes."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from deferred import deferred
from leakfree.base.files import write_json
from leakfree.data.cohort import ingest
from leakfree.data.tasks import TASKS
from leakfree.predict.calibrated import FIVE_PARTS, LIMIT_PARTS
from leakfree.split.protocols import CLEAN
from leakfree_study.models.recipes import RECIPES, Recipe

with deferred:
    from leakfree.audit.gate import gate
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree.predict.description import check_beside, read_description
    from leakfree.predict.novelty import Novelty, NoveltyError
    from leakfree.split.manifest import Manifest
    from leakfree_study.networks.deep import (
        TrainingSettings,
        fit_novelty,
        five_parts,
        network_job,
        publish_model,
    )
    from leakfree_study.run.cells import Cell, network_cells
    from leakfree_study.run.run import open_run, read_outputs


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Return a function that opens a run on a small phantom with copies under other patients' names."""
    folder = tmp_path_factory.mktemp("deep")
    settings = PhantomSettings(n_images=240, size=32, exact_duplicates=12, near_duplicates=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAKFREE_CACHE", str(folder / "cache"))
        ingest(PhantomSource(settings), folder / "store")

        def make(seed=42):
            return open_run(
                "05_leakfree_deep", data=str(folder / "store"), run_dir=str(folder / "run"), jobs=1, seed=seed
            )

        yield make


@pytest.fixture(scope="module")
def run(opened):
    return opened()


@pytest.mark.parametrize("scope", ["series", "person"])
@pytest.mark.parametrize("task", sorted(TASKS))
def test_five_parts_share_no_linked_group(run, task, scope):
    manifest = five_parts(run, task, scope)
    table = run.development(TASKS[task])
    groups = dict(zip(table["image_id"], run.groups(table, scope), strict=True))
    assert len(set(groups.values())) < len(groups)
    assert list(manifest.parts) == list(FIVE_PARTS)
    assert sorted(image_id for ids in manifest.parts.values() for image_id in ids) == sorted(groups)
    held = {part: {groups[image_id] for image_id in ids} for part, ids in manifest.parts.items()}
    assert all(held.values())
    for first, second in combinations(held, 2):
        assert not held[first] & held[second], (first, second)
    for part, share in FIVE_PARTS.items():
        assert len(manifest.parts[part]) / len(groups) == pytest.approx(share, abs=0.05)
    gate(run.cohort.development(), run.copies(), manifest, CLEAN, scope)  # raises where copies are apart


def test_five_parts_say_what_they_are(run):
    manifest = five_parts(run, "etiology", "person")
    assert manifest.name == "05-patient-level-etiology"
    assert (manifest.seed, manifest.scope, manifest.linked) == (run.seed, "person", ("copies",))
    assert manifest.data_checksum == run.cohort.checksum


def test_five_parts_follow_the_seed_of_the_run(run, opened):
    assert five_parts(run, "binary") == five_parts(opened(), "binary")
    other = five_parts(opened(seed=7), "binary")
    assert set(other.parts["train"]) != set(five_parts(run, "binary").parts["train"])


def test_five_parts_are_thinned_by_whole_groups(run):
    table = run.development(TASKS["binary"])
    groups = dict(zip(table["image_id"], run.groups(table), strict=True))
    taken = {image_id for ids in five_parts(run, "binary", max_images=150).parts.values() for image_id in ids}
    assert 130 < len(taken) <= 150
    assert {groups[i] for i in taken} & {groups[i] for i in set(groups) - taken} == set()


@pytest.fixture
def manifest():
    parts = {part: (f"{part}-image",) for part in FIVE_PARTS}
    return Manifest("05-patient-level-binary", "patient-level", parts, seed=42, scope="series")


def job(manifest, recipe="resnet18", task="binary", scope="series", **settings):
    settings = {"image_size": 96, "epochs": 20, **settings}
    return network_job(task, recipe, manifest, 3, TrainingSettings(**settings), scope)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_cell_is_labelled_as_its_recipe(manifest, recipe):
    made = job(manifest, recipe).cell
    assert made.label == recipe
    assert made.name("05") == f"05_binary_{recipe}_96px_clean_s3"


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_job_follows_its_recipe(manifest, recipe):
    made = job(manifest, recipe, batch_size=16, scope="person")
    assert made.cell.manifest is manifest
    assert made.cell.task is TASKS["binary"]
    assert (made.cell.model, made.cell.protocol, made.cell.scope) == (
        RECIPES[recipe].model,
        CLEAN,
        "person",
    )
    assert (made.cell.seed, made.cell.image_size) == (3, 96)
    assert made.budget.batch_size == 16
    assert made.budget.learning_rate == (5e-4 if recipe == "simple-cnn-32" else 1e-3)
    epochs = {"resnet18-long": 100, "efficientnet-lite0-imagenet": 12, "efficientnet-lite0-scratch": 12}
    assert made.budget.epochs == epochs.get(recipe, 20)
    assert made.pretraining == (12 if recipe == "resnet18-self-supervised" else 0)
    assert made.budget.device == "cpu"


def test_both_kinds_of_epochs_are_a_share_of_those_of_the_run(manifest, monkeypatch):
    monkeypatch.setitem(RECIPES, "both", Recipe("resnet18", "both", share=3.0, pretraining=0.5))
    made = job(manifest, "both", epochs=8)
    assert (made.budget.epochs, made.pretraining) == (24, 4)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_only_the_long_training_and_those_that_keep_their_last_epoch_never_stop_early(manifest, recipe):
    never = recipe == "resnet18-long" or RECIPES[recipe].keep == "last"
    assert job(manifest, recipe, patience=4).budget.patience == (0 if never else 4)
    assert job(manifest, recipe).budget.patience == 0


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_weights_are_chosen_for_one_recipe_alone(manifest, recipe):
    expected = {
        "resnet18-imagenet": "file.pth",
        "efficientnet-lite0-imagenet": "imagenet",
        "efficientnet-lite0-reframed": "imagenet",
    }.get(recipe, "none")
    assert job(manifest, recipe, weights="file.pth").weights == expected
    if recipe == "resnet18-imagenet":
        assert job(manifest, recipe).weights == "imagenet"


def test_an_unknown_task_or_recipe_is_refused_with_those_known(manifest):
    with pytest.raises(ValueError, match="unknown task 'bin'") as caught:
        job(manifest, task="bin")
    assert all(name in str(caught.value) for name in TASKS)
    with pytest.raises(ValueError, match="unknown network 'resnet50'") as caught:
        job(manifest, "resnet50")
    assert all(name in str(caught.value) for name in RECIPES)


def test_a_novelty_score_learns_from_training_images_alone_and_is_published(run, monkeypatch):
    manifest = five_parts(run, "binary")
    job = network_job("binary", "simple-cnn-32", manifest, 7, TrainingSettings(16, epochs=1))
    cache = run.pixels(16)
    held_out = [i for part in LIMIT_PARTS for i in manifest.parts[part]]
    expected = Novelty.fit(
        cache.pixels[cache.rows(manifest.parts["train"])], cache.pixels[cache.rows(held_out)], manifest.hash
    )
    found = fit_novelty(run, job.cell)
    assert np.array_equal(found.components, expected.components) and found.limit == expected.limit
    (result,) = network_cells(run, [job])
    publish_model(run, result)
    kept = Novelty.load(run.folder / "models" / "novelty.safetensors", manifest.hash)
    assert np.array_equal(kept.components, expected.components)
    assert "models/novelty.safetensors" in read_outputs(run.folder, run.notebook)
    description = run.folder / "models" / "preprocessing.json"
    listed = read_description(description).files
    assert set(listed) == {"calibration.json", "novelty.safetensors", "training_set.safetensors"}
    check_beside(description, listed)
    # Made again from its record, a description has hashes where it had them: a record stays as it is.
    whole = description.read_bytes()
    monkeypatch.setattr(type(run), "recorded", True)
    publish_model(run, result)
    assert description.read_bytes() == whole
    content = json.loads(whole)
    del content["files_sha256"], content["description_sha256"]
    before = write_json(description, content).read_bytes()
    publish_model(run, result)
    assert description.read_bytes() == before
    monkeypatch.undo()
    small = Cell(
        job.cell.task,
        "simple-cnn-32",
        CLEAN,
        replace(manifest, parts={"train": (), "val": (), "calibration": ()}),
        7,
        16,
    )
    with pytest.raises(NoveltyError, match="cannot say what an image is"):
        fit_novelty(run, small)
