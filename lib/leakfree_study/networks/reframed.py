"""Networks trained against framing: the rule, what each part of the training brings, and the choice.

The rule was committed before its candidates were trained: ``framing_rule.yaml`` beside this module. What a
candidate is asked for is its balanced accuracy on images framed otherwise, at the worst zoom.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from pydantic import BaseModel, ConfigDict, Field

from leakfree.data.images import decode, to_grey
from leakfree.data.pixels import PixelCache, pixel_digest
from leakfree.predict.calibrated import Calibrated
from leakfree.predict.framed import PLAIN, Framing, framed
from leakfree.scores.metrics import bootstrap, evaluate, point_estimates
from leakfree.scores.predictions import Predictions, check_predictions
from leakfree_study.figures.tables import bracketed
from leakfree_study.networks.official import MORE_CLASSES, TWO_CLASSES
from leakfree_study.networks.published import Published
from leakfree_study.networks.trainings import Network
from leakfree_study.run.cells import Result, score_table
from leakfree_study.run.ensemble import ensemble_table
from leakfree_study.run.run import Run

#: The one part that answers on several parts are scored as.
HELD_OUT = "held out"
#: What a network answers, by how the images are framed.
Answers = dict[Framing, Predictions]


class Candidate(BaseModel):
    """One way to train; it adds one thing to the candidate before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str
    #: Side in pixels.
    image_size: int = Field(ge=1)
    adds: str = ""


class FramingRule(BaseModel):
    """What is trained against framing, and how one of it is chosen; an unknown entry raises."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    written: datetime.date
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    candidates: tuple[Candidate, ...] = Field(min_length=2)
    #: Parts of the split that choose; their patients trained nothing.
    parts: tuple[str, ...] = Field(min_length=1)
    zooms: tuple[float, ...] = Field(min_length=1)
    margin: float = Field(ge=0)
    three_class: Candidate
    three_class_seeds: tuple[int, ...] = Field(min_length=1)
    goals: dict[str, float]

    @property
    def framings(self) -> tuple[Framing, ...]:
        """The framings at which a candidate is asked."""
        return tuple(Framing(zoom) for zoom in self.zooms)


def framing_rule() -> FramingRule:
    """Read the rule that stands beside this module."""
    path = Path(__file__).with_name("framing_rule.yaml")
    return FramingRule.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


class FramedImages:
    """Images of some parts in every framing; decoded once, when the first of them is asked for.

    Parameters
    ----------
    run : Run
    ids : sequence of str
        Development images.
    sizes : sequence of int
        Sides in pixels.
    framings : sequence of Framing
    """

    def __init__(
        self, run: Run, ids: Sequence[str], sizes: Sequence[int], framings: Sequence[Framing]
    ) -> None:
        self.framings = tuple(framings)
        self._run, self._ids, self._sizes = run, frozenset(ids), sorted(set(sizes))
        self._caches: dict[tuple[int, Framing], PixelCache] = {}

    def of(self, size: int, framing: Framing) -> PixelCache:
        """Return the images of one size and framing."""
        if not self._caches:
            self._cut()
        return self._caches[size, framing]

    def _cut(self) -> None:
        table = self._run.cohort.development()
        rows = table.index[table["image_id"].isin(self._ids)].to_numpy()
        wanted = [(size, framing) for size in self._sizes for framing in self.framings]
        made = {
            (size, framing): np.empty((len(rows), size, size), dtype=np.uint8) for size, framing in wanted
        }
        ids: list[str] = []

        def cut(blob: bytes, place: int) -> None:
            _, grey = decode(blob)
            for size, framing in wanted:
                # As it is, it is what training and the service make of it, to the bit.
                square = to_grey(blob, size) if framing == PLAIN else framed(grey, framing, size)
                made[size, framing][place] = square

        with ThreadPoolExecutor(self._run.jobs) as pool:
            for stored, blobs in self._run.cohort.iterate(rows):
                list(pool.map(cut, blobs, range(len(ids), len(ids) + len(blobs))))
                ids += list(stored)
        names = np.array(ids, dtype=object)
        for key, pixels in made.items():
            digests = {i: pixel_digest(square) for i, square in zip(ids, pixels, strict=True)}
            self._caches[key] = PixelCache(names, pixels, digests)


def framed_answers(
    run: Run, result: Result, images: FramedImages, stage: str, load: Callable[[], Published]
) -> Answers:
    """Predict images framed otherwise, and keep what was answered as a measurement of the run.

    Parameters
    ----------
    run : Run
    result : Result
        The network's cell; its predictions name the images, with their patients and labels.
    images : FramedImages
    stage : str
        What the images are predicted for; ends the name of the measurement.
    load : callable
        Returns the network; not called in a run that is made from its record.

    Returns
    -------
    dict of Framing to Predictions
        Not calibrated; all parts as the one part `HELD_OUT`.
    """
    classes = result.cell.task.classes

    def answer() -> pd.DataFrame:
        model, size = load(), result.cell.image_size
        known = pd.read_csv(result.predictions, dtype=str, keep_default_na=False)
        ids = images.of(size, images.framings[0]).ids
        known = known.set_index("image_id").loc[ids, ["patient", "label"]].reset_index()
        for framing in images.framings:
            values = model.predict(images.of(size, framing), ids.tolist(), framing.name)
            # The last class is what the others leave.
            for k, name in enumerate(classes[:-1]):
                known[f"{name}, {framing.name}"] = values[:, k]
        return known

    kept = run.measure(f"{result.predictions.stem}_{stage}", answer)
    found = {}
    for framing in images.framings:
        told = kept[[f"{name}, {framing.name}" for name in classes[:-1]]].to_numpy(dtype=np.float64)
        values = np.column_stack([told, np.clip(1 - told.sum(axis=1), 0, 1)])
        frame = kept[["image_id", "patient", "label"]].assign(part=HELD_OUT, seed=result.cell.seed)
        columns = {f"p_{name}": values[:, k] for k, name in enumerate(classes)}
        found[framing] = check_predictions(frame.assign(**columns), f"{result.predictions.stem}_{stage}")
    return found


def zoom_curve(
    answers: Answers, metrics: Sequence[str], *, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Score a network at every framing.

    Returns
    -------
    pandas.DataFrame
        ``framing, zoom, right, down, metric, estimate, low, high, n_images, n_patients``.
    """
    frames = [
        evaluate(found, metrics, n_resamples=n_resamples, seed=seed).assign(
            framing=framing.name, **framing._asdict()
        )
        for framing, found in answers.items()
    ]
    columns = [
        "framing", "zoom", "right", "down", "metric", "estimate", "low", "high", "n_images", "n_patients"
    ]  # fmt: skip
    return pd.concat(frames, ignore_index=True)[columns]


@dataclass(frozen=True)
class Worst:
    """The mean over networks of a metric at the worst framing of each.

    Attributes
    ----------
    each : tuple of float
        The value of every network.
    drawn : numpy.ndarray of float64, shape (n_resamples,)
        The mean in resamples of the patients, where each network has its worst framing anew.
    """

    each: tuple[float, ...]
    drawn: np.ndarray

    @property
    def estimate(self) -> float:
        """The mean over networks."""
        return float(np.mean(self.each))

    def interval(self) -> tuple[float, float]:
        """Return the percentile interval of 95 % over patients."""
        return _interval(self.drawn)

    @classmethod
    def of(
        cls,
        networks: Sequence[Answers],
        metric: str = "balanced_accuracy",
        framings: Sequence[Framing] = (),
        *,
        n_resamples: int = 2000,
        seed: int = 0,
    ) -> Worst:
        """Measure it.

        Parameters
        ----------
        networks : sequence of dict of Framing to Predictions
        metric : str
            See `leakfree.scores.metrics.evaluate`.
        framings : sequence of Framing
            Those that count; empty takes all.
        n_resamples, seed : int
        """
        each, drawn = [], []
        for answers in networks:
            asked = [answers[framing] for framing in framings or answers]
            each.append(min(point_estimates(found, [metric])[metric] for found in asked))
            values = [bootstrap(found, [metric], n_resamples, seed)[metric] for found in asked]
            drawn.append(np.min(values, axis=0))
        return cls(tuple(each), np.mean(drawn, axis=0))


def worth_of_framing(
    networks: Mapping[Network, Answers],
    framings: Sequence[Framing],
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure what it is worth that test images are framed as training images are.

    It is the ROC AUC on the images as they are minus that on the same images at the worst framing. The worst
    one is sought anew in every resample, so an interval may lie a little high.

    Parameters
    ----------
    networks : mapping of Network to dict of Framing to Predictions
        What each answers; the framing `leakfree.predict.framed.PLAIN` must be among them.
    framings : sequence of Framing
        Those that count.
    n_resamples, seed : int

    Returns
    -------
    pandas.DataFrame
        A row a network: ``task, model, image_size, seed, estimate, low, high, n_images, n_patients``.
    """
    rows = []
    for network, answers in networks.items():
        worst = Worst.of([answers], "roc_auc", framings, n_resamples=n_resamples, seed=seed)
        plain = Worst.of([answers], "roc_auc", [PLAIN], n_resamples=n_resamples, seed=seed)
        low, high = _interval(plain.drawn - worst.drawn)
        counts = {"n_images": len(answers[PLAIN].labels), "n_patients": len(set(answers[PLAIN].patients))}
        row = {**network._asdict(), "estimate": plain.estimate - worst.estimate, "low": low, "high": high}
        rows.append(row | counts)
    columns = ["task", "model", "image_size", "seed", "estimate", "low", "high", "n_images", "n_patients"]
    return pd.DataFrame(rows, columns=columns)


def ablation(
    networks: Mapping[Candidate, Sequence[Answers]],
    rule: FramingRule,
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Say what each part of the training brings: one row a candidate, in their order.

    Parameters
    ----------
    networks : mapping of Candidate to sequence of dict of Framing to Predictions
        What the networks of each candidate answered, one for each seed.
    rule : FramingRule
    n_resamples, seed : int

    Returns
    -------
    pandas.DataFrame
        ``recipe, image_size, adds, networks``; ``plain``, the balanced accuracy as images are;
        ``worst, low, high``, that at the worst zoom of the rule; ``worst_sensitivity`` and
        ``worst_specificity``, each at its own worst zoom (NaN for more than two classes), and
        ``worst_roc_auc``, which no threshold moves; ``gain, gain_low, gain_high``, worst minus that of the
        row before (NaN in the first); ``n_images, n_patients``; and ``chosen``. All are means over networks,
        with intervals over patients.
    """
    drawn_how: dict[str, Any] = {"n_resamples": n_resamples, "seed": seed}
    rows, before = [], None
    for one, answers in networks.items():
        worst = Worst.of(answers, framings=rule.framings, **drawn_how)
        plain = [point_estimates(found[PLAIN], ["balanced_accuracy"]) for found in answers]
        first = answers[0][PLAIN]
        low, high = worst.interval()
        row = {
            "recipe": one.recipe,
            "image_size": one.image_size,
            "adds": one.adds,
            "networks": len(answers),
            "plain": float(np.mean([value["balanced_accuracy"] for value in plain])),
            "worst": worst.estimate,
            "low": low,
            "high": high,
        }
        for rate in ("sensitivity", "specificity"):
            row[f"worst_{rate}"] = np.nan
            if len(first.classes) == 2:
                row[f"worst_{rate}"] = Worst.of(answers, rate, rule.framings, n_resamples=1).estimate
        row["worst_roc_auc"] = Worst.of(answers, "roc_auc", rule.framings, n_resamples=1).estimate
        row |= dict.fromkeys(("gain", "gain_low", "gain_high"), np.nan)
        if before is not None:
            row["gain"] = worst.estimate - before.estimate
            row["gain_low"], row["gain_high"] = _interval(worst.drawn - before.drawn)
        rows.append(row | {"n_images": len(first), "n_patients": len(set(first.patients))})
        before = worst
    table = pd.DataFrame(rows)
    return table.assign(chosen=np.arange(len(table)) == chosen_row(table["worst"], rule.margin))


def scores_of(
    run: Run,
    trained: Mapping[Network, Result],
    calibrated: Mapping[Network, Calibrated],
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Score networks on the internal test, each alone and the mean of the seeds of each.

    Returns
    -------
    pandas.DataFrame
        As `leakfree_study.run.cells.score_table`; sensitivity and specificity for two classes only.
    """
    scaled = {result.predictions: calibrated[one] for one, result in trained.items()}
    frames = []
    for task in dict.fromkeys(one.task for one in trained):
        results = [result for one, result in trained.items() if one.task == task]
        names = TWO_CLASSES if len(results[0].cell.task.classes) == 2 else MORE_CLASSES
        frames.append(score_table(run, results, n_resamples=n_resamples, names=names))
        frames.append(
            ensemble_table(
                results,
                prepare=lambda result, found: scaled[result.predictions].scaled(found),
                n_resamples=n_resamples,
                seed=seed,
                names=names,
            )
        )
    return pd.concat([frame for frame in frames if len(frame)], ignore_index=True)


def summary(brought: pd.DataFrame, curves: pd.DataFrame, chosen: Network) -> str:
    """Say in words what training against framing brought, and what the published network stands.

    Parameters
    ----------
    brought : pandas.DataFrame
        As `ablation`.
    curves : pandas.DataFrame
        As `zoom_curve`, with the columns of a `Network`.
    chosen : Network
        The published network.

    Returns
    -------
    str
        Markdown.
    """
    row, usual = brought[brought["chosen"]].iloc[0], brought.iloc[0]
    lines = [
        f"- On the parts that choose, the worst balanced accuracy over the zooms is {row['worst']:.3f} for "
        f"the chosen training ({row['recipe']}), and {usual['worst']:.3f} for {usual['recipe']}."
    ]
    mine = curves.merge(pd.DataFrame([chosen._asdict()]), on=list(chosen._fields))
    zooms = mine[(mine["right"] == 0) & (mine["down"] == 0)]
    for metric, rows in zooms.groupby("metric", sort=False):
        worst = rows.loc[rows["estimate"].idxmin()]
        lines.append(
            f"- On the internal test, the published network's {str(metric).replace('_', ' ')} is lowest at "
            f"{worst['framing']}: {bracketed(worst.to_frame().T).iloc[0]}."
        )
    return "\n".join(lines)


def chosen_row(worst: Sequence[float], margin: float) -> int:
    """Return the place of the highest value; of several within the margin of it, the first.

    Examples
    --------
    >>> chosen_row([0.60, 0.956, 0.96], 0.005)
    1
    """
    values = np.asarray(worst, dtype=np.float64)
    return int(np.flatnonzero(values >= values.max() - margin)[0])


def published_seed(seeds: Sequence[int], worst: Worst) -> int:
    """Return the seed of the network that is best at its worst zoom; of equal ones the first."""
    return seeds[int(np.argmax(worst.each))]


def _interval(values: np.ndarray) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)
