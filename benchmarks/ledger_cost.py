"""Share of a training epoch that the ledger takes around a PyTorch loader.

Run it with ``python benchmarks/ledger_cost.py``. Everything that the ledger adds is timed where it happens,
inside the epoch: taking the digest of every row, collating the stamps, and comparing and entering the batch.
The loader has no workers, so that the digests count too, which workers would hide. The images are noise,
since neither digest nor step depends on them. The machine's limit is the bare step on one fixed tensor, with
no data and no ledger, measured in turns with the epochs; the ledger's share of that faster epoch is given
beside its share of the real one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, default_collate

from leakfree.base.precision import autocast, resolve
from leakfree.ledger.ledger import Ledger
from leakfree.ledger.loaders import Stamped, Watched, digests_of, watch
from leakfree.models import networks


class Films(Dataset):
    """Decoded images of noise with their ids and classes."""

    def __init__(self, images: int, size: int) -> None:
        rng = np.random.default_rng(0)
        self.pixels = rng.integers(0, 256, (images, size, size), dtype=np.uint8)
        self.ids = [f"train/NORMAL/IM-{row:04d}-0001.jpeg" for row in range(images)]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> tuple[str, np.ndarray, int]:
        return self.ids[row], self.pixels[row], row % 2


class Stopwatch:
    """Seconds spent inside the ledger's parts of one epoch."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable) -> Callable:
        """Return the function with its time added to ours."""

        def call(*arguments):
            started = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self.seconds += time.perf_counter() - started

        return call


class TimedStamped(Stamped):
    """Reads the row as any data set does, then stamps it against the clock."""

    def __init__(self, dataset: Dataset, clock: Stopwatch) -> None:
        super().__init__(dataset)
        self.put = clock.timed(lambda row: Stamped([row])[0])

    def __getitems__(self, rows: list[int]) -> list[tuple]:
        return [self.put(self.dataset[row]) for row in rows]


def collate(clock: Stopwatch) -> Callable:
    """Collate field by field, as PyTorch does; the stamps against the clock."""
    stamps = clock.timed(lambda rows: default_collate([row[0] for row in rows]))
    return lambda rows: [stamps(rows), *default_collate([row[1:] for row in rows])]


class Step:
    """One step of training: forward, backward, AdamW."""

    def __init__(self, model: str, size: int) -> None:
        torch.manual_seed(0)
        network, _ = networks.build(model, 2, size)
        self.network = network.to(memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, fused=True)

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Change the weights once."""
        with autocast(resolve()):
            loss = functional.cross_entropy(self.network(x).float(), y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


def epoch(step: Step, films: Films, reference: dict[str, int], batch: int) -> tuple[float, float]:
    """Return seconds of an epoch, and those of the ledger in it."""
    clock, ledger = Stopwatch(), Ledger(reference)
    loader = DataLoader(TimedStamped(films, clock), batch, shuffle=True, collate_fn=collate(clock))
    watched: Watched = watch(loader, ledger, "train")
    watched._enter = clock.timed(watched._enter)
    started = time.perf_counter()
    for _, pixels, y in watched:
        step(pixels.unsqueeze(1).to(torch.float32, memory_format=torch.channels_last) / 255, y)
    seconds = time.perf_counter() - started
    if ledger.consumed("train").total() != len(films):
        raise SystemExit("the ledger did not enter the epoch that it was timed in")
    return seconds, clock.seconds


def bare(step: Step, films: Films, batch: int) -> float:
    x = torch.randn(batch, 1, *films.pixels.shape[1:]).to(memory_format=torch.channels_last)
    y = torch.zeros(batch, dtype=torch.long)
    started = time.perf_counter()
    for _ in range(len(films) // batch):
        step(x, y)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=192, help="an epoch; a multiple of the batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="as the study: one thread a network")
    given = parser.parse_args()
    if given.images < given.batch or given.images % given.batch:
        parser.error(f"--images {given.images}: a positive multiple of the batch, {given.batch}, is needed")
    torch.set_num_threads(given.threads)
    films = Films(given.images, given.size)
    reference = digests_of(films.ids, films.pixels)
    step = Step(given.model, given.size)
    bare(step, Films(2 * given.batch, given.size), given.batch)  # first calls allocate
    rounds = [
        (*epoch(step, films, reference, given.batch), bare(step, films, given.batch))
        for _ in range(given.rounds)
    ]
    whole, ledger, limit = (statistics.median(column) for column in zip(*rounds, strict=True))
    result = {
        "model": given.model,
        "size": given.size,
        "batch": given.batch,
        "threads": given.threads,
        "images_per_second": {
            "bare": round(given.images / limit, 1),
            "epoch": round(given.images / whole, 1),
        },
        "ledger_us_an_image": round(ledger / given.images * 1e6, 1),
        "ledger_share_of_epoch": round(statistics.median(row[1] / row[0] for row in rounds), 5),
        "ledger_share_of_bare": round(statistics.median(row[1] / row[2] for row in rounds), 5),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
