"""What the notebook on inflation shows: its tables in short words, and what they say in a sentence."""

from __future__ import annotations

import pandas as pd

from leakfree.base.escape import html
from leakfree_study.figures.tables import bracketed, p_value
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


def leak_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Show the leaks of one task, in the order of the catalogue; a name stands in its first row only.

    Parameters
    ----------
    rows : pandas.DataFrame
        Of the table of inflation, in ROC AUC. The column of estimates is HTML, see `linked`.
    """
    order = [leak.protocol for leak in catalogue.LEAKS]
    rows = rows.sort_values("protocol", key=lambda names: names.map(order.index), kind="stable")
    names = titles(rows["protocol"])
    shown = _judged(rows, "ROC AUC")
    shown.insert(0, "leak", names.where(~names.duplicated(), ""))
    return shown


def threshold_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Show the leak of the threshold, which changes no ranking, in macro F1, as `leak_table`."""
    shown = _judged(rows, "macro F1")
    shown.insert(0, "task", rows["task"])
    return shown


def _judged(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "model": rows["model"],
            f"inflation of {metric}": [linked(row) for row in rows.to_dict("records")],
            "p (Holm)": rows["p_holm"].map(p_value),
            "verdict": rows["verdict"].replace(_BRIEF, regex=True),
            "patients": rows["n_by_class"],
        }
    )


def processors_sentence(compared: pd.DataFrame, processor: str) -> str:
    """Say how far two runs on two kinds of processor differ, and which verdicts do.

    Parameters
    ----------
    compared : pandas.DataFrame
        As `leakfree_study.inflation.results.compare_runs`.
    processor : str
        That of the other run.
    """
    kinds = {"models on pixels": "on pixels", "models on embeddings": "on embeddings", "trained networks": ""}
    largest = []
    for kind, ending in kinds.items():
        models = compared["model"].str
        of_kind = compared[models.endswith(ending) if ending else ~models.contains(" on ")]
        largest.append(f"{of_kind['difference'].abs().max():.4f} ({kind})")
    here, there = compared["verdict_here"].fillna(""), compared["verdict_there"].fillna("")
    changed = [
        f"{row.leak}, {row.model}, {row.task}: {row.verdict_there} ({row.estimate_there:+.3f}, "
        f"{row.low_there:+.3f} to {row.high_there:+.3f}) on {processor}, {row.verdict_here} "
        f"({row.estimate_here:+.3f}, {row.low_here:+.3f} to {row.high_here:+.3f}) here"
        for row in compared.assign(leak=titles(compared["protocol"]))[here != there].itertuples()
    ]
    return (
        f"Largest difference between the two runs: {', '.join(largest)}. {len(changed)} of "
        f"{int((here != '').sum())} verdicts differ{': ' if changed else ''}{'; '.join(changed)}."
    )


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
        f"all {strongest['model']}, by {strongest['estimate']:.3f} ({strongest['low']:.3f} to "
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


def how_to_read(full_dose: pd.DataFrame, natural: pd.DataFrame, level: float) -> str:
    """List what all comparisons at full dose, the leak of patients and plain splits come to, as Markdown.

    Parameters
    ----------
    full_dose : pandas.DataFrame
        Primary rows of the table of inflation at dose 1.
    natural : pandas.DataFrame
        As `leakfree_study.inflation.results.natural_table`.
    level : float
        Below which an adjusted p-value shows inflation.
    """
    verdicts = full_dose["verdict"].str.replace(", by less than the margin", "", regex=False).value_counts()
    siblings = full_dose[full_dose["protocol"] == "siblings"]
    best = siblings.sort_values("estimate", ascending=False, kind="stable").iloc[0]
    lines = [
        f"Of {len(full_dose)} comparisons at full dose, "
        f"{', '.join(f'{n} {name}' for name, n in verdicts.items())} (Holm within each task).",
        f"Other images of the same patient: {int((siblings['p_holm'] < level).sum())} of {len(siblings)} "
        f"models and tasks show inflation after adjustment; the largest is {best['model']}, {best['task']}, "
        f"{best['estimate']:+.3f} ({best['low']:+.3f} to {best['high']:+.3f}) among patients with "
        "several images, all leaked.",
        f"In a plain split of images the same leak is worth {natural['estimate'].min():+.4f} to "
        f"{natural['estimate'].max():+.4f}.",
    ]
    return "\n".join(f"- {line}" for line in lines)
