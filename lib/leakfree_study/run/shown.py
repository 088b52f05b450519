"""A figure as a notebook shows it: the written file with its caption, and a text for who does not see it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from leakfree.base.escape import html, one_line

_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


@dataclass(frozen=True)
class ShownFigure:
    """A saved figure; Jupyter displays it with its caption, and the book finds it by its name.

    Attributes
    ----------
    path : pathlib.Path
        SVG or PNG file; its stem is the figure's name.
    caption, alt : str
        What it shows, and what is seen.
    """

    path: Path
    caption: str
    alt: str

    def _repr_html_(self) -> str:
        name = html(self.path.stem)
        data = base64.b64encode(self.path.read_bytes()).decode("ascii")
        return (
            f'<figure class="leakfree-figure" id="fig-{name}" data-figure="{name}">'
            f'<img alt="{html(self.alt)}" '
            f'src="data:{_TYPES[self.path.suffix]};base64,{data}">'
            f"<figcaption>{html(self.caption)}</figcaption></figure>"
        )

    def __repr__(self) -> str:
        return f"Figure: {one_line(self.caption)}"
