"""The official test of a run: predicted by kept weights, opened by the plan, read back as it was."""

import json
import subprocess

import numpy as np
import pandas as pd
import pytest
import yaml

from deferred import deferred
from leakfree.base.files import file_hash
from leakfree.cli import main
from leakfree.data.cohort import ingest
from leakfree.predict.calibrated import Calibrated

with deferred:
    from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
    from leakfree.predict.description import PublishedError
    from leakfree_study.networks import official
    from leakfree_study.networks.deep import TrainingSettings, five_parts, network_job
    from leakfree_study.networks.official import open_official, predict_sealed, prepare_opening, trained
    from leakfree_study.run.cells import network_cells
    from leakfree_study.run.run import open_run
    from leakfree_study.run.seal_log import SealError, predictions_digest, read_log, verify_log

SIZE, MODEL = 16, "simple-cnn-32"
METRICS = ["accuracy", "roc_auc"]


def git(project, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, "-C", str(project), *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A project with a run of two trained networks and a committed plan for both; the seal is closed."""
    folder = tmp_path_factory.mktemp("official")
    source = PhantomSource(PhantomSettings(n_images=300, size=24, test_share=0.25))
    ingest(source, folder / "store")
    project = folder / "project"
    (project / "notebooks").mkdir(parents=True)
    (project / "run_all.py").touch()
    run_folder = project / "artifacts"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv("LEAKFREE_CACHE", str(folder / "cache"))
        run = open_run("05_leakfree_deep", data=str(folder / "store"), run_dir=str(run_folder), jobs=1)
        manifest = five_parts(run, "binary")
        jobs = [network_job("binary", MODEL, manifest, s, TrainingSettings(SIZE, 2, 16)) for s in (1, 2)]
        results = network_cells(run, jobs)
        plan = {
            "written": "2026-01-01",
            "cohort": run.cohort.checksum,
            "chosen_by": "validation",
            "entries": [{"task": "binary", "model": MODEL, "image_size": SIZE, "seeds": [1, 2]}],
            "metrics": METRICS,
            "resamples": 100,
        }
        (run_folder / official.PLAN).write_text(yaml.safe_dump(plan), encoding="utf-8")
        git(project, "init", "-q")
        yield run, results


@pytest.fixture
def committed(prepared):
    run, results = prepared
    git(run.project, "add", "-f", f"artifacts/{official.PLAN}")
    git(run.project, "commit", "-q", "--allow-empty", "-m", "plan")
    return run, results


def test_a_cell_is_found_again_by_its_record(prepared):
    run, results = prepared
    found = trained(run, "binary", MODEL, 1, SIZE)
    assert (found.cell, found.facts, found.weights) == (results[0].cell, results[0].facts, results[0].weights)
    assert found.history.equals(results[0].history)
    for wrong in (
        ("binary", MODEL, 3, SIZE),
        ("three-class", MODEL, 1, SIZE),
        ("binary", "resnet99", 1, SIZE),
    ):
        with pytest.raises(SealError, match=r"run notebook 05 first|unknown network; known"):
            trained(run, *wrong)
    with pytest.raises(SealError, match=r"^age \S+: unknown task; known: .*binary"):
        trained(run, "age", MODEL, 1, SIZE)


def test_what_validation_compared_is_read_back_once_each_in_its_order(prepared):
    run, results = prepared
    rows = [("binary", MODEL, seed, SIZE, metric) for seed in (2, 1) for metric in ("accuracy", "roc_auc")]
    table = pd.DataFrame(rows, columns=["task", "model", "seed", "image_size", "metric"])
    found = official.finished(run, table)
    assert [one.seed for one in found] == [2, 1]
    assert [result.cell for result in found.values()] == [results[1].cell, results[0].cell]
    assert next(iter(found)) == ("binary", MODEL, 2, SIZE)
    with pytest.raises(SealError, match="run notebook 05 first"):
        official.finished(run, table.assign(seed=3))


def test_sealed_images_are_predicted_once_each_without_labels(prepared):
    run, results = prepared
    temperature = Calibrated.of_cell(results[0]).temperature
    frame = predict_sealed(run, results[0], temperature)
    sealed = run.cohort.table[run.cohort.table["part"] == "test"]
    assert frame["image_id"].tolist() == sealed["image_id"].tolist()
    assert frame.columns.tolist() == ["image_id", "p_normal", "p_pneumonia"]
    assert frame[["p_normal", "p_pneumonia"]].sum(axis=1).to_numpy() == pytest.approx(1)
    hot = predict_sealed(run, results[0], 100.0)
    sure, flat = ((f["p_normal"] - 0.5).abs().max() for f in (frame, hot))
    assert flat < 0.1 * sure
    # An image's prediction depends on its own pixels: those of the test are no development images.
    assert not set(frame["image_id"]) & set(run.cohort.development()["image_id"])


def test_nothing_is_opened_without_a_committed_plan(prepared):
    run, _ = prepared
    with pytest.raises(SealError, match="commit the plan before the seal is opened"):
        open_official(run)
    assert read_log(run.folder) == []
    assert official.official_scores(run.folder).empty


def test_weights_that_are_gone_prepare_nothing(committed):
    run, results = committed
    kept = results[1].weights
    away = kept.rename(kept.with_suffix(".away"))
    try:
        with pytest.raises(PublishedError, match="train again, taking nothing over"):
            prepare_opening(run)
    finally:
        away.rename(kept)
    with pytest.raises(SealError, match="are not there as the plan names them"):
        open_official(run)
    assert read_log(run.folder) == []


def test_predictions_that_are_not_committed_keep_it_closed(committed):
    run, _ = committed
    files = prepare_opening(run)
    assert sorted(path.name for path in files) == [
        f"binary_{MODEL}_s1.csv", f"binary_{MODEL}_s2.csv", official.PREPARED,
    ]  # fmt: skip
    with pytest.raises(
        SealError, match=r"prepared\.json: was never committed|differs from what is committed"
    ):
        open_official(run)
    assert read_log(run.folder) == []


def commit_prepared(run, opening):
    git(
        run.project,
        "add",
        "-f",
        "artifacts/sealed",
        f"artifacts/{official.plan_file(run.folder, opening).name}",
    )
    git(run.project, "commit", "-q", "-m", "predictions")


def test_one_opening_by_the_command(committed, capsys, monkeypatch):
    run, results = committed
    # So few images give no temperature of their own; each network is to be scaled by its own.
    heat = {result.predictions: float(2 + place) for place, result in enumerate(results)}
    monkeypatch.setattr(
        official.Calibrated, "of_cell", lambda result: Calibrated(heat[result.predictions], None)
    )
    arguments = ["unseal", str(run.folder), "--data", str(run.data)]
    assert main([*arguments, "--prepare"]) == 0
    assert "commit it before the opening" in capsys.readouterr().out
    commit_prepared(run, 1)
    changed = run.folder / "sealed" / "1" / f"binary_{MODEL}_s1.csv"
    kept = changed.read_bytes()
    changed.write_bytes(kept.replace(b"0.", b"0.0", 1))
    with pytest.raises(SealError, match="differs from what is committed"):
        open_official(run)
    changed.write_bytes(kept)
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "ensemble" in said and MODEL in said
    scores = official.official_scores(run.folder)
    assert set(scores["seed"]) == {"1", "2", "ensemble"}
    assert set(scores["metric"]) == set(METRICS)
    (line,) = read_log(run.folder)
    assert line["weights"][f"binary {MODEL} s1"] == results[0].facts["weights_sha256"]
    assert line["manifests"] == {"binary": results[0].cell.manifest.hash}
    mine = official.official_predictions(run.folder, "binary", MODEL, 1)
    expected = predict_sealed(run, results[0], 2.0)
    saved = dict(zip(mine.image_ids, mine.probabilities[:, 1], strict=True))
    assert [saved[i] for i in expected["image_id"]] == pytest.approx(expected["p_pneumonia"], abs=1e-6)
    together = official.official_predictions(run.folder, "binary", MODEL, "ensemble")
    other = official.official_predictions(run.folder, "binary", MODEL, 2)
    mean = (mine.probabilities + other.probabilities) / 2
    assert together.probabilities == pytest.approx(mean, abs=2e-6)
    # The predictions that were committed are those that the log names.
    assert verify_log(run.folder) == []
    changed.write_bytes(kept.replace(b"0.", b"0.0", 1))
    assert any("was changed" in reason for reason in verify_log(run.folder))
    changed.write_bytes(kept)


def test_a_second_opening_has_a_plan_of_its_own_and_is_a_second_line(committed):
    run, _ = committed
    if not read_log(run.folder):
        pytest.skip("the first opening is made by the test before")
    with pytest.raises(SealError, match=r"sealed_plan_2\.yaml: No such file"):
        open_official(run)
    plan = yaml.safe_load((run.folder / official.PLAN).read_text(encoding="utf-8"))
    plan |= {
        "metrics": ["sensitivity", "accuracy"],
        "goals": {"binary": {"accuracy": 0.0, "sensitivity": 1.1}},
    }
    official.plan_file(run.folder, 2).write_text(yaml.safe_dump(plan), encoding="utf-8")
    prepare_opening(run)
    commit_prepared(run, 2)
    open_official(run)
    assert [entry["opening"] for entry in read_log(run.folder)] == [1, 2]
    assert set(official.official_scores(run.folder)["opening"]) == {1}
    assert set(official.official_scores(run.folder, 2)["metric"]) == {"sensitivity", "accuracy"}
    goals = official.goals_told(run.folder, 2)
    assert len(goals) == 6 and dict(zip(goals["metric"], goals["told"], strict=True)) == {
        "accuracy": "met", "sensitivity": "missed",
    }  # fmt: skip
    both = official.both_openings(run.folder, n_resamples=50)
    assert both.groupby("opening")["seed"].unique().map(list).to_dict() == {
        1: ["1", "2", "ensemble"], 2: ["1", "2", "ensemble"],
    }  # fmt: skip
    assert {"sensitivity", "specificity", "roc_auc"} <= set(both["metric"])


def test_a_closed_seal_is_one_line_and_exit_code_two(prepared, capsys, tmp_path):
    run, _ = prepared
    assert main(["unseal", str(tmp_path), "--data", str(run.data)]) == 2
    assert "sealed_plan.yaml: No such file" in capsys.readouterr().err


def test_ensembles_stand_beside_what_is_published():
    rows = [
        {"task": task, "model": "resnet18", "seed": seed, "metric": metric, "estimate": 0.5, "low": 0.4,
         "high": 0.6, "n_images": 9}
        for task in ("binary", "three-class") for seed in ("1", "ensemble")
        for metric in ("accuracy", "macro_f1")
    ]  # fmt: skip
    found = official.beside_published(pd.DataFrame(rows), {"resnet18": "ours"})
    assert found["who"].tolist() == [*(who for who, *_ in official.PUBLISHED), "ours"]
    assert np.isnan(found["low"][:3]).all() and found["low"].iloc[3] == 0.4


def test_each_published_opening_rests_on_what_was_committed_before(repository):
    """Plan, weights and predictions without labels are in strict ancestors of the commit with the results."""
    folder = repository / "artifacts" / "chest_xray"
    log = "artifacts/chest_xray/sealed_test.jsonl"

    def told(*arguments):
        done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True)
        return done.stdout.strip()

    lines = read_log(folder)
    if not lines or not told("log", "-1", "--format=%H", "--", log):
        pytest.skip("the published run has no opening in this history")
    if told("rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("the history was cut off: it cannot say what came first")
    for line in lines:
        brought = told("log", "--format=%H", "-S", f'"opening": {line["opening"]},', "--", log).splitlines()[
            -1
        ]
        plan = official.plan_file(folder, line["opening"])
        prepared = folder / "sealed" / str(line["opening"])
        before = [line["plan_commit"]]
        if line["opening"] > 1:  # of the first, weights and predictions were not committed before
            names = [prepared / f"{name.replace(' ', '_')}.csv" for name in line["unlabelled_predictions"]]
            for path in (*names, prepared / official.PREPARED):
                before.append(told("log", "-1", "--format=%H", "--", path.relative_to(repository).as_posix()))
            kept = json.loads((prepared / official.PREPARED).read_text(encoding="utf-8"))["weights"]
            assert {name.replace("_", " "): sha for name, sha in kept.items()} == {
                name.replace("_", " "): sha for name, sha in line["weights"].items()
            }
            for name, path in zip(line["unlabelled_predictions"], names, strict=True):
                frame = pd.read_csv(path, dtype={"image_id": str})
                assert predictions_digest(frame) == line["unlabelled_predictions"][name]
                assert "label" not in frame
        for commit in set(before):
            asked = ["merge-base", "--is-ancestor", commit, f"{brought}~1"]
            assert subprocess.run(["git", "-C", str(repository), *asked]).returncode == 0
        file = plan.relative_to(repository).as_posix()
        assert told("rev-parse", f"{line['plan_commit']}:{file}") == told("hash-object", file)
        assert file_hash(plan) == line["plan"]


def test_what_was_selected_stands_beside_its_official_score():
    def rows(seeds, selected=None):
        made = pd.DataFrame(
            [
                {"task": "binary", "model": m, "seed": s, "metric": k, "estimate": v, "low": v, "high": v,
                 "n_images": 9, "n_patients": 8}
                for m, s, v in seeds for k in ("accuracy", "roc_auc")
            ]
        )  # fmt: skip
        return made if selected is None else made.assign(selected=[m == selected for m in made["model"]])

    scores = rows([("a", "ensemble", 0.9), ("b", 42, 0.8)], selected="b")
    opened = rows([("a", "ensemble", 0.7), ("b", "42", 0.6), ("b", "43", 0.5)])
    found = official.selected_scores(scores, opened)
    assert found[["model", "seed", "estimate", "official_estimate"]].to_numpy().tolist() == [
        ["b", "42", 0.8, 0.6],
        ["b", "42", 0.8, 0.6],
    ]
    for without in (pd.DataFrame(), opened[opened["model"] == "a"]):
        found = official.selected_scores(scores, without)
        assert len(found) == 2 and found["official_estimate"].isna().all()


def selected_rows(**changed):
    rows = [
        ("binary", "accuracy", 0.95, 0.90),
        ("binary", "roc_auc", 0.99, 0.97),
        ("binary", "macro_f1", 0.94, 0.88),
    ]
    table = pd.DataFrame(rows, columns=["task", "metric", "estimate", "official_estimate"])
    for before, n in (("", 1000), ("official_", 624)):
        estimate = table[f"{before}estimate"]
        table = table.assign(
            **{
                f"{before}low": estimate - 0.01,
                f"{before}high": estimate + 0.01,
                f"{before}n_images": n,
                f"{before}n_patients": n // 2,
            }
        )
    return table.assign(model="resnet18", weights="scratch", **changed)


def test_the_summary_has_a_line_for_each_test_that_was_scored():
    lines = official.summary(selected_rows()).splitlines()
    assert lines == [
        "- **binary**, internal: ResNet18 (scratch), accuracy 0.950 (0.940 to 0.960), ROC AUC 0.990 "
        "(0.980 to 1.000), "
        "macro F1 0.940 (0.930 to 0.950), on 1,000 images of 500 patients.",
        "- **binary**, official: ResNet18 (scratch), accuracy 0.900 (0.890 to 0.910), ROC AUC 0.970 "
        "(0.960 to 0.980), "
        "macro F1 0.880 (0.870 to 0.890), on 624 images of 312 patients.",
    ]
    assert official.summary(selected_rows(official_low=np.nan)).splitlines() == lines[:1]


def test_of_a_model_with_several_networks_both_tests_show_the_ensemble():
    opened = pd.DataFrame(
        [("binary", "resnet18", seed, 0.9) for seed in ("1", "2", "ensemble")]
        + [("binary", "simple-cnn-32", "1", 0.8)],
        columns=["task", "model", "seed", "estimate"],
    )
    internal = pd.DataFrame(
        {"task": "binary", "model": ["simple-cnn-32", "resnet18"], "seed": [1, "ensemble"]}
    )
    both = official.both_tests(internal, opened)
    assert both[["model", "seed", "test"]].to_numpy().tolist() == [
        ["resnet18", "ensemble", "internal"], ["resnet18", "ensemble", "official"],
        ["simple-cnn-32", 1, "internal"], ["simple-cnn-32", "1", "official"],
    ]  # fmt: skip


def test_official_scores_have_what_is_known_of_their_network():
    internal = pd.DataFrame(
        [("binary", "net", seed, "accuracy", 0.9, "scratch", f"in_{seed}") for seed in (1, 2)],
        columns=["task", "model", "seed", "metric", "estimate", "weights", "predictions"],
    )
    opened = (
        internal.drop(columns="weights").iloc[1:].assign(estimate=0.7, seed="2", predictions="out", opening=1)
    )
    rows = official.official_rows(internal, opened)
    assert list(rows) == list(internal)
    assert rows.iloc[0].tolist() == ["binary", "net", "2", "accuracy", 0.7, "scratch", "out"]
    assert len(rows) == 1 and official.official_rows(internal, pd.DataFrame()).empty


def test_leak_or_shift_quotes_the_audit_and_counts_what_the_ledgers_found(tmp_path):
    networks = [type("R", (), {"facts": {"shared_groups": n}}) for n in (0, 3)]
    assert official.leak_or_shift(tmp_path, selected_rows(), networks).startswith("Notebook 02 has not run")
    checks = {
        name: {"status": "ok", "summary": f"{name} said."} for name in ("shift", "patients", "linked_groups")
    }
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / "official-parts.json").write_text(json.dumps({"checks": checks}))
    text = official.leak_or_shift(tmp_path, selected_rows(), iter(networks))
    assert text == (
        "Official parts: ok. shift said. ROC AUC of the selected models from the internal to the "
        "official test: "
        "binary -0.020 (from 0.990 to 0.970). Could a leak explain a change? Between the official "
        "parts the audit "
        "says: patients said. linked_groups said. Between the parts of the internal split the "
        "ledgers of 2 networks "
        "found 3 shared linked groups."
    )
    sealed = official.leak_or_shift(tmp_path, selected_rows(official_estimate=np.nan), networks)
    assert "ROC AUC" not in sealed
