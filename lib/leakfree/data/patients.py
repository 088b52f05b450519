"""From file names to patients, under a declared scope.

The scopes (vocabulary of the study):

``series``
    (bacteria or virus, number) for person files, (IM or NORMAL2-IM, number) for the others. The
    counters of the two etiologies are separate, so a number on both is not evidence of one child.
``person``
    The bare number of person files, as in the hub's ``person_num``; NORMAL files keep their prefix.
``merged``
    As ``person``, with the prefix of NORMAL files dropped too.

A study on other images has a rule of its own, which filled the column ``subject`` of its cohort; the names of
its files say nothing then, and its scope is ``patient``.

An image without an identifier is its own patient in every scope. It is never put into one shared
"None": that would join strangers.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

import numpy as np
import pandas as pd

Scope = Literal["series", "person", "merged"]
SCOPES: tuple[str, ...] = get_args(Scope)
#: Scope of a rule that somebody declared: a column of a table, or a pattern.
DECLARED = "patient"
#: Column of a cohort whose study declares its patients, empty where one is not known.
SUBJECT = "subject"

_PERSON = re.compile(r"^person(?P<number>\d+)_(?P<prefix>bacteria|virus)_", re.IGNORECASE)
_NORMAL = re.compile(r"^(?P<prefix>NORMAL2-IM|IM)-(?P<number>\d+)-", re.IGNORECASE)
_MENDELEY = re.compile(r"^(?P<prefix>BACTERIA|VIRUS|NORMAL)-(?P<number>\d+)-", re.IGNORECASE)
_ETIOLOGY_PREFIX = {"bacterial": "bacteria", "viral": "virus"}


def identifiers(table: pd.DataFrame) -> pd.DataFrame:
    """Read prefix and number out of the names.

    Parameters
    ----------
    table : pandas.DataFrame
        Cohort rows with ``image_id``, ``label`` and ``person_num``.

    Returns
    -------
    pandas.DataFrame
        Same index; ``prefix`` (str, empty if there is no identifier) and ``number`` (Int64, NA then).
    """
    prefixes, numbers = [], []
    if SUBJECT in table:
        none = pd.array([pd.NA] * len(table), dtype="Int64")
        return pd.DataFrame({"prefix": "", "number": none}, index=table.index)
    for image_id, label, person_num in zip(
        table["image_id"], table["label"], table["person_num"], strict=True
    ):
        name = image_id.rsplit("/", 1)[-1]
        match = _PERSON.match(name) or _NORMAL.match(name) or _MENDELEY.match(name)
        if match:
            prefix, number = match["prefix"], int(match["number"])
            # One spelling a series, whatever the case of the file system it came from.
            prefix = prefix.upper() if prefix.upper().startswith(("IM", "NORMAL")) else prefix.lower()
        elif not pd.isna(person_num):
            prefix, number = _ETIOLOGY_PREFIX.get(label, "person"), int(person_num)
        else:
            prefix, number = "", pd.NA
        prefixes.append(prefix)
        numbers.append(number)
    return pd.DataFrame(
        {"prefix": np.array(prefixes, dtype=object), "number": pd.array(numbers, dtype="Int64")},
        index=table.index,
    )


def patient_ids(table: pd.DataFrame, scope: str = "series") -> np.ndarray:
    """Give every image its patient.

    Parameters
    ----------
    table : pandas.DataFrame
        Cohort rows.
    scope : {"series", "person", "merged", "patient"}
        Rule that turns identifiers into patients.

    Returns
    -------
    numpy.ndarray of object (str), shape (n,)

    Raises
    ------
    ValueError
        If the scope is unknown, or not one of this cohort.
    """
    if (scope == DECLARED) != (SUBJECT in table) and scope in (*SCOPES, DECLARED):
        known = DECLARED if SUBJECT in table else ", ".join(SCOPES)
        raise ValueError(f"patient scope {scope!r} is none of this cohort; it has {known}")
    if scope == DECLARED:
        alone = "image:" + table["image_id"].astype(str)
        return table[SUBJECT].where(table[SUBJECT] != "", alone).to_numpy(dtype=object)
    if scope not in SCOPES:
        raise ValueError(f"unknown patient scope {scope!r}; known: {', '.join(SCOPES)}")
    found = identifiers(table)
    patients = []
    for image_id, prefix, number in zip(table["image_id"], found["prefix"], found["number"], strict=True):
        if not prefix:
            patients.append(f"image:{image_id}")
            continue
        normal = prefix in ("IM", "NORMAL2-IM", "NORMAL")
        if scope == "person" and not normal:
            prefix = "person"
        elif scope == "merged":
            prefix = "normal" if normal else "person"
        patients.append(f"{prefix}:{number}")
    return np.array(patients, dtype=object)


def missing_identifier(table: pd.DataFrame) -> np.ndarray:
    """Tell which images carry no identifier: bool, shape (n,)."""
    if SUBJECT in table:
        return (table[SUBJECT] == "").to_numpy()
    return (identifiers(table)["prefix"] == "").to_numpy()


def scopes_of(table: pd.DataFrame) -> tuple[str, ...]:
    """Return the scopes that a cohort can be read under; the first one decides."""
    return (DECLARED,) if SUBJECT in table else SCOPES


def scope_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Count patients under every scope of the cohort.

    Returns
    -------
    pandas.DataFrame
        ``scope, patients, with_several_images, most_images, share_of_images_with_sibling``: the last is the
        fraction of images whose patient has another image.
    """
    rows = []
    for scope in scopes_of(table):
        sizes = pd.Series(patient_ids(table, scope)).value_counts()
        several = sizes[sizes > 1]
        rows.append(
            {
                "scope": scope,
                "patients": len(sizes),
                "with_several_images": len(several),
                "most_images": int(sizes.max()),
                "share_of_images_with_sibling": several.sum() / len(table),
            }
        )
    return pd.DataFrame(rows)


def identifier_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Count identifiers by class and by the prefix that the name carries.

    Returns
    -------
    pandas.DataFrame
        ``label, prefix, images, distinct_numbers``; the prefix ``none`` stands for a missing identifier.
    """
    found = identifiers(table).assign(label=table["label"])
    found["prefix"] = found["prefix"].replace("", "none")
    grouped = found.groupby(["label", "prefix"], sort=True)["number"]
    return grouped.agg(images="size", distinct_numbers="nunique").reset_index()
