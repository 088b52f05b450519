"""Protocols: ways to split, fit and evaluate. ``clean``, or one leak switched on and declared."""

from __future__ import annotations

from dataclasses import dataclass

#: Leaks that a ledger can find between what two stages consumed.
LEAKS = ("images", "linked groups")


@dataclass(frozen=True)
class Protocol:
    """A way to split, fit and evaluate, with the leaks that it has on purpose.

    Attributes
    ----------
    name : str
        ``clean``, or the one leak that is switched on.
    leaks : frozenset of str
        Declared leaks, of `LEAKS`. An undeclared leak fails a run, and so does a declared one that the
        ledger does not find.
    """

    name: str
    leaks: frozenset[str] = frozenset()


CLEAN = Protocol("clean")
IMAGE_LEVEL = Protocol("image-level", frozenset({"linked groups"}))
#: Other images of the test patients train (L3.2).
SIBLINGS = Protocol("siblings", frozenset({"linked groups"}))
#: The test images train: the reference study's ignored indices (L1.1).
NO_TEST_SET = Protocol("no-test-set", frozenset({"images", "linked groups"}))
