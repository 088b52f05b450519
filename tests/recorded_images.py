"""Sixty small images as data sets of PyTorch, which the processes of a loader can import."""

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from leakfree.ledger.loaders import digests_of

N, SIZE, BATCH = 60, 8, 8
IDS = [f"train/X/film-{row:04d}.jpeg" for row in range(N)]
PIXELS = np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE), dtype=np.uint8)
LABELS = np.arange(N) // 3 % 2
DIGESTS = digests_of(IDS, PIXELS)
GROUPS = {image_id: row // 3 for row, image_id in enumerate(IDS)}


def scaled(pixels):
    """Augmentation: what comes out is no longer what was decoded."""
    return torch.as_tensor(np.asarray(pixels)[:, ::-1].copy(), dtype=torch.float32).unsqueeze(0) / 255


class Images(Dataset):
    """A data set as anybody writes it: image id, pixels, class."""

    def __init__(self, rows=range(N), pixels=PIXELS):
        self.rows, self.pixels = list(rows), pixels

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        return IDS[row], self.pixels[row], int(LABELS[row])


class ImageDicts(Images):
    def __getitem__(self, index):
        image_id, pixels, label = super().__getitem__(index)
        return {"label": label, "image_id": image_id, "pixels": torch.from_numpy(pixels.copy())}


class Both(IterableDataset):
    """The rows of a stream, then those of a data set: both go to a worker's process in one parcel."""

    def __init__(self, stream, rows):
        self.stream, self.rows = stream, rows

    def __iter__(self):
        yield from self.stream
        yield from self.rows.__getitems__(range(len(self.rows)))


class ImageStream(IterableDataset):
    def __init__(self, sharded=True):
        self.sharded = sharded

    def __iter__(self):
        worker = get_worker_info() if self.sharded else None
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        yield from (Images()[row] for row in range(first, N, step))
