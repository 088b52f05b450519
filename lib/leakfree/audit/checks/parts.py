"""Look at the parts of a split: too small, empty, without a class, or none at all."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import pandas as pd

from leakfree.audit.checks.findings import Check, not_run

_Z = 1.959963984540054
#: Half width of a 95 % interval that a part should not exceed.
HALF_WIDTH = 0.1


def images_needed(half_width: float = HALF_WIDTH) -> int:
    """Return how many independent images keep every proportion's 95 % interval within a half width.

    The half width of Wilson's score interval (Wilson, "Probable inference, the law of succession, and
    statistical inference", Journal of the American Statistical Association 22, 1927, 209-212) is largest for
    a proportion of one half, where it is z / (2 sqrt(n + z^2)). A sensitivity is such a proportion over the
    images of its class, an accuracy over the images of the part. Images of one patient are not independent,
    so this is the least that is needed.

    Raises
    ------
    ValueError
        If the half width is not between 0 and 0.5.
    """
    if not 0 < half_width < 0.5:
        raise ValueError(f"half width must be between 0 and 0.5, got {half_width}")
    # Rounding in the last digit must not ask for one image more.
    return max(1, ceil(_Z**2 * (1 / (4 * half_width**2) - 1) - 1e-9))


#: Images that a part, and each class in it, should have at least.
MINIMUM = images_needed()


def parts(table: pd.DataFrame, *, minimum: int = MINIMUM, declared: Sequence[str] = ()) -> Check:
    """Look for parts that cannot carry a score.

    Parameters
    ----------
    table : pandas.DataFrame
        A row a readable image, with ``image_id``, ``part`` and ``label``. A label of ``sealed``, or an empty
        one, leaves the classes of its part unchecked, and the check cannot pass.
    minimum : int
        Images that a part, and each class in it, should have at least; `images_needed` by default.
    declared : sequence of str
        Parts that there should be, whether or not an image of them could be read.

    Returns
    -------
    Check
        ``count`` is the number of findings. ``files`` are the images without a part. In ``details``, each
        part has its number of images, its ``labels``, and whether its classes were ``checked``.
    """
    part = _texts(table, "part")
    label = _texts(table, "label")
    names = [str(name) for name in dict.fromkeys([*declared, *part]) if str(name)]
    if not names:
        return not_run("parts", "No parts: the images are not split.")
    known = (label != "") & (label != "sealed")
    classes = sorted(set(label[known]))
    findings: list[str] = []
    gaps: list[str] = []
    rows = []
    for name in names:
        inside = part == name
        n = int(inside.sum())
        held = {c: int((inside & (label == c)).sum()) for c in classes}
        checked = bool(n and known[inside].all())
        rows.append({"name": name, "images": n, "labels": held, "checked": checked})
        if not n:
            findings.append(f"{name} has no readable image")
            continue
        if n < minimum:
            findings.append(f"{name} has {n} {_images(n)}, fewer than {minimum}")
        if not checked:
            unknown = int((inside & ~known).sum())
            gaps.append(f"classes of {name} ({unknown:,} {_images(unknown)} without a usable label)")
            continue
        if lacking := [c for c in classes if not held[c]]:
            findings.append(f"{name} lacks {_some(lacking)}")
        # A part that is too small as a whole is said to be so once.
        few = [f"{held[c]} {c}" for c in classes if 0 < held[c] < minimum] if n >= minimum else []
        if few:
            findings.append(f"{name} has only {_some(few)}, fewer than {minimum}")
    ids = _texts(table, "image_id")
    stray = tuple(sorted(str(i) for i in ids[part == ""]))
    if (part == "").any():
        n = int((part == "").sum())
        findings.append(f"{n:,} {_images(n)} without a part")
    if len(names) == 1:
        findings.append(f"{names[0]} is the only part, so nothing is held out")
    if len(classes) == 1 and not gaps:
        gaps.append("classes, for there is one label")
    details = {"parts": rows, "minimum": minimum}
    missing = f" Not checked: {'; '.join(gaps)}." if gaps else ""
    if findings:
        return Check(
            "parts",
            "WARN",
            f"{_some(findings, '; ')}.{missing}",
            f"Below {minimum} images of a class, a sensitivity's 95 % interval is wider than "
            f"{HALF_WIDTH:.0%} to either side; pool parts or cross-validate by patient."
            if minimum == MINIMUM
            else "Pool parts or cross-validate by patient.",
            len(findings),
            stray if stray and stray[0] else (),
            "warning",
            details=details,
        )
    summary = f"{len(names)} parts, each with {minimum} images or more" + (
        f", and of each of {len(classes)} labels." if not gaps else "."
    )
    return Check("parts", "INCONCLUSIVE" if gaps else "PASS", summary + missing, details=details)


def _texts(table: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column as strings, empty where it or a value is absent."""
    if column not in table:
        return np.full(len(table), "", dtype=object)
    return np.array(
        [str(v) for v in table[column].astype(object).where(table[column].notna(), "")], dtype=object
    )


def _some(texts: Sequence[str], joint: str = ", ", most: int = 5) -> str:
    rest = f"{joint}and {len(texts) - most} more" if len(texts) > most else ""
    return joint.join(texts[:most]) + rest


def _images(n: int) -> str:
    return "image" if n == 1 else "images"
