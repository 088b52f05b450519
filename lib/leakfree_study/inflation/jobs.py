"""One job of the grid: the arms of one leak, for one task, model, kind of features and draw.

A job is a pure function of the material and of its own fields, so it may run anywhere and be kept by its
content.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
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
from leakfree_study.inflation.draws import Draw, draw
from leakfree_study.inflation.material import Material

#: Doses: shares of the test patients, by class, with at least one image of theirs in training.
DOSES = (0.25, 0.50, 0.75, 1.00)
FOLDS = 3
#: Weights that a threshold may give to a class, in steps of half a natural logarithm.
_WEIGHTS = np.exp(np.arange(-3, 3.01, 0.5))
_NONE, _GROUPS, _BOTH = frozenset(), frozenset({"linked groups"}), frozenset({"images", "linked groups"})


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


def permuted_classes(draw: Draw, classes: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Permute classes by patient; a test patient and its donor keep a common one, so that arms stay matched.

    Mirrored draws get the same permutation. Images that do not take part keep -1.
    """
    unit = np.where(draw.slot >= 0, groups.max() + 1 + draw.slot, groups)
    taking = np.flatnonzero(classes >= 0)
    _, first, inverse = np.unique(unit[taking], return_index=True, return_inverse=True)
    drawn = np.random.default_rng([seed // 2, 7]).permutation(classes[taking][first])
    permuted = np.full(len(classes), -1, dtype=np.int64)
    permuted[taking] = drawn[inverse]
    return permuted


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

    def fit(self, train: np.ndarray, labels: np.ndarray, tests: Sequence[np.ndarray], setting=None) -> list:
        """Fit the model once and predict each of the tests."""
        stacked = np.concatenate(tests)
        found = heads.probabilities(
            self.job.head,
            train,
            labels,
            stacked,
            classes=self.k,
            seed=self.job.seed,
            setting=self.setting if setting is None else setting,
            trees=self.job.trees,
        )
        return np.split(found, np.cumsum([len(test) for test in tests])[:-1])

    def several(self) -> np.ndarray:
        return self.arms.rows("test")

    def everyone(self) -> np.ndarray:
        return np.concatenate([self.arms.rows("test"), self.arms.rows("single")])

    def trained(self, ledger: _Consumption, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        """Read training rows; their classes too."""
        return ledger.read("train", rows.row, rows.variant), self.classes[rows.row]

    def outcome(self, rows: np.ndarray, probabilities: np.ndarray, ledger: dict[str, object]) -> Outcome:
        return Outcome(rows, probabilities.astype(np.float32), self.classes[rows].astype(np.int8), ledger)

    def plain(self, train: Rows, test: np.ndarray, declared: frozenset[str]) -> Outcome:
        """Fit on some rows, with everything fitted on them alone, and score others."""
        ledger = _Consumption(self)
        x, y = self.trained(ledger, train)
        z = ledger.read("test", test)
        x, z = heads.scaled(x, z, features=self.job.features)
        (found,) = self.fit(x, y, [z])
        return self.outcome(test, found, ledger.check(declared, train=train, test=test))


class _Consumption:
    """The ledger of one arm: stages train (the model's fit), prepared (all else that was fitted), test."""

    def __init__(self, bench: _Bench) -> None:
        self.bench = bench
        self.ledger = Ledger(bench.material.features[bench.job.features].digests)

    def read(self, stage: str, rows: np.ndarray, variant: np.ndarray | int = 0) -> np.ndarray:
        material = self.bench.material
        values = material.take(self.bench.job.features, rows, variant)
        # Every row: a stage is one batch, of which `record` would hash one row in eight.
        self.ledger.record_digests(stage, material.keys(rows, variant), [pixel_digest(row) for row in values])
        return values

    def check(
        self,
        declared: frozenset[str],
        *,
        train: Rows,
        test: np.ndarray,
        prepared: np.ndarray | None = None,
        folds: int | None = None,
    ) -> dict[str, object]:
        """Compare what was consumed with the plan and with the declared leaks, and describe it.

        `folds` are linked groups found on both sides of tuning folds, where there were any.
        """
        material, groups = self.bench.material, self.bench.groups
        plan = {
            "train": Counter(material.keys(train.row, train.variant)),
            "test": Counter(material.keys(test)),
            "prepared": Counter() if prepared is None else Counter(material.keys(prepared)),
        }
        for stage, expected in plan.items():
            if self.ledger.consumed(stage) != expected:
                raise LedgerError(f"{self.bench.job}: stage {stage} did not consume what the arm plans")
        fitted, tested = plan["train"] | plan["prepared"], plan["test"]
        trained = set(groups[train.row].tolist())
        if prepared is not None:
            trained |= set(groups[prepared].tolist())
        between = len(trained & set(groups[test].tolist()))
        if folds is not None and between:
            raise LedgerError(f"{self.bench.job}: training and test share {between} linked groups")
        shared = {
            "images": len(set(fitted) & set(tested)),
            "linked groups": between if folds is None else folds,
        }
        if {leak for leak, count in shared.items() if count} != declared:
            raise LedgerError(f"{self.bench.job}: declares {sorted(declared)}, the ledger found {shared}")
        description: dict[str, object] = {}
        for stage, counts in plan.items():
            description[f"n_{stage}"] = counts.total()
            description[f"{stage}_sha256"] = consumed_hash(counts) if counts else ""
        return {**description, "shared_images": shared["images"], "shared_groups": shared["linked groups"]}


def _clean(bench: _Bench) -> dict[str, Outcome]:
    """Train clean; then choose class weights on validation and, leaky, on the test images themselves."""
    arms, train, test = bench.arms, bench.arms.clean(), bench.everyone()
    single, val = arms.rows("single"), arms.rows("val")
    ledger = _Consumption(bench)
    x, y = bench.trained(ledger, train)
    z, v = ledger.read("test", test), bench.material.take(bench.job.features, val)
    x, z, v = heads.scaled(x, z, v, features=bench.job.features)
    found, on_val = bench.fit(x, y, [z, v])
    out = {"clean": bench.outcome(test, found, ledger.check(_NONE, train=train, test=test))}
    if bench.job.permuted or not (len(single) and len(val)):
        return out
    of_single = found[len(test) - len(single) :]
    for arm, chosen_on, rows, declared in (
        ("threshold-val", on_val, val, _NONE),
        ("threshold-test", of_single, single, _BOTH),
    ):
        ledger = _Consumption(bench)
        bench.trained(ledger, train)
        ledger.read("prepared", rows)
        ledger.read("test", single)
        weights = best_weights(chosen_on, bench.classes[rows])
        weighted = of_single * weights
        weighted /= weighted.sum(axis=1, keepdims=True)
        described = ledger.check(declared, train=train, test=single, prepared=rows)
        out[arm] = bench.outcome(single, weighted, described)
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


def _siblings(bench: _Bench) -> dict[str, Outcome]:
    out = {}
    for dose in bench.job.doses:
        # Singles are scored at the full dose too: the value for a natural split needs them.
        test = bench.everyone() if dose == 1 else bench.several()
        out[f"siblings-{dose * 100:.0f}"] = bench.plain(bench.arms.siblings(dose), test, _GROUPS)
    return out


def _exact(bench: _Bench) -> dict[str, Outcome]:
    return {
        f"exact-{dose * 100:.0f}": bench.plain(bench.arms.copies(dose), bench.several(), _BOTH)
        for dose in bench.job.doses
    }


def _near(bench: _Bench) -> dict[str, Outcome]:
    return {
        f"near-{dose * 100:.0f}": bench.plain(bench.arms.copies(dose, near=True), bench.several(), _GROUPS)
        for dose in bench.job.doses
    }


def _no_test_set(bench: _Bench) -> dict[str, Outcome]:
    return {"no-test-set": bench.plain(bench.arms.no_test_set(), bench.everyone(), _BOTH)}


def _oversample(bench: _Bench) -> dict[str, Outcome]:
    leaky = bench.arms.oversampled(before=True)
    if not np.isin(leaky.row, bench.everyone()).any():
        return {}  # the classes are equal, or so few images are repeated that no test image is among them
    return {
        "oversampled-after": bench.plain(bench.arms.oversampled(before=False), bench.everyone(), _NONE),
        "oversampled-before": bench.plain(leaky, bench.everyone(), _BOTH),
    }


def _augment(bench: _Bench) -> dict[str, Outcome]:
    return {
        "augmented-after": bench.plain(bench.arms.augmented(before=False), bench.everyone(), _NONE),
        "augmented-before": bench.plain(bench.arms.augmented(before=True), bench.everyone(), _GROUPS),
    }


def _prepared(bench: _Bench, name: str, prepare: Callable) -> dict[str, Outcome]:
    """Fit a preparation on training rows alone, or on training and test rows together."""
    train, test, out = bench.arms.clean(), bench.everyone(), {}
    for arm, rows, declared in (
        (f"{name}-train", train.row, _NONE),
        (f"{name}-all", np.concatenate([train.row, test]), _BOTH),
    ):
        ledger = _Consumption(bench)
        x, y = bench.trained(ledger, train)
        by = ledger.read("prepared", rows)
        z = ledger.read("test", test)
        x, z, by = heads.scaled(x, z, by, features=bench.job.features, by=by)
        x, z = prepare(x, z, by, bench.classes[rows])
        (found,) = bench.fit(x, y, [z])
        out[arm] = bench.outcome(test, found, ledger.check(declared, train=train, test=test, prepared=rows))
    return out


def _scaling(bench: _Bench) -> dict[str, Outcome]:
    return _prepared(bench, "scaling", lambda x, z, by, labels: (x, z))


def _pca(bench: _Bench) -> dict[str, Outcome]:
    return _prepared(bench, "pca", lambda x, z, by, labels: heads.components(x, z, by=by))


def _selection(bench: _Bench) -> dict[str, Outcome]:
    return _prepared(bench, "selection", lambda x, z, by, labels: heads.selected(x, z, by=by, labels=labels))


def _tuning(bench: _Bench) -> dict[str, Outcome]:
    """Tune on folds of patients and on folds of images; score the test images, and the folds themselves."""
    train, test, out = bench.arms.clean(), bench.everyone(), {}
    y, groups = bench.classes[train.row], bench.groups[train.row]
    for kind, splitter in (
        ("patients", StratifiedGroupKFold(FOLDS, shuffle=True, random_state=bench.job.seed)),
        ("images", StratifiedKFold(FOLDS, shuffle=True, random_state=bench.job.seed)),
    ):
        ledger = _Consumption(bench)
        raw, _ = bench.trained(ledger, train)
        folds = list(splitter.split(raw, y, groups if kind == "patients" else None))
        shared = len(set().union(*(set(groups[a].tolist()) & set(groups[b].tolist()) for a, b in folds)))
        best = None
        for candidate in heads.CANDIDATES[bench.job.head]:
            found = np.empty((len(y), bench.k))
            for fitting, held in folds:
                a, b = heads.scaled(raw[fitting], raw[held], features=bench.job.features)
                (found[held],) = bench.fit(a, y[fitting], [b], candidate)
            score = _score(found, y)
            if best is None or score > best[0]:
                best = (score, candidate, found)
        z = ledger.read("test", test)
        x, z = heads.scaled(raw, z, features=bench.job.features)
        (found,) = bench.fit(x, y, [z], best[1])
        # No image of training is in test; what the folds share is the leak.
        described = ledger.check(_GROUPS if shared else _NONE, train=train, test=test, folds=shared)
        described |= {"chosen": float(best[1])}
        out[f"tuning-{kind}"] = bench.outcome(test, found, described)
        out[f"folds-{kind}"] = bench.outcome(train.row, best[2], described)
    return out


def _epochs(bench: _Bench) -> dict[str, Outcome]:
    """Choose the epoch by loss (early stopping) or score (best one reported), on validation or on test."""
    train, test, val = bench.arms.clean(), bench.arms.rows("single"), bench.arms.rows("val")
    if not (len(test) and len(val)):
        return {}  # every patient has several images: none is left to choose on, or to test
    seen = _Consumption(bench)
    raw, _ = bench.trained(seen, train)
    read = (seen.read("test", test), seen.read("prepared", val))
    x, z, v = heads.scaled(raw, *read, features=bench.job.features)
    y, truth, truth_val = (bench.classes[rows] for rows in (train.row, test, val))
    history = list(heads.by_epoch(x, y, [z, v], classes=bench.k, seed=bench.job.seed))
    out = {}
    for place, kind, rows, known in ((1, "val", val, truth_val), (0, "test", test, truth)):
        losses = [_loss(step[place], known) for step in history]
        scores = [_score(step[place], known) for step in history]
        for arm, epoch in (("stopped", int(np.argmin(losses))), ("best-epoch", int(np.argmax(scores)))):
            ledger = seen
            if kind == "test":  # the test images chose, and no validation image was needed
                ledger = _Consumption(bench)
                bench.trained(ledger, train)
                ledger.read("prepared", rows)
                ledger.read("test", test)
            described = ledger.check(
                _BOTH if kind == "test" else _NONE, train=train, test=test, prepared=rows
            )
            out[f"{arm}-{kind}"] = bench.outcome(
                test, history[epoch][0], {**described, "chosen": epoch + 1.0}
            )
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
    train, test, out = Rows.films(known[fitting]), known[held], {}
    for arm in ("size-without", "size-with"):
        ledger = _Consumption(bench)
        x, y = bench.trained(ledger, train)
        z = ledger.read("test", test)
        x, z = heads.scaled(x, z, features=bench.job.features)
        if bench.job.head == "1-nn":
            spread = np.sqrt(x.var(axis=0).sum())
            x, z = x / spread, z / spread
        if arm == "size-with":
            mean, spread = sizes[train.row].mean(axis=0), sizes[train.row].std(axis=0)
            spread[spread == 0] = 1
            blocks = [(sizes[rows] - mean) / spread for rows in (train.row, test)]
            if bench.job.head == "1-nn":
                blocks = [block / np.sqrt(block.shape[1]) for block in blocks]
            x, z = (np.concatenate([a, b], axis=1) for a, b in zip((x, z), blocks, strict=True))
        (found,) = bench.fit(x, y, [z])
        out[arm] = bench.outcome(test, found, ledger.check(_NONE, train=train, test=test))
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
    "siblings": _siblings,
    "exact": _exact,
    "near": _near,
    "no-test-set": _no_test_set,
    "oversample": _oversample,
    "augment": _augment,
    "scaling": _scaling,
    "pca": _pca,
    "selection": _selection,
    "tuning": _tuning,
    "epochs": _epochs,
    "size-and-mode": _size_and_mode,
}
