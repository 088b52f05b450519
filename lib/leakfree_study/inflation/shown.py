"""What the notebook on inflation shows: its tables in short words, and what they say in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from leakfree.base.escape import html
from leakfree.data.tasks import TASKS, Task
from leakfree_study.figures.names import model_name
from leakfree_study.figures.tables import METRIC_NAMES, bracketed, fixed, p_value
from leakfree_study.inflation import catalogue

# Short enough for a column; the file has the whole words.
_BRIEF = {", to within the margin": "", ", by less than the margin": ", under the margin"}


def linked(row: dict[str, object]) -> str:
    """Write an estimate as a link to the predictions of its leaky arm; networks have a file a draw.

    Parameters
    ----------
    row : dict
        Of the table of inflation.

    Returns
    -------
    str
        HTML, escaped.
    """
    text, *links = [bracketed(pd.DataFrame([row]), signed=True).iloc[0], *row["predictions"].split(";")]
    numbered = (
        f'<a href="../{html(path)}">{number if len(links) > 1 else text}</a>'
        for number, path in enumerate(links, start=1)
    )
    return (f"{text} " if len(links) > 1 else "") + " ".join(numbered)


def titles(protocols: pd.Series) -> pd.Series:
    """Name leaks by their titles in the catalogue, and other protocols as they are.

    Parameters
    ----------
    protocols : pandas.Series of str
        Such as ``siblings``, ``clean``.
    """
    return protocols.replace({leak.protocol: leak.title for leak in catalogue.LEAKS})


def comparisons(rows: pd.DataFrame, tasks: Mapping[str, Task]) -> pd.DataFrame:
    """Show comparisons of a score with and without a leak, in the order of the catalogue.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of the table of inflation. The column of estimates is HTML, see `linked`.
    tasks : mapping of str to Task
        Of the cohort.
    """
    order = [leak.protocol for leak in catalogue.LEAKS]
    rows = rows.sort_values("protocol", key=lambda names: names.map(order.index), kind="stable")
    return pd.DataFrame(
        {
            "leak": titles(rows["protocol"]),
            "task": [task_words(tasks[task]) for task in rows["task"]],
            "model": rows["model"],
            "score": rows["metric"].replace(METRIC_NAMES),
            "inflation": [linked(row) for row in rows.to_dict("records")],
            "p (Holm)": rows["p_holm"].map(p_value),
            "verdict": rows["verdict"].replace(_BRIEF, regex=True),
            "patients": rows["n_by_class"],
        }
    )


def task_words(task: Task) -> str:
    """Say what a task tells apart."""
    return (" against " if len(task.classes) == 2 else ", ").join(task.classes)


def task_title(name: str) -> str:
    """Say what a task tells apart by its name; that of a study's own task is in its words already."""
    return task_words(TASKS[name]) if name in TASKS else name


def processors_sentence(compared: pd.DataFrame) -> str:
    """Say how far two runs on two kinds of processor differ, and how many verdicts do.

    Parameters
    ----------
    compared : pandas.DataFrame
        As `leakfree_study.inflation.results.compare_runs`.
    """
    kinds = {"models on pixels": "on pixels", "models on embeddings": "on embeddings", "trained networks": ""}
    largest = []
    for kind, ending in kinds.items():
        models = compared["model"].str
        of_kind = compared[models.endswith(ending) if ending else ~models.contains(" on ")]
        largest.append(f"{of_kind['difference'].abs().max():.4f} ({kind})")
    judged = int((compared["verdict_here"].fillna("") != "").sum())
    return (
        f"Largest difference between the two runs: {', '.join(largest)}. {int(_differ(compared).sum())} of "
        f"{judged} verdicts differ. That of the first run is the primary one."
    )


def other_verdicts(compared: pd.DataFrame, processor: str) -> pd.DataFrame:
    """Show the comparisons whose verdict differs between the two runs, in both.

    Parameters
    ----------
    compared : pandas.DataFrame
        As for `processors_sentence`.
    processor : str
        That of the other run.
    """
    rows = compared[_differ(compared)]
    told = {"leak": titles(rows["protocol"]), "task": rows["task"], "model": rows["model"]}
    for place, run in (("there", f"first, on {processor}"), ("here", "second, here")):
        ends = rows[[f"{name}_{place}" for name in ("estimate", "low", "high")]]
        told[run] = bracketed(ends.set_axis(["estimate", "low", "high"], axis=1), signed=True)
        told[f"verdict {run}"] = rows[f"verdict_{place}"].replace(_BRIEF, regex=True)
    return pd.DataFrame(told)


def _differ(compared: pd.DataFrame) -> pd.Series:
    return compared["verdict_here"].fillna("") != compared["verdict_there"].fillna("")


def memory_sentence(random_labels: pd.DataFrame) -> str:
    """Say what the control with random labels found.

    Parameters
    ----------
    random_labels : pandas.DataFrame
        As `leakfree_study.inflation.results.control_table` with permuted labels.
    """
    siblings = random_labels[random_labels["protocol"] == "siblings"]
    at_chance = (random_labels["clean_low"] <= 0.5) & (random_labels["clean_high"] >= 0.5)
    strongest = siblings.sort_values("estimate", ascending=False, kind="stable").iloc[0]
    return (
        f"Clean arms at chance: {int(at_chance.sum())} of {len(at_chance)}. Other images of the same patient "
        f"raise {int((siblings['low'] > 0).sum())} of {len(siblings)} models above their clean arm; most of "
        f"all {model_name(strongest['model'])}, by {strongest['estimate']:.3f} ({strongest['low']:.3f} to "
        f"{strongest['high']:.3f})."
    )


def phantom_sentence(phantoms: pd.DataFrame) -> str:
    """Say what the estimator finds on phantoms, by `leakfree_study.inflation.control.control`."""
    none = phantoms[phantoms["identity"] == 0]
    whole = phantoms[phantoms["dose"] == 1.0]
    full = whole[whole["identity"] == phantoms["identity"].max()]
    strong = phantoms[phantoms["identity"] >= 1].pivot_table(
        index=["model", "disease", "identity"], columns="dose", values="estimate"
    )
    rising = int((strong.diff(axis=1).iloc[:, 1:] > 0).all(axis=1).sum())
    by_identity = whole.groupby("identity")["estimate"].mean()
    listed = ", ".join(f"{value:+.3f} at {identity:g}" for identity, value in by_identity.items())
    return (
        f"With identity 0, {int(((none['low'] <= 0) & (none['high'] >= 0)).sum())} of {len(none)} intervals "
        f"hold zero. Mean inflation at full dose by identity: {listed}. At the strongest identity and full "
        f"dose {int((full['low'] > 0).sum())} of {len(full)} intervals lie above zero. With identity 1 and "
        f"more the estimate rises with the dose in {rising} of {len(strong)} series."
    )


def unchanged(rows: pd.DataFrame) -> pd.Series:
    """Tell where no prediction changed its rank in any draw, as where the same epoch was chosen.

    Such a zero is no finding.

    Parameters
    ----------
    rows : pandas.DataFrame
        With ``estimate, low, high``.
    """
    return (rows[["estimate", "low", "high"]] == 0).all(axis=1)


def takeaways(full_dose: pd.DataFrame, natural: pd.DataFrame, level: float, tasks: Mapping[str, Task]) -> str:
    """Say what each kind of leak is worth, one line each, as Markdown.

    Parameters
    ----------
    full_dose : pandas.DataFrame
        Rows of the table of inflation at dose 1, in the primary metric, ROC AUC.
    natural : pandas.DataFrame
        As `leakfree_study.inflation.results.natural_table`.
    level : float
        Below which an adjusted p-value shows inflation.
    tasks : mapping of str to Task
        Of the cohort.
    """
    of = {name: rows for name, rows in full_dose.groupby("protocol", sort=False)}
    lines = []
    for protocol, title, what in (
        (
            "no-test-set",
            "Tested on training images",
            "A model that is tested on images that it was trained on",
        ),
        ("exact", "Copies", "A model that has a copy of every test image in training"),
        ("siblings", "The same patient", "A model that has other images of every tested patient in training"),
    ):
        if protocol in of:
            lines.append(f"**{title}.** {what} gains at most {_largest(of[protocol], tasks)}.")
    if len(natural):
        lines.append(
            "**The same patient, in a random split.** There most test images have no other image of their "
            f"patient in training. The difference, by model, is {_ranges(natural, tasks)}."
        )
    if "siblings" in of and len(networks := of["siblings"][~of["siblings"]["model"].str.contains(" on ")]):
        told = "; ".join(
            f"{model_name(row['model'])} {_interval(row)}, {row['verdict']}"
            for row in networks.to_dict("records")
        )
        lines.append(f"**Trained networks, with other images of every tested patient.** {told}.")
    if prepared := [of[name] for name in ("scaling", "pca", "tuning") if name in of]:
        lines.append(
            "**Preparation.** Scaling or PCA that also saw the test images, or tuning on folds that ignore "
            f"patients, changes the ROC AUC, by model, by {_ranges(pd.concat(prepared), tasks)}."
        )
    counted = full_dose[~unchanged(full_dose)]
    counts = counted["verdict"].replace(_BRIEF, regex=True).value_counts()
    told = ", ".join(f"{name}: {number}" for name, number in counts.items())
    clear = int((counted["p_holm"] < level).sum())
    same = len(full_dose) - len(counted)
    lines.append(
        f"**All comparisons.** {clear} of {len(counted)} show inflation after adjustment. By verdict: "
        f"{told}." + (f" {same} more are not counted, since no prediction changed." if same else "")
    )
    return "\n".join(f"- {line}" for line in lines)


def _ranges(rows: pd.DataFrame, tasks: Mapping[str, Task]) -> str:
    """Say the smallest and the largest estimate of each task."""
    said = []
    for task, of_task in rows.groupby("task", sort=False):
        ends = (of_task["estimate"].min(), of_task["estimate"].max())
        low, high = (fixed(end, 4, signed=True) for end in ends)
        said.append(f"{low} to {high} ({task_words(tasks[str(task)])})")
    return ", ".join(said)


def _largest(rows: pd.DataFrame, tasks: Mapping[str, Task]) -> str:
    row = rows.loc[rows["estimate"].idxmax()]
    return f"{_interval(row)}: {model_name(row['model'])}, {task_words(tasks[row['task']])}"


def _interval(row: Mapping[str, Any]) -> str:
    return bracketed(pd.DataFrame([row]), signed=True).iloc[0]
