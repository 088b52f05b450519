"""Score a nearest neighbour on one cohort under several rules of who is a patient.

    python benchmarks/patient_rules.py STUDY.YAML --columns video,patient --clusters patient --out F.csv

The columns are those of the CSV that the study names. Images are read at 32 x 32 grey pixels.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from leakfree.base.files import write_text
from leakfree.data.images import to_grey
from leakfree.data.study_file import read_study
from leakfree_study.inflation.rules import scores_by_rule

SIDE = 32


def measured(study_file: Path, columns: list[str], clusters: str) -> pd.DataFrame:
    """Read a study's images, and score each rule."""
    study = read_study(study_file)
    base = study_file.parent
    table = pd.read_csv(base / study.csv.file, dtype=str, keep_default_na=False)
    task = next(iter(study.made_tasks().values()))
    table = table[table[study.csv.label].isin(list(task.mapping))].reset_index(drop=True)
    files = [base / study.data / name for name in table[study.csv.path]]
    pixels = np.stack([to_grey(path.read_bytes(), SIDE).reshape(-1) for path in files])
    classes = table[study.csv.label].map(task.mapping).to_numpy(dtype=np.int64)
    rules = {name: table[name].to_numpy(dtype=object) for name in columns}
    return scores_by_rule(pixels, classes, rules, clusters=table[clusters].to_numpy(dtype=object))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--columns", required=True)
    parser.add_argument("--clusters", required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    found = measured(given.study, given.columns.split(","), given.clusters)
    write_text(given.out, found.to_csv(index=False, float_format="%.4f", lineterminator="\n"))
    print(found.to_string(index=False))
