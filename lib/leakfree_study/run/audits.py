"""Tables of what audits of a run found: every check of every split, and pairs whose pixels agree."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from leakfree.audit.checks.findings import Check, Report


def audit_table(reports: Mapping[str, Report]) -> pd.DataFrame:
    """List all checks of several splits.

    Returns
    -------
    pandas.DataFrame
        ``split, check, status, count, files`` (how many), ``across_parts`` (empty where it is not
        counted) and ``summary``.
    """
    rows = [
        {
            "split": split,
            "check": name,
            "status": check.status,
            "count": check.count,
            "files": len(check.files),
            "across_parts": check.details.get("across_parts", {}).get("count", ""),
            "summary": check.summary,
        }
        for split, report in reports.items()
        for name, check in report.checks.items()
    ]
    return pd.DataFrame(rows)


def outcomes(found: pd.DataFrame) -> pd.DataFrame:
    """Put the outcomes of `audit_table` side by side: checks in rows, splits in columns, in their order."""
    status = zip(found["status"], found["count"], strict=True)
    shown = found.assign(outcome=[f"{text} ({count})" if count else text for text, count in status])
    wide = shown.pivot(index="check", columns="split", values="outcome")
    return wide.loc[list(found["check"].unique()), list(found["split"].unique())]


def verified_pairs(near: Check, adjudicated: pd.DataFrame | None = None) -> pd.DataFrame:
    """List the pairs of near duplicates whose pixels agree.

    Parameters
    ----------
    near : Check
        The check ``near_duplicates`` of a report.
    adjudicated : pandas.DataFrame, optional
        As `leakfree_study.identity.reference.adjudication`.

    Returns
    -------
    pandas.DataFrame
        ``first, second, found_by, how, agreement`` and, with verdicts, ``readers``.
    """
    columns = ["first", "second", "found_by", "how", "agreement"]
    pairs = near.details["verified_pairs"]
    table = pd.DataFrame(
        [(*pair["files"][:2], pair["found_by"], pair["how"], pair["agreement"]) for pair in pairs],
        columns=columns,
    )
    if adjudicated is None:
        return table
    verdicts = {frozenset((row.first, row.second)): row.agreed for row in adjudicated.itertuples()}
    both = zip(table["first"], table["second"], strict=True)
    return table.assign(readers=[verdicts.get(frozenset(pair), "not read") for pair in both])
