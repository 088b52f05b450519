"""Open what ``--data`` names as a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from leakfree.data.cohort import Cohort, CohortError, describe_problems, ingest, made_by
from leakfree.data.record import RecordedCohort, is_record
from leakfree.data.sources import STUDY_FILES, SourceError, is_place, open_source
from leakfree.data.sources.folder import tells_classes
from leakfree.data.sources.hub import is_deeplake
from leakfree.data.sources.store import refuse_bomb


def open_cohort(
    data: str, cache: Path, *, allow_problems: bool = False, jobs: int = 2, **options: Any
) -> Cohort:
    """Open the cohort that ``--data`` names, ingesting it into the cache when it is not there yet.

    Parameters
    ----------
    data : str
        As `leakfree.data.sources.open_source`, the path of a store that `ingest` made, or a run folder, whose
        record has every row of the cohort and no image.
    cache : pathlib.Path
        Folder of the stores. A store is found again by the fingerprint of its source, and made
        again when the code has changed that made it.
    allow_problems, jobs
        As `ingest`.
    **options
        Settings of the source.

    Raises
    ------
    CohortError, SourceError
        One line that says what is wrong.
    """
    if is_record(Path(data)):
        return RecordedCohort(Path(data))
    if is_deeplake(Path(data)):
        refuse_bomb(Path(data))
        try:
            return Cohort(Path(data))
        except CohortError:
            pass  # a dataset in the hub's format
    try:
        source = open_source(data, **options)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(f"{data}: {' '.join(str(error).split())}") from error
    target = Path(cache) / "cohorts" / f"{source.name}-{source.fingerprint()[:12]}"
    cohort = Cohort(target) if target.exists() else None
    if cohort is not None and cohort.code == made_by(source):
        if cohort.problems and not allow_problems:
            raise CohortError(describe_problems(cohort.name, cohort.problems))
        return cohort
    return ingest(source, target, allow_problems=allow_problems, jobs=jobs)


def needs_study(data: str) -> bool:
    """Tell whether ``--data`` names images that `open_cohort` cannot read without a study file.

    These are all files, and folders whose images are not laid out as those of chest_xray.

    Raises
    ------
    SourceError
        If a folder cannot be read.
    """
    path = Path(data)
    if not is_place(data):
        return False
    if not path.is_dir():
        return path.suffix.lower() not in STUDY_FILES
    return not is_record(path) and not is_deeplake(path) and not tells_classes(path)
