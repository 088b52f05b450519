"""Tables of who is on both sides of a split: by seed, between the parts of a manifest, and as files came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from leakfree.audit.checks.overlap import overlap
from leakfree.data.patients import patient_ids
from leakfree.split.manifest import Manifest


def overlap_summary(draws: pd.DataFrame) -> pd.DataFrame:
    """Average `leakfree.audit.checks.overlap.repeat_image_level` over its seeds.

    Returns
    -------
    pandas.DataFrame
        One row for each kind of split and scope: ``seeds, shared`` (mean), ``shared_min, shared_max,
        expected_shared, share_of_images`` (mean) and ``expected_share_of_images``.
    """
    grouped = draws.groupby(["split", "scope"], sort=False)
    return grouped.agg(
        seeds=("seed", "size"),
        shared=("shared", "mean"),
        shared_min=("shared", "min"),
        shared_max=("shared", "max"),
        expected_shared=("expected_shared", "first"),
        share_of_images=("share_of_images", "mean"),
        expected_share_of_images=("expected_share_of_images", "first"),
    ).reset_index()


def readable_summary(summary: pd.DataFrame) -> pd.DataFrame:
    """Write `overlap_summary` for readers: rounded, with names of columns in words."""
    ends = zip(summary["shared_min"], summary["shared_max"], strict=True)
    return pd.DataFrame(
        {
            "split": summary["split"],
            "scope": summary["scope"],
            "patients on both sides": summary["shared"].map("{:.1f}".format),
            "least to most": [f"{least} to {most}" for least, most in ends],
            "expected": summary["expected_shared"].map("{:.1f}".format),
            "test images whose patient also trains": summary["share_of_images"].map("{:.1%}".format),
            "expected share": summary["expected_share_of_images"].map("{:.1%}".format),
        }
    )


def between_parts(manifest: Manifest, ids: np.ndarray, groups: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Count what each two parts of a manifest share.

    Parameters
    ----------
    manifest : Manifest
        With the parts train, val and test.
    ids : numpy.ndarray of str, shape (n,)
        Image ids.
    groups : mapping of str to numpy.ndarray, shape (n,)
        By the name of a scope, whose each image is.

    Returns
    -------
    pandas.DataFrame
        Scopes in rows, pairs of parts in columns.
    """
    rows = []
    for scope, values in groups.items():
        part = {name: values[manifest.rows(name, ids)] for name in manifest.parts}
        for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
            shared = overlap(part[first], part[second]).shared
            rows.append({"scope": scope, "between": f"{first} and {second}", "shared": shared})
    table = pd.DataFrame(rows).pivot(index="scope", columns="between", values="shared")
    return table.loc[list(groups)]


def official_parts(table: pd.DataFrame, scopes: Sequence[str]) -> pd.DataFrame:
    """Count what the official training and test parts share, by names and by identical files.

    Parameters
    ----------
    table : pandas.DataFrame
        All images of a cohort; no label is read.
    scopes : sequence of str

    Returns
    -------
    pandas.DataFrame
        ``scope, shared, test_images_with_sibling, test_images``; empty without a test part.
    """
    train, test = table[table["part"] == "train"], table[table["part"] == "test"]
    compared = {}
    if len(test):
        compared = {scope: (patient_ids(train, scope), patient_ids(test, scope)) for scope in scopes}
        compared["identical files"] = (train["sha256"].to_numpy(), test["sha256"].to_numpy())
    rows = []
    for name, (before, after) in compared.items():
        found = overlap(before, after)
        rows.append((name, found.shared, found.test_images_with_sibling, found.test_images))
    columns = ["scope", "shared", "test_images_with_sibling", "test_images"]
    return pd.DataFrame(rows, columns=columns)
