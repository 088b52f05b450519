"""The official test of a run: predicted without its labels, opened by the committed plan, and read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from leakfree.base.files import write_json, write_text
from leakfree.base.sums import renew_sums
from leakfree.data.cohort import SEALED_PART
from leakfree.data.images import decode
from leakfree.data.vocabulary import words_of
from leakfree.predict.calibrated import Calibrated
from leakfree.predict.description import DESCRIPTION, read_description
from leakfree.predict.score_images import grey_hash
from leakfree.scores.calibration import scale
from leakfree.scores.metrics import evaluate
from leakfree.scores.predictions import Predictions, read_predictions
from leakfree.split.manifest import Manifest, ManifestError
from leakfree.split.protocols import CLEAN
from leakfree_study.figures.names import model_name
from leakfree_study.figures.tables import bracketed
from leakfree_study.models.recipes import RECIPES
from leakfree_study.networks.published import Published, load_published, load_trained
from leakfree_study.networks.sealed import FOLDER, Predicted, committed, open_seal, read_plan
from leakfree_study.networks.trainings import Network
from leakfree_study.run.cells import Cell, Result
from leakfree_study.run.run import Run
from leakfree_study.run.seal_log import SealError, read_log

#: File of the plan, in the run folder.
PLAN = "sealed_plan.yaml"
#: By which weights the sealed images were predicted for an opening, beside the predictions.
PREPARED = "prepared.json"
#: Metrics in which two openings are compared.
TWO_CLASSES = ("accuracy", "roc_auc", "macro_f1", "average_precision", "sensitivity", "specificity")
MORE_CLASSES = ("accuracy", "roc_auc", "macro_f1", "average_precision", "balanced_accuracy")
#: What others report on the same 624 images, normal against pneumonia.
PUBLISHED = (
    ("Kermany et al. 2018", "accuracy", 0.928),
    ("Kermany et al. 2018", "roc_auc", 0.968),
    ("MedMNIST v2, its best", "accuracy", 0.946),
)


def trained(run: Run, task: str, recipe: str, seed: int, image_size: int) -> Result:
    """Find a network that notebook 05 of a run trained.

    Raises
    ------
    SealError
        If the run has no such cell, or its record cannot be read.
    """
    if recipe not in RECIPES:
        raise SealError(f"{task} {recipe}: unknown network; known: {', '.join(RECIPES)}")
    made, words = RECIPES[recipe], words_of(run.cohort)
    if task not in words.tasks:
        raise SealError(f"{task} {recipe}: unknown task; known: {', '.join(words.tasks)}")
    path = run.folder / "manifests" / f"05-patient-level-{task}.json"
    try:
        manifest = Manifest.load(path)
        cell = Cell(
            words.tasks[task], made.model, CLEAN, manifest, seed, image_size, words.scope, made.variant
        )
    except ManifestError as error:
        raise SealError(f"{error}; run notebook 05 first") from error
    name = cell.name(run.number)
    record = run.folder / "cells" / f"{name}.json"
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        facts, history = content["facts"], pd.DataFrame(**json.loads(content["history"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SealError(f"{record}: not the record of a trained network; run notebook 05 first") from error
    weights = run.folder / ".cache" / "weights" / f"{name}.safetensors"
    return Result(cell, run.folder / "predictions" / f"{name}.csv", history, facts, weights=weights)


def finished(run: Run, validation: pd.DataFrame) -> dict[Network, Result]:
    """Read back the networks that were compared on validation.

    Parameters
    ----------
    run : Run
    validation : pandas.DataFrame
        Table ``05_validation`` of the run: ``task, model, seed, image_size``, a row a network and metric.

    Returns
    -------
    dict of Network to Result
        In the order of the table.

    Raises
    ------
    SealError
        If the record of one cannot be read.
    """
    rows = validation[["task", "model", "seed", "image_size"]].drop_duplicates()
    plan = [Network(*row) for row in rows.itertuples(index=False, name=None)]
    return {one: trained(run, *one) for one in plan}


def predict_sealed(run: Run, result: Result, temperature: float) -> pd.DataFrame:
    """Predict the sealed images with a network's kept weights; nobody knows their labels.

    Parameters
    ----------
    run : Run
    result : Result
        As `trained`.
    temperature : float
        Probabilities are scaled by it.

    Returns
    -------
    pandas.DataFrame
        ``image_id`` and ``p_<class>``, in the order of the cohort.

    Raises
    ------
    leakfree.predict.description.PublishedError
        If the weights are gone or are others than the record says.
    """
    model, cell = load_trained(result), result.cell
    ids = run.cohort.table.loc[run.cohort.table["part"] == SEALED_PART, "image_id"].to_numpy()
    scaled = scale(model.predict(run.sealed_pixels(cell.image_size), ids, "sealed"), temperature)
    columns = {f"p_{name}": scaled[:, k] for k, name in enumerate(cell.task.classes)}
    return pd.DataFrame({"image_id": ids, **columns})


def plan_file(folder: Path, opening: int) -> Path:
    """Return where the plan of an opening is: ``sealed_plan.yaml``, ``sealed_plan_2.yaml`` and so on."""
    plan = Path(folder) / PLAN
    return plan if opening == 1 else plan.with_stem(f"{plan.stem}_{opening}")


def sealed_pixels(run: Run) -> pd.DataFrame:
    """Hash the pixels of the sealed images, so that `leakfree score` knows them in another file.

    Returns
    -------
    pandas.DataFrame
        ``image_id`` and ``grey``, `leakfree.predict.score_images.grey_hash`.
    """
    table = run.cohort.table
    rows = table.index[table["part"] == SEALED_PART].to_numpy()
    found = [
        (image_id, grey_hash(decode(blob)[1]))
        for ids, blobs in (run.cohort.iterate(rows) if len(rows) else ())
        for image_id, blob in zip(ids, blobs, strict=True)
    ]
    return pd.DataFrame(found, columns=["image_id", "grey"])


def prepare_opening(run: Run) -> list[Path]:
    """Predict the sealed images for the next opening, and write down by which weights.

    The probabilities are calibrated: scaled by each network's temperature, which moves no decision and no
    order within a binary task, but weighs the members of an ensemble.

    Parameters
    ----------
    run : Run
        Of notebook 05, with the weights that its training kept.

    Returns
    -------
    list of pathlib.Path
        What must be committed, with the plan, before `open_official`: a file of predictions for each network
        and `PREPARED`.

    Raises
    ------
    SealError, leakfree.predict.description.PublishedError
        If anything that the plan names is missing.
    """
    opening = len(read_log(run.folder)) + 1
    plan = read_plan(plan_file(run.folder, opening))
    folder = run.folder / "sealed" / str(opening)
    files: list[Path] = []
    told: dict[str, dict[str, str]] = {"weights": {}, "manifests": {}}
    for entry in plan.entries:
        for seed in entry.seeds:
            result = trained(run, entry.task, entry.model, seed, entry.image_size)
            frame = predict_sealed(run, result, Calibrated.of_cell(result).temperature)
            name = f"{entry.task}_{entry.model}_s{seed}"
            text = frame.to_csv(index=False, float_format="%.6f", lineterminator="\n")
            files.append(write_text(folder / f"{name}.csv", text))
            told["weights"][name] = str(result.facts["weights_sha256"])
            told["manifests"][entry.task] = result.cell.manifest.hash
    files.append(write_json(folder / PREPARED, told))
    renew_sums(run.folder)
    return files


def open_official(run: Run) -> pd.DataFrame:
    """Open the sealed test of a run, for all that its committed plan names.

    Parameters
    ----------
    run : Run
        Of notebook 05; what `prepare_opening` wrote is committed.

    Returns
    -------
    pandas.DataFrame
        As `leakfree_study.networks.sealed.open_seal`.

    Raises
    ------
    SealError
        If plan or predictions are missing or not committed; then nothing was opened.
    """
    opening = len(read_log(run.folder)) + 1
    path = plan_file(run.folder, opening)
    plan = read_plan(path)
    committed(path, run.project)
    folder = run.folder / "sealed" / str(opening)
    try:
        told = json.loads((folder / PREPARED).read_text(encoding="utf-8"))
        committed(folder / PREPARED, run.project)
        predictions, weights = {}, {}
        for task, model, seed in plan.cells():
            name = f"{task}_{model}_s{seed}"
            committed(folder / f"{name}.csv", run.project)
            predictions[task, model, seed] = pd.read_csv(folder / f"{name}.csv", dtype={"image_id": str})
            weights[task, model, seed] = told["weights"][name]
    except (OSError, ValueError, KeyError) as error:
        raise SealError(
            f"{folder}: the predictions of opening {opening} are not there as the plan names them ({error}); "
            "run leakfree unseal --prepare, and commit what it writes"
        ) from error
    scores = open_seal(
        run.cohort, run.folder, path, Predicted(predictions, weights, told["manifests"]), project=run.project
    )
    renew_sums(run.folder)
    return scores


def official_scores(folder: Path, opening: int = 1) -> pd.DataFrame:
    """Read the results of an opening of a run; empty where there was none.

    Returns
    -------
    pandas.DataFrame
        ``opening, date, task, model, seed, metric, estimate, low, high, n_images, n_patients, predictions``.
    """
    lines = [line for line in read_log(folder) if line["results"] and line["opening"] == opening]
    if not lines:
        return pd.DataFrame()
    (line,) = lines
    return pd.DataFrame(line["results"]).assign(opening=opening, date=line["date"])


def published_before(run: Run) -> dict[Network, tuple[Result, Callable[[], Published]]]:
    """Find the networks that notebook 05 published, with what loads each.

    Raises
    ------
    SealError, leakfree.predict.description.PublishedError
        If a description cannot be read, or its network is on no record.
    """
    found = {}
    for path in sorted((run.folder / "models").glob(f"*_{DESCRIPTION}")):
        described = read_description(path)
        label = described.path.stem.removesuffix("_leakfree")
        seed = int(json.loads(path.read_text(encoding="utf-8"))["seed"])
        one = Network(described.task, label, seed, described.image_size)
        found[one] = trained(run, *one), partial(load_published, path)
    return found


def both_openings(folder: Path, *, n_resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Score what both openings predicted, in the same metrics.

    Parameters
    ----------
    folder : pathlib.Path
        Of the run; the predictions that the openings saved are read.
    n_resamples, seed : int
        Of the bootstrap over patients.

    Returns
    -------
    pandas.DataFrame
        As `official_scores`.
    """
    frames = []
    for opening in (1, 2):
        scores = official_scores(folder, opening)
        keys = ["task", "model", "seed", "predictions", "opening", "date"]
        for key, _ in scores.groupby(keys, sort=False):
            described = dict(zip(keys, key, strict=True))
            saved = read_predictions(Path(folder) / described["predictions"])
            names = MORE_CLASSES if len(saved.classes) > 2 else TWO_CLASSES
            found = evaluate(saved, names, n_resamples=n_resamples, seed=seed)
            columns = ["metric", "estimate", "low", "high", "n_images", "n_patients"]
            frames.append(found[columns].assign(**described))
    return pd.concat(frames, ignore_index=True)


def goals_told(folder: Path, opening: int) -> pd.DataFrame:
    """Set the results of an opening beside the goals of its plan, which are those of a task's first model.

    Returns
    -------
    pandas.DataFrame
        ``task, network, metric, goal, estimate, low, high`` and ``told``: ``met`` or ``missed``, by the
        estimate.
    """
    plan, scores = read_plan(plan_file(folder, opening)), official_scores(folder, opening)
    rows = []
    for task, goals in plan.goals.items():
        model = next(entry.model for entry in plan.entries if entry.task == task)
        for metric, goal in goals.items():
            asked = (scores["task"] == task) & (scores["model"] == model) & (scores["metric"] == metric)
            for row in scores[asked].itertuples():
                which = "ensemble" if row.seed == "ensemble" else f"seed {row.seed}"
                rows.append(
                    {
                        "task": task,
                        "network": f"{row.model}, {which}",
                        "metric": metric,
                        "goal": goal,
                        "estimate": row.estimate,
                        "low": row.low,
                        "high": row.high,
                        "told": "met" if row.estimate >= goal else "missed",
                    }
                )
    return pd.DataFrame(rows)


def official_predictions(folder: Path, task: str, model: str, seed: object) -> Predictions:
    """Read labelled, calibrated predictions of the sealed test; the seed may be ``ensemble``."""
    name = f"{task}_{model}_{'' if seed == 'ensemble' else 's'}{seed}.csv"
    return read_predictions(Path(folder) / FOLDER / name)


def selected_scores(scores: pd.DataFrame, opened: pd.DataFrame) -> pd.DataFrame:
    """Set the scores of what validation selected beside the same on the official test.

    Parameters
    ----------
    scores : pandas.DataFrame
        Table ``05_scores`` of a run.
    opened : pandas.DataFrame
        As `official_scores`; may be empty.

    Returns
    -------
    pandas.DataFrame
        Rows of `scores` that are selected, with ``official_estimate, official_low, official_high,
        official_n_images, official_n_patients``; NaN where the opening did not score them.
    """
    keys = ["task", "model", "seed", "metric"]
    values = ["estimate", "low", "high", "n_images", "n_patients"]
    chosen = scores[scores["selected"]].assign(seed=scores["seed"].astype(str))
    there = (opened if len(opened) else pd.DataFrame(columns=[*keys, *values]))[[*keys, *values]]
    there = there.astype({**dict.fromkeys(keys, str), **dict.fromkeys(values, float)})
    there = there.rename(columns={name: f"official_{name}" for name in values})
    return chosen.merge(there, how="left", on=keys, validate="one_to_one")


def beside_published(scores: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Set ensembles of the binary task beside what others report on the same images.

    Parameters
    ----------
    scores : pandas.DataFrame
        As `official_scores`.
    names : mapping of str to str
        Model to what the table calls it.

    Returns
    -------
    pandas.DataFrame
        ``who, metric, estimate, low, high, n_images``; others give no interval.
    """
    ours = scores[
        (scores["task"] == "binary")
        & (scores["seed"].astype(str) == "ensemble")
        & scores["metric"].isin({metric for _, metric, _ in PUBLISHED})
    ]
    ours = ours.assign(who=[names.get(model, model) for model in ours["model"]])
    theirs = pd.DataFrame(PUBLISHED, columns=["who", "metric", "estimate"])
    columns = ["who", "metric", "estimate", "low", "high", "n_images"]
    return pd.concat([theirs, ours], ignore_index=True).reindex(columns=columns)


def both_tests(internal: pd.DataFrame, opened: pd.DataFrame) -> pd.DataFrame:
    """Put the scores of the internal and of the official test under each other, model by model.

    Parameters
    ----------
    internal : pandas.DataFrame
        Rows of ``05_scores``: one for each model and metric.
    opened : pandas.DataFrame
        As `official_scores`. Of a model with several networks its ensemble is taken.
    """
    official = whole_models(opened)
    both = pd.concat([internal.assign(test="internal"), official.assign(test="official")], ignore_index=True)
    return both.sort_values(["task", "model"], kind="stable")


def whole_models(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of each model's ensemble, or of its network where it has only one."""
    alone = scores.groupby(["task", "model"])["seed"].transform("nunique") == 1
    return scores[(scores["seed"] == "ensemble") | alone]


def official_rows(internal: pd.DataFrame, opened: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of the official test with what is known of each network from the internal one.

    Parameters
    ----------
    internal : pandas.DataFrame
        Table ``05_scores`` of a run.
    opened : pandas.DataFrame
        As `official_scores`; may be empty.

    Returns
    -------
    pandas.DataFrame
        The columns of `internal`; empty where nothing was opened.
    """
    if opened.empty:
        return internal.iloc[:0]
    keys = ["task", "model", "seed", "metric"]
    known = internal.assign(seed=internal["seed"].astype(str)).drop(
        columns=set(opened) - set(keys), errors="ignore"
    )
    return opened.assign(seed=opened["seed"].astype(str)).merge(known, on=keys)[list(internal)]


def leak_or_shift(folder: Path, selected: pd.DataFrame, trained: Iterable[Result]) -> str:
    """Say what could make a score change from the internal test to the official one.

    Parameters
    ----------
    folder : pathlib.Path
        Of a run, with the audit of its official parts.
    selected : pandas.DataFrame
        As `selected_scores`.
    trained : iterable of Result
        All networks, whose ledgers know what training and test shared.

    Returns
    -------
    str
        Words of the audit are in it as they are: escape it.
    """
    report = Path(folder) / "audit" / "official-parts.json"
    if not report.is_file():
        return "Notebook 02 has not run in this run folder, so its search for shift is not here."
    checks = json.loads(report.read_text(encoding="utf-8"))["checks"]
    told = f"Official parts: {checks['shift']['status']}. {checks['shift']['summary']}"
    scored = selected[(selected["metric"] == "roc_auc") & selected["official_estimate"].notna()]
    if len(scored):
        falls = [
            f"{row.task} {row.official_estimate - row.estimate:+.3f} "
            f"(from {row.estimate:.3f} to {row.official_estimate:.3f})"
            for row in scored.itertuples()
        ]
        told += f" ROC AUC of the selected models from the internal to the official test: {', '.join(falls)}."
    shared = [result.facts["shared_groups"] for result in trained]
    return told + (
        f" Could a leak explain a change? Between the official parts the audit says: "
        f"{checks['patients']['summary']} {checks['linked_groups']['summary']} Between the parts of the "
        f"internal split the ledgers of {len(shared)} networks found {sum(shared)} shared linked groups."
    )


def summary(selected: pd.DataFrame) -> str:
    """List what the selected models score on both tests, as Markdown; without a test that is sealed.

    Parameters
    ----------
    selected : pandas.DataFrame
        As `selected_scores`.
    """
    lines = []
    for task, rows in selected.groupby("task", sort=False):
        for test, before in (("internal", ""), ("official", "official_")):
            columns = [f"{before}{name}" for name in ("estimate", "low", "high", "n_images", "n_patients")]
            found = rows.set_index("metric")[columns]
            if found.isna().any(axis=None):
                continue  # not in the plan, or sealed
            shown = bracketed(found.set_axis(["estimate", "low", "high", "images", "patients"], axis=1))
            lines.append(
                f"- **{task}**, {test}: {model_name(rows['model'].iloc[0])} ({rows['weights'].iloc[0]}), "
                f"accuracy {shown['accuracy']}, ROC AUC {shown['roc_auc']}, macro F1 {shown['macro_f1']}, on "
                f"{int(found.iloc[0, 3]):,} images of {int(found.iloc[0, 4]):,} patients."
            )
    return "\n".join(lines)
