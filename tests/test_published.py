"""Published weights are checked before they are used, and do what they did when they were scored."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from leakfree.audit.ledger import Ledger
from leakfree.cohort import open_cohort
from leakfree.files import file_hash
from leakfree.models.networks import build
from leakfree.pixels import load_pixels
from leakfree.predictions import read_predictions
from leakfree.published import PublishedError, load_published
from leakfree.training import predict


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
        ({"model": "none"}, "not a description of weights: ValueError unknown network"),
        ({"mean": None}, "not a description of weights: TypeError"),
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


@pytest.mark.real
def test_the_published_weights_give_their_predictions_again(real_data, repository, tmp_path):
    run = repository / "artifacts" / "chest_xray"
    found = load_published(run / "models" / "preprocessing.json")
    (path,) = (run / "predictions").glob(f"05_{found.task}_{found.model}_{found.image_size}px_clean_s42.csv")
    kept = read_predictions(path).select("test")
    cohort = open_cohort(str(real_data / "chest_xray"), tmp_path)
    table = cohort.development()
    table = table[table["image_id"].isin(kept.image_ids)]
    cache = load_pixels(cohort, table, found.image_size, tmp_path)
    ids, probabilities = predict(
        found.network,
        cache,
        cache.rows(kept.image_ids),
        found.normalisation,
        ledger=Ledger(cache.digests),
        stage="test",
    )
    assert ids.tolist() == kept.image_ids.tolist()
    # Another processor rounds bfloat16 otherwise in places.
    assert np.abs(probabilities - kept.probabilities).mean() < 0.002
    assert (probabilities.argmax(axis=1) == kept.predicted).mean() > 0.995
