"""Tell the parts apart, if they can be: by a classifier, by their labels, by their identifiers.

A score on a test part says something about new patients of the same kind only if that part is like training.
Three questions are asked of every pair of parts.

Adversarial validation: a classifier is trained to tell the two parts apart (a classifier two-sample test:
Lopez-Paz and Oquab, "Revisiting classifier two-sample tests", ICLR 2017), cross-validated by group.
Label proportions: are they alike, beyond what drawing whole groups at random would give?
Identifiers: do the parts hold contiguous blocks of numbers, as if cut by date of admission? The number of
runs of the distinct patients in order of their number tells (Wald and Wolfowitz, "On a test whether two
samples are from the same population", Annals of Mathematical Statistics 11, 1940, 147-162).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import combinations
from math import comb, erf, sqrt
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from leakfree.audit.checks.findings import Check, Status, not_run
from leakfree.audit.checks.separability import (
    BAR,
    FOLDS,
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
from leakfree.audit.checks.shortcuts import features

#: Level of the tests of label proportions and of identifiers, shared by all that are made.
ALPHA = 0.01
#: Differences of a label's proportion below this are not a finding, however sure.
LEAST_DIFFERENCE = 0.05
#: Runs of identifiers over expected runs, above which blocks are not a finding, however sure.
MOST_RUNS = 0.8
#: Patients that each part must have under a prefix for its runs to be counted.
LEAST_PATIENTS = 5
#: Principal components of the thumbnails.
COMPONENTS = 30
#: Parts that are compared, the largest first.
MOST_PARTS = 4
_EXACT = 300


# Threads of BLAS wait for each other on a busy machine (ten times as long), and change rounding.
@threadpool_limits.wrap(limits=1)
def shift(
    table: pd.DataFrame,
    thumbnails: np.ndarray | None,
    groups: np.ndarray | None,
    *,
    numbers: pd.DataFrame | None = None,
    seed: int = 0,
    permutations: int = 100,
    resamples: int = 200,
) -> Check:
    """Look for differences between the parts of a split.

    Parameters
    ----------
    table : pandas.DataFrame
        A row an image: ``part``, ``label`` and the columns of `leakfree.audit.checks.shortcuts.FAMILIES`.
        Rows without a part are left out.
    thumbnails : numpy.ndarray of uint8, shape (n, 32, 32), or None
        Small grey pictures. Their principal components are fitted on training folds only.
    groups : numpy.ndarray of int64, shape (n,), or None
        Linked group of each row; None where they are not known.
    numbers : pandas.DataFrame, optional
        ``prefix`` (str) and ``number`` (Int64) of each row's identifier, as
        `leakfree.data.patients.identifiers` returns them; an empty prefix or NA where there is none.
    seed : int
        Of folds, permutations and resamples.
    permutations : int
        Of the classifier's control. Label proportions use twenty times as many.
    resamples : int
        Bootstrap resamples over groups, for percentile intervals of 95 %.

    Returns
    -------
    Check
        ``count`` is the number of differences. ``PASS`` only if every question could be answered for every
        pair, and no classifier's upper bound reaches `leakfree.audit.checks.separability.REACH`.
    """
    if "part" not in table:
        return not_run("shift", "No parts: nothing to compare.")
    part = table["part"].fillna("").astype(str).to_numpy(dtype=object)
    sizes = pd.Series(part[part != ""]).value_counts()
    if len(sizes) < 2:
        return not_run("shift", "Fewer than two parts: nothing to compare.")
    table = table.reset_index(drop=True)
    group = np.arange(len(table)) if groups is None else np.unique(groups, return_inverse=True)[1]
    names = list(sizes.index[:MOST_PARTS])
    order = {name: i for i, name in enumerate(dict.fromkeys(part))}
    couples = list(combinations(sorted(names, key=order.__getitem__), 2))
    gaps = [f"{(part == '').sum():,} images without a part"] if (part == "").any() else []
    gaps += [f"{len(sizes) - len(names)} small parts not compared"] if len(sizes) > len(names) else []
    gaps += [] if thumbnails is not None else ["no pictures"]
    gaps += [] if groups is not None else ["patients not known"]
    gaps += [] if numbers is not None else ["no identifiers"]
    rng = np.random.default_rng(seed)
    findings: list[str] = []
    pairs = []
    for a, b in couples:
        rows = np.flatnonzero((part == a) | (part == b))
        second = part[rows] == b
        inside = np.unique(group[rows], return_inverse=True)[1]
        pair: dict[str, Any] = {"parts": [a, b]}
        small = None if thumbnails is None else thumbnails[rows]
        pair |= _classifier(table.iloc[rows], small, second, inside, rng, permutations, resamples)
        label = table["label"].iloc[rows] if "label" in table else None
        alpha = ALPHA / len(couples)
        pair["labels"] = _labels(label, second, inside, rng, 20 * permutations)
        pair["identifiers"] = _identifiers(None if numbers is None else numbers.iloc[rows], second)
        pairs.append(pair)
        said, absent = _judge(pair, alpha)
        between = f"{a}, {b}: "
        findings += [between + what for what in said]
        gaps += [between + what for what in absent]
    details = {"pairs": pairs, "bar": BAR, "alpha": ALPHA}
    missing = f" Not checked: {'; '.join(dict.fromkeys(gaps))}." if gaps else ""
    if findings:
        return Check(
            "shift",
            "WARN",
            f"The parts differ: {'; '.join(findings)}.{missing}",
            "Ask how the parts were made. If they are to be alike, split again by whole groups, stratified "
            "by label; if not, say what the test part stands for.",
            len(findings),
            severity="warning",
            details=details,
        )
    status: Status = "INCONCLUSIVE" if gaps else "PASS"
    return Check("shift", status, f"No difference between the parts found.{missing}", details=details)


def _judge(pair: dict, alpha: float) -> tuple[list[str], list[str]]:
    """Return what differs between two parts, and what could not be told, in words."""
    said, absent = [], []
    if pair["reason"]:
        absent.append(pair["reason"])
    if pair["auc"] is not None:
        if over_bar(pair):
            said.append(f"a classifier tells them apart (AUC {pair['auc']:.2f}, {span(pair)})")
        elif pair["high"] is None or pair["high"] >= REACH:
            absent.append(f"too few groups to rule out an AUC of {pair['high'] or 1:.2f}")
    labels = pair["labels"]
    if labels["reason"]:
        absent.append(labels["reason"])
    elif labels["p"] < alpha and abs(labels["difference"]) >= LEAST_DIFFERENCE:
        shares = zip(labels["proportions"][labels["label"]], pair["parts"], strict=True)
        said.append(f"label {labels['label']} is {' and '.join(f'{x:.0%} of {name}' for x, name in shares)}")
    identifiers = pair["identifiers"]
    if identifiers["reason"]:
        absent.append(identifiers["reason"])
    tested = [row for row in identifiers["prefixes"] if row["p"] is not None]
    blocks = [
        row for row in tested if row["p"] < alpha / len(tested) and row["runs"] <= MOST_RUNS * row["expected"]
    ]
    if blocks:
        worst = min(blocks, key=lambda row: row["p"])
        said.append(
            f"identifiers stand in blocks ({worst['prefix'] or 'numbers'}: {worst['runs']} runs of "
            f"{worst['expected']:.0f} expected)"
        )
    return said, absent


def _classifier(
    table: pd.DataFrame,
    thumbnails: np.ndarray | None,
    second: np.ndarray,
    group: np.ndarray,
    rng: np.random.Generator,
    permutations: int,
    resamples: int,
) -> dict[str, Any]:
    """Score a classifier of the part, as `separability` does; ``reason`` says what it went without."""
    found, missing = features(table)
    least = min(len(np.unique(group[second])), len(np.unique(group[~second])))
    nothing = {"auc": None, "low": None, "high": None, "permutation": {"mean": None, "high": None}}
    if least < LEAST_GROUPS:
        return nothing | {"reason": f"fewer than {LEAST_GROUPS} groups in the smaller part"}
    if not found and thumbnails is None:
        return nothing | {"reason": "no features"}
    folds, of_group = grouped_folds(group, second.astype(np.int64), rng)
    design: np.ndarray | Sequence[np.ndarray]
    design = one_hot(list(found.values())) if found else np.empty((len(group), 0), dtype=np.float32)
    if thumbnails is not None:
        design = [np.hstack([design, scores]) for scores in components(thumbnails, folds)]
    weights = group_weights(group, resamples, rng)
    donors = permuted_rows(group, of_group, permutations, rng)
    result = separability(design, second[None, :], folds, weights, donors)
    return result | {"reason": f"no {', '.join(missing)}" if missing else ""}


def components(thumbnails: np.ndarray, folds: np.ndarray) -> list[np.ndarray]:
    """Return for each fold all rows' standardised principal components, fitted without that fold's rows.

    Returns
    -------
    list of numpy.ndarray of float32, shape (n, COMPONENTS)
        Every component with its square behind it, for spread differs as well as place.
    """
    pixels = thumbnails.reshape(len(thumbnails), -1).astype(np.float32) / 255
    held = [folds == fold for fold in range(FOLDS)]
    grams, sums = (
        [pixels[rows].T @ pixels[rows] for rows in held],
        [pixels[rows].sum(axis=0) for rows in held],
    )
    # One after the other: np.sum copies all of them into one array first, which takes longer than adding.
    gram, total = reduce(np.add, grams), reduce(np.add, sums)
    result = []
    for rows, less, fewer in zip(held, grams, sums, strict=True):
        kept = max(1, int((~rows).sum()))
        mean = (total - fewer) / kept
        covariance = gram - less
        covariance /= kept
        covariance -= np.outer(mean, mean)
        values, vectors = _leading(covariance)
        scores = (pixels - mean) @ (vectors / np.sqrt(values))
        # Far outside the training rows a square would drown all else.
        scores = np.clip(scores, -4, 4)
        result.append(np.hstack([scores, scores**2 - 1]).astype(np.float32))
    return result


def _leading(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest eigenvalues and their vectors, without those that are zero.

    By subspace iteration from random vectors (Halko, Martinsson and Tropp, SIAM Review 53, 2011, 217-288): a
    full decomposition takes seconds on a busy machine.
    """
    width = min(len(covariance), COMPONENTS + 10)
    basis = np.random.default_rng(0).normal(size=(len(covariance), width)).astype(np.float32)
    for _ in range(6):
        basis = np.linalg.qr(covariance @ basis)[0]
    values, vectors = np.linalg.eigh((basis.T @ covariance @ basis).astype(np.float64))
    keep = np.flatnonzero(values > 1e-6 * max(values[-1], 1e-3))[::-1][:COMPONENTS]
    return values[keep], basis @ vectors[:, keep]


def _labels(
    label: pd.Series | None,
    second: np.ndarray,
    group: np.ndarray,
    rng: np.random.Generator,
    permutations: int,
) -> dict[str, Any]:
    """Compare label proportions; the p value deals whole groups to the parts at random."""
    nothing: dict[str, Any] = {"proportions": {}, "label": None, "difference": None, "p": None}
    if label is None:
        return nothing | {"reason": "no labels"}
    text = label.fillna("").astype(str).to_numpy(dtype=object)
    if (text == "sealed").any():
        return nothing | {"reason": "label proportions, for labels are sealed"}
    if (text == "").any():
        return nothing | {"reason": "label proportions, for images lack a label"}
    codes, names = pd.factorize(text, sort=True)
    # Rare labels beyond these cannot make a difference of proportions that counts.
    frequent = np.sort(np.argsort(-np.bincount(codes), kind="stable")[: int(2 / LEAST_DIFFERENCE)])
    size = np.bincount(group)
    held = np.stack([np.bincount(group, codes == c) for c in frequent] + [size], axis=1).astype(np.float64)
    in_second = np.bincount(group, second) / size

    def distance(share: np.ndarray) -> np.ndarray:
        there = share @ held
        here = held.sum(axis=0) - there
        with np.errstate(invalid="ignore", divide="ignore"):
            return there[:, :-1] / there[:, -1:] - here[:, :-1] / here[:, -1:]

    seen = np.stack(
        [np.bincount(codes[second == side], minlength=len(names)) for side in (False, True)], axis=1
    )
    proportions = seen / seen.sum(axis=0)
    shuffled = np.abs(distance(rng.permuted(np.tile(in_second, (permutations, 1)), axis=1))).max(axis=1)
    difference = proportions[frequent, 1] - proportions[frequent, 0]
    worst = int(np.abs(difference).round(9).argmax())
    p = (1 + int((shuffled >= np.abs(difference[worst]) - 1e-12).sum())) / (permutations + 1)
    return {
        "proportions": {
            str(names[c]): [round(float(v), 4) for v in proportions[c]] for c in range(len(names))
        },
        "label": str(names[frequent[worst]]),
        "difference": round(float(difference[worst]), 4),
        "p": round(p, 5),
        "reason": "" if len(names) > 1 else "label proportions, for there is one label",
    }


def _identifiers(numbers: pd.DataFrame | None, second: np.ndarray) -> dict[str, Any]:
    """Count the runs of parts among patients in order of their number, prefix by prefix."""
    if numbers is None:
        return {"prefixes": [], "reason": ""}
    frame = pd.DataFrame(
        {
            "prefix": numbers["prefix"].fillna("").astype(str).to_numpy(),
            "number": pd.to_numeric(numbers["number"], errors="coerce").to_numpy(float, na_value=np.nan),
            "second": second,
        }
    )
    frame = frame[np.isfinite(frame["number"])]
    if not len(frame):
        return {"prefixes": [], "reason": "no identifiers"}
    rows = []
    for prefix, block in frame.groupby("prefix", sort=True):
        side = block.groupby("number", sort=True)["second"].mean()
        # A patient in both parts has no place in either run.
        clean = side[(side == 0) | (side == 1)].to_numpy() == 1
        n, m = int((~clean).sum()), int(clean.sum())
        row = {"prefix": prefix, "patients": [n, m], "in_both": len(side) - len(clean)}
        row |= {"runs": None, "expected": None, "p": None}
        if min(n, m) >= LEAST_PATIENTS:
            runs = 1 + int(np.count_nonzero(clean[1:] != clean[:-1]))
            row |= {"runs": runs, "expected": round(1 + 2 * n * m / (n + m), 2), "p": runs_p(runs, n, m)}
        rows.append(row)
    tested = any(row["p"] is not None for row in rows)
    return {"prefixes": rows, "reason": "" if tested else "identifiers, for no prefix is common to both"}


def runs_p(runs: int, n: int, m: int) -> float:
    """Return the probability of so few runs of two kinds, n and m in number, in random order.

    Exact by counting arrangements up to `_EXACT` items, beyond that by the normal approximation with a
    continuity correction.
    """
    total = n + m
    if total <= _EXACT:
        ways = 0
        for r in range(2, runs + 1):
            k, odd = divmod(r, 2)
            if odd:
                ways += comb(n - 1, k) * comb(m - 1, k - 1) + comb(n - 1, k - 1) * comb(m - 1, k)
            else:
                ways += 2 * comb(n - 1, k - 1) * comb(m - 1, k - 1)
        return ways / comb(total, n)
    mean = 1 + 2 * n * m / total
    spread = sqrt((mean - 1) * (mean - 2) / (total - 1))
    return (1 + erf((runs + 0.5 - mean) / (spread * sqrt(2)))) / 2
