"""Tables for readers: scores with their intervals in brackets, one row a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from leakfree.base.escape import html
from leakfree_study.figures.names import model_name

METRIC_NAMES = {
    "accuracy": "accuracy",
    "roc_auc": "ROC AUC",
    "macro_f1": "macro F1",
    "average_precision": "average precision",
    "sensitivity_at_90_specificity": "sensitivity at 90 % specificity",
}
_NAMES = {
    "image_size": "px",
    "test": "test images",
    "test_images_with_sibling": "test images whose patient also trains",
    "share_of_images_with_sibling": "share with another image of the patient",
}
# Shown also where they have one value: what was scored, and what its network started from.
_KEPT = ("task", "model", "weights")
# Columns whose values are models, which readers get by their names.
_MODELS = ("model", "recipe", "network")


def readable(scores: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Turn a score table of one row a metric into one row a model.

    Parameters
    ----------
    scores : pandas.DataFrame
        As `leakfree_study.run.cells.score_table`.
    keys : sequence of str
        Columns that name a row, in this order. One that has a single value in several rows is left out.

    Returns
    -------
    pandas.DataFrame
        The keys, ``0.975 (0.962–0.984)`` for each metric, and ``images (patients)``. What cannot be measured,
        since the part lacks a class, is ``undefined``.
    """
    several = scores["predictions"].nunique() > 1
    keys = [key for key in keys if not several or scores[key].nunique() > 1 or key in _KEPT]
    rows = []
    for values, group in scores.groupby([*keys, "predictions"], sort=False):
        row = {_NAMES.get(key, key): _text(value) for key, value in zip(keys, values[:-1], strict=True)}
        for score in group.itertuples():
            name = METRIC_NAMES.get(score.metric, score.metric)
            row[name] = _with_interval(score.estimate, score.low, score.high)
        first = group.iloc[0]
        row["images (patients)"] = f"{first['n_images']:,} ({first['n_patients']:,})"
        rows.append(row)
    return pd.DataFrame(rows)


def _with_interval(estimate: float, low: float, high: float) -> str:
    if np.isnan(estimate):
        return "undefined"
    return f"{estimate:.3f}" if np.isnan(low) or np.isnan(high) else f"{estimate:.3f} ({low:.3f}–{high:.3f})"


def chosen(validation: pd.DataFrame) -> pd.DataFrame:
    """Choose the model of each task by its mean macro F1 on validation, over its seeds.

    Where that is undefined for every model, since the part lacks a class, accuracy decides.

    Parameters
    ----------
    validation : pandas.DataFrame
        ``task, model, metric, estimate``, with both metrics for every model.

    Returns
    -------
    pandas.DataFrame
        Indexed by task: ``model``, and ``by``, the metric that decided.
    """
    means = validation.groupby(["metric", "task", "model"], sort=False)["estimate"].mean()
    rows = {}
    for task in validation["task"].unique():
        metric = "macro_f1" if means["macro_f1"][task].notna().any() else "accuracy"
        rows[task] = {"model": means[metric][task].idxmax(), "by": metric}
    return pd.DataFrame.from_dict(rows, orient="index")


def chosen_sentence(choice: pd.DataFrame) -> str:
    """Say which models `chosen` selected, and by what.

    Parameters
    ----------
    choice : pandas.DataFrame
        As `chosen`.
    """
    found = ", ".join(f"{task} {model_name(model)}" for task, model in choice["model"].items())
    text = f"Selected by validation macro F1: {found}."
    if by_accuracy := choice.index[choice["by"] == "accuracy"].tolist():
        told = ", ".join(by_accuracy)
        text += f" By accuracy instead, since validation lacks a class and macro F1 is undefined: {told}."
    return text


def bracketed(
    frame: pd.DataFrame, name: str = "estimate", *, digits: int = 3, signed: bool = False
) -> pd.Series:
    """Write an estimate and its interval as one text, ``0.051 (0.031 to 0.070)``.

    Parameters
    ----------
    frame : pandas.DataFrame
        With a column `name`; the ends are in ``low`` and ``high``, or in ``<name>_low`` and ``<name>_high``
        where those exist.
    name : str
    digits : int
    signed : bool
        Put a sign before positive numbers too, for differences.

    Returns
    -------
    pandas.Series
        Of str; empty where the estimate is missing, without brackets where an end is.
    """
    ends = [f"{name}_{end}" if f"{name}_{end}" in frame else end for end in ("low", "high")]

    def text(values: Sequence[float]) -> str:
        told = [fixed(value, digits, signed=signed) for value in values]
        if pd.isna(values[0]):
            return ""
        return told[0] if pd.isna(values[1]) or pd.isna(values[2]) else f"{told[0]} ({told[1]} to {told[2]})"

    shown = [text(row) for row in frame[[name, *ends]].itertuples(index=False)]
    return pd.Series(shown, index=frame.index, dtype=object)


def fixed(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """Write a number with so many digits; what rounds to zero has no sign.

    Examples
    --------
    >>> fixed(-0.0002), fixed(0.0002, signed=True), fixed(0.02, 2, signed=True)
    ('0.000', '0.000', '+0.02')
    """
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    return text if any(digit in text for digit in "123456789") else text.lstrip("+-")


def p_value(value: float) -> str:
    """Write a p-value: one that would be shown as zero as what it is below."""
    return "" if pd.isna(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def across(
    frame: pd.DataFrame,
    index: Sequence[str],
    columns: str,
    name: str = "estimate",
    *,
    signed: bool = False,
) -> pd.DataFrame:
    """Put estimates with their intervals side by side, in the order in which they stand.

    Parameters
    ----------
    frame : pandas.DataFrame
        As for `bracketed`, one row for each combination of `index` and `columns`.
    index : sequence of str
        Columns that name a row.
    columns : str
        Column whose values become columns; metrics get the names that readers know.
    name, signed
        As for `bracketed`.

    Returns
    -------
    pandas.DataFrame
        Of str; empty where a combination is missing.
    """
    text = frame.assign(_text=bracketed(frame, name, signed=signed))
    wide = text.pivot_table(index=list(index), columns=columns, values="_text", aggfunc="first", sort=False)
    wide = wide.rename(columns=METRIC_NAMES).fillna("").reset_index()
    wide.columns.name = None
    return wide


def styled(frame: pd.DataFrame, links: Sequence[str] = ()) -> Styler:
    """Begin the table that a notebook shows: `pandas.DataFrame.style`, which writes markup as it is, escaped.

    Names of columns are shown as words: ``share_rising`` as ``share rising``, ``roc_auc`` as ``ROC AUC``; and
    models by the names that readers know, see `leakfree_study.figures.names`.

    Parameters
    ----------
    frame : pandas.DataFrame
    links : sequence of str
        Columns that hold HTML of the caller's making, with everything in it escaped.

    Returns
    -------
    pandas.io.formats.style.Styler
        Without the index; texts in cells and in names of columns are plain.
    """
    named = {name: frame[name].map(_named) for name in _MODELS if name in frame}
    made = frame.assign(**named).map(_escaped)
    for name in links:
        made[name] = frame[name]
    return made.rename(columns=lambda name: _escaped(_heading(name))).style.hide()


def wide(frame: pd.DataFrame, links: Sequence[str] = ()) -> Styler:
    """Begin the table that a notebook shows, as `styled`, which scrolls where it is wider than the page."""
    return styled(frame, links).set_table_attributes('class="wide"')


def explorable(frame: pd.DataFrame, filters: Sequence[str], links: Sequence[str] = ()) -> Styler:
    """Begin a long table, as `styled`, that a reader of the book sorts by any column and filters by some.

    Parameters
    ----------
    frame : pandas.DataFrame
    filters : sequence of str
        Columns with few values; each gets a choice among them.
    links : sequence of str
        As for `styled`.
    """
    names = html(",".join(str(_heading(name)) for name in filters))
    return styled(frame, links).set_table_attributes(f'class="wide explorable" data-filters="{names}"')


def _heading(name: object) -> object:
    if not isinstance(name, str):
        return name
    return METRIC_NAMES.get(name, _NAMES.get(name, name.replace("_", " ")))


def _named(value: object) -> object:
    return model_name(value) if isinstance(value, str) else value


def _escaped(value: object) -> object:
    return html(value) if isinstance(value, str) else value


def _text(value: object) -> object:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else ""
    return value.replace("_", " ") if isinstance(value, str) else value
