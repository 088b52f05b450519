"""Put the published runs side by side: ``python benchmarks/cohorts.py`` from the root of the repository.

Writes to book/data: cohorts.csv (every leak, model and task), cohorts_shown.csv, cohorts_audit.csv (what
the page shows) and cohorts.svg. Nothing is measured here: it all comes from tables of the runs in artifacts/.
"""

import json
from pathlib import Path

import pandas as pd

from leakfree.base.files import write_text
from leakfree_study.figures.plots import use_style
from leakfree_study.inflation.cohorts import audits, cohort_plot, side_by_side, summary

ROOT = Path(__file__).resolve().parents[1]
DATA, RUNS = ROOT / "book" / "data", ROOT / "artifacts"
#: What a cohort is called, its run, and the task that is shown.
SHOWN = {
    "chest X-rays": ("chest_xray", "etiology"),
    "breast ultrasound, BUS-BRA": ("bus_bra", "malignancy"),
    "breast ultrasound, BUS-UCLM": ("bus_uclm", "lesion"),
    "BUS-UCLM, hidden patient merged": ("bus_uclm_merged", "lesion"),
    "lung ultrasound frames": ("pocus_lung", "all-labels"),
}
#: The phantom's control stands in the first run; drawn are its weakest and strongest identity.
CONTROL, DRAWN_PHANTOMS = "chest_xray", ("phantom, identity 0", "phantom, identity 2")


def tables() -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Return every row, the table of the page, and the task that is drawn of each cohort."""
    runs = {name: RUNS / run for name, (run, _) in SHOWN.items()}
    made = json.loads((RUNS / CONTROL / "provenance.json").read_text(encoding="utf-8"))
    images = made["notebooks"]["06_checks"]["parameters"]["control_films"]
    table = side_by_side(runs, (RUNS / CONTROL, images))
    tasks = {name: task for name, (_, task) in SHOWN.items()} | dict.fromkeys(DRAWN_PHANTOMS, "etiology")
    return table, summary(table, tasks), tasks


def own_runs() -> dict[str, Path]:
    """Return the runs whose audits the page shows; that of the chest X-rays is in the book already."""
    return {name: RUNS / run for name, (run, _) in SHOWN.items() if run != CONTROL}


def text(table: pd.DataFrame) -> str:
    """Return a table as it is written."""
    return table.to_csv(index=False, lineterminator="\n")


if __name__ == "__main__":
    every, shown, drawn = tables()
    use_style()
    write_text(DATA / "cohorts.csv", text(every))
    write_text(DATA / "cohorts_shown.csv", text(shown))
    write_text(DATA / "cohorts_audit.csv", text(audits(own_runs())))
    # The merged study differs from the other by one patient; it stands in the table.
    alone = {name: task for name, task in drawn.items() if "merged" not in name}
    figure = cohort_plot(every, alone)
    figure.savefig(DATA / "cohorts.svg", metadata={"Date": None, "Creator": None})
    print(shown.to_string(index=False))
