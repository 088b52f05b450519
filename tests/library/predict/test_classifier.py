"""One classifier for command and service: the numbers of training, whoever asks and however many at once."""

import base64
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from deferred import deferred
from leakfree.base.precision import SAME_PROBABILITY
from leakfree.base.sums import write_sums
from leakfree.cli import main
from leakfree.data.pixels import PixelCache, pixel_digest
from leakfree.predict.calibrated import Calibrated
from leakfree.scores.calibration import scale
from leakfree.scores.predictions import read_predictions
from leakfree.serving.settings import ServiceSettings

with deferred:
    import torch

    from leakfree.ledger.ledger import Ledger
    from leakfree.models.training import Normalisation, predict
    from leakfree.predict.classifier import Classifier
    from leakfree.predict.description import PublishedError, add_hashes, read_description
    from leakfree.predict.novelty import Novelty
    from leakfree.predict.weights import load_network
    from leakfree.serving.app import create_app
    from leakfree_study.networks import explain
    from leakfree_study.networks.published import load_published


@pytest.fixture(scope="module")
def classifier(models):
    return Classifier.load(models)


@pytest.fixture(scope="module")
def pixels(classifier, films):
    return np.stack([classifier.prepare(image) for image in films])


def by_training(models, pixels, precision):
    """Probabilities by the code that made the published predictions, calibrated."""
    published = load_published(models / "preprocessing.json")
    ids = np.array([f"{i}" for i in range(len(pixels))], dtype=object)
    cache = PixelCache(ids, pixels, {i: pixel_digest(p) for i, p in zip(ids, pixels, strict=True)})
    _, probabilities = predict(
        published.network,
        cache,
        np.arange(len(ids)),
        published.normalisation,
        ledger=Ledger(cache.digests),
        stage="test",
        precision=precision,
    )
    calibrated = Calibrated.load(
        models / "calibration.json", read_description(models / "preprocessing.json").weights_sha256
    )
    return scale(probabilities, calibrated.temperature)


def test_training_command_and_service_give_the_same_probabilities(models, films, tmp_path, pixels):
    expected = by_training(models, pixels, Classifier.load(models).precision)[:, 1]
    assert expected.max() - expected.min() > 0.01, "images that all get one number would prove nothing"
    for number, image in enumerate(films):
        (tmp_path / f"{number:03d}.png").write_bytes(image)
    out = tmp_path / "out.json"
    assert (
        main(["predict", str(tmp_path), "--model", str(models), "--format", "json", "--out", str(out)]) == 0
    )
    by_command = [p["probabilities"]["Pneumonia"] for p in json.loads(out.read_text())["predictions"]]
    app = create_app(Classifier.load(models), ServiceSettings(model=models))
    app.extensions["batcher"].start()
    client = app.test_client()
    one_by_one = [
        client.post("/predict", json={"image": base64.b64encode(image).decode()}).json["probabilities"][
            "Pneumonia"
        ]
        for image in films
    ]
    together = client.post("/predict", json={"images": [base64.b64encode(image).decode() for image in films]})
    at_once = [p["probabilities"]["Pneumonia"] for p in together.json["predictions"]]
    for found in (by_command, one_by_one, at_once):
        assert np.abs(np.array(found) - expected).max() < SAME_PROBABILITY


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_both_precisions_are_those_of_training(models, pixels, precision):
    classifier = Classifier.load(models, precision=precision)
    found = scale(classifier.probabilities(pixels), classifier.calibrated.temperature)
    assert np.abs(found - by_training(models, pixels, precision)).max() < SAME_PROBABILITY


def test_an_image_has_one_answer_whoever_stands_beside_it(classifier, pixels):
    together = classifier.probabilities(pixels)
    for size in (1, 2, 3, 7):
        parts = [classifier.probabilities(pixels[i : i + size]) for i in range(0, len(pixels), size)]
        assert np.abs(np.concatenate(parts) - together).max() < SAME_PROBABILITY


def test_an_answer_says_what_the_files_say(classifier, pixels):
    answers = classifier.answer(pixels)
    scaled = scale(classifier.probabilities(pixels), classifier.calibrated.temperature)
    sets = classifier.calibrated.conformal.sets(scaled)
    both = [one.score(pixels) for one in (classifier.novelty, classifier.training_set.texture)]
    for answer, p, inside, novelty in zip(answers, scaled, sets, np.max(both, axis=0), strict=True):
        assert answer.probabilities == {"Normal": p[0], "Pneumonia": p[1]}
        assert answer.diagnosis == ("Normal", "Pneumonia")[int(p.argmax())] and answer.confidence == p.max()
        assert answer.prediction_set == tuple(
            n for n, i in zip(("Normal", "Pneumonia"), inside, strict=True) if i
        )
        assert answer.coverage == pytest.approx(0.9)
        assert answer.novelty == pytest.approx(novelty)
        assert any("not look like" in w for w in answer.warnings) == (novelty > 1)


def test_what_is_no_image_is_answered_with_a_warning(classifier, pixels):
    noise = np.random.default_rng(0).integers(0, 256, (1, 48, 48), dtype=np.uint8)
    (answer,) = classifier.answer(noise)
    assert answer.novelty > 1 and "do not believe the class" in answer.warnings[0]
    assert sum(bool(a.warnings) for a in classifier.answer(pixels)) < len(pixels) / 2


def test_without_sets_and_novelty_it_says_so(classifier, pixels):
    bare = Classifier(classifier.description, classifier.network, Calibrated(1.0, None), None)
    answer = bare.answer(pixels[:1])[0]
    assert (answer.prediction_set, answer.coverage, answer.novelty) == (None, None, None)
    assert [w for w in answer.warnings if "novelty" in w] and [w for w in answer.warnings if "sets" in w]


def test_the_heat_map_is_that_of_captum(models, pixels):
    classifier = Classifier.load(models, precision="float32")
    network = load_network(read_description(models / "preprocessing.json"), "")
    norm = Normalisation(classifier.description.mean, classifier.description.std)
    for chosen in ([0, 1, 0, 1], [1, 1, 1, 0]):
        expected = explain.grad_cam(network, pixels[:4], norm, np.array(chosen))
        assert np.abs(classifier.heat(pixels[:4], chosen) - expected).max() < 1e-4
        assert expected.max() > 0
    probable = classifier.probabilities(pixels[:4]).argmax(axis=1)
    assert np.array_equal(classifier.heat(pixels[:4]), classifier.heat(pixels[:4], probable))


def test_images_are_explained_and_predicted_at_the_same_time(classifier, pixels):
    expected, heat = classifier.probabilities(pixels), classifier.heat(pixels)
    with ThreadPoolExecutor(4) as pool:
        explained = [pool.submit(classifier.heat, pixels) for _ in range(6)]
        predicted = [pool.submit(classifier.probabilities, pixels) for _ in range(12)]
        assert all(np.abs(future.result() - heat).max() < 1e-4 for future in explained)
        assert all(np.abs(future.result() - expected).max() < SAME_PROBABILITY for future in predicted)


def test_explaining_leaves_the_answers_as_they_were(classifier, pixels):
    before = classifier.probabilities(pixels)
    classifier.heat(pixels)
    assert np.array_equal(classifier.probabilities(pixels), before)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("preprocessing.json", "No such file"),
        ("calibration.json", "No such file"),
        ("drawn.safetensors", "No such file"),
    ],
)
def test_a_model_that_lacks_a_file_is_refused(models, tmp_path, file, reason):
    for path in models.iterdir():
        if path.name != file:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(PublishedError, match=reason):
        Classifier.load(tmp_path)


def test_a_model_can_be_named_by_its_weights(models, tmp_path):
    named = Classifier.load(models / "drawn.safetensors")
    assert named.about == Classifier.load(models).about
    lone = tmp_path / "drawn.safetensors"
    lone.write_bytes((models / "drawn.safetensors").read_bytes())
    with pytest.raises(PublishedError, match=r"no \*preprocessing\.json beside it describes these weights"):
        Classifier.load(lone)


def test_an_image_that_is_framed_otherwise_is_warned_of(models, pixels):
    classifier = Classifier.load(models)
    guess = classifier.novelty.zoom
    classifier._zoom_guess = replace(guess, low=0.0001, high=1000.0)
    usual = classifier.answer(pixels)
    assert [a.zoom for a in usual] == pytest.approx(guess.guess(pixels).tolist())
    assert not any("framed unlike" in text for a in usual for text in a.warnings)
    classifier._zoom_guess = replace(guess, low=998.0, high=1000.0)
    for answer in classifier.answer(pixels):
        (said,) = [text for text in answer.warnings if "framed unlike" in text]
        assert f"about {answer.zoom:.2f} times as close, usual 998.00 to 1000.00" in said
    # A zoom can make an image look like no X-ray: the reason is told all the same.
    classifier.novelty = replace(classifier.novelty, limit=1e-9)
    for answer in classifier.answer(pixels):
        assert any("do not believe" in text for text in answer.warnings)
        assert any("framed unlike" in text for text in answer.warnings)


def test_a_model_without_a_novelty_score_is_taken_and_one_of_another_split_is_not(models, tmp_path):
    for path in models.iterdir():
        if path.name != "novelty.safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert Classifier.load(tmp_path).novelty is None
    novelty = Classifier.load(models).novelty
    type(novelty)(novelty.mean, novelty.components, 1.0, "another").save(tmp_path / "novelty.safetensors")
    with pytest.raises(PublishedError, match="another split"):
        Classifier.load(tmp_path)


def test_weights_that_were_changed_are_refused(models, tmp_path):
    for path in models.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = bytearray((tmp_path / "drawn.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "drawn.safetensors").write_bytes(weights)
    with pytest.raises(PublishedError, match="SHA-256"):
        Classifier.load(tmp_path)


def test_predicting_needs_none_of_what_training_needs():
    heavy = {"sklearn", "pandas", "scipy", "deeplake", "torchvision", "matplotlib", "captum", "timm"}
    # The networks that serve among them: not those that `leakfree.models.networks` builds for training.
    code = "import sys, leakfree.serving.app, leakfree.predict.predict_files\n"
    code += "import leakfree.models.resnet, leakfree.models.efficientnet\n"
    code += f"print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_the_published_model_answers_as_its_published_predictions_say(repository, real_data):
    run = repository / "artifacts" / "chest_xray"
    said = json.loads((run / "models" / "preprocessing.json").read_text(encoding="utf-8"))
    label = said["weights"].removesuffix("_leakfree.safetensors")
    name = f"05_{said['task']}_{label}_{said['image_size']}px_clean_s{said['seed']}.csv"
    saved = read_predictions(run / "predictions" / name)
    rows = np.flatnonzero(saved.part == "test")[::8]
    classifier = Classifier.load(run / "models")
    found = []
    for i in rows:
        (path,) = (real_data / "chest_xray").glob(f"*/*/{saved.image_ids[i].rsplit('/', 1)[-1]}*")
        found.append(classifier.prepare(path.read_bytes()))
    difference = np.abs(classifier.probabilities(np.stack(found)) - saved.probabilities[rows])
    # The same bits on the processor that made them; bfloat16 is added up in another order on others.
    assert difference.max() < 0.1 and difference.mean() < 0.005


def test_torch_is_left_as_it_was(classifier, pixels):
    threads = torch.get_num_threads()
    classifier.answer(pixels)
    assert torch.get_num_threads() == threads and torch.is_grad_enabled()


def edited(name, **fields):
    def change(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **fields}))

    return change


def edited_sets(**fields):
    def change(folder):
        content = json.loads((folder / "calibration.json").read_text())
        content["conformal"] |= fields
        (folder / "calibration.json").write_text(json.dumps(content))

    return change


NAN = float("nan")
TAMPERED = {
    "classes swapped": (edited("preprocessing.json", classes=["pneumonia", "normal"]), "its classes are not"),
    "classes renamed": (edited("preprocessing.json", classes=["healthy", "<b>"]), "its classes are not"),
    "classes same": (edited("preprocessing.json", classes=["normal", "normal"]), "each once"),
    "classes a word": (edited("preprocessing.json", classes="no"), "no list of names"),
    "mean NaN": (edited("preprocessing.json", mean=NAN), "mean is nan"),
    "mean text": (edited("preprocessing.json", mean="0.5"), "mean is '0.5'"),
    "std 0": (edited("preprocessing.json", std=0), "std is 0"),
    "std -1": (edited("preprocessing.json", std=-1), "std is -1"),
    "size 0": (edited("preprocessing.json", image_size=0), "image_size is 0"),
    "size large": (edited("preprocessing.json", image_size=200_000), "image_size is 200000"),
    "size broken": (edited("preprocessing.json", image_size=48.5), "no whole number"),
    "model a number": (edited("preprocessing.json", model=5), "model is no text"),
    "a list": (lambda folder: (folder / "preprocessing.json").write_text("[]"), "not a description"),
    "nested": (lambda folder: (folder / "preprocessing.json").write_text("[" * 100_000), "not a description"),
    "temperature NaN": (edited("calibration.json", temperature=NAN), "temperature is nan"),
    "temperature 0": (edited("calibration.json", temperature=0), "temperature is 0"),
    "temperature -1": (edited("calibration.json", temperature=-1), "temperature is -1"),
    "temperature 1000": (edited("calibration.json", temperature=1000), "temperature is 1000"),
    "calibration nested": (
        lambda folder: (folder / "calibration.json").write_text("[" * 100_000),
        "not a cal",
    ),
    "sets swapped": (edited_sets(classes=["pneumonia", "normal"]), "its classes are not"),
    "sets alpha": (edited_sets(alpha=0.9), "alpha is 0.9"),
    "sets empty": (edited_sets(scores=[], tail=[]), "at least one"),
    "sets cut": (edited_sets(scores=[0.1]), "as many numbers"),
    "sets NaN": (edited_sets(scores=[NAN], tail=[1.0]), "as many numbers"),
    "sets falling": (edited_sets(scores=[0.5, 0.1], tail=[2.0, 1.0]), "do not rise"),
    "sets of more": (edited_sets(scores=[0.1, 0.5], tail=[200.0, 1.0]), "does not fall"),
}


@pytest.fixture(scope="module")
def copied(models, tmp_path_factory):
    """A run folder with the model in it, and a function that puts its files back."""
    folder = tmp_path_factory.mktemp("run") / "models"
    kept = {file.name: file.read_bytes() for file in models.iterdir() if file.is_file()}

    def fresh():
        folder.mkdir(exist_ok=True)
        for name, content in kept.items():
            (folder / name).write_bytes(content)
        return folder

    return fresh


@pytest.mark.parametrize("name", TAMPERED)
def test_a_field_out_of_its_range_is_refused(copied, name):
    change, reason = TAMPERED[name]
    folder = copied()
    change(folder)
    with pytest.raises(PublishedError, match=reason) as caught:
        Classifier.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"), [("limit", "nan"), ("limit", "0.0"), ("limit", "inf"), ("mean", NAN)]
)
def test_a_novelty_score_out_of_its_range_is_refused(copied, key, value):
    folder = copied()
    novelty = Novelty.load(folder / "novelty.safetensors", "m")
    value = float(value) if key == "limit" else np.full_like(novelty.mean, value)
    replace(novelty, **{key: value}).save(folder / "novelty.safetensors")
    with pytest.raises(PublishedError, match="not a novelty score"):
        Classifier.load(folder)


def test_all_files_are_hashed_together(copied):
    folder = copied()
    before = Classifier.load(folder)
    edited("calibration.json", temperature=1.4)(folder)
    after = Classifier.load(folder)
    assert before.about["weights_sha256"] == after.about["weights_sha256"]
    assert before.about["files_sha256"] != after.about["files_sha256"] != ""


def test_files_must_be_those_of_the_run(copied):
    folder = copied()
    listed = write_sums(folder.parent)
    try:
        Classifier.load(folder)
        edited("calibration.json", temperature=1.4)(folder)
        with pytest.raises(PublishedError, match=r"calibration.json: SHA-256 is not the one in .*SHA256SUMS"):
            Classifier.load(folder)
        (copied() / "novelty.safetensors").unlink()
        with pytest.raises(PublishedError, match=r"novelty.safetensors: missing, but .*SHA256SUMS lists it"):
            Classifier.load(folder)
        text = listed.read_text().splitlines(keepends=True)
        listed.write_text("".join(line for line in text if "novelty" not in line))
        copied()
        with pytest.raises(PublishedError, match="does not list it"):
            Classifier.load(folder)
    finally:
        listed.unlink()


@pytest.fixture
def hashed(copied):
    """A model outside a run, with the hashes of its files in its description."""
    folder = copied()
    add_hashes(folder / "preprocessing.json")
    return folder


def flipped(name, at=-100):
    def change(folder):
        content = bytearray((folder / name).read_bytes())
        content[at] ^= 1
        (folder / name).write_bytes(content)

    return change


OF_A_HASHED_MODEL = {
    "a byte of the novelty score": (flipped("novelty.safetensors"), "novelty.*SHA-256 is not the one in"),
    "a byte of the list": (flipped("training_set.safetensors"), "training_set.*SHA-256 is not the one in"),
    "a byte of the weights": (flipped("drawn.safetensors"), "drawn.*SHA-256 is not the one in"),
    "temperature": (edited("calibration.json", temperature=1.4), "calibration.*SHA-256 is not the one in"),
    "mean": (edited("preprocessing.json", mean=0.46), "preprocessing.*the file was changed"),
    "no hash of its own": (edited("preprocessing.json", description_sha256=None), "the file was changed"),
    "no hashes of the others": (edited("preprocessing.json", files_sha256=None), "no list of files"),
    "no novelty score": (lambda folder: (folder / "novelty.safetensors").unlink(), "novelty.*missing, but"),
    "no list": (lambda folder: (folder / "training_set.safetensors").unlink(), "training_set.*missing, but"),
}


@pytest.mark.parametrize("name", OF_A_HASHED_MODEL)
def test_a_changed_file_of_a_model_outside_a_run_is_refused(hashed, name, capsys):
    change, reason = OF_A_HASHED_MODEL[name]
    change(hashed)
    with pytest.raises(PublishedError, match=reason) as caught:
        Classifier.load(hashed / "drawn.safetensors")
    assert "\n" not in str(caught.value)
    assert main(["predict", "--model", str(hashed), "examples/sample.png"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["novelty.safetensors", "training_set.safetensors"])
def test_a_file_that_was_added_to_a_hashed_model_is_refused(hashed, name):
    added = hashed / name
    content = added.read_bytes()
    added.unlink()
    add_hashes(hashed / "preprocessing.json")
    added.write_bytes(content)
    with pytest.raises(PublishedError, match=f"{name}: .*does not list it"):
        Classifier.load(hashed)


def test_it_is_said_whether_hashes_checked_the_files(copied, capsys):
    def said():
        assert main(["predict", "--model", str(folder), "examples/sample.png"]) == 0
        return "Nothing checked the files beside the weights" in capsys.readouterr().out

    folder = copied()
    assert Classifier.load(folder).about["files_checked"] == "no" and said()
    add_hashes(folder / "preprocessing.json")
    assert Classifier.load(folder).about["files_checked"] == "hashes in the description" and not said()
    listed = write_sums(folder.parent)
    assert Classifier.load(folder).about["files_checked"] == "hashes of the run" and not said()
    listed.unlink()


def test_hashes_can_be_written_again(hashed):
    path = hashed / "preprocessing.json"
    before = path.read_bytes()
    assert add_hashes(path).read_bytes() == before
    flipped("novelty.safetensors")(hashed)
    add_hashes(path)
    assert path.read_bytes() != before
    Classifier.load(hashed)
