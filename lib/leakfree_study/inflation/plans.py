"""The table of arms: what each one trains on, is scored on, and shares with the test.

`leakfree_study.inflation.jobs` carries it out, and `leakfree_study.inflation.check` compares a run's files
with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from leakfree_study.inflation.arms import Arms, Rows

#: Doses: shares of the test patients, by class, with at least one image of theirs in training.
DOSES = (0.25, 0.50, 0.75, 1.00)
FOLDS = 3
#: What an arm may share between training and test.
NONE, GROUPS, BOTH = frozenset(), frozenset({"linked groups"}), frozenset({"images", "linked groups"})
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
    declared : frozenset of str
        What training, with all else that was fitted, shares with the test: ``images``, ``linked groups``.
    prepared : numpy.ndarray of int64, optional
        Images on which something beside the model was fitted or chosen.
    folds : str
        Whether tuning folds are of ``patients`` or ``images``; empty where there are none.
    scored : numpy.ndarray of int64, optional
        Images in the predictions, where they are not `test`.
    """

    train: Rows
    test: np.ndarray
    declared: frozenset[str] = NONE
    prepared: np.ndarray | None = None
    folds: str = ""
    scored: np.ndarray | None = None


def known(name: str) -> bool:
    """Tell whether `planned` knows an arm of that name."""
    return _NAMES.fullmatch(name) is not None


def dosed(kind: str, doses: Iterable[float] = DOSES) -> list[str]:
    """Name the arms of a leak that has doses."""
    return [f"{kind}-{dose * 100:.0f}" for dose in doses]


def planned(arms: Arms, name: str) -> Plan:
    """Work out what an arm consumes; raises ValueError for a name that is not `known`."""
    found = _NAMES.fullmatch(name)
    if found is None:
        raise ValueError(f"unknown arm {name!r}")
    clean, everyone, single = arms.clean(), arms.everyone(), arms.rows("single")
    if found["dosed"]:
        dose, several = int(found["dose"]) / 100, arms.rows("test")
        if found["dosed"] == "siblings":
            # The full dose is scored on singles too: the value for a natural split needs them.
            return Plan(arms.siblings(dose), everyone if dose == 1 else several, GROUPS)
        near = found["dosed"] == "near"
        return Plan(arms.copies(dose, near=near), several, GROUPS if near else BOTH)
    if found["prepared"]:
        if found["by"] == "train":
            return Plan(clean, everyone, prepared=clean.row)
        return Plan(clean, everyone, BOTH, prepared=np.concatenate([clean.row, everyone]))
    if found["chosen"]:
        if found["on"] == "val":
            return Plan(clean, single, prepared=arms.rows("val"))
        return Plan(clean, single, BOTH, prepared=single)
    if found["tuned"]:
        scored = clean.row if found["tuned"] == "folds" else None
        return Plan(clean, everyone, folds=found["folds"], scored=scored)
    if found["copied"]:
        before = found["when"] == "before"
        if found["copied"] == "oversampled":
            return Plan(arms.oversampled(before=before), everyone, BOTH if before else NONE)
        return Plan(arms.augmented(before=before), everyone, GROUPS if before else NONE)
    return Plan(clean, everyone) if name == "clean" else Plan(arms.no_test_set(), everyone, BOTH)
