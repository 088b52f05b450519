"""Ask every further column: does it tell the label, does it differ between parts, does time run backwards."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from leakfree.audit.checks.findings import Check, not_run
from leakfree.audit.checks.separability import (
    BAR,
    LEAST_GROUPS,
    REACH,
    group_weights,
    grouped_folds,
    one_hot,
    over_bar,
    permuted_rows,
    separability,
    span,
)
from leakfree.audit.checks.separability import binned as binned_values
from leakfree.data.reading.parts import kind_of
from leakfree.data.reading.understand import META

#: Columns with more values than this, other than numbers, are names of images or patients.
MOST_VALUES = 50
#: Values of a column that have a code of their own.
_CODED = 20
_PERMUTATIONS, _RESAMPLES = 60, 200
_DATE = re.compile(r"\d{8}|\d{4}-\d\d(?:-\d\d)?(?:[T ].*)?|\d\d[./]\d\d[./]\d{4}")


def metadata(table: pd.DataFrame, groups: np.ndarray | None, *, seed: int = 0) -> Check:
    """Look for further columns that tell the label, the part, or that test is older than training.

    Parameters
    ----------
    table : pandas.DataFrame
        ``label``, ``part``, and further columns with `leakfree.data.reading.understand.META` before their
        names.
    groups : numpy.ndarray of int64, shape (n,), or None
        Linked group of each row; None where they are not known.
    seed : int
        Of folds, permutations and resamples.

    Returns
    -------
    Check
        In ``details``, each column has its AUC with an interval over groups and a permutation control.
    """
    columns = [column for column in table.columns if column.startswith(META)]
    if not columns:
        return not_run("metadata", "No further columns: nothing to ask.")
    group = np.arange(len(table)) if groups is None else np.unique(groups, return_inverse=True)[1]
    labels, parts = table["label"].astype(str).to_numpy(), table["part"].astype(str).to_numpy()
    findings, gaps, rows = [], [] if groups is not None else ["patients are not known"], []
    left_out, suspects = [], []
    for column in columns:
        name, values = column.removeprefix(META), table[column].astype(str)
        code = _code(values)
        if code is None:
            left_out.append(name)
            continue
        row: dict[str, Any] = {"name": name, "different": int(values.nunique())}
        usable = (labels != "") & (labels != "sealed")
        if _repeats(values[usable], labels[usable]):
            row["repeats_the_label"] = True
            findings.append(f"{name} repeats the label")
        else:
            result = _asked(code, labels, usable, group, seed)
            row["label"] = result
            if result is None:
                gaps.append(f"{name} and the label: fewer than {LEAST_GROUPS} groups on a side")
            elif over_bar(result):
                findings.append(f"{name} predicts the label (AUC {result['auc']:.2f}, {span(result)})")
            elif _suspect(result):
                suspects.append((result["auc"], f"{name} {_may(result)}"))
            elif (result["high"] or 1.0) >= REACH:
                gaps.append(
                    f"{name} and the label: too few groups to rule out an AUC of {result['high'] or 1:.2f}"
                )
        placed = parts != ""
        if len(set(parts[placed])) > 1:
            training = np.array([kind_of(part) == "train" for part in parts])
            target = np.where(training, "training", "other")
            differs = _asked(code, target, placed, group, seed)
            row["part"] = differs
            if differs is not None and over_bar(differs):
                findings.append(
                    f"{name} differs between the parts (AUC {differs['auc']:.2f}, {span(differs)})"
                )
            if alone := _alone(values, parts):
                findings.append(f"{name} {alone[1]} makes up {alone[0]}, and stands in no other part")
            if backwards := _backwards(values, parts, training):
                row["time"] = backwards
                findings.append(f"{name}: {backwards}")
        rows.append(row)
    details = {"columns": rows, "left_out": left_out}
    gap = f" Not answered: {'; '.join(gaps[:4])}." if gaps else ""
    if suspects:
        told = "; ".join(text for _, text in sorted(suspects, reverse=True)[:4])
        gap = f" But too few patients to be sure: {told}.{gap}"
    if findings:
        more = f"; and {len(findings) - 5} more" if len(findings) > 5 else ""
        return Check(
            "metadata",
            "WARN",
            f"{'; '.join(findings[:5])}{more}.{gap}",
            "Ask how the set was put together; report a model of these columns alone as a floor, and scores "
            "within one source.",
            len(findings),
            severity="warning",
            details=details,
        )
    if not rows:
        return not_run("metadata", "No further column has values that several images share.")
    sure = "surely " if suspects else ""
    summary = f"None of {len(rows)} further columns {sure}tells the label or the part.{gap}"
    return Check("metadata", "INCONCLUSIVE" if gap else "PASS", summary, details=details)


def _suspect(result: dict[str, Any]) -> bool:
    """Whether a column lies over chance by its whole interval, though not over what shuffles reach."""
    return result["low"] is not None and result["low"] > BAR


def _may(result: dict[str, Any]) -> str:
    top = result["permutation"]["high"] or 1.0
    return f"may tell the label (AUC {result['auc']:.2f}, {span(result)}; shuffled up to {top:.2f})"


def _code(values: pd.Series) -> np.ndarray | None:
    """Return a code for each value: bins of numbers, the most frequent texts; None of names and constants."""
    known = values[values != ""]
    if known.nunique() < 2:
        return None
    numbers = pd.to_numeric(values.str.replace(r"(?<=\d)Y$", "", regex=True), errors="coerce")
    if numbers.notna().sum() >= 0.9 * len(known) and known.nunique() > _CODED:
        return binned_values(numbers.to_numpy(dtype=np.float64))
    if known.nunique() > MOST_VALUES:
        return None
    codes, names = pd.factorize(values, sort=True)
    frequent = np.argsort(-np.bincount(codes), kind="stable")[:_CODED]
    return np.where(np.isin(codes, frequent), codes, len(names))


def _repeats(values: pd.Series, labels: np.ndarray) -> bool:
    """Whether each value goes with one label, and each label with one value."""
    pairs = pd.DataFrame({"value": values.to_numpy(), "label": labels}).drop_duplicates()
    return len(pairs) > 1 and pairs["value"].is_unique and pairs["label"].is_unique


def _asked(
    code: np.ndarray, labels: np.ndarray, usable: np.ndarray, group: np.ndarray, seed: int
) -> dict[str, Any] | None:
    """Score how well a code tells labels; None where there are too few groups."""
    if not usable.any():
        return None
    inside = np.unique(group[usable], return_inverse=True)[1]
    y, names = pd.factorize(labels[usable], sort=True)
    pairs = np.unique(np.column_stack([inside, y]), axis=0)
    having = np.bincount(pairs[:, 1], minlength=len(names))
    scored = np.flatnonzero((having >= LEAST_GROUPS) & (inside.max() + 1 - having >= LEAST_GROUPS))[:8]
    if len(names) < 2 or not len(scored):
        return None
    rng = np.random.default_rng(seed)
    folds, of_group = grouped_folds(inside, y, rng)
    donors = permuted_rows(inside, of_group, _PERMUTATIONS, rng)
    weights = group_weights(inside, _RESAMPLES, rng)
    targets = y[None, :] == scored[: 1 if len(names) == 2 else None, None]
    return separability(one_hot([code[usable]]), targets, folds, weights, donors)


def _alone(values: pd.Series, parts: np.ndarray) -> tuple[str, str] | None:
    """Return a part that one value makes up alone, while the other parts do not have it."""
    for part in sorted(set(parts) - {""}):
        inside = set(values[parts == part])
        if (
            len(inside) == 1
            and (value := inside.pop())
            and value not in set(values[(parts != part) & (parts != "")])
        ):
            return part, value
    return None


def _backwards(values: pd.Series, parts: np.ndarray, training: np.ndarray) -> str:
    """Say that the held-out parts are older than training, where a column is a date; empty if not."""
    known = values[values != ""]
    if not len(known) or not known.map(lambda text: _DATE.fullmatch(text) is not None).all():
        return ""
    dates = pd.to_datetime(values.where(values != "", None), errors="coerce", format="mixed", dayfirst=True)
    first, held = dates[training].dropna(), dates[~training & (parts != "")].dropna()
    if not len(first) or not len(held) or held.median() >= first.median():
        return ""
    share = float((held < first.median()).mean())
    return f"{share:.0%} of the held-out images are older than half of training"
