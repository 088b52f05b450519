"""Copies that hide a part or bend the greys: which are found, with and without the second look at a pair.

Run it with ``python benchmarks/disguises.py NAME=FOLDER ... --out DIR``; the images of each folder are
different pictures. ``--count`` of them are altered in each way, and the thorough search is followed for each
pair: the hash, or the nearest by keypoints and an affine map, proposes it, and the pixels decide. What is not
altered is compared too: the highest agreement of two such pictures shows the room below the threshold.
``disguises.csv`` has a row a kind, with what is found as before / now.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from leakfree.audit.copies import alignment
from leakfree.audit.copies.alignment import AGREEMENT, DETAIL, agreement, to_square
from leakfree.audit.copies.alterations import ALTERATIONS, DISGUISES, alter
from leakfree.audit.copies.hashes import RADIUS, distance, image_hashes, near_pairs, thumbnail
from leakfree.audit.copies.keypoints import NEIGHBOURS, detect, embed, match, neighbours
from leakfree.base.files import write_text
from leakfree.data.images import decode, to_grey

KINDS = (*DISGUISES, *(kind for kind in ALTERATIONS if kind not in ("mirrored", "turned_90", "inverted")))
SECOND_LOOK = alignment._HIDDEN


class Picture:
    """What the search knows of one picture."""

    def __init__(self, data: bytes) -> None:
        grey = to_grey(data, None)
        self.square, self.points = to_square(grey, DETAIL), detect(to_square(grey))
        self.hash = image_hashes(np.asarray(thumbnail(decode(data)[1]))[None])[0]


def values(one: Picture, other: Picture, near: bool, common: np.ndarray) -> tuple[float, float]:
    """Return the agreement without and with the second look; 0 for a pair that nothing proposes."""
    matched = match(one.points, other.points) if near else None
    maps = [matched[1]] if matched else []
    maps += [None] if distance(one.hash, other.hash) <= RADIUS else []
    found = []
    for look in (2.0, SECOND_LOOK):  # from an agreement of 2: never
        alignment._HIDDEN = look
        found.append(max((agreement(one.square, other.square, m, lambda: common) for m in maps), default=0.0))
    return found[0], found[1]


def of_folder(folder: Path, most: int, count: int, rng: np.random.Generator) -> dict[str, str]:
    """Return what is found of each kind, and how far pictures that are no copies agree."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpeg", ".jpg", ".png"))
    files = [files[i] for i in sorted(rng.permutation(len(files))[:most])]
    data = [path.read_bytes() for path in files]
    pictures = [Picture(one) for one in data]
    common = np.mean([picture.square for picture in pictures[:64]], axis=0, dtype=np.float32)
    drawn = [(kind, int(i)) for kind in KINDS for i in rng.permutation(len(files))[:count]]
    copies = [Picture(alter(data[i], kind, rng)) for kind, i in drawn]
    vectors = embed([picture.points for picture in (*pictures, *copies)])
    cohort = vectors[: len(pictures)]
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for (kind, i), copy, vector in zip(drawn, copies, vectors[len(pictures) :], strict=True):
        cosines = cohort @ vector
        near = int((cosines > cosines[i]).sum()) < NEIGHBOURS
        found[kind].append(values(pictures[i], copy, near, common))
    proposed = {(int(a), int(b)) for a, b, *_ in near_pairs(np.stack([p.hash for p in pictures]), RADIUS)}
    proposed |= {(int(a), int(b)) for a, b in neighbours(cohort)}
    different = [values(pictures[a], pictures[b], True, common) for a, b in sorted(proposed)]
    told = {
        kind: " / ".join(str(sum(v[k] >= AGREEMENT for v in found[kind])) for k in (0, 1)) for kind in KINDS
    }
    highest = " / ".join(f"{max(v[k] for v in different):.2f}" for k in (0, 1)) if different else "–"
    return {**told, f"highest agreement of two pictures, of {len(files)}": highest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--most", type=int, default=250, help="images of a folder")
    parser.add_argument("--count", type=int, default=20, help="copies of each kind")
    parser.add_argument("--out", type=Path, default=Path("disguises"))
    given = parser.parse_args()
    columns = {}
    for entry in given.folders:
        name, _, folder = entry.partition("=")
        told = of_folder(Path(folder), given.most, given.count, np.random.default_rng(5))
        columns[name] = pd.Series({key.partition(", of")[0]: value for key, value in told.items()})
    table = pd.DataFrame(columns).rename_axis(f"copy, of {given.count} each").reset_index()
    write_text(given.out / "disguises.csv", table.to_csv(index=False))
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
