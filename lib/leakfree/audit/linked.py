"""Copies within a cohort, found once and kept: what linked groups are made of besides patients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from leakfree.audit.auditor import AuditSettings, audit_and_scan
from leakfree.audit.checks.findings import Report
from leakfree.audit.copies.duplicates import Copies, find_copies
from leakfree.audit.copies.scan import Scan, scan
from leakfree.audit.target import Target, from_cohort, with_parts
from leakfree.base.files import write_json
from leakfree.base.parallel import available_cores
from leakfree.base.provenance import package_digest, versions
from leakfree.data.cohort import Cohort
from leakfree.split.manifest import Manifest

_PAIRS = ["first", "second", "found_by", "symmetry", "inverted", "agreement"]
#: Modules that decide which images are copies: a change of one, or of a package, makes kept results stale.
_MODULES = (
    *(
        f"leakfree/audit/copies/{name}"
        for name in ("alignment", "duplicates", "hashes", "keypoints", "scan", "vectors")
    ),
    "leakfree/data/images",
)


@dataclass(frozen=True)
class CohortCopies:
    """Which images of a cohort are copies of one another.

    Attributes
    ----------
    groups : tuple of tuple of str
        Image ids of each group of copies, exact or verified on the pixels.
    pairs : pandas.DataFrame
        Verified near-duplicates: ``first, second, found_by, symmetry, inverted, agreement``.
    """

    groups: tuple[tuple[str, ...], ...]
    pairs: pd.DataFrame

    def save(self, path: Path) -> Path:
        """Write the copies as JSON, atomically."""
        return write_json(path, {"groups": self.groups, "pairs": self.pairs.to_numpy(dtype=object).tolist()})

    @classmethod
    def load(cls, path: Path) -> CohortCopies:
        """Read what `save` wrote; raises OSError, ValueError, KeyError or TypeError where it is not that."""
        kept = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(tuple(map(tuple, kept["groups"])), pd.DataFrame(kept["pairs"], columns=_PAIRS))

    def keys(self, table: pd.DataFrame) -> np.ndarray:
        """Return a key for each row, str of shape (n,), that copies share and nothing else does."""
        key = {image_id: f"copies:{number}" for number, ids in enumerate(self.groups) for image_id in ids}
        return np.array(
            [key.get(image_id, f"film:{image_id}") for image_id in table["image_id"]], dtype=object
        )


def audit_under(
    target: Target,
    read: Scan,
    copies: Copies,
    part_of: dict[str, str],
    name: str,
    settings: AuditSettings,
) -> Report:
    """Audit images that were read and searched already, with the parts of a split in place of their own.

    Parameters
    ----------
    target, read, copies
        The images, as they were read, and the copies among them.
    part_of : dict of str to str
        Image id to part; images that are not named take no part.
    name : str
        Of the split.
    settings : AuditSettings
    """
    placed = with_parts(target, part_of, name)
    rows = np.flatnonzero(read.table["image_id"].isin(part_of).to_numpy())
    taken = read.take(rows)
    taken = replace(
        taken,
        table=taken.table.assign(part=taken.table["image_id"].map(part_of)),
        problems=tuple(sorted({*taken.problems, *placed.problems}, key=lambda problem: problem.file)),
    )
    return audit_and_scan(placed, settings, (taken, copies.take(rows)))[0]


class CohortAudit:
    """A cohort that is read and searched once, thoroughly, and audited under any split.

    Parameters
    ----------
    cohort : Cohort
        All parts are read: copies of test images are found too, by their pixels alone.
    jobs : int
        Threads; 0 for all cores.
    """

    def __init__(self, cohort: Cohort, *, jobs: int = 0) -> None:
        self._target = from_cohort(cohort)
        with threadpool_limits(1, user_api="blas"):
            self._read = scan(self._target, thorough=True, jobs=jobs)
            self._copies = find_copies(
                self._read, self._target.reader, thorough=True, jobs=jobs or available_cores()
            )

    def copies(self) -> CohortCopies:
        """Return the copies, by image id."""
        ids, copies = self._read.table["image_id"].to_numpy(dtype=object), self._copies
        members: dict[int, list[str]] = {}
        for image_id, group in zip(ids, copies.group.tolist(), strict=True):
            members.setdefault(group, []).append(image_id)
        verified = copies.candidates[copies.candidates["verified"].astype(bool)]
        pairs = [
            (
                ids[int(pair.first)],
                ids[int(pair.second)],
                pair.found_by,
                pair.symmetry,
                bool(pair.inverted),
                float(pair.agreement),
            )
            for pair in verified.itertuples()
        ]
        groups = tuple(tuple(group) for group in members.values() if len(group) > 1)
        return CohortCopies(groups, pd.DataFrame(pairs, columns=_PAIRS))

    def report(self, manifest: Manifest | None = None, settings: AuditSettings | None = None) -> Report:
        """Audit the cohort under a split; without one, under its official parts."""
        settings = (settings or AuditSettings()).model_copy(update={"thorough": True})
        if manifest is None:
            return audit_and_scan(self._target, settings, (self._read, self._copies))[0]
        part_of = {image_id: part for part, ids in manifest.parts.items() for image_id in ids}
        return audit_under(self._target, self._read, self._copies, part_of, manifest.name, settings)


def cohort_copies(
    cohort: Cohort, cache: Path, *, jobs: int = 0, search: Callable[[], CohortAudit] | None = None
) -> CohortCopies:
    """Find the copies of a cohort by the thorough search, or read them back.

    Parameters
    ----------
    cohort : Cohort
    cache : pathlib.Path
        Folder of what is kept.
    jobs : int
        Threads; 0 for all cores.
    search : callable, optional
        Gives a `CohortAudit` of the cohort; made here without it.
    """
    digest = hashlib.sha256(cohort.checksum.encode())
    digest.update(json.dumps([package_digest(_MODULES), versions()], sort_keys=True).encode())
    path = Path(cache) / "copies" / f"{cohort.name}-{digest.hexdigest()[:16]}.json"
    try:
        return CohortCopies.load(path)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not there, or damaged: found again
    found = (search() if search else CohortAudit(cohort, jobs=jobs)).copies()
    found.save(path)
    return found
