"""Train networks with and without other images of the tested patients, and look at them after every epoch.

    python benchmarks/memory.py --data FOLDER [--only CONDITION,...] [--jobs 2] [--tables]

FOLDER has chest_xray/, of which the train folder alone is opened. The rule is
lib/leakfree_study/inflation/memory_rule.yaml. Each arm of a draw is a cell: its predictions after every epoch
and what was consumed, in book/data/memory/CONDITION/. A cell that is there is not trained again. At the end,
or with --tables alone, the tables and the figure of the page are made from the cells, in book/data.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from leakfree.audit.auditor import AuditSettings
from leakfree.audit.target import open_target
from leakfree.base.escape import say
from leakfree.base.files import file_hash, kept_arrays, write_json, write_text
from leakfree.base.parallel import die_with_parent
from leakfree.base.provenance import code_digest, git_state, versions
from leakfree.data.images import to_grey
from leakfree.data.names import label_from_path
from leakfree.data.pixels import PixelCache, pixel_digest
from leakfree.data.reading.wishes import Wishes
from leakfree.splitter.material import gather
from leakfree_study.inflation import memory_results, memory_shown
from leakfree_study.inflation.memory import Condition, Images, NetworkSide, Rule, rule, train
from leakfree_study.inflation.memory_results import read_cells
from leakfree_study.inflation.store import write_csv

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book" / "data"
DATA, CACHE = BOOK / "memory", ROOT / ".cache" / "memory"
CLASSES = ("bacterial", "viral")
#: What a cell rests on; a cell of other code is kept, and its record tells which code made it.
MODULES = (
    "leakfree/models/training",
    "leakfree/models/networks",
    "leakfree_study/inflation/memory",
    "leakfree_study/inflation/arms",
    "leakfree_study/inflation/draws",
)


def read(folder: Path, size: int, jobs: int) -> Images:
    """Read the pneumonia images, one of each cluster of copies, and write the table that numbers them."""
    wishes, path = Wishes(no_parts=True), str(folder / "chest_xray" / "train")
    target = open_target(path, wishes=wishes)
    found = gather(target, AuditSettings(wishes=wishes, jobs=jobs), path, ())
    first = ~pd.Series(found.copies.group).duplicated().to_numpy()
    ids = found.table["image_id"].to_numpy(dtype=object)
    kinds = np.array([label_from_path(image_id) for image_id in ids], dtype=object)
    taking = np.flatnonzero(first & np.isin(kinds, CLASSES))
    places = found.read.rows[taking].tolist()

    def make() -> dict[str, np.ndarray]:
        return {"pixels": np.stack([to_grey(data, size) for data in target.reader.read(places)])}

    key = hashlib.sha256(
        "\n".join([code_digest(("leakfree/data/images",), ("pillow",)), *ids[taking]]).encode()
    )
    pixels = kept_arrays(CACHE / f"{size}.npz", key.hexdigest(), make, "pixels")["pixels"]
    labels = np.array([CLASSES.index(kind) for kind in kinds[taking]], dtype=np.int64)
    groups = np.unique(found.groups[taking], return_inverse=True)[1].astype(np.int64)
    digests = {image_id: pixel_digest(image) for image_id, image in zip(ids[taking], pixels, strict=True)}
    frame = pd.DataFrame({"image_id": ids[taking], "label": np.array(CLASSES)[labels], "group": groups})
    table = DATA / "images.csv.gz"
    if not table.exists():
        write_csv(table, frame)
    elif not pd.read_csv(table).equals(frame.astype({"image_id": str, "label": str})):
        raise SystemExit(f"{table}: numbers other images than {path} has; the cells rest on those")
    return Images(PixelCache(ids[taking], pixels, digests), labels, groups)


def record_of(condition: Condition, view: NetworkSide) -> Path:
    """Return where the record of a cell is."""
    return DATA / condition.name / f"draw{view.seed}-{view.arm}.json"


def network(
    folder: Path, rules: Rule, condition: Condition, views: tuple[NetworkSide, ...], parent: int
) -> None:
    """Train one network and write its cells down: records last, since a cell is there where its record is."""
    die_with_parent(parent)
    for trained in train(read(folder, condition.image_size, 1), rules, condition, views):
        record = record_of(condition, trained.view)
        path = record.with_suffix(".csv.gz")
        write_csv(path, trained.predictions.assign(p=trained.predictions["p"].map("{:.4f}".format)))
        told = {
            "condition": condition.model_dump(),
            "draw": trained.view.seed,
            "arm": trained.view.arm,
            **trained.facts,
            "predictions_sha256": file_hash(path),
            "code": code_digest(MODULES, ("torch", "timm", "numpy")),
            "versions": versions(),
            "git": git_state(ROOT),
        }
        write_json(record, told)


def write_tables(studies: int) -> None:
    """Make tables, sentences and figure of the page from the cells."""
    rules = rule()
    cells = read_cells(DATA, rules)
    table, curve = memory_results.table(cells, rules), memory_results.curve(cells)
    coverage = memory_results.coverage_table(memory_results.worlds(cells[0], rules.losses), studies)
    made = {"memory": table, "memory_curve": curve, "memory_coverage": coverage}
    for name, frame in made.items():
        frame.to_csv(BOOK / f"{name}.csv", index=False, float_format="%.5f", lineterminator="\n")
    write_page(BOOK)


def write_page(folder: Path) -> None:
    """Make what the page shows from the tables."""
    rules = rule()
    table, curve, coverage = (
        pd.read_csv(folder / f"{name}.csv") for name in ("memory", "memory_curve", "memory_coverage")
    )
    memory_shown.shown_table(table).to_csv(folder / "memory_shown.csv", index=False, lineterminator="\n")
    told = memory_shown.coverage_shown(coverage)
    told.to_csv(folder / "memory_coverage_shown.csv", index=False, lineterminator="\n")
    write_text(folder / "memory_said.txt", memory_shown.said(table, coverage, rules))
    memory_shown.picture(curve, table, rules).savefig(folder / "memory.png", dpi=160)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("LEAKFREE_REAL_DATA", "../shared/data"))
    )
    parser.add_argument("--only", default="", help="conditions to train")
    parser.add_argument("--jobs", type=int, default=2, help="networks at a time, one thread each")
    parser.add_argument("--tables", action="store_true", help="train nothing")
    parser.add_argument("--studies", type=int, default=400, help="simulated studies of each kind")
    given = parser.parse_args()
    if not given.tables:
        train_missing(given)
    write_tables(given.studies)


def train_missing(given: argparse.Namespace) -> None:
    """Train what the rule has and the folder of cells has not."""
    rules, only = rule(), set(filter(None, given.only.split(",")))
    missing = [
        (condition, views)
        for condition in rules.conditions
        if not only or condition.name in only
        for views in condition.networks()
        if not all(record_of(condition, view).exists() for view in views)
    ]
    say(f"{len(missing)} networks to train")
    for size in sorted({condition.image_size for condition, _ in missing}):
        read(given.data, size, given.jobs)  # decoded once here
    workers = Parallel(n_jobs=given.jobs, backend="loky")
    workers(delayed(network)(given.data, rules, *one, os.getpid()) for one in missing)


if __name__ == "__main__":
    main()
