"""Inflation of trained networks against training loss, which tells how well training is known by heart.

The arms are those of `leakfree_study.inflation.arms`. Each network is looked at after every epoch, so that
one training gives a score at every loss that it passes. The rule, ``memory_rule.yaml``, was written before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn
from yaml import safe_load

from leakfree.data.pixels import PixelCache
from leakfree.ledger.ledger import Ledger, consumed_hash
from leakfree.models import networks
from leakfree.models.training import Budget, Normalisation, TrainingImages, fit, predict
from leakfree.split.manifest import Manifest
from leakfree.split.protocols import CLEAN, SIBLINGS
from leakfree_study.inflation.arms import Arms
from leakfree_study.inflation.draws import draw
from leakfree_study.inflation.estimate import Scored

ARMS = {"clean": CLEAN, "leaky": SIBLINGS}


class NetworkSide(NamedTuple):
    """The side of a draw that a network is on."""

    seed: int
    arm: str


class Condition(BaseModel):
    """One way to train, and how many draws it gets; see the rule."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    model: str
    weights: str
    image_size: int
    augment: bool
    epochs: int
    draws: int
    shared: bool

    def networks(self) -> list[tuple[NetworkSide, ...]]:
        """List what is trained: one entry a network, with each draw and arm that it is scored in."""
        if not self.shared:
            return [(NetworkSide(seed, arm),) for seed in range(self.draws) for arm in ARMS]
        return [
            (NetworkSide(seed, arm), NetworkSide(seed + 1, other))
            for seed in range(0, self.draws, 2)
            for arm, other in (("clean", "leaky"), ("leaky", "clean"))
        ]


class Rule(BaseModel):
    """The file ``memory_rule.yaml``; an unknown entry raises."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    written: Any
    known_before: str
    question: str
    cohort: str
    arms: str
    losses: tuple[float, ...]
    metric: str
    margin: float
    conditions: tuple[Condition, ...]
    learning_rate: float
    batch_size: int
    validation: tuple[str, ...]
    estimator: str
    verdict: str
    order: str

    def budget(self, condition: Condition) -> Budget:
        """Return how a network of a condition is trained."""
        return Budget(
            condition.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            augment=condition.augment,
            keep="last",
        )


def rule() -> Rule:
    """Read the rule."""
    text = files("leakfree_study.inflation").joinpath("memory_rule.yaml").read_text(encoding="utf-8")
    return Rule.model_validate(safe_load(text))


@dataclass(frozen=True)
class Images:
    """The images of a task.

    Attributes
    ----------
    cache : leakfree.data.pixels.PixelCache
        All of them, in order.
    labels, groups : numpy.ndarray of int64, shape (n,)
        Class and linked group of each, from 0 on.
    """

    cache: PixelCache
    labels: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True)
class Trained:
    """What one network did in one arm of a draw.

    Attributes
    ----------
    view : NetworkSide
    predictions : pandas.DataFrame
        ``epoch, image`` (row of the images), ``role`` (``test``, ``val``) and ``p``, of the second class.
    facts : dict
        The learning curve, what was consumed, precision, seconds.
    """

    view: NetworkSide
    predictions: pd.DataFrame
    facts: dict[str, Any]


class _Scoring:
    """A draw and arm that a network is scored in: its rows, its manifest, and what was scored so far."""

    def __init__(self, images: Images, view: NetworkSide) -> None:
        arms = Arms(draw(images.labels, images.groups, view.seed), images.labels)
        self.images, self.view = images, view
        self.rows = {
            "train": np.sort((arms.clean() if view.arm == "clean" else arms.siblings(1.0)).row),
            "val": arms.rows("val"),
            "test": arms.rows("test"),
        }
        self.groups = dict(zip(images.cache.ids.tolist(), images.groups.tolist(), strict=True))
        parts = {part: tuple(images.cache.ids[members].tolist()) for part, members in self.rows.items()}
        name = f"memory-draw{view.seed}-{view.arm}"
        self.manifest = Manifest(name, "draw", parts, view.seed, "series", ("copies",))
        self.frames: list[pd.DataFrame] = []
        self.found: dict[str, int] = {}

    def score(self, network: nn.Module, normalisation: Normalisation, epoch: float, training: Ledger) -> None:
        """Score after an epoch, which is a result of its own: its ledger sees each tested image once."""
        ledger = Ledger(self.images.cache.digests)
        ledger.merge(training)
        for part in ("val", "test"):
            ids, p = predict(
                network, self.images.cache, self.rows[part], normalisation, ledger=ledger, stage=part
            )
            rows = self.images.cache.rows(ids)
            self.frames.append(pd.DataFrame({"epoch": epoch, "image": rows, "role": part, "p": p[:, 1]}))
        self.found = ledger.check(self.manifest, ARMS[self.view.arm], self.groups)


def train(images: Images, rules: Rule, condition: Condition, views: Sequence[NetworkSide]) -> list[Trained]:
    """Train one network, and score it after every epoch in each draw and arm that it belongs to.

    Parameters
    ----------
    images : Images
    rules : Rule
    condition : Condition
    views : sequence of NetworkSide
        All with the same training images. The seed of the first is that of initial weights and training.

    Raises
    ------
    ValueError
        If the views have other training images than each other.
    leakfree.ledger.ledger.LedgerError
        If other images were consumed than a draw plans, or a leak is not the one of its arm.
    """
    sides = [_Scoring(images, view) for view in views]
    rows, seed = sides[0].rows["train"], views[0].seed
    if any(not np.array_equal(side.rows["train"], rows) for side in sides):
        raise ValueError(f"{condition.name}: {[*views]} do not train on the same images")
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network, origin = networks.build(condition.model, 2, condition.image_size, condition.weights)
    training, curve = Ledger(images.cache.digests), []

    def watch(network: nn.Module, normalisation: Normalisation, row: dict[str, float]) -> None:
        for side in sides:
            side.score(network, normalisation, row["epoch"], training)
        curve.append(row["train_loss"])

    fitted = fit(
        network,
        TrainingImages(images.cache, images.labels, rows),
        rules.budget(condition),
        seed=seed,
        ledger=training,
        description=f"{condition.name}, draw {seed}, {views[0].arm}",
        watch=watch,
    )
    facts = {
        "train_loss": curve,
        "weights": origin,
        "precision": fitted.precision,
        "seconds": round(fitted.seconds, 1),
        "n_train": len(rows),
        "consumed": consumed_hash(training.consumed("train")),
    }
    return [
        Trained(
            side.view,
            pd.concat(side.frames, ignore_index=True).astype({"epoch": int}),
            facts
            | {
                "manifest": side.manifest.hash,
                "shared_groups": side.found["linked groups"],
                "shared_images": side.found["images"],
            },
        )
        for side in sides
    ]


def epoch_at(train_loss: Sequence[float], loss: float) -> int | None:
    """Return the first epoch, from 1, whose training loss is at most `loss`; None where there is none."""
    reached = np.flatnonzero(np.asarray(train_loss) <= loss)
    return int(reached[0]) + 1 if len(reached) else None


def epoch_of_least_loss(predictions: pd.DataFrame, labels: np.ndarray) -> int:
    """Return the epoch with the lowest mean log loss on some predictions; of equal ones the first."""
    truth = labels[predictions["image"].to_numpy()]
    p = predictions["p"].to_numpy()
    losses = pd.Series(-np.log(np.where(truth == 1, p, 1 - p).clip(1e-7)))
    return int(losses.groupby(predictions["epoch"].to_numpy()).mean().idxmin())


def scored(predictions: pd.DataFrame, epoch: int, labels: np.ndarray, groups: np.ndarray) -> Scored:
    """Return what a network scored on the tested images after an epoch, in the order of images."""
    mine = predictions[(predictions["role"] == "test") & (predictions["epoch"] == epoch)]
    mine = mine.sort_values("image", kind="stable")
    rows, p = mine["image"].to_numpy(), mine["p"].to_numpy()
    return Scored(groups[rows], labels[rows].astype(np.int64), np.stack([1 - p, p], axis=1))
