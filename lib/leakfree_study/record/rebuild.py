"""Make all tables and figures of a finished run again from its record: no images, no training.

The notebooks are executed once more in a copy of the run that has no tables and no figures. Cells, copies,
audit reports and what was measured on pixels come from the record; every score, interval, table and figure is
computed again from the predictions. Figures that show images are the exception: they are kept.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat

from leakfree.base.errors import LeakfreeError
from leakfree.base.files import replacing, write_json
from leakfree.base.parallel import available_cores
from leakfree.base.provenance import git_state
from leakfree.base.sums import NAME as SUMS
from leakfree.base.sums import check_sums, recorded_files, write_sums
from leakfree.data.record import RecordedCohort, is_record
from leakfree_study.compendium.own_runs import adaptation
from leakfree_study.compendium.study import finish_notebook
from leakfree_study.run.config import CHEST_ONLY, EXPECTED_SECONDS, LANES, NOTEBOOKS, PART_OF, needs
from leakfree_study.run.kernels import Kernels
from leakfree_study.run.notebooks import execute, known_parameters
from leakfree_study.run.order import followers, run_in_order
from leakfree_study.run.run import output_hashes

log = logging.getLogger("leakfree")

#: What is made again; everything else of a run is its record.
REMADE = ("tables", "figures", "notebooks")
CARD = "models/MODEL_CARD.md"
#: Working copy in the run folder, which git ignores.
SCRATCH = Path(".cache", "rebuild")


class RebuildError(LeakfreeError):
    """A run cannot be rebuilt; the message is one line."""


@dataclass
class Rebuilt:
    """What a rebuild made.

    Attributes
    ----------
    tables, figures, notebooks : int
        Files made again.
    kept : list of str
        Figures that show images, which are in the record as they are.
    changed : list of str
        Files that came out differently, are new, or were not made again; with the reason.
    seconds : float
    scratch : pathlib.Path
        Where what was made stands when the run was left as it was.
    """

    scratch: Path
    tables: int = 0
    figures: int = 0
    notebooks: int = 0
    kept: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    seconds: float = 0.0


def rebuild(folder: Path, project: Path, *, accept: bool = False) -> Rebuilt:
    """Delete and remake what a run's readers see.

    Parameters
    ----------
    folder : pathlib.Path
        Run folder with its record.
    project : pathlib.Path
        The compendium, whose notebooks are executed.
    accept : bool
        Take over what came out differently, and note it in ``provenance.json``: after a change of a notebook
        or of a figure's style. Without it a run that changes is left as it was.

    Returns
    -------
    Rebuilt

    Raises
    ------
    RebuildError
        If the folder has no record, or the record is not as it was written.
    leakfree_study.run.notebooks.NotebookError
        If a notebook fails, such as for a cell that the record lacks.
    """
    started = time.perf_counter()
    folder, project = Path(folder), Path(project)
    provenance = _provenance(folder)
    wrong = [f"{name}: {reason}" for name, reason in check_sums(folder) if not name.startswith(REMADE)]
    if wrong and not accept:
        raise RebuildError(f"{folder}/{wrong[0]}: the record is not as it was written")
    scratch = folder / SCRATCH / "run"
    shutil.rmtree(scratch.parent, ignore_errors=True)
    kept = _copy_record(folder, scratch)
    _divide(provenance["notebooks"], own=RecordedCohort(folder).study is not None)
    names = [name for name in NOTEBOOKS if name in provenance["notebooks"]]
    records: dict[str, dict] = {}
    order = needs(names)
    after = followers(order)
    sources = {name: project / "notebooks" / f"{name}.ipynb" for name in names}

    def work(name: str) -> None:
        log.info("[%d/%d] %s, from the record", names.index(name) + 1, len(names), name)
        kernels.prepare(*(sources[other] for other in after[name]))
        begun = time.perf_counter()
        outputs = _execute(sources[name], scratch, folder, kernels, project, provenance)
        records[name] = {"outputs": outputs, "seconds": round(time.perf_counter() - begun, 1)}

    cores = available_cores()
    lanes = min(LANES["quick"], cores, len(names))
    with Kernels(Path.cwd(), shared=True, threads=cores // lanes if lanes > 1 else 0) as kernels:
        run_in_order(order, work, lanes=lanes, seconds=EXPECTED_SECONDS["quick"], give_up=kernels.kill)
    found = _compare(folder, scratch, kept)
    if not found.changed or accept:
        _take_over(folder, scratch, found)
    if found.changed and accept:
        _note(folder, project, provenance, records)
    if not found.changed or accept:
        shutil.rmtree(scratch.parent)
    found.seconds = time.perf_counter() - started
    return found


def _provenance(folder: Path) -> dict:
    if not is_record(folder):
        raise RebuildError(f"{folder}: not a run with a record: no cohort.csv and cohort.json in it")
    if not (folder / SUMS).is_file():
        raise RebuildError(f"{folder}: the run has no {SUMS}: it was not finished")
    try:
        content = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        content["notebooks"].items()
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise RebuildError(f"{folder / 'provenance.json'}: cannot be used: {error}") from error
    return content


def _divide(notebooks: dict[str, dict], *, own: bool) -> None:
    """Give notebooks that were a part of another when the run was made what that one was made with."""
    for name, whole in PART_OF.items():
        if name not in notebooks and whole in notebooks and not (own and name in CHEST_ONLY):
            # Its seconds are among those of the whole.
            notebooks[name] = {**notebooks[whole], "outputs": {}, "seconds": 0.0, "part_of": whole}


def _copy_record(folder: Path, scratch: Path) -> list[str]:
    """Copy a run without what is made again; return the figures that are kept, since they show images."""
    try:
        index = json.loads((folder / "figures" / "index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RebuildError(f"{folder / 'figures' / 'index.json'}: cannot be used: {error}") from error
    kept = sorted(
        f"figures/{file}" for entry in index.values() if entry.get("films") for file in entry["files"]
    )
    for name in recorded_files(folder):
        if name in kept or (not name.startswith(tuple(f"{part}/" for part in REMADE)) and name != CARD):
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, scratch / name)
    return kept


def _execute(
    source: Path, scratch: Path, folder: Path, kernels: Kernels, project: Path, provenance: dict
) -> dict[str, str]:
    name, target = source.stem, scratch / "notebooks" / source.name
    known = known_parameters(source)
    given = {k: v for k, v in provenance["notebooks"][name]["parameters"].items() if k in known}
    place = os.path.relpath(scratch, Path.cwd())
    execute(
        source,
        target,
        {**given, "data": Path(place).as_posix(), "run_dir": Path(place).as_posix(), "resume": True},
        kernels=kernels,
        adapt=adaptation(RecordedCohort(scratch)),
    )
    _name_run(target, Path(os.path.relpath(folder, project)).as_posix())
    return finish_notebook(scratch, name)


def _name_run(path: Path, run: str) -> None:
    """Name the run itself where the executed notebook names the working copy."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", ()):
            lines = cell.source.splitlines()
            for place, line in enumerate(lines):
                if line.startswith(("data = ", "run_dir = ")):
                    lines[place] = f'{line.split(" = ")[0]} = "{run}"'
            cell.source = "\n".join(lines)
    with replacing(path) as temporary:
        nbformat.write(notebook, temporary)


def _made(folder: Path) -> dict[str, Path]:
    names = (n for n in recorded_files(folder) if n == CARD or n.startswith(tuple(f"{p}/" for p in REMADE)))
    return {name: folder / name for name in names}


def _compare(folder: Path, scratch: Path, kept: list[str]) -> Rebuilt:
    before, after = _made(folder), _made(scratch)
    found = Rebuilt(scratch, kept=kept)
    for name in sorted({*before, *after}):
        part = name.split("/", 1)[0]
        if name in after and name not in kept and part in REMADE and not name.endswith("index.json"):
            setattr(found, part, getattr(found, part) + 1)
        if name not in after:
            found.changed.append(f"{name}: is not made again")
        elif name not in before:
            found.changed.append(f"{name}: is new")
        elif reason := _difference(before[name], after[name]):
            found.changed.append(f"{name}: {reason}")
    return found


def _difference(before: Path, after: Path) -> str:
    """Say how two files differ; nothing where they do not."""
    if before.suffix == ".ipynb":
        return next(_cells_that_differ(before, after), "")
    old, new = before.read_bytes(), after.read_bytes()
    if old == new:
        return ""
    if before.suffix in (".csv", ".md", ".json"):
        lines = zip(old.decode().splitlines(), new.decode().splitlines(), strict=False)
        for number, (was, now) in enumerate(lines, start=1):
            if was != now:
                return f"line {number} was {was[:60]!r}, is {now[:60]!r}"
    return f"{len(old)} bytes were others than the {len(new)} that are made now"


def _cells_that_differ(before: Path, after: Path) -> Iterator[str]:
    old, new = (nbformat.read(path, as_version=4).cells for path in (before, after))
    old, new = ([c for c in cells if c.id != "injected-parameters"] for cells in (old, new))
    for number, (was, now) in enumerate(zip(old, new, strict=False)):
        if was.source != now.source:
            yield f"cell {number} has another source"
        elif was.get("outputs") != now.get("outputs"):
            yield f"cell {number} says something else"
    if len(old) != len(new):
        yield f"had {len(old)} cells, has {len(new)}"


def _take_over(folder: Path, scratch: Path, found: Rebuilt) -> None:
    """Put what was made in the place of what stood there; a notebook that says the same stays."""
    changed = {line.partition(": ")[0] for line in found.changed}
    before, after = _made(folder), _made(scratch)
    for name in set(before) - set(after):
        before[name].unlink()
    for name, path in after.items():
        if name.endswith(".ipynb") and name not in changed:
            continue
        with replacing(folder / name) as temporary:
            shutil.copyfile(path, temporary)


def _note(folder: Path, project: Path, provenance: dict, records: dict[str, dict]) -> None:
    """Say in the provenance and in the run's records what was rebuilt, from which commit."""
    git = git_state(project)
    for name, record in records.items():
        path = folder / "outputs" / f"{name}.run.json"
        noted, listed = folder / SCRATCH / "run" / "outputs" / f"{name}.json", path.with_name(f"{name}.json")
        if noted.is_file():
            shutil.copyfile(noted, listed)
        else:  # the notebook wrote no file
            listed.unlink(missing_ok=True)
        # Of what stands in the run: a notebook that says the same was not taken over.
        outputs = output_hashes(folder, list(record["outputs"]))
        known = provenance["notebooks"][name]
        if outputs == known["outputs"]:
            continue
        known["outputs"] = outputs
        known["rebuilt"] = {"git": git, "seconds": record["seconds"]}
        if path.is_file():
            run = json.loads(path.read_text(encoding="utf-8"))
        else:  # of no state of the code that --resume could go on from
            run = {"key": "", **{key: known[key] for key in ("git", "parameters", "seconds")}}
        write_json(path, {**run, "outputs": outputs})
    write_json(folder / "provenance.json", provenance)
    write_sums(folder)
