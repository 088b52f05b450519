"""The description of published weights, checked before anything in it is believed.

What reads descriptions and no weights needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leakfree.base.errors import LeakfreeError
from leakfree.base.files import file_hash, write_json
from leakfree.base.paths import published_run
from leakfree.base.sums import check_files

#: What of a description changes the pixels that a network sees.
_OF_PIXELS = ("grey", "resize", "scale", "image_size", "mean", "std")
#: Side in pixels; mean and standard deviation of grey values between 0 and 1.
_RANGES = (("image_size", 8, 2048), ("mean", 0.0, 1.0), ("std", 0.001, 0.5))
#: Ending of a description's file; what belongs to the same model has the same beginning.
DESCRIPTION = "preprocessing.json"
#: Endings of the other files of a model, beside its weights; it may lack all but the first.
BESIDE = ("calibration.json", "novelty.safetensors", "training_set.safetensors")
#: In a description: hash of each file of `BESIDE` by its name, and hash of all else that it says.
_FILES, _OWN = "files_sha256", "description_sha256"


class PublishedError(LeakfreeError):
    """Published weights cannot be used; the message is one line."""


@dataclass(frozen=True)
class Description:
    """All that is needed to use a file of weights.

    Attributes
    ----------
    path : pathlib.Path
        File of weights.
    weights_sha256 : str
    task, model : str
    classes : tuple of str
    image_size : int
        Side in pixels.
    mean, std : float
        Of the training part's grey values, on the scale 0 to 1.
    manifest_hash : str
        Of the split that the network was trained under.
    preprocessing : str
        Version of the preprocessing: 12 hex digits that change with anything that changes pixels.
    files : mapping of str to str, or None
        Hash of each other file of the model, by name; None in descriptions of earlier versions.
    """

    path: Path
    weights_sha256: str
    task: str
    model: str
    classes: tuple[str, ...]
    image_size: int
    mean: float
    std: float
    manifest_hash: str
    preprocessing: str
    files: Mapping[str, str] | None = None

    @classmethod
    def of(cls, path: Path, content: Mapping[str, Any]) -> Description:
        """Take a description from what its JSON file holds; raises KeyError, TypeError or ValueError."""
        _check(content)
        pixels = json.dumps([content.get(name) for name in _OF_PIXELS])
        return cls(
            Path(path),
            str(content["weights_sha256"]),
            str(content["task"]),
            str(content["model"]),
            tuple(map(str, content["classes"])),
            int(content["image_size"]),
            float(content["mean"]),
            float(content["std"]),
            str(content["manifest_hash"]),
            hashlib.sha256(pixels.encode()).hexdigest()[:12],
            content.get(_FILES),
        )


def _check(content: Mapping[str, Any]) -> None:
    """Refuse a field that no trained network can have."""
    classes = content["classes"]
    if not (isinstance(classes, list) and all(isinstance(name, str) and name.strip() for name in classes)):
        raise ValueError("classes is no list of names")
    if not 2 <= len(set(classes)) == len(classes):
        raise ValueError("classes: two or more are needed, each once")
    for name, least, most in _RANGES:
        value = content[name]
        # Not a number, infinite and True are none of these.
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise ValueError(f"{name} is {value!r}, not between {least:g} and {most:g}")
    if not isinstance(content["image_size"], int):
        raise ValueError("image_size is no whole number")
    for name in ("model", "task", "weights_sha256", "manifest_hash"):
        if not isinstance(content[name], str) or not content[name]:
            raise ValueError(f"{name} is no text")
    if not (_FILES in content or _OWN in content):
        return
    if not isinstance(content[_FILES], dict):
        raise ValueError(f"{_FILES} is no list of files")
    if content[_OWN] != _own_hash(content):
        raise ValueError(f"{_OWN} is not its own; the file was changed")


def _own_hash(content: Mapping[str, Any]) -> str:
    said = json.dumps({name: value for name, value in content.items() if name != _OWN}, sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def beside(description: Path) -> tuple[Path, ...]:
    """Return where the other files of a model are, see `BESIDE`; the weights are named in the description."""
    before = description.name.removesuffix(DESCRIPTION)
    return tuple(description.with_name(f"{before}{name}") for name in BESIDE)


def add_hashes(description: Path) -> Path:
    """Write into a description the hashes of the model's other files and of itself, once they are written.

    From then on a model is refused when one of its files is changed, taken away or added.
    """
    content = json.loads(description.read_text(encoding="utf-8"))
    content[_FILES] = {file.name: file_hash(file) for file in beside(description) if file.is_file()}
    return write_json(description, {**content, _OWN: _own_hash(content)})


def has_hashes(description: Path) -> bool:
    """Whether `add_hashes` completed a description."""
    return description.is_file() and read_description(description).files is not None


def check_beside(description: Path, files: Mapping[str, str]) -> None:
    """Compare the other files of a model with the hashes in its description.

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If a file is another, missing, or added; one line.
    """
    check_files(description.parent, [file.name for file in beside(description)], files, description)


def default_model() -> Path:
    """Return the folder of the model to take where none is named: ``LEAKFREE_MODEL``, or the published run's.

    That is looked for where the command runs, then in the checkout that this package was installed from.
    """
    if named := os.environ.get("LEAKFREE_MODEL"):
        return Path(named)
    return published_run() / "models"


def described_error(error: Exception) -> str:
    """Say what is wrong with what a file holds: the name of a missing field, or the reason."""
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return str(error) if type(error) is ValueError else f"{type(error).__name__} {error}"


def read_description(path: Path) -> Description:
    """Read ``models/preprocessing.json`` of a run, or another model's.

    Raises
    ------
    PublishedError
        If the file is missing or no description of weights.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Description.of(path.with_name(Path(content["weights"]).name), content)
    except OSError as error:
        raise PublishedError(f"{error.filename or path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PublishedError(f"{path}: not a description of weights: {described_error(error)}") from error


def described_in(weights: Path) -> Path:
    """Find the description of a file of weights, beside it.

    Raises
    ------
    PublishedError
        If there is none, or the folder cannot be read.
    """
    try:
        for path in sorted(weights.parent.glob(f"*{DESCRIPTION}")):
            if read_description(path).path.name == weights.name:
                return path
    except OSError as error:
        raise PublishedError(f"{weights.parent}: {error.strerror or error}") from error
    raise PublishedError(f"{weights}: no *{DESCRIPTION} beside it describes these weights")
