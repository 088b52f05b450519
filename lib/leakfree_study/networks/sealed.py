"""The official test part, opened on the record: a committed plan, one opening, a line in a log.

Everything that will be scored is named in a plan that is committed first, and predicts the sealed images
before anybody knows their labels. `open_seal` then writes a line to the log, only after that takes the labels
out of the cohort, scores all that the plan names, and completes the line. A second opening is a second line.
"""

from __future__ import annotations

import datetime
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from leakfree.base.files import file_hash
from leakfree.base.provenance import git_state
from leakfree.data.cohort import SEALED_PART, Cohort
from leakfree.data.patients import patient_ids
from leakfree.data.tasks import Task
from leakfree.data.vocabulary import words_of
from leakfree.scores.metrics import METRICS, RATES, evaluate
from leakfree.scores.predictions import (
    check_predictions,
    save_predictions,
)
from leakfree_study.run.ensemble import mean_predictions
from leakfree_study.run.seal_log import SEALED_LOG, SealError, predictions_digest, read_log, write_log

#: Folder of labelled predictions, in the run folder.
FOLDER = "predictions/sealed"


class Entry(BaseModel):
    """One model and task with its seeds; their mean of probabilities is scored too where it says so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    model: str
    #: Side in pixels.
    image_size: int = Field(ge=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    ensemble: bool = True

    @model_validator(mode="after")
    def _once(self) -> Entry:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"{self.task} {self.model}: a seed is named twice")
        return self


class SealedPlan(BaseModel):
    """What will be scored on the sealed part, written before; an unknown entry raises."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    written: datetime.date
    #: Checksum of the cohort.
    cohort: str
    #: How models and settings were chosen, without the sealed part.
    chosen_by: str
    entries: tuple[Entry, ...] = Field(min_length=1)
    metrics: tuple[str, ...] = Field(min_length=1)
    resamples: int = Field(2000, ge=100)
    seed: int = 0
    #: What is hoped for, by task and metric, of the first model of a task; told as met or missed.
    goals: dict[str, dict[str, float]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> SealedPlan:
        known = (*METRICS, *RATES)
        if unknown := sorted(set(self.metrics) - set(known)):
            raise ValueError(f"unknown metric {unknown[0]}; known are {', '.join(known)}")
        if len(self.cells()) != len(set(self.cells())):
            raise ValueError("a model and task is named twice")
        return self

    def cells(self) -> list[tuple[str, str, int]]:
        """Return (task, model, seed) of everything that needs predictions."""
        return [(entry.task, entry.model, seed) for entry in self.entries for seed in entry.seeds]


def read_plan(path: Path) -> SealedPlan:
    """Read a plan, YAML.

    Raises
    ------
    SealError
        If the file cannot be read or is no plan.
    """
    try:
        return SealedPlan.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except OSError as error:
        raise SealError(f"{path}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SealError(f"{path}: {where}{': ' if where else ''}{first['msg']}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SealError(f"{path}: not YAML: {' '.join(str(error).split())}") from error


def committed(path: Path, project: Path) -> str:
    """Return the commit that last changed a file.

    Raises
    ------
    SealError
        If the file was never committed, or differs from what was.
    """
    whole, root = Path(path).resolve(), Path(project).resolve()
    if not whole.is_relative_to(root):
        raise SealError(f"{path}: lies outside the repository {root.name}, so it cannot be committed there")
    name = whole.relative_to(root).as_posix()
    if _git(project, "status", "--porcelain", "--", name):
        raise SealError(f"{name}: differs from what is committed; commit the plan before the seal is opened")
    commit = _git(project, "log", "-1", "--format=%H", "--", name)
    if not commit:
        raise SealError(f"{name}: was never committed; commit the plan before the seal is opened")
    return commit


@dataclass(frozen=True)
class Predicted:
    """What models say of the sealed images, before anybody sees their labels.

    Attributes
    ----------
    predictions : mapping of (task, model, seed) to pandas.DataFrame
        ``image_id`` and ``p_<class>`` in the order of the task's classes, for every image of the part that
        the cohort seals. Images of classes without a place in a task are left out after the opening.
    weights : mapping of (task, model, seed) to str
        SHA-256 of the weights behind them.
    manifests : mapping of str to str
        Task to content hash of the split manifest that the models were trained under.
    """

    predictions: Mapping[tuple[str, str, int], pd.DataFrame]
    weights: Mapping[tuple[str, str, int], str]
    manifests: Mapping[str, str]


def open_seal(
    cohort: Cohort, run_folder: Path, plan_path: Path, given: Predicted, *, project: Path, scope: str = ""
) -> pd.DataFrame:
    """Open the sealed part once for everything that a committed plan names.

    Parameters
    ----------
    cohort : Cohort
    run_folder : pathlib.Path
        Where the log and the labelled predictions go.
    plan_path : pathlib.Path
        A `SealedPlan`, committed in `project`.
    given : Predicted
    project : pathlib.Path
        Repository.
    scope : str
        Patient scope of the intervals; empty for the one that decides in this cohort.

    Returns
    -------
    pandas.DataFrame
        ``task, model, seed, metric, estimate, low, high, n_images, n_patients, predictions``; the seed is
        ``ensemble`` where probabilities were averaged over all seeds.

    Raises
    ------
    SealError
        If the plan is not committed, the cohort is another one, or predictions are missing, too many, or not
        of exactly the sealed images. Then nothing was opened and nothing is logged.
    """
    plan, words = read_plan(plan_path), words_of(cohort)
    if unknown := [entry.task for entry in plan.entries if entry.task not in words.tasks]:
        raise SealError(f"{plan_path}: unknown task {unknown[0]}; known: {', '.join(words.tasks)}")
    plan_commit = committed(plan_path, project)
    state = git_state(project)
    if plan.cohort != cohort.checksum:
        raise SealError(f"{plan_path}: is for cohort {plan.cohort[:12]}, this is {cohort.checksum[:12]}")
    sealed = cohort.table[cohort.table["part"] == SEALED_PART]
    _complete(plan, given, sealed, words.tasks)
    log = Path(run_folder) / SEALED_LOG
    lines = read_log(run_folder)
    line: dict[str, object] = {
        "opening": len(lines) + 1,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cohort": cohort.checksum,
        "git": state,
        "plan": file_hash(plan_path),
        "plan_commit": plan_commit,
        "manifests": dict(given.manifests),
        "weights": {_name(key): given.weights[key] for key in plan.cells()},
        "unlabelled_predictions": {
            _name(key): predictions_digest(given.predictions[key]) for key in plan.cells()
        },
        "results": None,
    }
    # The line comes first: labels that were taken out of the cohort are on record whatever happens next.
    write_log(log, [*lines, line])
    labelled = sealed.assign(label=cohort.unseal(log))
    rows = _scored(plan, given, labelled, Path(run_folder), scope or words.scope, words.tasks)
    line["results"] = rows
    line["predictions"] = {
        name: file_hash(Path(run_folder) / name) for name in sorted({str(row["predictions"]) for row in rows})
    }
    write_log(log, [*lines, line])
    return pd.DataFrame(rows)


def _scored(
    plan: SealedPlan,
    given: Predicted,
    labelled: pd.DataFrame,
    folder: Path,
    scope: str,
    tasks: Mapping[str, Task],
) -> list[dict[str, object]]:
    """Save the labelled predictions of all that a plan names, and score each file."""
    rows = []
    for entry in plan.entries:
        files = {
            seed: _label(
                tasks[entry.task],
                given.predictions[entry.task, entry.model, seed],
                labelled,
                seed,
                scope,
            )
            for seed in entry.seeds
        }
        if entry.ensemble and len(files) > 1:
            files |= {"ensemble": _mean(list(files.values()))}
        for seed, frame in files.items():
            name = f"{FOLDER}/{entry.task}_{entry.model}_{'' if seed == 'ensemble' else 's'}{seed}.csv"
            saved = save_predictions(folder / name, frame)
            # Sensitivity and specificity have a meaning for two classes only.
            several = len(tasks[entry.task].classes) > 2
            asked = [name for name in plan.metrics if not (several and name in RATES[:2])]
            found = evaluate(saved, asked, n_resamples=plan.resamples, seed=plan.seed)
            columns = ["metric", "estimate", "low", "high", "n_images", "n_patients"]
            described = {"task": entry.task, "model": entry.model, "seed": str(seed)}
            rows += [{**described, **row, "predictions": name} for row in found[columns].to_dict("records")]
    return rows


def _complete(plan: SealedPlan, given: Predicted, sealed: pd.DataFrame, tasks: Mapping[str, Task]) -> None:
    if sealed.empty:
        raise SealError("this cohort has no sealed part")
    wanted = set(plan.cells())
    for what, there in (("predictions", set(given.predictions)), ("weights", set(given.weights))):
        if missing := sorted(wanted - there):
            raise SealError(f"{_name(missing[0])}: the plan names it, but it has no {what}")
        if extra := sorted(there - wanted):
            raise SealError(f"{_name(extra[0])}: has {what}, but the plan does not name it")
    if without := sorted({entry.task for entry in plan.entries} - set(given.manifests)):
        raise SealError(f"{without[0]}: no manifest is named")
    ids = sealed["image_id"].tolist()
    for key, frame in given.predictions.items():
        columns = ["image_id", *(f"p_{name}" for name in tasks[key[0]].classes)]
        if frame.columns.tolist() != columns:
            raise SealError(f"{_name(key)}: needs the columns {', '.join(columns)}")
        if sorted(frame["image_id"]) != sorted(ids):
            raise SealError(f"{_name(key)}: does not predict exactly the {len(ids)} sealed images")
        if not np.isfinite(frame[columns[1:]].to_numpy(dtype=np.float64)).all():
            raise SealError(f"{_name(key)}: a probability is not a number")


def _label(task: Task, frame: pd.DataFrame, labelled: pd.DataFrame, seed: int, scope: str) -> pd.DataFrame:
    """Put label, patient and part beside predictions, for the images that take part in the task."""
    rows = task.select(labelled)
    known = pd.DataFrame(
        {
            "image_id": rows["image_id"].to_numpy(),
            "patient": patient_ids(rows, scope),
            "part": SEALED_PART,
            "label": [task.classes[k] for k in task.labels(rows)],
        }
    )
    return known.merge(frame, how="left", on="image_id", validate="one_to_one").assign(seed=seed)


def _mean(frames: list[pd.DataFrame]) -> pd.DataFrame:
    mean = mean_predictions([check_predictions(frame) for frame in frames])
    # A file of predictions holds one seed; the first stands for all.
    return frames[0].assign(**{f"p_{name}": mean.probabilities[:, k] for k, name in enumerate(mean.classes)})


def _name(key: tuple[str, str, int]) -> str:
    return f"{key[0]} {key[1]} s{key[2]}"


def _git(project: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(project), *arguments], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SealError(f"{project}: git cannot say what is committed here") from error
    return done.stdout.strip()
