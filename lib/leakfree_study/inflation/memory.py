"""Inflation of trained networks against training loss: do they have to know their training images by heart?

The arms are those of `leakfree_study.inflation.arms`. Each network is looked at after every epoch, so that one
training gives a score at every loss that it passes. The rule, ``memory_rule.yaml``, was written before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict
from yaml import safe_load

from leakfree.data.pixels import PixelCache
from leakfree.ledger.ledger import Ledger, consumed_hash
from leakfree.models import networks
from leakfree.models.training import Budget, TrainingImages, fit, predict
from leakfree.split.manifest import Manifest
from leakfree.split.protocols import CLEAN, SIBLINGS
from leakfree_study.inflation.arms import Arms
from leakfree_study.inflation.draws import draw
from leakfree_study.inflation.estimate import Scored

ARMS = {"clean": CLEAN, "leaky": SIBLINGS}


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
    """One network of a condition, draw and arm.

    Attributes
    ----------
    predictions : pandas.DataFrame
        ``epoch, image`` (row of the images), ``role`` (``test``, ``val``) and ``p``, of the second class.
    facts : dict
        The learning curve, what was consumed, precision, seconds.
    """

    predictions: pd.DataFrame
    facts: dict[str, Any]


def train(images: Images, rules: Rule, condition: Condition, seed: int, arm: str) -> Trained:
    """Train one network, and score the tested images and the strangers after every epoch.

    Parameters
    ----------
    images : Images
    rules : Rule
    condition : Condition
    seed : int
        Of the draw, of the initial weights and of the training.
    arm : {"clean", "leaky"}

    Raises
    ------
    leakfree.ledger.ledger.LedgerError
        If other images were consumed than the draw plans, or a leak is not the one of the arm.
    """
    arms = Arms(draw(images.labels, images.groups, seed), images.labels)
    rows = {
        "train": np.sort((arms.clean() if arm == "clean" else arms.siblings(1.0)).row),
        "val": arms.rows("val"),
        "test": arms.rows("test"),
    }
    ids, protocol = images.cache.ids, ARMS[arm]
    parts = {part: tuple(ids[members].tolist()) for part, members in rows.items()}
    manifest = Manifest(f"memory-draw{seed}-{arm}", "draw", parts, seed, "series", ("copies",))
    groups = dict(zip(ids.tolist(), images.groups.tolist(), strict=True))
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network, origin = networks.build(condition.model, 2, condition.image_size, condition.weights)
    training, frames, curve = Ledger(images.cache.digests), [], []
    found: dict[str, int] = {}

    def watch(network, normalisation, row) -> None:
        # Every epoch is a result of its own, so that its test images are scored once by its own ledger.
        ledger = Ledger(images.cache.digests)
        ledger.merge(training)
        for part in ("val", "test"):
            scored, p = predict(network, images.cache, rows[part], normalisation, ledger=ledger, stage=part)
            frames.append(
                pd.DataFrame(
                    {"epoch": row["epoch"], "image": images.cache.rows(scored), "role": part, "p": p[:, 1]}
                )
            )
        found.update(ledger.check(manifest, protocol, groups))
        curve.append(row["train_loss"])

    fitted = fit(
        network,
        TrainingImages(images.cache, images.labels, rows["train"]),
        rules.budget(condition),
        seed=seed,
        ledger=training,
        description=f"{condition.name}, draw {seed}, {arm}",
        watch=watch,
    )
    facts = {
        "train_loss": curve,
        "weights": origin,
        "precision": fitted.precision,
        "seconds": round(fitted.seconds, 1),
        "n_train": len(rows["train"]),
        "manifest": manifest.hash,
        "consumed": consumed_hash(training.consumed("train")),
        "shared_groups": found["linked groups"],
        "shared_images": found["images"],
    }
    return Trained(pd.concat(frames, ignore_index=True), facts)


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
