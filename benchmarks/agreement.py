"""How far copies agree on their pixels, and films that are no copies: where the threshold comes from.

Run it with ``python benchmarks/agreement.py FOLDER --out DIR``. ``--count`` films are altered in every way of
`leakfree.audit.alterations`, laid over their originals by the audit's own steps, and correlated; beside them
stand the pairs of different films that the search for copies proposes, the nearest of all that it sees.
Identical files are left out. ``agreement.csv`` has the quantiles of each kind.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from leakfree.audit.alignment import AGREEMENT, DETAIL, agreement, to_square, turned
from leakfree.audit.alterations import ALTERATIONS
from leakfree.audit.duplicates import find_copies
from leakfree.audit.faults import alter
from leakfree.audit.hashes import SYMMETRIES
from leakfree.audit.keypoints import detect, match
from leakfree.audit.scan import scan
from leakfree.audit.target import open_target
from leakfree.files import write_text
from leakfree.images import to_grey


def of_copies(files: list[Path], count: int, seed: int) -> dict[str, list[float]]:
    """Agreement of altered copies with their originals; 0 where no alignment was found."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {kind: [] for kind in ALTERATIONS}
    for kind in ALTERATIONS:
        for place in rng.choice(len(files), size=count, replace=False):
            data = files[place].read_bytes()
            first = to_grey(data, None)
            second = to_grey(alter(data, kind, rng), None)
            one, other = to_square(first, DETAIL), to_square(second, DETAIL)
            matched = match(detect(to_square(first)), detect(to_square(second)))
            values = [agreement(one, other, matched[1])] if matched else [0.0]
            if kind in ("mirrored", "turned_90", "inverted"):
                values += [
                    agreement(other, turned(one, symmetry, inverted=kind == "inverted"))
                    for symmetry in (None, *SYMMETRIES)
                ]
            found[kind].append(max(values))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=100, help="films a kind")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("agreement"))
    given = parser.parse_args()
    target = open_target(str(given.folder))
    with threadpool_limits(1, user_api="blas"):
        read = scan(target, thorough=True)
        copies = find_copies(read, target.reader, thorough=True)
        found = of_copies([Path(file) for file in read.table["file"]], given.count, given.seed)
    nearest = copies.candidates.sort_values("agreement", ascending=False)
    found["proposed pairs of the cohort"] = nearest["agreement"].tolist()
    rows = []
    for kind, values in found.items():
        lowest, five, median, highest = np.quantile(values, [0, 0.05, 0.5, 1])
        rows.append(
            (kind, len(values), lowest, five, median, highest, np.mean(np.array(values) >= AGREEMENT))
        )
    columns = ["kind", "pairs", "lowest", "five_percent", "median", "highest", "share_called_copies"]
    table = pd.DataFrame(rows, columns=columns)
    write_text(given.out / "agreement.csv", table.to_csv(index=False, float_format="%.3f"))
    ids = read.table["image_id"]
    print(table.to_string(index=False, float_format="%.3f"))
    for pair in nearest.head(8).itertuples():
        print(f"{pair.agreement:.3f} {ids[pair.first]} {ids[pair.second]}")


if __name__ == "__main__":
    main()
