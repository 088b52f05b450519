"""The findings of a run, one sentence each: its numbers are quotes, and a link leads to the evidence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from leakfree_study.book.quotes import Quotes
from leakfree_study.book.quoting import QuoteError

_NAME = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Finding:
    """What a run found.

    Attributes
    ----------
    title : str
        A few words that name it.
    sentence : str
        The finding, with names of `leakfree_study.book.quotes.QUOTES` in braces.
    evidence : str
        Markdown link, as a notebook of the run writes it.
    """

    title: str
    sentence: str
    evidence: str


FINDINGS = (
    Finding(
        "Copies",
        "A copy of the test image in training adds up to {exact_largest} to the ROC AUC.",
        "[every leak, by model and task](06_inflation.ipynb)",
    ),
    Finding(
        "A score on training images",
        "A network that is tested on its own training images has a macro F1 of {reference_fault}; "
        "on patients that it was not trained on it has {reference_right}.",
        "[the public study, measured again](06_reanalysis.ipynb)",
    ),
    Finding(
        "The same patient",
        "Other images of the tested patients add up to {siblings_largest} if every one of them leaks, and up "
        "to {natural_largest} in a random split of images.",
        "[dose and response](06_inflation.ipynb)",
    ),
    Finding(
        "The same patient, for a trained network",
        "A ResNet18 gains {siblings_network} if every tested patient leaks; after adjustment for all "
        "comparisons the verdict is: {siblings_network_verdict}.",
        "[trained networks](06_inflation.ipynb)",
    ),
    Finding(
        "Preprocessing",
        "Scaling and PCA that saw the test images, and tuning on folds that ignore patients, change the ROC "
        "AUC by {inflation_preprocessing}.",
        "[every leak, by model and task](06_inflation.ipynb)",
    ),
    Finding(
        "Framing",
        "The outer ring of the images, without the middle, tells normal from pneumonia with a ROC AUC of "
        "{framing_ring}, and the ratio of width to height alone with {shape_alone}.",
        "[what framing does, and what helps](05_reframed.ipynb)",
    ),
    Finding(
        "Outside this folder",
        "The published network has an accuracy of {published_accuracy} on other patients of these images, "
        "and of {published_official_accuracy} on the official test.",
        "[the official test](05_leakfree_deep.ipynb)",
    ),
    Finding(
        "Patients on both sides",
        "A random 80/20 split of the images puts {overlap_series} patients on both sides.",
        "[under each rule of who is a patient](02_leakage_analysis.ipynb)",
    ),
    Finding(
        "All comparisons",
        "Of {n_comparisons} comparisons of a ROC AUC with and without a leak, {n_no_difference} show no "
        "difference to within the margin, {n_undecided} stay undecided, and the others show a difference.",
        "[the tables of all comparisons](06_inflation.ipynb)",
    ),
)


def found(folder: Path) -> str:
    """Write the findings of a run as a numbered list, and name those that it did not measure.

    Parameters
    ----------
    folder : pathlib.Path
        Of the run.

    Returns
    -------
    str
        Markdown.
    """
    quotes, lines, missing = Quotes(folder), [], []
    for finding in FINDINGS:
        try:
            texts = {name: quotes[name] for name in _NAME.findall(finding.sentence)}
        # A run of another size may have the number more than once, or not at all.
        except QuoteError:
            texts = {}
        if texts and all(text.present for text in texts.values()):
            said = finding.sentence.format(**{name: f"**{text.text}**" for name, text in texts.items()})
            lines.append(f"{len(lines) + 1}. *{finding.title}.* {said} Evidence: {finding.evidence}.")
        else:
            missing.append(finding.title.lower())
    if missing:
        lines.append(f"\nNot measured in this run: {'; '.join(missing)}.")
    return "\n".join(lines)
