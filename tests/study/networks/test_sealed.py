"""The seal: no labels without a committed plan and a line in the log; results can be computed again."""

import json
import subprocess

import numpy as np
import pandas as pd
import pytest
import yaml

from deferred import deferred
from leakfree.data.cohort import CohortError, ingest
from leakfree.data.tasks import TASKS
from leakfree.scores.predictions import read_predictions

with deferred:
    from sklearn.metrics import accuracy_score, roc_auc_score

    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree_study.networks import sealed
    from leakfree_study.networks.sealed import Predicted, committed, open_seal, read_plan
    from leakfree_study.run.seal_log import SealError, read_log, verify_log

ENTRIES = [
    {"task": "binary", "model": "resnet18", "image_size": 24, "seeds": [1, 2]},
    {"task": "three-class", "model": "resnet18", "image_size": 24, "seeds": [1], "ensemble": False},
]


def git(project, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(
        ["git", *identity, "-C", str(project), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    source = PhantomSource(PhantomSettings(n_images=120, size=24, test_share=0.3))
    return ingest(source, tmp_path_factory.mktemp("sealed") / "store")


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


@pytest.fixture
def plan(project, cohort):
    path = project / "plan.yaml"
    content = {
        "written": "2026-01-01",
        "cohort": cohort.checksum,
        "chosen_by": "validation",
        "entries": ENTRIES,
        "metrics": ["accuracy", "roc_auc"],
        "resamples": 100,
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    git(project, "add", "plan.yaml")
    git(project, "commit", "-qm", "plan")
    return path


@pytest.fixture
def given(cohort):
    ids = cohort.table.loc[cohort.table["part"] == "test", "image_id"].to_numpy()
    rng = np.random.default_rng(0)
    frames = {}
    for entry in ENTRIES:
        for seed in entry["seeds"]:
            classes = TASKS[entry["task"]].classes
            p = rng.dirichlet(np.ones(len(classes)), size=len(ids))
            order = rng.permutation(len(ids))
            columns = {f"p_{name}": p[:, k] for k, name in enumerate(classes)}
            frames[entry["task"], "resnet18", seed] = pd.DataFrame({"image_id": ids[order], **columns})
    return {
        "predictions": frames,
        "weights": {key: "0" * 64 for key in frames},
        "manifests": {"binary": "a", "three-class": "b"},
    }


def true_labels(cohort, ids):
    """The phantom's names tell the folder, and so the binary label."""
    return np.array(["PNEUMONIA" in image_id for image_id in ids]).astype(int)


def test_labels_stay_in_the_cohort_without_a_waiting_line(cohort, tmp_path):
    log = tmp_path / sealed.SEALED_LOG
    for content in (None, "", "{", '{"cohort": "another", "results": null}', "[]"):
        if content is not None:
            log.write_text(content, encoding="utf-8")
        with pytest.raises(CohortError, match="labels of part test are sealed"):
            cohort.unseal(log)
    log.write_text(json.dumps({"cohort": cohort.checksum, "results": [1]}), encoding="utf-8")
    with pytest.raises(CohortError, match="sealed"):
        cohort.unseal(log)


def test_one_opening_scores_everything_and_leaves_a_line(cohort, project, plan, given, tmp_path):
    run = tmp_path / "run"
    table = open_seal(cohort, run, plan, Predicted(**given), project=project)
    assert sorted(set(zip(table["task"], table["seed"], strict=True))) == [
        ("binary", "1"), ("binary", "2"), ("binary", "ensemble"), ("three-class", "1"),
    ]  # fmt: skip
    (line,) = read_log(run)
    assert (line["opening"], line["plan_commit"]) == (1, git(project, "rev-parse", "HEAD"))
    assert line["results"] == table.to_dict("records")
    assert set(line["weights"]) == {"binary resnet18 s1", "binary resnet18 s2", "three-class resnet18 s1"}
    assert verify_log(run) == []
    # The numbers are those of scikit-learn on the labels that the names tell.
    frame = given["predictions"]["binary", "resnet18", 2]
    truth = true_labels(cohort, frame["image_id"])
    row = table[(table["task"] == "binary") & (table["seed"] == "2")].set_index("metric")["estimate"]
    assert row["accuracy"] == pytest.approx(accuracy_score(truth, frame["p_pneumonia"] > 0.5))
    assert row["roc_auc"] == pytest.approx(roc_auc_score(truth, frame["p_pneumonia"]), abs=1e-4)
    both = [
        given["predictions"]["binary", "resnet18", s].set_index("image_id")["p_pneumonia"] for s in (1, 2)
    ]
    mean = read_predictions(run / sealed.FOLDER / "binary_resnet18_ensemble.csv")
    expected = ((both[0] + both[1]) / 2).loc[mean.image_ids]
    assert mean.probabilities[:, 1] == pytest.approx(expected.to_numpy(), abs=1e-6)


def test_a_second_opening_is_a_second_line(cohort, project, plan, given, tmp_path):
    first = open_seal(cohort, tmp_path, plan, Predicted(**given), project=project)
    second = open_seal(cohort, tmp_path, plan, Predicted(**given), project=project)
    lines = read_log(tmp_path)
    assert [line["opening"] for line in lines] == [1, 2]
    pd.testing.assert_frame_equal(first, second)


def test_an_opening_that_dies_is_on_record(cohort, project, plan, given, tmp_path, monkeypatch):
    monkeypatch.setattr(sealed, "evaluate", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        open_seal(cohort, tmp_path, plan, Predicted(**given), project=project)
    (line,) = read_log(tmp_path)
    assert line["results"] is None
    assert verify_log(tmp_path) == [f"{sealed.SEALED_LOG}, opening 1: was never completed"]


def test_nothing_is_opened_before_the_plan_is_committed(cohort, project, plan, given, tmp_path):
    plan.write_text(plan.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
    with pytest.raises(SealError, match=r"plan\.yaml: differs from what is committed"):
        open_seal(cohort, tmp_path, plan, Predicted(**given), project=project)
    git(project, "rm", "-q", "--cached", "plan.yaml")
    git(project, "commit", "-qm", "gone")
    with pytest.raises(SealError, match="commit the plan before"):
        open_seal(cohort, tmp_path, plan, Predicted(**given), project=project)
    assert read_log(tmp_path) == []


def test_a_plan_that_git_ignores_was_never_committed(project, plan):
    """To git, nothing has changed then."""
    (project / ".gitignore").write_text("other.yaml\n", encoding="utf-8")
    git(project, "add", ".gitignore")
    git(project, "commit", "-qm", "ignored")
    other = project / "other.yaml"
    other.write_bytes(plan.read_bytes())
    with pytest.raises(SealError, match=r"^other\.yaml: was never committed"):
        sealed.committed(other, project)
    assert sealed.committed(plan, project) == git(project, "rev-parse", "HEAD~1")


ONE, TWO, THREE = ("binary", "resnet18", 1), ("binary", "resnet18", 2), ("three-class", "resnet18", 1)


def no_predictions(given):
    del given["predictions"][TWO]


def no_weights(given):
    del given["weights"][ONE]


def more_weights(given):
    given["weights"]["binary", "other", 1] = "0"


def no_manifest(given):
    del given["manifests"]["binary"]


def fewer_images(given):
    given["predictions"][ONE] = given["predictions"][ONE].iloc[1:]


def another_task(given):
    given["predictions"][ONE] = given["predictions"][THREE]


def no_numbers(given):
    given["predictions"][ONE]["p_normal"] = np.nan


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (no_predictions, "binary resnet18 s2: the plan names it, but it has no predictions"),
        (no_weights, "binary resnet18 s1: the plan names it, but it has no weights"),
        (more_weights, "binary other s1: has weights, but the plan does not name it"),
        (no_manifest, "binary: no manifest is named"),
        (fewer_images, "does not predict exactly the 36 sealed images"),
        (another_task, "needs the columns image_id, p_normal, p_pneumonia"),
        (no_numbers, "a probability is not a number"),
    ],
)
def test_what_the_plan_does_not_cover_keeps_the_seal_closed(
    change, reason, cohort, project, plan, given, tmp_path
):
    change(given)
    with pytest.raises(SealError, match=reason):
        open_seal(cohort, tmp_path, plan, Predicted(**given), project=project)
    assert read_log(tmp_path) == []


def test_another_cohort_is_refused(cohort, project, plan, given, tmp_path):
    content = yaml.safe_load(plan.read_text(encoding="utf-8")) | {"cohort": "f" * 64}
    plan.write_text(yaml.safe_dump(content), encoding="utf-8")
    git(project, "commit", "-qam", "another cohort")
    with pytest.raises(SealError, match="is for cohort ffffffffffff, this is"):
        open_seal(cohort, tmp_path, plan, Predicted(**given), project=project)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"metrics": ["luck"]}, "unknown metric luck"),
        ({"entries": [ENTRIES[0], ENTRIES[0]]}, "named twice"),
        ({"entries": [{**ENTRIES[0], "seeds": [1, 1]}]}, "a seed is named twice"),
    ],
)
def test_a_plan_is_checked(change, reason, plan):
    content = yaml.safe_load(plan.read_text(encoding="utf-8")) | change
    plan.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(SealError, match=reason):
        read_plan(plan)


def test_a_plan_of_a_task_that_the_cohort_has_not_opens_nothing(cohort, plan, given, project, tmp_path):
    content = yaml.safe_load(plan.read_text(encoding="utf-8"))
    content["entries"][0]["task"] = "age"
    plan.write_text(yaml.safe_dump(content), encoding="utf-8")
    git(project, "commit", "-qam", "another task")
    with pytest.raises(SealError, match="unknown task age; known: binary, etiology, three-class"):
        open_seal(cohort, tmp_path, plan, Predicted(**given), project=project)
    assert not (tmp_path / sealed.SEALED_LOG).exists()


def test_a_plan_that_is_none(tmp_path):
    with pytest.raises(SealError, match="No such file"):
        read_plan(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(SealError, match="not YAML"):
        read_plan(tmp_path / "bad.yaml")


def test_changed_results_and_files_are_found(cohort, project, plan, given, tmp_path):
    open_seal(cohort, tmp_path, plan, Predicted(**given), project=project)
    (line,) = read_log(tmp_path)
    line["results"][0]["estimate"] += 0.01
    (tmp_path / sealed.SEALED_LOG).write_text(json.dumps(line) + "\n", encoding="utf-8")
    file = tmp_path / sealed.FOLDER / "binary_resnet18_s2.csv"
    file.write_text(file.read_text(encoding="utf-8").replace("0.", "0.0", 1), encoding="utf-8")
    found = verify_log(tmp_path)
    assert any("binary_resnet18_s2.csv is missing or was changed" in reason for reason in found)
    assert any("accuracy of predictions/sealed/binary_resnet18_s1.csv is" in reason for reason in found)
    (tmp_path / sealed.SEALED_LOG).write_text("{\n", encoding="utf-8")
    with pytest.raises(SealError, match="a line is not JSON"):
        read_log(tmp_path)


def test_a_plan_outside_the_repository_cannot_be_committed(project, tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.touch()
    with pytest.raises(SealError, match=r"plan\.yaml: lies outside the repository project"):
        committed(plan, project)
