"""What goes wrong inside a training loop, beside choices."""

from __future__ import annotations

from collections.abc import Iterator

from leakfree.check.flow import Flow
from leakfree.check.values import LintFinding


def loops(flow: Flow) -> Iterator[LintFinding]:
    """Yield a best model that is only another name of the one that trains on."""
    for event in flow.events:
        if event.what != "alias" or event.more["made"] >= len(event.loops):
            continue
        trained = "epochs" in event.loops or any(
            other.what == "fit" and other.loops[: len(event.loops)] == event.loops for other in flow.events
        )
        if trained:
            given = f"{event.name}.state_dict()" if event.more["state"] else event.name
            yield LintFinding(
                "best-model-alias", event.line, f"{given} is no copy: it goes on to change with training"
            )
