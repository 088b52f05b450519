"""Drawings of the architecture page: the flow with its imports, and who writes to which folder of a run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path as Curve
from rooms import Room

# Of the library and of the study, light enough for black text, apart in lightness too.
_COLOURS = ("#cfe3f5", "#f6dcc0")
# Width of a box in units of the drawing.
_WIDTH = 2.95
_ARC, _INK = "#4a6fa5", "#1f2328"
_STYLE = {"svg.hashsalt": "leakfree", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 9}


def draw_flow(rooms: list[Room], counted: Counter[tuple[int, int]], target: Path) -> tuple[int, int]:
    """Draw the rooms from top to bottom, and an arc for every pair of rooms where one imports from the other.

    Parameters
    ----------
    rooms : list of Room
    counted : Counter
        Imports from room to room, as `rooms.between` counts them.
    target : Path
        SVG to write.

    Returns
    -------
    (int, int)
        Width and height in pixels of a page.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.6, 0.34 * len(rooms) + 0.3))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(-0.3, 4.9)
        axes.set_ylim(len(rooms) - 0.3, -0.7)
        axes.axis("off")
        for position, room in enumerate(rooms):
            box = FancyBboxPatch(
                (0, position - 0.36),
                _WIDTH,
                0.72,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=_COLOURS[room.name.startswith("leakfree_study")],
                edgecolor="none",
                mutation_aspect=4,
            )
            axes.add_patch(box)
            axes.text(0.08, position, room.name, va="center", ha="left", color=_INK, fontsize=7.6)
        for (here, there), count in sorted(counted.items()):
            _arc(axes, here, there, count, len(rooms))
        size = figure.get_size_inches()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white")
    return round(size[0] * 96), round(size[1] * 96)


def _arc(axes: Axes, here: int, there: int, count: int, rooms: int) -> None:
    """Draw one arc from the importing room up to the imported one."""
    # Near rooms get flat arcs, far ones reach the margin.
    edge = _WIDTH + 0.03
    bulge = edge + 0.3 + 2.1 * abs(here - there) / rooms
    curve = Curve(
        [(edge, here), (bulge, here), (bulge, there), (edge, there)],
        [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4],
    )
    axes.add_patch(
        FancyArrowPatch(
            path=curve,
            arrowstyle="-|>",
            mutation_scale=6 + count**0.5,
            linewidth=0.4 + 0.4 * count**0.7,
            color=_ARC,
            alpha=0.55,
        )
    )


def draw_files(counts: dict[str, Counter[str]], target: Path) -> tuple[int, int]:
    """Draw how many files each notebook wrote to each folder of the run: a row a notebook, a column a folder.

    Parameters
    ----------
    counts : dict of str to Counter
        As `architecture_page.written` returns them.
    target : Path
        SVG to write.

    Returns
    -------
    (int, int)
        Width and height in pixels of a page.
    """
    folders = sorted({folder for counter in counts.values() for folder in counter})
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(1.75 + 0.46 * len(folders), 0.95 + 0.34 * len(counts)))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(-3.75, len(folders) - 0.45)
        axes.set_ylim(len(counts) - 0.4, -2.9)
        axes.axis("off")
        for column, folder in enumerate(folders):
            axes.text(
                column - 0.1, -0.75, folder, rotation=50, ha="left", va="bottom", color=_INK, fontsize=8
            )
        for row, (name, counter) in enumerate(counts.items()):
            axes.axhline(row + 0.5, color="#e4e4e4", linewidth=0.6)
            axes.text(-3.7, row, name, ha="left", va="center", color=_INK, fontsize=8)
            for column, folder in enumerate(folders):
                if counter[folder]:
                    box = (column - 0.44, row - 0.36)
                    shade = _shade(counter[folder])
                    axes.add_patch(Rectangle(box, 0.88, 0.72, facecolor=shade, edgecolor="none"))
                    axes.text(
                        column, row, str(counter[folder]), ha="center", va="center", color=_INK, fontsize=7.5
                    )
        size = figure.get_size_inches()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white")
    return round(size[0] * 96), round(size[1] * 96)


def _shade(count: int) -> tuple[float, float, float]:
    """Return a blue that gets darker with the number of digits, never too dark for black text."""
    depth = min(1.0, np.log10(count + 1) / 3)
    return tuple(1 - depth * (1 - part) for part in (0.55, 0.74, 0.93))
