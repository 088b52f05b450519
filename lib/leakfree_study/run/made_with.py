"""What a run rests on, and the precision in which its networks were trained."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from leakfree.base.provenance import git_state, machine, versions
from leakfree.data.cohort import Cohort


def of_run(cohort: Cohort, project: Path) -> dict[str, object]:
    """Describe what a run rests on: data, versions, state of the code, machine."""
    return {
        "data": {
            "name": cohort.name,
            "checksum": cohort.checksum,
            "images": len(cohort),
            "left_out": [vars(problem) for problem in cohort.problems],
        },
        "versions": versions(),
        "git": git_state(project),
        "machine": machine(),
    }


def precision_of(facts: Mapping[str, object]) -> str:
    """Return what a network was trained in, from the facts of its cell; empty where the cell is no network.

    Only networks keep an epoch. Those from before the precision was noted all took bfloat16.
    """
    return str(facts.get("precision", "bfloat16")) if "epoch" in facts else ""


def precisions(folder: Path, cells: Iterable[str]) -> list[str]:
    """Return in which precisions the networks among some cells were trained, ``bfloat16`` and ``float32``.

    Parameters
    ----------
    folder : pathlib.Path
        Of the run.
    cells : iterable of str
        Records of cells, relative to `folder`.
    """
    records = (json.loads((Path(folder) / path).read_text(encoding="utf-8")) for path in cells)
    return sorted({precision_of(record["facts"]) for record in records} - {""})
