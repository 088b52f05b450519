"""Features of images from a frozen ImageNet network: what two images have in common beyond their pixels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from leakfree.base.files import file_hash
from leakfree.models.networks import efficientnet_lite0, efficientnet_lite0_file

#: Side of the images that the network was trained on and the least that it takes, in pixels.
SIDE, LEAST_SIDE = 224, 32
#: Length of a feature vector.
FEATURES = 1280

#: Grey levels are normalised as EfficientNet-Lite was trained: mean 127 / 255, standard deviation 128 / 255.
_MEAN, _STD = 127.0, 128.0


def embed(
    pixels: np.ndarray, *, batch_size: int = 8, description: str = "embed", jobs: int = 1
) -> np.ndarray:
    """Compute the globally pooled features of EfficientNet-Lite0 with its ImageNet weights.

    A feature vector depends on its image alone: neither `jobs` nor its neighbours in a batch change it.
    The number of images in the batch may, by less than 1e-4: another kernel sums in another order.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (n, side, side)
        Grey images; the network was trained at a side of 224 pixels, smaller ones are faster and tell less.
    batch_size : int
        Images a step. Small batches are faster: their feature maps stay in the processor's cache.
    description : str
        Shown with the progress.
    jobs : int
        Batches at the same time, each on one thread.

    Returns
    -------
    numpy.ndarray of float32, shape (n, 1280)

    Raises
    ------
    ValueError
        If `pixels` has another type or shape, or a number is below 1.
    WeightsError
        If the package of the weights is missing.
    """
    pixels = np.asarray(pixels)
    square = pixels.ndim == 3 and pixels.shape[1] == pixels.shape[2] and pixels.shape[1] >= LEAST_SIDE
    if pixels.dtype != np.uint8 or not square:
        raise ValueError(
            f"pixels must be uint8 of shape (n, side, side), side {LEAST_SIDE} or more, "
            f"got {pixels.dtype} of shape {pixels.shape}"
        )
    if batch_size < 1 or jobs < 1:
        raise ValueError(f"batch_size and jobs must be at least 1, got {batch_size} and {jobs}")
    network = _network()
    features = np.empty((len(pixels), FEATURES), dtype=np.float32)

    def compute(start: int) -> int:  # in a thread, which does not inherit an autocast of the caller
        batch = torch.tensor(np.ascontiguousarray(pixels[start : start + batch_size])).unsqueeze(1)
        x = batch.to(memory_format=torch.channels_last, dtype=torch.float32).sub_(_MEAN).div_(_STD)
        with torch.inference_mode():
            pooled = network.forward_head(network.forward_features(x), pre_logits=True)
        features[start : start + batch_size] = pooled.numpy()
        return len(batch)

    threads = torch.get_num_threads()
    try:
        with (
            ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool,
            tqdm(total=len(pixels), desc=description, unit="image", mininterval=0.5) as progress,
        ):
            for done in pool.map(compute, range(0, len(pixels), batch_size)):
                progress.update(done)
    finally:
        torch.set_num_threads(threads)  # a thread's setting is also that of threads to come
    return features


def weights_sha256() -> str:
    """Return the SHA-256 of the weights file that `embed` uses."""
    return file_hash(efficientnet_lite0_file())


def _network() -> Any:
    # Making a network draws initial weights, which must not move the caller's generator.
    with torch.random.fork_rng(devices=[]):
        network, _ = efficientnet_lite0(1, "imagenet")
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
