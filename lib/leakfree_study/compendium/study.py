"""Run the study: cohort, notebooks in order, provenance, book."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from leakfree.base import precision, provenance
from leakfree.base.errors import LeakfreeError
from leakfree.base.escape import Arguments, log_lines, say
from leakfree.base.failures import internal_error
from leakfree.base.files import file_hash, locked, write_json
from leakfree.base.parallel import available_cores
from leakfree.base.paths import cache_folder, project_root
from leakfree.base.sums import write_sums
from leakfree.data.cohort import Cohort, CohortError
from leakfree.data.open import needs_study, open_cohort
from leakfree.data.record import is_record, save_cohort
from leakfree.data.sources import SourceError
from leakfree.data.study_file import StudyFileError
from leakfree_study.compendium.own_runs import (
    adaptation,
    begin_study,
    own_parameters,
    own_run_folder,
    standing_study,
    study_of,
)
from leakfree_study.compendium.progress import Progress
from leakfree_study.figures.plots import note_cells
from leakfree_study.run import made_with
from leakfree_study.run.config import (
    CHEST_ONLY,
    EXPECTED_SECONDS,
    LANES,
    LEFT_OUT,
    NOTEBOOKS,
    PHANTOM_IMAGES,
    PROFILES,
    Settings,
    needs,
    select_notebooks,
)
from leakfree_study.run.kernels import Kernels
from leakfree_study.run.notebooks import (
    NotebookError,
    execute,
    figure_cells,
    known_parameters,
    source_digest,
)
from leakfree_study.run.order import followers, run_in_order
from leakfree_study.run.run import output_hashes, read_outputs

log = logging.getLogger("leakfree")

#: Tables of other notebooks that a notebook reads: it is run again when they change.
_READ = {
    "05_network_checks": ("05_validation",),
    "05_reframed": ("05_validation",),
    "06_checks": ("inflation", "inflation_random_labels", "inflation_scopes", "06_cost", "06_network_cost"),
    "06_reanalysis": ("03_scores", "04_reference_size"),
}


class StudyError(LeakfreeError):
    """The study cannot go on; the message is one line that says what and where."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    log_lines(force=True)
    for name in ("leakfree", "papermill"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("papermill").addFilter(_is_progress)
    try:
        settings = parse(arguments)
        if needs_study(settings.data):
            problems, jobs = settings.allow_problems, settings.jobs
            study = begin_study(settings.data, settings.profile, allow_problems=problems, jobs=jobs)
            settings = settings.model_copy(update={"data": study})
        run_study(settings)
    except StudyFileError as error:
        say(f"run_all: {error}", file=sys.stderr)
        return 2
    except (StudyError, NotebookError, CohortError, SourceError) as error:
        say(f"run_all: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        say(f"run_all: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("run_all: interrupted; run again with --resume to go on", file=sys.stderr)
        return 130
    except Exception as error:
        return internal_error("run_all", error)
    return 0


def _is_progress(record: logging.LogRecord) -> bool:
    """Keep what a notebook prints; drop papermill's own chatter and the names of displayed objects.

    Where notebooks run side by side, each line begins with the notebook that it is of.
    """
    message = record.getMessage().strip()
    if threading.current_thread() is not threading.main_thread():
        record.msg, record.args = f"{threading.current_thread().name}: {record.getMessage()}", ()
    return bool(message) and not message.startswith(
        ("Input Notebook", "Output Notebook", "Executing", "Ending", "<")
    )


def _parser() -> Arguments:
    parser = Arguments(prog="run_all.py", description="Run the study and build its book.")
    parser.add_argument(
        "--data",
        default="phantom",
        metavar="phantom|hub|FOLDER|FILE|STUDY.YAML",
        help="cohort (default: phantom, made on the spot; phantom:N has N images); any hub://owner/name is "
        "accepted; study.yaml of `leakfree new`, which is started here for other images that it understands",
    )
    parser.add_argument(
        "--profile", choices=list(PROFILES), help="size of the run (default: the study file's, else quick)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="run folder (default: artifacts/<cohort>-<profile>)"
    )
    parser.add_argument("--only", default="", metavar="02,05", help="notebooks to run, by number or name")
    parser.add_argument(
        "--resume", action="store_true", help="skip what is up to date, go on where a run was cut off"
    )
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="cores to use (default: all)")
    parser.add_argument("--scheduler", default="", metavar="ADDRESS", help="Dask scheduler for the searches")
    parser.add_argument("--no-book", action="store_true", help="do not build the book")
    parser.add_argument(
        "--allow-problems", action="store_true", help="go on without corrupt, empty and foreign files"
    )
    parser.add_argument(
        "-p",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="value of a notebook parameter, such as seed=7 or weights=resnet18.pth",
    )
    return parser


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Turn arguments into settings; leaves with exit code 2 when they cannot be used."""
    parser = _parser()
    given = parser.parse_args(arguments)
    given.data = standing_study(given.data)
    own = study_of(given.data)
    parameters = {}
    for item in given.parameter:
        name, separator, value = item.partition("=")
        if not separator:
            parser.error(f"--parameter {item}: NAME=VALUE is needed")
        try:
            parameters[name] = json.loads(value)
        except ValueError:
            parameters[name] = value
    try:
        precision.forced()
        if not given.data.strip():
            parser.error("--data: is empty; a folder, a file, phantom or hub is needed")
        if given.only and not given.only.replace(",", "").strip():
            parser.error(f"--only {given.only}: names no notebook")
        settings = Settings(
            data=given.data,
            profile=given.profile or (own.profile if own else "quick"),
            out=given.out,
            only=tuple(part.strip() for part in given.only.split(",") if part.strip()),
            resume=given.resume,
            jobs=given.jobs,
            scheduler=given.scheduler,
            book=not given.no_book,
            allow_problems=given.allow_problems or (own is not None and own.allow_problems),
            parameters=parameters,
        )
        select_notebooks(settings.only)
    except ValidationError as error:
        first = error.errors()[0]
        parser.error(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
    except ValueError as error:
        parser.error(str(error))
    return settings


def run_folder(settings: Settings, cohort: Cohort, project: Path) -> Path:
    """Choose the run folder: ``--out``, or ``artifacts/<cohort>`` for full, ``-<profile>`` otherwise."""
    if settings.out is not None:
        return Path(settings.out)
    if cohort.study is not None and (folder := own_run_folder(settings.data)) is not None:
        return folder
    suffix = "" if settings.profile == "full" else f"-{settings.profile}"
    return project / "artifacts" / f"{cohort.name}{suffix}"


def run_study(settings: Settings) -> Path:
    """Run the notebooks that are asked for, write the provenance, build the book.

    Returns
    -------
    pathlib.Path
        The run folder.

    Raises
    ------
    StudyError, NotebookError, CohortError, SourceError
        One line that says what failed and where.
    """
    started = time.perf_counter()
    project = project_root(Path(__file__).parent)
    if not (project / "run_all.py").is_file():
        project = project_root()
    if is_record(Path(settings.data)):
        raise StudyError(
            f"{settings.data}: is a finished run without images; `leakfree rebuild` makes its tables again"
        )
    if settings.data == "phantom" and settings.profile in PHANTOM_IMAGES:
        settings = settings.model_copy(update={"data": f"phantom:{PHANTOM_IMAGES[settings.profile]}"})
    settings = settings.model_copy(
        update={
            "data": _from_here(settings.data),
            "parameters": {name: _from_here(value) for name, value in settings.parameters.items()},
        }
    )
    names = select_notebooks(settings.only)
    parameters = {name: _parameters(settings, name, project) for name in names}
    _refuse_unknown(settings, parameters, project)
    cohort = open_cohort(
        settings.data,
        cache_folder(project),
        allow_problems=settings.allow_problems,
        jobs=settings.jobs or available_cores(),
    )
    log.info("cohort %s: %d images, checksum %s", cohort.name, len(cohort), cohort.checksum[:12])
    folder = run_folder(settings, cohort, project)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        return _run_in(folder, settings, cohort, project, names, parameters, started)


def _from_here(value: Any) -> Any:
    """Write an absolute path as seen from where the command runs: a record names no folder of a machine."""
    if isinstance(value, str) and Path(value).is_absolute():
        with suppress(ValueError):  # on another drive
            return Path(os.path.relpath(value)).as_posix()
    return value


def _run_in(
    folder: Path,
    settings: Settings,
    cohort: Cohort,
    project: Path,
    names: Sequence[str],
    parameters: dict[str, dict[str, Any]],
    started: float,
) -> Path:
    if cohort.study is not None:
        names = [name for name in names if name not in CHEST_ONLY]
        for name in names:
            known = known_parameters(project / "notebooks" / f"{name}.ipynb")
            own = own_parameters(cohort.study, known)
            parameters[name] |= {k: v for k, v in own.items() if k not in settings.parameters}
    if settings.profile in LEFT_OUT:
        log.info("profile %s: %s", settings.profile, LEFT_OUT[settings.profile])
    steps = [*names, "book"] if settings.book else names
    progress = Progress({step: EXPECTED_SECONDS[settings.profile][step] for step in steps})
    _run_notebooks(names, parameters, settings, cohort, folder, project, progress)
    save_cohort(folder, cohort)
    _write_provenance(settings, cohort, folder, project, names)
    write_sums(folder)
    if settings.book:
        from leakfree_study.book.build import BookError, build

        log.info(progress.line("book"))
        hint = "; with --only, the other notebooks must have run before, or add --no-book"
        hint = hint if settings.only else ""
        try:
            build(folder, project)
        except BookError as error:
            raise StudyError(f"{error}{hint}") from error
        except FileNotFoundError as error:
            raise StudyError(f"{error.filename}: the book needs it, and it is not there{hint}") from error
    _print_summary(folder)
    log.info("done in %.0f s: %s", time.perf_counter() - started, _shown(folder))
    return folder


def _run_notebooks(
    names: Sequence[str],
    parameters: dict[str, dict[str, Any]],
    settings: Settings,
    cohort: Cohort,
    folder: Path,
    project: Path,
    progress: Progress,
) -> None:
    """Run the notebooks that are not up to date, as many side by side as the profile says."""
    cores = settings.jobs or available_cores()
    lanes = min(LANES[settings.profile], cores, len(names))
    order, short = needs(names), settings.profile != "full"
    after = followers(order)

    def work(name: str) -> None:
        log.info(progress.line(name))
        # No kernel waits for hours, or for a notebook that is up to date.
        if short and not settings.resume:
            kernels.prepare(*(project / "notebooks" / f"{other}.ipynb" for other in after[name]))
        ran = _run_notebook(name, parameters[name], settings, cohort, folder, kernels, project)
        progress.end(name, skipped=not ran)

    seconds = EXPECTED_SECONDS[settings.profile]
    with Kernels(Path.cwd(), shared=short, threads=cores // lanes if lanes > 1 else 0) as kernels:
        run_in_order(order, work, lanes=lanes, seconds=seconds, give_up=kernels.kill)


def _parameters(settings: Settings, name: str, project: Path) -> dict[str, Any]:
    known = known_parameters(project / "notebooks" / f"{name}.ipynb")
    # All others wait for what 02 finds.
    lanes = 1 if name == NOTEBOOKS[1] else LANES[settings.profile]
    values = {
        **PROFILES[settings.profile][name],
        "data": settings.data,
        "profile": settings.profile,
        "jobs": settings.jobs if lanes == 1 else max(1, (settings.jobs or available_cores()) // lanes),
        "scheduler": settings.scheduler,
        "allow_problems": settings.allow_problems,
        **settings.parameters,
    }
    # A profile's own parameter must exist (papermill refuses it later); the common ones are optional.
    return {k: v for k, v in values.items() if k in known or k in PROFILES[settings.profile][name]}


def _refuse_unknown(settings: Settings, parameters: dict[str, dict[str, Any]], project: Path) -> None:
    reserved = {"data", "profile", "jobs", "scheduler", "allow_problems", "resume", "run_dir"}
    for name in settings.parameters:
        if name in reserved:
            raise StudyError(f"--parameter {name}: has an option of its own, or is set by the run")
        if not any(name in values for values in parameters.values()):
            known = sorted(
                set().union(*(known_parameters(project / "notebooks" / f"{n}.ipynb") for n in parameters))
            )
            choices = ", ".join(k for k in known if k not in reserved)
            raise StudyError(f"--parameter {name}: no notebook of this run has it; known: {choices}")


def _run_notebook(
    name: str,
    parameters: dict[str, Any],
    settings: Settings,
    cohort: Cohort,
    folder: Path,
    kernels: Kernels,
    project: Path,
) -> bool:
    """Run a notebook unless the run is resumed and it is up to date; return whether it ran."""
    source = project / "notebooks" / f"{name}.ipynb"
    target = folder / "notebooks" / f"{name}.ipynb"
    record_path = folder / "outputs" / f"{name}.run.json"
    key = _key(name, parameters, cohort, folder, source)
    record = _read_json(record_path)
    if settings.resume and record.get("key") == key:
        missing = [
            output
            for output, digest in output_hashes(folder, list(record["outputs"])).items()
            if digest != record["outputs"][output]
        ]
        if not missing and target.is_file():
            log.info("%s: up to date, skipped", name)
            return False
        log.info("%s: %s changed or missing, running again", name, (missing or [target.name])[0])
    record_path.unlink(missing_ok=True)
    started = time.perf_counter()
    place = Path(os.path.relpath(folder)).as_posix()
    execute(
        source,
        target,
        {**parameters, "run_dir": place, "resume": settings.resume},
        kernels=kernels,
        adapt=adaptation(cohort),
    )
    seconds = round(time.perf_counter() - started, 1)
    hashes = finish_notebook(folder, name)
    lost = [output for output, digest in hashes.items() if digest == "missing"]
    if lost:
        raise StudyError(f"{name}: noted {lost[0]} as written, but it is not there")
    record = {"key": key, "seconds": seconds, "parameters": parameters, "outputs": hashes}
    cells = [output for output in hashes if output.startswith("cells/")]
    record["precision"] = made_with.precisions(folder, cells)
    write_json(record_path, {**record, "git": provenance.git_state(project)})
    log.info("%s: %.0f s, %d files", name, seconds, len(hashes))
    return True


def finish_notebook(folder: Path, name: str) -> dict[str, str]:
    """Note the cells of an executed notebook's figures; return the SHA-256 of everything that it wrote."""
    if cells := figure_cells(folder / "notebooks" / f"{name}.ipynb"):
        note_cells(folder, cells)
    # The index of figures is shared by the notebooks: it is no output of one of them.
    return output_hashes(folder, [*read_outputs(folder, name), f"notebooks/{name}.ipynb"])


def _key(name: str, parameters: dict[str, Any], cohort: Cohort, folder: Path, source: Path) -> str:
    content: dict[str, Any] = {
        "notebook": source_digest(source),
        "library": provenance.library_digest(),
        "data": cohort.checksum,
        "versions": provenance.versions(),
        "parameters": {k: v for k, v in parameters.items() if k not in ("data", "jobs", "scheduler")},
        "files": {
            k: file_hash(Path(v)) for k, v in parameters.items() if k == "weights" and Path(str(v)).is_file()
        },
    }
    if wanted := precision.forced():
        content["precision"] = wanted
    if cohort.study is not None:  # title, words and credit stand in its pages
        content["study"] = cohort.study.model_dump(mode="json")
    tables = [folder / "tables" / f"{table}.csv" for table in _READ.get(name, ())]
    if name == "results":
        tables = [*sorted((folder / "tables").glob("0*.csv")), folder / "tables" / "reference_counts.csv"]
    if tables:
        content["tables"] = {path.name: file_hash(path) for path in tables if path.is_file()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write_provenance(
    settings: Settings, cohort: Cohort, folder: Path, project: Path, names: Sequence[str]
) -> None:
    before = _read_json(folder / "provenance.json")
    records = before.get("notebooks", {})
    for record in records.values():
        record.setdefault("git", before.get("git"))  # notebooks of one run may come from different commits
    for name in names:
        record = _read_json(folder / "outputs" / f"{name}.run.json")
        kept = ("seconds", "parameters", "outputs", "precision")
        records[name] = {key: record[key] for key in kept if key in record}
        records[name]["git"] = record.get("git", before.get("git"))
    write_json(
        folder / "provenance.json",
        {
            "settings": json.loads(settings.model_dump_json(exclude={"out"})),
            **made_with.of_run(cohort, project),
            "notebooks": records,
            "seconds": round(sum(record["seconds"] for record in records.values()), 1),
        },
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _print_summary(folder: Path) -> None:
    path = folder / "tables" / "summary.csv"
    if path.is_file():
        with pd.option_context("display.width", 160, "display.max_columns", 20, "display.max_rows", 200):
            for line in pd.read_csv(path).to_string(index=False).splitlines():
                say(line)


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
