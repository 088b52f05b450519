"""The images of a study: opened as an audit opens them, with the labels, parts and patients of its file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from leakfree.data.inputs import Opened, open_input
from leakfree.data.patients import SUBJECT
from leakfree.data.reading.parts import kind_of
from leakfree.data.reading.report import Field, Reading, make_field
from leakfree.data.reading.wishes import ReadingError, Wishes
from leakfree.data.study_file import CsvColumn, OwnStudy, PathPattern, StudyFileError


def open_images(data: Path, wishes: Wishes) -> Opened:
    """Open images as an audit does; where a table is declared, images that it does not name take no part.

    Raises
    ------
    StudyFileError
        If they cannot be read, or what was declared was not understood.
    leakfree.data.raw.SourceError
        If a folder cannot be read.
    """
    if not Path(data).exists():
        raise StudyFileError(f"{data}: no such file or folder")
    try:
        opened = open_input(Path(data), wishes, by_table=bool(wishes.csv))
    except ReadingError as error:
        raise StudyFileError(str(error)) from error
    # Without parts a study makes its own; all else that was not understood is no ground to go on from.
    unclear = [told for told in opened.understood.reading.unclear if not told.startswith("no part")]
    if opened.understood.table.empty or unclear:
        told = (unclear or [opened.nothing])[0]
        raise StudyFileError(told if told.startswith(("--", str(data))) else f"{data}: {told}")
    foreign = [p for p in opened.others if not p.reason.startswith("foreign: not the name")]
    return replace(opened, others=tuple(foreign))


def list_study(study: OwnStudy, base: Path) -> Opened:
    """Open the images of a study.

    Parameters
    ----------
    study : OwnStudy
    base : pathlib.Path
        Folder of the study file.

    Raises
    ------
    StudyFileError, leakfree.data.raw.SourceError
        As `open_images`.
    """
    csv, rule = study.csv, study.patients
    wishes = Wishes(
        csv=() if csv is None else (Path(base) / csv.file,),
        path_column="" if csv is None else csv.path,
        label_column="" if csv is None else csv.label,
        part_column="" if csv is None else csv.part,
        patient_column=rule.column if isinstance(rule, CsvColumn) else "",
        patient_pattern=rule.pattern if isinstance(rule, PathPattern) else "",
        no_parts=not study.parts,
    )
    opened = open_images(Path(base) / study.data, wishes)
    table = opened.understood.table.copy()
    if csv is None:
        # What the study calls a label or a part is one, wherever its folder is.
        ways = [image_id.split("/")[:-1] for image_id in table["image_id"]]
        table["label"] = _named(ways, table["label"], {*study.labels, *study.leave_out}, -1)
        table["part"] = _named(ways, table["part"], study.parts.values(), 0)
    if rule == "none":
        table["patient"] = ""
    table[SUBJECT] = table["patient"]
    understood = replace(opened.understood, table=table, reading=_as_the_study_says(opened, table))
    return replace(opened, name=study.name, understood=understood)


def _as_the_study_says(opened: Opened, table: pd.DataFrame) -> Reading:
    reading, ids = opened.understood.reading, table["image_id"].tolist()

    def field(before: Field, values: list[str]) -> Field:
        return make_field(before.source or "study.yaml", ids, values)

    return replace(
        reading,
        parts=field(reading.parts, table["part"].tolist()),
        labels=field(reading.labels, table["label"].tolist()),
        patients=make_field(reading.patients.source, ids, table["patient"].tolist(), listed=False),
        unclear=tuple(told for told in reading.unclear if not told.startswith("no part")),
    )


def _named(ways: Sequence[list[str]], values: Sequence[str], names: Collection[str], which: int) -> list[str]:
    """Replace values by the first or last folder of a name, where there is one."""
    found = ([folder for folder in way if folder in names] for way in ways)
    return [some[which] if some else value for some, value in zip(found, values, strict=True)]


def official_parts(parts: Collection[str]) -> dict[str, str]:
    """Choose the official train, val and test part among names of parts; none without a train part."""
    meant = {"train": "train", "val": "val", "dev": "val", "test": "test", "holdout": "test", "eval": "test"}
    chosen: dict[str, str] = {}
    # Of two that mean the same, the one with the plainer word: val before dev, test before holdout.
    for part in sorted(
        parts, key=lambda part: (list(meant).index(kind_of(part)) if kind_of(part) in meant else 9, part)
    ):
        kind = meant.get(kind_of(part), "")
        if kind and kind not in chosen:
            chosen[kind] = part
    return chosen if "train" in chosen and len(chosen) > 1 else {}
