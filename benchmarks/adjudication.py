"""Blind reading of near-duplicate candidates: make the sheets, then join verdicts and key.

Candidates are what the audit's search proposes: the pairs that it verifies on the pixels, and those that come
nearest without being verified. They are mixed with pairs of identical files, with other pairs of one patient
and with random pairs, shuffled, and shown side by side under a running number alone::

    python benchmarks/adjudication.py make FOLDER --out SHEETS     # sheets/*.png, and key.csv to put away
    python benchmarks/adjudication.py join FOLDER KEY.csv --out TABLE.csv READER1.csv READER2.csv

A reader's CSV has the columns ``pair`` and ``verdict``: ``same`` (one image, perhaps cropped or exposed
anew), ``different`` or ``unsure``. A third reader reads what the two disagree on, mixed with others. The
sheets hold images and are never committed; the table is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from leakfree.audit.copies.alignment import AGREEMENT, DETAIL, agreement, to_square
from leakfree.audit.copies.duplicates import find_copies
from leakfree.audit.copies.keypoints import detect, match
from leakfree.audit.copies.scan import scan
from leakfree.audit.target import open_target
from leakfree.base.files import replacing
from leakfree.data.images import to_grey
from leakfree.data.patients import patient_ids

VERDICTS = ("same", "different", "unsure")
SIDE, PER_SHEET = 300, 8


def choose(folder: Path, seed: int, candidates: int, others: int) -> pd.DataFrame:
    """Choose the pairs: ``first, second, kind, found_by, agreement, verified``, shuffled."""
    target = open_target(str(folder))
    read = scan(target, thorough=True)
    copies = find_copies(read, target.reader, thorough=True)
    ids = read.table["image_id"].to_numpy(dtype=object)
    rng = np.random.default_rng(seed)
    compared = copies.candidates.sort_values("agreement", ascending=False)
    verified = compared["verified"].astype(bool)
    nearest = pd.concat([compared[verified], compared[~verified].head(candidates - int(verified.sum()))])
    rows = [
        (ids[int(p.first)], ids[int(p.second)], "candidate", p.found_by, float(p.agreement), bool(p.verified))
        for p in nearest.itertuples()
    ]
    taken = {frozenset(row[:2]) for row in rows}
    identical = [group for group in copies.exact if len(group) > 1]
    for k in rng.choice(len(identical), size=min(others // 2, len(identical)), replace=False):
        rows.append((ids[identical[k][0]], ids[identical[k][1]], "identical file", "", 1.0, True))
    patients = patient_ids(read.table)
    families = [
        rows_of for rows_of in pd.Series(patients).groupby(patients).indices.values() if len(rows_of) > 1
    ]
    while sum(row[2] == "same patient" for row in rows) < others:
        a, b = rng.choice(families[rng.integers(len(families))], size=2, replace=False)
        if copies.group[a] != copies.group[b] and frozenset((ids[a], ids[b])) not in taken:
            taken.add(frozenset((ids[a], ids[b])))
            rows.append((ids[a], ids[b], "same patient", "", np.nan, False))
    while sum(row[2] == "random" for row in rows) < others:
        a, b = rng.integers(len(ids), size=2)
        if patients[a] != patients[b]:
            rows.append((ids[a], ids[b], "random", "", np.nan, False))
    table = pd.DataFrame(rows, columns=["first", "second", "kind", "found_by", "agreement", "verified"])
    table = table.sample(frac=1.0, random_state=seed).reset_index(drop=True)
    swapped = rng.random(len(table)) < 0.5
    table.loc[swapped, ["first", "second"]] = table.loc[swapped, ["second", "first"]].to_numpy()
    table.insert(0, "pair", np.arange(1, len(table) + 1))
    return table


def draw(folder: Path, table: pd.DataFrame, out: Path) -> int:
    """Draw the sheets; returns their number."""
    sheets = -(-len(table) // PER_SHEET)
    for number in range(sheets):
        part = table.iloc[number * PER_SHEET : (number + 1) * PER_SHEET]
        page = Image.new("L", (4 * SIDE + 90, (PER_SHEET // 2) * (SIDE + 30)), 255)
        pen = ImageDraw.Draw(page)
        for place, row in enumerate(part.itertuples()):
            left, top = (place % 2) * (2 * SIDE + 60), (place // 2) * (SIDE + 30)
            pen.text((left + 4, top + 6), f"pair {row.pair}", fill=0, font_size=18)
            for side, file in enumerate((row.first, row.second)):
                film = Image.fromarray(to_grey((folder / file).read_bytes(), None))
                page.paste(
                    film.resize((SIDE, SIDE), Image.Resampling.BICUBIC), (left + side * (SIDE + 6), top + 30)
                )
        page.save(out / f"sheet_{number + 1:02d}.png")
    return sheets


def rescored(folder: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Compare the pixels of all pairs as the audit does now: the code may be newer than the sheets."""
    for row in table.itertuples():
        films = [to_grey((folder / file).read_bytes(), None) for file in (row.first, row.second)]
        squares = [to_square(film, DETAIL) for film in films]
        matched = match(*(detect(to_square(film)) for film in films))
        values = [agreement(*squares)] + ([agreement(*squares, matched[1])] if matched else [])
        table.loc[row.Index, "agreement"] = max(values)
        table.loc[row.Index, "verified"] = max(values) >= AGREEMENT
    return table


def join(folder: Path, key: Path, readers: list[Path], third: Path | None) -> pd.DataFrame:
    """Join the key with the readers' verdicts; ``agreed`` is what two of them say, else empty."""
    table = rescored(folder, pd.read_csv(key))
    for number, path in enumerate(readers, start=1):
        verdicts = read_verdicts(path)
        if missing := sorted(set(table["pair"]) - set(verdicts.index)):
            raise SystemExit(f"{path}: no verdict on pair {missing[0]}")
        table[f"reader_{number}"] = table["pair"].map(verdicts)
    table["reader_3"] = table["pair"].map(read_verdicts(third)) if third else ""
    table["reader_3"] = table["reader_3"].fillna("")
    given = table[["reader_1", "reader_2", "reader_3"]]
    table["agreed"] = [
        next((word for word in ("same", "different") if list(row).count(word) >= 2), "")
        for row in given.itertuples(index=False)
    ]
    return table


def read_verdicts(path: Path) -> pd.Series:
    verdicts = pd.read_csv(path).set_index("pair")["verdict"].str.strip().str.lower()
    if unknown := sorted(set(verdicts) - set(VERDICTS)):
        raise SystemExit(f"{path}: verdict {unknown[0]!r}; known: {', '.join(VERDICTS)}")
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    make = commands.add_parser("make")
    make.add_argument("folder", type=Path)
    make.add_argument("--out", type=Path, required=True)
    make.add_argument("--seed", type=int, default=2026)
    make.add_argument("--candidates", type=int, default=32)
    make.add_argument("--others", type=int, default=20)
    joining = commands.add_parser("join")
    joining.add_argument("folder", type=Path)
    joining.add_argument("key", type=Path)
    joining.add_argument("readers", type=Path, nargs=2)
    joining.add_argument("--third", type=Path, help="verdicts of a third reader on some of the pairs")
    joining.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.command == "make":
        given.out.mkdir(parents=True, exist_ok=True)
        table = choose(given.folder, given.seed, given.candidates, given.others)
        table.to_csv(given.out / "key.csv", index=False)
        print(f"{len(table)} pairs on {draw(given.folder, table, given.out)} sheets: {given.out}")
        return
    table = join(given.folder, given.key, given.readers, given.third)
    with replacing(given.out) as temporary:
        table.to_csv(temporary, index=False, float_format="%.4f", lineterminator="\n")
    print(pd.crosstab([table["kind"], table["verified"]], table["agreed"].replace("", "no agreement")))


if __name__ == "__main__":
    main()
