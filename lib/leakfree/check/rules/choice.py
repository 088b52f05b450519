"""What was chosen on the test part: the epoch, the threshold, the settings, the model."""

from __future__ import annotations

from collections.abc import Iterator

from leakfree.check.flow import Flow
from leakfree.check.names import CHOOSING_CALLBACKS, SEARCHES, SPLITS_ROWS
from leakfree.check.values import ALL, Event, LintFinding

_SHOWN = ("validation_data", "eval_set", "evals", "valid_sets", "X_val", "eval_data")


def choice(flow: Flow) -> Iterator[LintFinding]:
    """Yield choices that the test part made."""
    for event in flow.events:
        if event.what == "choose":
            yield _chosen(event)
        elif event.what == "use":
            mark = event.more["chosen"]
            rule = f"test-chooses-{event.name}"
            yield LintFinding(rule, mark.line, f"the best on the test part is used in {{{event.line}}}")
        elif event.what == "fit":
            yield from _shown(event)
    yield from _argmax(flow)
    yield from _several(flow)


def _chosen(event: Event) -> LintFinding:
    kind, target = event.more["loop"]
    if kind == "epochs":
        return LintFinding(
            "test-chooses-epoch", event.line, "a score on the test part decides which epoch is kept"
        )
    threshold = any("thr" in word.lower() or word in ("t", "cut", "cutoff") for word in target)
    rule = "test-chooses-threshold" if threshold else "test-chooses-settings"
    return LintFinding(rule, event.line, "a score on the test part decides what is kept")


def _shown(event: Event) -> Iterator[LintFinding]:
    keywords = event.more.get("keywords", {})
    shown = [keywords[name] for name in _SHOWN if name in keywords]
    callbacks = keywords.get("callbacks")
    kinds = event.more["model"].kinds | (callbacks.kinds if callbacks else frozenset())
    stops = bool(kinds & {*CHOOSING_CALLBACKS}) or "early_stopping_rounds" in keywords
    if any("test" in value.parts for value in shown) and stops:
        yield LintFinding(
            "test-chooses-epoch", event.line, "training is stopped, or its best state kept, by the test part"
        )
    if event.name == "search" and any("test" in value.parts for value in shown):
        yield LintFinding(
            "test-chooses-settings", event.line, "a search over settings is scored on the test part"
        )
    if event.more["model"].kinds & set(SEARCHES) and event.more["first"].parts == frozenset({"test"}):
        yield LintFinding(
            "test-chooses-settings", event.line, "a search over settings is fitted to the test part"
        )


def _argmax(flow: Flow) -> Iterator[LintFinding]:
    """Yield where the best of several scores on the test part is taken."""
    for event in flow.events:
        if event.what == "best" and event.more["chosen"].parts == frozenset({"test"}):
            yield LintFinding(
                "test-chooses-settings", event.line, "the best of several scores on the test part is taken"
            )


def _several(flow: Flow) -> Iterator[LintFinding]:
    """Several models scored on one test part."""
    seen: dict[frozenset, set] = {}
    fits = [event for event in flow.events if event.what == "fit"]
    # A pipeline is made of many objects; fitted together they are one model.
    model_of: dict[object, frozenset] = {}
    for event in fits:
        for obj in event.more["model"].objs:
            model_of.setdefault(obj, event.more["model"].objs)
    searched = {objs for event in fits if "settings" in event.loops for objs in [event.more["model"].objs]}
    splits = [
        (event.value.roots, event.loops) for event in flow.events
        if event.what == "split" and event.name in SPLITS_ROWS and ALL in event.value.parts
    ]  # fmt: skip
    for event in flow.events:
        if event.what != "score" or event.value.parts != frozenset({"test"}):
            continue
        marks = [mark for mark in event.value.marked("prediction") if mark.parts == frozenset({"test"})]
        objs = event.value.objs | frozenset().union(*(mark.objs for mark in marks))
        found = {model_of[obj] for obj in objs if obj in model_of}
        models = seen.setdefault(event.value.roots, set())
        before = len(models)
        models |= found
        # A split in the same loop makes a test part of its own in every round.
        mine = [loops for roots, loops in splits if event.value.roots & roots]
        anew = any(loops[: len(event.loops)] == event.loops for loops in mine)
        looped = "settings" in event.loops and bool(found & searched) and not anew
        if (before and len(models) > before) or looped or (len(found) > 1 and not before):
            yield LintFinding(
                "multi-test", event.line, "another model is scored on the same test part", "note"
            )
