"""Self-supervised pretraining: a network learns from images without labels, of the training part only.

Barlow Twins (Zbontar et al., "Barlow Twins: Self-Supervised Learning via Redundancy Reduction", ICML 2021,
equation 1): two altered views of an image should have the same features, and features different contents.
It needs neither large batches nor pairs of different images, of which a part with many images of a patient
has false ones.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from leakfree.base.precision import Precision, autocast, resolve
from leakfree.ledger.ledger import Ledger
from leakfree.models.training import Normalisation, TrainingError, TrainingImages, batches, seed_everything

#: Images a step, width of the two layers that are thrown away afterwards, and weight of the second term.
BATCH, WIDTH, REDUNDANCY = 64, 512, 5e-3
PEAK_RATE = 1e-3


def view(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return one altered view of each image: a crop of 60 to 100 % of the side, turned up to 10 degrees.

    Contrast changes by up to 40 %, exposure by up to 0.4 standard deviations. Never a mirror image.

    Parameters
    ----------
    x : torch.Tensor, float32 (b, 1, h, w), normalised
        Left as it is.
    generator : torch.Generator
        Source of the draws.
    """
    b = len(x)
    draws = torch.rand((6, b), generator=generator)
    angle, side = (draws[0] * 2 - 1) * (10.0 * torch.pi / 180.0), 0.6 + 0.4 * draws[1]
    cosine, sine = torch.cos(angle) * side, torch.sin(angle) * side
    across, down = (draws[2] * 2 - 1) * (1 - side), (draws[3] * 2 - 1) * (1 - side)
    theta = torch.stack([cosine, -sine, across, sine, cosine, down], dim=1).view(b, 2, 3)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    x = functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    contrast, exposure = 0.6 + 0.8 * draws[4], 0.8 * draws[5] - 0.4
    return x * contrast.view(b, 1, 1, 1) + exposure.view(b, 1, 1, 1)


def barlow_loss(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the loss of two batches of features, float32 (b, d); 0 where they correlate as the identity."""
    first, second = ((z - z.mean(0)) / (z.std(0) + 1e-5) for z in (first, second))
    correlation = first.T @ second / (len(first) - 1)
    on = (torch.diagonal(correlation) - 1).square().sum()
    off = correlation.square().sum() - torch.diagonal(correlation).square().sum()
    return on + REDUNDANCY * off


def pretrain(
    network: nn.Module,
    images: TrainingImages,
    epochs: int,
    *,
    seed: int,
    ledger: Ledger,
    description: str = "pretrain",
    precision: Precision = "auto",
) -> list[float]:
    """Train all but the head of a ResNet without labels, in place, on the CPU.

    Parameters
    ----------
    network : torch.nn.Module
        With a last layer ``fc``, which is left as it is.
    images : TrainingImages
        Of which the rows in ``train`` are taken; labels are not looked at.
    epochs : int
        Passes over it; each image is seen in two views a pass.
    seed : int
        Of the order, the views and the projector.
    ledger : Ledger
        Every row enters it as stage ``train``: what is learned without labels is learned, too.
    description : str
        Shown with the progress.
    precision : {"auto", "bfloat16", "float32"}
        Number format, see `leakfree.base.precision`.

    Returns
    -------
    list of float
        Mean loss of each epoch.

    Raises
    ------
    ValueError
        If the network has no layer ``fc``.
    TrainingError
        If the loss is no longer a number.
    """
    if not isinstance(getattr(network, "fc", None), nn.Linear):
        raise ValueError(f"{type(network).__name__} has no last layer fc: pretraining is for ResNet")
    cache, train = images.cache, images.train
    generator = seed_everything(seed)
    normalisation = Normalisation.fit(cache.pixels[train])
    head = network.fc
    assert isinstance(head, nn.Linear)
    width = head.in_features
    network.fc = nn.Identity()
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    projector = nn.Sequential(
        nn.Linear(width, WIDTH, bias=False),
        nn.BatchNorm1d(WIDTH),
        nn.ReLU(inplace=True),
        nn.Linear(WIDTH, WIDTH),
    )
    parameters = [*network.parameters(), *projector.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_RATE, weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=PEAK_RATE, total_steps=epochs * -(-len(train) // BATCH)
    )
    means = []
    with tqdm(total=epochs * len(train), desc=description, unit="image", mininterval=5) as progress:
        for epoch in range(1, epochs + 1):
            total = 0.0
            order = train[torch.randperm(len(train), generator=generator).numpy()]
            for ids, pixels in batches(cache, order, BATCH, ledger, "train"):
                x = normalisation.apply(pixels)
                with autocast(resolve(precision)):
                    features = [network(view(x, generator)) for _ in range(2)]
                loss = barlow_loss(*(projector(z.float()) for z in features))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                total += float(loss.detach()) * len(ids)
                progress.update(len(ids))
            means.append(total / len(train))
            if not np.isfinite(means[-1]):
                raise TrainingError(f"{description}: the loss of epoch {epoch} is not a number")
    network.fc = head
    return means
