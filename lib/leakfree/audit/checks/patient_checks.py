"""Checks of patients, and of linked groups: whether any stands in several parts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from leakfree.audit.checks.copy_checks import MOST_EXAMPLES
from leakfree.audit.checks.findings import Check, Severity, Status, not_run
from leakfree.audit.checks.overlap import overlap
from leakfree.data.groups import linked_groups
from leakfree.data.patients import DECLARED, SCOPES, SUBJECT, missing_identifier, patient_ids
from leakfree.data.reading.parts import rank
from leakfree.data.reading.understand import SCOPE


def patients_by_scope(table: pd.DataFrame, scopes: Sequence[str]) -> dict[str, np.ndarray]:
    """Give each image its patient, str of shape (n,), under each scope; ``image:...`` without identifier."""
    found = {}
    for scope in scopes:
        if scope.startswith(SCOPE):
            alone = "image:" + table["image_id"] + "#" + table.index.astype(str)
            found[scope] = table[scope].where(table[scope] != "", alone).to_numpy(dtype=object)
        elif scope == DECLARED and SUBJECT not in table:
            alone = "image:" + table["image_id"] + "#" + table.index.astype(str)
            found[scope] = table["patient"].where(table["patient"] != "", alone).to_numpy(dtype=object)
        else:
            found[scope] = patient_ids(table, scope)
    return found


def available_scopes(table: pd.DataFrame) -> list[str]:
    """Scopes that the table can be read under: `DECLARED` if it is given, and those of file names."""
    further = [column for column in table.columns if column.startswith(SCOPE)]
    if SUBJECT in table:
        return [] if missing_identifier(table).all() else [DECLARED, *further]
    scopes = [DECLARED] if (table["patient"] != "").any() else []
    if len(table) and not missing_identifier(table).all():
        scopes += list(SCOPES)
    return scopes + further if scopes else scopes


def deciding_scope(table: pd.DataFrame, asked: str | None) -> str | None:
    """Return the scope that decides: the one asked for, else a declared patient, else ``series``."""
    if asked is not None:
        return f"{SCOPE}{asked}" if f"{SCOPE}{asked}" in table else asked
    return next((scope for scope in (DECLARED, "series") if scope in available_scopes(table)), None)


def without_identifier(table: pd.DataFrame, scope: str) -> np.ndarray:
    """Tell which images have no identifier under a scope: bool, shape (n,)."""
    if scope.startswith(SCOPE):
        return (table[scope] == "").to_numpy()
    if scope == DECLARED and SUBJECT not in table:
        return (table["patient"] == "").to_numpy()
    return missing_identifier(table)


def patients_check(
    table: pd.DataFrame, declared: str | None, fail_on: Collection[str], incomplete: str
) -> Check:
    """Check whether patients stand in several parts, under every scope that there is.

    Parameters
    ----------
    table : pandas.DataFrame
    declared : str or None
        The scope that decides; None if no identifier can be read.
    fail_on, incomplete
        As `copies_checks`.
    """
    name = "patients"
    scopes = available_scopes(table)
    parts = table["part"].to_numpy(dtype=object)
    if declared is None or declared not in scopes:
        return not_run(
            name,
            "No file name or column tells a patient.",
            "Give a CSV with a column patient, or --patient-pattern.",
        )
    if len(set(parts) - {""}) < 2:
        return not_run(
            name, "There are no two parts to compare.", "Name the parts by folder, column or manifest."
        )
    found = patients_by_scope(table, scopes)
    entries = {
        scope.removeprefix(SCOPE): _scope_entry(table, values, scope, scope == declared, fail_on)
        for scope, values in found.items()
    }
    declared, named = declared.removeprefix(SCOPE), declared
    entry = entries[declared]
    lacking = int(without_identifier(table, named).sum())
    no_part = int((parts == "").sum())
    gaps = [
        incomplete,
        f"{lacking:,} images have no identifier and count as a patient each" if lacking else "",
        f"{no_part:,} images have no part" if no_part else "",
    ]
    gap = "; ".join(filter(None, gaps))
    others = {scope: other["count"] for scope, other in entries.items() if scope != declared}
    listed = ", ".join(f"{scope}: {count}" for scope, count in others.items())
    beside = f" (other scopes: {listed})" if others else ""
    details = {"declared_scope": declared, "images_without_identifier": lacking, **entries}
    worst = any(others.values())
    status: Status
    severity: Severity
    if entry["count"]:
        status, severity = ("FAIL" if name in fail_on else "WARN"), "leak"
        summary = (
            f"{entry['count']} patients stand in several parts under {declared}{beside}; "
            f"the patients of {entry['share_of_test_images_with_sibling']:.1%} of the test images also train."
        )
    elif worst:
        status, severity = "WARN", "warning"
        summary = f"No patient stands in several parts under {declared}{beside}."
    else:
        status, severity = ("INCONCLUSIVE" if gap else "PASS"), "none"
        summary = f"No patient stands in several parts under {declared}{beside}."
    return Check(
        name,
        status,
        summary if not gap else f"{summary[:-1]}; {gap}.",
        "Split by patient: all images of one in one part." if entry["count"] else
        "Find out whether the other scopes join the same child; if so, declare that scope." if worst else "",
        entry["count"],
        tuple(entry["files"]),
        severity,
        tuple(entry["examples"]),
        details,
    )  # fmt: skip


def _scope_entry(
    table: pd.DataFrame, patients: np.ndarray, scope: str, declared: bool, fail_on: Collection[str]
) -> dict[str, Any]:
    ids, parts = table["image_id"].to_numpy(dtype=object), table["part"].to_numpy(dtype=object)
    placed = parts != ""
    frame = pd.DataFrame({"patient": patients[placed], "part": parts[placed], "id": ids[placed]})
    spread = frame.groupby("patient")["part"].nunique()
    shared = spread.index[spread > 1]
    touched = frame[frame["patient"].isin(shared)]
    training, others = _training(parts)
    test = np.isin(parts, others)
    sides = overlap(patients[parts == training], patients[test])
    examples, found = [], touched.groupby("patient", sort=True)
    for _, images in list(found)[:MOST_EXAMPLES]:
        examples.append(tuple(images.drop_duplicates("part")["id"])[:4])
    pairs = {}
    for one, two in combinations(ordered_parts(parts), 2):
        both = overlap(patients[parts == one], patients[parts == two])
        pairs[f"{one} and {two}"] = both.shared
    count = len(shared)
    leak = count and declared
    return {
        "count": count,
        "files": sorted(touched["id"]),
        "groups": [sorted(images["id"]) for _, images in found],
        "severity": "leak" if leak else "warning" if count else "none",
        "fails": bool(leak and "patients" in fail_on),
        "patients": int(pd.unique(patients).size),
        "patients_with_several_images": int((pd.Series(patients).value_counts() > 1).sum()),
        "images_without_identifier": int(without_identifier(table, scope).sum()),
        "share_of_test_images_with_sibling": round(sides.share_of_images, 6) if sides.test_images else None,
        "test_images_with_sibling": sides.test_images_with_sibling,
        "test_images": sides.test_images,
        "training_part": training,
        "between": pairs,
        "examples": examples,
    }


def ordered_parts(parts: np.ndarray) -> list[str]:
    """Parts in the order training, validation, test, others by name."""
    return sorted(set(parts) - {""}, key=lambda part: (rank(part), part))


def _training(parts: np.ndarray) -> tuple[str, list[str]]:
    first, *others = ordered_parts(parts)
    return first, others


def _joined(groups: np.ndarray, patients: np.ndarray, unknown: np.ndarray) -> list[list[str]]:
    """List the known patients that one linked group holds, where it holds several."""
    known = pd.DataFrame({"group": groups, "patient": patients})[~unknown].drop_duplicates()
    several = known[known["group"].duplicated(keep=False)]
    return [sorted(map(str, names)) for _, names in several.groupby("group")["patient"]]


def linked_groups_check(
    table: pd.DataFrame,
    copies: np.ndarray | None,
    declared: str | None,
    fail_on: Collection[str],
    incomplete: str,
) -> tuple[Check, np.ndarray | None]:
    """Join patients and copies, and check whether a group stands in several parts.

    Parameters
    ----------
    table : pandas.DataFrame
    copies : numpy.ndarray, shape (n,), or None
        A key for each image that copies share; None if they were not searched.
    declared : str or None
        The patient scope that decides; None if no identifier can be read.
    fail_on, incomplete
        As `leakfree.audit.checks.copy_checks.copies_checks`.

    Returns
    -------
    check : Check
    groups : numpy.ndarray of int64, shape (n,), or None
        Linked group of each image; None if neither patients nor copies are known.
    """
    name = "linked_groups"
    keys, linked_by, gaps = _keys(table, copies, declared)
    gaps = [incomplete, *gaps] if incomplete else gaps
    if not keys:
        return not_run(name, "Neither patients nor copies are known."), None
    groups = linked_groups(*keys)
    joined = []
    if declared is not None and len(keys) == 2:
        joined = _joined(groups, keys[0], without_identifier(table, declared))
    some = "; ".join(" and ".join(patients[:4]) for patients in joined[:4])
    told = f"Copies join patients of different ids ({len(joined):,} times), such as {some}" if joined else ""
    parts = table["part"].to_numpy(dtype=object)
    if len(set(parts) - {""}) < 2:
        advice = "Find out whether they are one patient each." if joined else ""
        there = "There are no two parts to compare."
        check = Check(name, "NOT RUN", f"{there} {told}." if told else there, advice)
        return replace(check, details={"joined_patients": joined} if joined else {}), groups
    no_part = int((parts == "").sum())
    if no_part:
        gaps.append(f"{no_part:,} images have no part")
    members, examples = _shared(table, groups)
    sizes = np.bincount(groups)
    training, others = _training(parts)
    sides = overlap(groups[parts == training], groups[np.isin(parts, others)])
    details = {
        "scope": declared,
        "linked_by": linked_by,
        "groups_in_all": len(sizes),
        "joined_patients": joined,
        "largest": int(sizes.max()),
        "test_images_with_sibling": sides.test_images_with_sibling,
        "share_of_test_images_with_sibling": round(sides.share_of_images, 6) if sides.test_images else None,
        "groups": members,
    }
    gap = "; ".join(gaps)
    check = Check(
        name,
        ("FAIL" if name in fail_on else "WARN") if members else ("INCONCLUSIVE" if gap else "PASS"),
        f"{len(members) or 'No'} linked groups stand in several parts"
        + (f"; {gap}." if gap else ".")
        + (f" {told}." if told else ""),
        "Split by linked groups: patients and copies together." if members else "",
        len(members),
        tuple(sorted(image_id for group in members for image_id in group)),
        "leak" if members else "none",
        examples,
        details,
    )
    return check, groups


def _keys(
    table: pd.DataFrame, copies: np.ndarray | None, declared: str | None
) -> tuple[list[np.ndarray], list[str], list[str]]:
    """Return what joins images, in which words, and what is missing."""
    keys, linked_by, gaps = [], [], []
    if declared is not None and declared in available_scopes(table):
        keys.append(patients_by_scope(table, [declared])[declared])
        linked_by.append("patients")
        if lacking := int(without_identifier(table, declared).sum()):
            gaps.append(f"{lacking:,} images have no identifier")
    else:
        gaps.append("no patients are known")
    if copies is not None:
        keys.append(copies)
        linked_by.append("copies")
    else:
        gaps.append("copies were not searched")
    return keys, linked_by, gaps


def _shared(table: pd.DataFrame, groups: np.ndarray) -> tuple[list[list[str]], tuple[tuple[str, ...], ...]]:
    """Return the images of each group that is in several parts, and examples: one of each part."""
    ids, parts = table["image_id"].to_numpy(dtype=object), table["part"].to_numpy(dtype=object)
    spread = pd.Series(parts).where(parts != "").groupby(groups).nunique()
    touched = np.isin(groups, spread.index[spread > 1].to_numpy())
    members: dict[int, list[str]] = {}
    for group, image_id in zip(groups[touched].tolist(), ids[touched], strict=True):
        members.setdefault(group, []).append(image_id)
    part_of = dict(zip(ids[touched], parts[touched], strict=True))
    examples = tuple(
        tuple({part_of[image_id]: image_id for image_id in reversed(group)}.values())[:4]
        for group in list(members.values())[:MOST_EXAMPLES]
    )
    return list(members.values()), examples
