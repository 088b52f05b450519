"""The record of a run: all that its tables and figures rest on, with no image in it.

Beside predictions, ledgers, manifests and cells stand the table of the cohort, the copies that were found in
it, and what was measured on pixels. A run that takes these for its data needs no images and trains nothing:
see `leakfree_study.record.rebuild`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from leakfree.base.files import write_json, write_text
from leakfree.data.cohort import SEALED_PART, Cohort, CohortError
from leakfree.data.patients import SUBJECT
from leakfree.data.sources import Problem
from leakfree.data.study_file import ABOUT, KEY, OwnStudy

#: The table of a cohort, and what else is known of it.
TABLE = "cohort.csv"
#: Which images are copies of one another.
COPIES = "copies.json"
#: Folder of what was measured on pixels.
MEASUREMENTS = "measurements"
_TEXT = ("image_id", "label", "part", "mode", "sha256", SUBJECT)


class RecordedCohort(Cohort):
    """The cohort of a finished run, read from its record: every row, and no image.

    Parameters
    ----------
    folder : pathlib.Path
        Run folder.

    Raises
    ------
    CohortError
        If the record is missing or damaged; the message names the file.
    """

    def __init__(self, folder: Path) -> None:
        self.path = Path(folder)
        try:
            about = json.loads((self.path / ABOUT).read_text(encoding="utf-8"))
            self.name, self.checksum = str(about["name"]), str(about["checksum"])
            self.problems = [Problem(**item) for item in about["problems"]]
            self._counts = pd.DataFrame(about["class_counts"], columns=["part", "label", "images"])
            if (study := about.get(KEY)) is not None:
                self.study = OwnStudy.model_validate(study)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise CohortError(f"{self.path / ABOUT}: not the record of a cohort: {error}") from error
        try:
            table = pd.read_csv(
                self.path / TABLE, dtype=dict.fromkeys(_TEXT, str), keep_default_na=False, na_values=[]
            )
            for name in set(_TEXT) & set(table.columns):
                table[name] = table[name].to_numpy(dtype=object)
            table["person_num"] = pd.to_numeric(table["person_num"], errors="coerce").astype("Int64")
            self.table = table
        except (OSError, ValueError, KeyError) as error:
            raise CohortError(f"{self.path / TABLE}: not the table of a cohort: {error}") from error

    def class_counts(self) -> pd.DataFrame:
        """Return the images by part and label as they were counted on the cohort itself."""
        return self._counts.copy()

    def unseal(self, log: Path) -> np.ndarray:
        """Refuse: a record does not hold the labels of the sealed part."""
        raise CohortError(f"{self.path}: a record does not hold the labels of part {SEALED_PART}")

    def iterate(
        self, rows: Sequence[int] | np.ndarray | None = None
    ) -> Iterator[tuple[list[str], list[bytes]]]:
        """Refuse: a record holds no images."""
        raise CohortError(f"{self.path}: the record of a run holds no images; give the cohort itself")


def is_record(folder: Path) -> bool:
    """Tell whether a folder is a run that says what its cohort was."""
    return (Path(folder) / TABLE).is_file() and (Path(folder) / ABOUT).is_file()


def save_cohort(folder: Path, cohort: Cohort) -> list[Path]:
    """Write the table of a cohort into a run folder; labels of the sealed part stay sealed."""
    counts = cohort.class_counts()
    about: dict[str, Any] = {
        "name": cohort.name,
        "checksum": cohort.checksum,
        "problems": [vars(problem) for problem in cohort.problems],
        "class_counts": [[part, label, int(n)] for part, label, n in counts.itertuples(index=False)],
    }
    if cohort.study is not None:
        about[KEY] = cohort.study.model_dump(mode="json")
    table = cohort.table.to_csv(index=False, lineterminator="\n")
    # The order of a study's tasks and classes says which class is the positive one.
    about_file = write_json(Path(folder) / ABOUT, about, sort_keys=cohort.study is None)
    return [write_text(Path(folder) / TABLE, table), about_file]
