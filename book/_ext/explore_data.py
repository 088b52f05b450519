"""What the figures that readers can question show: the rows of the run's table, and how they are drawn.

Colours, marks, order, margin and titles come from the code that draws the static figures, so that the two
agree.
"""

from __future__ import annotations

import json
from pathlib import Path

#: Kind of drawing for each figure that readers can question.
EXPLORED = {"06_forest": "forest", "06_dose_response": "dose"}
TABLE = Path("tables", "inflation.csv")
#: The columns that are drawn or told, in the order of each row.
COLUMNS = ("task", "model", "protocol", "dose", "estimate", "low", "high", "n_patients", "n_by_class",
           "p_holm", "verdict")  # fmt: skip


def explore_data(run: Path) -> dict[str, object]:
    """Return what ``explore.js`` draws.

    Parameters
    ----------
    run : Path
        Folder of the run.

    Returns
    -------
    dict
        ``columns`` and ``rows`` (a list each, numbers as in the table, None where it has none), ``tasks``
        (that where leaks are worth most first) and their ``task_titles``, ``models`` and ``leaks`` with
        their names and looks in the order of the static figures, ``margin``.

    Raises
    ------
    ValueError
        The run has no table of inflation, or a column or leak in it is not one; the message is one line.
    """
    # Seconds to import, and most builds of a small book need none of it.
    import pandas as pd

    from leakfree_study.figures.names import model_name
    from leakfree_study.inflation import plots
    from leakfree_study.inflation.answer import TASK_NAMES, worth_most_first
    from leakfree_study.inflation.catalogue import LEAKS
    from leakfree_study.inflation.preregistration import preregistration

    file = run / TABLE
    if not file.is_file():
        raise ValueError(f"the run {run.name} has no {TABLE.as_posix()}")
    table = pd.read_csv(file)
    if missing := [name for name in (*COLUMNS, "metric", "primary") if name not in table]:
        raise ValueError(f"{TABLE.as_posix()} of the run {run.name} has no column {missing[0]}")
    rows = table[table["primary"].astype(bool) & (table["metric"] == "roc_auc")]
    measured = set(rows["protocol"])
    if unknown := sorted(measured - {leak.protocol for leak in LEAKS}):
        raise ValueError(f"{TABLE.as_posix()} of the run {run.name} has an unknown leak {unknown[0]}")
    shown = rows[list(COLUMNS)].astype(object).where(rows[list(COLUMNS)].notna(), None)
    doses = rows.groupby("protocol")["dose"].nunique()
    return {
        "columns": list(COLUMNS),
        "rows": shown.to_numpy().tolist(),
        "tasks": worth_most_first(rows),
        "task_titles": TASK_NAMES,
        "models": [
            {"title": model_name(name), **_model(name, plots.model_look(name))}
            for name in plots.ordered_models(rows["model"])
        ],
        "leaks": [
            {
                "name": leak.protocol,
                "title": leak.title,
                "taxonomy": leak.taxonomy,
                "doses": bool(doses[leak.protocol] > 1),
            }
            for leak in LEAKS
            if leak.protocol in measured
        ],
        "margin": preregistration().margins["roc_auc"],
    }


def _model(name: str, look: dict[str, object]) -> dict[str, object]:
    return {
        "name": name,
        "colour": look["color"],
        "fill": look["markerfacecolor"],
        "mark": {"o": "circle", "D": "diamond", "s": "square"}[look["marker"]],
    }


def as_script(run: Path) -> str:
    """Return the data as an element of a page; raises ValueError as `explore_data`."""
    text = json.dumps(explore_data(run), separators=(",", ":"), ensure_ascii=False)
    # Nothing in it may end the element.
    text = text.replace("<", "\\u003c")
    return f'<script type="application/json" id="explore-data">{text}</script>\n'
