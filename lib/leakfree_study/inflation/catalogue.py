"""Every leak of the study: its place in the taxonomy, its two arms, and what they are scored on.

The taxonomy is that of Kapoor and Narayanan, "Leakage and the reproducibility crisis in
machine-learning-based science", Patterns 4, 2023, 100804.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from leakfree_study.inflation.jobs import DOSES

#: Films that an arm is scored on, in each draw.
POPULATIONS = {
    "several": "one film of each tested patient with several films",
    "everyone": "the films of all tested patients, one each",
    "single": "the films of tested patients with a single film",
    "training": "the training films, each by the fold that held it out",
    "sample": "the test films of the selected sample with known sizes",
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
    return tuple(("clean", f"{name}-{dose * 100:.0f}", dose) for dose in DOSES)


LEAKS = (
    Leak(
        "no-test-set", "L1.1", "No separate test set",
        "every test film also trains: the reference study's ignored indices",
        "a training film of the same class in its place",
        "no-test-set", (("clean", "no-test-set", 1.0),), "everyone",
    ),
    Leak(
        "scaling", "L1.2", "Scaling fitted on all films",
        "mean and standard deviation of every feature measured on training and test films",
        "measured on training films",
        "scaling", (("scaling-train", "scaling-all", 1.0),), "everyone",
    ),
    Leak(
        "pca", "L1.2", "PCA fitted on all films",
        "50 principal components fitted on training and test films",
        "fitted on training films",
        "pca", (("pca-train", "pca-all", 1.0),), "everyone",
    ),
    Leak(
        "selection", "L1.3", "Features selected on all films",
        "the 100 features with the strongest F test on training and test films and their labels",
        "on training films and their labels",
        "selection", (("selection-train", "selection-all", 1.0),), "everyone",
    ),
    Leak(
        "exact", "L1.4", "Exact copies",
        "a copy of the test film trains", "a film of a patient of the same class in its place",
        "exact", _doses("exact"), "several",
    ),
    Leak(
        "near", "L1.4", "Near-duplicates",
        "a copy of the test film, encoded again, resized, brightened or shifted, trains",
        "a film of a patient of the same class in its place",
        "near", _doses("near"), "several",
    ),
    Leak(
        "oversampled", "L1.4", "Oversampled before the split",
        "films of the rarer classes repeated first, so that repeats of test films train",
        "repeated after the split: training films only",
        "oversample", (("oversampled-after", "oversampled-before", 1.0),), "everyone",
    ),
    Leak(
        "augmented", "L1.4", "Augmented before the split",
        "an augmented copy of every film made first; four in five of the test films' copies train",
        "copies of training films only",
        "augment", (("augmented-after", "augmented-before", 1.0),), "everyone",
    ),
    Leak(
        "size-and-mode", "L2", "Illegitimate features",
        "width, height, aspect and colour mode of the original file are inputs too",
        "the film alone",
        "size-and-mode", (("size-without", "size-with", 1.0),), "sample",
    ),
    Leak(
        "siblings", "L3.2", "The same patient on both sides",
        "other films of the test patients train",
        "as many films of other patients, matched in class and number",
        "siblings", _doses("siblings"), "several",
    ),
    Leak(
        "tuning", "L3.2", "Tuning folds that ignore patients",
        "settings chosen on folds of films", "chosen on folds of patients",
        "tuning", (("tuning-patients", "tuning-images", 1.0),), "everyone",
    ),
    Leak(
        "fold-scores", "L3.2", "Score of folds that ignore patients",
        "the score that folds of films report of themselves",
        "that folds of patients report, on the same films",
        "tuning", (("folds-patients", "folds-images", 1.0),), "training",
    ),
    Leak(
        "threshold", "", "Threshold chosen on test",
        "class weights with the best macro F1 on the test films", "on validation films",
        "clean", (("threshold-val", "threshold-test", 1.0),), "single", ("macro_f1",),
    ),
    Leak(
        "early-stopping", "", "Early stopping on test",
        "the epoch with the lowest loss on the test films is kept", "on validation films",
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
        "not testable here, because neither names nor files tell when a film was taken",
    ),
    "L3.3": (
        "Sampling bias in the test set",
        "not testable here, because all films come from one hospital and nothing is known of who was left "
        "out; whether the official test part is drawn like training is asked of the source classifier",
    ),
}


def by_protocol(name: str) -> Leak:
    """Find a leak by its name; raises KeyError."""
    return {leak.protocol: leak for leak in LEAKS}[name]


#: What stands in the catalogue about chest films, and instead of it in a study on other images.
_OWN = {
    "every test film also trains: the reference study's ignored indices": "every test film also trains",
    NOT_TESTABLE["L3.3"][1]: "not testable here, because nothing is known of who was left out",
}


def table(*, own: bool = False) -> pd.DataFrame:
    """Return the catalogue for readers, with the types that cannot be tested here.

    Parameters
    ----------
    own : bool
        For a study on other images than the chest films of the compendium.
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
