"""Predictions, ledgers and draws of the grid as files: few, compressed, readable anywhere, and checkable.

``manifests/06_films.csv``
    One row an image: number, image id, label, patient, linked group by scope. Files below use the number.
``manifests/06_draws_<scope>.csv.gz``
    One row an image, one column a draw: its role.
``predictions/06/<task>/<model>_<arm>.csv.gz``
    One row an image and draw: ``draw, image, label`` and ``p_<class>``. The label is the class in the task, a
    permuted one in the control.
``ledgers/06_<task>.csv.gz``
    One row an arm and draw: counts and hashes of what each stage consumed, and what training and test share.
"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from leakfree.base.files import replacing
from leakfree.data.tasks import Task
from leakfree_study.inflation.draws import ROLES, draw
from leakfree_study.inflation.estimate import Scored
from leakfree_study.inflation.jobs import Job, Outcome
from leakfree_study.inflation.material import Material

LEDGER = (
    "n_train", "train_sha256", "n_prepared", "prepared_sha256", "n_test", "test_sha256", "shared_images",
    "shared_groups",
)  # fmt: skip
_PATH = re.compile(
    r"predictions/06/(?P<task>[^/_]+)/(?P<features>[^/_]+)_(?P<head>[^/_]+)_(?P<name>[^/_]+)"
    r"(?:_(?P<scope>(?!random-labels)[^/_]+))?(?P<permuted>_random-labels)?\.csv\.gz"
)


@dataclass(frozen=True, order=True)
class Arm:
    """What one file of predictions holds: an arm of a model and task, over all draws."""

    task: str
    features: str
    head: str
    name: str
    scope: str = "series"
    permuted: bool = False

    @classmethod
    def of(cls, job: Job, name: str) -> Arm:
        """Name an arm of a job."""
        return cls(job.task, job.features, job.head, name, job.scope, job.permuted)

    @classmethod
    def parse(cls, path: str) -> Arm:
        """Read `path` back; raises ValueError where it is that of no arm."""
        found = _PATH.fullmatch(path)
        if found is None:
            raise ValueError(f"{path!r} is no path of predictions of an arm")
        fields = found.groupdict()
        arm = cls(**fields | {"scope": fields["scope"] or "series", "permuted": bool(fields["permuted"])})
        if arm.path != path:
            raise ValueError(f"{path!r} should be {arm.path}")
        return arm

    @property
    def path(self) -> str:
        """Path of the predictions, relative to the run folder."""
        marks = "" if self.scope == "series" else f"_{self.scope}"
        marks += "_random-labels" if self.permuted else ""
        return f"predictions/06/{self.task}/{self.features}_{self.head}_{self.name}{marks}.csv.gz"

    @property
    def model(self) -> str:
        """Name of the model for readers."""
        return f"{self.head} on {self.features}"


@dataclass
class Results:
    """Outcomes of a grid, gathered by arm.

    Attributes
    ----------
    material : Material
    arms : dict of Arm to dict of int to Outcome
        By draw.
    """

    material: Material
    arms: dict[Arm, dict[int, Outcome]] = field(default_factory=dict)

    def add(self, job: Job, outcomes: Mapping[str, Outcome]) -> None:
        """Take in the outcomes of a job."""
        for name, outcome in outcomes.items():
            self.arms.setdefault(Arm.of(job, name), {})[job.seed] = outcome

    def scored(self, arm: Arm, population: str, like: Arm | None = None) -> list[Scored]:
        """Return what an arm scored, draw by draw, in the order of images.

        Parameters
        ----------
        arm : Arm
        population : str
            See `leakfree_study.inflation.catalogue.POPULATIONS`.
        like : Arm, optional
            Take only the draws and images that this arm scored too.
        """
        groups = self.material.groups[arm.scope]
        others = None if like is None else self.arms[like]
        out = []
        for seed, outcome in sorted(self.arms[arm].items()):
            keep = self._members(arm.scope, seed, outcome.rows, population)
            if others is not None:
                if seed not in others:
                    continue
                keep &= np.isin(outcome.rows, others[seed].rows)
            order = np.flatnonzero(keep)[np.argsort(outcome.rows[keep], kind="stable")]
            rows = outcome.rows[order]
            out.append(
                Scored(groups[rows], outcome.truth[order].astype(np.int64), outcome.probabilities[order])
            )
        return out

    def _members(self, scope: str, seed: int, rows: np.ndarray, population: str) -> np.ndarray:
        if population in ("training", "sample"):
            return np.ones(len(rows), dtype=bool)
        roles = {"several": ("test",), "single": ("single",), "everyone": ("test", "single")}[population]
        return np.isin(rows, self.draw(scope, seed).rows(*roles))

    def draw(self, scope: str, seed: int):
        """Make a draw again."""
        key = (scope, seed)
        if key not in self._draws:
            self._draws[key] = draw(self.material.labels, self.material.groups[scope], seed)
        return self._draws[key]

    def __post_init__(self) -> None:
        self._draws: dict = {}


def write_csv(path: Path, frame: pd.DataFrame) -> Path:
    """Write a table, compressed if the name says so; equal tables give equal bytes."""
    data = frame.to_csv(index=False, lineterminator="\n").encode("utf-8", "surrogateescape")
    if path.suffix == ".gz":
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9, mtime=0) as stream:
            stream.write(data)
        data = packed.getvalue()
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return path


def save_images(folder: Path, material: Material) -> Path:
    """Write the table that numbers the images."""
    frame = pd.DataFrame(
        {
            "film": np.arange(len(material)),
            "image_id": material.ids,
            "label": [material.label_names[code] for code in material.labels],
            "patient": material.patients,
            **{f"group_{scope}": groups for scope, groups in material.groups.items()},
        }
    )
    return write_csv(folder / "manifests" / "06_films.csv", frame)


def save_draws(folder: Path, results: Results) -> list[Path]:
    """Write the roles of all images in all draws, one file a scope."""
    wanted: dict[str, set[int]] = {}
    for arm, outcomes in results.arms.items():
        wanted.setdefault(arm.scope, set()).update(outcomes)
    paths = []
    for scope, seeds in sorted(wanted.items()):
        names = np.array(ROLES)
        frame = pd.DataFrame(
            {"film": np.arange(len(results.material))}
            | {f"draw_{seed}": names[results.draw(scope, seed).role] for seed in sorted(seeds)}
        )
        paths.append(write_csv(folder / "manifests" / f"06_draws_{scope}.csv.gz", frame))
    return paths


def save_arms(folder: Path, results: Results) -> list[Path]:
    """Write predictions of every arm, and the ledgers by task."""
    paths, ledgers = [], {}
    for arm, outcomes in sorted(results.arms.items(), key=lambda item: item[0].path):
        classes = results.material.tasks[arm.task].classes
        frames = []
        for seed, outcome in sorted(outcomes.items()):
            order = np.argsort(outcome.rows, kind="stable")
            frame = pd.DataFrame(
                {"draw": seed, "film": outcome.rows[order]}
                | {"label": np.array(classes)[outcome.truth[order]]}
                | {
                    f"p_{name}": np.char.mod("%.5f", outcome.probabilities[order, column])
                    for column, name in enumerate(classes)
                }
            )
            frames.append(frame)
            entry = {"predictions": arm.path, "draw": seed, **{key: outcome.ledger[key] for key in LEDGER}}
            ledgers.setdefault(arm.task, []).append(entry)
        paths.append(write_csv(folder / arm.path, pd.concat(frames)))
    for task, rows in ledgers.items():
        paths.append(write_csv(folder / "ledgers" / f"06_{task}.csv.gz", pd.DataFrame(rows)))
    return paths


def read_arm(folder: Path, arm: Arm, task: Task) -> dict[int, Outcome]:
    """Read the predictions of an arm in its task back, without its ledger."""
    classes = task.classes
    frame = pd.read_csv(folder / arm.path)
    codes = frame["label"].map({name: code for code, name in enumerate(classes)}).to_numpy()
    probabilities = frame[[f"p_{name}" for name in classes]].to_numpy(dtype=np.float32)
    out = {}
    for seed, rows in frame.groupby("draw").indices.items():
        out[int(seed)] = Outcome(
            frame["film"].to_numpy()[rows], probabilities[rows], codes[rows].astype(np.int8)
        )
    return out


def read_run(folder: Path, material: Material) -> Results:
    """Read back every arm that a run's ledgers name, so that every number can be computed from its files.

    Raises
    ------
    ValueError
        If the images that the run numbered are not those of `material`.
    """
    images = pd.read_csv(
        folder / "manifests" / "06_films.csv",
        dtype=str,
        keep_default_na=False,
        encoding_errors="surrogateescape",
    )
    if images["image_id"].tolist() != material.ids.tolist():
        raise ValueError(f"{folder / 'manifests' / '06_films.csv'}: numbers other images than the cohort has")
    arms: dict[Arm, dict[int, Outcome]] = {}
    for path in sorted((folder / "ledgers").glob("06_*.csv.gz")):
        for name, rows in pd.read_csv(path).groupby("predictions", sort=True):
            arm = Arm.parse(str(name))
            ledgers = rows.set_index("draw")[list(LEDGER)].to_dict("index")
            arms[arm] = {
                seed: Outcome(found.rows, found.probabilities, found.truth, ledgers[seed])
                for seed, found in read_arm(folder, arm, material.tasks[arm.task]).items()
            }
    return Results(material, arms)


def files_of(folder: Path) -> list[Path]:
    """List the files that `save_images`, `save_draws` and `save_arms` wrote."""
    patterns = ("manifests/06_films.csv", "manifests/06_draws_*.csv.gz", "predictions/06/*/*.csv.gz")
    return sorted(
        path for pattern in (*patterns, "ledgers/06_*.csv.gz") for path in Path(folder).glob(pattern)
    )
