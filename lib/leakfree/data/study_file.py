"""``study.yaml``: what a study on the user's own images is made of. An unknown entry raises."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from leakfree.base.errors import LeakfreeError
from leakfree.base.files import write_text
from leakfree.data.tasks import Task

#: Name of the file, and of the run folder beside it.
STUDY_FILE, RUN_FOLDER = "study.yaml", "run"
#: File of a run that describes its cohort, see `leakfree.data.record`; the study is in it under `KEY`.
ABOUT, KEY = "cohort.json", "study"
#: More labels than these are names of patients or files, not classes.
MOST_LABELS = 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TASK = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
#: Names that mean another cohort to ``run_all.py``, and the word for a label that must not be read.
_RESERVED_NAMES, _SEALED = ("phantom", "hub"), "sealed"


class StudyFileError(LeakfreeError):
    """The configuration cannot be used; the message is one line that names the file and what is wrong."""


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    if not text.isprintable():
        raise ValueError(f"{text!r} holds a character that cannot be printed")
    return text


#: Words for titles and figures; line breaks are spaces.
Words = Annotated[str, AfterValidator(_one_line)]


def _can_be_shown(name: str) -> bool:
    return bool(name.strip()) and name.isprintable()


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PathPattern(_Strict):
    """Patients are read from paths: the first group of a regular expression, searched in the path."""

    pattern: str

    @field_validator("pattern")
    @classmethod
    def _usable(cls, pattern: str) -> str:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern}: {error}") from error
        if compiled.groups < 1:
            raise ValueError(f"{pattern}: needs a group, such as subject(\\d+)")
        return pattern


class CsvColumn(_Strict):
    """Patients are named in a column of the CSV."""

    column: str = Field(min_length=1)


class Listing(_Strict):
    """A CSV that says what the images are; columns by the names that it has in its first line."""

    #: Relative to the study file.
    file: str
    #: Column with the file: relative to the data or to the CSV, with or without its ending. Empty: the column
    #: that an audit takes for it; so are the others.
    path: str = ""
    label: str = ""
    #: Column with the official part.
    part: str = ""


class OwnStudy(_Strict):
    """A study on the user's own images."""

    #: Short name, used for folders.
    name: str
    #: Title of the book.
    title: Words = Field(min_length=1)
    #: Images, relative to the study file: a folder, a table, or a file that holds images.
    data: str = Field(min_length=1)
    #: CSV that names labels, parts or patients; without it, folders name labels and parts.
    csv: Listing | None = None
    #: Labels as folders or the CSV call them, in the order of tables and figures.
    labels: tuple[str, ...] = Field(min_length=2, max_length=MOST_LABELS)
    #: Labels of images that take no part.
    leave_out: tuple[str, ...] = ()
    #: Task to its classes, each with its labels. With two classes, the second is the positive one.
    tasks: dict[str, dict[str, tuple[str, ...]]] = Field(min_length=1)
    #: Who is one patient; ``read``: who an audit takes for one, by headers, tables or folders; ``none``:
    #: nobody knows, each image is its own patient.
    patients: PathPattern | CsvColumn | Literal["read", "none"]
    #: Official parts, as folders or the CSV call them; the labels of ``test`` stay sealed.
    parts: dict[Literal["train", "val", "test"], str] = {}
    #: Size of the runs unless ``--profile`` says otherwise.
    profile: Literal["smoke", "quick", "full"] = "quick"
    #: What the book calls one image.
    image: Annotated[str, Field(pattern=r"^[a-z][a-z -]*$")] = "image"
    #: Stands under pictures: whose images these are, and under which licence.
    credit: Words = ""
    #: Whether a run and the page of the audit may show images.
    pictures: bool = True
    #: Go on without files that cannot be read.
    allow_problems: bool = False

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not _NAME.fullmatch(name) or name in _RESERVED_NAMES:
            raise ValueError(f"{name!r} must be letters, digits, _, . or -, and not {_RESERVED_NAMES}")
        return name

    @model_validator(mode="after")
    def _agrees(self) -> OwnStudy:
        every = [*self.labels, *self.leave_out]
        if twice := sorted({label for label in every if every.count(label) > 1}):
            raise ValueError(f"label {twice[0]} stands twice")
        if bad := [label for label in every if label == _SEALED or not _can_be_shown(label)]:
            raise ValueError(f"{bad[0]!r} cannot be a label")
        for name, classes in self.tasks.items():
            self._check_task(name, classes)
        parts = list(self.parts.values())
        if len(set(parts)) < len(parts):
            raise ValueError("parts: one name stands for two parts")
        if self.parts and "train" not in self.parts:
            raise ValueError("parts: there must be a train part, or none at all")
        if isinstance(self.patients, CsvColumn) and self.csv is None:
            raise ValueError(f"patients: there is no csv with a column {self.patients.column}")
        return self

    def _check_task(self, name: str, classes: dict[str, tuple[str, ...]]) -> None:
        if not _TASK.fullmatch(name):
            raise ValueError(f"task {name!r}: a name is letters, digits and -")
        if len(classes) < 2:
            raise ValueError(f"task {name}: needs two classes")
        if bad := [key for key in classes if not _can_be_shown(key)]:
            raise ValueError(f"task {name}: {bad[0]!r} cannot be a class")
        used = [label for labels in classes.values() for label in labels]
        if empty := [key for key, labels in classes.items() if not labels]:
            raise ValueError(f"task {name}: class {empty[0]} has no label")
        if unknown := [label for label in used if label not in self.labels]:
            raise ValueError(f"task {name}: {unknown[0]} is none of the labels {', '.join(self.labels)}")
        if len(set(used)) < len(used):
            raise ValueError(f"task {name}: a label stands in two classes")

    def made_tasks(self) -> dict[str, Task]:
        """Return the tasks by name."""
        return {
            name: Task(
                name,
                tuple(classes),
                {label: k for k, labels in enumerate(classes.values()) for label in labels},
            )
            for name, classes in self.tasks.items()
        }

    @property
    def patients_known(self) -> bool:
        """Whether a rule names patients."""
        return self.patients != "none"


def one_task(labels: tuple[str, ...]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return the task of a study that names none: all labels, each a class."""
    return {"all-labels": {label: (label,) for label in labels}}


def read_study(path: Path) -> OwnStudy:
    """Read a study file.

    Raises
    ------
    StudyFileError
        If it cannot be read, is no YAML, or an entry is unknown, missing or wrong.
    """
    path = Path(path)
    try:
        return parse_study(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise StudyFileError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise StudyFileError(f"{path}: is not text in UTF-8") from error


def parse_study(text: str, name: str = STUDY_FILE) -> OwnStudy:
    """Read a study from its text; `name` stands in messages.

    Raises
    ------
    StudyFileError
        As `read_study`.
    """
    try:
        _refuse_tricks(text, name)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StudyFileError(f"{name}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise StudyFileError(f"{name}: holds no entries; `leakfree new` writes such a file")
    try:
        return OwnStudy.model_validate(content)
    except ValidationError as error:
        raise StudyFileError(f"{name}: {_first(error)}") from error


def _refuse_tricks(text: str, name: str) -> None:
    """Raise at the first event that no study has: the file is not read any further."""
    aliases = depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        # An alias of a list of aliases is a small file that is large once it is read.
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if aliases > 100:
            raise StudyFileError(f"{name}: more than 100 aliases (*); write the entries out")
        if depth > 50:
            raise StudyFileError(f"{name}: entries within entries, deeper than any study has")


def _first(error: ValidationError) -> str:
    """Say the first thing that is wrong, in one line."""
    kinds = ("PathPattern", "CsvColumn", "literal")
    # Of the three forms that `patients` may have, the one that was meant says what is wrong.
    found = sorted(
        error.errors(),
        key=lambda e: ("literal" in str(e["type"]), e["type"] == "missing", e["type"] == "extra_forbidden"),
    )
    first = found[0]
    where = ".".join(str(place) for place in first["loc"] if not str(place).startswith(kinds))
    if first["type"] == "extra_forbidden":
        return f"unknown entry {where}"
    if first["type"] == "missing":
        return f"entry {where} is missing"
    message = " ".join(first["msg"].removeprefix("Value error, ").split())
    return f"{where}: {message}" if where else message


def study_text(study: OwnStudy) -> str:
    """Write a study as YAML that says beside each entry what it is for."""
    content = study.model_dump(mode="json")
    if content["csv"] is None:
        del content["csv"]
    notes = {
        "name": "short name, used for folders",
        "title": "title of the book",
        "data": "the images, relative to this file: a folder, or a file that holds images",
        "csv": "its columns, empty for those that an audit takes; the file is relative to this one",
        "labels": "as folders or the CSV call them, in the order of tables and figures",
        "leave_out": "labels of images that take no part",
        "tasks": "each with its classes, each class with its labels; of two, the second is the positive one",
        "patients": "pattern: a regular expression whose first group, searched in the path, is the patient;\n"
        "# column: a column of the CSV; read: as headers, tables or folders say, see the audit;\n"
        "# none: nobody knows, each image is its own patient",
        "parts": "official parts, as folders or the CSV call them; the labels of test stay sealed",
        "profile": "size of the runs: smoke, quick or full",
        "image": "what the book calls one image",
        "credit": "stands under pictures: whose images these are, and under which licence",
        "pictures": "false: no figure of a run and no page of the audit shows an image",
        "allow_problems": "true: go on without files that cannot be read",
    }
    lines = ["# A study of leakfree on own images; `run_all.py --data` takes this file. Edit it as you like."]
    for key, value in content.items():
        lines += ["", f"# {notes[key]}"]
        # YAML folds some line breaks of Unicode and drops spaces at an end, unless they are escapes.
        plain = json.dumps(value, ensure_ascii=False).isprintable()
        text = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=plain, width=100)
        lines.append(text.rstrip("\n"))
    return "\n".join(lines) + "\n"


def write_study(path: Path, study: OwnStudy) -> Path:
    """Write a study file, atomically."""
    return write_text(path, study_text(study))


def kept_study(folder: Path) -> OwnStudy | None:
    """Return the study that a run folder records; None in a run on chest X-rays, or without a record."""
    try:
        content = json.loads((Path(folder) / ABOUT).read_text(encoding="utf-8"))[KEY]
        return OwnStudy.model_validate(content)
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None
