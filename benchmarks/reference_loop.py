"""Time an epoch of the reference study's training loop over an epoch of ours, same network and size.

Run it with ``python benchmarks/reference_loop.py --data FOLDER`` on a quiet machine. Theirs: SimpleCNN with
16 and 32 channels at 224 px, Adam, batches of 8 in full precision, every image decoded and resized when it is
needed, one at a time through Deep Lake's PyTorch adapter. Ours: the study's loop, images decoded once and
kept as uint8, batches of 32, bfloat16 autocast, channels last, augmentation and ledger on. Rounds alternate
in one process, so that a busy machine slows both; the ratio of the medians counts. Decoding once is timed
beside it: an epoch of ours is charged with a share of it, for as many epochs as the reference trained (5).
``bare`` is the limit, the step on one fixed tensor.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import deeplake
import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import transforms
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent))
from training_throughput import bare, loop

from leakfree.data.images import to_grey
from leakfree.data.pixels import PixelCache, pixel_digest
from leakfree.ledger.ledger import Ledger
from leakfree.models import networks
from leakfree.models.training import Budget

SIZE, THEIR_BATCH, OUR_BATCH, EPOCHS = 224, 8, 32, 5


def network() -> nn.Module:
    torch.manual_seed(0)
    return networks.build("simple-cnn-16", 2, SIZE)[0]


def stored(files: list[Path], folder: Path) -> deeplake.Dataset:
    """Put the encoded files into a Deep Lake dataset with the tensors of the hub."""
    dataset = deeplake.create(str(folder / "lake"))
    dataset.add_column("images", deeplake.types.Image(sample_compression="jpeg"))
    dataset.add_column("labels", deeplake.types.Int64())
    with contextlib.redirect_stdout(io.StringIO()):
        dataset.append(
            {"images": [path.read_bytes() for path in files], "labels": [labelled(p) for p in files]}
        )
        dataset.commit()
    return dataset


def labelled(path: Path) -> int:
    return int(path.parent.name == "PNEUMONIA")


def theirs(dataset: deeplake.Dataset) -> float:
    """Train one epoch as the reference does; return images a second."""
    prepare = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.Grayscale(),
            transforms.Resize((SIZE, SIZE)),
            transforms.ToTensor(),
        ]
    )

    def row(sample: dict[str, object]) -> tuple[torch.Tensor, int]:
        return prepare(np.asarray(sample["images"])), int(sample["labels"])

    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(dataset.pytorch(transform=row), batch_size=THEIR_BATCH, shuffle=True)
    seen, started = 0, time.perf_counter()
    for x, y in loader:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        seen += len(y)
    return seen / (time.perf_counter() - started)


def decoded(files: list[Path]) -> tuple[PixelCache, float]:
    """Decode all files once; return them and the seconds that it took on one core."""
    started = time.perf_counter()
    pixels = np.stack([to_grey(path.read_bytes(), SIZE) for path in files])
    seconds = time.perf_counter() - started
    ids = np.array([str(number) for number in range(len(files))], dtype=object)
    return PixelCache(
        ids, pixels, {i: pixel_digest(film) for i, film in zip(ids, pixels, strict=True)}
    ), seconds


def measure(files: list[Path], rounds: int, threads: int) -> dict[str, object]:
    torch.set_num_threads(threads)
    labels = np.array([labelled(path) for path in files], dtype=np.int64)
    cache, seconds = decoded(files)
    rows, budget = np.arange(len(files)), Budget(epochs=1, batch_size=OUR_BATCH)
    with tempfile.TemporaryDirectory() as folder:
        dataset = stored(files, Path(folder))
        ways: dict[str, Callable[[], float]] = {
            "theirs": lambda: theirs(dataset),
            "ours": lambda: loop(network(), budget, cache, labels, rows, Ledger(cache.digests)),
            "bare": lambda: bare(
                network().to(memory_format=torch.channels_last), budget, SIZE, len(files), 2
            ),
        }
        speed: dict[str, list[float]] = {name: [] for name in ways}
        for number in tqdm(range(rounds + 1), desc="rounds", unit="round"):
            for name, run in ways.items():
                value = run()
                if number:  # the first one warms up
                    speed[name].append(value)
    median = {name: statistics.median(values) for name, values in speed.items()}
    epoch = len(files) / median["ours"]
    charged = len(files) / (epoch + seconds / EPOCHS)
    return {
        "images": len(files),
        "threads": threads,
        "images_per_second": {name: round(value, 1) for name, value in median.items()},
        "decode_once_images_per_second": round(len(files) / seconds, 1),
        "ratio": round(median["ours"] / median["theirs"], 2),
        "ratio_decoding_charged": round(charged / median["theirs"], 2),
        "ours_to_bare": round(median["ours"] / median["bare"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with NORMAL and PNEUMONIA somewhere below")
    parser.add_argument("--images", type=int, default=640, help="as many of its files; few are repeated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    found = [
        path
        for path in sorted(Path(given.data).rglob("*.jpeg"))
        if path.parent.name in ("NORMAL", "PNEUMONIA")
    ]
    if not found:
        raise SystemExit(f"{given.data}: no *.jpeg in a folder NORMAL or PNEUMONIA")
    order = np.random.default_rng(0).permutation(len(found))
    files = [found[order[number % len(found)]] for number in range(given.images)]
    print(json.dumps(measure(files, given.rounds, given.threads)))


if __name__ == "__main__":
    main()
