"""What is said of an error that nobody foresaw: one line, and an exit code that no finding has."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from leakfree.base.escape import say

#: Exit code of an error of leakfree itself.
INTERNAL = 3


def internal_error(program: str, error: Exception) -> int:
    """Say an error that nobody foresaw in one line; return its exit code, which no finding has."""
    if os.environ.get("LEAKFREE_TRACEBACK"):
        traceback.print_exception(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    what = " ".join(f"{type(error).__name__} {error}".split())[:500]
    say(
        f"{program}: internal error: {what} ({Path(place.filename).name}, line {place.lineno}); this is a "
        "fault of leakfree, please report it; LEAKFREE_TRACEBACK=1 shows all of it",
        file=sys.stderr,
    )
    return INTERNAL
