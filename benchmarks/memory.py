"""Trained networks: what other images of the tested patients add, against how well training is known by heart.

    python benchmarks/memory.py --data FOLDER [--only CONDITION,...] [--draws 0,1] [--jobs 2] [--tables]

FOLDER has chest_xray/, of which the train folder alone is opened. The rule is
lib/leakfree_study/inflation/memory_rule.yaml. Each network is a cell: its predictions after every epoch and
what it consumed, in book/data/memory/CONDITION/. A cell that is there is not trained again. At the end, or with
--tables alone, memory.csv and memory.png of book/data are made from the cells.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from leakfree.audit.auditor import AuditSettings
from leakfree.audit.target import open_target
from leakfree.base.escape import say
from leakfree.base.files import kept_arrays, write_json
from leakfree.base.parallel import die_with_parent
from leakfree.base.provenance import code_digest, git_state, versions
from leakfree.data.images import to_grey
from leakfree.data.names import label_from_path
from leakfree.data.pixels import PixelCache, pixel_digest
from leakfree.data.reading.wishes import Wishes
from leakfree.splitter.material import gather
from leakfree_study.inflation.memory import ARMS, Condition, Images, Rule, rule, train
from leakfree_study.inflation.store import write_csv

ROOT = Path(__file__).resolve().parents[1]
DATA, CACHE = ROOT / "book" / "data" / "memory", ROOT / ".cache" / "memory"
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


def cell(folder: Path, rules: Rule, condition: Condition, seed: int, arm: str, parent: int) -> None:
    """Train one network and write it down: the record last, since a cell is there where its record is."""
    die_with_parent(parent)
    images = read(folder, condition.image_size, 1)
    trained = train(images, rules, condition, seed, arm)
    path = DATA / condition.name / f"draw{seed}-{arm}.csv.gz"
    predictions = trained.predictions.assign(p=trained.predictions["p"].map("{:.4f}".format))
    write_csv(path, predictions)
    record = {
        "condition": condition.model_dump(),
        "draw": seed,
        "arm": arm,
        **trained.facts,
        "predictions_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "code": code_digest(MODULES, ("torch", "timm", "numpy")),
        "versions": versions(),
        "git": git_state(ROOT),
    }
    write_json(path.with_suffix("").with_suffix(".json"), record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("LEAKFREE_REAL_DATA", "../shared/data"))
    )
    parser.add_argument("--only", default="", help="conditions to train")
    parser.add_argument("--draws", default="", help="draws to train")
    parser.add_argument("--jobs", type=int, default=2, help="networks at a time, one thread each")
    given = parser.parse_args()
    rules = rule()
    only, draws = (set(filter(None, text.split(","))) for text in (given.only, given.draws))
    missing = [
        (condition, seed, arm)
        for condition in rules.conditions
        if not only or condition.name in only
        for seed in range(condition.draws)
        if not draws or str(seed) in draws
        for arm in ARMS
        if not (DATA / condition.name / f"draw{seed}-{arm}.json").exists()
    ]
    say(f"{len(missing)} networks to train")
    for size in sorted({condition.image_size for condition, _, _ in missing}):
        read(given.data, size, given.jobs)  # decoded once here
    workers = Parallel(n_jobs=given.jobs, backend="loky")
    workers(delayed(cell)(given.data, rules, *one, os.getpid()) for one in missing)


if __name__ == "__main__":
    main()
