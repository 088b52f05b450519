"""Inflation by a plain split, by size and by images of the same patient, of any cohort: simple models only.

Everything is measured twice over the same images: in five folds of images, which know no patients, and in
five folds of linked groups. A smaller cohort is a random set of its groups, with all their images. For a
number of other images of the same patient, folds of groups alone are used: ``k`` images of each tested
patient take the place of as many other training images.

ROC AUC compares images of one fold only: the scores of two folds come from two models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from leakfree.scores.metrics import weighted_wins
from leakfree.splitter.assign import assign
from leakfree_study.inflation.heads import C, Head, probabilities, scaled

FOLDS = 5
#: Sizes of training, but for the whole cohort, and draws of each.
SIZES = (150, 600, 2400)
DRAWS = 10
#: Seeds that are tried for each draw: one that leaves a class without training images is passed over.
MOST_SEEDS = 10
#: Numbers of an image that the logistic regression is given: a random projection, or a mean of pixels.
WIDTH = 256
#: Other images of the same patient in training.
OTHERS = (1, 2, 4, 8)
#: Patients that must have one image more than that.
LEAST_PATIENTS = 30
MODELS = ("1-nn", "logistic-regression")


@dataclass(frozen=True)
class Pictures:
    """A cohort for one task.

    Attributes
    ----------
    cohort, task : str
        A cohort may have several tasks.
    labels, groups : numpy.ndarray of int64, shape (n,)
        Both from 0 on.
    features : dict of str to numpy.ndarray, shape (n, d)
        ``pixels`` as uint8 grey levels, ``embeddings`` as float32.
    distances : dict of str to numpy.ndarray of float32, shape (n, n)
        Of each image to each, as `compared`; made where they are missing, as are `narrowed`.
    narrowed : dict of str to numpy.ndarray of float32
        See `narrowed`.
    """

    cohort: str
    task: str
    labels: np.ndarray
    groups: np.ndarray
    features: dict[str, np.ndarray]
    distances: dict[str, np.ndarray] = field(default_factory=dict)
    narrowed: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def distance(self, features: str) -> np.ndarray:
        """Return the distance of each image to each, float32 (n, n)."""
        if features not in self.distances:
            values = compared(self.features[features])
            square = np.einsum("ij,ij->i", values, values)
            with threadpool_limits(1, user_api="blas"):
                between = square[:, None] + square[None, :] - 2 * (values @ values.T)
            self.distances[features] = np.sqrt(np.maximum(between, 0))
        return self.distances[features]

    def narrow(self, features: str) -> np.ndarray:
        """Return what the logistic regression is given, float32 (n, `WIDTH`)."""
        if features not in self.narrowed:
            self.narrowed[features] = narrowed(self.features[features])
        return self.narrowed[features]

    def take(self, rows: np.ndarray) -> Pictures:
        """Return some of the images."""
        return Pictures(
            self.cohort,
            self.task,
            self.labels[rows],
            self.groups[rows],
            {name: values[rows] for name, values in self.features.items()},
            {name: values[np.ix_(rows, rows)] for name, values in self.distances.items()},
            {name: values[rows] for name, values in self.narrowed.items()},
        )


def compared(values: np.ndarray) -> np.ndarray:
    """Return vectors as the nearest neighbour compares them: grey levels from 0 to 1, embeddings of length 1.

    Nothing is fitted to other images.
    """
    if values.dtype == np.uint8:
        return values.reshape(len(values), -1).astype(np.float32) / 255
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return (values / np.where(length > 0, length, 1)).astype(np.float32)


@dataclass(frozen=True)
class Folded:
    """Images that a model scored out of fold.

    Attributes
    ----------
    groups, truth, fold : numpy.ndarray of int64, shape (m,)
    probabilities : numpy.ndarray of float64, shape (m, k)
    found : numpy.ndarray of float64, shape (m,)
        1 where the nearest training image is of the same group; 0 of models without neighbours.
    """

    groups: np.ndarray
    truth: np.ndarray
    fold: np.ndarray
    probabilities: np.ndarray
    found: np.ndarray

    def auc(self, counts: np.ndarray) -> np.ndarray:
        """Return ROC AUC under counts of groups, float64 (B, groups) -> (B,); see the module."""
        weights = counts[:, self.groups]
        k = self.probabilities.shape[1]
        classes = [1] if k == 2 else list(range(k))
        wins, pairs = (np.zeros((len(classes), len(counts))) for _ in range(2))
        for fold in np.unique(self.fold):
            rows = np.flatnonzero(self.fold == fold)
            for place, c in enumerate(classes):
                won, of = weighted_wins(self.truth[rows] == c, self.probabilities[rows, c], weights[:, rows])
                wins[place] += won
                pairs[place] += of
        with np.errstate(invalid="ignore", divide="ignore"):
            return (wins / pairs).mean(axis=0)


def narrowed(values: np.ndarray) -> np.ndarray:
    """Return `WIDTH` numbers an image for the logistic regression; nothing is fitted to images.

    Grey levels are averaged to 16 x 16 pixels; embeddings of length 1 are projected at random, with a fixed
    seed.
    """
    values = values.reshape(len(values), -1)
    side = round(WIDTH**0.5)
    if values.dtype == np.uint8 and values.shape[1] > WIDTH:
        width = round(values.shape[1] ** 0.5)
        step = width // side
        squares = values.reshape(len(values), side, step, side, step).astype(np.float32)
        return squares.mean(axis=(2, 4)).reshape(len(values), WIDTH) / 255
    if values.dtype == np.uint8 or values.shape[1] <= WIDTH:
        return compared(values)
    projection = np.random.default_rng(WIDTH).standard_normal((values.shape[1], WIDTH)) / side
    return (compared(values) @ projection).astype(np.float32)


def image_folds(labels: np.ndarray, seed: int) -> np.ndarray:
    """Deal images to folds alike in labels; patients are not known."""
    fold = np.empty(len(labels), dtype=np.int64)
    for k, (_, test) in enumerate(
        StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(labels, labels)
    ):
        fold[test] = k
    return fold


def group_folds(labels: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Deal whole groups to folds that are alike in sizes and labels."""
    return assign(groups, [labels.astype(str)], (1 / FOLDS,) * FOLDS, seed=seed)


def some_groups(groups: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Return the images of random whole groups, about `size` of them, in cohort order."""
    rng = np.random.default_rng([seed, 3])
    order = rng.permutation(groups.max() + 1)
    many = np.cumsum(np.bincount(groups)[order])
    taken = order[: max(1, int(np.argmin(np.abs(many - size))) + 1)]
    return np.flatnonzero(np.isin(groups, taken))


def folded(
    pictures: Pictures, features: str, model: str, fold: np.ndarray, train: Sequence[np.ndarray] | None = None
) -> Folded:
    """Fit a model in each fold and score the images of the fold.

    Parameters
    ----------
    pictures : Pictures
    features : str
    model : str
        One of `MODELS`.
    fold : numpy.ndarray of int64, shape (n,)
        Fold that scores each image; -1 for those that none scores.
    train : sequence of numpy.ndarray of int64, optional
        Rows that train in each fold; all images of the other folds without it.
    """
    k = int(pictures.labels.max()) + 1
    everyone = np.arange(len(pictures))
    # Fewer numbers say less in sum: the penalty is that of all of them.
    setting = C[features] * max(1.0, np.prod(pictures.features[features].shape[1:]) / WIDTH)
    values = pictures.narrow(features) if model != "1-nn" else None
    probability, found = np.full((len(pictures), k), np.nan), np.zeros(len(pictures))
    for number in range(FOLDS):
        test = np.flatnonzero(fold == number)
        rows = everyone[fold != number] if train is None else train[number]
        if not len(test):
            continue
        if np.intersect1d(test, rows).size:
            raise ValueError("an image trains and is tested")
        y = pictures.labels[rows]
        if model == "1-nn":
            away = pictures.distance(features)[np.ix_(test, rows)]
            nearest = np.stack([away[:, y == c].min(axis=1, initial=np.inf) for c in range(k)], axis=1)
            inverse = 1 / np.maximum(nearest, 1e-9)
            probability[test] = inverse / inverse.sum(axis=1, keepdims=True)
            found[test] = pictures.groups[test] == pictures.groups[rows][away.argmin(axis=1)]
        elif values is not None:
            x, z = scaled(values[rows], values[test], features=features)
            with threadpool_limits(1, user_api="blas"):
                probability[test] = probabilities(Head(model, setting, 0), x, y, z, k)
    scored = np.flatnonzero(fold >= 0)
    return Folded(
        pictures.groups[scored], pictures.labels[scored], fold[scored], probability[scored], found[scored]
    )


@dataclass(frozen=True)
class Gain:
    """What a model gains by a plain split, over draws.

    Attributes
    ----------
    clean, leaky, estimate, low, high : float
        ROC AUC of folds of groups and of folds of images, and their difference with an interval that
        draws patients and draws anew.
    share, share_low, share_high : float
        The difference as a share of what was left to gain, 1 - clean.
    found : float
        Share of the images whose nearest training image, in these features, is of their group.
    draws, patients : int
    """

    clean: float
    leaky: float
    estimate: float
    low: float
    high: float
    share: float
    share_low: float
    share_high: float
    found: float
    draws: int
    patients: int


def gain(clean: Sequence[Folded], leaky: Sequence[Folded], *, resamples: int = 200, seed: int = 0) -> Gain:
    """Estimate leaky minus clean, over draws that scored the same images.

    A resample draws patients with replacement, with everything of theirs, and draws with replacement. The
    interval is the estimate plus and minus Student's t times the spread of the resamples, with one degree of
    freedom less than the scored patients of the rarest class.

    Raises
    ------
    ValueError
        If two arms of a draw did not score the same images.
    """
    for one, two in zip(clean, leaky, strict=True):
        if not (np.array_equal(one.groups, two.groups) and np.array_equal(one.truth, two.truth)):
            raise ValueError("the arms did not score the same images")
    n = 1 + max(int(draw.groups.max()) for draw in clean)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    counts = np.ones((resamples + 1, n))
    counts[1:] = np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n)
    first, second = (np.stack([draw.auc(counts) for draw in arm]) for arm in (clean, leaky))
    many = len(clean)
    chosen = np.concatenate([np.arange(many)[None], rng.integers(many, size=(resamples, many))])
    of_clean, of_leaky = (
        np.nanmean(np.take_along_axis(values.T, chosen, axis=1), axis=1) for values in (first, second)
    )
    differences = of_leaky - of_clean
    shares = differences / np.maximum(1 - of_clean, 1e-9)
    groups, truth = (np.concatenate([getattr(draw, name) for draw in clean]) for name in ("groups", "truth"))
    df = max(1, min(len(np.unique(groups[truth == c])) for c in np.unique(truth)) - 1)
    t = float(stats.t.ppf(0.975, df))
    reach, share_reach = (t * float(np.std(values[1:], ddof=1)) for values in (differences, shares))
    return Gain(
        clean=float(of_clean[0]),
        leaky=float(of_leaky[0]),
        estimate=float(differences[0]),
        low=float(differences[0]) - reach,
        high=float(differences[0]) + reach,
        share=float(shares[0]),
        share_low=float(shares[0]) - share_reach,
        share_high=float(shares[0]) + share_reach,
        found=float(np.mean([draw.found.mean() for draw in leaky])),
        draws=many,
        patients=len(np.unique(groups)),
    )


def sizes_of(pictures: Pictures) -> list[int]:
    """Return the sizes of training that a cohort has room for; the last is all of it."""
    full = len(pictures) * (FOLDS - 1) // FOLDS
    return [size for size in SIZES if size < 0.8 * full] + [full]


def by_size(
    pictures: Pictures, features: str, model: str, size: int, draws: int
) -> tuple[list[Folded], list[Folded]]:
    """Score draws of a cohort of a size in folds of groups and in folds of images.

    There may be fewer draws than asked for, where large groups hold most images of a class.
    """
    clean, leaky = [], []
    whole = size == sizes_of(pictures)[-1]
    # Made once for all images; the smaller cohorts take theirs out of it.
    _ = pictures.distance(features) if model == "1-nn" else pictures.narrow(features)
    k = int(pictures.labels.max()) + 1
    for seed in range(MOST_SEEDS * draws):
        some = pictures
        if not whole:
            some = pictures.take(some_groups(pictures.groups, round(size * FOLDS / (FOLDS - 1)), seed))
        if np.bincount(some.labels, minlength=k).min() < FOLDS:
            continue
        by_group, by_image = group_folds(some.labels, some.groups, seed), image_folds(some.labels, seed)
        if not every_class_trains(some.labels, by_group, k):
            continue
        clean.append(folded(some, features, model, by_group))
        leaky.append(folded(some, features, model, by_image))
        if len(clean) == draws:
            break
    return clean, leaky


def every_class_trains(labels: np.ndarray, fold: np.ndarray, k: int) -> bool:
    """Tell whether each fold leaves images of each of k classes to train on."""
    return all(len(np.unique(labels[fold != number])) == k for number in range(FOLDS))


def most_others(groups: np.ndarray) -> tuple[int, ...]:
    """Return the numbers of other images for which `LEAST_PATIENTS` patients have one image more."""
    sizes = np.bincount(groups)
    return tuple(k for k in OTHERS if (sizes > k).sum() >= LEAST_PATIENTS)


def others_plan(
    pictures: Pictures, seed: int, numbers: Sequence[int]
) -> Iterator[tuple[int, np.ndarray, list[np.ndarray]]]:
    """Plan arms with 0, 1, 2, ... other images of each tested patient, of one size of training.

    Yields
    ------
    k : int
    fold : numpy.ndarray of int64, shape (n,)
        Fold that scores each image; -1 for those that none scores, the same for all arms.
    train : list of numpy.ndarray of int64
        Rows that train in each fold.
    """
    rng = np.random.default_rng([seed, 5])
    most = max(numbers)
    of_group = group_folds(pictures.labels, pictures.groups, seed)
    sizes = np.bincount(pictures.groups)
    fold = np.full(len(pictures), -1, dtype=np.int64)
    reserve: dict[int, np.ndarray] = {}
    for group in np.flatnonzero(sizes > most).tolist():
        images = rng.permutation(np.flatnonzero(pictures.groups == group))
        reserve[group] = images[:most]
        fold[images[most:]] = of_group[images[0]]
    strangers = [rng.permutation(np.flatnonzero(of_group != number)) for number in range(FOLDS)]
    for k in (0, *numbers):
        train = []
        for number in range(FOLDS):
            own = [reserve[g][:k] for g in np.unique(pictures.groups[fold == number]).tolist()]
            rows = np.concatenate([np.empty(0, dtype=np.int64), *own])
            train.append(np.sort(np.concatenate([rows, strangers[number][len(rows) :]])))
        yield k, fold, train


def by_others(
    pictures: Pictures, features: str, model: str, numbers: Sequence[int], draws: int
) -> dict[int, list[Folded]]:
    """Score draws with 0, 1, 2, ... other images of each tested patient in training."""
    found: dict[int, list[Folded]] = {k: [] for k in (0, *numbers)}
    for seed in range(draws):
        for k, fold, train in others_plan(pictures, seed, numbers):
            found[k].append(folded(pictures, features, model, fold, train))
    return found
