"""What each stage of the search for copies hands on, and where the threshold on the pixels comes from.

Run it with ``python benchmarks/agreement.py FOLDER --out DIR``. ``--count`` images are altered in every way
of `leakfree.audit.copies.alterations`. For each copy: does the hash propose it, does the index of
keypoints, and how far do its pixels agree with the original's once the audit has laid one over the other?
Beside them stand the pairs of different images that the search proposes, the nearest of all that it sees.
``agreement.csv`` has a row a kind.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from leakfree.audit.copies.alignment import AGREEMENT, DETAIL, agreement, to_square, turned
from leakfree.audit.copies.alterations import ALTERATIONS, DISGUISES
from leakfree.audit.copies.duplicates import find_copies
from leakfree.audit.copies.hashes import (
    RADIUS,
    SYMMETRIES,
    TURNED_RADIUS,
    distance,
    image_hashes,
    thumbnail,
    transform,
)
from leakfree.audit.copies.keypoints import NEIGHBOURS, detect, embed, match
from leakfree.audit.copies.scan import Scan, scan
from leakfree.audit.copies.vectors import COSINE
from leakfree.audit.faults import alter
from leakfree.audit.target import open_target
from leakfree.base.files import write_text
from leakfree.data.images import decode, to_grey


def by_hash(first: bytes, second: bytes) -> bool:
    """Tell whether the hash search proposes a pair."""
    one, other = (image_hashes(np.asarray(thumbnail(decode(data)[1]))[None]) for data in (first, second))
    ways = [(symmetry, inverted) for symmetry in (None, *SYMMETRIES) for inverted in (False, True)]
    apart = [int(distance(transform(one, way, inverted=inverted), other)[0]) for way, inverted in ways]
    return apart[0] <= RADIUS or min(apart[1:]) <= TURNED_RADIUS


def of_copies(read: Scan, count: int, seed: int) -> pd.DataFrame:
    """Alter images and follow each copy through the stages: a row a copy."""
    rng = np.random.default_rng(seed)
    rows, points = [], []
    for kind in (*ALTERATIONS, *DISGUISES):
        for place in rng.choice(len(read.table), size=count, replace=False).tolist():
            data = Path(read.table["file"].iloc[place]).read_bytes()
            copy = alter(data, kind, rng)
            first, second = to_grey(data, None), to_grey(copy, None)
            one, other = to_square(first, DETAIL), to_square(second, DETAIL)
            found = detect(to_square(second))
            matched = match(read.keypoints[place], found)
            values = [agreement(one, other, matched[1])] if matched else [0.0]
            hashed = by_hash(data, copy)
            if hashed:
                values += [
                    agreement(other, turned(one, symmetry, inverted=inverted))
                    for symmetry in (None, *SYMMETRIES)
                    for inverted in (False, True)
                ]
            points.append(found)
            rows.append({"kind": kind, "original": place, "hash": hashed, "agreement": max(values)})
    vectors = embed([*read.keypoints, *points])
    cohort, copies = vectors[: len(read.table)], vectors[len(read.table) :]
    for row, vector in zip(rows, copies, strict=True):
        cosines = cohort @ vector
        row["cosine"] = float(cosines[row["original"]])
        row["neighbour"] = int((cosines > row["cosine"]).sum()) < NEIGHBOURS
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=100, help="images a kind")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("agreement"))
    given = parser.parse_args()
    target = open_target(str(given.folder))
    with threadpool_limits(1, user_api="blas"):
        read = scan(target, thorough=True)
        copies = find_copies(read, target.reader, thorough=True)
        altered = of_copies(read, given.count, given.seed)
    nearest = copies.candidates.sort_values("agreement", ascending=False)
    rows = []
    for kind, part in altered.groupby("kind", sort=False):
        rows.append(
            {
                "copy": kind,
                "pairs": len(part),
                "proposed by hash": f"{part['hash'].mean():.2f}",
                "proposed by keypoints": f"{part['neighbour'].mean():.2f}",
                f"cosine of {COSINE} or more": f"{(part['cosine'] >= COSINE).mean():.2f}",
                "lowest agreement": f"{part['agreement'].min():.3f}",
                "median agreement": f"{part['agreement'].median():.3f}",
                "highest agreement": f"{part['agreement'].max():.3f}",
                "called copies": f"{(part['agreement'] >= AGREEMENT).mean():.2f}",
            }
        )
    different = nearest[~nearest["verified"].astype(bool)]["agreement"]
    rows.append(
        {
            "copy": "no copies: proposed and refused",
            "pairs": len(different),
            "lowest agreement": f"{different.min():.3f}",
            "median agreement": f"{different.median():.3f}",
            "highest agreement": f"{different.max():.3f}",
        }
    )
    table = pd.DataFrame(rows).fillna("–")
    write_text(given.out / "agreement.csv", table.to_csv(index=False))
    ids = read.table["image_id"]
    print(table.to_string(index=False))
    for pair in nearest.head(8).itertuples():
        print(f"{pair.agreement:.3f} {ids[pair.first]} {ids[pair.second]}")


if __name__ == "__main__":
    main()
