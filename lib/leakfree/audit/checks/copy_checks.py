"""Checks of copies: one file listed twice, exact and near-duplicates, and copies with different labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from leakfree.audit.checks.findings import Check, Status, not_run
from leakfree.audit.copies.duplicates import Copies
from leakfree.audit.copies.hashes import RADIUS

#: Findings of a check that the report shows pictures of.
MOST_EXAMPLES = 12


def copies_checks(
    table: pd.DataFrame, copies: Copies, fail_on: Collection[str], incomplete: str, *, split: bool = True
) -> list[Check]:
    """Check files and copies.

    Parameters
    ----------
    table : pandas.DataFrame
        Of the scan.
    copies : Copies
    fail_on : collection of str
        Checks that fail when a finding crosses parts.
    incomplete : str
        Why not everything could be looked at, empty if it could.
    split : bool
        Whether the images should have parts; without, nothing is missed for want of one.
    """
    if copies.unread:
        again = f"{copies.unread:,} candidates could not be read again"
        incomplete = "; ".join(filter(None, [incomplete, again]))
    ids = table["image_id"].to_numpy(dtype=object)
    verified = copies.candidates[copies.candidates["verified"].astype(bool)]
    one_patient = _of_one_patient(table)
    alike = [group for group in copies.near if one_patient(group)]
    near_order = _by_agreement([group for group in copies.near if not one_patient(group)], verified)
    unverified = len(copies.candidates) - len(verified)
    near_details = {
        "candidates": len(copies.candidates),
        "candidates_refuted_on_pixels": int(unverified),
        "thorough": copies.thorough,
        "stages": copies.stages,
        "alike_of_one_patient": [[ids[row] for row in group] for group in alike],
        "verified_pairs": [
            {
                "files": [ids[int(pair.first)], ids[int(pair.second)]],
                "found_by": pair.found_by,
                "how": " ".join(filter(None, [pair.symmetry, "inverted" if pair.inverted else ""]))
                or "upright",
                "bits_apart": int(pair.distance),
                "keypoints": int(pair.keypoints),
                "agreement": float(pair.agreement),
            }
            for pair in verified.itertuples()
        ],
    }
    searched = "re-encoded, resized, brightened, mirrored, turned by right angles, inverted"
    if copies.thorough:
        searched += ", shifted, cropped, slightly turned, padded"
    return [
        _copies_check(
            "same_file", table, copies.same_file, fail_on, incomplete,
            "listed more than once", "List each file once, in one part.", {}, split,
        ),
        _copies_check(
            "exact_duplicates", table, copies.exact, fail_on, incomplete,
            "with the same bytes or pixels",
            "Keep all copies of an image in one part, or drop all but one.", {}, split,
        ),
        _copies_check(
            "near_duplicates", table, near_order, fail_on, incomplete,
            f"that agree on the pixels ({searched})",
            "Look at the pairs; keep the copies of an image in one part.",
            {**near_details, "radius_bits": RADIUS}, split, _told(alike),
        ),
        _label_conflicts(table, copies, fail_on, incomplete),
    ]  # fmt: skip


def _by_agreement(groups: list[list[int]], verified: pd.DataFrame) -> list[list[int]]:
    best = {int(pair.first): float(pair.agreement) for pair in verified.itertuples()}
    best |= {int(pair.second): max(best.get(int(pair.second), 0.0), float(pair.agreement))
             for pair in verified.itertuples()}  # fmt: skip
    return sorted(groups, key=lambda group: -max(best.get(row, 0.0) for row in group))


def _copies_check(
    name: str,
    table: pd.DataFrame,
    groups: list[list[int]],
    fail_on: Collection[str],
    incomplete: str,
    what: str,
    advice: str,
    details: dict[str, Any],
    split: bool,
    beside: str = "",
) -> Check:
    ids, parts = table["image_id"].to_numpy(dtype=object), table["part"].to_numpy(dtype=object)
    across = [group for group in groups if _crosses(parts, group)]
    inside = [group for group in groups if not _crosses(parts, group)]
    noun = "files" if name == "same_file" else "groups"
    details = {
        "groups": [[ids[row] for row in group] for group in (*across, *inside)],
        "across_parts": {
            "count": len(across),
            "files": sorted({ids[row] for group in across for row in group}),
        },
        **details,
    }
    unsplit = ""
    if split and (parts == "").any():
        unsplit = "some images have no part, so copies across parts may be missed"
        if half := [
            group for group in groups if len({parts[row] for row in group}) > 1 and not _crosses(parts, group)
        ]:
            unsplit += f" ({len(half)} {noun} are in a part and in none)"
    gap = "; ".join(filter(None, [incomplete, unsplit]))
    if not groups:
        status: Status = "INCONCLUSIVE" if gap else "PASS"
        told = f"No {noun} {what}{beside}" + (f"; but {gap}." if gap else ".")
        return Check(name, status, told, details=details)
    files = sorted({ids[row] for group in groups for row in group})
    summary = f"{len(groups)} {noun} ({len(files)} files) {what}; {len(across)} of them across parts{beside}"
    return Check(
        name,
        "FAIL" if across and name in fail_on else "WARN",
        summary + (f"; and {gap}." if gap else "."),
        advice,
        len(groups),
        tuple(files),
        "leak" if across else "warning",
        tuple(tuple(ids[row] for row in group) for group in (*across, *inside)[:MOST_EXAMPLES]),
        details,
    )


def _of_one_patient(table: pd.DataFrame) -> Callable[[Sequence[int]], bool]:
    """Tell alike images that are of one patient in one part, as neighbouring slices and frames are."""
    patients, parts = table["patient"].tolist(), table["part"].tolist()
    return lambda group: patients[group[0]] != "" and len({(patients[row], parts[row]) for row in group}) == 1


def _told(alike: Sequence[Sequence[int]]) -> str:
    if not alike:
        return ""
    n = sum(map(len, alike))
    which = "alike images of one patient in one part, such as slices or frames"
    return f"; {len(alike)} more ({n} files) are {which}"


def _crosses(parts: np.ndarray, group: Sequence[int]) -> bool:
    return len({parts[row] for row in group} - {""}) > 1


def _label_conflicts(table: pd.DataFrame, copies: Copies, fail_on: Collection[str], incomplete: str) -> Check:
    name = "label_conflicts"
    labels = table["label"].to_numpy(dtype=object)
    usable = (labels != "") & (labels != "sealed")
    if not usable.any():
        return not_run(name, "No image has a label that may be read.", "Name the class by folder or column.")
    ids = table["image_id"].to_numpy(dtype=object)
    clusters = _all_groups(table, copies)
    conflicting = [group for group in clusters if len({labels[row] for row in group if usable[row]}) > 1]
    unread = int((~usable).sum())
    gap = "; ".join(
        filter(None, [incomplete, f"{unread:,} images have no label that may be read" if unread else ""])
    )
    details = {
        "groups": [[ids[row] for row in group] for group in conflicting],
        "images_without_label": unread,
    }
    if not conflicting:
        return Check(
            name,
            "INCONCLUSIVE" if gap else "PASS",
            f"The copies ({len(clusters)} groups) agree on their labels" + (f"; but {gap}." if gap else "."),
            details=details,
        )
    files = sorted({ids[row] for group in conflicting for row in group})
    return Check(
        name,
        "FAIL" if name in fail_on else "WARN",
        f"{len(conflicting)} groups of copies ({len(files)} files) carry different labels.",
        "At least one of the labels is wrong: have the images read again, or drop them.",
        len(conflicting),
        tuple(files),
        "warning",
        tuple(tuple(ids[row] for row in group) for group in conflicting[:MOST_EXAMPLES]),
        details,
    )


def _all_groups(table: pd.DataFrame, copies: Copies) -> list[list[int]]:
    """Return groups whose labels must agree: of alike images of one patient, those with the same pixels."""
    same: dict[int, list[list[int]]] = defaultdict(list)
    for group in (*copies.same_file, *copies.exact):
        same[copies.group[group[0]]].append(group)
    one_patient = _of_one_patient(table)
    order = pd.Series(np.arange(len(copies.group))).groupby(copies.group).agg(list)
    groups: list[list[int]] = []
    for group in order:
        if len(group) > 1:
            groups += same[copies.group[group[0]]] if one_patient(group) else [group]
    return groups
