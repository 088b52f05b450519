"""Jobs of the grid: arms with a ledger, on made-up features whose identity and disease are known."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from deferred import deferred
from leakfree.data.raw import LABELS
from leakfree.data.tasks import TASKS, Task
from leakfree_study.inflation.draws import draw, permuted_classes

with deferred:
    from sklearn.metrics import f1_score, roc_auc_score

    from leakfree.data.pixels import pixel_digest
    from leakfree.ledger.ledger import LedgerError, consumed_hash
    from leakfree_study.inflation import heads, jobs
    from leakfree_study.inflation.arms import Arms, Rows
    from leakfree_study.inflation.catalogue import LEAKS
    from leakfree_study.inflation.jobs import FAMILIES, Job, best_weights, compute
    from leakfree_study.inflation.material import VARIANTS, Features, Material
    from leakfree_study.inflation.plans import DOSES

NN, LR = "1-nn", "logistic-regression"
#: Patients of each label with 1, 2, 3 and 4 images.
PATIENTS = {"normal": (24, 10, 6, 2), "bacterial": (36, 14, 8, 3), "viral": (18, 8, 6, 2)}


def build(*, identity=0.5, disease=1.0, dimensions=130, mixed=0, seed=0):
    """Make features of images: an identity of the patient, a direction of the class, noise of the image."""
    rng = np.random.default_rng(seed)
    labels, groups = [], []
    for label, numbers in PATIENTS.items():
        for size, patients in enumerate(numbers, start=1):
            for _ in range(patients):
                groups += [groups[-1] + 1 if groups else 0] * size
                labels += [LABELS.index(label)] * size
    for images in [(1, 2), (1, 1, 2), (1, 2, 2)] * mixed:
        groups += [groups[-1] + 1] * len(images)
        labels += images
    order = rng.permutation(len(labels))
    labels, groups = np.array(labels)[order], np.array(groups)[order]
    n = len(labels)
    x = np.sqrt(identity) * rng.standard_normal((groups.max() + 1, dimensions))[groups]
    x += np.sqrt(1 - identity) * rng.standard_normal((n, dimensions))
    x[np.arange(n), labels] += disease
    ids = np.array([f"train/{LABELS[label]}/{row:04d}.png" for row, label in enumerate(labels)], dtype=object)
    noise = 0.05 * rng.standard_normal((2, *x.shape))
    floats = dict(zip(VARIANTS, (x, x + noise[0], x + noise[1]), strict=True))
    levels = {name: np.clip(128 + 25 * value, 0, 255).astype(np.uint8) for name, value in floats.items()}
    floats = {name: value.astype(np.float32) for name, value in floats.items()}
    kinds = {"pixels": levels, "embeddings": floats}
    features = {name: named(name, values, ids) for name, values in kinds.items()}
    patients = np.array([f"patient:{group}" for group in groups], dtype=object)
    sizes = rng.normal(7, 0.2, (n, 4))
    sizes[:, 0] += 3 * labels
    sizes[:, 3] = rng.random(n) < 0.1
    sizes[rng.random(n) < 0.2] = np.nan
    # Under the other scope some patients are one.
    scopes = {"series": groups, "person": groups - (groups % 6 == 1)}
    return Material(ids, patients, labels, scopes, features, sizes)


def named(name, values, ids):
    """Give features with the digest of each row under its name."""
    digests = {
        (image_id if variant == "film" else f"{variant}:{image_id}"): pixel_digest(row)
        for variant, array in values.items()
        for image_id, row in zip(ids.tolist(), array, strict=True)
    }
    return Features(name, values, digests)


@pytest.fixture(scope="module")
def material():
    return build()


def job(family, head=NN, task="three-class", features="embeddings", seed=4, **fields):
    return Job(task, family, features, head, seed, trees=5, **fields)


def arms_of(material, one):
    """Make draw, classes and arms of a job again, apart from it."""
    made = draw(material.labels, material.groups[one.scope], one.seed)
    classes = material.classes(TASKS[one.task])
    if one.permuted:
        classes = permuted_classes(made, classes, material.groups[one.scope], one.seed)
    return made, classes, Arms(made, classes)


def auc(outcome, rows=None):
    keep = slice(None) if rows is None else np.isin(outcome.rows, rows)
    return roc_auc_score(outcome.truth[keep], outcome.probabilities[keep][:, 1])


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        for field in ("rows", "probabilities", "truth"):
            np.testing.assert_array_equal(getattr(one[name], field), getattr(other[name], field))
        assert one[name].ledger == other[name].ledger


#: What training (with all else that was fitted) and test share in an arm: images, and patients.
SHARED = {
    "clean": (), "threshold-val": (), "threshold-test": ("shared_images", "shared_groups"),
    "siblings": ("shared_groups",), "near": ("shared_groups",), "augmented-before": ("shared_groups",),
    "exact": ("shared_images", "shared_groups"), "no-test-set": ("shared_images", "shared_groups"),
    "oversampled-before": ("shared_images", "shared_groups"), "oversampled-after": (), "augmented-after": (),
    "tuning-patients": (), "folds-patients": (),
    "tuning-images": ("shared_groups",), "folds-images": ("shared_groups",),
    "size-without": (), "size-with": (),
    **{f"{name}-train": () for name in ("scaling", "pca", "selection")},
    **{f"{name}-all": ("shared_images", "shared_groups") for name in ("scaling", "pca", "selection")},
    **{f"{name}-val": () for name in ("stopped", "best-epoch")},
    **{f"{name}-test": ("shared_images", "shared_groups") for name in ("stopped", "best-epoch")},
}  # fmt: skip


def expected_names(family, head):
    leaks = [leak for leak in LEAKS if leak.family == family and (leak.neighbour or head != NN)]
    named = {name for leak in leaks for clean, leaky, _ in leak.arms for name in (clean, leaky)}
    return named - {"clean"} if family != "clean" else named | {"clean"}


@pytest.mark.parametrize("task", list(TASKS))
@pytest.mark.parametrize("head", [NN, LR])
def test_every_family_gives_the_arms_of_the_catalogue_and_leaks_what_they_declare(material, head, task):
    for family in FAMILIES:
        if family == "epochs" and head == NN:
            continue  # the nearest neighbour has no epochs
        one = job(family, head, task, "pixels" if task == "etiology" else "embeddings")
        outcomes = compute(material, one)
        assert set(outcomes) == expected_names(family, head), family
        _, classes, arms = arms_of(material, one)
        k = len(TASKS[task].classes)
        for name, outcome in outcomes.items():
            assert outcome.probabilities.shape == (len(outcome.rows), k), name
            assert outcome.probabilities.dtype == np.float32, name
            np.testing.assert_allclose(outcome.probabilities.sum(axis=1), 1, atol=1e-5, err_msg=name)
            np.testing.assert_array_equal(outcome.truth, classes[outcome.rows], err_msg=name)
            shared = SHARED.get(name, SHARED.get(name.rpartition("-")[0]))
            found = {key for key in ("shared_images", "shared_groups") if outcome.ledger[key]}
            assert found == set(shared), name
            scored = outcome.rows if not name.startswith("folds") else arms.rows("test", "single")
            assert outcome.ledger["n_test"] == len(scored), name
        # Arms that are compared train on equal numbers of rows.
        assert len({outcome.ledger["n_train"] for outcome in outcomes.values()}) == 1, family


@pytest.mark.parametrize("k", [2, 3])
def test_what_an_arm_is_chosen_by_is_the_mean_auc_of_its_classes(k):
    rng = np.random.default_rng(k)
    truth, found = rng.permutation(np.arange(60) % k), rng.dirichlet(np.ones(k), 60)
    one = {} if k == 3 else {"y_score": found[:, 1]}
    expected = roc_auc_score(truth, **({"y_score": found, "multi_class": "ovr"} | one))
    assert jobs._score(found, truth) == pytest.approx(expected)


def test_the_catalogue_has_no_family_that_does_not_exist():
    assert {leak.family for leak in LEAKS} == set(FAMILIES)


@pytest.mark.parametrize("head", [NN, LR, "random-forest", "xgboost"])
def test_the_same_job_gives_the_same_result_and_another_seed_another(material, head):
    one = job("clean", head, "binary")
    same(compute(material, one), compute(build(), one))
    other = compute(material, replace(one, seed=6))["clean"]
    assert other.rows.tolist() != compute(material, one)["clean"].rows.tolist()


def test_the_ledger_counts_what_the_arms_share(material):
    made, classes, arms = arms_of(material, job("exact"))
    tested = made.rows("test")
    for family, images in (("exact", True), ("near", False), ("siblings", False)):
        outcomes = compute(material, job(family))
        for dose in DOSES:
            ledger = outcomes[f"{family}-{dose * 100:.0f}"].ledger
            leaking = int(made.leaked(dose).sum())
            assert ledger["shared_groups"] == leaking
            assert ledger["shared_images"] == (leaking if images else 0)
            assert ledger["n_train"] == len(arms.clean())
            assert ledger["n_test"] == len(tested) + (family == "siblings" and dose == 1) * len(
                made.rows("single")
            )
    everyone = compute(material, job("no-test-set"))["no-test-set"].ledger
    assert everyone["shared_images"] == everyone["n_test"] == len(made.rows("test", "single"))
    clean = compute(material, job("clean"))["clean"].ledger
    keys = Counter(material.ids[arms.clean().row].tolist())
    assert clean["train_sha256"] == consumed_hash(keys)
    assert clean["prepared_sha256"] == "" and clean["n_prepared"] == 0
    assert (classes[arms.clean().row] >= 0).all()


def test_populations_are_scored_as_the_catalogue_says(material):
    made, _, _ = arms_of(material, job("clean"))
    several, single = made.rows("test").tolist(), made.rows("single").tolist()
    outcomes = {}
    for family in FAMILIES:
        outcomes |= compute(material, job(family, LR))
    wanted = {"several": several, "everyone": several + single, "single": single}
    for leak in LEAKS:
        for clean, leaky, _ in leak.arms:
            rows = [outcomes[name].rows.tolist() for name in (clean, leaky)]
            if leak.population in wanted:
                assert set(wanted[leak.population]) <= set(rows[0]) & set(rows[1]), leak.protocol
            else:
                assert rows[0] == rows[1]
    assert sorted(outcomes["folds-images"].rows.tolist()) == made.rows("base", "donor").tolist()


@pytest.mark.parametrize("features", ["pixels", "embeddings"])
def test_the_nearest_neighbour_knows_every_image_that_it_was_given(material, features):
    found = compute(material, job("no-test-set", task="binary", features=features))["no-test-set"]
    assert auc(found) == 1
    np.testing.assert_allclose(found.probabilities[np.arange(len(found.rows)), found.truth], 1, atol=1e-5)
    made, _, _ = arms_of(material, job("exact", task="binary"))
    half = compute(material, job("exact", task="binary", features=features))["exact-50"]
    given = made.leaked(0.5)[made.slot[half.rows]]
    known = half.probabilities[np.arange(len(half.rows)), half.truth]
    np.testing.assert_allclose(known[given], 1, atol=1e-5)
    assert known[~given].max() < 0.9
    near = compute(material, job("near", task="binary", features=features))["near-100"]
    clean = compute(material, job("clean", task="binary", features=features))["clean"]
    assert clean.probabilities.max() < 0.9
    assert auc(near) > auc(clean, near.rows) + 0.02


@pytest.mark.parametrize("head", [NN, LR])
@pytest.mark.parametrize("family", ["scaling", "pca", "selection"])
def test_what_is_fitted_on_all_images_gives_other_scores_than_on_training_images(material, family, head):
    found = compute(material, job(family, head, "binary"))
    clean, leaky = found[f"{family}-train"], found[f"{family}-all"]
    np.testing.assert_array_equal(clean.rows, leaky.rows)
    assert np.abs(clean.probabilities - leaky.probabilities).max() > 1e-4
    assert leaky.ledger["n_prepared"] == clean.ledger["n_prepared"] + len(clean.rows)
    assert clean.ledger["prepared_sha256"] == clean.ledger["train_sha256"]


def test_scaling_on_training_images_is_that_of_every_other_arm_with_embeddings(material):
    scaling = compute(material, job("scaling", task="binary"))["scaling-train"]
    clean = compute(material, job("clean", task="binary"))["clean"]
    np.testing.assert_array_equal(scaling.rows, clean.rows)
    np.testing.assert_allclose(scaling.probabilities, clean.probabilities, atol=1e-6)


def test_selection_with_the_test_labels_finds_signal_in_noise():
    noise = build(identity=0, disease=0, dimensions=1500)
    gains = []
    for seed in range(0, 8, 2):
        found = compute(noise, job("selection", LR, "binary", seed=seed))
        gains.append(auc(found["selection-all"]) - auc(found["selection-train"]))
    assert np.mean(gains) > 0.05


def differences(material, seeds, leaky="siblings", head=NN, **fields):
    out = []
    for seed in seeds:
        one = job(leaky, head, "etiology", seed=seed, doses=(1.0,), **fields)
        found = compute(material, one)[f"{leaky}-100"]
        clean = compute(material, replace(one, family="clean"))["clean"]
        rows = draw(material.labels, material.groups["series"], seed).rows("test")
        out.append((auc(clean, rows), auc(found, rows)))
    return np.array(out)


def test_siblings_raise_the_score_where_images_show_who_it_is():
    found = differences(build(identity=0.9, disease=0.2), range(6))
    assert abs(found[:, 0].mean() - 0.5) < 0.15, "clean"
    assert found[:, 1].mean() > 0.9, "leaky"
    assert (found[:, 1] > found[:, 0]).all()


def test_siblings_raise_nothing_where_images_do_not_show_who_it_is():
    # Draws of one cohort share its luck, so the cohort is the unit.
    cohorts = [build(identity=0, disease=2, dimensions=6, seed=seed) for seed in range(12)]
    found = np.array([differences(images, range(2)).mean(axis=0) for images in cohorts])
    gain = found[:, 1] - found[:, 0]
    assert found[:, 0].mean() > 0.8
    assert abs(gain.mean()) < 3 * gain.std(ddof=1) / np.sqrt(len(gain)) < 0.07


def test_with_random_labels_the_clean_arm_guesses_and_copies_are_known():
    images = build(identity=0.5, disease=4.0, dimensions=6)
    # Mirrored draws share their permutation, so there are half as many of them as draws.
    found = differences(images, range(24), "exact", permuted=True)
    assert abs(found[:, 0].mean() - 0.5) < 0.06
    assert (found[:, 1] == 1).all()
    assert differences(images, range(2), "exact")[:, 0].min() > 0.85, "unlike with the true ones"


@pytest.mark.parametrize("task", list(TASKS))
def test_permuted_labels_are_one_a_patient_and_one_a_pair(task):
    images = build(mixed=5)
    groups, truth = images.groups["series"], images.classes(TASKS[task])
    agree = []
    for seed in range(20):
        made = draw(images.labels, groups, seed)
        found = permuted_classes(made, truth, groups, seed)
        np.testing.assert_array_equal(found, permuted_classes(made, truth, groups, seed))
        np.testing.assert_array_equal(found < 0, truth < 0)
        taking = truth >= 0
        for pair in range(len(made.rank)):
            assert len(set(found[taking & (made.slot == pair)].tolist())) <= 1
        trained = made.rows("base", "donor", "single", "val")
        for group in np.unique(groups[trained]):
            rows = trained[(groups[trained] == group) & taking[trained]]
            assert len(set(found[rows].tolist())) <= 1
        # Each patient or pair hands its class to one other.
        alone = np.isin(np.arange(len(images)), made.rows("single", "val")) & taking
        agree.append((found[alone] == truth[alone]).mean())
        assert set(found[taking].tolist()) == set(truth[taking].tolist())
    chance = np.square(np.bincount(truth[truth >= 0]) / (truth >= 0).sum()).sum()
    assert abs(np.mean(agree) - chance) < 0.1, "no better than chance"


def test_permuted_labels_are_those_that_train_and_are_scored():
    images = build(disease=4.0)
    for seed in range(2):
        found = compute(images, job("no-test-set", task="etiology", permuted=True, seed=seed))["no-test-set"]
        truth = images.classes(TASKS["etiology"])[found.rows]
        assert auc(found) == 1
        assert 0.2 < (found.truth == truth).mean() < 0.9


@pytest.mark.parametrize("family", ["siblings", "exact", "no-test-set", "near"])
def test_patients_of_several_classes_leak_as_others_do(family):
    images = build(mixed=8)
    for seed, scope in enumerate(("series", "person") * 2):
        one = job(family, task="etiology", seed=seed, scope=scope, doses=(1.0,))
        (found,) = compute(images, one).values()
        _, _, arms = arms_of(images, one)
        assert found.ledger["n_train"] == len(arms.clean())
        if family == "exact":
            assert found.ledger["shared_images"] == len(found.rows) == len(arms.rows("test"))
        if family in ("exact", "no-test-set"):
            assert auc(found) == 1


@pytest.mark.parametrize("features", ["pixels", "embeddings"])
def test_features_of_another_image_are_no_result(features):
    images = build()
    one = job("clean", features=features)
    _, _, arms = arms_of(images, one)
    values = getattr(images.features[features], "values")["film"]  # noqa: B009 - a dict
    other = arms.rows("val")[0]
    # Whichever row it is: none is spared.
    for row in (arms.rows(role)[place] for role in ("base", "donor", "test", "single") for place in (0, 3)):
        before = values[row].copy()
        values[row] = values[other]
        with pytest.raises(LedgerError, match="not that image's"):
            compute(images, one)
        values[row] = before
    compute(images, one)


def test_features_of_another_variant_are_no_result():
    images = build()
    values = getattr(images.features["embeddings"], "values")  # noqa: B009 - a dict
    values["near"] = values["film"]
    compute(images, job("exact"))
    with pytest.raises(LedgerError, match="near:"):
        compute(images, job("near"))


def patched(monkeypatch, name, change):
    made = getattr(Arms, name)
    monkeypatch.setattr(Arms, name, lambda self, *args, **named: change(self, made(self, *args, **named)))


@pytest.mark.parametrize(
    ("role", "found"),
    [("test", "'images': 1, 'linked groups': 1"), ("own", "'images': 0, 'linked groups': 1")],
)
@pytest.mark.parametrize("family", ["clean", "scaling", "oversample", "augment"])
def test_a_clean_arm_that_leaks_is_no_result(material, monkeypatch, family, role, found):
    patched(monkeypatch, "clean", lambda arms, rows: rows.plus(arms.rows(role)[:1]))
    with pytest.raises(LedgerError, match=f"declares .*, the ledger found .*{found}"):
        compute(material, job(family))


def test_tuning_on_images_of_tested_patients_is_no_result(material, monkeypatch):
    patched(monkeypatch, "clean", lambda arms, rows: rows.plus(arms.rows("own")[:1]))
    with pytest.raises(LedgerError, match="share 1 linked groups"):
        compute(material, job("tuning"))


@pytest.mark.parametrize(
    ("family", "arm"), [("siblings", "siblings"), ("exact", "copies"), ("no-test-set", "no_test_set")]
)
def test_a_leaky_arm_that_does_not_leak_is_no_result(material, monkeypatch, family, arm):
    patched(monkeypatch, arm, lambda arms, rows: arms.clean())
    with pytest.raises(LedgerError, match="declares"):
        compute(material, job(family))


def test_a_model_fitted_on_other_rows_than_planned_is_no_result(material, monkeypatch):
    def train(self):
        rows = Rows(self.plan.train.row[:-1], self.plan.train.variant[:-1])
        return self.read("train", rows), self.bench.classes[rows.row]

    monkeypatch.setattr(jobs._Arm, "train", train)
    with pytest.raises(LedgerError, match="stage train did not consume"):
        compute(material, job("siblings"))


@pytest.mark.parametrize("classes", [2, 3])
def test_class_weights_are_those_with_the_best_macro_f1(classes):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, 150)
    scores = rng.random((150, classes)) + np.eye(classes)[truth] * 0.4
    scores[:, 0] += 0.5
    found = scores / scores.sum(axis=1, keepdims=True)

    def macro(weights):
        return f1_score(truth, (found * weights).argmax(axis=1), average="macro")

    weights = best_weights(found, truth)
    assert weights[0] == 1 and weights.shape == (classes,)
    steps = np.exp(np.arange(-3, 3.01, 0.5))
    grid = np.stack(np.meshgrid([1.0], *[steps] * (classes - 1), indexing="ij"), -1).reshape(-1, classes)
    assert macro(weights) == max(macro(each) for each in grid) > macro(np.ones(classes))


def test_equally_good_class_weights_stay_at_one():
    found = np.array([[0.9, 0.1], [0.1, 0.9]] * 5)
    np.testing.assert_array_equal(best_weights(found, np.array([0, 1] * 5)), [1, 1])


def test_thresholds_chosen_on_test_are_the_best_there():
    images, gains = build(disease=2, dimensions=6), []
    for seed in range(0, 12, 2):
        found = compute(images, job("clean", seed=seed))
        test, val = (
            f1_score(one.truth, one.probabilities.argmax(axis=1), average="macro")
            for one in (found["threshold-test"], found["threshold-val"])
        )
        gains.append(test - val)
    assert min(gains) >= 0 and max(gains) > 0


def test_the_best_epoch_on_test_is_no_worse_there_than_that_on_validation(material):
    for seed in range(3):
        found = compute(material, job("epochs", LR, "binary", seed=seed))
        assert auc(found["best-epoch-test"]) >= max(auc(found[name]) for name in found)
        assert 1 <= found["stopped-val"].ledger["chosen"] <= heads.EPOCHS


def with_several(images):
    """Take the images of patients with several."""
    groups = images.groups["series"]
    kept = np.flatnonzero(np.bincount(groups)[groups] > 1)
    return replace(
        images,
        **{name: getattr(images, name)[kept] for name in ("ids", "patients", "labels", "sizes")},
        groups={name: values[kept] for name, values in images.groups.items()},
        features={
            name: replace(found, values={kind: array[kept] for kind, array in found.values.items()})
            for name, found in images.features.items()
        },
    )


def test_where_no_patient_has_a_single_image_there_is_nothing_to_choose_an_epoch_on(material):
    several = with_several(material)
    assert compute(several, job("epochs", LR, "binary")) == {}
    assert set(compute(several, job("clean", task="binary"))) == {"clean"}


def test_a_study_s_own_labels_and_tasks_are_those_of_its_jobs(material):
    ill = Task("ill", ("well", "ill"), {"a": 0, "b": 1, "c": 1})
    own = replace(material, label_names=("a", "b", "c"), tasks={"ill": ill})
    found = compute(own, job("clean", task="ill"))["clean"]
    expected = compute(material, job("clean", task="binary"))["clean"]
    np.testing.assert_array_equal(found.truth, expected.truth)
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)


def test_folds_of_images_flatter_where_images_show_who_it_is():
    found = compute(build(identity=0.9, disease=0.2), job("tuning", task="etiology"))
    assert auc(found["folds-images"]) > auc(found["folds-patients"]) + 0.05
    assert found["tuning-patients"].ledger["chosen"] in heads.CANDIDATES[NN]
    np.testing.assert_array_equal(found["folds-images"].rows, found["folds-patients"].rows)


@pytest.mark.parametrize("head", [NN, LR])
def test_size_and_mode_raise_the_score_where_they_tell_the_class(material, head):
    found = compute(material, job("size-and-mode", head, "etiology"))
    assert auc(found["size-with"]) > auc(found["size-without"]) + 0.03
    assert compute(replace(material, sizes=None), job("size-and-mode", head)) == {}
    assert compute(material, job("size-and-mode", head, permuted=True)) == {}


def test_equal_classes_have_no_arms_of_oversampling():
    images = build()
    only = replace(images, labels=np.zeros_like(images.labels))
    assert compute(only, job("oversample")) == {}


def test_random_labels_have_no_thresholds(material):
    assert set(compute(material, job("clean", permuted=True))) == {"clean"}
