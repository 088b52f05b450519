"""Tables as people save them, with any separator and encoding, and their rows joined to the images."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import re
import unicodedata
import warnings
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from leakfree.base.errors import LeakfreeError
from leakfree.data import bounded
from leakfree.data.images import ImageError
from leakfree.data.intake import TooLargeError

#: Endings of files that are tables; each may also be packed (`.gz`, `.bz2`, `.xz`).
TEXT = (".csv", ".tsv", ".tab", ".txt", ".lst", ".list", ".dat")
TABLES = (*TEXT, ".xlsx", ".xlsm", ".parquet", ".jsonl", ".ndjson", ".json")
_PACKED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
#: Bytes of memory for each byte of a table that is no plain text, and of one that is packed.
_MEMORY, _MEMORY_PACKED = 30, 100
#: Most bytes of a table; a packed one is not unpacked any further.
MOST_BYTES = 1 << 30
_SEPARATORS = (",", ";", "\t", "|")
#: Endings of names that tables may write.
_ENDING = re.compile(
    r"\.(?:jpe?g|jpe|jfif|jp2|png|bmp|tiff?|gif|webp|p[gpnb]m|avif|heic|dcm|dicom|ima|nii(?:\.gz)?|mha|nrrd|npy)",
    re.IGNORECASE,
)


class TableError(LeakfreeError):
    """A table cannot be read; the message is one line that names the file."""


def table_suffix(path: Path) -> str:
    """Return the ending that says what a table is, without that of its packing; empty for no table."""
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in TABLES else ""


def read_table(path: Path, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table as text.

    Parameters
    ----------
    path : pathlib.Path
        Text with any of the usual separators and encodings, Excel, Parquet or JSON, perhaps packed.
    columns : sequence of str
        Names of the columns of a table that has no header.

    Returns
    -------
    pandas.DataFrame
        Of str; empty where there is no value.

    Raises
    ------
    TableError
        One line.
    """
    path = Path(path)
    if _is_plain(path):
        return _read(path, columns)
    names, values = _bounded("cells", path, list(columns))
    table = pd.DataFrame(dict(enumerate(values)), dtype=str)
    table.columns = names
    return table


def _is_plain(path: Path) -> bool:
    """Whether a table is text that is not packed: no larger once it is read than it is on disk."""
    return path.suffix.lower() in TEXT


def _bounded(function: str, path: Path, *arguments: Any) -> Any:
    """Call a function of this module in a process with limits."""
    try:
        with open(path, "rb"):
            pass
        memory = _MEMORY_PACKED if path.suffix.lower() in _PACKED else _MEMORY
        return bounded.call(__name__, function, str(path), *arguments, memory_a_byte=memory)
    except TooLargeError as error:
        raise TableError(f"{path}: {error}") from error
    except ImageError as error:
        raise TableError(str(error)) from error
    except OSError as error:
        raise TableError(f"{path}: cannot be read: {error.strerror or error}") from error


def cells(path: str, columns: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Read a table as `read_table`, in this process; the names of its columns, and their values."""
    table = _read(Path(path), columns)
    return [str(name) for name in table.columns], [table.iloc[:, k].tolist() for k in range(table.shape[1])]


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    suffix, data = table_suffix(path), _bytes(path)
    try:
        if suffix in (".xlsx", ".xlsm"):
            table = _excel(data, columns)
        elif suffix == ".parquet":
            table = _parquet(data)
        elif suffix in (".jsonl", ".ndjson", ".json"):
            table = _json(data, suffix)
        else:
            table = _text(data, columns)
    except ImportError as error:
        name = {"pyarrow": "pyarrow", "openpyxl": "openpyxl"}.get(error.name or "", error.name)
        raise TableError(f"{path}: reading it needs the package {name}: pip install {name}") from error
    except TableError as error:
        raise TableError(f"{path}: {error}") from error
    except Exception as error:  # parsers of Excel, Parquet and text raise many types
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TableError(f"{path}: cannot be read as a table: {reason}") from error
    if columns and len(table.columns) != len(columns):
        raise TableError(f"{path}: has {len(table.columns)} columns, --columns names {len(columns)}")
    if columns:
        table.columns = list(columns)
    table.columns = _once([str(name).strip().lstrip("\ufeff") for name in table.columns])
    return table


def _once(names: Sequence[str]) -> list[str]:
    """Give names that stand there before a number: ``split``, ``split.1``."""
    out: list[str] = []
    for name in names:
        number = sum(name == before for before in names[: len(out)])
        out.append(f"{name}.{number}" if number else name)
    return out


def _bytes(path: Path) -> bytes:
    """Read a file, and unpack it."""
    try:
        with _PACKED.get(path.suffix.lower(), open)(path, "rb") as stream:
            # To read more than there is would take the memory of all that is asked for.
            most = MOST_BYTES if path.suffix.lower() in _PACKED else os.fstat(stream.fileno()).st_size
            data = stream.read(min(MOST_BYTES, most) + 1)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise TableError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > MOST_BYTES:
        raise TableError(f"{path}: has more than {MOST_BYTES:,} bytes: no table of images has so many")
    return data


def _decoded(data: bytes) -> str:
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
        (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
    ):  # fmt: skip
        if data.startswith(mark):
            return data.decode(encoding)
    if b"\0" in data[:2000]:
        # UTF-16 without a mark: every second byte of plain text is zero.
        odd, even = data[1:2000:2].count(0), data[0:2000:2].count(0)
        if max(odd, even) < 0.35 * len(data[:2000]):
            raise TableError("is no text")
        return data.decode("utf-16-le" if odd > even else "utf-16-be")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "surrogateescape") if not _odd(data) else data.decode("latin-1")


def _odd(data: bytes) -> bool:
    """Whether there is a byte that cp1252 does not know."""
    return any(byte in data for byte in (b"\x81", b"\x8d", b"\x8f", b"\x90", b"\x9d"))


def _text(data: bytes, columns: Sequence[str]) -> pd.DataFrame:
    text = _decoded(data).replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    while lines and (not lines[0].strip() or lines[0].lstrip().startswith("#")):
        lines.pop(0)  # remarks before the header
    if not lines:
        raise TableError("is empty")
    if lines[0].startswith("sep=") and len(lines[0]) == 5:
        lines.pop(0)
    separator = _separator([line for line in lines[:50] if line.strip()], columns)
    options: dict[str, Any] = {"sep": separator}
    if separator == " ":
        options = {"sep": r"\s+", "engine": "python"}
    with warnings.catch_warnings():
        # Without index_col, values beyond the header would shift all columns; with it pandas only warns.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(
            io.StringIO("\n".join(lines)), dtype=str, keep_default_na=False, index_col=False,
            header=None if columns else 0, **options,
        )  # fmt: skip


def _separator(lines: Sequence[str], columns: Sequence[str]) -> str:
    """Choose the separator that splits the header and the rows into the same number of fields."""
    best, most = ",", 1
    for candidate in _SEPARATORS:
        try:
            counts = [len(row) for row in csv.reader(lines, delimiter=candidate)]
        except csv.Error:
            continue
        agreeing = sum(count == counts[0] for count in counts)
        if counts and counts[0] > most and agreeing >= 0.8 * len(counts):
            best, most = candidate, counts[0]
    if most == 1 and columns and len(columns) > 1:
        return " "
    if most == 1 and "," not in lines[0]:
        # A header is needed to read spaces as separators, lest a sentence becomes a table.
        words = {re.sub(r"\W", "", word).casefold() for word in lines[0].split()}
        known = {alias for aliases in ALIASES.values() for alias in aliases}
        if len(words) > 1 and words <= known and all(len(line.split()) == len(words) for line in lines):
            return " "
        for candidate in _SEPARATORS:
            if candidate in lines[0]:
                return candidate
    return best


def _excel(data: bytes, columns: Sequence[str]) -> pd.DataFrame:
    import openpyxl

    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        if sum(entry.file_size for entry in packed.infolist()) > MOST_BYTES // 4:
            raise TableError(f"has more than {MOST_BYTES // 4:,} bytes when it is unpacked")
    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    rows = [[_cell(value) for value in row] for row in book.worksheets[0].iter_rows(values_only=True)]
    rows = [row for row in rows if any(row)]
    if not rows:
        raise TableError("its first sheet is empty")
    head = list(columns) or rows.pop(0)
    width = max(len(head), *(len(row) for row in rows)) if rows else len(head)
    head = [name or f"column {place + 1}" for place, name in enumerate([*head, *[""] * (width - len(head))])]
    return pd.DataFrame([[*row, *[""] * (width - len(row))] for row in rows], columns=head, dtype=str)


def _cell(value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _parquet(data: bytes) -> pd.DataFrame:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(data))
    return pd.DataFrame(
        {name: [_cell(value) for value in table[name].to_pylist()] for name in table.column_names}, dtype=str
    )


def _json(data: bytes, suffix: str) -> pd.DataFrame:
    text = _decoded(data)
    if suffix == ".json":
        content = json.loads(text)
        if isinstance(content, dict):
            lists = [value for value in content.values() if isinstance(value, list)]
            content = lists[0] if len(lists) == 1 else [content]
    else:
        content = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise TableError("is no list of records")
    names = list(dict.fromkeys(str(name) for row in content for name in row))
    return pd.DataFrame({name: [_cell(row.get(name)) for row in content] for name in names}, dtype=str)


#: Names that columns have, without case, spaces and signs, in the order in which they are tried.
ALIASES: dict[str, tuple[str, ...]] = {
    "path": (
        "path", "filepath", "imagepath", "imgpath", "imagefilepath", "relpath", "relativepath", "file",
        "filename", "imagefile", "imagefilename", "image", "img", "imageindex", "imagename", "imgname",
        "imageid", "imgid", "dicomid", "idcode", "uid", "sopinstanceuid", "name", "id", "patientid",
        "index",
    ),
    "part": (
        "part", "split", "partition", "subset", "datasplit", "datasetsplit", "splitname", "grp", "set",
        "usage", "phase", "istrain", "istraining", "istest", "isval", "isvalid", "train", "fold", "kfold",
        "folds",
    ),
    "label": (
        "label", "labels", "class", "classname", "target", "diagnosis", "dx", "finding", "findings",
        "findinglabels", "pathology", "diagnostic", "category", "level", "grade", "retinopathygrade",
        "severity", "disease", "y", "centertumorpatch", "tumorpatch", "imagelabel",
    ),
    "patient": (
        "patient", "patientid", "patientids", "subject", "subjectid", "subjid", "pid", "person", "personid",
        "participant", "participantid", "patid", "ptid", "mrn", "caseid", "case", "individual", "donor",
    ),
    "group": (
        "lesionid", "lesion", "studyid", "study", "studyinstanceuid", "seriesid", "series",
        "seriesinstanceuid", "examid", "exam", "accession", "accessionnumber", "visit", "video", "videoid",
        "wsi", "slide", "slideid", "eyeid", "cautiousgroup", "acquisitionid",
    ),
}  # fmt: skip
_BOOLEAN = {
    "istrain": ("train", "test"), "istraining": ("train", "test"), "train": ("train", "test"),
    "istest": ("test", "train"), "isval": ("val", "train"), "isvalid": ("val", "train"),
}  # fmt: skip
_YES, _NO = ("true", "1", "1.0", "yes", "y", "t"), ("false", "0", "0.0", "no", "n", "f")


def plain(name: str) -> str:
    """Reduce the name of a column to its letters and digits."""
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKC", name).casefold())


def named(table: pd.DataFrame, what: str) -> list[str]:
    """Return the columns whose names say what they hold, in the order of `ALIASES`."""
    by: dict[str, str] = {}
    for column in table.columns:
        by.setdefault(plain(column), column)
    return [by[alias] for alias in ALIASES[what] if alias in by]


def boolean_parts(column: str, values: Iterable[str]) -> list[str] | None:
    """Read a column such as ``is_train`` of yes and no; None if it is none."""
    names = _BOOLEAN.get(plain(column))
    values = [value.strip().casefold() for value in values]
    if names is None or any(value not in (*_YES, *_NO, "") for value in values):
        return None
    return ["" if not value else names[0] if value in _YES else names[1] for value in values]


_SPLIT = re.compile(r"\s*[|;]\s*")


def label_set(text: str) -> str:
    """Write a label of several findings as a set: in one order, each once.

    Examples
    --------
    >>> label_set("Infiltration|Effusion"), label_set("['b', 'a']"), label_set("carcinoma, ductal")
    ('Effusion|Infiltration', 'a|b', 'carcinoma, ductal')
    """
    text = text.strip()
    if len(text) > 1 and text[0] + text[-1] in ("[]", "()", "{}") and ":" not in text:
        found = [word.strip().strip("'\"").strip() for word in text[1:-1].split(",")]
    elif "|" in text or ";" in text:
        found = _SPLIT.split(text)
    else:
        return text
    return "|".join(sorted({word for word in found if word}))


_NO_CLASS = {
    "duplicate",
    "followup",
    "flag",
    "marks",
    "doppler",
    "combined",
    "sex",
    "gender",
    "frontal",
    "male",
}


def one_hot(table: pd.DataFrame, taken: Iterable[str]) -> list[str]:
    """Return the columns that hold a class each: only 0, 1, -1 (uncertain) or nothing, not 1 throughout."""
    taken = set(taken)
    found = []
    for column in table.columns:
        name = plain(column)
        if column in taken or name in _BOOLEAN or name in _NO_CLASS or name.startswith(("unnamed", "is")):
            continue
        values = {value.strip().casefold() for value in table[column].unique()}
        if len(table) > 1 and values <= {"1", "1.0", "true"}:
            continue  # each image has it, such as the number of a first visit
        if values <= {"", "0", "1", "-1", "0.0", "1.0", "-1.0", "true", "false"} and values & {
            "0",
            "1",
            "0.0",
            "1.0",
            "true",
            "false",
        }:
            found.append(column)
    return found if len(found) > 1 else []


def one_hot_labels(table: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """Write what the class columns of each row say as a set."""
    hot = {
        column: table[column].str.strip().str.casefold().isin(("1", "1.0", "true")).to_numpy()
        for column in columns
    }
    return ["|".join(sorted(column for column in columns if hot[column][row])) for row in range(len(table))]


class Finder:
    """Finds the images that a row of a table means.

    By its path, whatever the slashes, the case or a folder in front of it; by its name, with or without its
    ending; or all images of the folder that it names. What fits several files, or a name whose folders say
    something else, is not found: a wrong image is worse than none.

    Parameters
    ----------
    files : iterable of str
        Relative paths, with forward slashes.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self.files = list(files)
        self._exact = set(self.files)
        self._suffix: dict[str, str | None] = {}
        self._folders: dict[str, set[str]] = defaultdict(set)
        self._inside: dict[str, list[str]] = defaultdict(list)
        for file in self.files:
            folded = _folded(file)
            parts = folded.split("/")
            bare = without_ending(folded)
            cut = len(folded) - len(bare)
            for start in range(len(parts)):
                whole = "/".join(parts[start:])
                for name in {whole, whole[: len(whole) - cut]}:
                    self._suffix[name] = file if self._suffix.get(name, file) == file else None
            for folder in parts[:-1]:
                self._folders[folder].add(file) if len(self._folders[folder]) < 2 else None
            for depth in range(1, len(parts)):
                self._inside[parts[depth - 1]].append(file)

    def find(self, value: str, before: str = "", *, folders: bool = True) -> list[str]:
        """Return the files of a value; `before` is the folder of the table, relative to the images."""
        given = PurePosixPath(value.strip().replace("\\", "/")).as_posix()
        for name in (f"{before}/{given}" if before else given, given):
            if name in self._exact:
                return [name]
        parts = [part for part in PurePosixPath(_folded(given)).parts if part not in (".", "/")]
        if not parts or parts[0] == "..":
            parts = [part for part in parts if part != ".."]
        if before and parts:
            found = self._lookup([*PurePosixPath(_folded(before)).parts, *parts])
            if found:
                return [found]
        for start in range(len(parts)):
            rest = parts[start:]
            found = self._lookup(rest)
            if found is None:
                continue
            # Only the name fits: its folders must not name another place that is here.
            if len(rest) == 1 and len(parts) > 1 and parts[-2] in self._folders:
                return []
            return [found]
        if not folders or not parts:
            return []
        if not _ENDING.search(parts[-1]) and parts[-1] in self._inside:
            folder = self._inside[parts[-1]]
            if len({_parent(file, parts[-1]) for file in folder}) == 1:
                return folder
        # A name that was changed with the format, in a folder that is of this image alone.
        for part in reversed(parts[:-1]):
            if len(self._inside.get(part, ())) == 1:
                return self._inside[part]
        return []

    def _lookup(self, parts: Sequence[str]) -> str | None:
        whole = "/".join(parts)
        found = self._suffix.get(whole)
        if found is None and whole not in self._suffix:
            bare = without_ending(whole)
            found = self._suffix.get(bare) if bare != whole else None
        return found

    def share(self, values: Sequence[str], before: str = "", *, folders: bool = True) -> float:
        """Return the share of values, of at most 300 of them, that find an image, or a folder of some."""
        some = values[:: max(1, len(values) // 300)]
        found = sum(bool(value.strip()) and bool(self.find(value, before, folders=folders)) for value in some)
        return found / len(some) if some else 0.0


def names_image(text: str) -> bool:
    """Whether a text ends like the name of an image file."""
    found = list(_ENDING.finditer(text.strip()))
    return bool(found) and found[-1].end() == len(text.strip())


def without_ending(name: str) -> str:
    """Drop the ending of an image's name."""
    found = list(_ENDING.finditer(name))
    return name[: found[-1].start()] if found and found[-1].end() == len(name) else name


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _parent(file: str, folder: str) -> str:
    parts = _folded(file).split("/")
    return "/".join(parts[: parts.index(folder) + 1])


def choose_path_column(table: pd.DataFrame, finder: Finder, before: str) -> tuple[str, float]:
    """Choose the column that names images: of those with such a name the one whose values find most files.

    Returns
    -------
    str
        Empty if no column finds any.
    float
        Share of its values that find a file.
    """
    candidates = named(table, "path")
    others = [column for column in table.columns if column not in candidates]
    # First what is named like a path and finds files, then folders; then any column that finds many files.
    for columns, folders, least in ((candidates, False, 0.0), (others, False, 0.3), (candidates, True, 0.0)):
        best, share = "", least
        for column in columns:
            found = finder.share(table[column].tolist(), before, folders=folders)
            if found > share + 0.02 * bool(best):
                best, share = column, found
        if best:
            return best, share
    return "", 0.0


def read_list(path: Path) -> list[str]:
    """Read a list of names, one a line, or the first column of a table.

    Raises
    ------
    TableError
        One line.
    """
    path = Path(path)
    if table_suffix(path) not in TEXT:
        table = read_table(path)
        column = (named(table, "path") or list(table.columns))[0]
        return [value for value in table[column] if value.strip()]
    return lines(str(path)) if _is_plain(path) else _bounded("lines", path)


def lines(path: str) -> list[str]:
    """Read the lines of a text, in this process."""
    data = _bytes(Path(path))
    try:
        text = _decoded(data)
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: cannot be read: {error}") from error
    except TableError as error:
        raise TableError(f"{path}: {error}") from error
    found = [line.strip().strip('"') for line in text.splitlines()]
    return [line for line in found if line and not line.startswith("#")]


def aligned(values: Mapping[str, str], names: Sequence[str]) -> list[str]:
    """Return the value of each name, empty without one."""
    return [values.get(name, "") for name in names]
