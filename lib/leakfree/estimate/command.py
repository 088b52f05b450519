"""``leakfree estimate``: read the images, count, compare, foretell, and say what cannot be told."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from leakfree.audit.auditor import AuditSettings
from leakfree.audit.target import Target
from leakfree.base.errors import LeakfreeError
from leakfree.estimate import rule
from leakfree.estimate.likeness import Likeness, Measured, likeness
from leakfree.estimate.plain_split import PlainSplit, plain_split
from leakfree.splitter.material import Gathered, gather

#: Images that are looked at for colour, and the side that they are made small to.
_LOOKED_AT, _SIDE = 64, 32


class EstimateError(LeakfreeError):
    """Nothing can be foretold of these images; the message is one line."""


@dataclass(frozen=True)
class Foretold:
    """What one model would likely gain.

    Attributes
    ----------
    model : str
    share, low, high : float
        Of what was left to gain, 1 - ROC AUC.
    apart, apart_low, apart_high : float or None
        What a given score of a plain split would be with patients apart; `apart_low` is the lower one.
    """

    model: str
    share: float
    low: float
    high: float
    apart: float | None = None
    apart_low: float | None = None
    apart_high: float | None = None


@dataclass(frozen=True)
class Outlook:
    """What is said of a cohort.

    Attributes
    ----------
    images, copies : int
        Images that were counted, and copies of these that were left out.
    joined_by : tuple of str
        What joins images into groups.
    split : PlainSplit
    alike : Likeness
    foretold : tuple of Foretold
        Empty where it cannot be told.
    cannot_tell : tuple of str
        Why not.
    lost : tuple of str
        Files that could not be read.
    """

    images: int
    copies: int
    joined_by: tuple[str, ...]
    split: PlainSplit
    alike: Likeness
    foretold: tuple[Foretold, ...]
    cannot_tell: tuple[str, ...]
    lost: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return all of it for a JSON file, with what it was learned from."""
        found = rule.learned()
        learned = {"cohorts": found["cohorts"], "models": found["models"]}
        return _plain({**asdict(self), "learned_from": learned})


def estimate(
    target: Target,
    settings: AuditSettings,
    named: str,
    columns: tuple[str, ...] = (),
    *,
    test_share: float = 0.2,
    score: float | None = None,
) -> Outlook:
    """Estimate what a plain split of the images of a target would do.

    Parameters
    ----------
    target : leakfree.audit.target.Target
    settings : leakfree.audit.auditor.AuditSettings
        Its scope, seed, threads and cache are used.
    named : str
        The target as the user named it.
    columns : tuple of str
        Columns whose values keep images together, beside patients and copies.
    test_share : float
    score : float, optional
        ROC AUC of a plain split.

    Raises
    ------
    EstimateError
        If a number is out of range, or no patient is known.
    leakfree.splitter.material.SplitError
        If no image can be read.
    """
    if not 0 < test_share < 1:
        raise EstimateError(f"--test-share {test_share:g}: must lie between 0 and 1")
    if score is not None and not 0.5 <= score <= 1:
        raise EstimateError(f"--score {score:g}: must be a ROC AUC between 0.5 and 1")
    found = gather(target, settings, named, columns)
    if found.scope is None and not columns:
        raise EstimateError(
            f"{named}: cannot tell: no name or column tells a patient; say how: --patient-pattern REGEX, or "
            "a table with a column patient"
        )
    first = ~pd.Series(found.copies.group).duplicated().to_numpy()
    groups, n = found.groups[first], int(first.sum())
    n_test = round(n * test_share)
    if not 0 < n_test < n:
        raise EstimateError(f"{named}: cannot tell: {n} images are too few to split")
    labels = found.table["label"].to_numpy(dtype=object)[first]
    seed, pictures = settings.seed, found.read.thumbnails[first]
    alike = likeness(groups, pictures, labels, test_share=test_share, seed=seed)
    why = tuple(_reasons(found, alike))
    foretold = () if why else tuple(_foretold(alike.found.estimate, score))
    joined_by = found.linked if found.scope is None else ("patients", *found.linked)
    split = plain_split(groups, test_share, seed=seed)
    return Outlook(n, int((~first).sum()), joined_by, split, alike, foretold, why, found.lost)


def _foretold(found: float, score: float | None) -> Iterator[Foretold]:
    for name, slope in rule.slopes().items():
        share, low, high = slope.gained(found)
        apart: tuple[float | None, ...] = (None, None, None)
        if score is not None:
            apart = tuple(rule.with_patients_apart(score, gained) for gained in (share, high, low))
        yield Foretold(name, share, low, high, *apart)


def _reasons(found: Gathered, alike: Likeness) -> Iterator[str]:
    """Say why nothing can be foretold of a score."""
    bound = rule.rule()["cannot_tell"]
    known = float(found.named.mean())
    if found.scope is not None and known < bound["least_known_patients"]:
        yield f"the patient of {1 - known:.0%} of the images is not known"
    if alike.images < bound["least_images"]:
        yield f"{alike.images:,} images are fewer than {bound['least_images']:,}"
    if alike.groups < bound["least_groups"]:
        yield f"{alike.groups:,} patients are fewer than {bound['least_groups']:,}"
    largest = rule.learned()["largest_found"]
    if alike.found.estimate > largest + bound["most_found_beyond"]:
        yield (
            f"the nearest training image would be of the same patient for {alike.found.estimate:.0%} of the "
            f"images; in the cohorts that it learned from it was for {largest:.0%} at most"
        )
    colour = _in_colour(found)
    if colour > bound["most_colour"]:
        yield f"{colour:.0%} of the images are in colour; it learned from grey X-rays and ultrasound"


def _in_colour(found: Gathered) -> float:
    """Return the share of a sample of the images that are in colour, see the rule."""
    rows = np.linspace(0, len(found.read.rows) - 1, min(_LOOKED_AT, len(found.read.rows))).astype(int)
    modes = found.table["mode"].to_numpy(dtype=object)[rows]
    rows = rows[~np.isin(modes, ["L", "1", "LA", "I", "F", "I;16"])]
    coloured, looked_at = 0, min(_LOOKED_AT, len(found.read.rows))
    for data in found.target.reader.read(found.read.rows[rows].tolist()):
        if not isinstance(data, bytes):
            continue
        with Image.open(io.BytesIO(data)) as image:
            small = np.asarray(image.convert("RGB").resize((_SIDE, _SIDE)), dtype=np.int64)
        coloured += bool((small.max(axis=2) - small.min(axis=2)).mean() > 20)
    return coloured / looked_at


def lines_of(made: Outlook, score: float | None = None) -> Iterator[str]:
    """Put an estimate into lines."""
    split, alike = made.split, made.alike
    joined = ", ".join(made.joined_by)
    yield f"{made.images:,} images in {alike.groups:,} linked groups ({joined}); below, a group is a patient."
    if made.copies:
        yield f"Left out: {made.copies:,} copies of these; leakfree audit lists them."
    asking, of = f"{alike.asking:,} images", f"{alike.asking_groups:,} patients"
    yield f"Of these, {asking} of {of} have another image of the same patient."
    yield ""
    yield (
        f"A plain split by image with {split.test_images:,} images for test puts {split.groups:,.0f} "
        f"patients on both sides: {split.share:.1%} of the test images have another image of their patient "
        f"in training ({split.low:.1%} to {split.high:.1%} in 95 % of such splits)."
    )
    if not alike.asking:
        yield "So a split by image is a split by patient here, and gains nothing."
        return
    yield ""
    yield "How well the images of one patient find each other, at 32 x 32 pixels:"
    for name, measured, chance in (
        ("the nearest image is of the same patient", alike.rank_1, alike.chance_1),
        ("one of the 20 nearest is", alike.rank_20, alike.chance_20),
    ):
        yield f"  {name}: {_percent(measured)}; by chance {chance:.1%}"
    if alike.verification.known:
        v = alike.verification
        area = f"{v.estimate:.2f} ({v.low:.2f} to {v.high:.2f})"
        yield f"  two images are told to be of one patient: ROC AUC {area}"
    yield f"  the nearest training image would be of the same patient: {_percent(alike.found)} of all images"
    yield ""
    if made.cannot_tell:
        yield "What a score would gain: cannot tell."
        return
    yield "What a ROC AUC would likely gain by it, as a share of what was left to gain (1 - ROC AUC):"
    for one in made.foretold:
        text = f"  {one.model}: {one.share:.0%} ({one.low:.0%} to {one.high:.0%})"
        if score is not None and one.apart is not None:
            text += f"; {score:.2f} would be {one.apart:.2f} with patients apart"
            text += f" ({one.apart_low:.2f} to {one.apart_high:.2f})"
        yield text
    yield ""
    yield from _learned_lines()


def _learned_lines() -> Iterator[str]:
    found = rule.learned()
    cohorts = ", ".join(f"{name} ({images:,} images)" for name, images in found["cohorts"].items())
    yield f"Learned from {len(found['cohorts'])} cohorts only: {cohorts}. That is a thin basis."
    models = found["models"].values()
    inside, tried = (sum(model[name] for model in models) for name in ("inside", "tried"))
    shares, off = ([model[f"left_out_{name}"] for model in models] for name in ("share", "auc"))
    worst = max(model["left_out_worst_auc"] for model in models)
    yield (
        f"With each cohort left out in turn, the rule was off by {min(shares):.0%} to {max(shares):.0%} of "
        f"what was left on average, by model: {min(off):.3f} to {max(off):.3f} of ROC AUC, at worst "
        f"{worst:.3f}. Its intervals, which are wide, held {inside} of {tried} observed gains."
    )
    yield (
        "No network that was trained on the images was among the models: one that remembers its training "
        "images may gain more. To know it, split by patient: leakfree split."
    )


def _percent(measured: Measured) -> str:
    if not np.isfinite(measured.low):
        return f"{measured.estimate:.1%}"
    return f"{measured.estimate:.1%} ({measured.low:.1%} to {measured.high:.1%})"


def _plain(value: Any) -> Any:
    """Return values as JSON has them: what is no number is null."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
