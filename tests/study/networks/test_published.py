"""Published weights are checked before they are used, and do what they did when they were scored."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.base.files import file_hash
from leakfree.data.cohort import ingest
from leakfree.data.pixels import load_pixels
from leakfree.data.tasks import TASKS
from leakfree.scores.predictions import read_predictions
from leakfree.split.protocols import CLEAN

with deferred:
    import torch
    from safetensors.torch import load_file, save_file

    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree.models.networks import build
    from leakfree.models.training import Budget
    from leakfree.predict.description import PublishedError
    from leakfree.split import manifest as splits
    from leakfree_study.models import classical
    from leakfree_study.networks.published import load_published, load_trained, publish
    from leakfree_study.run.cells import Cell, NetworkJob, classical_cell, network_cell
    from leakfree_study.run.run import open_run, read_outputs

NOTEBOOK = "05_leakfree_deep"
SIZE = 16


@pytest.fixture
def models(tmp_path):
    torch.manual_seed(0)
    network, _ = build("simple-cnn-16", 2, 32)
    state = {key: value.half() for key, value in network.state_dict().items()}
    save_file(state, tmp_path / "small.safetensors")
    describe(tmp_path)
    return tmp_path


def describe(folder, **changes):
    described = {
        "model": "simple-cnn-16",
        "task": "binary",
        "classes": ["normal", "pneumonia"],
        "image_size": 32,
        "mean": 0.5,
        "std": 0.25,
        "weights": "small.safetensors",
        "weights_sha256": file_hash(folder / "small.safetensors"),
        "manifest_hash": "m",
    }
    (folder / "preprocessing.json").write_text(json.dumps(described | changes), encoding="utf-8")
    return folder / "preprocessing.json"


def test_what_was_published_is_what_is_loaded(models):
    found = load_published(models / "preprocessing.json")
    assert (found.task, found.model, found.image_size) == ("binary", "simple-cnn-16", 32)
    assert (found.normalisation.mean, found.normalisation.std) == (0.5, 0.25)
    stored = load_file(models / "small.safetensors")
    assert not found.network.training
    for name, value in found.network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, stored[name].float())


def test_changed_weights_are_refused(models):
    path = models / "small.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(PublishedError, match=r"small\.safetensors: SHA-256 is not the one in preprocessing"):
        load_published(models / "preprocessing.json")
    path.unlink()
    with pytest.raises(PublishedError, match=r"small\.safetensors: No such file"):
        load_published(models / "preprocessing.json")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "resnet18"}, "does not fit resnet18"),
        ({"classes": ["a", "b", "c"]}, "does not fit simple-cnn-16"),
        ({"image_size": 64}, "does not fit simple-cnn-16"),
        ({"model": "none"}, "small.safetensors: unknown network"),
        ({"mean": None}, "mean is None, not between 0 and 1"),
    ],
)
def test_weights_of_something_else_are_refused(models, changes, reason):
    with pytest.raises(PublishedError, match=reason):
        load_published(describe(models, **changes))


def test_what_is_no_description_or_no_weights_is_refused(models):
    path = describe(models)
    (models / "small.safetensors").write_bytes(b"pickle")
    with pytest.raises(PublishedError, match="not weights"):
        load_published(describe(models))
    for content in ("{", "[]", "{}"):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(PublishedError, match="not a description of weights"):
            load_published(path)
    with pytest.raises(PublishedError, match=r"none\.json: No such file"):
        load_published(models / "none.json")


def cell_of(run, model):
    table = run.development(TASKS["binary"])
    manifest = splits.patient_level(
        table["image_id"],
        run.groups(table),
        table["label"].to_numpy(dtype=object),
        seed=1,
        scope="series",
        name="05-patient-level-binary",
    )
    return Cell(TASKS["binary"], model, CLEAN, manifest, 42, SIZE)


def train(run):
    """Train a small network, or take it over."""
    budget = Budget(epochs=2, batch_size=16, learning_rate=2e-3)
    return network_cell(run, NetworkJob(cell_of(run, "simple-cnn-16"), budget))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a run with a trained network, and a function that opens folders as its run."""
    folder = tmp_path_factory.mktemp("published")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAKFREE_CACHE", str(folder / "cache"))
        ingest(PhantomSource(PhantomSettings(n_images=160, size=32)), folder / "store")

        def opened(path, **settings):
            return open_run(NOTEBOOK, data=str(folder / "store"), run_dir=str(path), jobs=1, **settings)

        train(opened(folder / "run"))
        yield folder / "run", opened
    torch.set_num_threads(threads)


@pytest.fixture
def resumed(finished, tmp_path):
    """Return a copy of the finished run, resumed, and its network."""
    original, opened = finished
    run = opened(shutil.copytree(original, tmp_path / "run"), resume=True)
    return run, train(run)


def refused(run, result, reason):
    """Assert that nothing is published, and the reason is one line."""
    before = {path: path.read_bytes() for path in (run.folder / "models").glob("*")}
    with pytest.raises(PublishedError, match=reason) as caught:
        publish(run, result, "small")
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in (run.folder / "models").glob("*")} == before


def test_publishing_writes_weights_and_a_description(resumed):
    run, result = resumed
    publish(run, result, "small")
    path = run.folder / "models" / "small.safetensors"
    described = json.loads((run.folder / "models" / "preprocessing.json").read_text())
    assert described["weights"] == path.name
    assert described["weights_sha256"] == file_hash(path) == result.facts["weights_sha256"]
    assert path.read_bytes() == result.weights.read_bytes()
    assert described["manifest_hash"] == result.cell.manifest.hash
    assert (described["model"], described["task"]) == ("simple-cnn-16", "binary")
    assert described["classes"] == ["normal", "pneumonia"]
    assert (described["image_size"], described["seed"]) == (SIZE, 42)
    assert described["epoch"] == result.facts["epoch"]
    assert (described["initial_weights"], described["dtype"]) == ("scratch", "float16")
    cache = run.pixels(SIZE)
    pixels = cache.pixels[cache.rows(result.cell.manifest.parts["train"])] / 255
    assert described["mean"] == pytest.approx(pixels.mean(), abs=1e-6)
    assert described["std"] == pytest.approx(pixels.std(), abs=1e-6)
    noted = read_outputs(run.folder, NOTEBOOK)
    assert {"models/small.safetensors", "models/preprocessing.json"} <= set(noted)
    assert not [name for name in noted if name.startswith(".cache")]


@pytest.mark.parametrize("part", ["val", "test"])
def test_what_is_published_predicts_what_was_scored(resumed, part):
    run, result = resumed
    returned = publish(run, result, "small")
    read_back = load_published(run.folder / "models" / "preprocessing.json")
    cache, kept = run.pixels(SIZE), result.read(part)
    torch.set_num_threads(1)
    for found in (returned, read_back, load_trained(result)):
        probabilities = found.predict(cache, kept.image_ids, part)
        assert found.classes == kept.classes
        np.testing.assert_allclose(probabilities, kept.probabilities, rtol=0, atol=1e-6)


def test_publishing_twice_gives_equal_bytes(resumed):
    run, result = resumed
    contents = []
    for name, description in (("small", "preprocessing.json"), ("small", "preprocessing.json"), ("two", "d")):
        publish(run, result, name, description)
        contents.append(
            [(run.folder / "models" / file).read_bytes() for file in (f"{name}.safetensors", description)]
        )
    assert contents[0] == contents[1]
    # Another name is another name of the same weights.
    assert contents[0][0] == contents[2][0]
    assert contents[0][1].replace(b"small", b"two") == contents[2][1]


def test_a_published_run_without_kept_weights_publishes_what_is_there(resumed, finished):
    run, result = resumed
    publish(run, result, "small")
    models = run.folder / "models"
    before = {path.name: path.read_bytes() for path in models.iterdir()}
    shutil.rmtree(run.folder / ".cache")
    (models / "preprocessing.json").unlink()
    run = finished[1](run.folder, resume=True)
    publish(run, train(run), "small")
    assert {path.name: path.read_bytes() for path in models.iterdir()} == before
    assert "models/small.safetensors" in read_outputs(run.folder, NOTEBOOK)


@pytest.mark.parametrize("there", ["gone", "other"])
def test_weights_that_are_nowhere_are_not_published(resumed, there):
    run, result = resumed
    shutil.rmtree(run.folder / ".cache")
    if there == "other":
        (run.folder / "models").mkdir()
        (run.folder / "models" / "small.safetensors").write_bytes(b"other")
    refused(run, result, r"clean_s42\.safetensors: No such file.*; kept weights .*: train again")
    with pytest.raises(PublishedError, match="train again"):
        load_trained(result)


def test_published_weights_that_were_changed_are_written_anew(resumed):
    run, result = resumed
    path = run.folder / "models" / "small.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"other")
    publish(run, result, "small")
    assert file_hash(path) == result.facts["weights_sha256"]


def test_kept_weights_that_were_changed_are_refused(resumed):
    run, result = resumed
    content = bytearray(result.weights.read_bytes())
    content[-1] ^= 1
    result.weights.write_bytes(content)
    refused(run, result, r"clean_s42\.safetensors: SHA-256 is not the one in the record of its cell")
    with pytest.raises(PublishedError, match="the file was changed"):
        load_trained(result)


def test_kept_weights_of_something_else_are_refused(resumed):
    run, result = resumed
    other = replace(result, cell=replace(result.cell, model="simple-cnn-32"))
    refused(run, other, "does not fit simple-cnn-32")


def test_a_classical_model_is_not_published(resumed):
    run, network = resumed

    def fit_forest(x, y, groups):
        estimator = classical.estimator("random_forest", 2, 42, 1, n_estimators=4).fit(x, y)
        return estimator, pd.DataFrame({"tried": [1]}), {"settings": {}, "converged": True}

    forest = classical_cell(run, cell_of(run, "random_forest"), fit_forest, {})
    reason = "random_forest_16px_clean_s42.csv: this cell is no network and kept no weights"
    refused(run, forest, reason)
    publish(run, network, "small")
    refused(run, forest, reason)  # nor does it take over what another cell published


@pytest.mark.real
@pytest.mark.slow
def test_the_published_weights_give_their_predictions_again(real_cohort, repository, tmp_path):
    run = repository / "artifacts" / "chest_xray"
    found = load_published(run / "models" / "preprocessing.json")
    said = json.loads((run / "models" / "preprocessing.json").read_text(encoding="utf-8"))
    label = said["weights"].removesuffix("_leakfree.safetensors")
    name = f"05_{found.task}_{label}_{found.image_size}px_clean_s{said['seed']}.csv"
    kept = read_predictions(run / "predictions" / name).select("test")
    table = real_cohort.development()
    table = table[table["image_id"].isin(kept.image_ids)]
    cache = load_pixels(real_cohort, table, found.image_size, tmp_path)
    probabilities = found.predict(cache, kept.image_ids, "test")
    # Another processor rounds bfloat16 otherwise in places.
    assert np.abs(probabilities - kept.probabilities).mean() < 0.002
    assert (probabilities.argmax(axis=1) == kept.predicted).mean() > 0.995
