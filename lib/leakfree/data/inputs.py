"""Open what anyone has as images with part, label and patient: folders, tables, and files with images inside.

An audit and a study open it here alike, and say alike how they understood it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from leakfree.data.formats import Item, ItemReader, file_items, list_items, of_file
from leakfree.data.formats.annotations import annotated
from leakfree.data.raw import Problem, readable
from leakfree.data.reading.parts import is_part, part_name
from leakfree.data.reading.rows import Table, open_table
from leakfree.data.reading.tables import table_suffix
from leakfree.data.reading.understand import Input, Understood, understand
from leakfree.data.reading.wishes import ReadingError, Wishes


@dataclass(frozen=True)
class Opened:
    """Images that were opened.

    Attributes
    ----------
    name : str
        Short name of the input.
    understood : Understood
        One row an image, with part, label and patient, and how they were read.
    others : tuple of Problem
        Files that are no images, or cannot be read.
    folders : tuple of str
        Folders that are named like parts.
    """

    name: str
    understood: Understood
    others: tuple[Problem, ...] = ()
    folders: tuple[str, ...] = ()

    @property
    def reader(self) -> ItemReader:
        """Reads the picture of a row."""
        items = self.understood.items
        return ItemReader(
            tuple(self.understood.table["image_id"]),
            tuple(item.path for item in items),
            tuple(item.format for item in items),
            tuple(item.key for item in items),
        )

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Files that cannot be images, and rows of tables that name none."""
        lost = self.understood.problems
        dropped = {problem.file for problem in lost}
        told = [problem for problem in self.others if problem.file not in dropped]
        return tuple(Problem(readable(p.file), p.reason) for p in (*told, *lost))

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts that should hold images."""
        parts = [part for part in dict.fromkeys(self.understood.table["part"]) if part]
        known = {part_name(part) for part in parts}
        # A folder of a part without an image, unless the same part is written in another way.
        empty = [part for part in self.folders if part in parts or part_name(part) not in known]
        return tuple(dict.fromkeys([*empty, *parts]))

    @property
    def nothing(self) -> str:
        """Say why there is no image, and what would read what is there."""
        reading = self.understood.reading
        if reading.unclear and not reading.unclear[0].startswith("no part"):
            return reading.unclear[0]
        some = ", ".join(f"{n:,} x {kind}" for kind, n in list(reading.left_out.items())[:5])
        return f"no image; there are {some}" if some else "no image"


def open_input(path: Path, wishes: Wishes = Wishes(), *, by_table: bool = False) -> Opened:  # noqa: B008 (frozen)
    """Open a folder, a table, or a file that holds images.

    Parameters
    ----------
    path : pathlib.Path
    wishes : leakfree.data.reading.wishes.Wishes
        What was declared.
    by_table : bool
        Only images that a declared table names are looked at.

    Raises
    ------
    leakfree.data.reading.wishes.ReadingError, leakfree.data.raw.SourceError
        One line.
    """
    path = Path(path)
    if path.is_dir():
        return open_folder(path, wishes, by_table=by_table)
    if of_file(path):
        items, problems = _inside(path)
        tables = [open_table(table, path.parent, wishes.columns) for table in wishes.csv]
        found = understand(Input(items, tables, problems, by_table=by_table), wishes)
        return Opened(path.stem, found, tuple(problems))
    if not table_suffix(path):
        kinds = "neither a folder, nor a CSV, nor a cohort, nor a file with images inside"
        raise ReadingError(f"{path}: {kinds}")
    return open_table_of_images(path, wishes)


def _inside(path: Path) -> tuple[list[Item], list[Problem]]:
    items, problems = file_items(path, path.name)
    return [item._replace(file=item.file.removeprefix(f"{path.name}/")) for item in items], problems


def open_folder(root: Path, wishes: Wishes = Wishes(), *, by_table: bool = False) -> Opened:  # noqa: B008 (frozen)
    """Open the images below a folder.

    A folder is a part only if its name says so, see `leakfree.data.reading.parts.part_name`.
    """
    items, problems = list_items(root)
    tables = [open_table(path, root, wishes.columns) for path in wishes.csv]
    if not tables:
        # What belongs to images in folders by the convention of Hugging Face.
        known = [p.file for p in problems if Path(p.file).name.lower() in ("metadata.csv", "metadata.jsonl")]
        tables = [table for name in known if (table := _beside(root, name)) is not None]
    items, annotations, large = annotated(root, items, problems)
    problems = [p for p in problems if p.file not in {one.file for one in large}] + large
    found = understand(
        Input(items, tables, problems, root, by_table=by_table, annotations=annotations), wishes
    )
    empty = [child.name for child in sorted(root.iterdir()) if child.is_dir() and is_part(child.name)]
    return Opened(_name(root), found, tuple(problems), () if wishes.no_parts else tuple(empty))


def _beside(root: Path, name: str) -> Table | None:
    """Open a table ``metadata`` that lies beside images; None unless it names files."""
    try:
        table = open_table(Path(root) / name, root)
    except ReadingError:
        return None
    return table if any(column in table.frame for column in ("file_name", "filename", "image")) else None


def open_table_of_images(path: Path, wishes: Wishes = Wishes()) -> Opened:  # noqa: B008 (frozen)
    """Open the images that the rows of a table name; they lie in its folder or below.

    A file may be listed twice: that is a finding, not an error.
    """
    path = Path(path)
    tables = [open_table(one, path.parent, wishes.columns) for one in (path, *wishes.csv)]
    return Opened(path.stem, understand(Input(_listed(tables, wishes), tables, by_table=True), wishes))


def _listed(tables: Sequence[Table], wishes: Wishes) -> list[Item]:
    """List the files that tables may mean: those that values name as they stand, else all of the folder."""
    root = tables[0].path.parent
    direct: dict[str, Item] = {}
    for table in tables:
        names = [wishes.path_column] if wishes.path_column in table.frame else list(table.frame.columns)
        best: dict[str, Item] = {}
        for column in names:
            found = {}
            values = [value.strip() for value in table.frame[column]]
            # A first look at a few: most columns hold no names of files.
            if not any(_is_file(table.path.parent, value) for value in values[:50]):
                continue
            for value in values:
                if _is_file(table.path.parent, value):
                    for item in _file_as_items(table.path.parent / value, value):
                        found[item.file] = item
            best = max(best, found, key=len)
        direct |= best
        complete = best and all(
            any(value.strip() in best for value in row)
            for row in table.frame[names].itertuples(index=False, name=None)
        )
        if not complete:
            break
    else:
        return list(direct.values())
    items, _ = list_items(root)
    known = {item.path for item in items}
    return items + [item for item in direct.values() if item.path not in known]


def _is_file(folder: Path, value: str) -> bool:
    if not value or value in (".", "..", "/"):
        return False
    try:
        place = folder / value
        return place.exists() and not place.is_dir()
    except (OSError, ValueError):
        return False


def _file_as_items(path: Path, file: str) -> list[Item]:
    if of_file(path):
        items, _ = file_items(path, file)
        if items:
            return items
    return [Item(file, str(path))]


def open_several(paths: Sequence[Path], wishes: Wishes = Wishes()) -> Opened:  # noqa: B008 (frozen)
    """Open several inputs together: folders and files with images are a part each, by their names."""
    items: list[Item] = []
    problems: list[Problem] = []
    tables: list[Path] = []
    names = _different(paths)
    root = Path(*_common(paths)) if _common(paths) else Path()
    for path, name in zip(paths, names, strict=True):
        if path.is_dir():
            some, wrong = list_items(path)
        elif path.is_file() and table_suffix(path) and not of_file(path):
            tables.append(path)
            continue
        elif path.is_file():
            some, wrong = _inside(path)
        else:
            raise ReadingError(f"{path}: no such file or folder")
        items += [item._replace(file=f"{name}/{item.file}", part=name) for item in some]
        problems += [Problem(f"{name}/{problem.file}", problem.reason) for problem in wrong]
    opened = [open_table(path, root, wishes.columns) for path in (*tables, *wishes.csv)]
    if not items:
        found = understand(Input(_listed(opened, wishes), opened, by_table=True), wishes)
        return Opened("-".join(names), found)
    # The folders were given as parts, one each; what stands inside them is no part.
    found = understand(Input(items, opened, problems, declared=True), wishes)
    return Opened("-".join(names), found, tuple(problems))


def _different(paths: Sequence[Path]) -> list[str]:
    """Name targets by the shortest end of their paths in which they all differ."""
    resolved = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, resolved)) + 1):
        names = ["_".join(parts[-length:]) for parts in resolved]
        if len(set(names)) == len(names):
            return [re.sub(r"[/\\]+", "_", name).strip("_") or "root" for name in names]
    raise ReadingError(f"{paths[0]}: is given twice")


def _common(paths: Sequence[Path]) -> tuple[str, ...]:
    common = []
    for parts in zip(*(path.resolve().parts for path in paths), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return tuple(common)


def _name(root: Path) -> str:
    return re.sub(r"[^\w.-]+", "-", root.resolve().name).strip("-.") or "folder"
