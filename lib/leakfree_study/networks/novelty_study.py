"""Measure the novelty score: how often it warns of images, of changed ones, and of pictures that are none."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from scipy.stats import binomtest
from sklearn.datasets import load_sample_images

from leakfree.data.cohort import SEALED_PART
from leakfree.data.patients import patient_ids
from leakfree.predict.novelty import Novelty
from leakfree_study.networks.reframed import FramedImages
from leakfree_study.run.cells import Result
from leakfree_study.run.run import Run

#: Pictures of each kind that is made or cut out.
_EACH = 50


def changed_images(images: np.ndarray) -> dict[str, np.ndarray]:
    """Change images, uint8 (n, size, size), as a hurried sender might; each kind has as many."""
    size = images.shape[1]

    def each(change: object) -> np.ndarray:
        return np.stack([np.asarray(change(Image.fromarray(pixels))) for pixels in images])

    def quarter(image: Image.Image) -> Image.Image:
        return image.crop((0, 0, size // 2, size // 2)).resize((size, size), Image.Resampling.BILINEAR)

    return {
        "mirrored": images[:, :, ::-1],
        "turned by 7 degrees": each(lambda image: image.rotate(7, Image.Resampling.BILINEAR)),
        "upside down": images[:, ::-1, ::-1],
        "turned by 90 degrees": np.rot90(images, 1, (1, 2)),
        "negative": 255 - images,
        "a quarter of the image": each(quarter),
    }


def strangers(size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Make pictures that are no images, uint8 (n, size, size): photographs, text, noise, plain grey.

    Parameters
    ----------
    size : int
        Side in pixels.
    seed : int
    """
    rng = np.random.default_rng(seed)
    # Two photographs that scikit-learn ships, a temple and a flower.
    photographs = [
        _cut(Image.fromarray(picture).convert("L"), size, rng)
        for picture in load_sample_images().images
        for _ in range(_EACH // 2)
    ]
    coarse = rng.integers(0, 256, (_EACH, 6, 6), dtype=np.uint8)
    return {
        "photographs": np.stack(photographs),
        "text": np.stack([_page(size, rng) for _ in range(_EACH)]),
        "clouds": np.stack(
            [np.asarray(Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC)) for c in coarse]
        ),
        "noise": rng.integers(0, 256, (_EACH, size, size), dtype=np.uint8),
        "plain grey": np.stack(
            [np.full((size, size), grey, np.uint8) for grey in np.linspace(0, 255, _EACH).astype(np.uint8)]
        ),
    }


def warnings_by_kind(
    run: Run, network: Result, novelty: Novelty, *, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Measure how often the novelty score of a network warns of images of the run that set nothing in it.

    Those are the internal test, the conformal part and, without their labels, the images of the sealed part.

    Parameters
    ----------
    run : Run
        With its images.
    network : Result
        Whose split the score was fitted on.
    novelty : Novelty
    n_resamples, seed : int

    Returns
    -------
    pandas.DataFrame
        As `novelty_table`.
    """
    size, scope = network.cell.image_size, network.cell.scope
    cache, shown = run.pixels(size), {}
    for group, part in (("internal test", "test"), ("conformal part", "conformal")):
        kept = network.read(part)
        shown[group] = (cache.pixels[cache.rows(kept.image_ids)], kept.patients)
    sealed = run.cohort.table[run.cohort.table["part"] == SEALED_PART]
    if len(sealed):
        others = run.sealed_pixels(size)
        shown["official test"] = (
            others.pixels[others.rows(sealed["image_id"])],
            patient_ids(sealed, scope),
        )
    return novelty_table(novelty, shown, size, n_resamples=n_resamples, seed=seed)


def novelty_table(
    novelty: Novelty,
    images: Mapping[str, tuple[np.ndarray, np.ndarray]],
    size: int,
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how often the score warns.

    Parameters
    ----------
    novelty : Novelty
    images : mapping of str to (numpy.ndarray, numpy.ndarray)
        By group: images uint8 (n, size, size) that it was not fitted on, and their patients (n,). The first
        group is also changed in several ways.
    size : int
        Side of the pictures that are no images, in pixels.
    n_resamples, seed : int

    Returns
    -------
    pandas.DataFrame
        ``kind`` (image, changed image, no image), ``group``, ``warned`` (share), ``low, high``, ``n_images``,
        ``n_patients``, ``seed``. Intervals of 95 %: percentile bootstrap over patients; Clopper and Pearson's
        for what has none.
    """
    shown = [("film", group, *pair) for group, pair in images.items()]
    some, patients = next(iter(images.values()))
    shown += [
        ("changed image", group, pictures, patients) for group, pictures in changed_images(some).items()
    ]
    shown += [("no image", group, pictures, None) for group, pictures in strangers(size, seed).items()]
    rows = []
    for number, (kind, group, pictures, owners) in enumerate(shown):
        warned = novelty.score(pictures) > 1
        if owners is None:
            interval = binomtest(int(warned.sum()), len(warned)).proportion_ci()
            low, high, n_patients = interval.low, interval.high, 0
        else:
            low, high, n_patients = _over_patients(warned, owners, n_resamples, [seed, number])
        rows.append((kind, group, warned.mean(), low, high, len(warned), n_patients, seed))
    columns = ["kind", "group", "warned", "low", "high", "n_images", "n_patients", "seed"]
    return pd.DataFrame(rows, columns=columns)


def framing_warnings(
    images: FramedImages, network: Result, novelty: Novelty, *, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Measure how often the service warns of images of the internal test that are framed otherwise.

    Parameters
    ----------
    images : FramedImages
        Of the test part.
    network : Result
    novelty : Novelty
    n_resamples, seed : int

    Returns
    -------
    pandas.DataFrame
        ``framed``, then the share warned of as ``framing`` (by the guess of the zoom), ``novelty`` and
        ``either``, each with ``_low`` and ``_high`` over patients, and ``n_images, n_patients``. Empty where
        the zoom is not guessed.
    """
    owners = dict(zip(network.read("test").image_ids, network.read("test").patients, strict=True))
    rows = []
    for framing in images.framings if novelty.zoom is not None else ():
        cache = images.of(network.cell.image_size, framing)
        odd = novelty.zoom.odd(novelty.zoom.guess(cache.pixels))
        strange = novelty.score(cache.pixels) > 1
        patients = np.array([owners[image_id] for image_id in cache.ids], dtype=object)
        row: dict[str, object] = {"framed": framing.name}
        for name, warned in (("framing", odd), ("novelty", strange), ("either", odd | strange)):
            low, high, n_patients = _over_patients(warned, patients, n_resamples, [seed])
            row |= {name: warned.mean(), f"{name}_low": low, f"{name}_high": high}
        rows.append(row | {"n_images": len(patients), "n_patients": n_patients})
    return pd.DataFrame(rows)


def _over_patients(
    warned: np.ndarray, patients: np.ndarray, n_resamples: int, seed: list[int]
) -> tuple[float, float, int]:
    names, patient = np.unique(patients.astype(str), return_inverse=True)
    images, hits = np.bincount(patient), np.bincount(patient, warned)
    drawn = np.random.default_rng(seed).integers(len(names), size=(n_resamples, len(names)))
    low, high = np.quantile(hits[drawn].sum(axis=1) / images[drawn].sum(axis=1), [0.025, 0.975])
    return float(low), float(high), len(names)


def _cut(picture: Image.Image, size: int, rng: np.random.Generator) -> np.ndarray:
    side = int(rng.integers(size, min(picture.size) + 1))
    left, top = (int(rng.integers(0, length - side + 1)) for length in picture.size)
    piece = picture.crop((left, top, left + side, top + side))
    return np.asarray(piece.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))


def _page(size: int, rng: np.random.Generator) -> np.ndarray:
    page = Image.new("L", (4 * size, 4 * size), 255)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=max(10, size // 4))
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz     "))
    for top in range(0, 4 * size, size // 3 or 1):
        draw.text((4, top), "".join(rng.choice(letters, 40)), fill=0, font=font)
    return np.asarray(page.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))
