"""Prediction files: one row an image, checked on writing and on reading, so that metrics need no training."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from leakfree.base.errors import LeakfreeError
from leakfree.base.files import write_text

#: Columns of every file; the probabilities ``p_<class>`` stand between ``label`` and ``seed``.
FIXED_COLUMNS = ("image_id", "patient", "part", "label", "seed")
#: Largest distance from 1 that the probabilities of one image may sum to.
SUM_TOLERANCE = 1e-3
# What a missing identifier turns into when it is cast to text: it would join strangers into one patient.
_NO_PATIENT = frozenset({"none", "nan", "<na>", "nat"})


class PredictionsError(LeakfreeError):
    """Predictions cannot be used; the message is one line that names the file and the reason."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Checked predictions of one model and seed.

    Attributes
    ----------
    path : pathlib.Path
        File that they come from (or a name in messages where they were never saved).
    image_ids, patients, part : numpy.ndarray of str objects, shape (n,)
        Image id (unique), patient and part of each image.
    labels : numpy.ndarray of int64, shape (n,)
        True class of each image, as an index into `classes`.
    classes : tuple of str
        Class names in the order of the task; in a binary task the second is the positive one.
    probabilities : numpy.ndarray of float64, shape (n, k)
        Probability of each class; rows sum to 1 within `SUM_TOLERANCE`.
    seed : int
        Seed of the run that made them.
    """

    path: Path
    image_ids: np.ndarray
    patients: np.ndarray
    part: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    probabilities: np.ndarray
    seed: int

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @property
    def predicted(self) -> np.ndarray:
        """Index of the most probable class of each image, int64 (n,); of equal ones, the first."""
        return self.probabilities.argmax(axis=1)

    def select(self, *parts: str) -> Predictions:
        """Return the images of some parts; raise `PredictionsError` where one of them has none."""
        for part in parts:
            if not (self.part == part).any():
                raise PredictionsError(f"{self.path}: no image of part {part!r}")
        keep = np.isin(self.part.astype(str), parts)
        names = ("image_ids", "patients", "part", "labels", "probabilities")
        return replace(self, **{name: getattr(self, name)[keep] for name in names})


def check_predictions(frame: pd.DataFrame, path: str | os.PathLike = "predictions in memory") -> Predictions:
    """Check a table of predictions and return it as arrays.

    Parameters
    ----------
    frame : pandas.DataFrame
        Columns ``image_id, patient, part, label, p_<class>..., seed``; the order of the ``p_`` columns is
        the order of the classes.
    path : path-like
        Name used in messages.

    Returns
    -------
    Predictions
        With the rows in the order of `frame`.

    Raises
    ------
    PredictionsError
        A column is missing or unknown, there is no row, an identifier is missing, an image id occurs twice,
        a probability is not a number in [0, 1], a row does not sum to 1, a label is not one of the classes,
        or there is more than one seed.
    """

    def fail(reason: str) -> None:
        raise PredictionsError(f"{path}: {reason}")

    columns = [str(column) for column in frame.columns]
    classes = tuple(column[2:] for column in columns if column.startswith("p_"))
    known = {*FIXED_COLUMNS, *(f"p_{name}" for name in classes)}
    if missing := [column for column in FIXED_COLUMNS if column not in columns]:
        fail(f"missing column {', '.join(missing)}")
    if unknown := [column for column in columns if column not in known]:
        fail(f"unknown column {', '.join(unknown)}")
    if len(set(columns)) != len(columns):
        fail("a column occurs twice")
    if len(classes) < 2 or "" in classes:
        fail("needs a probability column p_<class> for each of two or more classes")
    if frame.empty:
        fail("no rows")

    text = {}
    for column in ("image_id", "patient", "part", "label"):
        values = np.array([str(value) for value in frame[column]], dtype=object)
        absent = frame[column].isna().to_numpy() | (values == "")
        if column == "patient":
            absent = absent | np.array([value.lower() in _NO_PATIENT for value in values])
        if absent.any():
            fail(f"row {int(absent.argmax()) + 1} has no {column}")
        text[column] = values
    ids = pd.Series(text["image_id"])
    if (again := ids.duplicated()).any():
        fail(f"image_id {ids[again].iloc[0]!r} occurs more than once")
    if foreign := sorted(set(text["label"]) - set(classes)):
        fail(f"label {foreign[0]!r} is not one of the classes {', '.join(classes)}")

    try:
        probabilities = frame[[f"p_{name}" for name in classes]].to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        fail("a probability is not a number")
    # Written so that NaN fails too.
    bad = ~((probabilities >= 0) & (probabilities <= 1)).all(axis=1)
    if bad.any():
        fail(f"image {ids[int(bad.argmax())]!r} has a probability that is not in [0, 1]")
    off = np.abs(probabilities.sum(axis=1) - 1) > SUM_TOLERANCE
    if off.any():
        fail(f"the probabilities of image {ids[int(off.argmax())]!r} do not sum to 1")

    try:
        seeds = {int(str(value)) for value in frame["seed"]}
    except ValueError:
        fail("a seed is not an integer")
    if len(seeds) != 1:
        fail(f"one file holds one seed, found {', '.join(map(str, sorted(seeds)))}")

    index = {name: i for i, name in enumerate(classes)}
    return Predictions(
        path=Path(path),
        image_ids=text["image_id"],
        patients=text["patient"],
        part=text["part"],
        labels=np.array([index[label] for label in text["label"]], dtype=np.int64),
        classes=classes,
        probabilities=probabilities,
        seed=seeds.pop(),
    )


def save_predictions(path: str | os.PathLike, frame: pd.DataFrame) -> Predictions:
    """Check predictions and write them as CSV (UTF-8, LF, probabilities with 6 decimals).

    The file appears complete or not at all, and saving what was read gives the same bytes.

    Parameters
    ----------
    path : path-like
        Destination; its folder is made where it is missing.
    frame : pandas.DataFrame
        As for `check_predictions`; rows keep their order.

    Returns
    -------
    Predictions
        What `read_predictions` gives for the file: metrics of these agree with metrics of the file, since
        rounding to 6 decimals can tie scores that differed.

    Raises
    ------
    PredictionsError
        See `check_predictions`. Nothing is written then.
    """
    path = Path(path)
    checked = check_predictions(frame, path)
    columns = {
        "image_id": checked.image_ids,
        "patient": checked.patients,
        "part": checked.part,
        "label": [checked.classes[i] for i in checked.labels],
    }
    for name, values in zip(checked.classes, checked.probabilities.T, strict=True):
        # Adding 0.0 turns -0.0 into 0.0.
        columns[f"p_{name}"] = [f"{value + 0.0:.6f}" for value in values]
    columns["seed"] = checked.seed
    text = pd.DataFrame(columns).to_csv(index=False, lineterminator="\n")
    saved = _parse(text.encode(), path)
    # A line break inside a name survives quoting in some readers and not in others.
    for name in ("image_ids", "patients", "part"):
        if not np.array_equal(getattr(saved, name), getattr(checked, name)):
            raise PredictionsError(f"{path}: {name} do not survive being written as CSV")
    write_text(path, text)
    return saved


def read_predictions(path: str | os.PathLike) -> Predictions:
    """Read and check a file of predictions.

    Parameters
    ----------
    path : path-like
        CSV file written by `save_predictions`.

    Returns
    -------
    Predictions
        Rows in the order of the file.

    Raises
    ------
    PredictionsError
        The file cannot be read, or its content fails `check_predictions`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from leakfree import read_predictions
    >>> path = Path(tempfile.mkdtemp()) / "predictions.csv"
    >>> lines = ["image_id,patient,part,label,seed,p_normal,p_ill", "a.png,p1,test,ill,0,0.2,0.8"]
    >>> _ = path.write_text(chr(10).join(lines))
    >>> read_predictions(path).predicted
    array([1])
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PredictionsError(f"{path}: {error.strerror or error}") from error
    return _parse(data, path)


def _parse(data: bytes, path: Path) -> Predictions:
    try:
        # As text: "0012" and "NA" are names of patients and not numbers or gaps.
        frame = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise PredictionsError(f"{path}: not a CSV table: {reason}") from error
    return check_predictions(frame, path)
