"""Predict files: what ``leakfree predict`` does."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from leakfree.base.errors import LeakfreeError
from leakfree.base.escape import one_line, say, spreadsheet
from leakfree.base.files import replacing
from leakfree.data.bounded import check_bounded
from leakfree.data.files import DICOM_SUFFIXES
from leakfree.data.images import ImageError
from leakfree.data.intake import Limits
from leakfree.predict.classifier import UNCHECKED, WARNING, Answer, Classifier
from leakfree.predict.overlay import draw_overlay
from leakfree.predict.training_set import COPY, SAME

#: What is taken from folders; a file that is named is read whatever its name.
SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif"})
#: Images that a thread reads and predicts at a time.
_BATCH = 16


class InputError(LeakfreeError):
    """Nothing can be predicted; the message is one line."""


@dataclass(frozen=True)
class ImageFile:
    """A file to predict, or bytes that came in another way under that name."""

    name: str
    data: bytes | None = None

    def read(self) -> bytes:
        """Return its bytes; raises `ImageError` where it cannot be read."""
        if self.data is not None:
            return self.data
        try:
            # Not more than is accepted: some files, such as devices, never end.
            with Path(self.name).open("rb") as stream:
                return stream.read(Limits().bytes + 1)
        except (OSError, ValueError) as error:  # a name may hold a zero
            raise ImageError(getattr(error, "strerror", None) or str(error)) from error


@dataclass(frozen=True)
class Row:
    """What came of one file: an answer, or why there is none."""

    file: str
    answer: Answer | None
    error: str | None = None


def find_images(inputs: Sequence[str], standard_input: Callable[[], bytes]) -> tuple[list[ImageFile], int]:
    """Find what to predict.

    Parameters
    ----------
    inputs : sequence of str
        Files, folders (with all below), globs, or ``-``: an image on standard input, or a list of files
        there, one a line.
    standard_input : callable
        Reads it.

    Returns
    -------
    images : list of Image
        In the order of `inputs`, folders by name.
    left_out : int
        Files in folders whose names are not those of images.

    Raises
    ------
    InputError
        If an input is not there, or nothing is found.
    """
    images: list[ImageFile] = []
    left_out = 0
    for given in inputs:
        path = Path(given)
        if given == "-":
            images += _from_standard_input(standard_input())
        elif path.is_dir():
            found, others = _in_folder(path)
            left_out += others
            images += found
        elif path.exists():
            images.append(ImageFile(given))
        elif matching := sorted(glob.glob(given, recursive=True)):
            images += [ImageFile(p) for p in matching if Path(p).is_file()]
        else:
            raise InputError(f"{given}: no such file, folder or pattern")
    if not images:
        below = (file for given in inputs if Path(given).is_dir() for file in Path(given).rglob("*"))
        dicom = any(file.suffix.lower() in DICOM_SUFFIXES for file in below)
        told = "; its DICOM files have to be exported as PNG or JPEG" if dicom else ""
        raise InputError(f"no image found in {', '.join(inputs)}{told}")
    return images, left_out


def _in_folder(folder: Path) -> tuple[list[ImageFile], int]:
    """List a folder with all below, and count what has no name of an image.

    A folder that cannot be read and a link to nothing are listed too, so that they become rows with a reason.
    """
    unread: list[Path] = []
    walk = os.walk(folder, onerror=lambda error: unread.append(Path(error.filename)))
    files = [Path(place, name) for place, _, names in walk for name in names]
    named = [file for file in files if file.suffix.lower() in SUFFIXES and _is_file_or_lost(file)]
    listed = sorted([*named, *unread])
    left_out = sum(file.suffix.lower() not in SUFFIXES and file.is_file() for file in files)
    if unread and not named:
        raise InputError(f"{unread[0]}: cannot be read")
    return [ImageFile(str(file)) for file in listed], left_out


def _is_file_or_lost(file: Path) -> bool:
    try:
        return file.is_file() or not file.exists()
    except OSError:  # reported when it is read
        return True


def refuse_input(out: Path, images: Sequence[ImageFile]) -> None:
    """Raise `InputError` where the file to write is one of the images."""
    if not out.exists():
        return
    for image in images:
        with suppress(OSError, ValueError):  # reported when it is read
            if image.data is None and os.path.samefile(out, image.name):
                raise InputError(f"--out {out}: is one of the images")


def _from_standard_input(data: bytes) -> list[ImageFile]:
    if not data.strip():
        raise InputError("standard input is empty: send an image, or names of files, one a line")
    try:
        check_bounded(data, Limits())
    except ImageError:
        try:
            # As `find -print0` writes them, or one a line.
            text = data.decode("utf-8")
            lines = text.split("\0") if "\0" in text else text.splitlines()
        except UnicodeDecodeError:
            return [ImageFile("-", data)]  # no list either: reported with its reason, as any file
        return [ImageFile(line.strip()) for line in lines if line.strip()]
    return [ImageFile("-", data)]


def predict_images(
    classifier: Classifier,
    images: Sequence[ImageFile],
    *,
    jobs: int,
    overlays: Path | None = None,
    progress: bool = True,
) -> Iterator[Row]:
    """Predict images in order; one that cannot be used is a row with its reason.

    Parameters
    ----------
    classifier : Classifier
    images : sequence of Image
    jobs : int
        Threads; each reads and predicts batches of its own.
    overlays : pathlib.Path, optional
        Folder for pictures of what the network looks at, ``<name>_overlay.png``.
    progress : bool
        Show a bar on standard error.
    """
    limits = Limits()
    names = _overlay_names(images) if overlays is not None else None

    def work(start: int) -> list[Row]:
        batch = images[start : start + _BATCH]
        errors: dict[int, str] = {}
        ready: dict[int, np.ndarray] = {}
        for number, image in enumerate(batch):
            try:
                ready[number] = classifier.prepare(image.read(), limits)
            except ImageError as error:
                errors[number] = " ".join(str(error).split())
        answers: dict[int, Answer] = {}
        if ready:
            pixels = np.stack(list(ready.values()))
            answers = dict(zip(ready, classifier.answer(pixels), strict=True))
        if overlays is not None and names is not None and ready:
            for number, heat in zip(ready, classifier.heat(pixels), strict=True):
                with replacing(overlays / names[start + number]) as temporary:
                    temporary.write_bytes(draw_overlay(batch[number].read(), heat))
        return [Row(image.name, answers.get(n), errors.get(n)) for n, image in enumerate(batch)]

    threads = torch.get_num_threads()
    try:
        with (
            ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool,
            tqdm(
                total=len(images), desc="predict", unit="image", disable=not progress, mininterval=0.5
            ) as bar,
        ):
            for rows in pool.map(work, range(0, len(images), _BATCH)):
                bar.update(len(rows))
                yield from rows
    finally:
        torch.set_num_threads(threads)


def _overlay_names(images: Sequence[ImageFile]) -> list[str]:
    """Name the pictures after the files; files of one name in several folders get numbers."""
    taken: dict[str, int] = {}
    names = []
    for image in images:
        stem = "stdin" if image.name == "-" else Path(image.name).stem
        taken[stem] = taken.get(stem, 0) + 1
        number = f"-{taken[stem]}" if taken[stem] > 1 else ""
        names.append(f"{stem}{number}_overlay.png")
    return names


def as_json(rows: Iterable[Row], classifier: Classifier) -> str:
    """Write rows as one JSON document."""
    predictions = [
        {"file": row.file, "error": row.error}
        if row.answer is None
        else {"file": row.file} | asdict(row.answer)
        for row in rows
    ]
    content = {"model": classifier.about, "warning": WARNING, "predictions": predictions}
    return json.dumps(content, indent=1) + "\n"


def as_csv(rows: Iterable[Row], classifier: Classifier) -> str:
    """Write rows as CSV, with the model in every row: rows get about without their heads.

    It is made to be opened in a spreadsheet, so no name in it begins as a formula does.
    """
    model = classifier.about
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    probabilities = [f"p_{name.lower().replace(' ', '_')}" for name in classifier.names]
    said = ("prediction_set", "coverage", "novelty", "zoom", "in_training_set", "warnings", "error")
    about = ("model", "weights_sha256", "preprocessing")
    writer.writerow(["file", "diagnosis", "confidence", *probabilities, *said, *about])
    for row in rows:
        answer = row.answer
        values: list[object] = [""] * (len(probabilities) + 8)
        if answer is not None:
            inside = "" if answer.prediction_set is None else "|".join(answer.prediction_set)
            values = [spreadsheet(answer.diagnosis), f"{answer.confidence:.6f}"]
            values += [f"{p:.6f}" for p in answer.probabilities.values()]
            values += [spreadsheet(inside), "" if answer.coverage is None else f"{answer.coverage:g}"]
            values += ["" if number is None else f"{number:.4f}" for number in (answer.novelty, answer.zoom)]
            values += [answer.in_training_set or "", " ".join(answer.warnings)]
        of_model = [model["name"], model["weights_sha256"], model["preprocessing"]]
        writer.writerow([_as_path(row.file), *values, spreadsheet(row.error or ""), *of_model])
    # A file name need not be valid Unicode.
    return buffer.getvalue().encode("utf-8", "backslashreplace").decode("utf-8")


def _as_path(name: str) -> str:
    """Return a name that is no formula to a spreadsheet and still leads to the file; ``-`` is no file."""
    return name if name == "-" or spreadsheet(name) == name else f"./{name}"


def as_table(rows: Sequence[Row], classifier: Classifier) -> str:
    """Write rows for the eye."""
    header = ("file", "diagnosis", "confidence", "cannot be ruled out", "")
    lines = [header]
    for row in rows:
        said = row.answer
        if said is None:
            lines.append((one_line(row.file), "unusable", "", "", one_line(row.error or "")))
            continue
        inside = "" if said.prediction_set is None else ", ".join(said.prediction_set) or "no class fits"
        notes = {
            "not like a chest X-ray": said.novelty is not None and said.novelty > 1,
            "it was trained on: proves nothing": said.in_training_set == SAME,
            "a copy of it was trained on: proves nothing": said.in_training_set == COPY,
        }
        note = ", ".join(note for note, holds in notes.items() if holds)
        lines.append(
            (one_line(row.file), one_line(said.diagnosis), f"{said.confidence:.3f}", one_line(inside), note)
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    shown = [
        "  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    model = classifier.about
    coverage = classifier.calibrated.conformal and 1 - classifier.calibrated.conformal.alpha
    shown += [
        "",
        f"{model['name']}, weights {model['weights_sha256'][:12]}, preprocessing {model['preprocessing']}.",
    ]
    if model["files_checked"] == UNCHECKED:
        shown.append("Nothing checked the files beside the weights: the model has no hashes of them.")
    if coverage:
        shown.append(f"Sets hold the true class of {coverage:.0%} of patients like those of the study.")
    return "\n".join([*shown, WARNING, ""])


FORMATS = {"table": as_table, "json": as_json, "csv": as_csv}


def report_unusable(rows: Sequence[Row], left_out: int) -> None:
    """Count on standard error what has no answer."""
    bad = [row for row in rows if row.answer is None]
    if bad:
        say(
            f"leakfree predict: {len(bad)} of {len(rows)} files cannot be used, such as {bad[0].file}: "
            f"{bad[0].error}",
            file=sys.stderr,
        )
    if left_out:
        say(
            f"leakfree predict: {left_out} files in the folders have no name of an image and were left out",
            file=sys.stderr,
        )
