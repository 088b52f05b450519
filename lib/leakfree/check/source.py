"""Read a script or a notebook as one Python program, and remember which line of which cell each part was."""

from __future__ import annotations

import ast
import re
import tokenize
import warnings
from dataclasses import dataclass, field
from pathlib import Path

_MAGIC = re.compile(r"get_ipython\(\)\.(run_line_magic|run_cell_magic|system|getoutput|getline)\(")
_ACCEPTED = re.compile(r"#\s*leakfree:\s*ignore\[([a-z, -]+)\]\s*(.*)$")


class SourceUnreadable(Exception):
    """The file is no Python and no notebook; the message is one line."""


@dataclass
class CodeFile:
    """A program that was read.

    Attributes
    ----------
    path : str
    tree : ast.Module
        All cells one after the other.
    places : list of (int, int)
        For each line of the program, from the first: cell (0 in a script) and line in it.
    unseen : list of str
        What could not be read: magics, cells in another language, cells out of order.
    accepted : dict of int to (set of str, str)
        Line of the program to the rules that a comment lets pass there, and the reason.
    """

    path: str
    tree: ast.Module
    places: list[tuple[int, int]]
    unseen: list[str] = field(default_factory=list)
    accepted: dict[int, tuple[set[str], str]] = field(default_factory=dict)

    def place(self, line: int) -> tuple[int, int]:
        """Return cell and line in it of a line of the program."""
        return self.places[min(max(line, 1), len(self.places)) - 1]


def read_source(path: Path) -> CodeFile:
    """Read a ``.py`` or ``.ipynb`` file.

    Raises
    ------
    SourceUnreadable
        One line that names the file and the reason.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise SourceUnreadable(f"{path}: not a regular file")  # a pipe would wait for ever
    with warnings.catch_warnings():
        # Of a notebook without cell ids, or a string like "\\d": no matter of leaks.
        warnings.simplefilter("ignore")
        return _read(path)


def _read(path: Path) -> CodeFile:
    try:
        text = path.read_bytes()
        if path.suffix.lower() == ".ipynb":
            return _notebook(str(path), text)
        # As Python reads it: by the encoding that the file declares.
        with tokenize.open(path) as stream:
            return _program(str(path), [(0, stream.read())], [])
    except OSError as error:
        raise SourceUnreadable(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SyntaxError, ValueError, RecursionError, LookupError, MemoryError) as error:
        # Python's parser calls a program that is nested too deep a lack of memory.
        reason = " ".join(str(error).split()) or "nested too deep"
        raise SourceUnreadable(f"{path}: not Python that can be parsed: {reason}") from error


def _notebook(path: str, data: bytes) -> CodeFile:
    from nbformat import convert, reader

    try:
        # Not nbformat.reads: it logs what is invalid, on the terminal of whoever runs Jupyter.
        book = convert(reader.reads(data.decode("utf-8")), 4)
        code = [(number, cell) for number, cell in enumerate(book.cells, 1) if cell.cell_type == "code"]
    except Exception as error:  # nbformat raises what it likes, and a file may hold anything
        raise SourceUnreadable(f"{path}: not a notebook: {' '.join(str(error).split())[:200]}") from error
    unseen: list[str] = []
    cells = [(number, cell.get("source"), cell.get("execution_count")) for number, cell in code]
    if not all(isinstance(source, str) for _, source, _ in cells):
        raise SourceUnreadable(f"{path}: not a notebook: a cell whose source is no text")
    counts = [count for _, _, count in cells if isinstance(count, int)]
    if counts != sorted(counts):
        # What ran is what counts; a cell that did not run keeps its place behind the one before it.
        unseen.append(
            "the cells were not run from top to bottom: they are read in the order in which they ran"
        )
        order, last = [], 0
        for number, source, count in cells:
            last = count if isinstance(count, int) else last
            order.append((last, number, source))
        cells = [(number, source, None) for _, number, source in sorted(order, key=lambda entry: entry[:2])]
    kernel = book.metadata.get("kernelspec", {})
    language = str(kernel.get("language", "python") if isinstance(kernel, dict) else "").lower()
    if language not in ("python", "python3", ""):
        raise SourceUnreadable(f"{path}: a notebook in {language}, not in Python")
    return _program(path, [(number, source) for number, source, _ in cells], unseen)


def _program(path: str, cells: list[tuple[int, str]], unseen: list[str]) -> CodeFile:
    lines: list[str] = []
    places: list[tuple[int, int]] = []
    accepted: dict[int, tuple[set[str], str]] = {}
    magics, broken = 0, []
    for cell, text in cells:
        kept = _python(text) if cell else text
        if cell:
            magics += len(_MAGIC.findall(kept))
            try:
                ast.parse(kept)
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                broken.append(f"cell {cell}: {getattr(error, 'msg', error) or 'nested too deep'}")
                continue
        for number, line in enumerate(kept.splitlines(), 1):
            lines.append(line)
            places.append((cell, number))
            if found := _ACCEPTED.search(line):
                accepted[len(lines)] = ({name.strip() for name in found[1].split(",")}, found[2].strip())
    if broken and not lines:
        raise SourceUnreadable(f"{path}: no cell is Python that can be parsed: {broken[0]}")
    if magics:
        unseen.append(f"{magics} magics and shell commands: what they do is not read")
    unseen += [f"{entry}; this cell is not read" for entry in broken]
    tree = ast.parse("\n".join(lines) + "\n")
    return CodeFile(path, tree, places or [(0, 1)], unseen, accepted)


def _python(text: str) -> str:
    """Return a cell as Python with as many lines: magics become calls, a timed cell its own content."""
    from IPython.core.inputtransformer2 import TransformerManager

    first, _, rest = text.partition("\n")
    if first.startswith("%%"):
        name = first[2:].split(" ")[0].strip()
        if name not in ("time", "timeit", "capture", "prun"):
            return "\n".join(
                [f"get_ipython().run_cell_magic({name!r}, '', '')", *("" for _ in rest.split("\n"))]
            )
        text = f"get_ipython().run_line_magic({name!r}, '')\n{rest}"
    return TransformerManager().transform_cell(text)
