"""Train a network on cached pixels, keep the epoch that validation chose, and predict."""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from leakfree.base.errors import LeakfreeError
from leakfree.base.escape import say
from leakfree.base.precision import Precision, autocast, resolve
from leakfree.data.pixels import PixelCache
from leakfree.ledger.ledger import Ledger
from leakfree.models.checkpoint import Checkpoint
from leakfree.models.reframing import reframe

#: Batch size of validation and prediction: no gradients are held, so it need not follow training's.
PREDICT_BATCH = 64


class TrainingError(LeakfreeError):
    """A training cannot go on; the message is one line."""


@contextmanager
def _fits_gpu(what: str, advice: str = "lower the batch size, or take device cpu") -> Iterator[None]:
    """Turn PyTorch's account of a GPU's full memory into one line."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise TrainingError(f"{what}: does not fit into the memory of the GPU; {advice}") from error


@dataclass(frozen=True)
class Budget:
    """How long and how a network is trained; equal on both sides of a comparison.

    Attributes
    ----------
    epochs : int
        Passes over the training part.
    batch_size : int
        Images a step.
    learning_rate : float
        Of Adam, or the peak of the one-cycle schedule of AdamW.
    optimizer : {"adam", "adamw-one-cycle"}
        ``adam`` is the reference study's.
    augment : bool
        Small rotations, shifts, zooms and changes of exposure. Never a mirror image: the heart has a side.
    reframe : bool
        Cut each image out anew instead, see `leakfree.models.reframing.reframe`.
    exposure : float
        Largest change of contrast and exposure where images are cut out anew.
    keep : {"best", "last"}
        The epoch that is kept: the best on validation, or the last, which validation does not choose.
    class_weights : bool
        Weight the loss by inverse class frequency of the training part.
    precision : {"auto", "bfloat16", "float32"}
        Number format, see `leakfree.base.precision`; ``auto`` is bfloat16 where it is native, else float32.
    patience : int
        Stop after as many epochs without a better validation; 0 trains all epochs. The schedule is that of
        all epochs, so a stopped training ends at a higher learning rate.
    device : {"cpu", "cuda", "auto"}
        ``auto`` takes a GPU where there is one. No published number was made on one.
    compile : bool
        Compile the network, on a GPU only.
    """

    epochs: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    optimizer: Literal["adam", "adamw-one-cycle"] = "adamw-one-cycle"
    augment: bool = True
    reframe: bool = False
    exposure: float = 0.1
    keep: Literal["best", "last"] = "best"
    class_weights: bool = True
    precision: Precision = "auto"
    patience: int = 0
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    compile: bool = False

    def torch_device(self) -> torch.device:
        """Return the device to train on."""
        there = torch.cuda.is_available()
        return torch.device("cuda" if self.device == "cuda" or (self.device == "auto" and there) else "cpu")

    def resolved_precision(self) -> str:
        """Return the precision to train and score in: ``bfloat16`` or ``float32``."""
        return resolve(self.precision, self.torch_device().type)


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of the training part's grey values, on the scale 0 to 1."""

    mean: float
    std: float

    @classmethod
    def fit(cls, pixels: np.ndarray) -> Normalisation:
        """Measure uint8 pixels of any shape."""
        histogram = np.bincount(pixels.reshape(-1), minlength=256).astype(np.float64)
        values = np.arange(256) / 255.0
        mean = float(histogram @ values / histogram.sum())
        std = float(np.sqrt(histogram @ (values - mean) ** 2 / histogram.sum()))
        return cls(round(mean, 6), round(max(std, 1e-3), 6))

    def apply(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn uint8 (b, 1, h, w) into normalised float32, channels last."""
        x = pixels.to(memory_format=torch.channels_last, dtype=torch.float32)
        return x.mul_(1.0 / (255.0 * self.std)).sub_(self.black)

    @property
    def black(self) -> float:
        """How far under the mean black is, in standard deviations."""
        return self.mean / self.std


@dataclass(frozen=True)
class TrainingImages:
    """What a network is trained on, and what is validated with.

    Attributes
    ----------
    cache : PixelCache
        Pixels.
    labels : numpy.ndarray of int64, shape (len(cache),)
        Class of each cached row; negative where the row does not take part.
    train : numpy.ndarray of int64
        Rows of the cache.
    val : numpy.ndarray of int64, optional
        Rows of the cache; without them the last epoch is kept.
    """

    cache: PixelCache
    labels: np.ndarray
    train: np.ndarray
    val: np.ndarray | None = None


@dataclass(frozen=True)
class Fitted:
    """A trained network.

    Attributes
    ----------
    network : torch.nn.Module
        With the weights of `epoch`, rounded to half precision: what is scored is what is saved.
    history : pandas.DataFrame
        ``epoch, train_loss, val_loss, val_macro_f1, val_accuracy`` (validation columns empty without one).
    epoch : int
        The epoch kept, counted from 1: chosen on validation, or the last one.
    normalisation : Normalisation
    seconds : float
        What the epochs took, those before an interruption included.
    precision : str
        ``bfloat16`` or ``float32``: what it was trained in.
    """

    network: nn.Module
    history: pd.DataFrame
    epoch: int
    normalisation: Normalisation
    seconds: float = 0.0
    precision: str = "float32"


def seed_everything(seed: int) -> torch.Generator:
    """Seed torch and ask for deterministic kernels; return a generator of its own."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Else every new tensor is filled before it is written: a twentieth of the time of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return torch.Generator().manual_seed(seed)


def batches(
    cache: PixelCache, rows: np.ndarray, size: int, ledger: Ledger, stage: str
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Yield ids, shape (b,), and uint8 tensors (b, 1, h, w) of the rows, entering both in the ledger."""
    starts = list(range(0, len(rows), size))
    if len(starts) > 1 and len(rows) - starts[-1] == 1:
        starts.pop()  # one image alone has no batch statistics: it joins the batch before it
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        ids, pixels = cache.take(rows[start:end])
        ledger.record(stage, ids, pixels)
        yield ids, torch.from_numpy(pixels).unsqueeze(1)


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Rotate (up to 7 degrees), shift (4 %), zoom (5 %) and change contrast and exposure (10 %) per image.

    Parameters
    ----------
    x : torch.Tensor, float32 (b, 1, h, w), normalised
    generator : torch.Generator
        Source of the draws.
    """
    b = len(x)
    # On the CPU and then moved: the draws are the same on every device.
    draws = (torch.rand((6, b), generator=generator) * 2 - 1).to(x.device)
    angle, zoom = draws[0] * (7.0 * torch.pi / 180.0), 1 + draws[1] * 0.05
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    theta = torch.stack([cosine, -sine, draws[2] * 0.08, sine, cosine, draws[3] * 0.08], dim=1).view(b, 2, 3)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    x = functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    contrast, exposure = (1 + 0.1 * draws[4]).view(b, 1, 1, 1), (0.1 * draws[5]).view(b, 1, 1, 1)
    return x.mul_(contrast).add_(exposure)


class _Training:
    """What changes from epoch to epoch, and its way into a checkpoint and back."""

    def __init__(self, network: nn.Module, budget: Budget, images: int, seed: int, ledger: Ledger) -> None:
        self.network, self.ledger, self.keep = network, ledger, budget.keep
        self.generator = seed_everything(seed)
        self.optimizer, self.schedule = _optimizer(
            network, budget, budget.epochs * -(-images // budget.batch_size)
        )
        self.seconds = 0.0
        self.history: list[dict[str, float]] = []
        self.best: tuple[tuple[float, float], int, dict[str, torch.Tensor]] | None = None

    @property
    def stale(self) -> int:
        """Epochs since the best one."""
        return len(self.history) - (self.best[1] if self.best else 0)

    def add(self, row: dict[str, float]) -> None:
        """Take up what an epoch measured; keep its weights if it is the best, or if nothing was validated."""
        self.history.append(row)
        epoch = len(self.history)
        rank = (row.get("val_macro_f1", epoch), -row.get("val_loss", 0.0))
        if self.keep == "last":
            rank = (epoch, 0.0)
        if self.best is None or rank > self.best[0]:
            # A deep copy: an alias would go on training and save the last epoch as the best.
            self.best = (rank, epoch, copy.deepcopy(self.network.state_dict()))

    def state(self) -> dict[str, Any]:
        assert self.best is not None  # kept after an epoch
        rank, epoch, weights = self.best
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "seconds": self.seconds,
            "history": json.dumps(self.history),
            "best": {"rank": list(rank), "epoch": epoch, "weights": weights},
            "ledger": json.dumps(self.ledger.state()),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        self.seconds, self.history = state["seconds"], json.loads(state["history"])
        best = state["best"]
        self.best = (tuple(best["rank"]), best["epoch"], best["weights"])
        self.ledger.restore(json.loads(state["ledger"]))


def fit(
    network: nn.Module,
    images: TrainingImages,
    budget: Budget,
    *,
    seed: int,
    ledger: Ledger,
    description: str = "fit",
    checkpoint: Checkpoint | None = None,
    watch: Callable[[nn.Module, Normalisation, dict[str, float]], None] | None = None,
) -> Fitted:
    """Train a network.

    Parameters
    ----------
    network : torch.nn.Module
        Maps float (b, 1, h, w) to logits; its initial weights come from the caller's seed.
    images : TrainingImages
    budget : Budget
        Length and kind of the training.
    seed : int
        Seed of shuffling and augmentation.
    ledger : Ledger
        Records every row that is yielded; empty, since a checkpoint brings back what was recorded before.
    description : str
        Shown with the progress.
    checkpoint : Checkpoint, optional
        Where to go on from and to; an interrupted training ends with the weights of one that was not.
    watch : callable, optional
        Called after each epoch with the network as it is then, the normalisation, and the epoch's row of the
        learning curve. It must not train the network. Not called again for epochs that a checkpoint has.

    Returns
    -------
    Fitted
        The network is on the CPU.

    Raises
    ------
    TrainingError
        If the training part lacks a class, the loss is no longer a number, or a GPU has too little memory.
    """
    device = budget.torch_device()
    by_class = _class_weights(images.labels, images.train, description)
    normalisation = Normalisation.fit(images.cache.pixels[images.train])
    with _fits_gpu(description):
        network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    weight = by_class.to(device) if budget.class_weights else None
    running = _Training(network, budget, len(images.train), seed, ledger)
    if checkpoint is not None and (state := checkpoint.load()) is not None:
        running.restore(state)
        say(f"{description}: goes on after epoch {len(running.history)}", file=sys.stderr)
    step: Any = torch.compile(network) if budget.compile and device.type == "cuda" else network
    total = budget.epochs * len(images.train)
    with (
        _fits_gpu(description),
        tqdm(
            total=total,
            initial=len(running.history) * len(images.train),
            desc=description,
            unit="image",
            mininterval=5,
        ) as progress,
    ):
        for epoch in range(len(running.history) + 1, budget.epochs + 1):
            if images.val is not None and budget.patience and running.stale >= budget.patience:
                break
            started = time.perf_counter()
            loss = _epoch(step, images, budget, running, normalisation, weight, progress)
            if not np.isfinite(loss):
                raise TrainingError(
                    f"{description}: the loss of epoch {epoch} is not a number; lower the learning rate, or "
                    "take float32: in bfloat16 ResNet18 fails on images of 16 px"
                )
            row = {"epoch": epoch, "train_loss": loss}
            if images.val is not None:
                row |= _validate(network, images, images.val, normalisation, budget, ledger)
            running.add(row)
            if watch is not None:
                watch(network, normalisation, row)
            line = ", ".join(f"{key} {value:.4g}" for key, value in row.items())
            say(f"{description}: {line}", file=sys.stderr)
            running.seconds += time.perf_counter() - started
            if checkpoint is not None and epoch < budget.epochs:
                checkpoint.save(running.state())
    assert running.best is not None  # there is one epoch at least
    _, kept, weights = running.best
    network = network.to("cpu")
    network.load_state_dict({key: _round_half(value) for key, value in weights.items()})
    columns = ["epoch", "train_loss", "val_loss", "val_macro_f1", "val_accuracy"]
    return Fitted(
        network,
        pd.DataFrame(running.history).reindex(columns=columns),
        kept,
        normalisation,
        running.seconds,
        budget.resolved_precision(),
    )


def _class_weights(labels: np.ndarray, train: np.ndarray, description: str) -> torch.Tensor:
    """Return weights that make all classes count alike; refuse a training part that lacks one."""
    classes = int(labels.max()) + 1
    counts = np.bincount(labels[train], minlength=classes)
    if not counts.all():
        raise TrainingError(
            f"{description}: the training part has no image of class {int(counts.argmin())}; take more images"
        )
    return torch.tensor(len(train) / (classes * counts), dtype=torch.float32)


def _epoch(
    network: nn.Module,
    images: TrainingImages,
    budget: Budget,
    running: _Training,
    normalisation: Normalisation,
    weight: torch.Tensor | None,
    progress: tqdm,
) -> float:
    """Train for one epoch; return the mean loss."""
    device = budget.torch_device()
    network.train()
    order = images.train[torch.randperm(len(images.train), generator=running.generator).numpy()]
    losses, sizes = [], []
    for ids, pixels in batches(images.cache, order, budget.batch_size, running.ledger, "train"):
        target = torch.from_numpy(images.labels[images.cache.rows(ids)]).to(device)
        x = normalisation.apply(pixels.to(device))
        if budget.reframe:
            x = reframe(x, running.generator, -normalisation.black, budget.exposure)
        elif budget.augment:
            x = augment(x, running.generator)
        with autocast(budget.resolved_precision(), device.type):
            loss = functional.cross_entropy(network(x).float(), target, weight)
        running.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        running.optimizer.step()
        if running.schedule is not None:
            running.schedule.step()
        # Read at the end of the epoch: a GPU would wait for each.
        losses.append(loss.detach())
        sizes.append(len(ids))
        progress.update(len(ids))
    total = sum(float(loss) * size for loss, size in zip(losses, sizes, strict=True))
    return round(total / len(images.train), 6)


def predict(
    network: nn.Module,
    cache: PixelCache,
    rows: np.ndarray,
    normalisation: Normalisation,
    *,
    ledger: Ledger,
    stage: str,
    precision: Precision = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Predict probabilities.

    Parameters
    ----------
    network : torch.nn.Module
    cache : PixelCache
    rows : numpy.ndarray of int64, shape (n,)
        Rows of the cache.
    normalisation : Normalisation
    ledger : Ledger
        Records every row that is yielded.
    stage : str
        Under which it does.
    precision : {"auto", "bfloat16", "float32"}
        That of training, so that what was validated is what is scored.

    Returns
    -------
    ids : numpy.ndarray of object (str), shape (n,)
        As yielded with the pixels.
    probabilities : numpy.ndarray of float64, shape (n, classes)

    Raises
    ------
    TrainingError
        If a GPU has too little memory.
    """
    network.eval()
    device = next(network.parameters()).device
    all_ids, all_logits = [], []
    with (
        _fits_gpu(f"stage {stage}", "take device cpu"),
        torch.inference_mode(),
        autocast(resolve(precision, device.type), device.type),
    ):
        for ids, pixels in batches(cache, rows, PREDICT_BATCH, ledger, stage):
            all_ids.append(ids)
            all_logits.append(network(normalisation.apply(pixels.to(device))).double())
    return np.concatenate(all_ids), torch.softmax(torch.cat(all_logits), dim=1).cpu().numpy()


def _validate(
    network: nn.Module,
    images: TrainingImages,
    val: np.ndarray,
    normalisation: Normalisation,
    budget: Budget,
    ledger: Ledger,
) -> dict[str, float]:
    ids, probabilities = predict(
        network, images.cache, val, normalisation, ledger=ledger, stage="val", precision=budget.precision
    )
    from sklearn.metrics import f1_score  # a second of imports, which predicting does not need

    truth = images.labels[images.cache.rows(ids)]
    chosen = probabilities.argmax(axis=1)
    picked = probabilities[np.arange(len(truth)), truth].clip(1e-7)
    return {
        "val_loss": round(float(-np.log(picked).mean()), 6),
        "val_macro_f1": round(float(f1_score(truth, chosen, average="macro")), 6),
        "val_accuracy": round(float((truth == chosen).mean()), 6),
    }


def _optimizer(
    network: nn.Module, budget: Budget, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR | None]:
    if budget.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), lr=budget.learning_rate, fused=True), None
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=budget.learning_rate, weight_decay=0.01, fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=budget.learning_rate, total_steps=steps)
    return optimizer, schedule


def _round_half(value: torch.Tensor) -> torch.Tensor:
    return value.half().to(value.dtype) if value.is_floating_point() else value
