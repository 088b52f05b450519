"""The experiment on a run's cohort: material without copies, sizes where they are known, list of jobs."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

from deferred import deferred

with deferred:
    from leakfree.data.cohort import ingest
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree.models.training import Budget
    from leakfree_study.inflation import experiment, reanalysis
    from leakfree_study.inflation.deep import deep_table, draw_manifest, network_jobs
    from leakfree_study.inflation.reanalysis import manifests
    from leakfree_study.inflation.reanalysis import network_jobs as reference_jobs
    from leakfree_study.inflation.reanalysis import table as reference_table
    from leakfree_study.inflation.store import Results
    from leakfree_study.run.cells import network_cells
    from leakfree_study.run.run import open_run

    BUDGET = Budget(epochs=1, batch_size=32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiment")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEAKFREE_CACHE", str(folder / "cache"))
        ingest(PhantomSource(PhantomSettings(n_images=260, size=32)), folder / "store")
        yield open_run("06_inflation", data=str(folder / "store"), run_dir=str(folder / "run"), jobs=1)


@pytest.fixture(scope="module")
def material(run):
    return experiment.study_material(run, features=["pixels"], pixels=16, embeddings=32)


def test_copies_are_out_and_their_patients_stay_together(run, material):
    whole = run.development()
    ids = set(material.ids)
    for group in run.copies().groups:
        assert len(ids & set(group)) <= 1
    removed = set(whole["image_id"]) - ids
    assert removed, "the phantom has planted copies"
    groups = dict(zip(whole["image_id"], run.groups(whole), strict=True))
    codes = pd.factorize(np.array([groups[image_id] for image_id in material.ids]))[0]
    assert np.array_equal(codes, pd.factorize(material.groups["series"])[0])


def test_sizes_come_from_the_cohort_where_they_differ(material):
    assert material.sizes.shape == (len(material), 4)
    assert not np.isnan(material.sizes).any()
    assert np.allclose(material.sizes[:, 0] - material.sizes[:, 1], material.sizes[:, 2])
    assert set(np.unique(material.sizes[:, 3])) == {0.0, 1.0}


def table_of(n=4, width=224):
    return pd.DataFrame(
        {"image_id": [f"train/a-{i}.jpeg" for i in range(n)], "width": width, "height": 224, "mode": "RGB"}
    )


def test_sizes_of_resized_images_come_from_a_list(tmp_path):
    images = tmp_path / "films"
    images.mkdir()
    assert experiment.original_sizes(table_of(), str(images)) is None
    listed = pd.DataFrame(
        {
            "file": ["train/a-2.jpeg", "train/a-0.jpeg"],
            "width": [1000, 500],
            "height": [500, 500],
            "mode": ["L", "RGB"],
            "bytes": [1, 1],
        }
    )
    listed.to_csv(tmp_path / experiment.SIZES, index=False)
    sizes = experiment.original_sizes(table_of(), str(images))
    assert np.isnan(sizes[[1, 3]]).all()
    assert sizes[0] == pytest.approx([np.log(500), np.log(500), 0, 1])
    assert sizes[2] == pytest.approx([np.log(1000), np.log(500), np.log(2), 0])


def test_the_list_of_jobs_has_what_was_promised():
    jobs = experiment.all_jobs(
        ["binary", "etiology", "three-class"],
        ["pixels", "embeddings"],
        experiment.Draws(1000, leaks=4, random_labels=2, scopes=2),
        trees=10,
    )
    assert len(jobs) == len(set(jobs))
    plain = [job for job in jobs if not job.permuted and job.scope == "series"]
    assert {job.seed for job in plain} == {1000, 1001, 1002, 1003}
    assert not [job for job in jobs if job.family == "epochs" and job.head == "1-nn"]
    heavy = [job for job in plain if job.head in experiment.HEAVY]
    assert {(job.task, job.family, job.doses) for job in heavy} == {
        ("etiology", family, (1.0,)) for family in ("clean", "siblings", "exact")
    }
    assert {job.scope for job in jobs} == {"series", "person", "merged"}
    assert {job.seed for job in jobs if job.permuted} == {1000, 1001}


def test_roles_and_costs_are_counted(material):
    counts = experiment.draw_counts(Results(material), 1000)
    assert counts.to_numpy().sum() == len(material)
    assert counts.loc["own"].tolist() == counts.loc["donor"].tolist()
    draws = experiment.Draws(0, leaks=1, random_labels=0, scopes=0)
    jobs = experiment.all_jobs(["etiology"], ["pixels"], draws, trees=1)
    cost = experiment.cost_table([(job, 2.0) for job in jobs])
    assert cost["jobs"].sum() == len(jobs)
    assert cost["total"].sum() == 2.0 * len(jobs)


def test_trained_networks_differ_in_the_reserves_alone(material):
    clean, leaky = (draw_manifest(material, "etiology", 1000, arm, "0") for arm in ("clean", "siblings"))
    for part in ("val", "test"):
        assert clean.parts[part] == leaky.parts[part]
    assert len(clean.parts["train"]) == len(leaky.parts["train"])
    group = dict(zip(material.ids, material.groups["series"], strict=True))
    tested = {group[image_id] for image_id in clean.parts["test"]}
    assert not tested & {group[image_id] for image_id in clean.parts["train"]}
    assert tested & {group[image_id] for image_id in leaky.parts["train"]}


def test_trained_networks_have_no_validation_where_no_patient_has_a_single_image(material):
    kept = np.flatnonzero(np.bincount(material.groups["series"])[material.groups["series"]] > 1)
    several = replace(
        material,
        ids=material.ids[kept],
        labels=material.labels[kept],
        groups={name: values[kept] for name, values in material.groups.items()},
    )
    assert set(draw_manifest(several, "etiology", 1000, "clean", "0").parts) == {"train", "test"}


def test_trained_networks_give_a_row_with_both_p_values(run, material):
    jobs = network_jobs(
        material,
        task="etiology",
        models=["simple-cnn-16"],
        seeds=[1000, 1001],
        image_size=16,
        budget=BUDGET,
        checksum=run.cohort.checksum,
    )
    rows = deep_table(material, network_cells(run, jobs), n_resamples=50)
    row = rows[rows["primary"]].iloc[0]
    assert (row["protocol"], row["model"], row["draws"]) == ("siblings", "simple-cnn-16", 2)
    assert 0 < row["p"] <= 1
    assert 0 <= row["p_bootstrap"] <= 1
    for path in (*row["predictions"].split(";"), *row["clean_predictions"].split(";")):
        assert (run.folder / path).is_file()


def test_the_reference_fault_is_replicated_and_measured_right(run):
    table = run.development()
    made = manifests(run, table, "binary", seed=42)
    assert made["no-test-set"].parts["train"] == made["no-test-set"].parts["test"]
    assert set(made["clean"].parts) == {"train", "test"}
    jobs = reference_jobs(run, table, image_size=32, budget=BUDGET, seed=42)
    jobs = [job for job in jobs if job.cell.model == "simple-cnn-32"]
    rows = reference_table(network_cells(run, jobs), n_resamples=50, seed=0).set_index("protocol")
    assert rows.loc["no-test-set", "shared_images"] == rows.loc["no-test-set", "n_images"] == len(table)
    assert rows.loc["clean", "shared_images"] == 0
    assert rows.loc["clean", "n_images"] == len(made["clean"].parts["test"])


def test_the_printed_confusion_matrix_is_the_claim_and_the_whole_training_set():
    printed = reanalysis.printed_scores()
    assert printed["films"] == 5216
    assert printed["macro_f1"] == pytest.approx(reanalysis.REPORTED[-1].score, abs=1e-4)
    assert printed["accuracy"] == pytest.approx((1299 + 3875) / 5216)


def test_every_claim_stands_beside_its_cells(tmp_path):
    assert reanalysis.claims(tmp_path, seed=42)["fault"].isna().all()  # nothing has run yet
    (tmp_path / "tables").mkdir()
    scores = [
        {"task": task, "model": "simple-cnn-16", "protocol": protocol, "seed": seed, "part": "test"}
        | {"metric": metric, "estimate": 0.1 * n, "low": 0.0, "high": 1.0, "n_images": n, "n_patients": 7}
        | {"predictions": f"predictions/{n}.csv"}
        for n, (task, protocol, seed, metric) in enumerate(
            product(["three-class", "binary"], ["clean", "image-level"], [42, 43], ["roc_auc", "macro_f1"])
        )
    ]
    pd.DataFrame(scores).to_csv(tmp_path / "tables" / "03_scores.csv", index=False)
    deep = [
        {"model": "resnet18", "protocol": protocol, "macro_f1": value, "macro_f1_low": value - 0.01}
        | {"macro_f1_high": value + 0.01, "n_images": 9, "n_patients": 3, "predictions": f"{protocol}.csv"}
        for protocol, value in (("no-test-set", 0.99), ("clean", 0.93))
    ]
    pd.DataFrame(deep).to_csv(tmp_path / "tables" / "06_reanalysis.csv", index=False)
    found = reanalysis.claims(tmp_path, seed=42)
    leaky, selected = found.iloc[0], found.iloc[-1]
    assert (leaky["right_n_images"], leaky["fault_n_images"]) == (0, 4)  # three-class, ROC AUC, seed 42
    assert leaky["fault_predictions"] == "predictions/4.csv"
    assert (selected["claim"], selected["fault"], selected["right"]) == (0.9894, 0.99, 0.93)
    assert selected["fault_high"] == pytest.approx(1.0)
    assert found.loc[2, "metric"] == "macro_f1" and found.loc[2, "fault_n_images"] == 5
    assert found.loc[[1, 3, 4, 5, 6], ["fault", "right"]].isna().all(axis=None)
