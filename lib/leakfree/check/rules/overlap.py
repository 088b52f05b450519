"""Rows that are on both sides: repeated before the split, trained on and tested on, or never split at all."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from leakfree.check.flow import Flow
from leakfree.check.names import LEARNS
from leakfree.check.values import ALL, Event, LintFinding

_REPEATS = {"resampling": "oversampling", "augmented rows": "augmentation"}
_INDEX_WORDS = ("indices", "indexes", "idx", "idxs", "index", "subset", "ids", "rows", "image_ids", "keep")


def overlap(flow: Flow) -> Iterator[LintFinding]:
    """Yield overlap leaks."""
    splits = [event for event in flow.events if event.what == "split"]
    for event in flow.events:
        if event.what == "split":
            for mark in event.value.marked(*_REPEATS):
                if event.name != "by hand" and mark.parts == event.value.parts == frozenset({"train"}):
                    # The test part is clean; the folds, or the validation part, are not.
                    told = (
                        f"rows are made of others before {event.name} in {{{event.line}}} splits them again"
                    )
                    yield LintFinding(_REPEATS[mark.kind], mark.line, told, "warning")
                if ALL in mark.parts:
                    rule = _REPEATS[mark.kind]
                    yield LintFinding(
                        rule, mark.line, f"rows are made of others before the split in {{{event.line}}}"
                    )
        elif event.what == "fit":
            yield from _fitted(flow, event, splits)
        elif event.what == "dedup" and ALL not in event.value.parts:
            earlier = any(other.what == "dedup" and ALL in other.value.parts for other in flow.events)
            if event.value.parts and not earlier:
                part = sorted(event.value.parts)[0]
                yield LintFinding(
                    "deduplication",
                    event.line,
                    f"copies are dropped inside {part} alone, after the split",
                    "warning",
                )
        elif event.what == "misnamed" and any(split.value.roots & event.value.roots for split in splits):
            yield LintFinding(
                "loader-ignores-subset", event.line, f"{event.name} reads all rows, training rows too"
            )
        elif event.what == "class":
            yield from _dataset(event)


def _fitted(flow: Flow, event: Event, splits: list[Event]) -> Iterator[LintFinding]:
    first, model = event.more["first"], event.more["model"]
    if first.parts == frozenset({"test"}):
        if first.marked("by place") or _only_shown(flow, event):
            return
        yield LintFinding("fit-on-test", event.line, f"{event.name} on the test part")
        return
    if event.more.get("transformer"):
        return
    if event.name == "backward":
        if first.parts == frozenset({ALL}) and any(split.value.roots & first.roots for split in splits):
            yield LintFinding(
                "loader-ignores-subset", event.line, "training reads all rows, those of test too"
            )
        return
    both = {"train", "test"} <= first.parts
    if first.parts != frozenset({ALL}) and not both:
        return
    for other in flow.events:
        if other.what != "score" or not other.value.roots & first.roots or other.line < event.line:
            continue
        objs = other.value.objs | frozenset().union(*(mark.objs for mark in other.value.marked("prediction")))
        if (
            objs & model.objs
            and other.value.parts <= ({"test"} if both else {"test", "val"})
            and other.value.parts
        ):
            yield LintFinding(
                "overlap", event.line, f"trained on all rows, and scored in {{{other.line}}} on some of them"
            )
            return


def _only_shown(flow: Flow, event: Event) -> bool:
    """Tell whether test rows were projected for a picture: nothing predicts or scores them later."""
    reduces = any(LEARNS.get(kind) == "reduction" for kind in event.more["model"].kinds)
    if event.name != "fit_transform" or not reduces:
        return False
    return not any(
        mark.line == event.line
        for other in flow.events if other.what in ("fit", "predict", "score")
        for mark in other.value.marked("reduction")
    )  # fmt: skip


def _dataset(event: Event) -> Iterator[LintFinding]:
    """Yield a dataset that takes indices and never looks at them."""
    node = event.more["definition"]
    bases = {ast.unparse(base).rsplit(".", 1)[-1] for base in node.bases}
    if not any("Dataset" in base for base in bases):
        return
    methods = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
    start, item = methods.get("__init__"), methods.get("__getitem__")
    if start is None or item is None:
        return
    for parameter in [*start.args.args[1:], *start.args.kwonlyargs]:
        if parameter.arg.lower() not in _INDEX_WORDS:
            continue
        uses = [
            part for part in ast.walk(start)
            if isinstance(part, ast.Name) and part.id == parameter.arg and isinstance(part.ctx, ast.Load)
        ]  # fmt: skip
        kept = [
            part.targets[0] for part in ast.walk(start)
            if isinstance(part, ast.Assign) and getattr(part.value, "id", None) == parameter.arg
        ]  # fmt: skip
        attributes = {target.attr for target in kept if isinstance(target, ast.Attribute)}
        read = any(
            isinstance(part, ast.Attribute) and part.attr in attributes and isinstance(part.ctx, ast.Load)
            for name, method in methods.items() for part in ast.walk(method) if name != "__len__"
        )  # fmt: skip
        if len(uses) <= len(kept) and not read:
            yield LintFinding(
                "loader-ignores-subset",
                item.lineno,
                f"{node.name} takes {parameter.arg} and reads rows without it",
            )
