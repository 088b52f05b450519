"""Score a published network on anyone's labelled images: what ``leakfree score`` does.

Rates are those at the threshold in use: the most probable class is the answer. Every interval is one over
patients. The network also answers for each image framed otherwise, since that is what breaks networks first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm import tqdm

from leakfree.audit.checks.patient_checks import deciding_scope, without_identifier
from leakfree.audit.target import Target
from leakfree.base.errors import LeakfreeError
from leakfree.base.parallel import available_cores
from leakfree.data.bounded import decode
from leakfree.data.images import ImageError
from leakfree.data.patients import patient_ids
from leakfree.data.raw import Problem
from leakfree.data.reading.understand import META, SCOPE
from leakfree.data.tasks import TASKS
from leakfree.predict.classifier import Classifier
from leakfree.predict.framed import FRAMINGS, PLAIN, Framing, framed
from leakfree.predict.training_set import COPY, SAME
from leakfree.scores.metrics import evaluate
from leakfree.scores.predictions import Predictions, check_predictions

#: Metrics that are reported; sensitivity and specificity have a meaning for two classes only.
TWO_CLASSES = ("sensitivity", "specificity", "balanced_accuracy", "accuracy", "roc_auc", "average_precision")
MORE_CLASSES = ("balanced_accuracy", "accuracy", "macro_f1", "roc_auc")
#: Images that a thread reads and predicts at a time.
_BATCH = 32
#: A numeric column with more values than this is cut into quarters.
_VALUES = 12
#: With fewer patients than this the bootstrap knows too little of a rate that is 0 or 1.
_FEW = 50
#: Groups with fewer images than this are counted and not scored.
_LEAST = 5


#: What is known of the pixels of sealed images, in a run folder.
SEALED_PIXELS = "measurements/05_sealed_pixels.csv"
#: An image in each of `FRAMINGS`, uint8 (size, size).
Squares = list[np.ndarray]


class ScoreError(LeakfreeError):
    """Images cannot be scored; the message is one line."""


@dataclass(frozen=True)
class ScoreSettings:
    """What is asked of a network.

    Attributes
    ----------
    classes : mapping of str to tuple of str
        Labels of the images that stand for a class of the network; others are compared by name.
    leave_out : tuple of str
        Labels whose images do not take part.
    by : tuple of str
        Columns whose groups are scored too.
    part : str
        The part to score; empty takes all images.
    scope : str or None
        Who is a patient; None as the audit decides.
    resamples, seed : int
        Of the bootstrap over patients.
    jobs : int
        Threads; 0 takes all cores.
    """

    classes: Mapping[str, tuple[str, ...]]
    leave_out: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    part: str = ""
    scope: str | None = None
    resamples: int = 1000
    seed: int = 0
    jobs: int = 0


@dataclass(frozen=True)
class Scoring:
    """How a network did.

    Attributes
    ----------
    scores : pandas.DataFrame
        ``metric, estimate, low, high, n_images, n_patients`` of the images as they are.
    framings : pandas.DataFrame
        The same with ``framing, zoom, right, down``, for each framing.
    groups : pandas.DataFrame
        The same with ``column, value``, for each group of the columns that were asked for.
    calibration : pandas.DataFrame
        Expected calibration error ``before`` and ``after`` the model's temperature.
    coverage : pandas.DataFrame
        How often its prediction sets hold the true class, as `leakfree.scores.conformal.coverage`; empty
        where the model has none.
    predictions : pandas.DataFrame
        One row an image, not calibrated: ``image_id, patient, part, label, p_<class>..., seed``.
    notes : tuple of str
        What a reader must know: images without a label, patients that are not known, files that were lost.
    problems : tuple of Problem
        Files that could not be read.
    """

    scores: pd.DataFrame
    framings: pd.DataFrame
    groups: pd.DataFrame
    calibration: pd.DataFrame
    coverage: pd.DataFrame
    predictions: pd.DataFrame
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]


def grey_hash(grey: Image.Image) -> str:
    """Return the SHA-256 of a grey image of mode L: its sides and its pixels, whatever file they were in."""
    sides = f"{grey.width} {grey.height} ".encode()
    return hashlib.sha256(sides + grey.tobytes()).hexdigest()


def sealed_files(model: Path) -> frozenset[str] | None:
    """Return hashes of images whose labels are sealed, from the run that the model stands in.

    They are the SHA-256 of the files and, where the run has them, `grey_hash` of what is in
    them, which another encoding without loss does not change. None where the model stands in no run: then
    nothing is known of them.
    """
    folder = Path(model) if Path(model).is_dir() else Path(model).parent
    record = folder.absolute().parent / "cohort.csv"
    if not record.is_file():
        return None
    try:
        table = pd.read_csv(record, dtype=str, keep_default_na=False, usecols=["label", "sha256"])
    except (OSError, ValueError) as error:
        raise ScoreError(f"{record}: cannot be read: {error}") from error
    known = set(table.loc[table["label"] == "sealed", "sha256"])
    if (pixels := record.parent / SEALED_PIXELS).is_file():
        known |= set(pd.read_csv(pixels, dtype=str)["grey"])
    return frozenset(known)


def score_images(
    classifier: Classifier,
    target: Target,
    settings: ScoreSettings,
    sealed: frozenset[str] | None = frozenset(),
) -> Scoring:
    """Predict labelled images, as they are and framed otherwise, and score the answers.

    Parameters
    ----------
    classifier : Classifier
    target : Target
        The images, see `leakfree.audit.target.open_target`.
    settings : ScoreSettings
    sealed : frozenset of str, or None
        SHA-256 of files that must not be scored; None where they are not known.

    Returns
    -------
    Scoring

    Raises
    ------
    ScoreError
        If a label is no class of the network, no image has a label, an image is sealed, or a column or part
        is not there.
    """
    table, notes = _chosen(target, classifier.description.classes, classifier.description.task, settings)
    notes += [] if sealed is not None else ["which images are sealed is not known beside this model"]
    rows, answers, problems, trained_on = _answers(
        classifier, target, table, sealed or frozenset(), settings.jobs
    )
    if not len(rows):
        raise ScoreError(
            f"{target.name}: no image could be read, such as {problems[0].file}: {problems[0].reason}"
        )
    notes += _trained_on(trained_on)
    notes += [f"{len(problems):,} files could not be read, such as {problems[0].file}"] if problems else []
    table = table.iloc[rows].reset_index(drop=True)
    tables = {
        framing: _frame(table, values, classifier.description.classes) for framing, values in answers.items()
    }
    plain = check_predictions(tables[PLAIN], target.name)
    if (few := table["who"].nunique()) < _FEW:
        notes.append(f"{few} patients are few: an interval of a rate at 0 or 1 is too narrow")
    metrics = TWO_CLASSES if len(plain.classes) == 2 else MORE_CLASSES
    again = {"n_resamples": settings.resamples, "seed": settings.seed}
    framings = [
        _score(check_predictions(frame, target.name), metrics[:3], settings).assign(
            framing=framing.name, zoom=framing.zoom, right=framing.right, down=framing.down
        )
        for framing, frame in tables.items()
    ]
    return Scoring(
        _score(plain, metrics, settings),
        pd.concat(framings, ignore_index=True),
        _groups(table, tables[PLAIN], settings, metrics, target.name),
        classifier.calibrated.errors(plain, **again),
        classifier.calibrated.coverage(plain, **again),
        tables[PLAIN],
        tuple(notes),
        tuple(problems),
    )


def _trained_on(found: Sequence[str | None]) -> list[str]:
    """Say how many of the scored images the network learned from."""
    if None in found:
        return ["which images the network was trained on is not known beside this model"]
    same, copies = found.count(SAME), found.count(COPY)
    if not same + copies:
        return []
    return [
        f"the network was trained on {same + copies:,} of these {len(found):,} images ({same:,} themselves, "
        f"{copies:,} as a copy): their scores prove nothing"
    ]


def _chosen(
    target: Target, classes: Sequence[str], task: str, settings: ScoreSettings
) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows that take part, with their class and patient, and what has to be said of the others."""
    table = target.table.assign(row=np.arange(len(target.table)))
    if settings.part:
        parts = sorted(set(table["part"]) - {""})
        table = table[table["part"] == settings.part]
        if table.empty:
            raise ScoreError(
                f"{target.name}: no part {settings.part}; it has {', '.join(parts) or 'no parts'}"
            )
    if missing := [
        name for name in settings.by if f"{META}{name}" not in table and name not in ("part", "label")
    ]:
        known = [name.removeprefix(META) for name in table if name.startswith(META)]
        raise ScoreError(
            f"--by {missing[0]}: no such column; {target.name} has {', '.join(known) or 'no further columns'}"
        )
    label = table["label"].fillna("").astype(str)
    without = int((label == "").sum())
    sealed = int((label == "sealed").sum())
    table = table[~label.isin(("", "sealed", *settings.leave_out))]
    if table.empty and sealed:
        raise ScoreError(f"{target.name}: labels are sealed; `leakfree unseal` opens them, on the record")
    if table.empty:
        raise ScoreError(f"{target.name}: no image has a label; say which column has it with --label-column")
    meaning = _meaning(classes, task, settings.classes)
    found = table["label"].map(lambda text: meaning.get(_plain(text), ""))
    if (found == "").any():
        strange = table.loc[found == "", "label"].iloc[0]
        raise ScoreError(
            f"{target.name}: label {strange!r} is no class of this network ({', '.join(classes)}); say "
            f"--class {classes[-1]}={strange}, or --leave-out {strange}"
        )
    notes = [f"{without:,} images without a label do not take part"] if without else []
    notes += [f"{sealed:,} images whose labels are sealed do not take part"] if sealed else []
    scope = deciding_scope(table, settings.scope)
    unknown = np.ones(len(table), dtype=bool)
    patients = np.array([f"image:{name}" for name in table["image_id"]], dtype=object)
    if scope is not None:
        unknown = without_identifier(table, scope)
        patients = np.where(unknown, patients, _ids(table, scope))
    if unknown.any():
        notes.append(
            f"{int(unknown.sum()):,} of {len(table):,} images have no known patient: each counts as a "
            "patient of its own, and intervals may be too narrow"
        )
    return table.assign(true_class=found.to_numpy(), who=patients), notes


def _ids(table: pd.DataFrame, scope: str) -> np.ndarray:
    if scope.startswith(SCOPE) or scope in table:
        return table[scope].astype(str).to_numpy(dtype=object)
    return patient_ids(table, scope)


def _plain(text: str) -> str:
    return " ".join(str(text).replace("_", " ").replace("-", " ").casefold().split())


def _meaning(classes: Sequence[str], task: str, said: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return which class a label stands for, by its text in small letters."""
    meaning = {_plain(name): name for name in classes}
    if task in TASKS and TASKS[task].classes == tuple(classes):
        meaning |= {_plain(name): classes[code] for name, code in TASKS[task].mapping.items()}
    for name, labels in said.items():
        if name not in classes:
            raise ScoreError(f"--class {name}: is no class of this network; it has {', '.join(classes)}")
        meaning |= {_plain(label): name for label in labels}
    return meaning


def _answers(
    classifier: Classifier, target: Target, table: pd.DataFrame, sealed: frozenset[str], jobs: int
) -> tuple[list[int], dict[Framing, np.ndarray], list[Problem], list[str | None]]:
    """Return which rows could be read, probabilities of each framing, float64 (n, k), and what was lost.

    The last is what is known of each image that was read: whether the network was trained on it.
    """
    places = table["row"].to_numpy()
    names = table["image_id"].to_numpy(dtype=object)
    collected: dict[Framing, list[np.ndarray]] = {framing: [] for framing in FRAMINGS}
    rows: list[int] = []
    problems: list[Problem] = []
    trained_on: list[str | None] = []

    def answered(start: int) -> tuple[list[Squares | Problem], list[np.ndarray], Sequence[str | None]]:
        rows = places[start : start + _BATCH].tolist()
        read = zip(names[start : start + _BATCH], target.reader.read(rows), strict=True)
        found = [_squares(classifier, name, data, sealed) for name, data in read]
        usable = [squares for squares in found if not isinstance(squares, Problem)]
        # One batch a framing.
        batches = [np.stack(alike) for alike in zip(*usable, strict=True)]
        known: Sequence[str | None] = [None] * len(usable)
        if usable and classifier.training_set is not None:
            known = classifier.training_set.find(batches[FRAMINGS.index(PLAIN)])
        return found, [classifier.probabilities(batch) for batch in batches], known

    threads = torch.get_num_threads()
    try:
        with (
            # Two threads for one network would wait for each other on a busy machine.
            ThreadPoolExecutor(
                jobs or available_cores(), initializer=torch.set_num_threads, initargs=(1,)
            ) as pool,
            tqdm(total=len(places), desc="score images", unit="image", mininterval=0.5) as progress,
        ):
            starts = range(0, len(places), _BATCH)
            for start, (found, probabilities, known) in zip(starts, pool.map(answered, starts), strict=True):
                trained_on += known
                for row, squares in enumerate(found, start):
                    if isinstance(squares, Problem):
                        problems.append(Problem(names[row], squares.reason))
                    else:
                        rows.append(row)
                for framing, values in zip(FRAMINGS, probabilities, strict=bool(probabilities)):
                    collected[framing].append(values)
                progress.update(len(found))
    finally:
        torch.set_num_threads(threads)
    answers = {framing: np.concatenate(values) for framing, values in collected.items() if values}
    return rows, answers, problems, trained_on


def _squares(
    classifier: Classifier, name: str, data: bytes | Problem, sealed: frozenset[str]
) -> Squares | Problem:
    """Cut an image out in every framing; refuse one that is sealed."""
    if isinstance(data, Problem):
        return data
    try:
        # As `predict` and the service prepare it, which may shrink while decoding.
        plain = classifier.prepare(data)
        _, grey = decode(data)
    except ImageError as error:
        return Problem("", str(error))
    if sealed & {hashlib.sha256(data).hexdigest(), grey_hash(grey)}:
        raise ScoreError(
            f"{name}: is an image of the sealed test part of this model's run; `leakfree unseal` opens it, "
            "on the record"
        )
    return [plain if f == PLAIN else framed(grey, f, classifier.size) for f in FRAMINGS]


def _frame(table: pd.DataFrame, probabilities: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    columns = {f"p_{name}": probabilities[:, i] for i, name in enumerate(classes)}
    return pd.DataFrame(
        {
            "image_id": table["image_id"],
            "patient": table["who"],
            "part": "scored",
            "label": table["true_class"],
            **columns,
            "seed": 0,
        }
    )


def _score(predictions: Predictions, metrics: Sequence[str], settings: ScoreSettings) -> pd.DataFrame:
    found = evaluate(predictions, metrics, n_resamples=settings.resamples, seed=settings.seed)
    return found[["metric", "estimate", "low", "high", "n_images", "n_patients"]]


def _groups(
    table: pd.DataFrame, frame: pd.DataFrame, settings: ScoreSettings, metrics: Sequence[str], name: str
) -> pd.DataFrame:
    found = []
    for column in settings.by:
        values = _cut(table[column if column in ("part", "label") else f"{META}{column}"])
        for value in sorted(set(values)):
            inside = (values == value).to_numpy()
            if inside.sum() < _LEAST:
                row = {"metric": "too few images", "n_images": int(inside.sum())}
                scores = pd.DataFrame([row | {"n_patients": table.loc[inside, "who"].nunique()}])
            else:
                scores = _score(check_predictions(frame[inside], name), metrics[:4], settings)
            found.append(scores.assign(column=column, value=value))
    columns = ["column", "value", "metric", "estimate", "low", "high", "n_images", "n_patients"]
    return (
        pd.concat(found, ignore_index=True).reindex(columns=columns)
        if found
        else pd.DataFrame(columns=columns)
    )


def _cut(values: pd.Series) -> pd.Series:
    """Return text of each value; numbers of many values by quarter."""
    text = values.fillna("").astype(str).replace("", "unknown")
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.nunique() <= _VALUES or numbers.notna().sum() < (text != "unknown").sum():
        return text
    return pd.qcut(numbers, 4, duplicates="drop").astype(str).where(numbers.notna(), "unknown")
