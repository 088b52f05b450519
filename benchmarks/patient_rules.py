"""Score a nearest neighbour on one cohort under several rules of who is a patient.

    python benchmarks/patient_rules.py STUDY.YAML --columns video,patient --clusters patient --run RUN --out F

The columns are those of the CSV that the study names. Images are read at 32 x 32 grey pixels. The run of the
same study has a split of images and one of patients: how many groups of each rule stand on both sides is
counted.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from leakfree.base.files import write_text
from leakfree.data.images import to_grey
from leakfree.data.study_file import read_study
from leakfree.split.manifest import Manifest
from leakfree_study.inflation.rules import scores_by_rule

SIDE = 32
SPLITS = {
    "on both sides, split of images": "image-level-all",
    "on both sides, split of patients": "patient-level-all",
}


def measured(study_file: Path, columns: list[str], clusters: str, run: Path) -> pd.DataFrame:
    """Read a study's images, score each rule, and count its groups on both sides of the splits of a run."""
    study = read_study(study_file)
    base = study_file.parent
    table = pd.read_csv(base / study.csv.file, dtype=str, keep_default_na=False)
    task = next(iter(study.made_tasks().values()))
    table = table[table[study.csv.label].isin(list(task.mapping))].reset_index(drop=True)
    files = table[study.csv.path]
    pixels = np.stack([to_grey((base / study.data / name).read_bytes(), SIDE).reshape(-1) for name in files])
    classes = table[study.csv.label].map(task.mapping).to_numpy(dtype=np.int64)
    rules = {name: table[name].to_numpy(dtype=object) for name in columns}
    found = scores_by_rule(pixels, classes, rules, clusters=table[clusters].to_numpy(dtype=object))
    for title, name in SPLITS.items():
        manifest = Manifest.load(run / "manifests" / f"{name}.json")
        counts = {rule: both_sides(manifest, files, groups) for rule, groups in rules.items()}
        found[title] = [counts.get(rule, 0) for rule in found["rule"]]
    return found


def both_sides(manifest: Manifest, files: pd.Series, groups: np.ndarray) -> int:
    """Count the groups with images in training and in test."""
    of = dict(zip(files, groups, strict=True))
    train, test = ({of[image] for image in manifest.parts[part]} for part in ("train", "test"))
    return len(train & test)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--columns", required=True)
    parser.add_argument("--clusters", required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found = measured(given.study, given.columns.split(","), given.clusters, given.run)
    write_text(given.out, found.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
    print(found.to_string(index=False))
