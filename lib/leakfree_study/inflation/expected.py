"""What the files of the grid should say, worked out from images, seeds and the table of arms alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedKFold

from leakfree.ledger.ledger import consumed_hash
from leakfree_study.inflation.arms import Arms, Rows
from leakfree_study.inflation.draws import Draw, draw, permuted_classes
from leakfree_study.inflation.material import VARIANTS, Material
from leakfree_study.inflation.plans import FOLDS, Plan, planned
from leakfree_study.inflation.store import Arm


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
        train, test = plan.train, Rows.images(plan.test)
        if plan.folds:
            shared = split_groups(arms.labels[train.row], groups[train.row], plan.folds, seed)
        else:
            fitted = np.concatenate([train.row, prepared])
            shared = len(np.intersect1d(groups[fitted], groups[test.row]))
        stages = (train, Rows.images(prepared), test)
        described = [fact for rows in stages for fact in (len(rows), self._hash(rows))]
        images = np.intersect1d(self._places(train.plus(prepared)), self._places(test))
        return [*described, len(images), shared]

    def _places(self, rows: Rows) -> np.ndarray:
        return self._place[rows.variant.astype(np.int64) * len(self.material) + rows.row]

    def _hash(self, rows: Rows) -> str:
        places, times = np.unique(self._places(rows), return_counts=True)
        counts = {self._keys[place]: n for place, n in zip(places.tolist(), times.tolist(), strict=True)}
        return consumed_hash(counts) if counts else ""
