"""Look for images that show nothing: black slices, one colour, all transparent. They are copies of nobody."""

from __future__ import annotations

import pandas as pd

from leakfree.audit.checks.findings import Check, not_run
from leakfree.audit.copies.duplicates import LEAST_SPREAD, shows_nothing

_SHOWN = 12


def blank(table: pd.DataFrame, *, least: float = LEAST_SPREAD) -> Check:
    """Look for images whose grey values hardly differ.

    Such images are alike without being copies, so that the search for copies leaves them out; here they
    are counted and named.

    Parameters
    ----------
    table : pandas.DataFrame
        Of the scan: ``image_id`` and ``std``, the standard deviation of the grey values.
    least : float
        Standard deviation that an image should have at least.

    Returns
    -------
    Check
    """
    if "std" not in table or not len(table):
        return not_run("blank", "No grey values: no image was read.")
    found = table[shows_nothing(table, least)]
    details = {"least_spread": least}
    if found.empty:
        return Check("blank", "PASS", "All images show something.", details=details)
    files = found["image_id"].tolist()
    told = "1 image shows" if len(files) == 1 else f"{len(files):,} images show"
    return Check(
        "blank",
        "WARN",
        f"{told} nothing, such as {files[0]}; the search for copies leaves them out.",
        "Look at them; export them again, or drop them.",
        len(files),
        tuple(sorted(files)),
        "warning",
        tuple((file,) for file in files[:_SHOWN]),
        details,
    )
