"""Cut training images out anew: wide zooms, black grounds and other aspect ratios, drawn for each image.

A network can learn how images of a class are cropped instead of what is in them, and fails on images that are
cropped otherwise. Random crops of widely varying size and aspect ratio break that tie (as in Szegedy et al.,
"Going deeper with convolutions", CVPR 2015, section 6, there from 8 % to 100 % of the area). Here an image
may also be smaller than its frame.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

#: Zooms that are drawn, evenly on a logarithmic scale: under 1 the image stands on a black ground.
ZOOMS = (0.75, 1.5)
#: The two sides are zoomed apart by up to this factor.
ASPECT = 1.15
#: Degrees of rotation, and shifts in shares of a side beside those that a zoom leaves room for.
ANGLE, SHIFT = 7.0, 0.04


def reframe(x: torch.Tensor, generator: torch.Generator, black: float, exposure: float = 0.1) -> torch.Tensor:
    """Cut each image out anew, and change its contrast and exposure.

    Parameters
    ----------
    x : torch.Tensor, float32 (b, 1, h, w), normalised
    generator : torch.Generator
        Source of the draws; on the CPU, so that they are the same on every device.
    black : float
        What black is after normalisation: the ground that bared pixels get.
    exposure : float
        Largest change of contrast, as a share, and of exposure, in standard deviations.

    Returns
    -------
    torch.Tensor, float32 (b, 1, h, w)

    Examples
    --------
    >>> x = torch.zeros((2, 1, 8, 8))
    >>> reframe(x, torch.Generator().manual_seed(0), black=-2.0).shape
    torch.Size([2, 1, 8, 8])
    """
    b = len(x)
    draws = (torch.rand((7, b), generator=generator) * 2 - 1).to(x.device)
    middle, reach = (math.log(ZOOMS[1]) + math.log(ZOOMS[0])) / 2, math.log(ZOOMS[1] / ZOOMS[0]) / 2
    zoom = torch.exp(middle + reach * draws[0])
    apart = torch.exp(draws[1] * math.log(ASPECT) / 2)
    # Shares of the image that the frame spans: over 1, the image is smaller than its frame.
    wide, high = apart / zoom, 1 / (apart * zoom)
    # Wherever there is room: a crop lies anywhere in the image, a small image anywhere in its frame.
    right = draws[2] * ((1 - wide).abs() + 2 * SHIFT)
    down = draws[3] * ((1 - high).abs() + 2 * SHIFT)
    angle = draws[4] * (ANGLE * math.pi / 180)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    theta = torch.stack([cosine * wide, -sine * high, right, sine * wide, cosine * high, down], dim=1)
    grid = functional.affine_grid(theta.view(b, 2, 3), list(x.shape), align_corners=False)
    # What lies outside is sampled as 0: there black must be 0.
    x = functional.grid_sample(x - black, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    contrast, light = 1 + exposure * draws[5], exposure * draws[6]
    return x.add_(black).mul_(contrast.view(b, 1, 1, 1)).add_(light.view(b, 1, 1, 1))
