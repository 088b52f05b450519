"""What is known of a value without running the program: its data, its part, and what was done to it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

#: All rows, before any split.
ALL = "all"


class TooLarge(Exception):
    """The program is too large to be followed."""


@dataclass(frozen=True)
class Mark:
    """Something that was done to data, and with which rows.

    Attributes
    ----------
    kind : str
        ``scaling``, ``selection``, ``resampling``, ``metric``, ``chosen``, ... see `leakfree.check.names`.
    line : int
    parts : frozenset of str
        Parts of the rows that it learned from.
    roots : frozenset of int
    objs : frozenset
        Models that made it, of a prediction.
    """

    kind: str
    line: int
    parts: frozenset = frozenset()
    roots: frozenset = frozenset()
    objs: frozenset = frozenset()


@dataclass(frozen=True)
class Value:
    """An abstract value.

    Attributes
    ----------
    roots : frozenset of int
        Data that it comes from, by the place where they were read; empty for what is no data.
    parts : frozenset of str
        ``all``, ``train``, ``val``, ``test``, ``fold``.
    marks : frozenset of Mark
    objs : frozenset
        Objects that it may be, such as models, by the place where they were made.
    kinds : frozenset of str
        Their classes.
    flags : frozenset of str
        ``fresh`` just read, ``subset`` some of the rows, ``split`` just split off, ``element`` one row.
    texts : frozenset of str
        Words in it, such as a path or names of columns.
    items : tuple of Value or None
        Of a tuple whose length is known.
    """

    roots: frozenset = frozenset()
    parts: frozenset = frozenset()
    marks: frozenset = frozenset()
    objs: frozenset = frozenset()
    kinds: frozenset = frozenset()
    flags: frozenset = frozenset()
    texts: frozenset = frozenset()
    items: tuple | None = None

    def marked(self, *kinds: str) -> list[Mark]:
        """Return the marks of some kinds, in the order of their lines."""
        return sorted((mark for mark in self.marks if mark.kind in kinds), key=lambda mark: mark.line)

    def having(self, mark: Mark) -> Value:
        """Return the value with one mark more."""
        return replace(self, marks=self.marks | {mark}, flags=self.flags - {"fresh"}, items=None)

    def data(self) -> Value:
        """Return it as data: not an object, no tuple."""
        return replace(self, objs=frozenset(), kinds=frozenset(), items=None)


NOTHING = Value()


def join(*values: Value) -> Value:
    """Return what holds all of these."""
    some = [value for value in values if value is not NOTHING]
    if not some:
        return NOTHING
    if len(some) == 1:
        return some[0]
    flags = [value.flags for value in some if value.roots]
    return Value(
        frozenset().union(*(value.roots for value in some)),
        frozenset().union(*(value.parts for value in some)),
        frozenset().union(*(value.marks for value in some)),
        frozenset().union(*(value.objs for value in some)),
        frozenset().union(*(value.kinds for value in some)),
        frozenset.intersection(*flags) if flags else frozenset(),
        frozenset().union(*(value.texts for value in some)),
    )


@dataclass(frozen=True)
class Event:
    """Something that happens at a line.

    Attributes
    ----------
    what : str
        ``split``, ``fit``, ``transform``, ``score``, ``choose``, ``use``, ``alias``, ``class``.
    line : int
    value : Value
        The data, or the model.
    name : str
        The function or class.
    more : dict
        Further values and facts, by name.
    loops : tuple of str
        Loops around it, from the outside: ``epochs``, ``settings``, ``folds``, ``batches``.
    """

    what: str
    line: int
    value: Value
    name: str = ""
    more: dict = field(default_factory=dict)
    loops: tuple[str, ...] = ()


@dataclass(frozen=True)
class LintFinding:
    """A leak that was read.

    Attributes
    ----------
    rule : str
    line : int
    message : str
    level : {"error", "warning", "note"}
    """

    rule: str
    line: int
    message: str
    level: str = "error"
