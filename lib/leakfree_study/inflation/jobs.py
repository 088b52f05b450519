"""One job of the grid: the arms of one leak, for one task, model, kind of features and draw.

A job is a pure function of the material and of its own fields, so it may run anywhere and be kept by its
content.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from threadpoolctl import threadpool_limits

from leakfree.data.pixels import pixel_digest
from leakfree.data.tasks import Task
from leakfree.ledger.ledger import Ledger, LedgerError, consumed_hash
from leakfree.scores.metrics import weighted_roc_auc
from leakfree_study.inflation import heads
from leakfree_study.inflation.arms import Arms, Rows
from leakfree_study.inflation.draws import draw, permuted_classes
from leakfree_study.inflation.material import Material
from leakfree_study.inflation.plans import DOSES, FOLDS, Plan, dosed, planned

#: Weights that a threshold may give to a class, in steps of half a natural logarithm.
_WEIGHTS = np.exp(np.arange(-3, 3.01, 0.5))


@dataclass(frozen=True, order=True)
class Job:
    """What one job computes.

    Attributes
    ----------
    task, family, features, head : str
        See `leakfree_study.inflation.material.Material.tasks`, `FAMILIES`,
        `leakfree_study.inflation.material.FEATURES`, `leakfree_study.inflation.heads.HEADS`.
    seed : int
        Of the draw and of the model.
    scope : str
        Patient scope of the linked groups.
    permuted : bool
        Labels permuted by patient: the control in which there is nothing to learn.
    doses : tuple of float
    trees : int
    """

    task: str
    family: str
    features: str
    head: str
    seed: int
    scope: str = "series"
    permuted: bool = False
    doses: tuple[float, ...] = DOSES
    trees: int = heads.TREES


@dataclass(frozen=True)
class Outcome:
    """One arm of a job.

    Attributes
    ----------
    rows : numpy.ndarray of int64, shape (m,)
        Images that were scored.
    probabilities : numpy.ndarray of float32, shape (m, classes)
    truth : numpy.ndarray of int8, shape (m,)
        Class of each, as permuted if it was.
    ledger : dict
        What was consumed: counts, hashes, and what training and test share.
    """

    rows: np.ndarray
    probabilities: np.ndarray
    truth: np.ndarray
    ledger: dict[str, object] = field(default_factory=dict)


@threadpool_limits.wrap(limits=1)
def compute(material: Material, job: Job) -> dict[str, Outcome]:
    """Run a job.

    Returns
    -------
    dict of str to Outcome
        By name of the arm, such as ``siblings-50``.

    Raises
    ------
    leakfree.ledger.ledger.LedgerError
        If an arm consumed other images than it should, or leaks other than it declares.
    """
    bench = _Bench(material, job)
    return FAMILIES[job.family](bench)


class _Bench:
    def __init__(self, material: Material, job: Job) -> None:
        self.material, self.job = material, job
        self.task: Task = material.tasks[job.task]
        self.k = len(self.task.classes)
        self.groups = material.groups[job.scope]
        self.draw = draw(material.labels, self.groups, job.seed)
        self.classes = material.classes(self.task)
        if job.permuted:
            self.classes = permuted_classes(self.draw, self.classes, self.groups, job.seed)
        self.arms = Arms(self.draw, self.classes)
        self.setting: float = 1 if job.head == "1-nn" else heads.C[job.features]

    def arm(self, name: str, ledger: Ledger | None = None) -> _Arm:
        return _Arm(self, planned(self.arms, name), ledger)

    def scaled(self, *values: np.ndarray, **by: np.ndarray) -> list[np.ndarray]:
        return heads.scaled(*values, features=self.job.features, **by)

    def fit(self, train: np.ndarray, labels: np.ndarray, tests: Sequence[np.ndarray], setting=None) -> list:
        """Fit the model once and predict each of the tests."""
        stacked = np.concatenate(tests)
        setting = self.setting if setting is None else setting
        head = heads.Head(self.job.head, setting, self.job.seed, self.job.trees)
        found = heads.probabilities(head, train, labels, stacked, self.k)
        return np.split(found, np.cumsum([len(test) for test in tests])[:-1])


class _Arm:
    """One arm with its ledger: stages train (the model's fit), prepared (all else that was fitted), test."""

    def __init__(self, bench: _Bench, plan: Plan, ledger: Ledger | None = None) -> None:
        self.bench, self.plan = bench, plan
        self.ledger = ledger or Ledger(bench.material.features[bench.job.features].digests)

    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """Read the training rows; their classes too."""
        return self.read("train", self.plan.train), self.bench.classes[self.plan.train.row]

    def test(self) -> np.ndarray:
        return self.read("test", Rows.images(self.plan.test))

    def prepared(self) -> np.ndarray:
        return self.read("prepared", Rows.images(self.plan.prepared))

    def read(self, stage: str, rows: Rows) -> np.ndarray:
        material = self.bench.material
        values = material.take(self.bench.job.features, rows.row, rows.variant)
        keys = material.keys(rows.row, rows.variant)
        # Every row: a stage is one batch, of which `record` would hash one row in eight.
        self.ledger.record_digests(stage, keys, [pixel_digest(row) for row in values])
        return values

    def outcome(self, probabilities: np.ndarray, folds: int = 0, **chosen: float) -> Outcome:
        """Take in the scores of an arm whose ledger agrees with its plan.

        `folds` are linked groups found on both sides of tuning folds.
        """
        rows = self.plan.test if self.plan.scored is None else self.plan.scored
        described = self._checked(folds) | chosen
        return Outcome(
            rows, probabilities.astype(np.float32), self.bench.classes[rows].astype(np.int8), described
        )

    def _checked(self, folds: int) -> dict[str, object]:
        """Compare what was consumed with the plan and with the declared leaks, and describe it."""
        plan, groups, keys = self.plan, self.bench.groups, self.bench.material.keys
        prepared = np.empty(0, dtype=np.int64) if plan.prepared is None else plan.prepared
        expected = {
            "train": Counter(keys(plan.train.row, plan.train.variant)),
            "test": Counter(keys(plan.test)),
            "prepared": Counter(keys(prepared)),
        }
        for stage, counts in expected.items():
            if self.ledger.consumed(stage) != counts:
                raise LedgerError(f"{self.bench.job}: stage {stage} did not consume what the arm plans")
        fitted = np.concatenate([plan.train.row, prepared])
        between = len(np.intersect1d(groups[fitted], groups[plan.test]))
        images = len(set(expected["train"] | expected["prepared"]) & set(expected["test"]))
        shared = {"images": images, "linked groups": between}
        if plan.folds and between:
            raise LedgerError(f"{self.bench.job}: training and test share {between} linked groups")
        if {leak for leak, count in shared.items() if count} != plan.declared:
            raise LedgerError(
                f"{self.bench.job}: declares {sorted(plan.declared)}, the ledger found {shared}"
            )
        description: dict[str, object] = {}
        for stage, counts in expected.items():
            description[f"n_{stage}"] = counts.total()
            description[f"{stage}_sha256"] = consumed_hash(counts) if counts else ""
        # No image of training is in the test of a tuned arm; what its folds share is the leak.
        return {**description, "shared_images": images, "shared_groups": folds if plan.folds else between}


def _plain(bench: _Bench, names: Iterable[str]) -> dict[str, Outcome]:
    """Fit on the rows of each arm, with everything fitted on them alone, and score its test images."""
    out = {}
    for name in names:
        arm = bench.arm(name)
        x, y = arm.train()
        x, z = bench.scaled(x, arm.test())
        (found,) = bench.fit(x, y, [z])
        out[name] = arm.outcome(found)
    return out


def _clean(bench: _Bench) -> dict[str, Outcome]:
    """Train clean; then choose class weights on validation and, leaky, on the test images themselves."""
    arm, single, val = bench.arm("clean"), bench.arms.rows("single"), bench.arms.rows("val")
    x, y = arm.train()
    x, z, v = bench.scaled(x, arm.test(), bench.material.take(bench.job.features, val))
    found, on_val = bench.fit(x, y, [z, v])
    out = {"clean": arm.outcome(found)}
    if bench.job.permuted or not (len(single) and len(val)):
        return out
    of_single = found[-len(single) :]
    for name, chosen_on in (("threshold-val", on_val), ("threshold-test", of_single)):
        arm = bench.arm(name)
        for read in (arm.train, arm.prepared, arm.test):
            read()
        weighted = of_single * best_weights(chosen_on, bench.classes[arm.plan.prepared])
        weighted /= weighted.sum(axis=1, keepdims=True)
        out[name] = arm.outcome(weighted)
    return out


def best_weights(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Choose the class weights with the best macro F1, of equal ones the mildest; the first class has 1."""
    k = probabilities.shape[1]
    grid = np.stack(np.meshgrid(*[_WEIGHTS] * (k - 1), indexing="ij"), axis=-1).reshape(-1, k - 1)
    grid = grid[np.argsort(np.abs(np.log(grid)).sum(axis=1), kind="stable")]
    candidates = np.concatenate([np.ones((len(grid), 1)), grid], axis=1)
    scores = []
    for weights in candidates:
        chosen = (probabilities * weights).argmax(axis=1)
        counts = np.bincount(truth * k + chosen, minlength=k * k).reshape(k, k)
        scores.append(np.mean(2 * np.diag(counts) / np.maximum(counts.sum(axis=0) + counts.sum(axis=1), 1)))
    return candidates[int(np.argmax(scores))]


def _oversample(bench: _Bench) -> dict[str, Outcome]:
    if not np.isin(bench.arms.oversampled(before=True).row, bench.arms.everyone()).any():
        return {}  # the classes are equal, or so few images are repeated that no test image is among them
    return _plain(bench, ("oversampled-after", "oversampled-before"))


def _prepared(bench: _Bench, name: str, prepare: Callable) -> dict[str, Outcome]:
    """Fit a preparation on training rows alone, or on training and test rows together."""
    out = {}
    for arm_name in (f"{name}-train", f"{name}-all"):
        arm = bench.arm(arm_name)
        x, y = arm.train()
        by = arm.prepared()
        x, z, by = bench.scaled(x, arm.test(), by, by=by)
        x, z = prepare(x, z, by, bench.classes[arm.plan.prepared])
        (found,) = bench.fit(x, y, [z])
        out[arm_name] = arm.outcome(found)
    return out


def _tuning(bench: _Bench) -> dict[str, Outcome]:
    """Tune on folds of patients and on folds of images; score the test images, and the folds themselves."""
    out = {}
    for kind, splitter in (
        ("patients", StratifiedGroupKFold(FOLDS, shuffle=True, random_state=bench.job.seed)),
        ("images", StratifiedKFold(FOLDS, shuffle=True, random_state=bench.job.seed)),
    ):
        arm = bench.arm(f"tuning-{kind}")
        raw, y = arm.train()
        groups = bench.groups[arm.plan.train.row]
        folds = list(splitter.split(raw, y, groups if kind == "patients" else None))
        shared = len(set().union(*(set(groups[a].tolist()) & set(groups[b].tolist()) for a, b in folds)))
        best = None
        for candidate in heads.CANDIDATES[bench.job.head]:
            found = np.empty((len(y), bench.k))
            for fitting, held in folds:
                a, b = bench.scaled(raw[fitting], raw[held])
                (found[held],) = bench.fit(a, y[fitting], [b], candidate)
            score = _score(found, y)
            if best is None or score > best[0]:
                best = (score, candidate, found)
        x, z = bench.scaled(raw, arm.test())
        (found,) = bench.fit(x, y, [z], best[1])
        of_folds = bench.arm(f"folds-{kind}", arm.ledger)
        for name, one, scores in (("tuning", arm, found), ("folds", of_folds, best[2])):
            out[f"{name}-{kind}"] = one.outcome(scores, shared, chosen=float(best[1]))
    return out


def _epochs(bench: _Bench) -> dict[str, Outcome]:
    """Choose the epoch by loss (early stopping) or score (best one reported), on validation or on test."""
    seen = bench.arm("stopped-val")
    test, val = seen.plan.test, seen.plan.prepared
    if not (len(test) and len(val)):
        return {}  # every patient has several images: none is left to choose on, or to test
    raw, y = seen.train()
    x, z, v = bench.scaled(raw, seen.test(), seen.prepared())
    history = list(heads.by_epoch(x, y, [z, v], classes=bench.k, seed=bench.job.seed))
    out = {}
    for place, kind, known in ((1, "val", bench.classes[val]), (0, "test", bench.classes[test])):
        losses = [_loss(step[place], known) for step in history]
        scores = [_score(step[place], known) for step in history]
        for name, epoch in (("stopped", int(np.argmin(losses))), ("best-epoch", int(np.argmax(scores)))):
            arm = bench.arm(f"{name}-{kind}", seen.ledger if kind == "val" else None)
            if kind == "test":  # the test images chose, and no validation image was needed
                for read in (arm.train, arm.prepared, arm.test):
                    read()
            out[f"{name}-{kind}"] = arm.outcome(history[epoch][0], chosen=epoch + 1.0)
    return out


def _size_and_mode(bench: _Bench) -> dict[str, Outcome]:
    """Split images of known original size by patient, and add size and colour mode to what the model sees.

    The nearest neighbour gets both blocks at one total variance, since a few columns have no say in its
    distance otherwise; the logistic regression gets the columns standardised.
    """
    sizes = bench.material.sizes
    if sizes is None or bench.job.permuted:
        return {}
    known = np.flatnonzero(~np.isnan(sizes).any(axis=1) & (bench.classes >= 0))
    folds = StratifiedGroupKFold(4, shuffle=True, random_state=bench.job.seed)
    fitting, held = next(folds.split(known, bench.classes[known], bench.groups[known]))
    train, test, out = Rows.images(known[fitting]), known[held], {}
    for name in ("size-without", "size-with"):
        arm = _Arm(bench, Plan(train, test))
        x, y = arm.train()
        x, z = bench.scaled(x, arm.test())
        if bench.job.head == "1-nn":
            spread = np.sqrt(x.var(axis=0).sum())
            x, z = x / spread, z / spread
        if name == "size-with":
            mean, spread = sizes[train.row].mean(axis=0), sizes[train.row].std(axis=0)
            spread[spread == 0] = 1
            blocks = [(sizes[rows] - mean) / spread for rows in (train.row, test)]
            if bench.job.head == "1-nn":
                blocks = [block / np.sqrt(block.shape[1]) for block in blocks]
            x, z = (np.concatenate([a, b], axis=1) for a, b in zip((x, z), blocks, strict=True))
        (found,) = bench.fit(x, y, [z])
        out[name] = arm.outcome(found)
    return out


def _loss(found: np.ndarray, truth: np.ndarray) -> float:
    return float(-np.log(np.clip(found[np.arange(len(truth)), truth], 1e-7, None)).mean())


def _score(found: np.ndarray, truth: np.ndarray) -> float:
    k = found.shape[1]
    ones = np.ones((1, len(truth)))
    each = [weighted_roc_auc(truth == c, found[:, c], ones)[0] for c in ([1] if k == 2 else range(k))]
    return float(np.mean(each))


#: What each family of arms computes.
FAMILIES: dict[str, Callable[[_Bench], dict[str, Outcome]]] = {
    "clean": _clean,
    "siblings": lambda bench: _plain(bench, dosed("siblings", bench.job.doses)),
    "exact": lambda bench: _plain(bench, dosed("exact", bench.job.doses)),
    "near": lambda bench: _plain(bench, dosed("near", bench.job.doses)),
    "no-test-set": lambda bench: _plain(bench, ("no-test-set",)),
    "oversample": _oversample,
    "augment": lambda bench: _plain(bench, ("augmented-after", "augmented-before")),
    "scaling": lambda bench: _prepared(bench, "scaling", lambda x, z, by, y: (x, z)),
    "pca": lambda bench: _prepared(bench, "pca", lambda x, z, by, y: heads.components(x, z, by=by)),
    "selection": lambda bench: _prepared(
        bench, "selection", lambda x, z, by, y: heads.selected(x, z, by=by, labels=y)
    ),
    "tuning": _tuning,
    "epochs": _epochs,
    "size-and-mode": _size_and_mode,
}
