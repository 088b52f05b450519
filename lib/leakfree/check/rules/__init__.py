"""The rules, a family a file: each reads what `leakfree.check.flow.Flow` noted, and yields findings."""

from leakfree.check.rules.choice import choice
from leakfree.check.rules.groups import groups
from leakfree.check.rules.loops import loops
from leakfree.check.rules.overlap import overlap
from leakfree.check.rules.preparation import preparation

FAMILIES = (preparation, overlap, groups, choice, loops)
#: Rule to the question that it asks, and what to do.
RULES: dict[str, tuple[str, str]] = {
    "scaling": (
        "Did scaling learn from rows of the test part?",
        "Fit it on the training part; a Pipeline does.",
    ),
    "selection": ("Were features chosen with rows of the test part?", "Choose them inside a Pipeline."),
    "reduction": ("Did PCA or the like learn from rows of the test part?", "Fit it on the training part."),
    "imputation": ("Were gaps filled with statistics of test rows?", "Take them from the training part."),
    "target-encoding": ("Did an encoding by the label see test labels?", "Fit it on the training part."),
    "vectorising": ("Was a vocabulary made with test texts?", "Fit it on the training part."),
    "oversampling": (
        "Were rows repeated before the split?",
        "Split first; oversample the training part alone.",
    ),
    "augmentation": (
        "Were images altered and added before the split?",
        "Split first; augment in training alone.",
    ),
    "deduplication": (
        "Were copies dropped in each part alone, so that copies across parts stay?",
        "Drop copies before the split.",
    ),
    "fit-on-test": (
        "Was something fitted to the test part?",
        "Fit on training; transform or predict on test.",
    ),
    "overlap": ("Was a model tested on rows that it was trained on?", "Train on the training part alone."),
    "loader-ignores-subset": (
        "Does a loader read all rows, though the rows were split?",
        "Give the loader the Subset, or a sampler.",
    ),
    "groups": (
        "Was data split by row where a patient column is in sight?",
        "Split by patient: GroupKFold, GroupShuffleSplit, or `leakfree split`.",
    ),
    "frames": (
        "Were frames, slices or tiles shuffled into the parts one by one?",
        "Split the videos, volumes or slides, or pass groups=.",
    ),
    "test-chooses-epoch": ("Does the test part choose when to stop?", "Choose on a validation part."),
    "test-chooses-threshold": ("Does the test part choose the threshold?", "Choose it on a validation part."),
    "test-chooses-settings": (
        "Does the test part choose settings or a model?",
        "Choose on validation, or by folds.",
    ),
    "multi-test": (
        "Are several models scored on one test part?",
        "Compare on validation; score one model on test, once.",
    ),
    "best-model-alias": (
        "Is the best model only another name of the one that trains on?",
        "Keep copy.deepcopy(model.state_dict()).",
    ),
}

__all__ = ["FAMILIES", "RULES"]
