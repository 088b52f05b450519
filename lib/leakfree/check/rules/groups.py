"""Rows of one patient, or frames of one video, that a split by row puts into several parts."""

from __future__ import annotations

from collections.abc import Iterator

from leakfree.check.flow import Flow
from leakfree.check.names import GROUP_FOLDS, PLAIN_FOLDS, names_frames
from leakfree.check.values import Event, LintFinding


def groups(flow: Flow) -> Iterator[LintFinding]:
    """Yield splits by row where a column that names patients, or frames, is in sight."""
    splits = [event for event in flow.events if event.what == "split" and event.name != "by hand"]
    # Whoever splits the patients themselves, or by groups, knows; what follows is made of that.
    by_patient = any(_by_group(event) or event.value.marked("patients") for event in splits)
    for event in splits:
        if _ignores_groups(event):
            yield LintFinding("groups", event.line, f"{event.name} is given groups and does not look at them")
            return
    if by_patient:
        return
    for event in splits:
        if event.more.get("shuffles") is False and event.name != "validation_split":
            continue
        frames = event.value.marked("frames")
        if frames:
            yield LintFinding(
                "frames",
                event.line,
                f"frames (see {{{frames[0].line}}}) are put into parts one by one",
                "error",
            )
            continue
        # A column that is only dropped is a number of rows, and a variable `frames` may hold anything.
        seen = [
            (word, uses)
            for word, uses in flow.words.items()
            if any(how not in (("drop", "name") if names_frames(word) else ("drop",)) for _, how in uses)
        ]
        patients = [(word, uses) for word, uses in seen if not names_frames(word)]
        several = any(how == "several" for _, uses in seen for _, how in uses)
        if patients:
            word, uses = patients[0]
            level = "error" if several else "warning"
            yield LintFinding(
                "groups",
                event.line,
                f"{event.name} by row, though {word!r} is in sight (see {{{uses[0][0]}}})",
                level,
            )
        elif seen:
            word, uses = seen[0]
            seen_at = f"though {word!r} is in sight (see {{{uses[0][0]}}})"
            yield LintFinding("frames", event.line, f"{event.name} by row, {seen_at}", "warning")


def _by_group(event: Event) -> bool:
    folds = event.more.get("folds")
    if event.more.get("grouped"):
        return True
    if event.name in GROUP_FOLDS or (folds is not None and folds.kinds & set(GROUP_FOLDS)):
        return True
    keywords = event.more.get("keywords", {})
    cv = keywords.get("cv")
    return ("groups" in keywords and event.name not in PLAIN_FOLDS) or bool(
        cv and cv.kinds & set(GROUP_FOLDS)
    )


def _ignores_groups(event: Event) -> bool:
    """KFold and its like take groups and ignore them."""
    if event.name not in PLAIN_FOLDS:
        return False
    return "groups" in event.more.get("keywords", {}) or len(event.more.get("arguments", ())) > 2
