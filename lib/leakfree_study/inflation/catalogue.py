"""Every leak of the study: its place in the taxonomy, its two arms, and what they are scored on.

The taxonomy is that of Kapoor and Narayanan, "Leakage and the reproducibility crisis in
machine-learning-based science", Patterns 4, 2023, 100804.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from leakfree_study.inflation.plans import DOSES, dosed

#: Images that an arm is scored on, in each draw.
POPULATIONS = {
    "several": "one image of each tested patient with several images",
    "everyone": "the images of all tested patients, one each",
    "single": "the images of tested patients with a single image",
    "training": "the training images, each by the fold that held it out",
    "sample": "the test images of the selected sample with known sizes",
}


@dataclass(frozen=True)
class Leak:
    """One leak: a switch on an otherwise identical run.

    Attributes
    ----------
    protocol : str
        Short name.
    taxonomy : str
        Number in Kapoor and Narayanan's taxonomy; empty where it has none.
    title, leaky, clean : str
        What it is; what the leaky arm does; what the clean one does instead.
    family : str
        Family of jobs, see `leakfree_study.inflation.jobs.FAMILIES`.
    arms : tuple of (str, str, float)
        Names of the clean and of the leaky arm, and the dose.
    population : str
        Of `POPULATIONS`.
    metrics : tuple of str
        The first one is the primary metric where it is the task's.
    neighbour : bool
        Whether the nearest neighbour can have it.
    """

    protocol: str
    taxonomy: str
    title: str
    leaky: str
    clean: str
    family: str
    arms: tuple[tuple[str, str, float], ...]
    population: str
    metrics: tuple[str, ...] = ("roc_auc", "macro_f1")
    neighbour: bool = True


def _doses(name: str) -> tuple[tuple[str, str, float], ...]:
    return tuple(("clean", arm, dose) for arm, dose in zip(dosed(name), DOSES, strict=True))


LEAKS = (
    Leak(
        "no-test-set", "L1.1", "No separate test set",
        "every test image also trains: the reference study's ignored indices",
        "a training image of the same class in its place",
        "no-test-set", (("clean", "no-test-set", 1.0),), "everyone",
    ),
    Leak(
        "scaling", "L1.2", "Scaling fitted on all images",
        "mean and standard deviation of every feature measured on training and test images",
        "measured on training images",
        "scaling", (("scaling-train", "scaling-all", 1.0),), "everyone",
    ),
    Leak(
        "pca", "L1.2", "PCA fitted on all images",
        "50 principal components fitted on training and test images",
        "fitted on training images",
        "pca", (("pca-train", "pca-all", 1.0),), "everyone",
    ),
    Leak(
        "selection", "L1.3", "Features selected on all images",
        "the 100 features with the strongest F test on training and test images and their labels",
        "on training images and their labels",
        "selection", (("selection-train", "selection-all", 1.0),), "everyone",
    ),
    Leak(
        "exact", "L1.4", "Exact copies",
        "a copy of the test image trains", "an image of a patient of the same class in its place",
        "exact", _doses("exact"), "several",
    ),
    Leak(
        "near", "L1.4", "Near-duplicates",
        "a copy of the test image, encoded again, resized, brightened or shifted, trains",
        "an image of a patient of the same class in its place",
        "near", _doses("near"), "several",
    ),
    Leak(
        "oversampled", "L1.4", "Oversampled before the split",
        "images of the rarer classes repeated first, so that repeats of test images train",
        "repeated after the split: training images only",
        "oversample", (("oversampled-after", "oversampled-before", 1.0),), "everyone",
    ),
    Leak(
        "augmented", "L1.4", "Augmented before the split",
        "an augmented copy of every image made first; four in five of the test images' copies train",
        "copies of training images only",
        "augment", (("augmented-after", "augmented-before", 1.0),), "everyone",
    ),
    Leak(
        "size-and-mode", "L2", "Illegitimate features",
        "width, height, aspect and colour mode of the original file are inputs too",
        "the image alone",
        "size-and-mode", (("size-without", "size-with", 1.0),), "sample",
    ),
    Leak(
        "siblings", "L3.2", "The same patient on both sides",
        "other images of the test patients train",
        "as many images of other patients, matched in class and number",
        "siblings", _doses("siblings"), "several",
    ),
    Leak(
        "tuning", "L3.2", "Tuning folds that ignore patients",
        "settings chosen on folds of images", "chosen on folds of patients",
        "tuning", (("tuning-patients", "tuning-images", 1.0),), "everyone",
    ),
    Leak(
        "fold-scores", "L3.2", "Score of folds that ignore patients",
        "the score that folds of images report of themselves",
        "that folds of patients report, on the same images",
        "tuning", (("folds-patients", "folds-images", 1.0),), "training",
    ),
    Leak(
        "threshold", "", "Threshold chosen on test",
        "class weights with the best macro F1 on the test images", "on validation images",
        "clean", (("threshold-val", "threshold-test", 1.0),), "single", ("macro_f1",),
    ),
    Leak(
        "early-stopping", "", "Early stopping on test",
        "the epoch with the lowest loss on the test images is kept", "on validation images",
        "epochs", (("stopped-val", "stopped-test", 1.0),), "single", neighbour=False,
    ),
    Leak(
        "best-epoch", "", "Best test epoch reported",
        "test scored after every epoch, the best one reported", "the epoch with the best validation score",
        "epochs", (("best-epoch-val", "best-epoch-test", 1.0),), "single", neighbour=False,
    ),
)  # fmt: skip

#: Types of the taxonomy without a row of measurements, and why.
NOT_TESTABLE = {
    "L3.1": (
        "Temporal leakage",
        "not testable here, because neither names nor files tell when an image was taken",
    ),
    "L3.3": (
        "Sampling bias in the test set",
        "not testable here, because all images come from one hospital and nothing is known of who was left "
        "out; whether the official test part is drawn like training is asked of the source classifier",
    ),
}


def by_protocol(name: str) -> Leak:
    """Find a leak by its name; raises KeyError."""
    return {leak.protocol: leak for leak in LEAKS}[name]


#: What stands in the catalogue about chest X-rays, and instead of it in a study on other images.
_OWN = {
    "every test image also trains: the reference study's ignored indices": "every test image also trains",
    NOT_TESTABLE["L3.3"][1]: "not testable here, because nothing is known of who was left out",
}


def table(*, own: bool = False) -> pd.DataFrame:
    """Return the catalogue for readers, with the types that cannot be tested here.

    Parameters
    ----------
    own : bool
        For a study on other images than the chest X-rays of the compendium.
    """
    rows = [
        {
            "taxonomy": leak.taxonomy or "none",
            "leak": leak.title,
            "leaky arm": leak.leaky,
            "clean arm": leak.clean,
            "scored on": POPULATIONS[leak.population],
        }
        for leak in LEAKS
    ]
    rows += [
        {"taxonomy": number, "leak": title, "leaky arm": reason, "clean arm": "", "scored on": ""}
        for number, (title, reason) in NOT_TESTABLE.items()
    ]
    found = pd.DataFrame(rows)
    if own:
        found = found.replace(_OWN)
    return found.sort_values("taxonomy", key=lambda s: s.replace("none", "Z"), kind="stable")
