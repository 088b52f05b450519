"""Re-check a finished run from its files alone: manifests, ledgers, predictions, weights and hashes.

Nothing is trained and nothing of the cohort is needed. What a run's files cannot show is listed as not
checked, never passed over in silence.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

from leakfree.base.errors import LeakfreeError
from leakfree.base.escape import say
from leakfree.base.files import file_hash
from leakfree.base.sums import NAME as SUMS
from leakfree.base.sums import check_sums, recorded_files
from leakfree.ledger.ledger import consumed_hash, read_by_times
from leakfree.predict.description import PublishedError, check_beside, read_description
from leakfree.scores.predictions import PredictionsError, read_predictions
from leakfree.split import protocols
from leakfree.split.manifest import Manifest, ManifestError
from leakfree_study.run.seal_log import SEALED_LOG

#: Folders of a run in which every file must be listed, with its hash, by the provenance or by a cell.
LISTED = ("cells", "ledgers", "manifests", "models", "predictions", "tables")
#: Any of these is left by the inflation study, whose own check reads them.
_GRID = ("manifests/06_films.csv", "manifests/06_draws_*.csv.gz", "ledgers/06_*.csv.gz", "predictions/06/*")
#: What makes a folder a run folder: any of these.
_MARKS = ("provenance.json", "cells", "ledgers", "manifests")


@dataclass
class Verification:
    """What was found in a run folder.

    Attributes
    ----------
    files : int
        Files that were read or hashed.
    problems : list of str
        One line each, that begins with the file that disagrees.
    not_checked : list of str
        What the run's files cannot show, one line each.
    """

    files: int = 0
    problems: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)


class NotARunError(LeakfreeError):
    """The folder is no run folder; the message is one line."""


class _Disagreement(Exception):
    """Why a file does not agree."""


def verify_run(folder: Path) -> Verification:
    """Re-check a finished run.

    Parameters
    ----------
    folder : pathlib.Path
        Run folder, such as ``artifacts/chest_xray``.

    Returns
    -------
    Verification

    Raises
    ------
    NotARunError
        If the folder holds nothing of a run.
    """
    folder = Path(folder)
    if not any((folder / mark).exists() for mark in _MARKS):
        raise NotARunError(f"{folder}: not a run folder: none of {', '.join(_MARKS)} in it")
    return _Checker(folder).check()


def verify_command(folder: str) -> int:
    """Verify a run and print the result; return 0 if all agrees, 1 if something disagrees, 2 if no run."""
    try:
        found = verify_run(Path(folder))
    except NotARunError as error:
        say(f"verify: {error}")
        return 2
    for problem in found.problems:
        say(f"disagrees: {problem}")
    for gap in found.not_checked:
        say(f"not checked: {gap}")
    n = len(found.problems)
    say(f"{folder}: {found.files} files checked, " + (f"{n} disagree" if n else "all agree"))
    return 1 if n else 0


class _Checker:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.result = Verification()
        self.read: set[str] = set()
        self.hashes: dict[str, str] = {}
        self.listed: set[str] = set()
        #: Predictions of the sealed test: no stage of a cell consumed its images.
        self.opened: set[str] = set()
        self.manifests: dict[str, Manifest] = {}
        self.ledgers: dict[str, dict[str, Any]] = {}
        #: Hashes of the weights that cells trained.
        self.trained: set[str] = set()
        self.notebooks: dict[str, Any] = {}

    def check(self) -> Verification:
        for name in self._names("manifests", ".json"):
            self._guard(name, self._manifest)
        for name in self._names("ledgers", ".json"):
            self._guard(name, self._ledger)
        self._guard(SEALED_LOG, self._sealed)
        for name in self._names("predictions", ".csv"):
            if name not in self.opened:
                self._guard(name, self._predictions)
        for name in self._names("cells", ".json"):
            self._guard(name, self._cell)
        for name in self._names("models", "preprocessing.json"):
            self._guard(name, self._preprocessing)
        self._grid()
        self._guard("provenance.json", self._provenance)
        for name in self._names("outputs", ".run.json"):
            self._guard(name, self._run_record)
        for part in LISTED:
            for name in self._names(part, ""):
                if name not in self.listed:
                    self._problem(name, "no provenance and no cell lists it")
        self._guard(SUMS, self._sums)
        self._gaps()
        self.result.files = len(self.read)
        return self.result

    # Reading

    def _names(self, part: str, suffix: str) -> list[str]:
        files = (path for path in (self.folder / part).rglob("*") if not path.is_dir() or path.is_symlink())
        return sorted(p.relative_to(self.folder).as_posix() for p in files if p.name.endswith(suffix))

    def _problem(self, name: str, reason: object) -> None:
        line = f"{name}: {' '.join(str(reason).split())}"
        if line not in self.result.problems:
            self.result.problems.append(line)

    def _guard(self, name: str, examine: Callable[[str], Iterator[str]]) -> None:
        """Note each line that an examination yields, and one for whatever stops it."""
        try:
            for reason in examine(name):
                self._problem(name, reason)
        except _Disagreement as error:
            self._problem(name, error)
        except OSError as error:
            self._problem(name, error.strerror or error)
        except Exception as error:  # a file that anybody may have changed can be wrong in any way
            self._problem(name, f"malformed: {type(error).__name__}: {error}")

    def _json(self, name: str) -> dict[str, Any]:
        text = (self.folder / name).read_bytes()
        self.read.add(name)
        try:
            content = json.loads(text.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise _Disagreement(f"not JSON: {error}") from error
        if not isinstance(content, dict):
            raise _Disagreement(f"holds a {type(content).__name__}, not an object")
        return content

    def _files_agree(self, outputs: Mapping[str, str], lister: str, *, listing: bool = True) -> None:
        for name, expected in outputs.items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name:
                self._problem(lister, f"lists {name}, which is outside the run folder")
                continue
            if listing:
                self.listed.add(name)
            try:
                digest = self.hashes[name] = self.hashes.get(name) or file_hash(self.folder / name)
            except OSError as error:
                self._problem(name, f"cannot be read ({error.strerror or error}), but {lister} lists it")
                continue
            self.read.add(name)
            if digest != expected:
                self._problem(name, f"SHA-256 is {digest[:12]}, {lister} has {str(expected)[:12]}")

    # One file each

    def _manifest(self, name: str) -> Iterator[str]:
        self.read.add(name)
        try:
            manifest = Manifest.load(self.folder / name)
        except ManifestError as error:
            raise _Disagreement(str(error).removeprefix(f"{self.folder / name}: ")) from error
        self.manifests[Path(name).stem] = manifest
        if manifest.name != Path(name).stem:
            yield f"is the manifest {manifest.name}"

    def _ledger(self, name: str) -> Iterator[str]:
        content = self._json(name)
        stages: dict[str, Counter[str]] = {}
        for stage, entry in content["stages"].items():
            try:
                stages[stage] = counts = read_by_times(entry["ids_by_times"])
            except ValueError as error:
                raise _Disagreement(f"stage {stage}: {error}") from error
            if entry["sha256"] != consumed_hash(counts):
                yield f"stage {stage}: ids do not agree with their hash"
            if (entry["images"], entry["rows"]) != (len(counts), counts.total()):
                yield (
                    f"stage {stage}: says {entry['images']} images in {entry['rows']} rows, its ids are"
                    f" {len(counts)} in {counts.total()}"
                )
            if not 0 < entry["rows_hashed"] <= counts.total():
                yield f"stage {stage}: {entry['rows_hashed']} of {counts.total()} rows were hashed"
        self.ledgers[Path(name).stem] = {**content, "counts": stages}
        yield from self._against_manifest(content, stages)
        if content["agrees"] is not True:
            yield "does not claim to agree"
        yield from _leaks(content, stages)
        repeated = sorted(i for i, times in stages.get("test", Counter()).items() if times > 1)
        if repeated:
            yield f"the test part was scored more than once ({repeated[0]})"

    def _against_manifest(self, content: dict[str, Any], stages: dict[str, Counter[str]]) -> Iterator[str]:
        manifest = self.manifests.get(content["manifest"])
        if manifest is None:
            yield f"its manifest manifests/{content['manifest']}.json is missing or cannot be used"
            return
        if content["manifest_hash"] != manifest.hash:
            yield f"rests on another version of the manifest {manifest.name}"
        for stage in sorted(set(stages) | set(manifest.parts)):
            consumed, part = set(stages.get(stage, ())), set(manifest.parts.get(stage, ()))
            if consumed != part:
                foreign, missed = consumed - part, part - consumed
                yield (
                    f"stage {stage} consumed {len(foreign)} images of another part than the manifest's and"
                    f" missed {len(missed)}, like {min(foreign or missed)}"
                )

    def _predictions(self, name: str) -> Iterator[str]:
        self.read.add(name)
        try:
            rows = read_predictions(self.folder / name)
        except PredictionsError as error:
            raise _Disagreement(str(error).removeprefix(f"{self.folder / name}: ")) from error
        ledger = self.ledgers.get(Path(name).stem)
        if ledger is None:
            yield f"has no usable ledger ledgers/{Path(name).stem}.json"
            return
        for part in sorted(set(ledger["counts"]) - {"train"} | set(rows.part)):
            # Training images may be scored nowhere.
            consumed = set(ledger["counts"].get(part, ())) if part != "train" else set()
            scored = set(rows.image_ids[rows.part == part])
            if scored != consumed:
                example = min(scored ^ consumed)
                yield (
                    f"part {part} has {len(scored - consumed)} images that its ledger did not consume and"
                    f" lacks {len(consumed - scored)}, like {example}"
                )
        by_part = [set(rows.patients[rows.part == part]) for part in sorted(set(rows.part))]
        both = set().union(*(first & second for first, second in combinations(by_part, 2)))
        if both and not ledger["found_leaks"]["linked groups"]:
            yield f"patient {min(both)} is in two parts, and its ledger found no shared linked group"

    def _sealed(self, name: str) -> Iterator[str]:
        if not (self.folder / name).is_file():
            return
        from leakfree_study.run.seal_log import SealError, read_log, verify_log

        self.read.add(name)
        try:
            for line in read_log(self.folder):
                self._files_agree(dict(line.get("predictions") or {}), name)
                self.opened |= set(line.get("predictions") or {})
            yield from (reason.removeprefix(f"{name}, ") for reason in verify_log(self.folder))
        except SealError as error:
            raise _Disagreement(str(error).removeprefix(f"{self.folder / name}: ")) from error

    def _cell(self, name: str) -> Iterator[str]:
        content = self._json(name)
        self._files_agree(content["outputs"], name)
        self.trained |= {content["facts"].get("weights_sha256")} - {None}
        ledger = self.ledgers.get(Path(name).stem)
        if ledger is None:
            yield f"has no usable ledger ledgers/{Path(name).stem}.json"
            return
        true = {
            "n_train": len(ledger["counts"].get("train", ())),
            "shared_groups": ledger["found_leaks"]["linked groups"],
            "shared_images": ledger["found_leaks"]["images"],
        }
        for fact, value in true.items():
            if content["facts"][fact] != value:
                yield f"says {fact} {content['facts'][fact]}, its ledger {value}"

    def _preprocessing(self, name: str) -> Iterator[str]:
        content = self._json(name)
        weights = (PurePosixPath(name).parent / PurePosixPath(content["weights"]).name).as_posix()
        # Being named here is no listing: anybody can add weights together with their description.
        self._files_agree({weights: content["weights_sha256"]}, name, listing=False)
        if files := content.get("files_sha256"):
            try:
                read_description(self.folder / name)  # its own hash, too
                check_beside(self.folder / name, files)
            except (PublishedError, ValueError) as error:
                yield str(error)
        if content["weights_sha256"] not in self.trained and self._names("cells", ".json"):
            yield "describes weights that no cell of the run trained"
        if content["manifest_hash"] not in {manifest.hash for manifest in self.manifests.values()}:
            yield "rests on a manifest that is not in the run"

    def _provenance(self, name: str) -> Iterator[str]:
        content = self._json(name)
        for record in content.get("trainings", {}).values():
            self._files_agree(record["outputs"], name)
        self.notebooks = content["notebooks"]
        for notebook, record in self.notebooks.items():
            self._files_agree(record["outputs"], name)
            if f"notebooks/{notebook}.ipynb" not in record["outputs"]:
                yield f"does not list notebooks/{notebook}.ipynb"

    def _run_record(self, name: str) -> Iterator[str]:
        notebook = Path(name).name.removesuffix(".run.json")
        record = self._json(name)
        known = self.notebooks.get(notebook)
        if known is None:
            yield f"provenance.json has no notebook {notebook}"
            return
        for key in ("outputs", "parameters", "seconds"):
            if record[key] != known[key]:
                yield f"its {key} are not those of provenance.json: the run was not finished, or changed"

    def _grid(self) -> None:
        """Check what the inflation study left; its code is imported only where there is something."""
        if any(True for pattern in _GRID for _ in self.folder.glob(pattern)):
            from leakfree_study.inflation.check import check_grid

            found = check_grid(self.folder)
            self.read |= found.read
            self.result.not_checked += found.not_checked
            for name, reason in found.problems:
                self._problem(name, reason)

    def _sums(self, name: str) -> Iterator[str]:
        """Check every byte of the run; a file that is known to disagree is not named twice."""
        named = {problem.partition(": ")[0] for problem in self.result.problems}
        try:
            for file, reason in check_sums(self.folder):
                if file not in named:
                    self._problem(file, reason)
        except FileNotFoundError:
            # A study ends by writing it; a training alone does not.
            if self.notebooks:
                yield "is missing: whether files were changed cannot be told"
            else:
                self.result.not_checked.append(f"bytes of files that no cell lists: the run has no {name}")
            return
        self.read |= {name, *recorded_files(self.folder)}

    def _gaps(self) -> None:
        gaps = self.result.not_checked
        if self.ledgers:
            gaps.append("linked groups in training: the run does not say which image is whose")
        elif not any(self.folder.glob("ledgers/06_*.csv.gz")):
            gaps.append("what was consumed: the run has no ledger that can be used")
        scored = {Path(name).stem for name in self._names("predictions", ".csv") if name not in self.opened}
        gaps += [f"ledgers/{name}.json: has no predictions" for name in sorted(set(self.ledgers) - scored)]
        known = _protocols()
        unknown = sorted({str(ledger.get("protocol")) for ledger in self.ledgers.values()} - set(known))
        gaps += [f"protocol {name}: not of this version, its declared leaks are unknown" for name in unknown]
        gaps.append("scores: `leakfree rebuild` computes them again from the predictions")
        gaps.append(f"who wrote {SUMS}: it shows a change by accident, not a forger; the git history does")


def _leaks(content: dict[str, Any], stages: dict[str, Counter[str]]) -> Iterator[str]:
    found = content["found_leaks"]
    present = {leak for leak, count in found.items() if count}
    declared = set(content["declared_leaks"])
    if set(found) != set(protocols.LEAKS):
        yield f"counts the leaks {', '.join(sorted(found))}"
    if present != declared:
        yield f"declares {_listed(declared)} and found {_listed(present)}"
    known = _protocols().get(content["protocol"])
    if known is not None and known.leaks != declared:
        yield f"declares {_listed(declared)}, protocol {known.name} has {_listed(known.leaks)}"
    shared = set().union(*(set(first) & set(second) for first, second in combinations(stages.values(), 2)))
    if found["images"] != len(shared):
        yield f"says {found['images']} images on both sides, its stages share {len(shared)}"


def _protocols() -> dict[str, protocols.Protocol]:
    return {p.name: p for p in vars(protocols).values() if isinstance(p, protocols.Protocol)}


def _listed(leaks: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(leaks)) or "no leak"
