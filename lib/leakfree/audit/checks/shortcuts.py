"""Predict the label from size, shape, colour mode, file bytes, border and simple grey statistics alone.

An image's width says nothing about disease. Where it predicts the label, a network can learn the scanner
instead (Zech et al., "Variable generalization performance of a deep learning model to detect pneumonia in
chest radiographs", PLOS Medicine 15, 2018, e1002683). Grey statistics are another matter: a lung full of
fluid *is* brighter, so that they predict is a note to think about, not proof of a shortcut. File bytes stand
between the two, for a compressed size depends on the picture as well as on who saved it.

The score is that of `leakfree.audit.checks.separability`. Its interval is a bootstrap over groups of scores
as they stand, which leaves out the variation of the fits and so is too narrow: it covered one half in only
77 to 91 % of tables in which nothing predicts. That is why a warning also needs a score beyond its
permutation control, which fits anew for every permutation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from leakfree.audit.checks.findings import Check, not_run
from leakfree.audit.checks.separability import (
    BAR,
    BINS,
    LEAST_GROUPS,
    REACH,
    binned,
    group_weights,
    grouped_folds,
    one_hot,
    over_bar,
    permuted_rows,
    separability,
    span,
)

#: Features by family; `area` and `aspect` are made from the table's columns.
FAMILIES: dict[str, tuple[str, ...]] = {
    "size": ("width", "height", "area", "aspect"),
    "mode": ("mode",),
    "bytes": ("bytes",),
    "border": ("border_mean", "border_std", "border_black"),
    "intensity": ("mean", "std", "p05", "p50", "p95"),
}
#: Families that describe the file and not the image.
ACQUISITION = ("size", "mode", "bytes")
#: Labels scored one against the rest, the most frequent first.
MOST_LABELS = 12
_NAMES = {"size": "size and aspect ratio", "mode": "colour mode", "bytes": "file bytes"} | {
    "border": "the border's greys",
    "intensity": "grey statistics",
}


# Threads of BLAS wait for each other on a busy machine (ten times as long), and change rounding.
@threadpool_limits.wrap(limits=1)
def shortcuts(
    table: pd.DataFrame,
    groups: np.ndarray | None,
    *,
    seed: int = 0,
    permutations: int = 100,
    resamples: int = 200,
) -> Check:
    """Score how well facts of the file and simple grey statistics alone predict the label.

    All rows with a label are used, whatever their part: the question is about the data set.

    Parameters
    ----------
    table : pandas.DataFrame
        A row an image: ``label`` and the columns that `FAMILIES` is made of. A label of ``sealed`` or an
        empty one leaves the row out. An absent column, or an absent value, keeps the check from passing.
    groups : numpy.ndarray of int64, shape (n,), or None
        Linked group of each row. None where they are not known: every row is then its own group, the
        intervals are too narrow, and the check cannot pass.
    seed : int
        Of folds, permutations and resamples.
    permutations : int
        Label permutations of the control. Groups of one fold swap their labels as wholes.
    resamples : int
        Bootstrap resamples over groups, for percentile intervals of 95 %.

    Returns
    -------
    Check
        ``WARN`` if a family, or the acquisition families together, are over `BAR`; ``count`` is the number
        of such families. ``PASS`` if nothing is and every upper bound is below `REACH`.
    """
    asked = question("shortcuts", table, groups)
    if isinstance(asked, Check):
        return asked
    y, group, scored = asked.y, asked.group, asked.scored
    found, missing = features(table[asked.used])
    gaps = [*asked.gaps, *([f"no {', '.join(missing)}"] if missing else []), *asked.unknown]
    details = asked.details
    if not len(scored) or not found:
        return asked.not_measured("shortcuts", gaps, "no feature" if len(scored) else "")
    measure = _measurer(found, y, scored, group, np.random.default_rng(seed), permutations, resamples)
    members = {family: [name for name in names if name in found] for family, names in FAMILIES.items()}
    families = {family: measure(some, True) for family, some in members.items() if some}
    acquisition = [name for family in ACQUISITION for name in members[family]]
    together = measure(acquisition, True) if acquisition else None
    everything = measure(list(found), True)
    details |= {
        "features": [
            {"name": name, "family": family, **measure([name], False)}
            for family, some in members.items()
            for name in some
        ],
        "families": [{"name": family, **result} for family, result in families.items()],
        "acquisition": together,
        **everything,
    }
    over = [family for family, result in families.items() if over_bar(result)]
    by_file = [family for family in over if family in ACQUISITION]
    only_together = not by_file and together is not None and over_bar(together)
    if over or only_together or over_bar(everything):
        return _warning(families, together if only_together else None, everything, over, gaps, details)
    reach = max(
        _upper(result) for result in [*families.values(), everything, *([together] if together else [])]
    )
    if reach >= REACH:
        gaps.append(f"too few groups ({details['n_groups']:,}) to rule out an AUC of {min(reach, 1):.2f}")
    summary = (
        f"No family predicts the label beyond an AUC of {BAR}; all together reach "
        f"{everything['auc']:.2f} (95 % interval {span(everything)})"
    )
    summary += f". Missing: {'; '.join(gaps)}." if gaps else "."
    return Check("shortcuts", "INCONCLUSIVE" if gaps else "PASS", summary, details=details)


def _measurer(
    found: Mapping[str, np.ndarray],
    y: np.ndarray,
    scored: np.ndarray,
    group: np.ndarray,
    rng: np.random.Generator,
    permutations: int,
    resamples: int,
) -> Callable[[Sequence[str], bool], dict[str, Any]]:
    """Return what asks how well some features predict the labels, with a permutation control or without."""
    targets = y[None, :] == scored[:, None]
    folds, of_group = grouped_folds(group, y, rng)
    donors = permuted_rows(group, of_group, permutations, rng)
    weights = group_weights(group, resamples, rng)
    designs = {name: one_hot([code]) for name, code in found.items()}

    def measure(members: Sequence[str], control: bool) -> dict[str, Any]:
        design = np.hstack([designs[name] for name in members])
        result = separability(design, targets, folds, weights, donors if control else donors[:0])
        return result if control else {key: value for key, value in result.items() if key != "permutation"}

    return measure


def _warning(
    families: Mapping[str, Mapping[str, Any]],
    together: Mapping[str, Any] | None,
    everything: Mapping[str, Any],
    over: Sequence[str],
    gaps: Sequence[str],
    details: dict[str, Any],
) -> Check:
    """Word the finding: what describes the file is named first, what may be disease is called so."""
    said = [f"{_NAMES[f]} (AUC {families[f]['auc']:.2f}, {span(families[f])})" for f in over]
    if together is not None:
        said.insert(0, f"size, mode and bytes together (AUC {together['auc']:.2f}, {span(together)})")
    if not said:
        said = [f"all features together (AUC {everything['auc']:.2f}, {span(everything)})"]
    summary = f"The label is predicted by {', '.join(said)}"
    if set(over) & {"size", "mode"} or together is not None:
        summary += "; size, mode and bytes describe the file, not the patient"
        advice = (
            "Make files of all labels alike (crop, resize, one colour mode, one encoder), and score a model "
            "of these facts alone as the floor that a network must beat."
        )
    elif "bytes" in over:
        summary += "; bytes reflect the encoder, but the picture's content too"
        advice = "Encode all files alike and look again; report a model of these facts alone as a floor."
    else:
        summary += "; disease itself changes greys, so this is a note and no proof of a shortcut"
        advice = "Report a model of these statistics alone as a floor, and see if it holds within one source."
    summary += f". Missing: {'; '.join(gaps)}." if gaps else "."
    count = len(over) + (not over)
    return Check("shortcuts", "WARN", summary, advice, count, severity="warning", details=details)


class Question(NamedTuple):
    """Which images are asked whether something predicts their label.

    Attributes
    ----------
    used : numpy.ndarray of bool, shape (n,)
        Rows with a label that is not sealed; what follows is of these m rows.
    y, group : numpy.ndarray of int64, shape (m,)
        Number of the label in `names`, and of the linked group.
    names : list of str
    scored : numpy.ndarray of int64
        Labels that are scored, see `scored_labels`.
    gaps, unknown : list of str
        What is missing, in words; `unknown` where patients are not known.
    details : dict
        Of the check: counts, and the bar.
    """

    used: np.ndarray
    y: np.ndarray
    group: np.ndarray
    names: list[str]
    scored: np.ndarray
    gaps: list[str]
    unknown: list[str]
    details: dict[str, Any]

    def not_measured(self, check: str, gaps: Sequence[str], why: str = "") -> Check:
        """Say that nothing could be measured; without `why`, since there is no label to score."""
        few = why or f"fewer than {LEAST_GROUPS} groups in the smaller class"
        reason = f"every image has the label {self.names[0]!r}" if len(self.names) == 1 else few
        summary = f"Not measured: {'; '.join([reason, *gaps])}."
        return Check(check, "INCONCLUSIVE", summary, details=self.details)


def question(check: str, table: pd.DataFrame, groups: np.ndarray | None) -> Question | Check:
    """Take the images with a label, or say why the check does not run."""
    label = table["label"].fillna("").astype(str).to_numpy(dtype=object) if "label" in table else np.empty(0)
    used = (label != "") & (label != "sealed")
    if not used.any():
        reason = "All labels are sealed." if (label == "sealed").any() else "No labels: nothing to predict."
        return not_run(check, reason)
    group = np.arange(used.sum()) if groups is None else np.unique(groups[used], return_inverse=True)[1]
    y, names = pd.factorize(label[used], sort=True)
    scored, rare = scored_labels(y, group, len(names))
    details: dict[str, Any] = {
        "n_images": int(used.sum()),
        "n_groups": int(group.max()) + 1,
        "labels": {str(name): int(count) for name, count in zip(names, np.bincount(y), strict=True)},
        "left_out": int((~used).sum()),
        "bar": BAR,
    }
    gaps = [f"{details['left_out']:,} images without a usable label"] if details["left_out"] else []
    gaps += [f"{rare} of {len(names)} labels not scored"] if rare and len(scored) else []
    unknown = ["patients not known"] if groups is None else []
    return Question(used, y, group, list(names), scored, gaps, unknown, details)


def scored_labels(y: np.ndarray, group: np.ndarray, k: int) -> tuple[np.ndarray, int]:
    """Return the labels with enough groups on both sides, and how many labels have not."""
    pairs = np.unique(np.column_stack([group, y]), axis=0)
    having = np.bincount(pairs[:, 1], minlength=k)
    # A group with several labels stands on both sides.
    sole = np.bincount(pairs[:, 0])[pairs[:, 0]] == 1
    lacking = group.max() + 1 - np.bincount(pairs[sole, 1], minlength=k)
    enough = np.flatnonzero((having >= LEAST_GROUPS) & (lacking >= LEAST_GROUPS))
    chosen = enough[np.argsort(-having[enough], kind="stable")][:MOST_LABELS]
    # Of two labels, one against the rest is the same question twice.
    return (chosen[:1], 0) if k == 2 else (chosen, k - len(chosen))


def features(table: pd.DataFrame) -> tuple[dict[str, np.ndarray], list[str]]:
    """Bin every feature that the table has, without looking at labels.

    Returns
    -------
    codes : dict of str to numpy.ndarray of int64, shape (n,)
        Bin of each row, by feature; absent values have a bin of their own.
    missing : list of str
        Columns that are absent, or that lack values.
    """
    plain = [
        n for names in FAMILIES.values() for n in names if n not in ("area", "aspect", "bytes_per_pixel")
    ]
    columns: dict[str, np.ndarray] = {}
    for name in plain:
        if name in table and name != "mode":
            values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
            columns[name] = np.where(np.isfinite(values), values, np.nan)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if {"width", "height"} <= columns.keys():
            columns["area"] = columns["width"] * columns["height"]
            columns["aspect"] = columns["width"] / columns["height"]
    codes = {name: binned(v) for name, v in columns.items() if np.isfinite(v).any()}
    missing = [n for n in plain if n not in codes or np.isnan(columns[n]).any()]
    if "mode" in table and len(table):
        mode, kinds = pd.factorize(table["mode"].fillna("").astype(str), sort=True)
        if list(kinds) != [""]:
            frequent = np.argsort(-np.bincount(mode), kind="stable")[:BINS]
            codes["mode"] = np.where(np.isin(mode, frequent), mode, len(kinds))
        if "" not in kinds:
            missing.remove("mode")
    return codes, missing


def _upper(result: Mapping[str, Any]) -> float:
    return np.inf if result["high"] is None else result["high"]
