"""The rooms of the library, read from its folders, and who imports from whom, read from the code.

Their order is that of the import contracts in ``pyproject.toml``, which CI holds the code to.
"""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import grimp

import leakfree

#: The checkout that the library is imported from; the book may be built from a copy elsewhere.
ROOT = Path(leakfree.__file__).resolve().parents[2]
#: Packages, the one that is used first.
PACKAGES = ("leakfree", "leakfree_study")


@dataclass(frozen=True)
class Room:
    """A folder of the library, or the command line beside the folders.

    Attributes
    ----------
    name : str
        As it is imported, such as ``leakfree.data``.
    purpose : str
        First line of its docstring.
    modules : tuple of str
        As they are imported, sorted; the folder's own file first, where it holds more than a docstring.
    """

    name: str
    purpose: str
    modules: tuple[str, ...]

    @property
    def page(self) -> str:
        """Name of its page under ``api/``."""
        return self.name.removeprefix("leakfree.").replace("leakfree_study.", "study_")


def rooms() -> list[Room]:
    """Return all rooms; each imports from those before it only."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    order = {contract["containers"][0]: contract["layers"] for contract in contracts if "layers" in contract}
    return [_room(f"{package}.{name}") for package in PACKAGES for name in reversed(order[package])]


def _room(name: str) -> Room:
    path = module_file(name)
    if path.stem != "__init__":
        return Room(name, first_line(name), (name,))
    lib, found = ROOT / "lib", []
    for file in sorted(path.parent.rglob("*.py")):
        dotted = ".".join(file.relative_to(lib).with_suffix("").parts).removesuffix(".__init__")
        if file.stem != "__init__" or len(parse(file).body) > 1:
            found.append(dotted)
    return Room(name, first_line(name), tuple(found))


def module_file(module: str) -> Path:
    """Return the source file of a module or of a folder of modules."""
    path = ROOT / "lib" / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def parse(path: Path) -> ast.Module:
    """Parse a source file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=path.name)


def first_line(module: str) -> str:
    """Return the first line of a module's docstring, empty where it has none."""
    return (ast.get_docstring(parse(module_file(module))) or "").partition("\n")[0]


def imports() -> set[tuple[str, str]]:
    """Return which module imports which, wherever in the module the import stands.

    Imports for type checkers alone are no dependency and left out.
    """
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    return {
        (module, used) for module in graph.modules for used in graph.find_modules_directly_imported_by(module)
    }


def between(found: list[Room], edges: set[tuple[str, str]]) -> Counter[tuple[int, int]]:
    """Count imports from room to room, by position; those inside a room are left out."""
    place = {module: k for k, room in enumerate(found) for module in (room.name, *room.modules)}
    pairs = ((place.get(module), place.get(used)) for module, used in edges)
    return Counter((here, there) for here, there in pairs if None not in (here, there) and here != there)
