"""The files that the inflation study leaves are checked against each other: what was changed is found."""

import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.data.raw import LABELS
from leakfree.data.tasks import TASKS
from leakfree_study.inflation.draws import ROLES, draw

with deferred:
    from leakfree.data.pixels import pixel_digest
    from leakfree_study.inflation import grid, store
    from leakfree_study.inflation.arms import Arms
    from leakfree_study.inflation.catalogue import LEAKS
    from leakfree_study.inflation.check import MOST, check_grid
    from leakfree_study.inflation.expected import Plans, split_groups
    from leakfree_study.inflation.jobs import FAMILIES, Job
    from leakfree_study.inflation.material import VARIANTS, Features, Material
    from leakfree_study.inflation.plans import DOSES, known, planned
    from leakfree_study.record.verify import verify_run

SEEDS = (4, 5)
FACTS = (
    "n_train", "train_sha256", "n_prepared", "prepared_sha256", "n_test", "test_sha256", "shared_images",
    "shared_groups",
)  # fmt: skip
CLEAN = "predictions/06/binary/pixels_1-nn_clean.csv.gz"
SIBLINGS = "predictions/06/binary/pixels_1-nn_siblings-50.csv.gz"
LEDGER = "ledgers/06_binary.csv.gz"
IMAGES = "manifests/06_films.csv"
DRAWS = "manifests/06_draws_series.csv.gz"


def small(seed=0):
    """Make patients with one image, 6 a class each with two and three, and some with both pneumonias."""
    rng = np.random.default_rng(seed)
    labels, patients = [], []
    for label, alone in enumerate((16, 34, 22)):
        for images in (1,) * alone + (2,) * 6 + (3,) * 6:
            patients += [len(set(patients))] * images
            labels += [label] * images
    for _ in range(4):
        patients += [len(set(patients))] * 3
        labels += [1, 2, 1]
    order = rng.permutation(len(labels))
    labels, patients = np.array(labels)[order], np.array(patients)[order]
    # The second is of a byte that is no text, the third reads like a missing value.
    ids = np.array([f"film-{i:03d}" for i in range(len(labels))], dtype=object)
    ids[1:3] = "film-\udcff", "NA"
    values = {
        name: rng.integers(0, 200, (len(labels), 12), dtype=np.uint8) + labels[:, None].astype(np.uint8)
        for name in VARIANTS
    }
    keys = {VARIANTS[0]: ids, **{name: np.array([f"{name}:{i}" for i in ids]) for name in VARIANTS[1:]}}
    digests = {
        k: pixel_digest(row) for name in VARIANTS for k, row in zip(keys[name], values[name], strict=True)
    }
    return Material(
        ids,
        np.array([f"p{number}" for number in patients], dtype=object),
        labels.astype(np.int64),
        {"series": patients, "merged": patients // 2 * 7},
        {"pixels": Features("pixels", values, digests)},
    )


def computed(material, folder, jobs):
    """Run jobs, and gather them."""
    results = store.Results(material)
    for job, outcomes, _ in grid.run(material, jobs, folder):
        results.add(job, outcomes)
    return results


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Folder of finished jobs, which several runs may share."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def made(kept):
    """Results of every family; of two more tasks, a scope and the control only some."""
    jobs = [
        Job(
            task,
            family,
            "pixels",
            "logistic-regression" if family == "epochs" else "1-nn",
            seed,
            doses=(0.5, 1.0),
        )
        for seed in SEEDS
        for task in ("binary", "etiology")
        for family in (FAMILIES if task == "binary" else ("clean", "siblings", "scaling", "tuning"))
    ]
    for family in ("clean", "siblings"):
        for seed in SEEDS:
            job = Job("three-class", family, "pixels", "1-nn", seed)
            jobs += [job, replace(job, scope="merged"), replace(job, permuted=True)]
            jobs += [replace(job, scope="merged", permuted=True)]
    return computed(small(), kept, jobs)


@pytest.fixture(scope="module")
def few(kept):
    """Results of one leak or none a task: a check of their files takes a quarter of the time."""
    jobs = [
        Job("binary", family, "pixels", "1-nn", seed, doses=(0.5, 1.0))
        for seed in SEEDS
        for family in ("clean", "siblings")
    ]
    for seed in SEEDS:
        job = Job("three-class", "clean", "pixels", "1-nn", seed)
        jobs += [Job("etiology", "clean", "pixels", "1-nn", seed, doses=(0.5, 1.0)), job]
        jobs += [replace(job, scope=scope, permuted=True) for scope in ("series", "merged")]
        jobs += [replace(job, scope="merged")]
    return computed(small(), kept, jobs)


def left(results, folder):
    """Files of results, as a notebook leaves them."""
    store.save_images(folder, results.material)
    store.save_draws(folder, results)
    store.save_arms(folder, results)
    return folder


@pytest.fixture(scope="module")
def finished(made, tmp_path_factory):
    return left(made, tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="module")
def finished_few(few, tmp_path_factory):
    return left(few, tmp_path_factory.mktemp("finished-few"))


@pytest.fixture
def whole(finished, tmp_path):
    """Files of every family."""
    return Path(shutil.copytree(finished, tmp_path / "whole"))


@pytest.fixture
def run(finished_few, tmp_path):
    """Files of `few`."""
    return Path(shutil.copytree(finished_few, tmp_path / "run"))


def change(folder, name, edit):
    """Change the table in a file; `edit` may return another one."""
    table = pd.read_csv(folder / name, dtype=str, keep_default_na=False, encoding_errors="surrogateescape")
    changed = edit(table)
    store.write_csv(folder / name, table if changed is None else changed)


def named(folder):
    """Return the files that disagree."""
    problems = check_grid(folder).problems
    assert all(reason and "\n" not in reason for _, reason in problems)
    return {name for name, _ in problems}


def only(folder, name, reason):
    """Assert that one file is named, and no other, with a reason."""
    problems = check_grid(folder).problems
    assert {file for file, _ in problems} == {name}, problems
    assert any(reason in line for _, line in problems), problems


def put(row, column, value):
    def edit(table):
        assert table.loc[row, column] != value
        table.loc[row, column] = value

    return edit


# What agrees


def test_what_the_grid_leaves_agrees(whole):
    found = check_grid(whole)
    assert found.problems == []
    assert found.read == {p.relative_to(whole).as_posix() for p in whole.rglob("*") if p.is_file()}
    assert found.not_checked == [f"{IMAGES}: its labels and linked groups are taken as they are"]


def test_every_arm_of_every_family_is_known(made):
    # Two doses, of siblings all four; the images have no sizes.
    wanted = {
        name
        for leak in LEAKS
        for clean, leaky, dose in leak.arms
        if leak.family != "size-and-mode" and (dose in (0.5, 1.0) or leak.family == "siblings")
        for name in (clean, leaky)
    }
    assert {arm.name for arm in made.arms} == wanted and len(wanted) > 20
    assert all(known(arm.name) for arm in made.arms)
    assert all(known(f"{name}-{dose * 100:.0f}") for name in ("siblings", "exact", "near") for dose in DOSES)


@pytest.mark.parametrize(
    "name", ["", "clean-50", "siblings", "siblings-0", "siblings-050", "exact-101", "size-with"]
)
def test_other_arms_are_not_known(name):
    assert not known(name)
    with pytest.raises(ValueError, match="unknown arm"):
        planned(None, name)


def test_plans_are_those_of_the_jobs(made):
    """Not by the hashes of the files, but row by row, for arms that put copies into training."""
    material = made.material
    arms = Arms(draw(material.labels, material.groups["series"], 4), material.classes(TASKS["binary"]))
    plan = planned(arms, "near-100")
    assert set(plan.train.variant) == {0, VARIANTS.index("near")}
    assert set(plan.train.row[plan.train.variant > 0]) <= set(plan.test)
    assert planned(arms, "threshold-test").prepared.tolist() == arms.rows("single").tolist()
    assert planned(arms, "stopped-val").prepared.tolist() == arms.rows("val").tolist()
    assert planned(arms, "folds-images").scored.tolist() == arms.clean().row.tolist()


def test_folds_of_images_split_patients_and_folds_of_patients_none():
    groups = np.arange(60) // 3
    assert split_groups(groups % 2, groups, "patients", 1) == 0
    assert 10 < split_groups(groups % 2, groups, "images", 1) <= 20


def test_plans_are_kept_for_all_models(made):
    plans = Plans(made.material)
    arm = store.Arm("binary", "pixels", "1-nn", "clean")
    first = plans.expected(arm, 4)
    assert plans.expected(replace(arm, head="xgboost", features="embeddings"), 4) is first
    for other in (replace(arm, permuted=True), replace(arm, scope="merged"), replace(arm, task="etiology")):
        assert plans.expected(other, 4) is not first


# What was changed


FEWER = "has 0 images that its arm does not score and lacks 1, like image "
FOREIGN = "has 1 images that its arm does not score and lacks 1, like image "
ORDER = ["film", "draw", "label", "p_normal", "p_pneumonia"]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (
            put(7, "p_normal", "0.99999"),
            "1 rows have probabilities that do not sum to 1, the first in line 9",
        ),
        (put(7, "p_normal", "-0.1"), "1 rows have a probability that is not from 0 to 1"),
        (put(7, "p_normal", "inf"), "1 rows have a probability that is not from 0 to 1"),
        (put(7, "p_normal", "nan"), "malformed: ValueError"),
        (put(7, "p_normal", ""), "malformed: ValueError"),
        (put(7, "p_normal", "x"), "malformed: ValueError"),
        (put(7, "draw", "4.5"), "malformed: ValueError"),
        (put(7, "label", "viral"), "is not labelled"),
        (
            lambda t: put(7, "label", "normal" if t.label[7] != "normal" else "pneumonia")(t),
            "is not labelled",
        ),
        (lambda t: t.drop(index=7), f"draw 4: {FEWER}"),
        (lambda t: pd.concat([t, t.iloc[[7]]]), "stands there twice"),
        (put(7, "film", "-1"), f"draw 4: {FOREIGN}-1"),
        (put(7, "film", "9999"), f"draw 4: {FOREIGN}9999"),
        (lambda t: t[t.draw == "4"], "lacks 1 draws that its ledger has, like 5"),
        (lambda t: t.iloc[:0], "lacks 2 draws that its ledger has, like 4"),
        (lambda t: t.assign(draw=t.draw.replace("5", "6")), "draw 6: is no draw of manifests/06_draws_ser"),
        (lambda t: t.assign(draw=t.draw.replace("5", "6")), "has 1 draws that its ledger has not, like 6"),
        (lambda t: t[ORDER], "has the columns film, draw, label, p_normal, p_pneumonia, not draw, film"),
        (lambda t: t.assign(more="1"), "has the columns"),
    ],
)
def test_changed_predictions_are_found(run, edit, reason):
    change(run, CLEAN, edit)
    only(run, CLEAN, reason)


def test_rows_that_are_longer_than_their_header_are_found(run):
    lines = gzip.decompress((run / DRAWS).read_bytes()).decode().splitlines()
    (run / DRAWS).write_bytes(gzip.compress("\n".join([lines[0], *(f"{x},1" for x in lines[1:])]).encode()))
    only(run, DRAWS, "its rows are longer than its header")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (
            lambda t: put(3, "draw_5", "val" if t.draw_5[3] != "val" else "test")(t),
            "draw 5: 1 images have an",
        ),
        (put(3, "draw_5", ""), "image 3 is  and not"),
        (lambda t: t.iloc[1:], "its images are not those of manifests/06_films.csv"),
        (lambda t: t.rename(columns={"draw_5": "draw_x"}), "has the columns film, draw_4, draw_x"),
    ],
)
def test_changed_draws_are_found(run, edit, reason):
    change(run, DRAWS, edit)
    only(run, DRAWS, reason)


def test_a_draw_that_is_not_in_the_draws_is_found(run):
    change(run, DRAWS, lambda t: t.drop(columns="draw_5"))
    assert {LEDGER, CLEAN} <= named(run)
    assert (CLEAN, f"draw 5: is no draw of {DRAWS}") in check_grid(run).problems


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (put(0, "train_sha256", "0" * 64), "train_sha256 is '000000000000', planned '"),
        (put(0, "test_sha256", ""), "test_sha256 is '', planned '"),
        *((put(0, fact, "7777"), f"{fact} is '7777', planned '") for fact in FACTS),
        (lambda t: pd.concat([t, t.iloc[[3]]]), "stands twice"),
    ],
)
def test_changed_ledgers_are_found(run, edit, reason):
    assert FACTS == store.LEDGER  # none is left out above
    change(run, LEDGER, edit)
    only(run, LEDGER, reason)


@pytest.mark.parametrize(
    ("name", "edit", "reason"),
    [
        (LEDGER, put(0, "draw", "x"), "malformed: ValueError"),
        (LEDGER, lambda t: t.drop(columns="n_test"), "has the columns predictions"),
        (IMAGES, put(0, "label", "healthy"), "malformed: ValueError"),
        (IMAGES, put(0, "group_series", ""), "malformed: ValueError"),
        (IMAGES, put(0, "image_id", "film-005"), "film-005 stands there twice"),
        (IMAGES, lambda t: t.iloc[::-1], "its images are not numbered from 0 in order"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(run, name, edit, reason):
    change(run, name, edit)
    assert any(n == name and line.startswith(reason) for n, line in check_grid(run).problems)


def test_a_change_of_the_images_is_found_in_what_rests_on_them(run):
    table = pd.read_csv(run / IMAGES, keep_default_na=False, encoding_errors="surrogateescape")
    change(run, IMAGES, lambda t: put(0, "label", LABELS[(LABELS.index(t.label[0]) + 1) % 3])(t))
    assert DRAWS in named(run)
    change(run, IMAGES, lambda _: table.assign(image_id=table["image_id"].replace("film-003", "film-3")))
    assert named(run) >= {LEDGER, "ledgers/06_etiology.csv.gz"}
    change(run, IMAGES, lambda _: table.assign(group_merged=table["group_series"]))
    assert "manifests/06_draws_merged.csv.gz" in named(run)
    assert LEDGER not in named(run)


def test_swapped_images_are_found(run):
    def swap(table):
        used = set(table["film"][table.draw == "4"])
        put(0, "film", next(image for image in table["film"] if image not in used))(table)

    change(run, CLEAN, swap)
    only(run, CLEAN, "draw 4: has 1 images that its arm does not score and lacks 1")


def test_two_images_of_other_classes_that_were_swapped_are_found(run):
    def swap(table):
        other = int(np.flatnonzero((table.label != table.label[0]) & (table.draw == "4"))[0])
        table.loc[[0, other], "film"] = table.loc[[other, 0], "film"].to_numpy()

    change(run, CLEAN, swap)
    only(run, CLEAN, "is not labelled")


@pytest.mark.parametrize(
    "names", [("clean", "siblings-100"), ("scaling-train", "scaling-all"), ("near-50", "exact-50")]
)
def test_the_ledger_of_another_arm_is_found(whole, names):
    paths = [f"predictions/06/binary/pixels_1-nn_{name}.csv.gz" for name in names]

    def leak(table):
        here, there = (np.flatnonzero(table.predictions == path) for path in paths)
        table.iloc[here, 2:] = table.iloc[there, 2:].to_numpy()

    change(whole, LEDGER, leak)
    only(whole, LEDGER, f"{paths[0]} draw 5: ")


def test_the_ledger_of_folds_of_patients_for_those_of_images_is_found(whole):
    def cover(table):
        assert (table.shared_groups[table.predictions.str.contains("folds-images")].astype(int) > 0).all()
        table.loc[table.predictions.str.contains("folds-images"), "shared_groups"] = "0"

    change(whole, LEDGER, cover)
    only(whole, LEDGER, "shared_groups is '0', planned '")


def test_the_control_is_held_against_permuted_classes(run):
    name = "predictions/06/three-class/pixels_1-nn_clean{}_random-labels.csv.gz"
    for scope in ("", "_merged"):
        truth = pd.read_csv(run / name.format(scope).replace("_random-labels", ""), dtype=str)
        change(run, name.format(scope), lambda table, truth=truth: table.assign(label=truth["label"]))
        assert named(run) == {name.format(mark) for mark in ("", "_merged")[: 1 + bool(scope)]}


def test_ledger_rows_that_are_not_there_are_missed(run):
    change(run, LEDGER, lambda t: t[(t.predictions != CLEAN) | (t.draw != "4")])
    only(run, CLEAN, "has 1 draws that its ledger has not, like 4")


def test_ledger_rows_of_another_task_are_found(run):
    change(run, "ledgers/06_etiology.csv.gz", lambda t: pd.concat([t, t.iloc[:1].assign(predictions=CLEAN)]))
    only(run, "ledgers/06_etiology.csv.gz", f"{CLEAN} draw 4: is of another task")


def test_every_file_that_is_deleted_is_named(run):
    for name in sorted(check_grid(run).read):
        content = (run / name).read_bytes()
        (run / name).unlink()
        assert name in named(run), name
        (run / name).write_bytes(content)
    assert named(run) == set()


@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8b", b"film,draw\n1,2\n", gzip.compress(b"a,b\n1,2\n", mtime=0), None]
)
def test_no_content_of_any_file_ends_in_a_traceback(run, content):
    for name in (IMAGES, DRAWS, LEDGER, CLEAN):
        original = (run / name).read_bytes()
        (run / name).unlink()
        if content is None:
            (run / name).mkdir()
        else:
            (run / name).write_bytes(content)
        assert name in named(run), name
        (run / name).rmdir() if content is None else (run / name).unlink()
        (run / name).write_bytes(original)


def test_many_rows_that_disagree_are_counted_and_not_listed(run):
    change(run, LEDGER, lambda t: t.assign(n_train="1"))
    problems = check_grid(run).problems
    assert len(problems) == MOST
    rows = len(pd.read_csv(run / LEDGER))
    assert problems[-1] == (LEDGER, f"and {rows - MOST + 1} more like these")


# What cannot be checked


def test_arms_of_another_kind_are_not_passed_over(run):
    for name in ("pixels_1-nn_size-with.csv.gz", "pixels_1-nn_size-with_person.csv.gz", "notes.txt"):
        shutil.copy(run / CLEAN, run / "predictions" / "06" / "binary" / name)
    size = "predictions/06/binary/pixels_1-nn_size-without.csv.gz"
    change(run, LEDGER, lambda t: pd.concat([t, t.iloc[:1].assign(predictions=size)]))
    found = check_grid(run)
    assert found.problems == []
    gap = "predictions/06: 4 files or ledger entries of unknown arms (notes.txt, size-with, size-without)"
    assert gap in found.not_checked


def test_arms_that_are_not_there_in_every_draw_are_told(run):
    change(run, LEDGER, lambda t: t[(t.predictions != CLEAN) | (t.draw != "4")])
    change(run, CLEAN, lambda t: t[t.draw != "4"])
    found = check_grid(run)
    assert found.problems == []
    assert any("1 of " in gap and "not there in every draw" in gap for gap in found.not_checked)


def test_another_scope_needs_its_draws_and_groups(run):
    shutil.copy(run / CLEAN, run / CLEAN.replace("clean", "clean_person"))
    problems = check_grid(run).problems
    assert (CLEAN.replace("clean", "clean_person"), f"{IMAGES} has no groups of the scope person") in problems
    assert ("manifests/06_draws_person.csv.gz", "is missing, but 1 arms rest on it") in problems


def test_nothing_is_checked_where_the_grid_left_nothing(tmp_path):
    (tmp_path / "manifests").mkdir()
    found = check_grid(tmp_path)
    assert (found.problems, found.not_checked, found.read) == ([], [], set())


# From the command


def test_a_run_is_verified_with_its_grid(run):
    """Nothing lists the files here, which is all that is wrong."""
    found, files = verify_run(run), check_grid(run).read
    unlisted = {f"{name}: no provenance and no cell lists it" for name in files}
    assert {line for line in found.problems if not line.startswith("provenance.json: ")} == unlisted
    assert f"{IMAGES}: its labels and linked groups are taken as they are" in found.not_checked
    assert found.files == len(files)
    change(run, CLEAN, put(7, "p_normal", "0.99999"))
    assert any(line.startswith(f"{CLEAN}: 1 rows have prob") for line in verify_run(run).problems)
    (run / IMAGES).unlink()
    assert f"{IMAGES}: cannot be read (No such file or directory)" in verify_run(run).problems


def test_roles_are_those_of_the_files(made, finished):
    table = pd.read_csv(finished / DRAWS)
    roles = np.array(ROLES)[draw(made.material.labels, made.material.groups["series"], 4).role]
    assert table["draw_4"].tolist() == roles.tolist()
