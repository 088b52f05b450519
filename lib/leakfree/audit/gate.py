"""The audit as a gate: a split that leaks, other than its protocol declares, is not trained on."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from leakfree.audit.checks.findings import FAIL_ON, Check
from leakfree.audit.checks.patient_checks import linked_groups_check, patients_check
from leakfree.audit.linked import CohortCopies
from leakfree.base.errors import LeakfreeError
from leakfree.split.manifest import Manifest
from leakfree.split.protocols import Protocol


class GateError(LeakfreeError):
    """The split leaks; the message is one line that says what and how much."""


def gate(
    table: pd.DataFrame, copies: CohortCopies, manifest: Manifest, protocol: Protocol, scope: str = "series"
) -> dict[str, Check]:
    """Check a split before anything is trained on it.

    Parameters
    ----------
    table : pandas.DataFrame
        Cohort rows.
    copies : CohortCopies
    manifest : Manifest
    protocol : Protocol
        Leaks that it declares are let through.
    scope : str
        Patient scope that decides.

    Returns
    -------
    dict of str to Check
        ``patients`` and ``linked_groups``, the checks of `leakfree audit`.

    Raises
    ------
    GateError
        If the split names images that the cohort does not have, a part is empty, or images, patients or
        copies stand in several parts and the protocol does not declare it.
    """
    times = Counter(image_id for ids in manifest.parts.values() for image_id in ids)
    repeated = [image_id for image_id, count in times.items() if count > 1]
    if repeated and "images" not in protocol.leaks:
        raise GateError(
            f"{manifest.name}: {len(repeated)} images stand in several parts, such as {min(repeated)}. "
            f"Protocol {protocol.name} does not allow it"
        )
    # An image that is let through in two parts counts in the last of them.
    part_of = {image_id: part for part, ids in manifest.parts.items() for image_id in ids}
    rows = table[table["image_id"].isin(part_of)].reset_index(drop=True)
    if lost := sorted(set(part_of) - set(rows["image_id"])):
        raise GateError(f"{manifest.name}: {len(lost)} images are not in the cohort, such as {lost[0]}")
    if empty := [part for part, ids in manifest.parts.items() if not ids]:
        raise GateError(f"{manifest.name}: part {empty[0]} is empty")
    rows = rows.assign(part=rows["image_id"].map(part_of), patient="")
    linked, _ = linked_groups_check(rows, copies.keys(rows), scope, FAIL_ON, "")
    checks = {"patients": patients_check(rows, scope, FAIL_ON, ""), "linked_groups": linked}
    if "linked groups" not in protocol.leaks:
        for check in checks.values():
            if check.fails:
                raise GateError(
                    f"{manifest.name}: {check.summary} Protocol {protocol.name} does not allow it"
                )
    return checks
