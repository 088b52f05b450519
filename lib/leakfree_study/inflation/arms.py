"""The arms of a comparison: which rows train and which are scored, one switch apart.

Both arms of every comparison have equal numbers of training rows of every class, and are scored on the same
original images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from leakfree_study.inflation.draws import Draw
from leakfree_study.inflation.material import VARIANTS

_NEAR, _AUGMENTED = VARIANTS.index("near"), VARIANTS.index("augmented")
#: Chance that the copy of a test image falls into training, where copies are made before an 80/20 split.
COPY_SHARE = 0.8


@dataclass(frozen=True)
class Rows:
    """Rows of features to train on.

    Attributes
    ----------
    row : numpy.ndarray of int64, shape (m,)
        Row of the material.
    variant : numpy.ndarray of uint8, shape (m,)
        Position in `leakfree_study.inflation.material.VARIANTS`.
    """

    row: np.ndarray
    variant: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    @classmethod
    def images(cls, row: np.ndarray) -> Rows:
        """Take original images."""
        return cls(np.asarray(row, dtype=np.int64), np.zeros(len(row), dtype=np.uint8))

    def plus(self, row: np.ndarray, variant: int = 0) -> Rows:
        """Append rows of one variant."""
        added = np.full(len(row), variant, dtype=np.uint8)
        return Rows(np.concatenate([self.row, row]).astype(np.int64), np.concatenate([self.variant, added]))

    def swap(self, out: np.ndarray, into: np.ndarray, variant: int = 0) -> Rows:
        """Put the rows `into` in the places of the images `out`."""
        place = {row: position for position, row in enumerate(self.row.tolist())}
        where = np.array([place[row] for row in out.tolist()], dtype=np.int64)
        row, code = self.row.copy(), self.variant.copy()
        row[where], code[where] = into, variant
        return Rows(row, code)


class Arms:
    """Training rows of every arm of one draw and task.

    Parameters
    ----------
    draw : Draw
    labels : numpy.ndarray of int64, shape (n,)
        Class of each image in the task; negative where it does not take part.
    """

    def __init__(self, draw: Draw, labels: np.ndarray) -> None:
        self.draw, self.labels = draw, np.asarray(labels)
        self._own, self._donor = self._by_slot("own"), self._by_slot("donor")
        tested = self.rows("test")
        self._test = dict(zip(draw.slot[tested].tolist(), tested.tolist(), strict=True))

    def rows(self, *roles: str) -> np.ndarray:
        """Return the rows with one of the roles that take part in the task."""
        rows = self.draw.rows(*roles)
        return rows[self.labels[rows] >= 0]

    def everyone(self) -> np.ndarray:
        """Return the images of all tested patients, one each."""
        return np.concatenate([self.rows("test"), self.rows("single")])

    def clean(self) -> Rows:
        """Take the base and the donors' reserves: nobody who is tested or validates."""
        return Rows.images(self.rows("base", "donor"))

    def siblings(self, dose: float) -> Rows:
        """Put test patients' own reserves in the place of their donors'."""
        leaked = [slot for slot in self._leaked(dose) if slot in self._own]
        if not leaked:
            return self.clean()
        out = np.concatenate([self._donor[slot] for slot in leaked])
        return self.clean().swap(out, np.concatenate([self._own[slot] for slot in leaked]))

    def copies(self, dose: float, *, near: bool = False) -> Rows:
        """Put the test images themselves, or near-duplicates, in the place of one image of their donors.

        Where the donor's reserve has no image of that class, as with patients of several classes, an image of
        the base gives its place.
        """
        out, into = self._one_each(self._leaked(dose))
        return self.clean().swap(out, into, _NEAR if near else 0)

    def no_test_set(self) -> Rows:
        """Put every test image in the place of a training image of its class."""
        out, into = self._one_each(self._leaked(2.0))
        rest, strangers = np.setdiff1d(self.rows("test", "single"), into), []
        rng = self._rng("no-test-set")
        base = np.setdiff1d(self.rows("base"), out)
        for label in np.unique(self.labels[rest]):
            pool, wanted = base[self.labels[base] == label], int((self.labels[rest] == label).sum())
            if wanted > len(pool):
                raise ValueError(
                    f"{wanted} test images, but {len(pool)} training images of their class to replace"
                )
            strangers.append(rng.choice(pool, wanted, replace=False))
        if strangers:
            order = np.argsort(self.labels[rest], kind="stable")
            out, into = np.concatenate([out, *strangers]), np.concatenate([into, rest[order]])
        return self.clean().swap(out, into)

    def oversampled(self, *, before: bool) -> Rows:
        """Repeat images of the rarer classes until all are equal: before the split, or in training only."""
        clean = self.clean()
        counts = np.bincount(self.labels[clean.row])
        rng = self._rng("oversample")
        added = []
        for label in np.flatnonzero(counts < counts.max()):
            n = int(counts.max() - counts[label])
            pool = clean.row[self.labels[clean.row] == label]
            if before:
                tested = self.rows("test", "single")
                pool = np.concatenate([pool, tested[self.labels[tested] == label]])
            # Every image is repeated once before any is repeated twice.
            rounds = -(-n // len(pool))
            added.append(np.concatenate([rng.permutation(pool) for _ in range(rounds)])[:n])
        return clean.plus(np.concatenate(added)) if added else clean

    def augmented(self, *, before: bool) -> Rows:
        """Add an augmented copy of each image: of training images, or of all before an 80/20 split."""
        clean = self.clean()
        copied = clean.row
        if before:
            rng = self._rng("augment")
            tested = self.rows("test", "single")
            tested = tested[rng.random(len(tested)) < COPY_SHARE]
            copied = copied.copy()
            for label in np.unique(self.labels[tested]):
                of_label = tested[self.labels[tested] == label]
                places = np.flatnonzero(self.labels[copied] == label)
                of_label = of_label[: len(places)]
                copied[rng.choice(places, len(of_label), replace=False)] = of_label
        return clean.plus(copied, _AUGMENTED)

    def _rng(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self.draw.seed, *name.encode()])

    def _leaked(self, dose: float) -> list[int]:
        return [slot for slot in np.flatnonzero(self.draw.leaked(dose)).tolist() if slot in self._test]

    def _one_each(self, slots: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Give, for each pair, a training image and the test image, of one class."""
        placed = [slot for slot in slots if slot in self._places]
        out, into = [self._places[slot] for slot in placed], [self._test[slot] for slot in placed]
        return np.array(out, dtype=np.int64), np.array(into, dtype=np.int64)

    @cached_property
    def _places(self) -> dict[int, int]:
        """Choose the training image that each test image may replace, the same at every dose."""
        strangers: dict[int, list[int]] = {}
        for row in self._rng("strangers").permutation(self.rows("base")).tolist():
            strangers.setdefault(int(self.labels[row]), []).append(row)
        places = {}
        for slot, test in sorted(self._test.items()):
            label = int(self.labels[test])
            alike = [row for row in self._donor.get(slot, ()) if self.labels[row] == label]
            if alike or strangers.get(label):
                places[slot] = int(alike[0]) if alike else strangers[label].pop()
        return places

    def _by_slot(self, role: str) -> dict[int, np.ndarray]:
        """Return the rows of a role by pair, ordered by class, so that the two reserves match one to one."""
        rows = self.rows(role)
        slot = self.draw.slot[rows]
        rows = rows[np.lexsort((rows, self.labels[rows], slot))]
        slots, first = np.unique(np.sort(slot), return_index=True)
        return dict(zip(slots.tolist(), np.split(rows, first[1:]), strict=True)) if len(rows) else {}
