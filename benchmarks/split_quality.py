"""How near the parts of `leakfree split` come to the wanted class shares, beside scikit-learn's folds.

    python benchmarks/split_quality.py [TARGET ...]

A target is what `leakfree audit` takes. For each: five folds with five seeds, by `leakfree split` and by
`StratifiedGroupKFold` over the same linked groups. Deviation is the largest difference, over folds and
classes, of a class's share in the fold from its share in all; size, of a fold's share of the images.
Then three re-splits that leak (by image; copies across; one part inside another) are repaired.
"""

import sys
import time

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from leakfree.audit.auditor import AuditSettings
from leakfree.audit.target import open_target
from leakfree.splitter.assign import assign
from leakfree.splitter.material import gather
from leakfree.splitter.repair import repaired

FOLDS, SEEDS = 5, range(5)


def deviation(labels, folds):
    """Return the largest deviation of class shares, and of sizes."""
    overall = pd.Series(labels).value_counts(normalize=True)
    shares = pd.crosstab(folds, labels, normalize="index")
    sizes = pd.Series(folds).value_counts(normalize=True)
    return float((shares - overall).abs().to_numpy().max()), float((sizes - 1 / FOLDS).abs().max())


def crossing(groups, parts):
    """Count linked groups in several parts."""
    return int((pd.Series(parts)[parts != ""].groupby(groups[parts != ""]).nunique() > 1).sum())


def leaking(groups, copies, seed):
    """Return three re-splits that leak: by image; only copies across; one part inside another."""
    rng, n = np.random.default_rng(seed), len(groups)
    by_image = np.where(rng.random(n) < 0.2, "test", "train").astype(object)
    whole = np.array(["train", "test"], dtype=object)[assign(groups, [], (0.8, 0.2), seed=seed)]
    across = whole.copy()
    for members in pd.Series(np.arange(n)).groupby(copies).agg(list):
        if len(members) > 1:
            across[members[0]] = "test" if across[members[0]] == "train" else "train"
    inside = whole.copy()
    test = np.flatnonzero(whole == "test")
    inside[rng.choice(test, len(test) // 2, replace=False)] = "train"
    return {"by image": by_image, "copies across": across, "half of the test part inside train": inside}


def main(targets):
    """Print both tables for every target."""
    for name in targets:
        started = time.perf_counter()
        target = open_target(name)
        material = gather(target, AuditSettings(skip=()), name)
        labels = material.table["label"].to_numpy(dtype=object)
        groups = material.groups
        print(f"{name}: {len(groups):,} images, {len(np.unique(groups)):,} groups, scope {material.scope}")
        print(f"  read and searched in {time.perf_counter() - started:.0f} s")
        found = {"leakfree split": [], "StratifiedGroupKFold": []}
        for seed in SEEDS:
            started = time.perf_counter()
            mine = assign(groups, [labels], (1 / FOLDS,) * FOLDS, seed=seed)
            found["leakfree split"].append(
                (*deviation(labels, mine), crossing(groups, mine.astype(str).astype(object)),
                 time.perf_counter() - started)
            )  # fmt: skip
            started, theirs = time.perf_counter(), np.empty(len(groups), dtype=int)
            splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
            for fold, (_, rows) in enumerate(splitter.split(groups, labels, groups)):
                theirs[rows] = fold
            found["StratifiedGroupKFold"].append(
                (*deviation(labels, theirs), crossing(groups, theirs.astype(str).astype(object)),
                 time.perf_counter() - started)
            )  # fmt: skip
        for method, rows in found.items():
            classes, sizes, leaks, seconds = np.array(rows).T
            print(
                f"  {method}: class shares off by {classes.mean():.4f} (worst {classes.max():.4f}), sizes by "
                f"{sizes.mean():.4f} (worst {sizes.max():.4f}), groups across {int(leaks.sum())}, "
                f"{seconds.mean():.2f} s"
            )
        for seed in range(3):
            for kind, parts in leaking(groups, material.copies.group, seed).items():
                after = repaired(groups, parts)
                kept = repaired(groups, parts, ["test"])
                print(
                    f"  seed {seed}, {kind}: {crossing(groups, parts):,} groups across; changed "
                    f"{int((after != parts).sum()):,} images, groups across {crossing(groups, after)}; with "
                    f"test kept {int((kept != parts).sum()):,} dropped, across {crossing(groups, kept)}"
                )


if __name__ == "__main__":
    main(sys.argv[1:])
