"""What the deep study trains: one split in five parts for each task, and the networks by their recipes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from leakfree.base.escape import say
from leakfree.base.files import write_json
from leakfree.base.sums import renew_sums
from leakfree.data.tasks import TASKS, Task
from leakfree.data.vocabulary import words_of
from leakfree.models.training import Budget
from leakfree.predict.calibrated import FIVE_PARTS, LIMIT_PARTS, Calibrated
from leakfree.predict.description import DESCRIPTION, add_hashes, has_hashes
from leakfree.predict.novelty import Novelty, NoveltyError
from leakfree.scores.metrics import evaluate
from leakfree.split import manifest as splits
from leakfree.split.manifest import Manifest
from leakfree.split.protocols import CLEAN
from leakfree_study.figures.tables import METRIC_NAMES, bracketed
from leakfree_study.models.recipes import RECIPES
from leakfree_study.networks.published import Published, publish
from leakfree_study.networks.training_sets import keep_training_set
from leakfree_study.run import made_with
from leakfree_study.run.cells import Cell, NetworkJob, Result, network_cells
from leakfree_study.run.run import Run, output_hashes, read_outputs

#: Metrics that a finished training is told by.
SHOWN = ("accuracy", "roc_auc", "macro_f1")


def five_parts(run: Run, task: str, scope: str = "", max_images: int = 0) -> Manifest:
    """Split development images of a task over linked groups into `leakfree.predict.calibrated.FIVE_PARTS`.

    Parameters
    ----------
    run : Run
        Its seed is the split's.
    task : str
        Name of a task.
    scope : str
        Patient scope; empty for the one that decides in this cohort.
    max_images : int
        Take so many images at most; 0 takes all.

    Raises
    ------
    ValueError
        If the task is unknown.
    """
    words = words_of(run.cohort)
    scope = scope or words.scope
    _known(task, words.tasks, "task")
    table = run.development(words.tasks[task], max_images)
    return splits.patient_level(
        table["image_id"],
        run.groups(table, scope),
        table["label"].to_numpy(dtype=object),
        seed=run.seed,
        scope=scope,
        fractions=FIVE_PARTS,
        linked=("copies",),
        name=f"05-patient-level-{task}",
        data_checksum=run.cohort.checksum,
    )


@dataclass(frozen=True)
class TrainingSettings:
    """How networks of the study are trained, whatever their recipe.

    Attributes
    ----------
    image_size : int
        Side in pixels.
    epochs : int
        Of the run; a recipe makes its own of it.
    batch_size, patience : int
        See `leakfree.models.training.Budget`.
    weights : str
        For recipes whose weights are chosen: ``imagenet``, or a file.
    """

    image_size: int
    epochs: int
    batch_size: int = 32
    patience: int = 0
    weights: str = "imagenet"


def network_job(
    task: str | Task,
    recipe: str,
    manifest: Manifest,
    seed: int,
    settings: TrainingSettings,
    scope: str = "series",
) -> NetworkJob:
    """Describe the training of one network.

    Parameters
    ----------
    task : str or Task
        The name of one of `leakfree.data.tasks.TASKS`, or a task.
    recipe : str
        Name of one of `leakfree_study.models.recipes.RECIPES`.
    manifest : Manifest
        As `five_parts`.
    seed : int
        Of the network; the manifest has its own.
    settings : TrainingSettings
    scope : str
        Patient scope that the ledger checks.

    Raises
    ------
    ValueError
        If task or recipe is unknown.
    """
    if isinstance(task, str):
        _known(task, TASKS, "task")
        task = TASKS[task]
    _known(recipe, RECIPES, "network")
    made = RECIPES[recipe]
    return NetworkJob(
        Cell(task, made.model, CLEAN, manifest, seed, settings.image_size, scope, made.variant),
        Budget(
            epochs=made.epochs(settings.epochs),
            batch_size=settings.batch_size,
            learning_rate=made.learning_rate,
            patience=settings.patience if made.stops else 0,
            reframe=made.reframe,
            exposure=made.exposure,
            keep=made.keep,
        ),
        weights=made.initial(settings.weights),
        pretraining=made.unlabelled_epochs(settings.epochs),
    )


def publish_model(run: Run, result: Result, *, main: bool = True) -> Published:
    """Put a network on the record with all that its use needs: weights, preprocessing, calibration, novelty.

    Images of the training part say what is no novelty; those of `leakfree.predict.calibrated.LIMIT_PARTS` set
    the limit. Where they are too few there is no score, and the service says none.

    Parameters
    ----------
    run : Run
    result : Result
        A trained network.
    main : bool
        The model that the service takes by default: its descriptions have plain names. Those of other models
        begin with their label.

    Raises
    ------
    leakfree.predict.description.PublishedError
        If the weights are neither kept nor published already.
    """
    label = result.cell.label
    before = "" if main else f"{label}_"
    description = run.folder / "models" / f"{before}{DESCRIPTION}"
    hashed = not run.recorded or has_hashes(description)  # a record stays as it is
    published = publish(run, result, f"{label}_leakfree", description.name)
    _publish_beside(run, result, before)
    if hashed:
        add_hashes(description)
    return published


def _publish_beside(run: Run, result: Result, before: str) -> None:
    """Write what belongs to published weights, in files whose names begin as that of their description."""
    keep_training_set(run, result.cell, before)
    path = run.folder / "models" / f"{before}calibration.json"
    run.wrote(Calibrated.of_cell(result).save(path, result.facts["weights_sha256"]))
    found = path.with_name(f"{before}novelty.safetensors")
    if run.recorded:  # the score was fitted on pixels; it is kept where there was one
        run.wrote(*[found] if found.is_file() else [])
        return
    try:
        run.wrote(fit_novelty(run, result.cell).save(found))
    except NoveltyError as error:
        say(f"no novelty score: {error}", file=sys.stderr)


def fit_novelty(run: Run, cell: Cell) -> Novelty:
    """Fit the novelty score of a cell: on its training part, with the limit from held-out parts.

    Raises
    ------
    leakfree.predict.novelty.NoveltyError
        If there are too few images.
    """
    cache, parts = run.pixels(cell.image_size), cell.manifest.parts
    held_out = [image_id for part in LIMIT_PARTS for image_id in parts[part]]
    pixels = (cache.pixels[cache.rows(ids)] for ids in (parts["train"], held_out))
    return Novelty.fit(*pixels, cell.manifest.hash)


def train_model(run: Run, recipe: str, task: str = "", seed: int = 42, **settings: object) -> Result:
    """Train one network of the deep study and publish it in the run folder.

    Parameters
    ----------
    run : Run
        Its seed is the split's.
    recipe : str
        As `network_job`.
    task : str
        Name of a task; empty for the first one of the cohort.
    seed : int
        Of the network.
    **settings
        As `TrainingSettings`.

    Raises
    ------
    ValueError
        If task or recipe is unknown.
    """
    words = words_of(run.cohort)
    task = task or next(iter(words.tasks))
    manifest = five_parts(run, task)
    job = network_job(
        words.tasks[task], recipe, manifest, seed, TrainingSettings(**settings), scope=words.scope
    )
    (result,) = network_cells(run, [job])
    publish_model(run, result)
    _record(run, job, result)
    return result


def trained_line(run: Run, result: Result) -> str:
    """Say in one line where the weights of a published network are and what they scored on the test part."""
    weights = run.folder / "models" / f"{result.cell.label}_leakfree.safetensors"
    scores = evaluate(result.read("test"), SHOWN, seed=run.seed)
    said = ", ".join(
        f"{METRIC_NAMES[metric]} {text}"
        for metric, text in zip(scores["metric"], bracketed(scores), strict=True)
        if text
    )
    first = scores.iloc[0]
    return (
        f"{weights}: {said or 'no score could be had'} (95 % over patients) on {first['n_images']:,} test "
        f"images of {first['n_patients']:,} patients, from {result.predictions.name}"
    )


def _record(run: Run, job: NetworkJob, result: Result) -> None:
    """Write what the training rests on and left behind into ``provenance.json``, for `leakfree verify`."""
    path = run.folder / "provenance.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"notebooks": {}}
    described = made_with.of_run(run.cohort, run.project)
    written = {
        **described,
        "budget": asdict(job.budget),
        "precision": result.facts["precision"],
        "weights": Path(job.weights).name,
        "pretraining": job.pretraining,
        "outputs": output_hashes(run.folder, read_outputs(run.folder, run.notebook)),
    }
    trainings = before.get("trainings", {}) | {job.cell.name(run.number): written}
    write_json(path, {**described, **before, "trainings": trainings})
    renew_sums(run.folder)


def _known(name: str, known: Iterable[str], what: str) -> None:
    if name not in known:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(known)}")
