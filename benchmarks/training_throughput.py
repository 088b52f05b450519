"""Images a second of the real training loop over the bare step.

Run it with ``python benchmarks/training_throughput.py``. The bare step is the limit: the same network,
batch, dtype, layout and optimiser on one fixed tensor, with no data, augmentation or ledger. Both are
measured in turns in one process, so that a busy machine slows both; the ratio of the medians is what
counts: at least 0.9. The bare step is timed in the other precision as well, on fewer images, since where
bfloat16 is emulated it is far slower. ``--no-ledger`` also times the loop with a ledger that
records nothing, for its cost.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from leakfree.base.paths import cache_folder, project_root
from leakfree.base.precision import autocast
from leakfree.data.open import open_cohort
from leakfree.data.pixels import PixelCache, load_pixels
from leakfree.data.tasks import TASKS
from leakfree.ledger.ledger import Ledger
from leakfree.models import networks, training


class SilentLedger(Ledger):
    """A ledger that records nothing."""

    def record(self, stage: str, ids: object, pixels: np.ndarray) -> None:
        """Do nothing."""


def bare(network: torch.nn.Module, budget: training.Budget, size: int, images: int, classes: int) -> float:
    x = torch.randn(budget.batch_size, 1, size, size).to(memory_format=torch.channels_last)
    y = torch.zeros(budget.batch_size, dtype=torch.long)
    steps = -(-images // budget.batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    network.train()
    started = time.perf_counter()
    for _ in range(steps):
        with autocast(budget.resolved_precision()):
            loss = functional.cross_entropy(network(x).float(), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return steps * budget.batch_size / (time.perf_counter() - started)


def loop(
    network: torch.nn.Module,
    budget: training.Budget,
    cache: PixelCache,
    labels: np.ndarray,
    rows: np.ndarray,
    ledger: Ledger,
) -> float:
    started = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):
        training.fit(network, training.TrainingImages(cache, labels, rows), budget, seed=1, ledger=ledger)
    return len(rows) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="phantom")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--images", type=int, default=640, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="as the study: one thread a network")
    parser.add_argument("--reframe", action="store_true", help="cut images out anew, as against framing")
    parser.add_argument("--no-ledger", action="store_true", help="also time the loop without a ledger")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    task = TASKS["binary"]
    cache_dir = cache_folder(project_root(Path(__file__).parent))
    cohort = open_cohort(given.data, cache_dir)
    table = task.select(cohort.development())
    cache = load_pixels(cohort, table, given.size, cache_dir)
    labels = task.labels(table)
    rows = np.arange(min(given.images, len(cache)) // given.batch * given.batch)
    rows = np.random.default_rng(0).permutation(len(cache))[: len(rows)]
    budget = training.Budget(epochs=1, batch_size=given.batch, reframe=given.reframe)
    chosen = budget.resolved_precision()
    other = "float32" if chosen == "bfloat16" else "bfloat16"
    in_other = replace(budget, precision=other)
    torch.manual_seed(0)
    network, _ = networks.build(given.model, 2, given.size)
    network = network.to(memory_format=torch.channels_last)
    for warmed in (budget, in_other):
        bare(network, warmed, given.size, 2 * given.batch, 2)
    measured: dict[str, list[float]] = {name: [] for name in ("bare", "loop", "loop_without_ledger", "other")}
    for _ in range(given.rounds):
        measured["bare"].append(bare(network, budget, given.size, len(rows), 2))
        measured["loop"].append(loop(network, budget, cache, labels, rows, Ledger(cache.digests)))
        measured["other"].append(bare(network, in_other, given.size, 3 * given.batch, 2))
        if given.no_ledger:
            silent = SilentLedger(cache.digests)
            measured["loop_without_ledger"].append(loop(network, budget, cache, labels, rows, silent))
    medians = {name: statistics.median(values) for name, values in measured.items() if values}
    result = {
        "model": given.model,
        "size": given.size,
        "batch": given.batch,
        "threads": given.threads,
        "reframe": given.reframe,
        "precision": chosen,
        "images_per_second": {
            name.replace("other", f"bare_{other}"): round(value, 1) for name, value in medians.items()
        },
        "ratio_to_bare": round(medians["loop"] / medians["bare"], 3),
        f"{chosen}_over_{other}": round(medians["bare"] / medians["other"], 2),
    }
    if given.no_ledger:
        result["ledger_cost"] = round(1 - medians["loop"] / medians["loop_without_ledger"], 4)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
