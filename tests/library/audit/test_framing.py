"""Images of one kind that are cropped more than the others are found by their edge, and nothing else is."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from deferred import deferred
from leakfree.data.sources.phantom import PhantomSettings, PhantomSource

with deferred:
    from leakfree.audit.auditor import AuditSettings, audit_images
    from leakfree.audit.checks.framing import VIEWS, framing
    from leakfree.audit.target import from_folder
    from leakfree.data.reading.wishes import Wishes

LABELS = np.array(["normal", "ill"], dtype=object)


def body(rng, zoom=1.0, spot=0.0):
    """Draw a bright body on a dark ground, 32 x 32, of which `zoom` shows less; a spot is in its middle."""
    row, column = (np.mgrid[:32, :32] - 15.5) / zoom
    row, column = row + rng.normal(0, 1), column + rng.normal(0, 1)
    far = (row / 15) ** 2 + (column / 11) ** 2
    image = 170 / (1 + np.exp(8 * (far - 1))) + spot * np.exp(-(row**2 + column**2) / 12)
    return np.clip(image + rng.normal(20, 12, image.shape), 0, 255).astype(np.uint8)


def some(n=300, *, zoom=1.0, spot=0.0, seed=0):
    """Draw images of n / 2 patients; the ill are zoomed and have a spot."""
    rng = np.random.default_rng(seed)
    group = np.arange(n) // 2
    ill = (group % 2).astype(bool)
    images = np.stack([body(rng, zoom if one else 1.0, spot if one else 0.0) for one in ill])
    table = pd.DataFrame({"image_id": [f"i{i}" for i in range(n)], "label": LABELS[ill.astype(int)]})
    return table, images, group


def view(check, name):
    return next(row for row in check.details["views"] if row["name"] == name)


def test_a_crop_of_one_class_is_found_by_the_ring():
    check = framing(*some(zoom=1.2))
    assert check.status == "WARN" and check.severity == "warning" and check.count == 1
    assert view(check, "ring")["low"] > 0.8 and view(check, "ring")["permutation"]["high"] < 0.65
    assert check.summary.startswith("Framing tells the label: the outer ring of the image alone reaches")


def test_a_sign_of_disease_in_the_middle_is_none():
    check = framing(*some(800, spot=60))
    assert check.status == "PASS" and not check.count
    assert view(check, "ring")["high"] < 0.65 and view(check, "middle")["low"] > 0.9


def test_views_are_where_their_names_say():
    ring = VIEWS["ring"]
    assert ring.sum() == 32**2 - 24**2 and ring[0].all() and not ring[4:28, 4:28].any()
    assert VIEWS["middle"].sum() == 16**2 and not (ring & VIEWS["middle"]).any()
    assert VIEWS["top"][:4].all() and VIEWS["bottom"][28:].all() and VIEWS["top"].sum() == 4 * 32
    assert VIEWS["corners"].sum() == 4 * 8 * 8 and VIEWS["sides"].sum() == 2 * 4 * 32


def test_each_pair_of_labels_and_parts_inside_a_label_are_asked():
    table, images, group = some(480, zoom=1.2)
    # A third label is framed like the first; inside the second one, the test part is framed otherwise.
    table.loc[(table["label"] == "normal") & (group % 4 == 0), "label"] = "other"
    table["part"] = np.where(group % 3 == 0, "test", "train")
    moved = np.flatnonzero((table["label"] == "ill") & (table["part"] == "test"))
    rng = np.random.default_rng(5)
    images[moved] = [body(rng, 0.85) for _ in moved]
    check = framing(table, images, group)
    pairs = {tuple(row["labels"]): row["auc"] for row in check.details["pairs"]}
    assert pairs["ill", "normal"] > 0.8 and pairs["ill", "other"] > 0.8 and pairs["normal", "other"] < 0.65
    inside = {row["label"]: row for row in check.details["inside"]}
    assert inside["ill"]["low"] > 0.9 and inside["normal"]["low"] < 0.55
    assert inside["ill"]["parts"] == ["train", "test"]
    assert "Inside one label, the ring tells train from test: ill (AUC" in check.summary


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"label": "sealed"}, "NOT RUN", "sealed"),
        ({"label": ""}, "NOT RUN", "No labels"),
        ({"label": "normal"}, "INCONCLUSIVE", "every image has the label 'normal'"),
    ],
)
def test_without_labels_nothing_passes(change, status, said):
    table, images, group = some(120)
    check = framing(table.assign(**change), images, group)
    assert check.status == status and said in check.summary


def test_what_is_missing_is_said_and_is_no_pass():
    table, images, group = some(800, spot=60)
    assert framing(table, images, None).status == "INCONCLUSIVE"
    table.loc[:9, "label"] = ""
    check = framing(table, images, group)
    assert check.status == "INCONCLUSIVE" and "10 images without a usable label" in check.summary
    few = framing(*some(60))
    assert few.status == "INCONCLUSIVE" and "fewer than 20 groups" in few.summary
    wide = framing(*some(84, seed=2))
    assert wide.status == "INCONCLUSIVE" and "too few groups (42)" in wide.summary


def test_the_same_seed_gives_the_same_numbers():
    asked = some(zoom=1.05)
    assert framing(*asked, seed=3).details == framing(*asked, seed=3).details
    assert framing(*asked, seed=3).details["views"] != framing(*asked, seed=4).details["views"]


@pytest.fixture(scope="module")
def phantoms():
    """Draw phantoms without planted copies: image, label, and a number of the patient."""
    settings = PhantomSettings(
        n_images=420,
        size=48,
        exact_duplicates=0,
        near_duplicates=0,
        conflicting_labels=0,
        missing_identifiers=0,
    )
    source = PhantomSource(settings)
    return [
        (Image.open(io.BytesIO(source.render(one).data)).convert("L"), one.drawn, one.patient)
        for one in source.plan
    ]


def written(folder, phantoms, zoom):
    """Write phantoms as a study has them; those with pneumonia show the middle alone."""
    for i, (drawn, label, patient) in enumerate(phantoms):
        ill = label != "normal"
        side = [round(length * (1 - 1 / zoom) / 2) if ill else 0 for length in drawn.size]
        box = (*side, drawn.width - side[0], drawn.height - side[1])
        path = folder / ("ill" if ill else "normal") / f"p{patient}_{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn.crop(box).save(path)
    return folder


@pytest.mark.parametrize(("zoom", "found"), [(1.0, False), (1.15, True)])
def test_phantoms_are_framed_alike_until_one_class_is_cropped(phantoms, tmp_path, zoom, found):
    wishes = Wishes(no_parts=True, patient_pattern=r"p(.+)_\d+[.]png")
    skip = ("shortcuts", "shift", "near_duplicates", "metadata")
    target = from_folder(written(tmp_path, phantoms, zoom), wishes)
    check = audit_images(target, AuditSettings(wishes=wishes, skip=skip)).checks["framing"]
    assert (check.status == "WARN") is found, check.summary
    if found:
        assert view(check, "ring")["auc"] > 0.7
