"""How much of a run is done, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Mapping


class Progress:
    """The steps of a run, with what each is expected to cost.

    Parameters
    ----------
    expected : mapping of str to float
        Steps in their order, with the seconds that each took on another machine or in an earlier run: only
        their proportions count once the first step is done.

    Examples
    --------
    >>> progress = Progress({"train": 30.0, "book": 10.0})
    >>> progress.line("train")
    '[1/2] train (0 % done, about 40 s left)'
    """

    def __init__(self, expected: Mapping[str, float]) -> None:
        self._expected = dict(expected)
        self._places = {name: place for place, name in enumerate(self._expected, start=1)}
        self._done = self._skipped = 0.0
        self._started = time.monotonic()

    def line(self, name: str) -> str:
        """Begin a step; return a line that says its place, the share that is done and what is left."""
        total = sum(self._expected.values())
        left = total - self._done - self._skipped
        # The pace of this machine, once something was really run.
        pace = (time.monotonic() - self._started) / self._done if self._done else 1.0
        share = round(100 * (1 - left / total)) if total else 0
        place = f"[{self._places[name]}/{len(self._places)}]"
        return f"{place} {name} ({share} % done, about {_in_words(left * pace)} left)"

    def end(self, name: str, *, skipped: bool = False) -> None:
        """Say that a step has ended; one that had nothing to do tells nothing of the pace."""
        if skipped:
            self._skipped += self._expected[name]
        else:
            self._done += self._expected[name]


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
