"""`leakfree estimate` on phantoms of known truth, and where it cannot tell."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from deferred import deferred

with deferred:
    from leakfree.audit.checks.overlap import expected_overlap
    from leakfree.cli import main
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree.estimate import rule

    NOTHING = {"exact_duplicates": 0, "near_duplicates": 0, "conflicting_labels": 0, "missing_identifiers": 0}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Folders of phantoms without identity and with a strong one, by strength, and their truth."""
    made = {}
    for identity in (0.0, 2.0):
        source = PhantomSource(PhantomSettings(n_images=220, size=32, identity=identity, **NOTHING))
        root = tmp_path_factory.mktemp("phantom") / f"identity-{identity:g}"
        for image in source:
            (root / image.file).parent.mkdir(parents=True, exist_ok=True)
            (root / image.file).write_bytes(image.data)
        made[identity] = (root, source.truth())
    return made


@pytest.fixture(scope="module")
def told(phantoms, tmp_path_factory):
    """What the command writes as JSON about each phantom."""
    found = {}
    for identity, (root, _) in phantoms.items():
        file = tmp_path_factory.mktemp("told") / "estimate.json"
        assert (
            main(["estimate", str(root), "--quiet", "--no-cache", "--score", "0.9", "--json", str(file)]) == 0
        )
        found[identity] = json.loads(file.read_text())
    return found


def test_counts_are_those_of_the_truth(phantoms, told):
    for identity, (_, truth) in phantoms.items():
        said = told[identity]
        patients = truth["patient"].to_numpy()
        shared, share = expected_overlap(patients, round(0.2 * len(patients)))
        # The patients of the names are those of the truth, in all but a few that are copies by chance.
        assert said["images"] + said["copies"] == len(truth)
        assert said["split"]["share"] == pytest.approx(share, abs=0.03)
        assert said["split"]["groups"] == pytest.approx(shared, abs=2)
        assert said["split"]["low"] <= said["split"]["share"] <= said["split"]["high"]


def test_a_phantom_without_identity_gains_next_to_nothing_and_one_with_it_does(told):
    without, strong = told[0.0], told[2.0]
    assert without["alike"]["found"]["estimate"] < 0.03
    assert strong["alike"]["rank_1"]["low"] > without["alike"]["rank_1"]["high"]
    for none, much in zip(without["foretold"], strong["foretold"], strict=True):
        assert none["share"] < 0.05
        assert none["share"] < much["share"]
        assert much["low"] <= much["share"] <= much["high"]
        assert much["apart"] == pytest.approx(max(0.5, (0.9 - much["share"]) / (1 - much["share"])), abs=1e-4)
        assert much["apart_low"] <= much["apart"] <= much["apart_high"] <= 0.9
    assert list(strong["learned_from"]["cohorts"]) == rule.rule()["cohorts"]


def test_what_is_said_names_the_cohorts_and_their_errors(phantoms, capsys):
    assert main(["estimate", str(phantoms[2.0][0]), "--no-cache", "--seed", "1"]) == 0
    said = capsys.readouterr().out
    assert "have another image of their patient in training" in said
    for cohort in rule.rule()["cohorts"]:
        assert cohort in said
    for words in ("thin basis", "left out in turn", "No network that was trained on the images"):
        assert words in said


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def images(number, *, colour=False, name="subject{patient}_{place}.png"):
    """Images of noise, four a patient."""
    rng = np.random.default_rng(0)
    shape = (24, 24, 3) if colour else (24, 24)
    return {
        f"{('sick', 'well')[place // 4 % 2]}/{name.format(patient=place // 4, place=place)}": png(
            rng.integers(0, 256, shape, dtype=np.uint8)
        )
        for place in range(number)
    }


PATTERN = ["--patient-pattern", r"subject(\d+)"]


@pytest.mark.parametrize(
    ("files", "options", "reason"),
    [
        ({"number": 80}, PATTERN, "80 images are fewer than 150"),
        ({"number": 200, "colour": True}, PATTERN, "100% of the images are in colour"),
        ({"number": 160, "name": "scan-{place}.png"}, [], "no name or column tells a patient"),
    ],
)
def test_where_it_cannot_tell_it_says_why(write_folder, capsys, files, options, reason):
    root = write_folder(images(**files))
    assert main(["estimate", str(root), "--no-cache", *options]) == 2
    out, err = capsys.readouterr()
    assert "cannot tell" in err and reason in err
    assert "as a share of what was left" not in out
    # What does not hang on the rule is told all the same.
    assert ("A plain split by image" in out) == bool(options)


def test_where_nobody_has_two_images_nothing_is_gained(write_folder, capsys):
    rng, files = np.random.default_rng(0), {}
    for patient in range(160):
        files[f"well/subject{patient}.png"] = png(rng.integers(0, 256, (24, 24), dtype=np.uint8))
    root = write_folder(files)
    assert main(["estimate", str(root), "--no-cache", *PATTERN]) == 0
    said = capsys.readouterr().out
    assert "a split by image is a split by patient here" in said
    assert "Left out" not in said
    # A copy is no other image: it is counted once, and is told.
    (root / "well" / "subject1000.png").write_bytes(files["well/subject7.png"])
    assert main(["estimate", str(root), "--no-cache", *PATTERN]) == 0
    said = capsys.readouterr().out
    assert "160 images in 160 linked groups" in said
    assert "Left out: 1 copies" in said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--test-share", "1.5"], "--test-share 1.5"),
        (["--score", "93"], "--score 93"),
        (["--scope", "x"], "--scope"),
    ],
)
def test_wrong_options_are_one_line(write_folder, capsys, options, told):
    root = write_folder(images(8))
    assert main(["estimate", str(root), *PATTERN, *options]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("leakfree estimate: ") and told in line
