"""Put linked groups into parts, so that every part has its share of the images and of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

#: Kinds of groups that are compared pair by pair when two groups change places.
_MOST_KINDS = 400
#: Random beginnings; the best result is kept.
_STARTS = 6


def assign(
    groups: np.ndarray, strata: Sequence[np.ndarray], fractions: Sequence[float], *, seed: int
) -> np.ndarray:
    """Give each image a part; a group is never divided.

    What is made small is the sum over parts and values of (images - wanted)^2 / wanted, where a value is one
    class, one value of another stratum, or all images together. Groups of the same make-up can change places
    freely, so the search counts how many groups of each kind a part gets. It begins at random and takes the
    best move of one group, or exchange of two, until none helps.

    Parameters
    ----------
    groups : numpy.ndarray of int, shape (n,)
        Linked group of each image.
    strata : sequence of numpy.ndarray of str, shape (n,)
        Columns whose shares should be the same in all parts, such as the class. May be empty.
    fractions : sequence of float
        Share of the images in each part; they sum to one.
    seed : int

    Returns
    -------
    numpy.ndarray of int64, shape (n,)
        Position of the part in ``fractions``.
    """
    codes, numbers = pd.factorize(groups)
    kinds, kind_of = np.unique(_make_up(codes, len(numbers), strata), axis=0, return_inverse=True)
    kind_of = kind_of.reshape(-1)
    counts = np.bincount(kind_of, minlength=len(kinds))
    shares = np.asarray(fractions, dtype=float)
    wanted = shares[:, None] * (counts @ kinds)
    rng = np.random.default_rng(seed)
    best, placed = np.inf, np.empty(0)
    for _ in range(_STARTS):
        found = _improved(_dealt(counts, shares, rng), kinds.astype(float), wanted)
        cost = _cost(found, kinds, wanted)
        if cost < best - 1e-9:
            best, placed = cost, found
    part_of_group = np.empty(len(numbers), dtype=np.int64)
    for kind in range(len(kinds)):
        part_of_group[rng.permutation(np.flatnonzero(kind_of == kind))] = np.repeat(
            np.arange(len(shares)), placed[kind]
        )
    return part_of_group[codes]


def _make_up(codes: np.ndarray, n_groups: int, strata: Sequence[np.ndarray]) -> np.ndarray:
    """Count the images of each group by value: int64, shape (groups, 1 + values)."""
    columns = [np.bincount(codes, minlength=n_groups)]
    for stratum in strata:
        values, names = pd.factorize(np.asarray(stratum, dtype=object), use_na_sentinel=False)
        flat = np.bincount(codes * len(names) + values, minlength=n_groups * len(names))
        columns.extend(flat.reshape(n_groups, len(names)).T)
    return np.stack(columns, axis=1)


def _dealt(counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal the groups of each kind to parts by their shares, what is left over at random."""
    exact = counts[:, None] * shares
    placed = np.floor(exact + 1e-9).astype(np.int64)
    for kind, left in enumerate(counts - placed.sum(axis=1)):
        if left:
            rest = np.maximum(exact[kind] - placed[kind], 0) + 1e-9
            chosen = rng.choice(len(shares), size=left, replace=False, p=rest / rest.sum())
            placed[kind, chosen] += 1
    return placed


def _cost(placed: np.ndarray, kinds: np.ndarray, wanted: np.ndarray) -> float:
    return float(((placed.T @ kinds - wanted) ** 2 / wanted).sum())


def _improved(placed: np.ndarray, kinds: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    placed, weight, square = placed.copy(), 1 / wanted, kinds**2
    excess = placed.T @ kinds - wanted
    diagonal = np.arange(len(wanted))
    few = np.flatnonzero(placed.sum(axis=1))[:_MOST_KINDS]
    # Each step lowers the cost, so this ends; the bound is for costs that differ by rounding alone.
    for _ in range(50 * len(kinds) + 1000):
        out = square @ weight.T - 2 * kinds @ (weight * excess).T
        into = square @ weight.T + 2 * kinds @ (weight * excess).T
        change = out[:, :, None] + into[:, None, :]
        change[:, diagonal, diagonal] = np.inf
        change[placed == 0] = np.inf
        kind, source, goal = map(int, np.unravel_index(int(change.argmin()), change.shape))
        if change[kind, source, goal] < -1e-9:
            steps = [(kind, source, goal)]
        else:
            steps = _exchange(placed, kinds, weight, excess, few)
            if not steps:
                break
        for kind, source, goal in steps:
            placed[kind, source] -= 1
            placed[kind, goal] += 1
            excess[source] -= kinds[kind]
            excess[goal] += kinds[kind]
    return placed


def _exchange(
    placed: np.ndarray, kinds: np.ndarray, weight: np.ndarray, excess: np.ndarray, few: np.ndarray
) -> list[tuple[int, int, int]]:
    """Return the two moves of the exchange that helps most, none where no exchange helps."""
    best, steps, some = -1e-9, [], kinds[few]
    for source in range(len(weight)):
        for goal in range(source + 1, len(weight)):
            both = weight[source] + weight[goal]
            pull = some @ (weight[goal] * excess[goal] - weight[source] * excess[source])
            own = some**2 @ both
            change = own[:, None] + own[None, :] - 2 * (some * both) @ some.T
            change += 2 * (pull[:, None] - pull[None, :])
            change[placed[few, source] == 0, :] = np.inf
            change[:, placed[few, goal] == 0] = np.inf
            there, back = np.unravel_index(int(change.argmin()), change.shape)
            if change[there, back] < best:
                best = change[there, back]
                steps = [(few[there], source, goal), (few[back], goal, source)]
    return steps
