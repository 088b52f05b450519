"""What the record of a run says of its study, for those who have only its files."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from leakfree.data.study_file import OwnStudy

#: File of a run that describes its cohort, see `leakfree.data.record`; the study stands in it under `KEY`.
ABOUT, KEY = "cohort.json", "study"


def kept_study(folder: Path) -> OwnStudy | None:
    """Return the study that a run folder records; None in a run on chest films, or without a record."""
    try:
        content = json.loads((Path(folder) / ABOUT).read_text(encoding="utf-8"))[KEY]
        return OwnStudy.model_validate(content)
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None
