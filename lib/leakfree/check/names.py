"""What names mean: functions and classes of the common libraries, and words in names of people's own."""

from __future__ import annotations

import re

#: Class or function to the kind of what it learns from the rows that it is given.
LEARNS = {
    **dict.fromkeys(
        ("StandardScaler", "MinMaxScaler", "RobustScaler", "MaxAbsScaler", "QuantileTransformer",
         "PowerTransformer", "KBinsDiscretizer", "Normalization", "scale", "minmax_scale", "robust_scale",
         "maxabs_scale", "quantile_transform", "power_transform", "zscore"),
        "scaling",
    ),
    **dict.fromkeys(
        ("SelectKBest", "SelectPercentile", "SelectFpr", "SelectFdr", "SelectFwe", "RFE", "RFECV",
         "SelectFromModel", "SequentialFeatureSelector", "BorutaPy", "GenericUnivariateSelect"),
        "selection",
    ),
    **dict.fromkeys(
        ("PCA", "IncrementalPCA", "KernelPCA", "SparsePCA", "TruncatedSVD", "FastICA", "NMF", "UMAP", "TSNE",
         "FactorAnalysis", "LinearDiscriminantAnalysis", "LDA", "Isomap", "PLSRegression"),
        "reduction",
    ),
    **dict.fromkeys(
        ("SimpleImputer", "KNNImputer", "IterativeImputer", "Imputer", "MissForest"), "imputation"
    ),
    **dict.fromkeys(
        ("TargetEncoder", "LeaveOneOutEncoder", "CatBoostEncoder", "WOEEncoder", "MEstimateEncoder",
         "JamesSteinEncoder"),
        "target encoding",
    ),
    **dict.fromkeys(("TfidfVectorizer", "CountVectorizer", "TfidfTransformer", "Tokenizer"), "vectorising"),
}  # fmt: skip
PREPARES = ("scaling", "selection", "reduction", "imputation", "target encoding", "vectorising")
OVERSAMPLES = (
    "SMOTE", "ADASYN", "RandomOverSampler", "BorderlineSMOTE", "SVMSMOTE", "SMOTENC", "SMOTEN", "KMeansSMOTE",
    "SMOTEENN", "SMOTETomek",
)  # fmt: skip
AUGMENTS = (
    "flip", "fliplr", "flipud", "rot90", "rotate", "roll", "GaussianBlur", "warpAffine",
    "random_flip_left_right",
    "flip_left_right", "flip_up_down", "random_rotation", "random_brightness", "adjust_brightness", "hflip",
    "vflip", "affine_transform", "random_shift", "random_zoom",
)  # fmt: skip
PLAIN_FOLDS = (
    "KFold", "StratifiedKFold", "RepeatedKFold", "RepeatedStratifiedKFold", "ShuffleSplit",
    "StratifiedShuffleSplit", "LeaveOneOut",
)  # fmt: skip
GROUP_FOLDS = (
    "GroupKFold", "StratifiedGroupKFold", "GroupShuffleSplit", "LeaveOneGroupOut", "LeavePGroupsOut",
    "GroupTimeSeriesSplit", "LedgerCV", "TimeSeriesSplit", "PredefinedSplit",
)  # fmt: skip
CROSS_VALIDATES = (
    "cross_val_score",
    "cross_validate",
    "cross_val_predict",
    "validation_curve",
    "learning_curve",
)
SEARCHES = ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "BayesSearchCV")
METRICS = (
    "accuracy_score", "balanced_accuracy_score", "f1_score", "roc_auc_score", "precision_score",
    "recall_score",     "average_precision_score", "log_loss", "matthews_corrcoef", "cohen_kappa_score",
    "jaccard_score",
    "mean_squared_error", "mean_absolute_error", "r2_score", "classification_report", "confusion_matrix",
    "roc_curve", "precision_recall_curve", "det_curve", "auc", "fbeta_score", "root_mean_squared_error",
    "precision_recall_fscore_support", "brier_score_loss", "top_k_accuracy_score",
)  # fmt: skip
CHOOSES = ("argmax", "argmin", "nanargmax", "nanargmin", "idxmax", "idxmin", "max", "min", "sorted")
#: Callbacks that keep or stop by what they are shown.
CHOOSING_CALLBACKS = ("EarlyStopping", "ModelCheckpoint", "ReduceLROnPlateau", "early_stopping")
SOURCES = re.compile(
    r"^(read_\w+|load\w*|fetch_\w+|make_(classification|regression|blobs|moons|circles)|imread|loadtxt"
    r"|genfromtxt|glob|rglob|listdir|scandir|walk|ImageFolder|DatasetFolder|flow_from_\w+|image_dataset_from_directory"
    r"|\w*MNIST|CIFAR10+|SVHN|CheXpert|from_csv|from_generator|from_pandas|VideoCapture|\w+Dataset|dataset)$"
)
#: Functions whose names begin like that of a source, and that load no data.
NOT_SOURCES = ("load_model", "load_weights", "load_state_dict", "load_ext", "load_dotenv", "loads_config")
#: Names that stand for data where nothing says what they are.
DATA = re.compile(
    r"^(?!.*(path|dir|file|folder|root|size|name|shape|transform|aug|loader|col|type|gen|dim|len|label|url|id))"
    r"(df|data|dataset|dataframe|X|x|y|features|images)([_\d]\w*)?$"
)
LOADED = re.compile(
    r"^(train|valid|val|test)(ing)?_?(dl|loader|dataloader|set|ds|dataset|df|data|generator)$"
)
SUBSETS = (
    "sample",
    "head",
    "tail",
    "query",
    "take",
    "skip",
    "drop",
    "filter",
    "nlargest",
    "Subset",
    "select",
    "isin",
)
SPLITS_ROWS = (
    "train_test_split",
    "random_split",
    "train_val_split",
    "iterative_train_test_split",
    "split_dataset",
)

_PARTS = {"train": ("train",), "val": ("valid",), "test": ("test", "holdout")}
_TOKEN_PARTS = {
    "tr": "train", "trn": "train", "val": "val", "vals": "val", "dev": "val", "te": "test", "tst": "test",
}  # fmt: skip
_NOT_PARTS = re.compile(
    r"latest|greatest|fastest|contest|attest|protest|pretrain|trained|trainer|trainable|testing_mode"
)
_PATIENT = re.compile(
    r"^(patients?|subjects?|participants?|mrn|pid|animals?|individuals?"
    r"|(patient|subject|participant|person|pt|case|study|individual|animal|hospital|subj)"
    r"(id|ids|no|num|number|nr|name|code|key|index|idx|uid|group|groups))$"
)
_FRAMES = re.compile(
    r"^(frames?|slices?|patches|tiles|videos?|clips|crops|allframes|frameids?|videoids?|videonames?|sliceids?"
    r"|volumeids?|slideids?|wsiids?|clipids?)$"
)
_CONTAINERS = re.compile(
    r"^(all)?(videos?|clips|slides?|volumes?|wsis?|scans?|cases)(ids?|names?|paths?|files?|list)?$"
)


def part_of_name(name: str) -> str | None:
    """Return the part that a name tells: ``train``, ``val`` or ``test``; None if it tells none, or two.

    Examples
    --------
    >>> part_of_name("X_test"), part_of_name("trainloader"), part_of_name("train_test_split")
    ('test', 'train', None)
    """
    low = _NOT_PARTS.sub("", name.lower())
    found = {part for part, words in _PARTS.items() if any(word in low for word in words)}
    for token in re.split(r"[^a-z]+", low):
        token = token.removeprefix("x").removeprefix("y") if len(token) in (3, 4) else token
        if token in _TOKEN_PARTS:
            found.add(_TOKEN_PARTS[token])
    return found.pop() if len(found) == 1 else None


def part_of_path(texts: frozenset) -> str | None:
    """Return the part that the last folders or the file name of a path tell."""
    found = set()
    for text in texts:
        for piece in re.split(r"[/\\]", text)[-3:]:
            if (part := part_of_name(piece)) and len(piece) < 40:
                found.add(part)
    return found.pop() if len(found) == 1 else None


def squeezed(word: str) -> str:
    """Return a word without case, blanks and marks: ``Patient ID`` and ``patient_id`` are one."""
    return re.sub(r"[\W_]+", "", word.lower())


def names_patient(word: str) -> bool:
    """Tell whether a column or variable is named like patients."""
    return len(word) < 30 and _PATIENT.match(squeezed(word)) is not None


def names_container(word: str) -> bool:
    """Tell whether a column or variable is named like what frames, slices or tiles are cut out of."""
    return len(word) < 30 and _CONTAINERS.match(squeezed(word)) is not None


def names_frames(word: str) -> bool:
    """Tell whether a column or variable is named like frames of a video, slices, or tiles."""
    return len(word) < 30 and _FRAMES.match(squeezed(word)) is not None


def holds_frames(name: str) -> bool:
    """Tell whether a variable is named like frames; ``frame`` is a table as often as it is a picture."""
    return name != "frame" and names_frames(name)
