"""The figures of a run as its ``figures/index.json`` describes them, and which of them an image is."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

#: Mean difference in grey levels, of 255, up to which an image in a notebook is the file of the figure: the
#: margins of the two may differ by some pixels. Other figures of the same notebook differ by 5 and more,
#: and the nearest one is taken.
_SAME = 6.0
_THUMBNAIL = (64, 64)
# Pixels of a screen for an inch, and pixels of the study's image files for an inch.
_SCREEN, _FILE = 96, 150


@dataclass(frozen=True)
class RunFigure:
    """One figure of a run.

    Attributes
    ----------
    name, caption, alt : str
        What it is called, what stands below it, and what it says to those who do not see it.
    file : str
        Name of the image in ``figures/``.
    page, cell : str and int, or None
        Page of the notebook, such as ``run/06_inflation``, and execution count of the cell that drew it.
    tables : tuple of str
        Files of the run that it was drawn from, such as ``tables/inflation.csv``.
    others : tuple of str
        Further files of it in ``figures/``: another kind, and the version for a phone.
    """

    name: str
    caption: str
    alt: str
    file: str
    page: str | None
    cell: int | None
    tables: tuple[str, ...]
    others: tuple[str, ...] = ()

    @property
    def narrow(self) -> str | None:
        """Name of the version for a phone, or None."""
        return next((name for name in self.others if name.endswith("-narrow.svg")), None)


def read_index(run: Path) -> dict[str, RunFigure]:
    """Return the figures of a run by name; none where it has no index.

    Raises
    ------
    ValueError
        The index is not one; the message is one line.
    """
    file = run / "figures" / "index.json"
    if not file.is_file():
        return {}
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        return {name: _figure(name, entry) for name, entry in entries.items()}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"figures/index.json of the run {run.name} is not an index: {error!r}") from None


def _figure(name: str, entry: dict) -> RunFigure:
    source = PurePosixPath(entry.get("source", ""))
    return RunFigure(
        name=name,
        caption=entry["caption"],
        alt=entry.get("alt") or entry["caption"],
        file=entry["files"][0],
        page=f"run/{source.stem}" if source.suffix == ".ipynb" else None,
        cell=entry.get("cell"),
        tables=tuple(entry.get("tables", ())),
        others=tuple(entry["files"][1:]),
    )


def missing_files(figure: RunFigure, run: Path) -> list[str]:
    """Return the files of a figure, relative to the run, that are not there."""
    files = [f"figures/{name}" for name in (figure.file, *figure.others)]
    return [name for name in (*files, *figure.tables) if not (run / name).is_file()]


def which_figure(image: bytes, figures: list[RunFigure], run: Path) -> RunFigure | None:
    """Return the figure whose image file looks like an image, or None.

    Parameters
    ----------
    image : bytes
        A PNG, as a notebook shows it.
    figures : list of RunFigure
        Those that it may be.
    run : Path
        Folder of the run.
    """
    shown = _thumbnail(io.BytesIO(image))
    files = {figure: run / "figures" / figure.file for figure in figures}
    distances = {
        figure: np.abs(_thumbnail(file) - shown).mean()
        for figure, file in files.items()
        if file.suffix == ".png" and file.is_file()
    }
    nearest = min(distances, key=distances.get, default=None)
    return nearest if nearest is not None and distances[nearest] < _SAME else None


def _thumbnail(file: object) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB").resize(_THUMBNAIL), dtype=float)


def size_on_screen(file: Path) -> tuple[int, int] | None:
    """Return width and height of an image in pixels of a page, so that text in all figures is of one size.

    Parameters
    ----------
    file : Path
        A PNG of the study's resolution, or an SVG with its size in points.

    Returns
    -------
    (int, int) or None
        None where the file does not say.
    """
    if file.suffix == ".svg":
        head = file.read_text(encoding="utf-8", errors="replace")[:4000]
        sizes = [re.search(rf'<svg[^>]*\s{side}="([\d.]+)pt"', head) for side in ("width", "height")]
        return tuple(round(float(size[1]) * _SCREEN / 72) for size in sizes) if all(sizes) else None
    with Image.open(file) as image:
        return tuple(round(side * _SCREEN / _FILE) for side in image.size)
