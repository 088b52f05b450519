"""A notebook's side of a run: the cohort it works on, and the run folder it writes to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pandas.errors import EmptyDataError

from leakfree.audit.checks.findings import Report
from leakfree.audit.linked import CohortAudit, CohortCopies, cohort_copies
from leakfree.audit.report import load_json as load_report
from leakfree.audit.report import write_json as write_report
from leakfree.base.files import file_hash, replacing, write_json
from leakfree.base.parallel import available_cores
from leakfree.base.paths import cache_folder, project_root
from leakfree.data.cohort import SEALED_PART, Cohort, CohortError
from leakfree.data.groups import linked_groups
from leakfree.data.open import open_cohort
from leakfree.data.patients import patient_ids
from leakfree.data.pixels import PixelCache, load_pixels
from leakfree.data.record import COPIES, MEASUREMENTS, RecordedCohort
from leakfree.data.tasks import Task
from leakfree.data.vocabulary import words_of
from leakfree.split.manifest import Manifest
from leakfree_study.run.config import NOTEBOOKS
from leakfree_study.run.shown import ShownFigure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class RunOptions:
    """How a run is made; see `open_run`.

    Attributes
    ----------
    seed : int
        Seed of splits and models.
    jobs : int
        Cores to use; 0 for all.
    resume : bool
        Take over cells that an interrupted run finished with the same code, data and settings.
    allow_problems : bool
        Go on without unusable files.
    folder_ending : str
        What a run folder that nobody named ends with.
    """

    seed: int = 42
    jobs: int = 0
    resume: bool = False
    allow_problems: bool = False
    folder_ending: str = "quick"


def open_run(notebook: str, *, data: str = "phantom", run_dir: str = "", **options: object) -> Run:
    """Open the cohort that a notebook works on, and make the folder that it writes to.

    Parameters
    ----------
    notebook : str
        Name of the notebook, such as ``03_leaky_cnn``; its number starts the names of what it writes.
    data : str
        As ``run_all.py --data``; or the run folder itself, whose record stands for the images.
    run_dir : str
        Run folder; empty for ``artifacts/<cohort>-quick`` of the project.
    **options
        Of `RunOptions`.

    Raises
    ------
    CohortError, SourceError
        If there is no such cohort, or if `data` is the record of another run; one line.
    """
    made, project = RunOptions(**options), project_root()
    jobs = made.jobs or available_cores()
    cohort = open_cohort(data, cache_folder(project), allow_problems=made.allow_problems, jobs=jobs)
    folder = Path(run_dir) if run_dir else project / "artifacts" / f"{cohort.name}-{made.folder_ending}"
    run = Run(notebook, cohort, folder, data=data, options=made)
    if run.recorded and Path(data).resolve() != folder.resolve():
        raise CohortError(
            f"{data}: is the record of a run, from which only that run can be made again: "
            "set run_dir to the same folder, or see `leakfree rebuild`"
        )
    folder.mkdir(parents=True, exist_ok=True)
    return run


class Run:
    """What a notebook reads and writes; made by `open_run`.

    Parameters
    ----------
    notebook : str
    cohort : Cohort
    folder : pathlib.Path
        Run folder.
    data : str
        What the cohort was opened from.
    options : RunOptions
    """

    def __init__(
        self,
        notebook: str,
        cohort: Cohort,
        folder: Path,
        *,
        data: str,
        options: RunOptions,
    ) -> None:
        self.notebook, self.cohort, self.folder, self.data = notebook, cohort, Path(folder), data
        self.seed, self.resume = options.seed, options.resume
        self.jobs = options.jobs or available_cores()
        #: What `open_run` makes this run again from, in another process.
        self.arguments = {
            "notebook": notebook,
            "data": data,
            "run_dir": str(folder),
            **vars(replace(options, jobs=1)),
        }
        self.number = notebook.split("_")[0]
        self.project = project_root()
        self.cache = cache_folder(self.project)
        #: Labels, tasks and patient scopes of the cohort.
        self.words = words_of(cohort)
        self._pixels: dict[int, PixelCache] = {}
        self._sealed_pixels: dict[int, PixelCache] = {}
        self._outputs: set[str] = set()
        self._copies: CohortCopies | None = None
        self._searched: CohortAudit | None = None

    @property
    def recorded(self) -> bool:
        """Whether this run is made from its record: no images, no training, nothing measured anew."""
        return isinstance(self.cohort, RecordedCohort)

    @property
    def credit(self) -> str:
        """Whose images these are, for under a picture; may be empty."""
        if self.cohort.study is not None:
            return self.cohort.study.credit
        if self.cohort.name == "phantom":
            return "Synthetic images."
        return "Images: Kermany, Zhang, Goldbaum (2018), Mendeley Data, CC BY 4.0."

    def wrote(self, *paths: Path) -> None:
        """Note files as outputs of this notebook, for ``--resume`` and for the provenance."""
        self._outputs |= {Path(path).relative_to(self.folder).as_posix() for path in paths}
        write_json(self.folder / "outputs" / f"{self.notebook}.json", sorted(self._outputs))

    def save_table(self, name: str, table: pd.DataFrame) -> None:
        """Write ``tables/<name>.csv``; numbers keep six decimals, so that equal runs give equal files."""
        self.wrote(_write_table(self.folder / "tables" / f"{name}.csv", table))

    def measure(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Measure on pixels, and keep that as ``measurements/<name>.csv``; read it where there are no images.

        Either way the table comes from the file, so that a run and its rebuild work on the same numbers.

        Parameters
        ----------
        name : str
            Without suffix.
        make : callable
            Measures; not called in a run that is made from its record.

        Raises
        ------
        CohortError
            If the record has no such measurement.
        """
        path = self.folder / MEASUREMENTS / f"{name}.csv"
        if not self.recorded:
            _write_table(path, make())
        elif not path.is_file():
            raise CohortError(f"{path}: the record of the run lacks this measurement; it needs the images")
        self.wrote(path)
        return _read_table(path)

    def save_figure(
        self,
        figure: Figure | None,
        name: str,
        caption: str,
        tables: tuple[str, ...] = (),
        *,
        alt: str,
        images: bool = False,
        narrow: Figure | None = None,
    ) -> ShownFigure:
        """Write ``figures/<NN>_<name>`` with caption, alternative text and the tables that it was drawn from.

        With `narrow`, the same for a phone, as `leakfree_study.figures.plots.save`.

        Returns
        -------
        ShownFigure
            The written file as a notebook shows it: with its caption.
        """
        # Workers, which draw nothing, need not wait for Matplotlib.
        from leakfree_study.figures import plots

        entry = plots.Entry(
            caption,
            alt,
            source=f"notebooks/{self.notebook}.ipynb",
            tables=[f"tables/{table}.csv" for table in tables],
            images=images,
        )
        path = plots.save(figure, self.folder, f"{self.number}_{name}", entry, narrow)
        self.wrote(*plots.files_of(path))
        return ShownFigure(path, caption, alt)

    def image_figure(self, draw: Callable[[], Figure], name: str, caption: str, **more: Any) -> ShownFigure:
        """As `save_figure`, for a figure that shows images: one that stands is kept where there are none.

        A study whose file has ``pictures: false`` gets a figure that says so, and no image.

        Parameters
        ----------
        draw : callable
            Draws the figure; not called in a run that is made from its record.
        name, caption, **more
            As `save_figure`.
        """
        if self.cohort.study is not None and not self.cohort.study.pictures:
            from leakfree_study.figures.plots import words_alone

            told = "No image is shown: the study file has pictures: false."
            return self.save_figure(words_alone(told), name, told, more.get("tables", ()), alt=told)
        return self.save_figure(None if self.recorded else draw(), name, caption, **more, images=True)

    def save_manifest(self, manifest: Manifest) -> Path:
        """Write ``manifests/<name>.json``."""
        path = manifest.save(self.folder / "manifests" / f"{manifest.name}.json")
        self.wrote(path)
        return path

    def report(self, name: str, make: Callable[[], Report]) -> Report:
        """Audit, and keep the report as ``audit/<name>.json``; read it where there are no images.

        It is kept without durations, so that equal runs give equal files.
        """
        path = self.folder / "audit" / f"{name}.json"
        if not self.recorded:
            report = make()
            lasting = {key: value for key, value in report.provenance.items() if key != "seconds"}
            write_report(replace(report, provenance=lasting), path)
        self.wrote(path)
        return load_report(path)

    def development(self, task: Task | None = None, max_images: int = 0) -> pd.DataFrame:
        """Return the rows to train and test on: those of a task, thinned to about `max_images`.

        Thinning drops whole linked groups, so that patients keep all their images.

        Raises
        ------
        CohortError
            If the cohort lacks a class of the task, or what is left of it does.
        """
        table = self.cohort.development()
        if task is not None:
            table = task.select(table)
            if lost := task.lacking(table):
                raise CohortError(
                    f"{self.cohort.name}: no {lost[0]} image, so the task {task.name} cannot be run"
                )
        if not max_images or len(table) <= max_images:
            return table
        groups = self.groups(table)
        order = np.random.default_rng(self.seed).permutation(groups.max() + 1)
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        sizes = np.bincount(groups)
        kept = np.cumsum(sizes[order]) <= max_images
        thinned = table[kept[rank[groups]]]
        if task is not None and (lost := task.lacking(thinned)):
            raise CohortError(
                f"{self.cohort.name}: max_images = {max_images} leaves no {lost[0]} image, so the task "
                f"{task.name} cannot be run; raise it, or take all with 0"
            )
        return thinned

    def groups(self, table: pd.DataFrame, scope: str = "") -> np.ndarray:
        """Return linked groups of rows: joined by patient under the scope, and by verified copies.

        Without a scope, that which decides in this cohort is taken.
        """
        return linked_groups(patient_ids(table, scope or self.words.scope), self.copies().keys(table))

    def copies(self) -> CohortCopies:
        """Return which images of the cohort are copies of one another; searched once, then kept."""
        path = self.folder / COPIES
        if self._copies is None and self.recorded:
            try:
                self._copies = CohortCopies.load(path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise CohortError(f"{path}: not a record of copies: {error}") from error
        elif self._copies is None:
            self._copies = cohort_copies(self.cohort, self.cache, search=self.searched)
            self._copies.save(path)
        return self._copies

    def searched(self) -> CohortAudit:
        """Return the cohort read and searched for an audit under any split; done once a run."""
        if self._searched is None:
            self._need_images()
            self._searched = CohortAudit(self.cohort, jobs=self.jobs)
        return self._searched

    def pixels(self, image_size: int) -> PixelCache:
        """Return decoded development images, in memory once for each size."""
        if image_size not in self._pixels:
            self._need_images()
            table = self.cohort.development()
            self._pixels[image_size] = load_pixels(self.cohort, table, image_size, self.cache, jobs=self.jobs)
        return self._pixels[image_size]

    def sealed_pixels(self, image_size: int) -> PixelCache:
        """Return decoded images of the sealed part, once for each size; their labels stay sealed."""
        if image_size not in self._sealed_pixels:
            self._need_images()
            table = self.cohort.table[self.cohort.table["part"] == SEALED_PART]
            cache = load_pixels(self.cohort, table, image_size, self.cache, jobs=self.jobs)
            self._sealed_pixels[image_size] = cache
        return self._sealed_pixels[image_size]

    def _need_images(self) -> None:
        if self.recorded:
            raise CohortError(f"{self.data}: this needs the images, and the record of a run holds none")

    def read_table(self, name: str) -> pd.DataFrame:
        """Read a table that another notebook of the same run wrote.

        Raises
        ------
        FileNotFoundError
            With the name of the notebook to run first.
        """
        path = self.folder / "tables" / f"{name}.csv"
        if not path.is_file():
            number = {"reference": "02", "inflation": "06"}.get(first := name.split("_")[0], first)
            writers = [n for n in NOTEBOOKS if n.split("_")[0] == number and n != self.notebook]
            writer = " or ".join(writers) or "the notebook that writes it"
            raise FileNotFoundError(f"tables/{name}.csv is missing: run {writer} first")
        return pd.read_csv(path)


def _write_table(path: Path, table: pd.DataFrame) -> Path:
    with replacing(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6f", lineterminator="\n")
    return path


def _read_table(path: Path) -> pd.DataFrame:
    """Read a table as it was written: only an empty field is missing, since NA may be a name."""
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except EmptyDataError:  # nothing could be measured: not even columns
        return pd.DataFrame()


def read_outputs(folder: Path, notebook: str) -> list[str]:
    """Return the files, relative to the run folder, that a notebook noted as its outputs."""
    path = Path(folder) / "outputs" / f"{notebook}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def output_hashes(folder: Path, outputs: list[str]) -> dict[str, str]:
    """Return the SHA-256 of files of a run folder, ``missing`` where one is not there."""
    return {
        name: file_hash(folder / name) if (folder / name).is_file() else "missing" for name in sorted(outputs)
    }
