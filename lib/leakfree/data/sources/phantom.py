"""The embedded default cohort: synthetic chest X-rays whose truth is known.

The plan is made first and is cheap; images are drawn when they are read.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from leakfree.data.raw import RawImage
from leakfree.data.sources.phantom_image import draw_image
from leakfree.data.sources.phantom_plan import PhantomSettings, PlannedImage, make_plan

__all__ = ["PhantomSettings", "PhantomSource", "PlannedImage", "encode", "make_plan"]

#: Columns of the truth.
TRUTH_COLUMNS = (
    "file", "patient", "label", "part", "planted", "of", "missing_identifier", "width", "height", "mode",
)  # fmt: skip


def encode(pixels: np.ndarray, planned: PlannedImage) -> bytes:
    """Stretch a drawing, uint8 (size, size), to the size of its file and encode it as JPEG.

    A near-duplicate is shifted, with the edge repeated, and brightened.
    """
    image = Image.fromarray(pixels).resize((planned.width, planned.height), Image.Resampling.BILINEAR)
    if planned.shift != (0, 0) or planned.gain != 1.0:
        right, down = planned.shift
        brighter = np.asarray(image, dtype=np.float32) * planned.gain
        moved = ndimage.shift(brighter, (down, right), order=0, mode="nearest")
        image = Image.fromarray(np.clip(np.round(moved), 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    image.convert(planned.mode).save(buffer, format="JPEG", quality=planned.quality)
    return buffer.getvalue()


class PhantomSource:
    r"""The phantom cohort as a source of images.

    Parameters
    ----------
    settings : PhantomSettings, optional
        The settings; the defaults without it.

    Attributes
    ----------
    plan : list of PlannedImage
        What iteration yields, in order of the file names.

    Examples
    --------
    >>> source = PhantomSource(PhantomSettings(n_images=60, size=32))
    >>> len(source), next(iter(source)).data[:2]
    (60, b'\xff\xd8')
    """

    name = "phantom"

    modules: tuple[str, ...] = (
        "leakfree/data/sources/phantom",
        "leakfree/data/sources/phantom_image",
        "leakfree/data/sources/phantom_plan",
    )

    def __init__(self, settings: PhantomSettings | None = None):
        self.settings = settings or PhantomSettings()
        self.plan = make_plan(self.settings)

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[RawImage]:
        return map(self.render, self.plan)

    def render(self, image: PlannedImage) -> RawImage:
        """Draw and encode one image of the plan; safe to call from threads, in any order."""
        s = self.settings
        # The middle number keeps the streams of patients and of images apart.
        pixels = draw_image(
            s.size,
            image.drawn,
            s.identity,
            s.disease,
            (s.seed, 0, image.patient_number),
            (s.seed, 1, image.number),
        )
        data = encode(pixels, image)
        return RawImage(file=image.file, data=data, label=image.label, part=image.part)

    def fingerprint(self) -> str:
        """Return a hex digest of the settings."""
        return hashlib.sha256(self.settings.model_dump_json().encode()).hexdigest()

    def truth(self) -> pd.DataFrame:
        """Return what is true of each file, which no analysis may read but every one can be checked against.

        Returns
        -------
        pandas.DataFrame
            One row a file in order of iteration: ``file``, ``patient`` (latent; a copy has its original's),
            ``label`` (of the picture, before a conflicting label was planted), ``part``, ``planted`` (one of
            `PLANTED`), ``of`` (the original's file, else missing), ``missing_identifier``, ``width``,
            ``height`` (px) and ``mode``.
        """
        rows = pd.DataFrame([asdict(image) for image in self.plan]).drop(columns="label")
        rows = rows.rename(columns={"drawn": "label"})
        return rows[list(TRUTH_COLUMNS)]
