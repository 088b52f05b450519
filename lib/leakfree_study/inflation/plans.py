"""What every arm should consume, worked out from images and seeds alone, apart from the jobs that consume it.

`leakfree_study.inflation.check` compares a run's files with this.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedKFold

from leakfree.ledger.ledger import consumed_hash
from leakfree_study.inflation.arms import Arms, Rows
from leakfree_study.inflation.draws import Draw, draw
from leakfree_study.inflation.jobs import FOLDS, permuted_classes
from leakfree_study.inflation.material import VARIANTS, Material
from leakfree_study.inflation.store import Arm

_NAMES = re.compile(
    r"(?P<alone>clean|no-test-set)|(?P<dosed>siblings|exact|near)-(?P<dose>100|[1-9][0-9]?)"
    r"|(?P<prepared>scaling|pca|selection)-(?P<by>train|all)"
    r"|(?P<chosen>threshold|stopped|best-epoch)-(?P<on>val|test)"
    r"|(?P<tuned>tuning|folds)-(?P<folds>patients|images)"
    r"|(?P<copied>oversampled|augmented)-(?P<when>before|after)"
)


@dataclass(frozen=True)
class Plan:
    """What an arm of one draw consumes; all rows number images.

    Attributes
    ----------
    train : leakfree_study.inflation.arms.Rows
    test : numpy.ndarray of int64
        Images that the fitted model scores.
    prepared : numpy.ndarray of int64, optional
        Images on which something beside the model was fitted or chosen.
    folds : str
        Whether tuning folds are of ``patients`` or ``images``; empty where there are none.
    scored : numpy.ndarray of int64, optional
        Images in the predictions, where they are not `test`.
    """

    train: Rows
    test: np.ndarray
    prepared: np.ndarray | None = None
    folds: str = ""
    scored: np.ndarray | None = None


def known(name: str) -> bool:
    """Tell whether `planned` knows an arm of that name."""
    return _NAMES.fullmatch(name) is not None


def planned(arms: Arms, name: str) -> Plan:
    """Work out what an arm consumes; raises ValueError for a name that is not `known`."""
    found = _NAMES.fullmatch(name)
    if found is None:
        raise ValueError(f"unknown arm {name!r}")
    clean, several, single = arms.clean(), arms.rows("test"), arms.rows("single")
    everyone = np.concatenate([several, single])
    if found["dosed"]:
        dose = int(found["dose"]) / 100
        if found["dosed"] == "siblings":
            # The full dose is scored on singles too.
            return Plan(arms.siblings(dose), everyone if dose == 1 else several)
        return Plan(arms.copies(dose, near=found["dosed"] == "near"), several)
    if found["prepared"]:
        both = np.concatenate([clean.row, everyone])
        return Plan(clean, everyone, prepared=both if found["by"] == "all" else clean.row)
    if found["chosen"]:
        return Plan(clean, single, prepared=single if found["on"] == "test" else arms.rows("val"))
    if found["tuned"]:
        scored = clean.row if found["tuned"] == "folds" else None
        return Plan(clean, everyone, folds=found["folds"], scored=scored)
    if found["copied"]:
        copied = arms.oversampled if found["copied"] == "oversampled" else arms.augmented
        return Plan(copied(before=found["when"] == "before"), everyone)
    return Plan(clean if name == "clean" else arms.no_test_set(), everyone)


def split_groups(classes: np.ndarray, groups: np.ndarray, folds: str, seed: int) -> int:
    """Count the linked groups that tuning folds split.

    Parameters
    ----------
    classes, groups : numpy.ndarray of int64, shape (m,)
        Of the training images.
    folds : str
        ``patients`` or ``images``. Folds of patients split none, by how they are made.
    seed : int
        Of the draw.
    """
    if folds == "patients":
        return 0
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    sides = splitter.split(np.zeros(len(classes)), classes)
    return len(set().union(*(np.intersect1d(groups[a], groups[b]).tolist() for a, b in sides)))


@dataclass(frozen=True)
class Expected:
    """What the files should say of one arm and draw.

    Attributes
    ----------
    ledger : tuple of str
        Values of `leakfree_study.inflation.store.LEDGER`, as the file has them.
    scored, truth : numpy.ndarray of int64, shape (m,)
        Images in the predictions, in order, and their classes.
    """

    ledger: tuple[str, ...]
    scored: np.ndarray
    truth: np.ndarray


class Plans:
    """Plans of all arms over some images; kept, because models share them.

    Parameters
    ----------
    material : Material
        Of which no features are used.
    """

    def __init__(self, material: Material) -> None:
        self.material, n = material, len(material)
        keys = [k for code in range(len(VARIANTS)) for k in material.keys(np.arange(n), code)]
        # Sorted as hashes want them, and the place there of each row of features.
        order = sorted(range(len(keys)), key=keys.__getitem__)
        self._keys, self._place = [keys[i] for i in order], np.argsort(order)
        self._draws: dict[tuple, Draw] = {}
        self._arms: dict[tuple, Arms] = {}
        self._expected: dict[tuple, Expected] = {}

    def draw(self, scope: str, seed: int) -> Draw:
        """Make a draw again."""
        key = (scope, seed)
        if key not in self._draws:
            self._draws[key] = draw(self.material.labels, self.material.groups[scope], seed)
        return self._draws[key]

    def expected(self, arm: Arm, seed: int) -> Expected:
        """Work out what the files should say of a `known` arm in a draw."""
        key = (arm.task, arm.scope, arm.permuted, seed, arm.name)
        if key not in self._expected:
            arms, groups = self._arms_of(arm, seed), self.material.groups[arm.scope]
            plan = planned(arms, arm.name)
            scored = np.sort(plan.test if plan.scored is None else plan.scored)
            ledger = tuple(map(str, self._ledger(plan, arms, groups, seed)))
            self._expected[key] = Expected(ledger, scored, arms.labels[scored])
        return self._expected[key]

    def _arms_of(self, arm: Arm, seed: int) -> Arms:
        key = (arm.task, arm.scope, arm.permuted, seed)
        if key not in self._arms:
            made, classes = self.draw(arm.scope, seed), self.material.classes(self.material.tasks[arm.task])
            if arm.permuted:
                classes = permuted_classes(made, classes, self.material.groups[arm.scope], seed)
            self._arms[key] = Arms(made, classes)
        return self._arms[key]

    def _ledger(self, plan: Plan, arms: Arms, groups: np.ndarray, seed: int) -> list[object]:
        prepared = np.empty(0, dtype=np.int64) if plan.prepared is None else plan.prepared
        train, test = plan.train, Rows.films(plan.test)
        if plan.folds:
            shared = split_groups(arms.labels[train.row], groups[train.row], plan.folds, seed)
        else:
            fitted = np.concatenate([train.row, prepared])
            shared = len(np.intersect1d(groups[fitted], groups[test.row]))
        stages = (train, Rows.films(prepared), test)
        described = [fact for rows in stages for fact in (len(rows), self._hash(rows))]
        images = np.intersect1d(self._places(train.plus(prepared)), self._places(test))
        return [*described, len(images), shared]

    def _places(self, rows: Rows) -> np.ndarray:
        return self._place[rows.variant.astype(np.int64) * len(self.material) + rows.row]

    def _hash(self, rows: Rows) -> str:
        places, times = np.unique(self._places(rows), return_counts=True)
        counts = {self._keys[place]: n for place, n in zip(places.tolist(), times.tolist(), strict=True)}
        return consumed_hash(counts) if counts else ""
