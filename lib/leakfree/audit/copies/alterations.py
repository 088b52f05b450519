"""Alter the pixels of an image as users do: the copies that an audit of a split has to find."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

from leakfree.data.images import open_image, to_grey

#: Every alteration, and what it is.
ALTERATIONS: dict[str, str] = {
    "reencoded": "copy encoded again as JPEG of quality 30 to 95",
    "resized": "copy at 0.5 to 0.8 or 1.25 to 2 times the size",
    "mirrored": "copy with left and right exchanged",
    "turned_90": "copy turned by 90, 180 or 270 degrees",
    "turned_5": "copy turned by 4 to 6 degrees either way, corners black",
    "brightened": "copy made brighter or darker, with more or less contrast",
    "inverted": "copy with black and white exchanged",
    "padded": "copy in a black frame of 5 to 10 % on every side, and larger by it",
    "shifted": "copy moved by 1 to 5 %, the rest black or the repeated edge",
    "cropped_4": "copy with 4 % of width and height cut off, at the old size",
    "cropped_10": "copy with 10 % of width and height cut off, at the old size",
}

#: Alterations that hide part of a picture or change its greys unevenly, as those do who hide names, print,
#: or prepare training: what is found of them is measured apart.
DISGUISES: dict[str, str] = {
    "painted_over": "copy with a bar along an edge, or a box, painted black or white",
    "letterboxed": "copy with black bars of 8 to 20 % on two sides that face each other, and larger by them",
    "gamma": "copy with a gamma of 0.5 to 0.75 or 1.33 to 2",
    "windowed": "copy with the darkest 5 to 20 % black, the brightest 5 to 20 % white, the rest stretched",
    "equalised": "copy with its contrast equalised place by place (CLAHE, clip limit 2 to 4)",
    "patch": "part of the picture, 60 to 80 % of its width and height, at its own scale",
}


def alter(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """Make an altered copy of an image, as users make them.

    Parameters
    ----------
    data : bytes
        Encoded file.
    kind : str
        One of `ALTERATIONS` or `DISGUISES`.
    rng : numpy.random.Generator
        Source of the strengths; the same state gives the same bytes.

    Returns
    -------
    bytes
        A JPEG, grey if the image is grey and RGB if it is RGB, of quality 75 to 95 (``reencoded``: 30 to 95).

    Raises
    ------
    ValueError
        If the kind is unknown.
    leakfree.data.images.ImageError
        If the bytes are no image.
    """
    return alter_and_tell(data, kind, rng)[0]


def alter_and_tell(data: bytes, kind: str, rng: np.random.Generator) -> tuple[bytes, str]:
    """Return the altered file and what was drawn for it."""
    if kind not in _DRAWN_BY:
        raise ValueError(f"no alteration of pixels: {kind!r}; known: {', '.join(_DRAWN_BY)}")
    image, drawn = _DRAWN_BY[kind](decode(data), rng)
    quality = int(rng.integers(30 if kind == "reencoded" else 75, 96))
    return encode(image, quality), f"{drawn} quality={quality}".strip()


def decode(data: bytes) -> Image.Image:
    """Decode to grey or RGB, turned by the EXIF orientation; raises `ImageError`."""
    image = open_image(data)
    if image.mode in ("L", "RGB"):
        return ImageOps.exif_transpose(image)
    if image.mode in ("P", "CMYK", "YCbCr") and "transparency" not in image.info:
        return ImageOps.exif_transpose(image).convert("RGB")
    return Image.fromarray(to_grey(data, None))


def encode(image: Image.Image, quality: int) -> bytes:
    """Encode as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def scaled(image: Image.Image, scale: float) -> Image.Image:
    """Resize both sides by one factor."""
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC)


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _resize(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, str]:
    scale = round(float(rng.uniform(0.5, 0.8) if rng.random() < 0.5 else rng.uniform(1.25, 2)), 3)
    return scaled(image, scale), f"scale={scale}"


def _turn_90(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, str]:
    angle = int(rng.choice([90, 180, 270]))
    return image.rotate(angle, expand=True), f"angle={angle}"


def _turn_5(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, str]:
    angle = round(_sign(rng) * float(rng.uniform(4, 6)), 2)
    # Black corners at the old size: what torchvision's RandomRotation leaves at its defaults.
    return image.rotate(angle, Image.Resampling.BILINEAR, expand=False, fillcolor=0), f"angle={angle}"


def _brighten(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, str]:
    pixels = np.asarray(image, dtype=np.float32)
    offset = _sign(rng) * float(rng.uniform(15, 40))
    contrast = float(rng.uniform(1.05, 1.25)) ** _sign(rng)
    inside = (pixels > 0) & (pixels < 255)
    for _ in range(5):  # an image that is dark or bright already is altered less, so that its detail stays
        changed = (pixels - pixels.mean()) * contrast + pixels.mean() + offset
        if (inside & ((changed < 0) | (changed > 255))).mean() <= 0.05:
            break
        offset, contrast = offset * 0.75, 1 + (contrast - 1) * 0.75
    changed = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
    return Image.fromarray(changed), f"offset={offset:.1f} contrast={contrast:.3f}"


def _pad(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, str]:
    share = round(float(rng.uniform(0.05, 0.10)), 3)
    x, y = max(1, round(image.width * share)), max(1, round(image.height * share))
    return ImageOps.expand(image, (x, y, x, y), fill=0), f"share={share}"


def _shift(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, str]:
    share, angle = float(rng.uniform(0.01, 0.05)), float(rng.uniform(0, 2 * np.pi))
    x = round(image.width * share * np.cos(angle))
    y = round(image.height * share * np.sin(angle))
    if x == 0 and y == 0:
        x = 1  # a small image and a small share
    fill = "edge" if rng.random() < 0.5 else "constant"
    pixels = np.asarray(image)
    widths = [(max(y, 0), max(-y, 0)), (max(x, 0), max(-x, 0)), (0, 0)][: pixels.ndim]
    padded = np.pad(pixels, widths, mode=fill)  # type: ignore[call-overload]
    top, left = max(-y, 0), max(-x, 0)
    moved = padded[top : top + image.height, left : left + image.width]
    return Image.fromarray(moved), f"x={x} y={y} fill={'edge' if fill == 'edge' else 'black'}"


def _crop(share: float) -> Callable[[Image.Image, np.random.Generator], tuple[Image.Image, str]]:
    def crop(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, str]:
        cut = [max(1, round(side * share)) for side in image.size]
        left, top = (int(rng.integers(0, c + 1)) for c in cut)
        box = (left, top, left + image.width - cut[0], top + image.height - cut[1])
        return image.resize(image.size, Image.Resampling.BICUBIC, box=box), f"left={left} top={top}"

    return crop


def _paint_over(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, str]:
    width, height = image.size
    if rng.random() < 0.5:  # a bar along the upper or the lower edge
        share = round(float(rng.uniform(0.06, 0.15)), 3)
        top = 0 if rng.random() < 0.5 else height - round(height * share)
        box = (0, top, width, top + round(height * share))
    else:
        across, down = (round(side * float(rng.uniform(0.15, 0.35))) for side in image.size)
        left, top = int(rng.integers(0, width - across + 1)), int(rng.integers(0, height - down + 1))
        box = (left, top, left + across, top + down)
    painted = image.copy()
    painted.paste("black" if rng.random() < 0.7 else "white", box)
    return painted, f"box={','.join(map(str, box))}"


def _letterbox(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, str]:
    share, across = round(float(rng.uniform(0.08, 0.20)), 3), rng.random() < 0.5
    x, y = (round(image.width * share), 0) if across else (0, round(image.height * share))
    return ImageOps.expand(image, (x, y, x, y), fill=0), f"x={x} y={y}"


def _by_table(image: Image.Image, table: np.ndarray) -> Image.Image:
    return image.point(np.rint(np.clip(table, 0, 255)).astype(int).tolist() * len(image.getbands()))


def _gamma(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, str]:
    gamma = round(float(rng.uniform(1.33, 2)) ** _sign(rng), 3)
    return _by_table(image, 255 * (np.arange(256) / 255) ** gamma), f"gamma={gamma}"


def _window(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, str]:
    below, above = rng.uniform(5, 20, 2)
    low, high = np.percentile(np.asarray(image.convert("L")), [below, 100 - above])
    return _by_table(
        image, (np.arange(256) - low) * (255 / max(high - low, 1))
    ), f"low={low:.0f} high={high:.0f}"


def _equalise(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, str]:
    import cv2

    limit = round(float(rng.uniform(2, 4)), 2)
    even = cv2.createCLAHE(limit, (8, 8)).apply(np.asarray(image.convert("L")))
    return Image.fromarray(even).convert(image.mode), f"limit={limit}"


def _patch(image: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, str]:
    share = round(float(rng.uniform(0.6, 0.8)), 3)
    width, height = round(image.width * share), round(image.height * share)
    left, top = int(rng.integers(0, image.width - width + 1)), int(rng.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height)), f"left={left} top={top} share={share}"


_DRAWN_BY: dict[str, Callable[[Image.Image, np.random.Generator], tuple[Image.Image, str]]] = {
    "reencoded": lambda image, rng: (image, ""),
    "resized": _resize,
    "mirrored": lambda image, rng: (ImageOps.mirror(image), ""),
    "turned_90": _turn_90,
    "turned_5": _turn_5,
    "brightened": _brighten,
    "inverted": lambda image, rng: (ImageOps.invert(image), ""),
    "padded": _pad,
    "shifted": _shift,
    "cropped_4": _crop(0.04),
    "cropped_10": _crop(0.10),
    "painted_over": _paint_over,
    "letterboxed": _letterbox,
    "gamma": _gamma,
    "windowed": _window,
    "equalised": _equalise,
    "patch": _patch,
}
