"""What learned from all rows, or from test rows, before it was applied to training rows."""

from __future__ import annotations

from collections.abc import Iterator

from leakfree.check.flow import Flow
from leakfree.check.names import LEARNS, PREPARES
from leakfree.check.values import ALL, Event, LintFinding

_LEVELS = {"selection": "error", "target encoding": "error"}


def preparation(flow: Flow) -> Iterator[LintFinding]:
    """Yield preprocessing leaks: scaling, selection, reduction, imputation, encoding, vocabulary."""
    for event in flow.events:
        if event.what == "split":
            for mark in event.value.marked(*PREPARES):
                if ALL in mark.parts:
                    yield _found(
                        mark.kind, mark.line, f"learned from all rows, before the split in {{{event.line}}}"
                    )
        elif event.what == "transform":
            fitted = event.more["fitted"]
            for kind in event.more["kinds"]:
                applied = frozenset(event.value.parts & {"train", "test", "val", "fold"})
                split = any(
                    other.what == "split" and other.value.roots & fitted.roots for other in flow.events
                )
                if applied == {"train"}:
                    # Some of the training rows again; a leak only if the others are tested.
                    applied = frozenset(_held_out(flow, event.value.roots))
                if applied and ALL in fitted.parts and fitted.roots & event.value.roots and split:
                    yield _found(kind, event.line, "learned from all rows, and is applied to a part of them")
        elif event.what == "fit" and event.more.get("transformer"):
            yield from _mixed(flow, event)


def _held_out(flow: Flow, roots: frozenset) -> frozenset:
    """Return the parts beside training that rows of this data are in."""
    used = [other.value for other in flow.events if other.what in ("transform", "predict", "score", "fit")]
    parts = frozenset(part for value in used if value.roots & roots for part in value.parts)
    return parts & {"test", "val", "fold"}


def _mixed(flow: Flow, event: Event) -> Iterator[LintFinding]:
    """Yield what was fitted to training and test rows together, where that test part is scored."""
    first = event.more["first"]
    if not {"train", "test"} <= first.parts:
        return
    kinds = [kind for kind in event.value.kinds | event.more["model"].kinds]
    scored = any(
        other.what == "score" and "test" in other.value.parts and other.value.roots & first.roots
        for other in flow.events
    )
    if scored:
        for kind in sorted({LEARNS[name] for name in kinds if name in LEARNS}):
            yield _found(kind, event.line, "learned from training and test rows together")


def _found(kind: str, line: int, message: str) -> LintFinding:
    return LintFinding(kind.replace(" ", "-"), line, f"{kind} {message}", _LEVELS.get(kind, "warning"))
