"""Cells: one protocol, model, task and seed, fitted, scored once, with predictions and a ledger.

A finished cell is three files: predictions, ledger, and a record with the key that it was made under.
An interrupted run that is resumed takes over finished cells whose key and files still agree. A run that is
rebuilt from its record takes its cells as they are, and fits none.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from safetensors.torch import save_file

from leakfree.audit.gate import gate
from leakfree.base import precision
from leakfree.base.errors import LeakfreeError
from leakfree.base.escape import say
from leakfree.base.files import file_hash, replacing, write_json
from leakfree.base.parallel import die_with_parent
from leakfree.base.provenance import package_digest, versions
from leakfree.data.patients import patient_ids
from leakfree.data.pixels import PixelCache
from leakfree.data.tasks import Task
from leakfree.ledger.ledger import Ledger
from leakfree.models import networks
from leakfree.models.checkpoint import Checkpoint
from leakfree.models.training import Budget, TrainingError, TrainingImages, fit, predict
from leakfree.scores import metrics
from leakfree.scores.predictions import Predictions, read_predictions, save_predictions
from leakfree.split.manifest import Manifest
from leakfree.split.protocols import Protocol
from leakfree_study.models.pretraining import pretrain
from leakfree_study.run.made_with import precision_of
from leakfree_study.run.run import Run, open_run

#: Rows that array-based estimators are given at once when they are read for the ledger.
_READ = 512
#: Modules whose change makes finished cells stale, by kind. What else they rest on is in their key as data:
#: the checksum of the cohort, the manifest and the groups of copies.
_COMMON = (
    "leakfree/audit/gate",
    "leakfree/ledger/ledger",
    "leakfree_study/run/cells",
    "leakfree/data/groups",
    "leakfree/data/images",
    "leakfree/data/patients",
    "leakfree/data/pixels",
    "leakfree/scores/predictions",
    "leakfree/split/protocols",
    "leakfree/data/tasks",
)
MODULES = {
    "network": (
        *_COMMON,
        "leakfree/models/checkpoint",
        "leakfree/models/networks",
        "leakfree/base/precision",
        "leakfree/models/reframing",
        "leakfree_study/models/pretraining",
        "leakfree/models/training",
    ),
    "classical": (*_COMMON, "leakfree_study/models/classical", "leakfree_study/models/pixel_models"),
}


class RecordError(LeakfreeError):
    """A finished cell that a run rests on is missing or is another; the message is one line."""


@dataclass(frozen=True)
class Cell:
    """What is fitted and scored.

    Attributes
    ----------
    task : Task
    model : str
    protocol : Protocol
    manifest : Manifest
        Parts ``train``, ``test`` and perhaps ``val`` and others, which are scored too.
    seed : int
        Seed of the model; the manifest has its own.
    image_size : int
        Side in pixels.
    scope : str
        Patient scope of the linked groups that the ledger checks.
    variant : str
        What tells apart cells of one model, task, size, protocol and seed, such as ``imagenet``; may be
        empty.
    """

    task: Task
    model: str
    protocol: Protocol
    manifest: Manifest
    seed: int
    image_size: int
    scope: str = "series"
    variant: str = ""

    @property
    def label(self) -> str:
        """Model, with its variant where it has one."""
        return f"{self.model}-{self.variant}" if self.variant else self.model

    def name(self, number: str) -> str:
        """File name without suffix: notebook, task, model and variant, size, protocol, seed."""
        return f"{number}_{self.task.name}_{self.label}_{self.image_size}px_{self.protocol.name}_s{self.seed}"


@dataclass(frozen=True)
class Result:
    """A finished cell.

    Attributes
    ----------
    cell : Cell
    predictions : pathlib.Path
        One row for each image of every part but training.
    history : pandas.DataFrame
        Learning curve of a network, search table of a searched model, else empty.
    facts : dict
        What the tables quote: images consumed, epoch kept, origin of the weights, parameters, leaks.
    files : tuple of pathlib.Path
        Everything that the cell wrote for the record.
    weights : pathlib.Path or None
        Where a network's weights were kept, in half precision and outside the record: ``facts`` has their
        SHA-256, and `leakfree_study.networks.published.publish` puts them on it. They may be gone.
    """

    cell: Cell
    predictions: Path
    history: pd.DataFrame
    facts: dict[str, object]
    files: tuple[Path, ...] = ()
    weights: Path | None = None

    def read(self, *parts: str) -> Predictions:
        """Read the predictions of some parts back from the file; of the test part without one."""
        return read_predictions(self.predictions).select(*(parts or ("test",)))


@dataclass(frozen=True)
class NetworkJob:
    """A network cell with all that it needs to run in a process of its own.

    Attributes
    ----------
    cell : Cell
    budget : Budget
    weights : str
        Initial weights, see `leakfree.models.networks.resnet18`.
    pretraining : int
        Epochs without labels on the training part before, see `leakfree_study.models.pretraining.pretrain`.
    """

    cell: Cell
    budget: Budget
    weights: str = "none"
    pretraining: int = 0


def network_cells(run: Run, jobs: Sequence[NetworkJob]) -> list[Result]:
    """Train and score networks, as many at a time as the run has cores.

    Each runs on one thread of its own process: that uses the cores better than one network on all of
    them, and makes the numbers independent of how many there are.

    Parameters
    ----------
    run : Run
    jobs : sequence of NetworkJob
        Started in this order; the longest should come first.

    Returns
    -------
    list of Result
        In the order of `jobs`.
    """
    if not run.recorded:
        for size in sorted({job.cell.image_size for job in jobs}):
            run.pixels(size)  # decoded once here; the processes read the cached file
    if run.recorded or run.jobs == 1 or len(jobs) == 1:
        results = [network_cell(run, job) for job in jobs]
    else:
        workers = Parallel(n_jobs=min(run.jobs, len(jobs)), backend="loky")
        results = workers(delayed(_network_in_process)(run.arguments, job, os.getpid()) for job in jobs)
    for result in results:
        run.wrote(*result.files)
    return results


def _network_in_process(arguments: dict[str, object], job: NetworkJob, parent: int) -> Result:
    die_with_parent(parent)
    return network_cell(open_run(**arguments), job)


def network_cell(run: Run, job: NetworkJob) -> Result:
    """Train and score one network on one thread."""
    cell, budget = job.cell, job.budget
    given = file_hash(Path(job.weights)) if Path(str(job.weights)).is_file() else job.weights
    settings = {
        "kind": "network",
        # A network is the same cell on every processor; in which precision it was trained is a fact of it.
        "budget": {name: value for name, value in asdict(budget).items() if name != "precision"},
        "weights": given,
        "pretraining": job.pretraining,
    }
    computed_in = budget.resolved_precision()

    def refit(record: dict) -> bool:
        trained_in = precision_of(record["facts"])
        if trained_in == computed_in:
            return False
        if budget.precision != "auto" or precision.forced():
            return True
        say(
            f"{cell.name(run.number)}: taken over as it was trained, in {trained_in}; "
            f"this processor would take {computed_in}, and {precision.SETTING}={computed_in} trains it again",
            file=sys.stderr,
        )
        return False

    return _cached(run, cell, settings, partial(_train_network, run, job, computed_in), refit)


def _train_network(run: Run, job: NetworkJob, computed_in: str, inputs: _Inputs) -> _Computed:
    cell = job.cell
    # A training that was cut off goes on in its own precision only.
    checkpoint = replace(inputs.checkpoint, key=f"{inputs.checkpoint.key} {computed_in}")
    torch.set_num_threads(1)
    torch.manual_seed(cell.seed)
    network, origin = networks.build(cell.model, len(cell.task.classes), cell.image_size, job.weights)
    images = TrainingImages(inputs.cache, inputs.labels, inputs.rows["train"], inputs.rows.get("val"))
    pretraining_seconds = 0.0
    if job.pretraining:
        origin, started = "self-supervised", time.perf_counter()
        if checkpoint.load() is None:  # else it is behind the weights that are taken up
            pretrain(
                network,
                images,
                job.pretraining,
                seed=cell.seed,
                ledger=inputs.ledger,
                description=f"{cell.name(run.number)}, no labels",
                precision=computed_in,
            )
        pretraining_seconds = time.perf_counter() - started
    fitted = fit(
        network,
        images,
        job.budget,
        seed=cell.seed,
        ledger=inputs.ledger,
        description=cell.name(run.number),
        checkpoint=checkpoint,
    )
    frames = []
    for part in inputs.scored:
        # Validation is read again, with the weights that were kept; every other part is read once.
        ids, probabilities = predict(
            fitted.network,
            inputs.cache,
            inputs.rows[part],
            fitted.normalisation,
            ledger=inputs.ledger,
            stage=part,
            precision=computed_in,
        )
        frames.append(inputs.frame(ids, probabilities, part))
    facts = {
        "epoch": fitted.epoch,
        "weights": origin,
        "training_seconds": round(fitted.seconds + pretraining_seconds, 1),
        "mean": fitted.normalisation.mean,
        "std": fitted.normalisation.std,
        "precision": fitted.precision,
    }
    keep = partial(_keep_weights, _weights_file(run, cell), cell, fitted.network, origin)
    return pd.concat(frames), fitted.history, facts, keep


def classical_cell(
    run: Run,
    cell: Cell,
    fit_model: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[object, pd.DataFrame, dict[str, object]]],
    settings: Mapping[str, object],
) -> Result:
    """Fit and score a model on flattened pixels.

    Parameters
    ----------
    run : Run
    cell : Cell
    fit_model : callable
        Takes pixels, uint8 (n, size * size), classes, int64 (n,), and linked groups, int64 (n,), of the
        training part; returns an estimator with ``predict_proba``, a history and facts.
    settings : mapping
        All that `fit_model` depends on, for the key.
    """

    def compute(inputs: _Inputs) -> _Computed:
        ids, x = inputs.read("train")
        rows = inputs.cache.rows(ids)
        started = time.perf_counter()
        groups = np.array([inputs.groups[image_id] for image_id in ids])
        estimator, history, facts = fit_model(x, inputs.labels[rows], groups)
        facts = {**facts, "weights": "none", "training_seconds": round(time.perf_counter() - started, 1)}
        frames = []
        for part in inputs.scored:
            ids, x = inputs.read(part)
            frames.append(inputs.frame(ids, estimator.predict_proba(x), part))
        return pd.concat(frames), history, facts, None

    result = _cached(run, cell, {"kind": "classical", **settings}, compute)
    run.wrote(*result.files)
    return result


#: Predictions, history, facts, and what keeps the weights once the ledger has agreed and says their hash.
_Computed = tuple[pd.DataFrame, pd.DataFrame, dict[str, object], Callable[[], str] | None]


@dataclass
class _Inputs:
    cell: Cell
    cache: PixelCache
    labels: np.ndarray
    rows: dict[str, np.ndarray]
    groups: dict[str, int]
    patients: dict[str, str]
    ledger: Ledger
    checkpoint: Checkpoint

    @classmethod
    def of(cls, run: Run, cell: Cell, key: str) -> _Inputs:
        table = cell.task.select(run.cohort.development())
        cache = run.pixels(cell.image_size)
        labels = np.full(len(cache), -1, dtype=np.int64)
        labels[cache.rows(table["image_id"])] = cell.task.labels(table)
        return cls(
            cell=cell,
            cache=cache,
            labels=labels,
            rows={part: cache.rows(ids) for part, ids in cell.manifest.parts.items()},
            groups=dict(zip(table["image_id"], run.groups(table, cell.scope).tolist(), strict=True)),
            patients=dict(zip(table["image_id"], patient_ids(table, cell.scope), strict=True)),
            ledger=Ledger(cache.digests),
            checkpoint=Checkpoint(run.folder / ".cache" / "checkpoints" / f"{cell.name(run.number)}.pt", key),
        )

    def refuse_gaps(self) -> None:
        """Stop where training lacks a class, which few images leave; the gate refuses an empty part."""
        task, there = self.cell.task, set(self.labels[self.rows["train"]].tolist())
        if lost := [name for code, name in enumerate(task.classes) if code not in there]:
            raise TrainingError(
                f"{self.cell.manifest.name}: part train has no {lost[0]} image, so "
                f"{self.cell.label} cannot learn the task {task.name}; take more images (max_images)"
            )

    @property
    def scored(self) -> list[str]:
        """Parts that are predicted, in the order of the manifest."""
        return [part for part in self.rows if part != "train"]

    def read(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """Ids and flattened pixels of a part, entered in the ledger as they are read."""
        ids, pixels = [], []
        for start in range(0, len(self.rows[part]), _READ):
            some_ids, some_pixels = self.cache.take(self.rows[part][start : start + _READ])
            self.ledger.record(part, some_ids, some_pixels)
            ids.append(some_ids)
            pixels.append(some_pixels.reshape(len(some_ids), -1))
        return np.concatenate(ids), np.concatenate(pixels)

    def frame(self, ids: Sequence[str], probabilities: np.ndarray, part: str) -> pd.DataFrame:
        classes = self.cell.task.classes
        frame = pd.DataFrame(
            {
                "image_id": ids,
                "patient": [self.patients[i] for i in ids],
                "part": part,
                "label": [classes[k] for k in self.labels[self.cache.rows(ids)]],
            }
        )
        for column, name in enumerate(classes):
            frame[f"p_{name}"] = probabilities[:, column]
        return frame.assign(seed=self.cell.seed)


def _cached(
    run: Run,
    cell: Cell,
    settings: Mapping[str, object],
    compute: Callable,
    refit: Callable[[dict], bool] = lambda record: False,
) -> Result:
    """Take over a finished cell unless `refit` says no to its record; else compute it."""
    name = cell.name(run.number)
    record_path = run.folder / "cells" / f"{name}.json"
    if run.recorded:
        record = _recorded(run.folder, record_path, cell.manifest)
    else:
        key = _key(run, cell, settings)
        record = _read_record(run.folder, record_path, key) if run.resume else None
        if record is not None and refit(record):
            record = None
    if record is None:
        gate(run.cohort.development(), run.copies(), cell.manifest, cell.protocol, cell.scope)
        inputs = _Inputs.of(run, cell, key)
        inputs.refuse_gaps()
        if not run.resume:
            inputs.checkpoint.remove()
        frame, history, facts, keep = compute(inputs)
        # Checked before anything is written: a result whose ledger disagrees leaves no file behind.
        found = inputs.ledger.check(cell.manifest, cell.protocol, inputs.groups)
        manifest = cell.manifest.save(run.folder / "manifests" / f"{cell.manifest.name}.json")
        predictions = run.folder / "predictions" / f"{name}.csv"
        save_predictions(predictions, frame)
        ledger = inputs.ledger.save(
            run.folder / "ledgers" / f"{name}.json", cell.manifest, cell.protocol, found
        )
        outputs = [manifest, predictions, ledger]
        if keep is not None:
            facts["weights_sha256"] = keep()
        facts |= {
            "n_train": len(inputs.ledger.consumed("train")),
            "shared_groups": found["linked groups"],
            "shared_images": found["images"],
        }
        record = {
            "key": key,
            "facts": facts,
            "history": history.to_json(orient="split", double_precision=15),
            "outputs": {p.relative_to(run.folder).as_posix(): file_hash(p) for p in outputs},
        }
        write_json(record_path, record)
        inputs.checkpoint.remove()
    files = (record_path, *(run.folder / path for path in record["outputs"]))
    history = pd.DataFrame(**json.loads(record["history"]))
    weights = _weights_file(run, cell) if "weights_sha256" in record["facts"] else None
    if trained_in := precision_of(record["facts"]):
        record["facts"]["precision"] = trained_in
    return Result(cell, run.folder / "predictions" / f"{name}.csv", history, record["facts"], files, weights)


def _key(run: Run, cell: Cell, settings: Mapping[str, object]) -> str:
    content = {
        "library": package_digest(MODULES[str(settings["kind"])]),
        "versions": versions(),
        "data": run.cohort.checksum,
        "copies": run.copies().groups,
        "manifest": cell.manifest.hash,
        "cell": [cell.task.name, cell.model, cell.protocol.name, cell.seed, cell.image_size, cell.scope]
        + ([cell.variant] if cell.variant else []),
        "settings": settings,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_record(folder: Path, path: Path, key: str | None) -> dict[str, object] | None:
    """Read a finished cell; None where there is none, its files differ, or it has another key than `key`."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        same = key is None or record["key"] == key
        whole = all(file_hash(folder / output) == digest for output, digest in record["outputs"].items())
    except (OSError, ValueError, KeyError):
        return None
    return record if same and whole else None


def _recorded(folder: Path, path: Path, manifest: Manifest) -> dict[str, object]:
    """Read a cell of a finished run, whatever code made it; its files and its split must agree."""
    record = _read_record(folder, path, None)
    if record is None:
        raise RecordError(f"{path.name}: the run has no such cell, or its files are not those of its record")
    kept = Manifest.load(folder / "manifests" / f"{manifest.name}.json")
    if kept.parts != manifest.parts:  # how a split is described may have changed since
        raise RecordError(f"{path.name}: was fitted under another split than {manifest.name} is now")
    return record


def _weights_file(run: Run, cell: Cell) -> Path:
    return run.folder / ".cache" / "weights" / f"{cell.name(run.number)}.safetensors"


def _keep_weights(path: Path, cell: Cell, network: torch.nn.Module, origin: str) -> str:
    """Write weights in half precision, which they were rounded to; return their SHA-256."""
    state = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
    }
    with replacing(path) as temporary:
        # One key: safetensors writes several in an order of its own, and equal weights must be equal bytes.
        described = {"model": cell.model, "task": cell.task.name, "origin": origin}
        save_file(state, temporary, metadata={"leakfree": json.dumps(described)})
    return file_hash(path)


def score_table(
    run: Run,
    results: Sequence[Result],
    *,
    part: str = "test",
    n_resamples: int = 2000,
    names: Sequence[str] = ("accuracy", "roc_auc", "macro_f1"),
) -> pd.DataFrame:
    """Evaluate cells from their prediction files.

    Returns
    -------
    pandas.DataFrame
        One row a cell and metric: ``task, model, weights, protocol, image_size, seed, n_train,
        shared_groups, part, metric, estimate, low, high, n_images, n_patients, predictions``.
    """
    return pd.concat(
        [
            score_rows(
                result.read(part), [result], part=part, seed=result.cell.seed, n_resamples=n_resamples,
                resample_seed=run.seed, names=names,
            )
            for result in results
        ],
        ignore_index=True,
    )  # fmt: skip


def score_rows(
    predictions: Predictions,
    members: Sequence[Result],
    *,
    part: str,
    seed: object,
    n_resamples: int,
    resample_seed: int,
    names: Sequence[str],
) -> pd.DataFrame:
    """Return the rows of `score_table` for predictions that one cell made, or several of one model together.

    Parameters
    ----------
    predictions : Predictions
    members : sequence of Result
        The cells behind them.
    part : str
    seed : object
        What the column says.
    n_resamples, resample_seed : int
    names : sequence of str
        Metrics.
    """
    first = members[0]
    scores = metrics.evaluate(predictions, tuple(names), n_resamples=n_resamples, seed=resample_seed)
    described = {
        "task": first.cell.task.name,
        "model": first.cell.label,
        "weights": first.facts["weights"],
        "protocol": first.cell.protocol.name,
        "image_size": first.cell.image_size,
        "seed": seed,
        "n_train": first.facts["n_train"],
        "shared_groups": max(member.facts["shared_groups"] for member in members),
        "part": part,
    }
    frame = scores[["metric", "estimate", "low", "high", "n_images", "n_patients"]].copy()
    for position, (column, value) in enumerate(described.items()):
        frame.insert(position, column, value)
    return frame.assign(predictions=";".join(f"predictions/{m.predictions.name}" for m in members))
