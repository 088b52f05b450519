"""Is ``person7`` of a bacterial image the child that is ``person7`` of a viral one? Evidence, three ways.

`counters` reads the file names: in ``person1000_bacteria_2931.jpeg`` the *number* 1000 counts persons and the
*running number* 2931 counts images. `collisions` compares how many numbers stand on both etiologies with
chance. `likeness` looks at the images. The first two read names only, of a sealed part too.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from leakfree.data.patients import identifiers
from leakfree.data.raw import PARTS

ETIOLOGIES = ("bacteria", "virus")
#: Width of a window and longest shift, in numbers. To see a gap, a window must be shorter than the gap: the
#: public chest X-rays lack 176 to 252 of the bacterial and 163 to 254 of the viral numbers.
WINDOW = 50
#: Pairs whose rows of similarities are in memory at once: 512 x 5,000 images are 10 MB.
_BLOCK = 512
_COUNTERS = [
    *("part", "etiology", "files", "numbers", "lowest", "highest", "spearman", "share_rising"),
    *("running_repeated", "steps", "steps_with_room", "skips", "skips_with_room"),
]
_COLLISIONS = [
    *("part", "null", "lowest", "highest", "bacteria", "virus", "observed"),
    *("expected", "low", "high", "p_more", "p_fewer"),
]
_LIKENESS = ["pairs_of", "numbers", "pairs", "percentile", "low", "high"]
#: Kind of pairs: the (etiology of an image, etiology of its partner, partner's number minus the image's).
_KINDS = {
    "same series": [("bacteria", "bacteria", 0), ("virus", "virus", 0)],
    "same series, next number": [(one, one, shift) for one in ETIOLOGIES for shift in (1, -1)],
    "across, same number": [("bacteria", "virus", 0), ("virus", "bacteria", 0)],
    "across, next number": [("bacteria", "virus", 1), ("virus", "bacteria", -1)],
}


def _persons(table: pd.DataFrame) -> pd.DataFrame:
    """Person files of a cohort: ``prefix, number, running`` (NaN where a name has none), ``part``."""
    found = identifiers(table)
    names = table["image_id"].astype(str)
    running = names.str.extract(r"(?i)(?:^|/)person\d+_(?:bacteria|virus)_(\d+)[^/]*$", expand=False)
    found = found.assign(running=running.astype(float), part=table["part"])
    return found[found["prefix"].isin(ETIOLOGIES)].astype({"number": np.int64})


def counters(table: pd.DataFrame) -> pd.DataFrame:
    """Describe how person numbers and running numbers advance, by etiology and pooled.

    With one counter of images over all children the pooled rows would be as monotone as the others and no
    running number would repeat. With one counter of *children*, and images counted by etiology, a number
    missing from an etiology would be a child without such an image: no running number would be missing there.

    Parameters
    ----------
    table : pandas.DataFrame
        Cohort rows with ``image_id``, ``label``, ``person_num`` and ``part``.

    Returns
    -------
    pandas.DataFrame
        One row a part (and ``all``) and etiology (and ``pooled``), empty without person files:
        ``files``, distinct ``numbers``, ``lowest``, ``highest``;
        ``spearman`` of number and running number over files;
        ``share_rising`` of adjacent numbers where all images of the next run above all of the first;
        ``running_repeated``, share of files whose running number another file has too;
        ``steps`` (n to n + 1) and ``steps_with_room``, the share with a running number missing between;
        ``skips`` (k >= 1 numbers missing between) and ``skips_with_room``, the share with at least k running
        numbers missing too, room for an image of each. NaN where undefined.
    """
    persons = _persons(table)
    rows = []
    for part in [*(part for part in PARTS if (persons["part"] == part).any()), "all"]:
        inside = persons if part == "all" else persons[persons["part"] == part]
        for etiology in [*ETIOLOGIES, "pooled"]:
            files = inside if etiology == "pooled" else inside[inside["prefix"] == etiology]
            if not files.empty:
                rows.append((part, etiology, *_advance(files)))
    return pd.DataFrame(rows, columns=_COUNTERS)


def _advance(files: pd.DataFrame) -> tuple[float, ...]:
    number = files["number"]
    size = (len(files), number.nunique(), number.min(), number.max())
    known = files.dropna(subset="running")
    if known.empty:
        return (*size, *[np.nan] * 7)
    # A person as one block of images: the order of the images of one person says nothing about persons.
    blocks = known.groupby("number")["running"].agg(["min", "max"])
    step = pd.Series(np.diff(blocks.index.to_numpy()))
    room = pd.Series(blocks["min"].to_numpy()[1:] - blocks["max"].to_numpy()[:-1] - 1)
    varies = len(blocks) > 1 and known["running"].nunique() > 1
    spearman = known["number"].rank().corr(known["running"].rank()) if varies else np.nan
    repeated = known["running"].duplicated(keep=False).mean()
    enough, one = room >= (step - 1).clip(lower=1), step == 1
    counted = (one.sum(), enough[one].mean(), (~one).sum(), enough[~one].mean())
    return (*size, spearman, (room >= 0).mean(), repeated, *counted)


def collisions(table: pd.DataFrame, *, n_permutations: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """Compare the numbers that stand on both etiologies with what chance gives.

    Only the range that both etiologies reach is counted; elsewhere nothing can collide. Children with both
    would give more collisions than chance, one counter over children who mostly have one etiology fewer.

    Parameters
    ----------
    table : pandas.DataFrame
        Cohort rows, as for `counters`.
    n_permutations : int
        Draws from the null ``windows``.
    seed : int
        Seed of the draws.

    Returns
    -------
    pandas.DataFrame
        One row a part (``all``, ``train``) and null, empty unless the etiologies have a range in common: the
        range, numbers of each etiology in it, ``observed`` and ``expected`` collisions, 95 % range ``low`` to
        ``high`` under the null, one-sided p-values ``p_more`` and ``p_fewer``. The nulls:
        ``range``, all numbers of the range equally likely (hypergeometric, exact): a gap common to both
        etiologies looks like sharing to it;
        ``windows``, viral numbers permuted within windows of 50, so that gaps common to both stay common;
        ``shifts``, viral numbers moved by 1 to 50 either way round the range, so that runs stay runs too.
    """
    from scipy.stats import hypergeom  # slow to import, see leakfree.audit.checks.overlap

    rng = np.random.default_rng(seed)
    persons = _persons(table)
    rows = []
    for part in ("all", "train"):
        inside = persons if part == "all" else persons[persons["part"] == part]
        numbers = [np.unique(inside.loc[inside["prefix"] == one, "number"]) for one in ETIOLOGIES]
        if not all(one.size for one in numbers):
            continue
        lowest, highest = max(one[0] for one in numbers), min(one[-1] for one in numbers)
        if (length := int(highest - lowest) + 1) < 2:
            continue
        first, second = (one[(one >= lowest) & (one <= highest)] - lowest for one in numbers)
        observed = np.intersect1d(first, second).size
        law = hypergeom(length, first.size, second.size)
        windows = np.zeros(n_permutations, dtype=np.int64)
        for start in np.intersect1d(first // WINDOW, second // WINDOW) * WINDOW:
            # Permuting within a window makes its collisions hypergeometric: drawn without the permutation.
            width = min(WINDOW, length - int(start))
            good, sample = (((one >= start) & (one < start + width)).sum() for one in (first, second))
            windows += rng.hypergeometric(good, width - good, sample, size=n_permutations)
        lags = [lag for lag in range(-WINDOW, WINDOW + 1) if lag and abs(lag) < length]
        shifts = np.array([np.isin((second + lag) % length, first).sum() for lag in lags])
        fixed = (lowest, highest, first.size, second.size, observed)
        tails = (law.sf(observed - 1), law.cdf(observed))
        chance = first.size * second.size / length
        rows.append((part, "range", *fixed, chance, *law.ppf([0.025, 0.975]), *tails))
        for null, drawn in (("windows", windows), ("shifts", shifts)):
            # What was observed counts as one draw: a p-value from draws is never 0.
            tails = [(side.sum() + 1) / (drawn.size + 1) for side in (drawn >= observed, drawn <= observed)]
            rows.append((part, null, *fixed, drawn.mean(), *np.quantile(drawn, [0.025, 0.975]), *tails))
    return pd.DataFrame(rows, columns=_COLLISIONS)


def likeness(
    table: pd.DataFrame, features: np.ndarray, *, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Measure whether images that share a number look more alike than chance.

    For an image and its partner: the share of images of the partner's etiology that are less like it (in
    the cosine of standardised features) than the partner is. 0.5 is chance, 1 the most alike of all. Either
    image of a pair is asked for the other.

    Parameters
    ----------
    table : pandas.DataFrame
        Development rows; those whose label is not bacterial or viral (sealed ones, too) are left out.
    features : numpy.ndarray of float, shape (n, d)
        What describes the images, in the order of the rows.
    n_resamples : int
        Bootstrap resamples.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    pandas.DataFrame
        One row a kind of pairs, empty without person files: ``pairs_of``, ``numbers``, ``pairs``, mean
        ``percentile`` over numbers (each counts once, whatever its images) with its 95 % percentile bootstrap
        over numbers, ``low`` to ``high``; NaN without pairs. The kinds are ``same series``, ``across, same
        number`` and, for what mere neighbours have in common, both with the partner's number one further.

    Raises
    ------
    ValueError
        If the features do not fit the rows or are not finite.
    """
    if features.ndim != 2 or len(features) != len(table):
        raise ValueError(f"features of shape {features.shape} for {len(table)} rows")
    persons = _persons(table.reset_index(drop=True)[table["label"].isin(["bacterial", "viral"]).to_numpy()])
    if persons.empty:
        return pd.DataFrame(columns=_LIKENESS)
    images = {one: persons.loc[persons["prefix"] == one, "number"] for one in ETIOLOGIES}
    unit = _directions(features[persons.index])
    vectors = {one: unit[(persons["prefix"] == one).to_numpy()] for one in ETIOLOGIES}
    rng = np.random.default_rng(seed)
    rows = []
    for kind, ways in _KINDS.items():
        found = pd.concat([_percentiles(images, vectors, *way) for way in ways])
        means = found.groupby(["series", "number"])["percentile"].mean().to_numpy()
        means = means if means.size else np.array([np.nan])
        drawn = [means[rng.integers(0, means.size, means.size)].mean() for _ in range(n_resamples)]
        low, high = np.quantile(drawn, [0.025, 0.975]) if means.size > 1 else (np.nan, np.nan)
        rows.append((kind, np.isfinite(means).sum(), len(found) // 2, means.mean(), low, high))
    return pd.DataFrame(rows, columns=_LIKENESS)


def _directions(features: np.ndarray) -> np.ndarray:
    """Standardise columns and scale rows to length 1, float32."""
    values = np.asarray(features, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError("features are not finite")
    values = values - values.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = values.std(axis=0)
    values /= np.where(spread > 0, spread, 1)  # a constant column is 0 already
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(length > 0, length, 1)


def _percentiles(
    images: dict[str, pd.Series], vectors: dict[str, np.ndarray], one: str, other: str, shift: int
) -> pd.DataFrame:
    """Percentile of every partner for every image, with the unit that the pair counts for."""
    left = pd.DataFrame({"number": images[one].to_numpy(), "row": np.arange(len(images[one]))})
    right = pd.DataFrame(
        {"number": images[other].to_numpy() - shift, "partner": np.arange(len(images[other]))}
    )
    pairs = left.merge(right, on="number")
    pairs = pairs[(one != other) | (pairs["row"] != pairs["partner"])]
    row, partner = (pairs[name].to_numpy() for name in ("row", "partner"))
    percentile = np.full(len(pairs), 0.5)
    others = len(images[other]) - 1 - (one == other)  # rivals of the partner
    for start in range(0, len(pairs) if others > 0 else 0, _BLOCK):
        query, hit = row[start : start + _BLOCK], partner[start : start + _BLOCK]
        alike = vectors[one][query] @ vectors[other].T
        value = np.take_along_axis(alike, hit[:, None], axis=1)
        if one == other:
            alike[np.arange(len(query)), query] = np.inf  # an image is no rival to its own partner
        lower, equal = (alike < value).sum(axis=1), (alike == value).sum(axis=1) - 1
        percentile[start : start + _BLOCK] = (lower + equal / 2) / others
    # Both ways round meet in one unit: that of the lower number.
    series = one if one == other else "both"
    return pairs.assign(series=series, number=pairs["number"] + min(shift, 0), percentile=percentile)


def person_sentence(counters: pd.DataFrame, collisions: pd.DataFrame, likeness: pd.DataFrame) -> str:
    """Say what three kinds of evidence tell of person numbers, as Markdown.

    Parameters
    ----------
    counters, collisions, likeness : pandas.DataFrame
        As the functions of these names; any may be empty.
    """
    if not (len(counters) and len(collisions) and len(likeness)):
        return "*This cohort has no person files of two etiologies.*"
    whole = counters[counters["part"] == "all"].set_index("etiology")["spearman"]
    nearby = collisions[(collisions["part"] == "all") & (collisions["null"] == "windows")].iloc[0]
    alike = likeness.set_index("pairs_of")["percentile"]
    no_more = alike["across, same number"] <= alike["across, next number"]
    return (
        "Numbers advance with running numbers inside each etiology (rank correlation "
        f"{whole['bacteria']:.3f} and {whole['virus']:.3f}), less so over both ({whole['pooled']:.3f}). "
        f"{nearby['observed']:.0f} numbers stand on both, where windows of nearby numbers give "
        f"{nearby['expected']:.0f} by chance. "
        f"Images of one series lie at percentile {alike['same series']:.2f} of likeness, images across "
        f"etiologies with the same number at {alike['across, same number']:.2f}, with the next number at "
        f"{alike['across, next number']:.2f}: a shared number makes them {'no more' if no_more else 'more'} "
        "alike than a neighbouring one."
    )
