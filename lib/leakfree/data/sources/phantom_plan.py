"""The plan of the phantom cohort: its settings, names, patients, parts, sizes and planted leaks.

Names follow the ``chest_xray`` distribution, so every rule that reads patients from names works on them. The
numbers of images a patient are those counted in the names of the train folder of Kermany, Zhang and Goldbaum
(Mendeley Data, 2018, CC BY 4.0), with a patient read as (etiology or prefix, number).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

#: Patients with 1, 2, 3, ... images in the real train folder, by class.
IMAGES_A_PATIENT = {
    "normal": {1: 1141, 2: 13, 3: 54, 4: 3},
    "bacterial": {1: 923, 2: 182, 3: 83, 4: 46, 5: 40, 6: 32, 7: 20, 8: 12, 9: 3, 10: 4, 11: 4, 13: 1,
                  14: 2, 30: 1},
    "viral": {1: 947, 2: 101, 3: 19, 4: 7, 5: 7, 6: 3, 7: 1, 8: 1, 9: 3, 16: 1},
}  # fmt: skip
#: Share of the images of each class in the real train folder (1,341, 2,530 and 1,345 of 5,216).
CLASS_SHARE = {"normal": 0.257, "bacterial": 0.485, "viral": 0.258}
#: Share of the normal patients whose names begin with IM (the others: NORMAL2-IM), by part.
IM_SHARE = {"train": 0.43, "test": 0.29}
#: Folder of each label.
FOLDERS = {"normal": "NORMAL", "bacterial": "PNEUMONIA", "viral": "PNEUMONIA"}
#: Values of the column ``planted`` of the truth.
PLANTED = ("none", "exact_duplicate", "near_duplicate", "conflicting_label")


class PhantomSettings(BaseModel):
    """All settings of the phantom cohort; an unknown one raises.

    The strengths are 0 for none and 1 for the tuned default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    n_images: int = Field(720, ge=60)  # files, planted copies included
    size: int = Field(160, ge=24, le=1024)  # px, geometric mean of width and height over all images
    seed: int = Field(2018, ge=0)  # of everything
    identity: float = Field(1.0, ge=0, le=2)  # share of anatomy a patient keeps; over 1: larger differences
    disease: float = Field(1.0, ge=0, le=4)  # factor on the density of opacities; 0: labels carry no signal
    missing_identifiers: float = Field(0.03, ge=0, le=1)  # share of the originals whose names tell no patient
    exact_duplicates: int = Field(8, ge=0)  # byte-identical copies in train, as a patient of their own
    near_duplicates: int = Field(12, ge=0)  # copies in train, encoded again: moved 1.5 % at most, brighter
    conflicting_labels: int = Field(4, ge=0)  # byte-identical copies in train under the other binary label
    duplicates_across_parts: int = Field(
        0, ge=0
    )  # more exact copies, of train images in test; 0 as in reality
    size_shortcut: float = Field(
        1.0, ge=0, le=3
    )  # 1: size, aspect and mode alone give AUC 0.78, as in reality
    test_share: float = Field(0.11, gt=0, lt=0.5)  # of n_images; the real cohort: 624 of 5,840

    @model_validator(mode="after")
    def _room(self) -> PhantomSettings:
        if self.duplicates_across_parts > self.n_test - 3:
            raise ValueError(
                f"{self.duplicates_across_parts} duplicates across parts leave too few originals among "
                f"{self.n_test} test images"
            )
        if self.copies > self.n_train_originals:
            raise ValueError(
                f"{self.copies} planted copies need as many originals in train, {self.n_images} images leave "
                f"{self.n_train_originals}"
            )
        return self

    @property
    def copies(self) -> int:
        """Number of planted copies of every kind."""
        inside = self.exact_duplicates + self.near_duplicates + self.conflicting_labels
        return inside + self.duplicates_across_parts

    @property
    def n_test(self) -> int:
        """Number of images in the official test part, planted copies included."""
        return max(6, round(self.n_images * self.test_share))

    @property
    def n_train_originals(self) -> int:
        """Number of images in train without the planted copies there."""
        return self.n_images - self.n_test - (self.copies - self.duplicates_across_parts)


@dataclass(frozen=True)
class PlannedImage:
    """One file of the plan: what it is called, what its origin says, and what is drawn in it.

    ``label`` is the label that the file carries, ``drawn`` the label of the picture; they differ for a
    conflicting label. ``number`` is the image's running number, the second seed of the drawing beside
    ``patient_number``; a copy has those of its original.
    """

    file: str
    label: str
    part: str
    drawn: str
    patient: str
    patient_number: int
    number: int
    width: int = 0
    height: int = 0
    mode: str = "L"
    planted: str = "none"
    of: str | None = None
    missing_identifier: bool = False
    quality: int = 90
    shift: tuple[int, int] = (0, 0)
    gain: float = 1.0


def _class_counts(n: int) -> dict[str, int]:
    """Split `n` images over the classes by `CLASS_SHARE`, at least one each."""
    counts = {label: max(1, round(n * share)) for label, share in CLASS_SHARE.items()}
    counts["bacterial"] += n - sum(counts.values())
    return counts


def _patient_sizes(label: str, n: int, part: str, rng: np.random.Generator) -> list[int]:
    """Draw numbers of images a patient that sum to `n`; no patient holds more than an eighth of them."""
    values = np.array(list(IMAGES_A_PATIENT[label]))
    weights = np.array(list(IMAGES_A_PATIENT[label].values()), dtype=float)
    cap = max(3, n // 8)
    # The longest tail is one patient in thousands: a small cohort would miss it, so train gets it once.
    sizes = [min(int(values.max()), cap, n)] if part == "train" else []
    while sum(sizes) < n:
        drawn = int(rng.choice(values, p=weights / weights.sum()))
        sizes.append(min(drawn, cap, n - sum(sizes)))
    return sizes


def _names(label: str, numbers: tuple[str, int], count: int, first: int) -> list[str]:
    """Return the names of one patient's images; `first` is the running number of the etiology."""
    prefix, number = numbers
    if label == "normal":
        stem = f"{prefix}-{number:04d}-0001"
        return [f"{stem}.jpeg" if i == 0 else f"{stem}-{i:04d}.jpeg" for i in range(count)]
    return [f"person{number}_{prefix}_{first + i}.jpeg" for i in range(count)]


def _number_patients(groups: list[tuple[str, str]], rng: np.random.Generator) -> list[tuple[str, int]]:
    """Give (prefix, number) to each named patient, `groups` holding their (part, label).

    Numbers begin low in both parts and no (prefix, number) is in both, but bare numbers are. As in the real
    cohort, test has the first block of the viral and normal numbers, and of the bacterial ones a block after
    the first sixteenth.
    """
    series: dict[str, dict[str, list[int]]] = {}
    for i, (part, label) in enumerate(groups):
        if label == "normal":
            prefix = "IM" if rng.random() < IM_SHARE[part] else "NORMAL2-IM"
        else:
            prefix = {"bacterial": "bacteria", "viral": "virus"}[label]
        series.setdefault(prefix, {"train": [], "test": []})[part].append(i)
    result: list[tuple[str, int]] = [("", 0)] * len(groups)
    for prefix in sorted(series):
        parts = series[prefix]
        train, test = ([parts[p][j] for j in rng.permutation(len(parts[p]))] for p in ("train", "test"))
        before = -(-len(train) // 16) if prefix == "bacteria" else 0
        for number, i in enumerate(train[:before] + test + train[before:], start=1):
            result[i] = (prefix, number)
    return result


def _image_sizes(
    n: int, pneumonia: np.ndarray, settings: PhantomSettings, rng: np.random.Generator
) -> list[tuple[int, int, str]]:
    """Draw (width, height, mode) for each image; `pneumonia` is a (n,) bool array.

    The real normal images are larger (median 1,654 x 1,357 against 1,176 x 784) and less wide; a few of
    pneumonia are RGB. Shifts of about 0.76 standard deviations each in log size and log aspect give the real
    AUC of 0.78.
    """
    side = np.where(pneumonia, 1.0, -1.0) * settings.size_shortcut
    log_size = np.clip(rng.standard_normal(n), -2.2, 2.2) * 0.13 - 0.050 * side
    log_aspect = np.log(1.35) + np.clip(rng.standard_normal(n), -2.2, 2.2) * 0.12 + 0.046 * side
    width = settings.size * np.exp(log_size + log_aspect / 2)
    height = settings.size * np.exp(log_size - log_aspect / 2)
    rgb = np.zeros(n, dtype=bool)
    ill = rng.permutation(np.flatnonzero(pneumonia))
    rgb[ill[: round(0.05 * min(settings.size_shortcut, 1.0) * len(ill))]] = True
    return [
        (max(16, round(w)), max(16, round(h)), "RGB" if c else "L")
        for w, h, c in zip(width.tolist(), height.tolist(), rgb.tolist(), strict=True)
    ]


def _near(image: PlannedImage, rng: np.random.Generator) -> PlannedImage:
    """Return a near-duplicate: a slight shift, a little brighter, another JPEG quality."""
    most = max(1, round(0.015 * min(image.width, image.height)))
    shift = (int(rng.integers(-most, most + 1)), int(rng.integers(-most, most + 1)))
    return replace(
        image, shift=shift, gain=round(float(rng.uniform(1.02, 1.08)), 4), quality=int(rng.integers(75, 88))
    )


def _copies(
    settings: PhantomSettings, originals: list[PlannedImage], rng: np.random.Generator
) -> list[tuple[PlannedImage, int]]:
    """Return the planted copies, each with the position of its original: distinct ones, in train."""
    train = [i for i, image in enumerate(originals) if image.part == "train"]
    chosen = iter(rng.permutation(train).tolist())
    kinds = ["exact_duplicate"] * (settings.exact_duplicates + settings.duplicates_across_parts)
    kinds += ["near_duplicate"] * settings.near_duplicates + [
        "conflicting_label"
    ] * settings.conflicting_labels
    copies = []
    for k, (kind, position) in enumerate(zip(kinds, chosen, strict=False)):
        copy = replace(originals[position], planted=kind)
        if kind == "near_duplicate":
            copy = _near(copy, rng)
        elif kind == "conflicting_label":
            other = ("bacterial", "viral")[int(rng.random() < 0.35)] if copy.label == "normal" else "normal"
            copy = replace(copy, label=other)
        elif k < settings.duplicates_across_parts:
            copy = replace(copy, part="test")
        copies.append((copy, position))
    return copies


def make_plan(settings: PhantomSettings) -> list[PlannedImage]:
    """Plan the cohort without drawing it.

    Parameters
    ----------
    settings : PhantomSettings
        The settings.

    Returns
    -------
    list of PlannedImage
        Sorted by file, ``settings.n_images`` long.
    """
    # Streams of their own, so that a change of one setting leaves unrelated choices alone.
    streams = np.random.SeedSequence(settings.seed).spawn(5)
    sizing, stretching, planting, naming, hiding = (np.random.default_rng(s) for s in streams)

    images: list[PlannedImage] = []
    # One group is one patient as the names tell it: latent patients, then each copy as a patient of its own,
    # so that only the content gives a copy away.
    groups: list[tuple[str, str, list[int]]] = []
    originals = {
        "train": settings.n_train_originals,
        "test": settings.n_test - settings.duplicates_across_parts,
    }
    for part, n_part in originals.items():
        for label, n in _class_counts(n_part).items():
            for size in _patient_sizes(label, n, part, sizing):
                positions = list(range(len(images), len(images) + size))
                latent = f"{label}-{len(groups) + 1:05d}"
                images += [PlannedImage("", label, part, label, latent, len(groups), i) for i in positions]
                groups.append((part, label, positions))
    shapes = _image_sizes(len(images), np.array([i.label != "normal" for i in images]), settings, stretching)
    images = [replace(i, width=w, height=h, mode=m) for i, (w, h, m) in zip(images, shapes, strict=True)]
    n_originals = len(images)
    copies = _copies(settings, images, planting)
    for copy, _ in copies:
        groups.append((copy.part, copy.label, [len(images)]))
        images.append(copy)

    files = [""] * len(images)
    running = {"normal": 1, "bacterial": 1, "viral": 1}
    numbers = _number_patients([group[:2] for group in groups], naming)
    for g in sorted(range(len(groups)), key=numbers.__getitem__):
        part, label, positions = groups[g]
        for position, name in zip(
            positions, _names(label, numbers[g], len(positions), running[label]), strict=True
        ):
            files[position] = f"{part}/{FOLDERS[label]}/{name}"
        running[label] += len(positions)
    hidden = hiding.permutation(n_originals)[: round(settings.missing_identifiers * n_originals)].tolist()
    for scan, position in enumerate(hidden, start=1):
        folder = files[position].rpartition("/")[0]
        files[position] = f"{folder}/scan-{scan:05d}.jpeg"
        images[position] = replace(images[position], missing_identifier=True)

    planned = [replace(image, file=file) for image, file in zip(images, files, strict=True)]
    for k, (_, position) in enumerate(copies, start=n_originals):
        planned[k] = replace(planned[k], of=files[position])
    return sorted(planned, key=lambda image: image.file)
