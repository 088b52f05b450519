import io
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from deferred import deferred
from leakfree.data.raw import LABELS, RawImage
from leakfree.data.sources.phantom import TRUTH_COLUMNS, PhantomSettings, PhantomSource, make_plan
from leakfree.data.sources.phantom_plan import CLASS_SHARE, PLANTED

with deferred:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from leakfree.data.sources.phantom_image import draw_image

PERSON = re.compile(r"person(\d+)_(bacteria|virus)_\d+\.jpeg$")
NORMAL = re.compile(r"(NORMAL2-IM|IM)-(\d{4})-0001(-\d{4})?\.jpeg$")
SCAN = re.compile(r"scan-\d{5}\.jpeg$")


def patient_of(file):
    """Read (series, number) from a name, None where it tells no patient."""
    name = file.rpartition("/")[2]
    if match := PERSON.match(name):
        return match[2], int(match[1])
    if match := NORMAL.match(name):
        return match[1], int(match[2])
    assert SCAN.match(name), name
    return None


def pixels(data, size=32):
    return np.asarray(Image.open(io.BytesIO(data)).convert("L").resize((size, size)), dtype=float).ravel()


@pytest.fixture(scope="module")
def small():
    config = PhantomSettings(n_images=90, size=48, duplicates_across_parts=2, missing_identifiers=0.1)
    source = PhantomSource(config)
    return source, list(source)


def test_same_settings_give_the_same_bytes(small):
    source, images = small
    again = PhantomSource(PhantomSettings(**source.settings.model_dump()))
    assert list(again) == images
    other = PhantomSource(source.settings.model_copy(update={"seed": 7}))
    assert next(iter(other)).data != images[0].data


def test_an_image_does_not_depend_on_what_was_drawn_before(small):
    source, images = small
    assert [source.render(image) for image in reversed(source.plan)] == images[::-1]


def test_fingerprint_follows_settings():
    prints = {
        PhantomSource(PhantomSettings(n_images=60, **kw)).fingerprint()
        for kw in ({}, {"seed": 1}, {"disease": 0.5})
    }
    assert len(prints) == 3
    assert PhantomSource(PhantomSettings(n_images=60)).fingerprint() in prints


def test_yields_raw_images_in_file_order(small):
    source, images = small
    assert len(source) == len(images) == 90
    assert all(isinstance(i, RawImage) and i.label in LABELS and i.person_num is None for i in images)
    files = [i.file for i in images]
    assert files == sorted(set(files))
    assert all(i.data[:2] == b"\xff\xd8" for i in images)


def test_names_tell_label_part_and_patient(small):
    for image in small[1]:
        part, folder, _ = image.file.split("/")
        assert part == image.part
        assert folder == ("NORMAL" if image.label == "normal" else "PNEUMONIA")
        patient = patient_of(image.file)
        if patient:
            series = {"bacteria": "bacterial", "virus": "viral"}.get(patient[0], "normal")
            assert image.label == series


def test_truth_agrees_with_the_files(small):
    source, images = small
    truth = source.truth()
    assert tuple(truth.columns) == TRUTH_COLUMNS
    assert truth["file"].tolist() == [i.file for i in images]
    opened = [Image.open(io.BytesIO(i.data)) for i in images]
    assert [i.size for i in opened] == list(zip(truth["width"], truth["height"], strict=True))
    assert [i.mode for i in opened] == truth["mode"].tolist()
    assert "RGB" in set(truth["mode"])
    assert (truth["missing_identifier"] == truth["file"].map(patient_of).isna()).all()


def test_planted_copies_are_what_they_say(small):
    source, images = small
    data = {i.file: i.data for i in images}
    label = {i.file: i.label for i in images}
    truth = source.truth()
    original = truth.set_index("file")
    for row in truth[truth["planted"] != "none"].itertuples():
        assert original.loc[row.of, "planted"] == "none"
        assert row.patient == original.loc[row.of, "patient"]
        assert patient_of(row.file) != patient_of(row.of)
        identical = data[row.file] == data[row.of]
        assert identical == (row.planted != "near_duplicate")
        conflict = (label[row.file] == "normal") != (label[row.of] == "normal")
        assert conflict == (row.planted == "conflicting_label")
        assert row.label == label[row.of]
        if row.planted == "near_duplicate":
            # A shift of one pixel is 2 % at this size.
            assert np.corrcoef(pixels(data[row.file]), pixels(data[row.of]))[0, 1] > 0.9
    # No two files are identical unless they were planted so.
    config = source.settings
    expected = config.exact_duplicates + config.duplicates_across_parts + config.conflicting_labels
    assert len(data) - len(set(data.values())) == expected


def test_the_cohort_of_the_full_profile_is_like_the_real_one():
    config = PhantomSettings(n_images=1200)
    plan = make_plan(config)
    labels = Counter(i.label for i in plan if i.planted == "none")
    total = sum(labels.values())
    assert all(labels[k] / total == pytest.approx(share, abs=0.01) for k, share in CLASS_SHARE.items())
    assert Counter(i.part for i in plan)["test"] == 132
    images = Counter(i.patient for i in plan if i.planted == "none")
    assert max(images.values()) == 30
    single = [n == 1 for p, n in images.items() if p.startswith("normal")]
    assert np.mean(single) == pytest.approx(1141 / 1211, abs=0.05)
    single = [n == 1 for p, n in images.items() if p.startswith("bacterial")]
    assert np.mean(single) == pytest.approx(923 / 1353, abs=0.08)
    assert any(NORMAL.match(i.file.rpartition("/")[2]) and i.file.count("-0001-0") for i in plan)
    # Bacterial and viral numbers collide inside train, as 808 do in the real one.
    numbers = {s: {patient_of(i.file)[1] for i in plan if f"_{s}_" in i.file} for s in ("bacteria", "virus")}
    assert len(numbers["bacteria"] & numbers["virus"]) > 100
    # Each part begins low in each etiology.
    for s in numbers:
        for part in ("train", "test"):
            own = [patient_of(i.file)[1] for i in plan if i.part == part and f"_{s}_" in i.file]
            assert min(own) < 0.2 * max(numbers[s])


@settings(max_examples=40, deadline=None)
@given(
    config=st.builds(
        PhantomSettings,
        n_images=st.integers(100, 400),
        seed=st.integers(0, 2**31),
        missing_identifiers=st.floats(0, 1),
        exact_duplicates=st.integers(0, 9),
        near_duplicates=st.integers(0, 9),
        conflicting_labels=st.integers(0, 9),
        duplicates_across_parts=st.integers(0, 3),
        size_shortcut=st.floats(0, 3),
        test_share=st.floats(0.08, 0.3),
    )
)
def test_plan_keeps_its_promises(config):
    plan = make_plan(config)
    assert len(plan) == len({i.file for i in plan}) == config.n_images
    assert sum(i.part == "test" for i in plan) == config.n_test
    planted = Counter(i.planted for i in plan)
    assert set(planted) <= set(PLANTED)
    assert planted["exact_duplicate"] == config.exact_duplicates + config.duplicates_across_parts
    assert planted["near_duplicate"] == config.near_duplicates
    assert planted["conflicting_label"] == config.conflicting_labels
    assert sum(i.planted != "none" and i.part == "test" for i in plan) == config.duplicates_across_parts
    hidden = sum(i.missing_identifier for i in plan)
    assert hidden == round(config.missing_identifiers * planted["none"])
    named = {p: {patient_of(i.file) for i in plan if i.part == p} - {None} for p in ("train", "test")}
    assert not named["train"] & named["test"]
    latent = {p: {i.patient for i in plan if i.part == p} for p in ("train", "test")}
    assert len(latent["train"] & latent["test"]) <= config.duplicates_across_parts
    if config.missing_identifiers == 0:
        bare = {p: {n for s, n in v if s in ("bacteria", "virus")} for p, v in named.items()}
        assert bare["train"] & bare["test"]
    if config.duplicates_across_parts == 0:
        assert not latent["train"] & latent["test"]
    # A name's patient is one latent patient, except that copies stand under a number of their own.
    owners = {}
    for image in plan:
        if image.planted == "none" and not image.missing_identifier:
            assert owners.setdefault(patient_of(image.file), image.patient) == image.patient


def test_smallest_cohort_has_every_class_in_both_parts():
    plan = make_plan(PhantomSettings(n_images=60))
    assert {(i.part, i.label) for i in plan} == {(p, k) for p in ("train", "test") for k in CLASS_SHARE}


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_images": 59},
        {"exact_duplicates": 700},
        {"duplicates_across_parts": 131},
        {"strength": 1},
        {"identity": -1},
    ],
)
def test_impossible_settings_raise(wrong):
    with pytest.raises(ValidationError):
        PhantomSettings(**wrong)


def likeness(identity):
    """Return mean correlation of images within and between 12 patients of one label, mean image removed."""
    films = np.array(
        [
            draw_image(48, "normal", identity, 0.0, (3, 0, p), (3, 1, 10 * p + i)).astype(float).ravel()
            for p in range(12)
            for i in range(4)
        ]
    )
    corr = np.corrcoef(films - films.mean(0))
    same = np.equal.outer(np.arange(48) // 4, np.arange(48) // 4)
    return corr[same & ~np.eye(48, dtype=bool)].mean() - corr[~same].mean()


def test_identity_strength_ties_the_images_of_a_patient():
    assert abs(likeness(0.0)) < 0.05
    assert likeness(1.0) > 0.2
    assert likeness(0.5) < likeness(1.0)


def test_disease_strength_zero_draws_the_same_image_for_every_label():
    films = [draw_image(48, k, 1.0, 0.0, (1, 0, 5), (1, 1, 9)) for k in CLASS_SHARE]
    assert np.array_equal(films[0], films[1]) and np.array_equal(films[0], films[2])


def test_disease_strength_whitens_the_lungs_only_of_the_ill():
    def change(label):
        pairs = [
            [draw_image(48, label, 1.0, s, (1, 0, i), (1, 1, i)).astype(float).mean() for s in (0.0, 1.0)]
            for i in range(15)
        ]
        return float(np.mean([b - a for a, b in pairs]))

    assert change("normal") == 0.0
    assert change("bacterial") > 0.5
    assert change("viral") > 0.5


def test_consolidation_lies_on_one_side_and_haze_on_both():
    def one_sidedness(label):
        shares = []
        for i in range(20):
            healthy, ill = (
                draw_image(48, label, 1.0, s, (1, 0, i), (1, 1, i)).astype(float) for s in (0.0, 1.5)
            )
            left, right = (ill - healthy)[:, :24].clip(0).sum(), (ill - healthy)[:, 24:].clip(0).sum()
            shares.append(max(left, right) / (left + right + 1e-9))
        return np.mean(shares)

    assert one_sidedness("bacterial") > one_sidedness("viral") + 0.05


@pytest.mark.parametrize(("strength", "low", "high"), [(0.0, 0.42, 0.58), (1.0, 0.73, 0.83)])
def test_size_shortcut_alone_tells_pneumonia(strength, low, high):
    truth = PhantomSource(PhantomSettings(size_shortcut=strength)).truth()
    truth = truth[truth["planted"] == "none"]
    table = np.column_stack(
        [truth["width"], truth["height"], truth["width"] / truth["height"], truth["mode"] == "RGB"]
    )
    ill = (truth["label"] != "normal").to_numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression())
    scores = cross_val_predict(model, table, ill, cv=5, method="predict_proba")[:, 1]
    assert low < roc_auc_score(ill, scores) < high
    assert ((truth["mode"] == "RGB").sum() > 0) == (strength > 0)
    assert set(truth.loc[truth["mode"] == "RGB", "label"]) <= {"bacterial", "viral"}
