"""Paired draws: who is tested, whose images are held in reserve, and who stands in for whom.

In a draw, linked groups with several images ("patients" here) are paired within their composition by label.
A coin decides which of a pair is tested: one of its images is the test image, the others are its reserve
(``own``). The other patient of the pair is its donor: as many of its images, of the same labels, are the
reserve ``donor``. A clean arm trains on the donors' reserves and a leaky one on the reserves of the test
patients, so both gain the same number of equally clustered images, of the same classes; only whose they are
differs.

Draws come in mirrored couples (seeds 2m and 2m + 1): who is tested in one is the donor in the other, with
the same images. What trains the leaky arm of one trains the clean arm of the other, so that the luck of
which of the two training sets is the better one cancels in their mean (a crossover).

Beside them a draw tests some patients who have a single image, and holds as many others for validation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Roles of an image in a draw. ``left`` trains nothing: images over, which would break the match.
ROLES = ("base", "test", "own", "donor", "single", "val", "left")
_CODE = {role: code for code, role in enumerate(ROLES)}
#: Share of the patients with a single image that is tested, and again that validates.
SINGLES = 0.15


@dataclass(frozen=True)
class Draw:
    """One draw over n images.

    Attributes
    ----------
    seed : int
    role : numpy.ndarray of uint8, shape (n,)
        Position in `ROLES`.
    slot : numpy.ndarray of int64, shape (n,)
        Number of the pair for the roles test, own and donor; -1 elsewhere.
    rank : numpy.ndarray of float64, shape (pairs,)
        Place of each pair's test image within its label, in [0, 1): a dose d leaks to the pairs below d, so
        doses are nested and equal by class.
    """

    seed: int
    role: np.ndarray
    slot: np.ndarray
    rank: np.ndarray

    def rows(self, *roles: str) -> np.ndarray:
        """Return the rows, int64 in cohort order, that have one of the roles."""
        return np.flatnonzero(np.isin(self.role, [_CODE[role] for role in roles]))

    def leaked(self, dose: float) -> np.ndarray:
        """Tell which pairs leak at a dose: bool, shape (pairs,)."""
        return self.rank < dose


def draw(labels: np.ndarray, groups: np.ndarray, seed: int, *, singles: float = SINGLES) -> Draw:
    """Make a draw.

    Parameters
    ----------
    labels : numpy.ndarray of int64, shape (n,)
        Class of each image, from 0.
    groups : numpy.ndarray of int64, shape (n,)
        Linked group of each image.
    seed : int
        Seed of the draw; nothing else is random. An odd one mirrors the draw of the seed before it.
    singles : float
        Share of the patients with one image that is tested, and again that validates.

    Returns
    -------
    Draw

    Raises
    ------
    ValueError
        If no two patients with several images can be paired.
    """
    rng = np.random.default_rng(seed // 2)
    labels, groups = np.asarray(labels), np.unique(groups, return_inverse=True)[1]
    role = np.full(len(labels), _CODE["base"], dtype=np.uint8)
    slot = np.full(len(labels), -1, dtype=np.int64)
    by_group = np.argsort(groups, kind="stable")
    images = np.split(by_group, np.cumsum(np.bincount(groups))[:-1])
    pairs = []
    for couple in _pairs(images, labels, rng):
        shuffled = [rng.permutation(images[g]) for g in couple]
        if rng.random() < 0.5:
            shuffled.reverse()
        shown = _test_images(*(labels[rows] for rows in shuffled))
        if shown is None:
            continue
        if seed % 2:
            shuffled.reverse()
            shown = shown[::-1]
        tested, donor = shuffled
        test = tested[shown[0]]
        own, given = _match(np.delete(tested, shown[0]), np.delete(donor, shown[1]), labels)
        if len(own):
            role[tested] = role[donor] = _CODE["left"]
            role[test], role[own], role[given] = _CODE["test"], _CODE["own"], _CODE["donor"]
            slot[[test, *own, *given]] = len(pairs)
            pairs.append(test)
    if not pairs:
        raise ValueError("no two patients with several images can be paired: there is no reserve to leak")
    rank = np.empty(len(pairs))
    tested_labels = labels[pairs]
    for label in np.unique(tested_labels):
        members = rng.permutation(np.flatnonzero(tested_labels == label))
        rank[members] = np.arange(len(members)) / len(members)
    alone = np.array([group[0] for group in images if len(group) == 1], dtype=np.int64)
    for label in np.unique(labels[alone]):
        members = rng.permutation(alone[labels[alone] == label])
        n = round(singles * len(members))
        role[members[:n]], role[members[n : 2 * n]] = _CODE["single"], _CODE["val"]
    return Draw(seed, role, slot, rank)


def _pairs(images: list[np.ndarray], labels: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Pair patients of like composition: equal ones first, what is over with the next in size."""
    several = [g for g, rows in enumerate(images) if len(rows) > 1]
    counts = {g: np.bincount(labels[images[g]], minlength=int(labels.max()) + 1) for g in several}
    shuffled = rng.permutation(np.array(several, dtype=np.int64)).tolist()
    # By the classes that they have, then by how many images of each: neighbours match best.
    shuffled.sort(key=lambda g: (tuple(counts[g] > 0), int(counts[g].sum()), tuple(counts[g])))
    pairs, waiting = [], {}
    for g in shuffled:
        exact = tuple(counts[g])
        if exact in waiting:
            pairs.append((waiting.pop(exact), g))
        else:
            waiting[exact] = g
    over: dict[tuple, int] = {}
    for exact, g in waiting.items():
        kind = tuple(count > 0 for count in exact)
        if kind in over:
            pairs.append((over.pop(kind), g))
        else:
            over[kind] = g
    return pairs


def _test_images(first: np.ndarray, second: np.ndarray) -> tuple[int, int] | None:
    """Choose an image of each of two shuffled patients, of the first label that both have; None if none."""
    for place, label in enumerate(first):
        alike = np.flatnonzero(second == label)
        if len(alike):
            return place, int(alike[0])
    return None


def _match(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut two sets of images down to equal numbers of every label."""
    taken: tuple[list, list] = ([], [])
    for label in np.intersect1d(labels[first], labels[second]):
        a, b = first[labels[first] == label], second[labels[second] == label]
        n = min(len(a), len(b))
        taken[0].extend(a[:n].tolist())
        taken[1].extend(b[:n].tolist())
    return np.array(taken[0], dtype=np.int64), np.array(taken[1], dtype=np.int64)


def permuted_classes(draw: Draw, classes: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Permute classes by patient; a test patient and its donor keep a common one, so that arms stay matched.

    Mirrored draws get the same permutation. Images that do not take part keep -1.
    """
    unit = np.where(draw.slot >= 0, groups.max() + 1 + draw.slot, groups)
    taking = np.flatnonzero(classes >= 0)
    _, first, inverse = np.unique(unit[taking], return_index=True, return_inverse=True)
    drawn = np.random.default_rng([seed // 2, 7]).permutation(classes[taking][first])
    permuted = np.full(len(classes), -1, dtype=np.int64)
    permuted[taking] = drawn[inverse]
    return permuted
