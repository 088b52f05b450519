"""Read the cells of `leakfree_study.inflation.memory` back and turn them into inflation, loss by loss."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leakfree.base.errors import LeakfreeError
from leakfree.base.files import file_hash
from leakfree_study.inflation.draws import draw
from leakfree_study.inflation.estimate import (
    Scored,
    arm_values,
    check_paired,
    holm,
    patient_counts,
    verdict,
)
from leakfree_study.inflation.memory import (
    ARMS,
    Condition,
    NetworkSide,
    Rule,
    epoch_at,
    epoch_of_least_loss,
    scored,
)
from leakfree_study.inflation.results import share_of_left
from leakfree_study.inflation.training_noise import (
    Noisy,
    NoisyWorld,
    coverage,
    measured_world,
    with_training_noise,
)

RESAMPLES = 2000
#: How the epoch is chosen where it is not a loss.
LAST, STRANGERS, AS_PAPERS = "last epoch", "chosen on strangers", "chosen as papers do"


class CellError(LeakfreeError):
    """Cells cannot be read or do not fit together; the message is one line."""


@dataclass(frozen=True)
class Cells:
    """The finished cells of one condition.

    Attributes
    ----------
    condition : leakfree_study.inflation.memory.Condition
    labels, groups : numpy.ndarray of int64, shape (n,)
        Of all images.
    predictions : dict of NetworkSide to pandas.DataFrame
    records : dict of NetworkSide to dict
    """

    condition: Condition
    labels: np.ndarray
    groups: np.ndarray
    predictions: dict[NetworkSide, pd.DataFrame]
    records: dict[NetworkSide, dict[str, Any]]

    @property
    def seeds(self) -> list[int]:
        """Draws whose two arms are there."""
        return [
            s for s in range(self.condition.draws) if all(NetworkSide(s, arm) in self.records for arm in ARMS)
        ]

    def losses(self, view: NetworkSide) -> list[float]:
        """Return the training loss of each epoch."""
        return self.records[view]["train_loss"]


def read_cells(folder: Path, rules: Rule) -> list[Cells]:
    """Read all cells of a folder, condition by condition, in the order of the rule.

    Raises
    ------
    CellError
        If a file is not the one that its record names, was made under another condition, or scored other
        images than its draw tests.
    """
    images = pd.read_csv(folder / "images.csv.gz")
    labels = pd.factorize(images["label"], sort=True)[0].astype(np.int64)
    groups = images["group"].to_numpy(dtype=np.int64)
    out = []
    for condition in rules.conditions:
        predictions, records = {}, {}
        for path in sorted((folder / condition.name).glob("draw*.json")):
            record = json.loads(path.read_text(encoding="utf-8"))
            view, data = NetworkSide(record["draw"], record["arm"]), path.with_suffix(".csv.gz")
            if file_hash(data) != record["predictions_sha256"]:
                raise CellError(f"{data}: not the file that its record names; train the cell again")
            if {**condition.model_dump(), **record["condition"]} != condition.model_dump():
                raise CellError(f"{path}: made under another condition than the rule has")
            found = pd.read_csv(data)
            tested = np.sort(draw(labels, groups, view.seed).rows("test"))
            for epoch, rows in found[found["role"] == "test"].groupby("epoch")["image"]:
                if not np.array_equal(np.sort(rows.to_numpy()), tested):
                    raise CellError(f"{data}: epoch {epoch} scored other images than the draw tests")
            predictions[view], records[view] = found, record
        if records:
            out.append(Cells(condition, labels, groups, predictions, records))
    return out


def gain(cells: Cells, epoch_of: Callable[[NetworkSide], int | None]) -> tuple[Noisy, float, float] | None:
    """Estimate leaky minus clean where each network is taken after an epoch of its own.

    Parameters
    ----------
    cells : Cells
    epoch_of : callable
        Gives the epoch of a network; None where it has none, so that its draw takes no part.

    Returns
    -------
    tuple of Noisy, float, float, or None
        With ROC AUC of the clean and of the leaky arm, means over draws. None with fewer than two draws.
    """
    arms: dict[str, list[Scored]] = {arm: [] for arm in ARMS}
    seeds = reaching(cells, epoch_of)
    for seed in seeds:
        for arm in ARMS:
            view = NetworkSide(seed, arm)
            epoch = epoch_of(view) or 0
            arms[arm].append(scored(cells.predictions[view], epoch, cells.labels, cells.groups))
    return _noisy(cells, arms["clean"], arms["leaky"], seeds)


def reaching(cells: Cells, epoch_of: Callable[[NetworkSide], int | None]) -> list[int]:
    """Return the draws whose two networks both have the epoch."""
    return [seed for seed in cells.seeds if all(epoch_of(NetworkSide(seed, arm)) is not None for arm in ARMS)]


def gain_by_halves(cells: Cells, chosen_as: str) -> tuple[Noisy, float, float] | None:
    """Estimate the same where validation chooses the epoch; see ``validation`` in the rule.

    Both ways score each half of the tested images alone, so that they differ in the choice only.
    """
    clean: list[Scored] = []
    leaky: list[Scored] = []
    for seed in cells.seeds:
        for half in range(2):
            for arm, found in (("clean", clean), ("leaky", leaky)):
                predictions = cells.predictions[NetworkSide(seed, arm)]
                tested = predictions["role"] == "test"
                # The rank of an image among the tested of its class: halves are equal by class.
                of_image = _half_of(np.unique(predictions.loc[tested, "image"]), cells.labels, seed)
                mine = predictions["image"].map(of_image) == half
                choosing = predictions[tested & ~mine if chosen_as == AS_PAPERS else ~tested]
                epoch = epoch_of_least_loss(choosing, cells.labels)
                found.append(scored(predictions[tested & mine], epoch, cells.labels, cells.groups))
    return _noisy(cells, clean, leaky, cells.seeds, halves=2)


def _half_of(rows: np.ndarray, labels: np.ndarray, seed: int) -> dict[int, int]:
    rng = np.random.default_rng([seed, 31])
    return {
        int(row): place % 2
        for label in np.unique(labels[rows])
        for place, row in enumerate(rng.permutation(rows[labels[rows] == label]))
    }


def worlds(cells: Cells, losses: Sequence[float]) -> dict[str, NoisyWorld]:
    """Return worlds to simulate: with components as measured at the first and the last loss, and others."""
    measured = {}
    for loss in (losses[0], losses[-1]):

        def epoch_of(view: NetworkSide, loss: float = loss) -> int | None:
            return epoch_at(cells.losses(view), loss)

        seeds = reaching(cells, epoch_of)
        arms = {
            arm: [
                scored(
                    cells.predictions[NetworkSide(seed, arm)],
                    epoch_of(NetworkSide(seed, arm)) or 0,
                    cells.labels,
                    cells.groups,
                )
                for seed in seeds
            ]
            for arm in ARMS
        }
        measured[loss] = measured_world(arms["clean"], arms["leaky"], seeds)
    first, last = (replace(world, draws=10) for world in measured.values())
    return {
        f"as measured at a loss of {losses[0]:g}, nothing gained": first,
        f"as measured at a loss of {losses[-1]:g}, nothing gained": last,
        f"as measured at a loss of {losses[-1]:g}, 0.05 gained": replace(last, gain=0.05),
        "luckier trainings, 0.05 gained": replace(last, gain=0.05, luck=0.3),
        "four draws of shared networks, 0.05 gained": replace(last, gain=0.05, draws=4, shared=True),
    }


def coverage_table(of_name: Mapping[str, NoisyWorld], n: int) -> pd.DataFrame:
    """Simulate every world n times; `coverage` with the worlds' names and components before."""
    frames = [
        coverage(world, n).assign(world=name, **asdict(world) | {"pairs": "/".join(map(str, world.pairs))})
        for name, world in of_name.items()
    ]
    found = pd.concat(frames, ignore_index=True)
    front = ["world", "pairs", "draws", "auc", "gain", "patient", "image", "luck", "shared"]
    return found[[*front, *found.columns.drop(front)]]


def _noisy(
    cells: Cells, clean: list[Scored], leaky: list[Scored], seeds: list[int], halves: int = 1
) -> tuple[Noisy, float, float] | None:
    if len(seeds) < 2:
        return None
    check_paired(clean, leaky)
    counts = patient_counts(int(cells.groups.max()) + 1, RESAMPLES, 0)
    of_clean, of_leaky = (arm_values(arm, "roc_auc", counts) for arm in (clean, leaky))
    differences = (of_leaky - of_clean).reshape(len(seeds), halves, -1).mean(axis=1)
    noisy = with_training_noise(differences, leaky, seeds)
    return noisy, float(of_clean[:, 0].mean()), float(of_leaky[:, 0].mean())


def table(all_cells: list[Cells], rules: Rule) -> pd.DataFrame:
    """Put every condition at every loss, at the last epoch, and as validation chooses, into one table.

    Returns
    -------
    pandas.DataFrame
        ``condition, epoch`` (how it is chosen), ``train_loss`` (mean over networks), ``draws`` (in which both
        networks came to it), ``of_draws, networks, n_images`` (scored, over draws), ``n_patients``,
        ``clean, leaky`` (ROC AUC), ``estimate, low, high`` (both sources of noise), ``p, p_adjusted`` (the
        losses of base alone), ``verdict, share`` (of what was left), ``sd_patients, sd_training,
        low_patients, high_patients, sd_over_draws, seconds`` (of all networks of the condition),
        ``precision`` (of all of them).
    """
    rows = [row for cells in all_cells for row in _rows(cells, rules)]
    frame = pd.DataFrame(rows)
    family = (frame["condition"] == "base") & frame["epoch"].str.startswith("loss")
    frame["p_adjusted"] = np.nan
    frame.loc[family, "p_adjusted"] = holm(frame.loc[family, "p"].to_list())
    frame["verdict"] = [
        verdict(row.estimate, row.low, row.high, row.p_adjusted, rules.margin) if told else ""
        for told, row in zip(family, frame.itertuples(), strict=True)
    ]
    return frame


def _rows(cells: Cells, rules: Rule) -> Iterator[dict[str, object]]:
    ways: list[tuple[str, Callable[[NetworkSide], int | None]]] = [
        (f"loss {loss:g}", lambda view, loss=loss: epoch_at(cells.losses(view), loss))
        for loss in rules.losses
    ]
    ways.append((LAST, lambda view: len(cells.losses(view))))
    for name, epoch_of in ways:
        found = gain(cells, epoch_of)
        if found is not None:
            seeds = reaching(cells, epoch_of)
            losses = [
                cells.losses(NetworkSide(seed, arm))[(epoch_of(NetworkSide(seed, arm)) or 0) - 1]
                for seed in seeds
                for arm in ARMS
            ]
            yield _row(cells, name, float(np.mean(losses)), found, seeds)
    for name in (STRANGERS, AS_PAPERS):
        found = gain_by_halves(cells, name)
        if found is not None:
            yield _row(cells, name, float("nan"), found, cells.seeds)


def _row(
    cells: Cells, epoch: str, loss: float, found: tuple[Noisy, float, float], seeds: list[int]
) -> dict[str, object]:
    noisy, clean, leaky = found
    low, high = noisy.interval
    of_patients = noisy.patients
    networks = {
        (record["consumed"], record["seconds"]): view.seed in seeds for view, record in cells.records.items()
    }
    tested = sum(
        int((cells.predictions[NetworkSide(seed, "clean")].query("epoch == 1")["role"] == "test").sum())
        for seed in seeds
    )
    return {
        "condition": cells.condition.name,
        "epoch": epoch,
        "train_loss": loss,
        "draws": len(seeds),
        "of_draws": len(cells.seeds),
        "networks": sum(networks.values()),
        "n_images": tested,
        "n_patients": of_patients.n_patients,
        "clean": clean,
        "leaky": leaky,
        "estimate": noisy.estimate,
        "low": low,
        "high": high,
        "p": noisy.p,
        "share": share_of_left(noisy.estimate, clean),
        "sd_patients": of_patients.sd,
        "sd_training": noisy.sd_training,
        "low_patients": of_patients.low,
        "high_patients": of_patients.high,
        "sd_over_draws": float(np.std(of_patients.by_draw, ddof=1)),
        "seconds": round(sum(seconds for _, seconds in networks)),
        "precision": " and ".join(sorted({record["precision"] for record in cells.records.values()})),
    }


def curve(all_cells: list[Cells]) -> pd.DataFrame:
    """Return inflation after every epoch: ``condition, epoch, draw, train_loss`` (of both arms), ``gain``."""
    rows = []
    for cells in all_cells:
        for seed in cells.seeds:
            clean, leaky = NetworkSide(seed, "clean"), NetworkSide(seed, "leaky")
            for epoch in range(1, len(cells.losses(clean)) + 1):
                values = [
                    scored(cells.predictions[view], epoch, cells.labels, cells.groups).values(
                        "roc_auc", np.ones((1, int(cells.groups.max()) + 1))
                    )[0]
                    for view in (clean, leaky)
                ]
                loss = (cells.losses(clean)[epoch - 1] + cells.losses(leaky)[epoch - 1]) / 2
                rows.append(
                    {
                        "condition": cells.condition.name, "epoch": epoch, "draw": seed, "train_loss": loss,
                        "clean": values[0], "leaky": values[1], "gain": values[1] - values[0],
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)
