"""Check the files of the grid against each other: draws, ledgers and predictions, with no image and no model.

All that the grid consumes follows from the table of images, the seed of a draw and the name of an arm: roles
of images, training rows, what is scored, what both sides share. It is worked out here again, from the files
and the table of arms in `leakfree_study.inflation.plans`, and compared with what the files say.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from leakfree.data.study_file import kept_study
from leakfree.data.vocabulary import vocabulary
from leakfree.scores.predictions import SUM_TOLERANCE
from leakfree_study.inflation.draws import ROLES
from leakfree_study.inflation.expected import Expected, Plans
from leakfree_study.inflation.material import Material
from leakfree_study.inflation.plans import known
from leakfree_study.inflation.store import LEDGER, Arm

IMAGES = "manifests/06_films.csv"
#: Lines that one file gets at most; what is more is counted.
MOST = 4
_DRAW = re.compile(r"draw_(0|[1-9]\d*)")


@dataclass
class Found:
    """What was found in the files of a grid.

    Attributes
    ----------
    read : set of str
        Files that were read, relative to the run folder.
    problems : list of (str, str)
        A file and why it disagrees.
    not_checked : list of str
        What could not be checked, one line each.
    """

    read: set[str] = field(default_factory=set)
    problems: list[tuple[str, str]] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)


def check_grid(folder: Path) -> Found:
    """Check what the grid left in a run folder; nothing is found where it left nothing."""
    return _Grid(Path(folder)).check()


class _Wrong(Exception):
    """Why a file cannot be used."""


class _Grid:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.words = vocabulary(kept_study(folder))
        self.found = Found()
        self.material: Material | None = None
        self.plans: Plans | None = None
        self.listed: dict[str, set[int]] = {}
        self.entered: dict[str, set[int]] = defaultdict(set)
        self.unknown: set[str] = set()

    def check(self) -> Found:
        ledgers, scopes = self._files("ledgers", "06_*.csv.gz"), self._files("manifests", "06_draws_*.csv.gz")
        predictions = self._files("predictions/06", "**/*")
        if not (self.folder / IMAGES).exists() and not (ledgers or scopes or predictions):
            return self.found
        self._guard(IMAGES, self._images)
        if self.material is None:
            return self.found
        for name in scopes:
            self._guard(name, self._roles)
        for name in ledgers:
            self._guard(name, self._ledger)
        for name in predictions:
            self._guard(name, self._predictions)
        self._missing(set(ledgers), set(scopes), set(predictions))
        self._gaps()
        return self.found

    def _files(self, part: str, pattern: str) -> list[str]:
        paths = (self.folder / part).glob(pattern)
        return sorted(p.relative_to(self.folder).as_posix() for p in paths if not p.is_dir())

    def _guard(self, name: str, examine: Callable[[str], Iterator[str]]) -> None:
        """Note the first lines that an examination yields, and one for whatever stops it."""
        reasons = []
        try:
            reasons.extend(examine(name))
        except _Wrong as error:
            reasons.append(str(error))
        except OSError as error:
            reasons.append(f"cannot be read ({error.strerror or error})")
        except Exception as error:  # a file that anybody may have changed can be wrong in any way
            reasons.append(f"malformed: {type(error).__name__}: {error}")
        if len(reasons) > MOST:
            reasons[MOST - 1 :] = [f"and {len(reasons) - MOST + 1} more like these"]
        self.found.problems += [(name, reason) for reason in reasons]

    def _table(self, name: str, columns: list[str] | None, dtype: object = str) -> pd.DataFrame:
        frame = pd.read_csv(
            self.folder / name, dtype=dtype, keep_default_na=False, encoding_errors="surrogateescape"
        )
        self.found.read.add(name)
        if not isinstance(frame.index, pd.RangeIndex):
            raise _Wrong("its rows are longer than its header")
        if columns is not None and list(frame.columns) != columns:
            raise _Wrong(f"has the columns {', '.join(frame.columns)}, not {', '.join(columns)}")
        return frame

    # One file each

    def _images(self, name: str) -> Iterator[str]:
        frame = self._table(name, None)
        if frame["film"].tolist() != [str(image) for image in range(len(frame))]:
            yield "its images are not numbered from 0 in order"
        elif frame["image_id"].duplicated().any():
            yield f"{frame['image_id'][frame['image_id'].duplicated()].iloc[0]} stands there twice"
        else:
            self.material = Material(
                frame["image_id"].to_numpy(dtype=object),
                frame["patient"].to_numpy(dtype=object),
                np.array([self.words.labels.index(label) for label in frame["label"]], dtype=np.int64),
                {c.removeprefix("group_"): frame[c].astype(np.int64).to_numpy() for c in frame.columns[4:]},
                {},
                label_names=self.words.labels,
                tasks=self.words.tasks,
            )
            self.plans = Plans(self.material)

    def _roles(self, name: str) -> Iterator[str]:
        scope = name.removeprefix("manifests/06_draws_").removesuffix(".csv.gz")
        if scope not in self.material.groups:
            raise _Wrong(f"{IMAGES} has no groups of the scope {scope}")
        frame = self._table(name, None)
        numbers = [_DRAW.fullmatch(column) for column in frame.columns[1:]]
        if frame.columns[0] != "film" or not all(numbers):
            raise _Wrong(f"has the columns {', '.join(frame.columns)}, not image and draw_<seed>")
        if frame["film"].tolist() != [str(image) for image in range(len(self.material))]:
            raise _Wrong(f"its images are not those of {IMAGES}")
        self.listed[scope] = {int(number[1]) for number in numbers}
        for seed in sorted(self.listed[scope]):
            roles = frame[f"draw_{seed}"].to_numpy()
            expected = np.array(ROLES)[self.plans.draw(scope, seed).role]
            other = np.flatnonzero(roles != expected)
            if len(other):
                image = other[0]
                yield (
                    f"draw {seed}: {len(other)} images have another role than their draw gives, image {image}"
                    f" is {roles[image]} and not {expected[image]}"
                )

    def _ledger(self, name: str) -> Iterator[str]:
        task = name.removeprefix("ledgers/06_").removesuffix(".csv.gz")
        frame = self._table(name, ["predictions", "draw", *LEDGER])
        for path, text, *values in frame.itertuples(index=False):
            arm, seed = self._arm(path), int(text)
            if arm is None:
                continue
            if arm.task != task or seed in self.entered[path]:
                yield f"{path} draw {seed}: " + ("is of another task" if arm.task != task else "stands twice")
                continue
            self.entered[path].add(seed)
            if not self._is_listed(arm, seed):
                yield f"{path} draw {seed}: is no draw of manifests/06_draws_{arm.scope}.csv.gz"
                continue
            pairs = zip(LEDGER, values, self.plans.expected(arm, seed).ledger, strict=True)
            wrong = [f"{key} is {a[:12]!r}, planned {b[:12]!r}" for key, a, b in pairs if a != b]
            if wrong:
                yield f"{path} draw {seed}: {', '.join(wrong)}"

    def _predictions(self, name: str) -> Iterator[str]:
        arm = self._arm(name)
        if arm is None:
            return
        classes = self.words.tasks[arm.task].classes
        columns = [f"p_{c}" for c in classes]
        types = {"draw": np.int64, "film": np.int64, "label": str} | dict.fromkeys(columns, np.float64)
        frame = self._table(name, list(types), types)
        p, image = frame[columns].to_numpy(), frame["film"].to_numpy()
        for reason, fine in (
            ("a probability that is not from 0 to 1", ((p >= 0) & (p <= 1)).all(axis=1)),
            ("probabilities that do not sum to 1", np.abs(p.sum(axis=1) - 1) <= SUM_TOLERANCE),
        ):
            if not fine.all():
                line = int(np.argmin(fine)) + 2
                yield f"{(~fine).sum()} rows have {reason}, the first in line {line}"
        label = pd.Index(classes).get_indexer(frame["label"])
        order = np.lexsort((image, frame["draw"]))
        seeds, first = np.unique(frame["draw"].to_numpy()[order], return_index=True)
        entered, there = self.entered.get(name, set()), set(seeds.tolist())
        if there - entered:
            yield f"has {len(there - entered)} draws that its ledger has not, like {min(there - entered)}"
        if entered - there:
            yield f"lacks {len(entered - there)} draws that its ledger has, like {min(entered - there)}"
        for seed, rows in zip(seeds.tolist(), np.split(order, first[1:]), strict=False):
            if not self._is_listed(arm, seed):
                yield f"draw {seed}: is no draw of manifests/06_draws_{arm.scope}.csv.gz"
                continue
            expected = self.plans.expected(arm, seed)
            yield from (f"draw {seed}: {r}" for r in _compared(image[rows], label[rows], expected, classes))

    # What the arms plan

    def _arm(self, path: str) -> Arm | None:
        """Read an arm from its path; None, and noted, if it is none that is known."""
        try:
            arm = Arm.parse(path)
        except ValueError:
            arm = None
        if arm is None or arm.task not in self.words.tasks or not known(arm.name):
            self.unknown.add(path)
            return None
        if arm.scope not in self.material.groups:
            raise _Wrong(f"{IMAGES} has no groups of the scope {arm.scope}")
        return arm

    def _is_listed(self, arm: Arm, seed: int) -> bool:
        return seed in self.listed.get(arm.scope, {seed})  # a file that is missing is told of once

    # What is not there

    def _missing(self, ledgers: set[str], scopes: set[str], predictions: set[str]) -> None:
        arms = {path: Arm.parse(path) for path in (predictions | set(self.entered)) - self.unknown}
        wanted: Counter[str] = Counter()
        for path, arm in sorted(arms.items()):
            ledger = f"ledgers/06_{arm.task}.csv.gz"
            wanted.update((ledger, f"manifests/06_draws_{arm.scope}.csv.gz"))
            if path not in predictions:
                self.found.problems.append((path, f"is missing, but {ledger} has rows of it"))
        for name in sorted(set(wanted) - ledgers - scopes):
            self.found.problems.append((name, f"is missing, but {wanted[name]} arms rest on it"))
        fewer = [path for path, arm in arms.items() if self.listed.get(arm.scope, set()) - self.entered[path]]
        if fewer:
            gap = f"predictions/06: {len(fewer)} of {len(arms)} arms are not there in every draw"
            self.found.not_checked.append(gap)

    def _gaps(self) -> None:
        gaps = self.found.not_checked
        gaps.append(f"{IMAGES}: its labels and linked groups are taken as they are")
        names = sorted({_arm_name(path) for path in self.unknown})
        if names:
            n = len(self.unknown)
            gaps.append(f"predictions/06: {n} files or ledger entries of unknown arms ({', '.join(names)})")


def _arm_name(path: str) -> str:
    """Return the name of an arm from its path, the end of the path where it is that of none."""
    try:
        return Arm.parse(path).name
    except ValueError:
        return re.split(r"[/_]", path)[-1].removesuffix(".csv.gz")


def _compared(
    image: np.ndarray, label: np.ndarray, expected: Expected, classes: tuple[str, ...]
) -> Iterator[str]:
    """Compare the images of one draw, in order, and their classes with those planned."""
    twice = image[1:][image[1:] == image[:-1]]
    if len(twice):
        yield f"image {twice[0]} stands there twice"
    elif not np.array_equal(image, expected.scored):
        foreign, lacking = np.setdiff1d(image, expected.scored), np.setdiff1d(expected.scored, image)
        example = (foreign if len(foreign) else lacking)[0]
        yield (
            f"has {len(foreign)} images that its arm does not score and lacks {len(lacking)}, like image"
            f" {example}"
        )
    elif (label != expected.truth).any():
        place = int(np.argmax(label != expected.truth))
        yield f"image {image[place]} is not labelled {classes[expected.truth[place]]}"
