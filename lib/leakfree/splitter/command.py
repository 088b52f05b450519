"""``leakfree split``: read, join, split or repair, write, audit the result, and say all of it."""

from __future__ import annotations

import argparse
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from leakfree.audit.auditor import AuditSettings
from leakfree.audit.checks.findings import Report
from leakfree.audit.checks.patient_checks import ordered_parts
from leakfree.audit.linked import audit_under
from leakfree.audit.target import Target
from leakfree.base.escape import say
from leakfree.split.manifest import THREE_WAY, Manifest
from leakfree.splitter.assign import assign
from leakfree.splitter.material import Gathered, SplitError, column_of, gather
from leakfree.splitter.repair import repaired
from leakfree.splitter.write import (
    CHANGES,
    MANIFEST,
    refuse_what_is_there,
    split_table,
    write_images,
    write_split,
    write_table,
)

#: Changes that are told on the terminal; all of them are in changes.csv.
_TOLD = 10


@dataclass(frozen=True)
class Made:
    """A split that was made.

    Attributes
    ----------
    material : Gathered
    manifest : Manifest
    listed : pandas.DataFrame
        See `leakfree.splitter.write.split_table`.
    changes : pandas.DataFrame or None
        Of a repair: ``image_id, from, to, why``.
    report : Report
        The audit of the split.
    out : pathlib.Path
    """

    material: Gathered
    manifest: Manifest
    listed: pd.DataFrame
    changes: pd.DataFrame | None
    report: Report
    out: Path


def make(target: Target, settings: AuditSettings, given: argparse.Namespace) -> Made:
    """Make or repair a split, write it, and audit it.

    Raises
    ------
    SplitError, leakfree.splitter.repair.RepairError
        One line that says what is wrong, before anything is written.
    """
    named = given.target if isinstance(given.target, str) else given.target[0]
    out = given.out or Path(f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', target.name).lstrip('.-') or 'images'}-split")
    refuse_what_is_there(out)
    if given.keep and not given.repair:
        raise SplitError("--keep goes with --repair")
    if given.folds is not None and given.folds < 2:
        raise SplitError(f"--folds {given.folds}: needs 2 or more")
    shares = fractions(given.parts, given.folds)
    material = gather(target, settings, named, given.group_column or ())
    if not (given.repair or given.by_image or material.columns) and material.scope is None:
        raise SplitError(
            f"{named}: no name or column tells a patient, so one patient could be in several parts; "
            "say how: --patient-pattern REGEX, or a table with a column patient; --by-image if every image "
            "is of another patient"
        )
    table, strata = material.table, {}
    if ((labels := table["label"]) != "").any():
        strata["label"] = labels.to_numpy(dtype=object)
    strata |= {name: column_of(table, named, name) for name in given.stratify}
    settings = settings.model_copy(update={"manifest": None})
    changes, what = None, {"strata": list(strata), "thorough": settings.thorough}
    if given.repair:
        before = table["part"].to_numpy(dtype=object)
        if len(set(before) - {""}) < 2:
            raise SplitError(f"{named}: has no two parts to repair; leave out --repair to make a split")
        parts = repaired(material.groups, before, given.keep)
        changes = _changes(material, before, parts)
        kind, seed, order, what = "repaired", None, ordered_parts(parts), {**what, "keep": sorted(given.keep)}
    else:
        if (n := len(np.unique(material.groups))) < len(shares):
            raise SplitError(f"{named}: {n} linked groups are too few for {len(shares)} parts")
        order, seed, kind = list(shares), settings.seed, "linked-groups"
        places = assign(material.groups, list(strata.values()), list(shares.values()), seed=seed)
        parts = np.array(order, dtype=object)[places]
        if empty := sorted(set(order) - set(parts)):
            raise SplitError(
                f"{named}: part {empty[0]} would be empty: its share is smaller than a linked group"
            )
        what |= {"folds": given.folds} if given.folds else {"fractions": shares}
    listed = split_table(material, parts, out)
    manifest = Manifest(
        name=out.name,
        kind=kind,
        parts={part: tuple(listed.loc[listed["part"] == part, "image_id"]) for part in order},
        seed=seed,
        scope=material.scope,
        linked=material.linked,
        data_checksum=target.checksum,
        settings=what,
    )
    part_of = dict(zip(listed["image_id"], listed["part"], strict=True))
    report = audit_under(target, material.read, material.copies, part_of, manifest.name, settings)
    write_split(manifest, listed, out, lists=given.lists)
    if changes is not None:
        write_table(changes, out / CHANGES)
    if given.links or given.copies:
        write_images(material, listed, out, copy=given.copies)
    return Made(material, manifest, listed, changes, report, out)


def fractions(text: str | None, folds: int | None) -> dict[str, float]:
    """Read ``train=0.8,test=0.2``; the shares are of all images and sum to one.

    Examples
    --------
    >>> fractions("train=4,test=1", None)
    {'train': 0.8, 'test': 0.2}
    """
    if folds is not None:
        return {f"fold_{number}": 1 / folds for number in range(folds)}
    if text is None:
        return dict(THREE_WAY)
    found: dict[str, float] = {}
    for entry in text.split(","):
        name, _, share = (piece.strip() for piece in entry.partition("="))
        try:
            value = float(share)
        except ValueError:
            value = 0.0
        if not name or name in found or not 0 < value < float("inf"):
            raise SplitError(
                f"--parts {text}: write each part once, with its share, such as train=0.8,test=0.2"
            )
        found[name] = value
    if len(found) < 2:
        raise SplitError(f"--parts {text}: needs two parts or more")
    return {name: value / sum(found.values()) for name, value in found.items()}


def _changes(material: Gathered, before: np.ndarray, after: np.ndarray) -> pd.DataFrame:
    """Say of each changed image where it was, where it is, and what it is linked to there."""
    ids = material.table["image_id"].to_numpy(dtype=object)
    keys = [
        ("same patient as", np.where(material.named, material.patients, "")),
        ("a copy of", material.copies.group.astype(str).astype(object)),
        *((f"same {name} as", values) for name, values in material.columns.items()),
    ]
    stayed = (before == after) & (before != "")
    lookup = []
    for words, values in keys:
        partners: dict[str, int] = {}
        for row in np.flatnonzero(stayed):
            if values[row] != "":
                partners.setdefault(values[row], int(row))
        lookup.append((words, values, partners))
    rows = []
    for row in np.flatnonzero(before != after):
        found = [(words, by[values[row]]) for words, values, by in lookup if values[row] in by]
        if found:
            why = "; ".join(f"{words} {ids[other]} in {before[other]}" for words, other in found)
        else:
            # Neither its patient nor its copies stayed: a chain of links joins it.
            others = np.flatnonzero(stayed & (material.groups == material.groups[row]))
            why = f"joined through other images to {ids[others[0]]} in {before[others[0]]}"
        rows.append((ids[row], before[row], after[row] or "dropped", why))
    return pd.DataFrame(rows, columns=["image_id", "from", "to", "why"])


def shares(made: Made) -> pd.DataFrame:
    """Count images by part and class: ``part, images, share``, and the share of each class in the part."""
    rows = []
    for part, ids in made.manifest.parts.items():
        labels = made.listed.loc[made.listed["part"] == part, "label"].value_counts(normalize=True)
        rows.append({"part": part, "images": len(ids), "share": len(ids) / len(made.listed), **labels})
    return pd.DataFrame(rows).fillna(0.0)


def tell(made: Made, given: argparse.Namespace) -> None:
    """Print what was made, what is not sure, and the command that checks it."""
    material, counts = made.material, shares(made)
    n, groups = len(made.listed), made.listed["group"].nunique()
    say(f"{n:,} images in {groups:,} linked groups ({', '.join(['patients', *material.linked])})")
    for row in counts.to_dict("records"):
        classes = ", ".join(
            f"{name or 'no label'} {value:.1%}" for name, value in list(row.items())[3:] if name is not None
        )
        say(f"  {row['part']}: {row['images']:,} images, {row['share']:.1%} of all; {classes}")
    if made.changes is not None:
        dropped = int((made.changes["to"] == "dropped").sum())
        moved = len(made.changes) - dropped
        say(f"{moved:,} images moved, {dropped:,} dropped; all are in {made.out / CHANGES}")
        for change in made.changes.head(_TOLD).itertuples(index=False):
            say(f"  {change[0]}: {change[1]} -> {change[2]}: {change[3]}")
        if (more := len(made.changes) - _TOLD) > 0:
            say(f"  and {more:,} more")
        if unplaced := int((material.table["part"] == "").sum()):
            say(f"Not placed: {unplaced:,} images had no part and have none now.")
    if repeated := len(material.table) - material.table["image_id"].nunique():
        say(f"Listed once from now on: {repeated:,} files were listed more than once.")
    if material.scope is None:
        say("Not known: the patients. Images are kept together only by what is named above.")
    elif lacking := int((~material.named).sum()):
        say(f"Not known: the patient of {lacking:,} images; each counts as a patient of its own.")
    if not given.thorough:
        say("Not looked for: shifted, cropped, slightly turned and padded copies (--fast).")
    if material.lost:
        say(f"Left out: {len(material.lost):,} files could not be read, such as {material.lost[0]}")


def audit_command(made: Made, reading: list[str]) -> str:
    """Return the command that audits the split from its files, with the options that say how to read."""
    target, *options = reading
    return shlex.join(["leakfree", "audit", target, "--manifest", str(made.out / MANIFEST), *options])
