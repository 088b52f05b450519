"""The cohort: all images in one local Deep Lake store, with one table row for each."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import pandas as pd
from tqdm import tqdm

from leakfree.base.errors import LeakfreeError
from leakfree.base.provenance import code_digest
from leakfree.data import bounded
from leakfree.data.images import ImageError
from leakfree.data.patients import SUBJECT
from leakfree.data.raw import PARTS, readable
from leakfree.data.sources import Problem, RawImage, Source
from leakfree.data.study_file import OwnStudy
from leakfree.data.vocabulary import words_of

if TYPE_CHECKING:  # imported where a store is opened: the record of a run is a cohort without one
    import deeplake

#: Images in memory at once while ingesting.
CHUNK = 256
#: Part whose labels stay sealed: it is scored once, at the very end of the study.
SEALED_PART = "test"
_FORMAT = "leakfree-cohort-1"
#: Modules, beside those of the source, and packages that make a store: what others made is made again.
MODULES = ("leakfree/data/cohort", "leakfree/data/images", "leakfree/data/raw")
PACKAGES = ("numpy", "pillow", "scipy")
_TEXT = ("image_id", "label", "part", "mode", "sha256")
_NUMBERS = ("person_num", "width", "height", "bytes")


class CohortError(LeakfreeError):
    """The cohort cannot be made or read; the message is one line."""


class Cohort:
    """Images of a study, read from a Deep Lake store.

    Parameters
    ----------
    path : pathlib.Path
        Store made by `ingest`.

    Attributes
    ----------
    name : str
        Short name, used for folders.
    table : pandas.DataFrame
        One row an image in store order: ``image_id, label, part, person_num, width, height, mode,
        bytes, sha256``, and ``subject`` where a study on other images names patients. The label is ``sealed``
        in the official test part; see `class_counts`.
    checksum : str
        SHA-256 over ids, labels, parts and file digests of all rows.
    problems : list of Problem
        Files that the source listed and that are not in the cohort.
    study : OwnStudy or None
        The study on other images that the cohort belongs to; None for chest X-rays.

    Raises
    ------
    CohortError
        If the path is not such a store.
    """

    study: OwnStudy | None = None

    def __init__(self, path: Path) -> None:
        import deeplake

        self.path = Path(path)
        try:
            self._store = deeplake.open_read_only(str(self.path))
            metadata = json.loads(self._store.metadata["leakfree"])
        except Exception as error:
            raise CohortError(f"{path}: not a cohort store of leakfree") from error
        if metadata.get("format") != _FORMAT:
            raise CohortError(f"{path}: store format {metadata.get('format')}, this version reads {_FORMAT}")
        self.name: str = metadata["name"]
        self.checksum: str = metadata["checksum"]
        self.code = metadata.get("code")
        self.problems = [Problem(**item) for item in metadata["problems"]]
        if (study := metadata.get("study")) is not None:
            self.study = OwnStudy.model_validate(study)
        full = _read_table(self._store, own=self.study is not None)
        self._labels = full["label"].to_numpy(dtype=object)
        self.table = full.assign(label=full["label"].where(full["part"] != SEALED_PART, "sealed"))

    def __len__(self) -> int:
        return len(self.table)

    def class_counts(self) -> pd.DataFrame:
        """Count images by part and label: the only use of the sealed part's labels."""
        counts = Counter(zip(self.table["part"], self._labels, strict=True))
        labels = words_of(self).labels
        order = sorted(counts, key=lambda key: (PARTS.index(key[0]), labels.index(key[1])))
        rows = [{"part": part, "label": label, "images": counts[part, label]} for part, label in order]
        return pd.DataFrame(rows, columns=["part", "label", "images"])

    def development(self) -> pd.DataFrame:
        """Return the rows that the study may train and test on: the train part, or all if unsplit."""
        rows = self.table[self.table["part"].isin(["train", "unsplit"])]
        if rows.empty:
            raise CohortError(f"{self.name}: no image outside the official val and test parts")
        return rows

    def unseal(self, log: Path) -> np.ndarray:
        """Return the labels of the sealed part, object (n,) in table order, against a line in the log.

        Only `leakfree_study.networks.sealed.open_seal` has a reason to call this: it writes the line first.

        Raises
        ------
        CohortError
            If the last line of the log is not an opening of this cohort that still waits for its results.
        """
        try:
            last = json.loads(Path(log).read_text(encoding="utf-8").splitlines()[-1])
            waiting = last["cohort"] == self.checksum and last["results"] is None
        except (OSError, ValueError, IndexError, KeyError, TypeError):
            waiting = False
        if not waiting:
            raise CohortError(
                f"{self.name}: labels of part {SEALED_PART} are sealed; a committed plan opens them"
            )
        return self._labels[(self.table["part"] == SEALED_PART).to_numpy()]

    def iterate(
        self, rows: Sequence[int] | np.ndarray | None = None
    ) -> Iterator[tuple[list[str], list[bytes]]]:
        """Yield stored ids and encoded files together, in chunks, in the order of `rows`."""
        chosen = np.arange(len(self)) if rows is None else np.asarray(rows)
        for start in range(0, len(chosen), CHUNK):
            part = chosen[start : start + CHUNK].tolist()
            ids: Any = self._store["image_id"][part]
            images: Any = self._store["image"][part]
            yield list(ids), [bytes(image) for image in images]


def _read_table(store: deeplake.ReadOnlyDataset, *, own: bool) -> pd.DataFrame:
    further = (SUBJECT,) if own else ()
    columns = {name: np.asarray(store[name][:]).astype(str).astype(object) for name in (*_TEXT, *further)}
    columns |= {name: np.asarray(store[name][:]).reshape(-1).astype(np.int64) for name in _NUMBERS}
    if own:
        columns[SUBJECT] = np.array([text.removeprefix("=") for text in columns[SUBJECT]], dtype=object)
    table = pd.DataFrame(columns)
    table["person_num"] = table["person_num"].astype("Int64").mask(table["person_num"] < 0)
    order = ["image_id", "label", "part", "person_num", "width", "height", "mode", "bytes", "sha256"]
    return table[[*order, *further]]


def ingest(source: Source, target: Path, *, allow_problems: bool = False, jobs: int = 2) -> Cohort:
    """Copy a source into a Deep Lake store; the store appears whole or not at all.

    Every image is decoded once to prove that it can be. The encoded bytes are kept unchanged.

    Parameters
    ----------
    source : Source
        What to read.
    target : pathlib.Path
        Folder of the store; must not exist.
    allow_problems : bool
        Leave corrupt, empty and foreign files out (they stay listed) instead of stopping.
    jobs : int
        Threads that decode.

    Returns
    -------
    Cohort

    Raises
    ------
    CohortError
        If files are unusable and that is not allowed, ids repeat, or nothing is left.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        problems = _fill(source, staging / "store", jobs)
        if problems and not allow_problems:
            raise CohortError(describe_problems(source.name, problems))
        if target.exists():
            shutil.rmtree(target)
        os.replace(staging / "store", target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Cohort(target)


def _fill(source: Source, path: Path, jobs: int) -> list[Problem]:
    import deeplake

    study: OwnStudy | None = getattr(source, "study", None)
    further = () if study is None else (SUBJECT,)
    store = deeplake.create(str(path))
    store.add_column("image", deeplake.types.Bytes())
    for name in (*_TEXT, *further):
        store.add_column(name, deeplake.types.Text())
    for name in _NUMBERS:
        store.add_column(name, deeplake.types.Int64())
    problems: list[Problem] = []
    seen: set[str] = set()
    checksum = hashlib.sha256()
    items = iter(source)
    with (
        ThreadPoolExecutor(jobs) as pool,
        tqdm(total=len(source), desc=f"ingest {source.name}", unit="image", mininterval=0.5) as progress,
    ):
        while chunk := list(islice(items, CHUNK)):
            made = pool.map(_row, chunk)
            rows = [row for row in made if _kept(row, problems, seen)]
            if study is None:
                for row in rows:
                    del row[SUBJECT]
            if rows:
                store.append({key: [row[key] for row in rows] for key in rows[0]})
            for row in rows:
                line = "\t".join(
                    str(row[key]) for key in ("image_id", "label", "part", "person_num", "sha256", *further)
                )
                checksum.update(line.encode("utf-8", "surrogateescape") + b"\n")
            progress.update(len(chunk))
    if not seen:
        raise CohortError(
            describe_problems(source.name, problems) if problems else f"{source.name}: no image"
        )
    if study is not None:
        # The same images under other tasks, or another rule of patients, are another cohort.
        checksum.update(study.model_dump_json(include={"labels", "tasks", "patients", "parts"}).encode())
    described: dict[str, Any] = {
        "format": _FORMAT,
        "name": source.name,
        "checksum": checksum.hexdigest(),
        "code": made_by(source),
        "problems": [vars(problem) for problem in problems],
    }
    if study is not None:
        described["study"] = study.model_dump(mode="json")
    store.metadata["leakfree"] = json.dumps(described)
    store.commit()
    return problems


def made_by(source: Source) -> str:
    """Return a digest of the code that makes a store of a source."""
    return code_digest((*MODULES, *getattr(source, "modules", ())), PACKAGES)


def _row(item: RawImage | Problem) -> dict[str, Any] | Problem:
    if isinstance(item, Problem):
        return item
    try:
        facts = bounded.facts(item.data)
    except ImageError as error:
        return Problem(item.file, f"corrupt: {error}")
    return {
        "image": item.data,
        # Text columns are UTF-8: a name in another encoding is kept readable rather than refused.
        "image_id": readable(item.file),
        "label": item.label,
        "part": item.part,
        "mode": facts.mode,
        "sha256": hashlib.sha256(item.data).hexdigest(),
        "person_num": -1 if item.person_num is None else item.person_num,
        # Never empty: the store gives empty text back as None, which would be one patient for all.
        SUBJECT: f"={item.subject or ''}",
        "width": facts.width,
        "height": facts.height,
        "bytes": len(item.data),
    }


def _kept(
    row: dict[str, Any] | Problem, problems: list[Problem], seen: set[str]
) -> TypeGuard[dict[str, Any]]:
    if isinstance(row, Problem):
        problems.append(row)
        return False
    if row["image_id"] in seen:
        raise CohortError(f"{row['image_id']}: the source gives this id twice")
    seen.add(str(row["image_id"]))
    return True


def describe_problems(name: str, problems: Iterable[Problem], most: int = 5) -> str:
    """Put a list of problems into one line: counts by kind, the first names, what to do."""
    problems = list(problems)
    kinds = Counter(problem.reason.split(":")[0] for problem in problems)
    counts = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
    names = "; ".join(f"{p.file} ({p.reason})" for p in problems[:most])
    more = f"; and {len(problems) - most} more" if len(problems) > most else ""
    return (
        f"{name}: {counts} of the files cannot be used: {names}{more}. Remove them, or pass --allow-problems"
    )
