"""Every number that prose quotes, once, by name; pages say ``{quote}`name```, and README is checked.

``python -m leakfree_study.book.prose README.md`` says where a file does not agree with the run;
``--write`` renews it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from leakfree_study.book.quoting import NOT_MEASURED, PREREGISTRATION, SEALED, Lookup, Quote

_INTERVAL = "{estimate:.3f} ({low:.3f} to {high:.3f})"
_SIGNED = "{estimate:+.3f} ({low:+.3f} to {high:+.3f})"
_RANGE = "{estimate.min:+.3f} to {estimate.max:+.3f}"
_FAULT = "{fault:.3f} ({fault_low:.3f} to {fault_high:.3f})"
_RIGHT = "{right:.3f} ({right_low:.3f} to {right_high:.3f})"
_OVERLAP = "{shared:.0f} ({shared_min:,d} to {shared_max:,d})"
_LIKENESS = "{percentile:.2f} ({low:.2f} to {high:.2f})"

_MACRO_F1 = "{macro_f1:.3f} ({macro_f1_low:.3f} to {macro_f1_high:.3f})"
_IMAGENET = {"model": "efficientnet-lite0", "weights": "imagenet"}
_CLAIM = {"notebook": "leak-free deep", "model": "ResNet18, ImageNet weights"}
#: Our training of that model; the fault is the other protocol.
_REPEATED = {"model": "resnet18", "weights": "scratch"}
_LEAKY_CLAIM = {"notebook": "leaky CNN", "metric": "roc_auc"}
#: The comparisons that the study counts: the primary metric, all tested patients leaked; pages count ROC AUC.
_FULL = {"primary": "True", "dose": 1}
_COMPARED = _FULL | {"metric": "roc_auc"}
_NETWORK = _COMPARED | {"protocol": "siblings", "model": "resnet18", "task": "etiology"}
_PERSON = {"scope": "person"}
_SPLIT = "patients in both parts, {} 80/20 split"
_TRAIN = {"part": "train"}
#: The network that is published now, and the one that was before.
_PUBLISHED = {"task": "binary", "model": "resnet18-reframed", "seed": 42}
_PUBLISHED_TEST = _PUBLISHED | {"image_size": 64, "part": "test", "metric": "roc_auc"}
_BEFORE = {"task": "binary", "model": "resnet18", "seed": 42}
_FIRST = _BEFORE | {"opening": 1}
_SECOND = _PUBLISHED | {"opening": 2}
_GOALS = {"network": "resnet18-reframed, seed 42"}
_RING = {"question": "normal or pneumonia", "looked_at": "ring"}
_AFTER, _ALL = _PUBLISHED | {"when": "after"}, _PUBLISHED | {"group": "all"}
_ECE = "{ece:.3f} ({low:.3f} to {high:.3f})"
_COVERAGE = "{coverage:.3f} ({low:.3f} to {high:.3f})"
_WORST = "{worst:.3f} ({low:.3f} to {high:.3f})"
_RATES = {
    "accuracy": "accuracy", "auc": "roc_auc", "sensitivity": "sensitivity", "specificity": "specificity"
}  # fmt: skip
_HIDDEN = {"metric": "roc_auc", "hidden": "lungs"}
_NAMES = {
    "xgboost": "XGBoost",
    "random_forest": "random forest",
    "logistic_regression": "logistic regression",
    "resnet18": "ResNet18",
    "resnet18-reframed": "ResNet18, trained against framing",
    "efficientnet-lite0": "EfficientNet-Lite0",
    "efficientnet-lite0-imagenet": "EfficientNet-Lite0",
    "efficientnet-lite0-reframed": "EfficientNet-Lite0, trained against framing",
    "simple-cnn-32": "SimpleCNN",
}
_SYNTHETIC = "phantom, synthetic images whose numbers say nothing about patients"


def _selected(task: str, metric: str) -> dict[str, object]:
    return {"task": task, "selected": "True", "metric": metric}


def _sealed(table: str, form: str, where: dict, **more: object) -> Quote:
    """Return a quote of what a run has only after its sealed test was opened."""
    return Quote(table, form, where, absent=SEALED, **more)


def _opened(task: str, metric: str, selected: str) -> Quote:
    """Return the score of a selected model on the official test."""
    return _sealed("05_official", _INTERVAL, {"task": task, "metric": metric}, model_of=selected)


def _inflation(protocol: str | tuple[str, ...], form: str = _RANGE, **more: object) -> Quote:
    return Quote("inflation", form, {"protocol": protocol, **_FULL}, absent=NOT_MEASURED, **more)


def _measured(table: str, form: str, where: dict | None = None, **more: object) -> Quote:
    """Return a quote of what a run may lack: another cohort, `--only`, a small profile."""
    return Quote(table, form, where or {}, absent=NOT_MEASURED, **more)


def _audit(split: str, check: str, form: str = "{summary}") -> Quote:
    return _measured("02_audit", form, {"split": split, "check": check})


def _setting(notebook: str, parameter: str) -> Quote:
    return _measured("provenance.json", f"{{notebooks.{notebook}.parameters.{parameter}}}")


def _starts(column: str, text: str) -> Callable[[pd.DataFrame], pd.Series]:
    return lambda rows: rows[column].str.startswith(text)


def _processors(keep: Callable[[pd.DataFrame], pd.Series]) -> Quote:
    return _measured("06_processors", "{difference.absmax:.4f}", keep=keep)


def _judged(rows: pd.DataFrame) -> pd.Series:
    return (rows["protocol"] != "") & (rows["verdict_here"] != "")


QUOTES = {
    # The run.
    "cohort": Quote(
        "provenance.json",
        "{data.name}",
        words={"phantom": _SYNTHETIC, "chest_xray": "chest_xray, real X-rays"},
    ),
    "profile": Quote("provenance.json", "{notebooks.results.parameters.profile}", absent="unknown"),
    "n_images": Quote("provenance.json", "{data.images:,d}"),
    "n_images_train": _measured("01_classes", "{images.sum:,d}", _TRAIN),
    "n_images_official": _measured("01_classes", "{images.sum:,d}", {"part": "test"}),
    **{
        f"{name}_{label}": _measured("01_classes", "{images:,d}", {"part": part, "label": label})
        for name, part in (("n", "train"), ("n_official", "test"))
        for label in ("normal", "bacterial", "viral")
    },
    # How it was made.
    "cores": _measured("provenance.json", "{machine.cores}"),
    "system": _measured("provenance.json", "{machine.system}"),
    "python": _measured("provenance.json", "{versions.python}"),
    "reference_size": _setting("04_leakfree_classical", "reference_size"),
    "small_size": _setting("04_leakfree_classical", "image_size"),
    "folds": _setting("04_leakfree_classical", "folds"),
    "epochs": _setting("05_leakfree_deep", "epochs"),
    "patience": _setting("05_leakfree_deep", "patience"),
    "seeds": _setting("05_leakfree_deep", "seeds"),
    "draws": _setting("06_inflation", "draws"),
    "resamples": _setting("06_inflation", "resamples:,d"),
    "coverage_studies": _setting("06_checks", "studies:,d"),
    **{
        f"{part}_share": _measured(
            "manifests/05-patient-level-binary.json", f"{{settings.fractions.{part}:.0 %}}"
        )
        for part in ("train", "val", "test")
    },
    # Who is a patient.
    "patients_series": _measured("01_scopes", "{patients:,d}", {"scope": "series"}),
    "n_several": _measured("01_scopes", "{with_several_images:,d}", {"scope": "series"}),
    **{
        f"missing_{label}": _measured(
            "01_missing_identifiers", "{images_without_identifier:,d}", {"label": label}
        )
        for label in ("normal", "bacterial", "viral")
    },
    "numbers": _measured(
        "reference_counts", "{observed:,d}", {"name": "distinct patient numbers", **_PERSON}
    ),
    "numbers_on_both": _measured("06_person_collisions", "{observed:,d}", _TRAIN | {"null": "shifts"}),
    "numbers_on_both_expected": _measured(
        "06_person_collisions", "{expected:.0f} ({low:.0f} to {high:.0f})", _TRAIN | {"null": "shifts"}
    ),
    "numbers_on_both_all": _measured(
        "06_person_collisions", "{observed:,d}", {"part": "all", "null": "shifts"}
    ),
    "rising_bacteria": _measured(
        "06_person_counters", "{share_rising:.0 %}", _TRAIN | {"etiology": "bacteria"}
    ),
    "rising_virus": _measured("06_person_counters", "{share_rising:.0 %}", _TRAIN | {"etiology": "virus"}),
    "rising_pooled": _measured("06_person_counters", "{share_rising:.0 %}", _TRAIN | {"etiology": "pooled"}),
    "alike_same_patient": _measured("06_person_likeness", _LIKENESS, {"pairs_of": "same series"}),
    "alike_same_number": _measured("06_person_likeness", _LIKENESS, {"pairs_of": "across, same number"}),
    "alike_next_number": _measured("06_person_likeness", _LIKENESS, {"pairs_of": "across, next number"}),
    # What splits and folders share.
    "overlap_series": _measured("02_overlap", _OVERLAP, {"split": "plain", "scope": "series"}),
    "overlap_seeds": _measured("02_overlap", "{seeds:,d}", {"split": "plain", "scope": "series"}),
    "overlap_person": _measured("02_overlap", _OVERLAP, {"split": "plain", **_PERSON}),
    "overlap_merged": _measured("02_overlap", _OVERLAP, {"split": "plain", "scope": "merged"}),
    "overlap_reference": _measured(
        "reference_counts", "{observed:,d}", {"name": _SPLIT.format("plain"), **_PERSON}
    ),
    "overlap_reference_stratified": _measured(
        "reference_counts", "{observed:,d}", {"name": _SPLIT.format("stratified"), **_PERSON}
    ),
    "official_shared_series": _measured("02_official", "{shared:,d}", {"scope": "series"}),
    "official_shared_person": _measured("02_official", "{shared:,d}", _PERSON),
    "official_shared_merged": _measured("02_official", "{shared:,d}", {"scope": "merged"}),
    "identical_groups": _measured("audit/official-parts.json", "{checks.exact_duplicates.count:,d}"),
    "identical_groups_across": _measured(
        "audit/official-parts.json", "{checks.exact_duplicates.across_parts.count:,d}"
    ),
    "near_groups": _audit("official parts", "near_duplicates", "{count:,d}"),
    "official_shift": _audit("official parts", "shift"),
    "shortcuts": _audit("linked-group split", "shortcuts"),
    "clean_copies": _audit("linked-group split", "exact_duplicates", "{across_parts:,d}"),
    "clean_shared": _measured("02_clean_split", "{train and test:,d}", {"scope": "series"}),
    "clean_shared_merged": _measured("02_clean_split", "{train and test:,d}", {"scope": "merged"}),
    # The study that this one answers.
    "reference_claim": _measured("06_claims", "{claim:.4f}", _CLAIM),
    "reference_fault": _measured("06_claims", _FAULT, _CLAIM),
    "reference_fault_films": _measured("06_claims", "{fault_n_images:,d}", _CLAIM),
    "reference_right": _measured("06_claims", _RIGHT, _CLAIM),
    "reference_right_trained": _measured("06_reanalysis", "{n_train:,d}", _REPEATED | {"protocol": "clean"}),
    # The same fault and its absence with real ImageNet weights, on one budget.
    "imagenet_fault": _measured("06_reanalysis", _MACRO_F1, _IMAGENET | {"protocol": "no-test-set"}),
    "imagenet_right": _measured("06_reanalysis", _MACRO_F1, _IMAGENET | {"protocol": "clean"}),
    "reference_right_patients": _measured("06_claims", "{right_n_patients:,d}", _CLAIM),
    "leaky_claim": _measured("06_claims", "{claim:.3f}", _LEAKY_CLAIM),
    "leaky_fault": _measured("06_claims", _FAULT, _LEAKY_CLAIM),
    "leaky_right": _measured("06_claims", _RIGHT, _LEAKY_CLAIM),
    # Scores on patients that no part of the training saw.
    "classical_model": _measured(
        "04_scores",
        "{model}",
        _selected("etiology", "macro_f1"),
        words=_NAMES,
    ),
    "classical_f1": _measured("04_scores", _INTERVAL, _selected("etiology", "macro_f1")),
    "selected_model": _measured("05_scores", "{model}", _selected("binary", "accuracy"), words=_NAMES),
    "selected_kind": _measured(
        "05_scores",
        "{seed}",
        _selected("binary", "accuracy"),
        words={"ensemble": "the mean of several seeds", "*": "one seed"},
    ),
    "selected_accuracy": _measured("05_scores", _INTERVAL, _selected("binary", "accuracy")),
    "selected_auc": _measured("05_scores", _INTERVAL, _selected("binary", "roc_auc")),
    "three_class_f1": _measured("05_scores", _INTERVAL, _selected("three-class", "macro_f1")),
    "official_accuracy": _opened("binary", "accuracy", "selected_accuracy"),
    "official_auc": _opened("binary", "roc_auc", "selected_accuracy"),
    "official_three_class_f1": _opened("three-class", "macro_f1", "three_class_f1"),
    "kermany_accuracy": _sealed(
        "05_beside_published", "{estimate:.3f}", {"who": "Kermany et al. 2018", "metric": "accuracy"}
    ),
    "openings": _sealed("05_framing_official", "{opening.max:,d}", {}),
    # The weights that are published: those of one seed.
    **{
        f"published_{name}": _measured("05_framing_scores", _INTERVAL, _PUBLISHED | {"metric": metric})
        for name, metric in _RATES.items()
    },
    **{
        f"published_official_{name}": _sealed("05_framing_official", _INTERVAL, _SECOND | {"metric": metric})
        for name, metric in _RATES.items()
    },
    "published_ece": _measured("05_framing_calibration_error", _ECE, _AFTER | {"part": "internal"}),
    "published_official_ece": _sealed("05_framing_calibration_error", _ECE, _AFTER | {"part": "official"}),
    "published_coverage": _measured("05_framing_coverage", _COVERAGE, _ALL | {"part": "internal"}),
    "published_official_coverage": _sealed("05_framing_coverage", _COVERAGE, _ALL | {"part": "official"}),
    # What framing tells, and what a network makes of it.
    "framing_ring": _measured("05_framing", _INTERVAL, _RING),
    "framing_top": _measured("05_framing", _INTERVAL, _RING | {"looked_at": "top"}),
    "framing_inside_normal": _measured(
        "05_framing", _INTERVAL, {"question": "train or test, among normal images"}
    ),
    "framing_inside_ill": _measured(
        "05_framing", _INTERVAL, {"question": "train or test, among pneumonia images"}
    ),
    **{
        f"{who}_zoomed_{rate}": _measured(
            "05_framing_curves", _INTERVAL, network | {"framing": "zoom 1.2", "metric": rate}
        )
        for who, network in (("before", _BEFORE), ("published", _PUBLISHED))
        for rate in ("sensitivity", "specificity")
    },
    "framing_worst_usual": _measured("05_framing_ablation", _WORST, {"recipe": "resnet18-usual"}),
    "framing_worst_chosen": _measured("05_framing_ablation", _WORST, {"chosen": "True"}),
    "framing_worst_sensitivity": _measured(
        "05_framing_ablation", "{worst_sensitivity:.3f}", {"chosen": "True"}
    ),
    "framing_worst_specificity": _measured(
        "05_framing_ablation", "{worst_specificity:.3f}", {"chosen": "True"}
    ),
    **{
        f"first_official_{name}": _sealed("05_framing_official", _INTERVAL, _FIRST | {"metric": metric})
        for name, metric in _RATES.items()
    },
    "goals_met": _sealed("05_framing_goals", "{rows:,d}", _GOALS | {"told": "met"}),
    "goals": _sealed("05_framing_goals", "{rows:,d}", _GOALS),
    "published_model": _measured("models/preprocessing.json", "{model}", words=_NAMES),
    "published_seed": _measured("models/preprocessing.json", "{seed}"),
    "published_size": _measured("models/preprocessing.json", "{image_size} x {image_size}"),
    "published_weights": _measured("models/preprocessing.json", "{weights_sha256}"),
    "published_n_train": _measured("05_framing_scores", "{n_train:,d}", _PUBLISHED_TEST),
    "published_n_val": _measured("05_framing_ablation", "{n_images:,d}", {"chosen": "True"}),
    "published_n_test": _measured("05_framing_scores", "{n_images:,d}", _PUBLISHED_TEST),
    "published_n_patients": _measured("05_framing_scores", "{n_patients:,d}", _PUBLISHED_TEST),
    "shape_alone": _measured("05_aspect", _INTERVAL, {"handling": "shape alone", "reads": "class"}),
    "hidden_lungs": _measured("05_framing_hidden", _INTERVAL, _HIDDEN),
    "hidden_lungs_first": _measured("05_hidden", _INTERVAL, _HIDDEN | {"model": "resnet18"}),
    "hidden_lungs_probe": _measured("05_hidden_probe", _INTERVAL, _HIDDEN),
    # How much a leak inflates.
    "n_comparisons": _measured("inflation", "{rows:,d}", _COMPARED),
    "n_no_difference": _measured(
        "inflation", "{rows:,d}", _COMPARED, keep=_starts("verdict", "no difference")
    ),
    "n_undecided": _measured("inflation", "{rows:,d}", _COMPARED | {"verdict": "undecided"}),
    "inflation_no_test_set": _inflation("no-test-set"),
    # Secondary, but in the metric of the public study's claim.
    "no_test_set_macro_f1": _measured(
        "inflation", _RANGE, {"protocol": "no-test-set", "task": "binary", "metric": "macro_f1", "dose": 1}
    ),
    "inflation_exact": _inflation("exact"),
    "exact_largest": _inflation("exact", _SIGNED, pick=("max", "estimate")),
    "inflation_near": _inflation("near"),
    "inflation_oversampled": _inflation("oversampled"),
    "inflation_augmented": _inflation("augmented"),
    "inflation_preprocessing": _inflation(
        ("scaling", "pca", "tuning"), "{estimate.min:+.4f} to {estimate.max:+.4f}"
    ),
    "siblings_comparisons": _inflation("siblings", "{rows}"),
    "siblings_inflating": _measured(
        "inflation", "{rows}", _FULL | {"protocol": "siblings"}, keep=_starts("verdict", "inflates")
    ),
    "siblings_largest": _inflation("siblings", _SIGNED, pick=("max", "estimate")),
    "siblings_network": _measured("inflation", _SIGNED, _NETWORK),
    "siblings_network_verdict": _measured("inflation", "{verdict}", _NETWORK),
    "siblings_model": _inflation("siblings", "{model}, {task}", pick=("max", "estimate")),
    "size_largest": _inflation("size-and-mode", _SIGNED, pick=("max", "estimate")),
    "natural_largest": _measured("inflation_natural", _SIGNED, pick=("max", "estimate")),
    "natural_range": _measured("inflation_natural", _RANGE.replace("+.3f", "+z.3f")),
    # What the intervals hold, and what could have been found.
    "margin_auc": Quote(PREREGISTRATION, "{margins.roc_auc}"),
    "margin_f1": Quote(PREREGISTRATION, "{margins.macro_f1}"),
    "draws_cells": Quote(PREREGISTRATION, "{draws.cells}"),
    "draws_networks": Quote(PREREGISTRATION, "{draws.networks}"),
    "detectable_binary": _measured(
        "06_minimal_detectable_effect", "{minimal_detectable_effect:.3f}", {"task": "binary"}
    ),
    "detectable_etiology": _measured(
        "06_minimal_detectable_effect", "{minimal_detectable_effect:.3f}", {"task": "etiology"}
    ),
    "interval_coverage": _measured(
        "06_coverage", "{share.min:.0 %} to {share.max:.0 %}", {"what": "coverage"}
    ),
    "false_alarms": _measured(
        "06_coverage", "{share.min:.0 %} to {share.max:.0 %}", {"what": "false alarms"}
    ),
    "false_alarms_pooled": _measured(
        "06_coverage",
        "{share:.0 %}",
        {
            "world": "no identity, seeds on one draw",
            "what": "false alarms, draws pooled as if independent",
        },
    ),
    "processors_pixels": _processors(lambda rows: rows["model"].str.endswith(" on pixels")),
    "processors_embeddings": _processors(lambda rows: rows["model"].str.endswith(" on embeddings")),
    "processors_networks": _processors(lambda rows: ~rows["model"].str.contains(" on ")),
    "verdicts_judged": _measured("06_processors", "{rows:,d}", keep=_judged),
    "verdicts_changed": _measured(
        "06_processors",
        "{rows:,d}",
        keep=lambda rows: _judged(rows) & (rows["verdict_here"] != rows["verdict_there"]),
    ),
    # What the grid of leaks costs.
    "grid_jobs": _measured("06_cost", "{jobs.sum:,d}"),
    "grid_seconds": _measured("06_cost", "{total.sum/jobs.sum:.2f}"),
    "grid_hours_10000": _measured("06_cost", "{total.sum/jobs.sum:.1f}", times=10_000 / 3600),
}


class Quotes(Lookup):
    """All quotes of a run by name; see `leakfree_study.book.quoting.Lookup`.

    Parameters
    ----------
    run : Path
        Folder of the run.
    """

    def __init__(self, run: Path) -> None:
        super().__init__(run, QUOTES)
