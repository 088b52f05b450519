"""The counts of the study that we answer, recomputed with its own rules.

Its patient is the hub's ``person_num``: the bare number of person files. NORMAL rows have none, and
where it counts patients it takes all of them as one patient, "None". These rules are kept here, and
only here, to compare like with like.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from leakfree.audit.checks.overlap import overlap
from leakfree.data import patients

SEED = 42
#: Published counts of the reference study (train folder, its rule ``person``).
EXPECTED = {
    "missing identifiers": 1341,
    "distinct patient numbers": 1635,
    "most images of one patient": 30,
    "patients with more than one image": 1005,
    "patients in both parts, plain 80/20 split": 447,
    "patients in both parts, stratified 80/20 split": 435,
    "classical split, training images": 2696,
    "classical split, validation images": 575,
    "classical split, test images": 604,
}
_STRATA = {"normal": 0, "bacterial": 1, "viral": 2, "pneumonia": 3}


def person_num(table: pd.DataFrame) -> np.ndarray:
    """Return the hub's ``person_num``: float, shape (n,), NaN for NORMAL and nameless images."""
    found = patients.identifiers(table)
    normal = found["prefix"].isin(["", "IM", "NORMAL2-IM", "NORMAL"])
    return found["number"].mask(normal).to_numpy(dtype=float, na_value=np.nan)


def series_patients(table: pd.DataFrame) -> np.ndarray:
    """Return (etiology, number) of person files as str, None elsewhere: ``series`` on the same rows."""
    known = ~np.isnan(person_num(table))
    return np.where(known, patients.patient_ids(table, "series"), None)


def counts(table: pd.DataFrame, is_reference: bool) -> pd.DataFrame:
    """Recompute every count under the reference's rule, and the same counts under ``series``.

    Parameters
    ----------
    table : pandas.DataFrame
        Development rows of a cohort, in the hub's order.
    is_reference : bool
        Whether the cohort is the one that the reference study used; otherwise nothing is expected.

    Returns
    -------
    pandas.DataFrame
        ``name, scope, seed, expected, observed``; ``expected`` is empty where the reference gives none.
    """
    numbers = person_num(table)
    person = np.where(np.isnan(numbers), None, numbers)
    rows = []
    for scope, rule in (("person", person), ("series", series_patients(table))):
        for name, seed, observed in _counts(rule, table["label"]):
            expected = EXPECTED[name] if is_reference and scope == "person" else pd.NA
            rows.append(
                {"name": name, "scope": scope, "seed": seed, "expected": expected, "observed": observed}
            )
    frame = pd.DataFrame(rows)
    return frame.astype({"expected": "Int64", "observed": "Int64", "seed": "Int64"})


def _counts(rule: np.ndarray, labels: pd.Series) -> list[tuple[str, object, object]]:
    known = pd.Series(rule, dtype=object).notna().to_numpy()
    sizes = pd.Series(rule[known]).value_counts()
    one_none = np.array(["None" if value is None else str(value) for value in rule], dtype=object)
    rows = np.arange(len(rule))
    strata = labels.map(_STRATA).to_numpy()
    train, test = train_test_split(rows, test_size=0.2, random_state=SEED)
    plain = overlap(one_none[train], one_none[test]).shared
    train, test = train_test_split(rows, test_size=0.2, random_state=SEED, stratify=strata)
    stratified = overlap(one_none[train], one_none[test]).shared
    listed = np.unique(rule[known].astype(float) if _numeric(rule[known]) else rule[known].astype(str))
    images = [pd.NA] * 3  # fewer than four patients cannot be split in three
    if len(listed) >= 4:
        first, rest = train_test_split(listed, test_size=0.3, random_state=SEED)
        second, third = train_test_split(rest, test_size=0.5, random_state=SEED)
        images = [int(sizes.reindex(part).sum()) for part in (first, second, third)]
    values = [
        (None, int((~known).sum())),
        (None, len(sizes)),
        (None, int(sizes.max()) if len(sizes) else 0),
        (None, int((sizes > 1).sum())),
        (SEED, plain),
        (SEED, stratified),
        (SEED, images[0]),
        (SEED, images[1]),
        (SEED, images[2]),
    ]
    return [
        (name, pd.NA if seed is None else seed, value)
        for name, (seed, value) in zip(EXPECTED, values, strict=True)
    ]


def _numeric(values: np.ndarray) -> bool:
    return all(isinstance(value, float) for value in values)


def is_reference_cohort(table: pd.DataFrame) -> bool:
    """Tell whether development rows are the reference's 5,216 images, by the counts of their classes."""
    return table["label"].value_counts().to_dict() == {"normal": 1341, "bacterial": 2530, "viral": 1345}


def adjudication(project: Path) -> pd.DataFrame | None:
    """Read the committed verdicts on near-duplicate candidates of the reference cohort, None without them.

    Returns
    -------
    pandas.DataFrame
        From `benchmarks/adjudication.py`: ``pair, first, second, kind, found_by, agreement, verified``,
        a column for each reader, and ``agreed``, empty where the readers differ or are unsure.
    """
    path = Path(project) / "artifacts" / "chest_xray" / "adjudication.csv"
    return pd.read_csv(path, keep_default_na=True).fillna({"agreed": ""}) if path.is_file() else None


def adjudication_counts(adjudicated: pd.DataFrame) -> pd.DataFrame:
    """Count pairs by their kind and by what two readers say of them.

    Parameters
    ----------
    adjudicated : pandas.DataFrame
        As `adjudication`.

    Returns
    -------
    pandas.DataFrame
        Kinds in rows, verdicts in columns. Candidates that the pixels confirm are a kind of their own.
    """
    confirmed = adjudicated["verified"].map({True: "candidate, verified", False: "candidate, not verified"})
    kind = adjudicated["kind"].where(adjudicated["kind"] != "candidate", confirmed)
    return pd.crosstab(kind, adjudicated["agreed"].replace("", "no agreement"))
