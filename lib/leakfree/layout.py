"""The steps of the flow, the modules of each, and whether the imports go one way: read from the code."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import yaml

#: Folder of this package.
PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class Step:
    """One step of the flow.

    Attributes
    ----------
    name : str
    modules : tuple of str
        As listed: ``pixels``, ``audit/ledger``, or ``sources/`` for a whole package.
    """

    name: str
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """Steps that one page of the interface describes.

    Attributes
    ----------
    name, page : str
        Title, and name of the page under ``api/``.
    steps : tuple of Step
    """

    name: str
    page: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Layout:
    """The library's modules in the order of the flow.

    Attributes
    ----------
    parts : tuple of Part
    exceptions : dict of (str, str) to str
        Imports against the flow, as (importing, imported) module, with the reason for each.
    """

    parts: tuple[Part, ...]
    exceptions: dict[tuple[str, str], str]

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps in the order of the flow."""
        return tuple(step for part in self.parts for step in part.steps)

    def step_of(self, module: str) -> int | None:
        """Return the position of a module's step in `steps`, or None where no step lists it."""
        for position, step in enumerate(self.steps):
            if any(_belongs(module, listed) for listed in step.modules):
                return position
        return None

    def members(self, step: Step, modules: list[str]) -> list[str]:
        """Return those of `modules` that belong to a step, in the order in which it lists them."""
        return [name for listed in step.modules for name in modules if _belongs(name, listed)]


def _belongs(module: str, listed: str) -> bool:
    return module.startswith(listed) if listed.endswith("/") else module == listed


def read_layout(path: Path = PACKAGE / "layout.yaml") -> Layout:
    """Read the layout.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    Layout
    """
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    parts = tuple(
        Part(
            part["part"],
            part["page"],
            tuple(Step(step["step"], tuple(step["modules"])) for step in part["steps"]),
        )
        for part in content["parts"]
    )
    return Layout(parts, {(entry["from"], entry["to"]): entry["why"] for entry in content["exceptions"]})


def module_file(module: str, package: Path = PACKAGE) -> Path:
    """Return the file of a module such as ``audit/ledger``, or of the package ``audit/report/``."""
    return package / (f"{module}__init__.py" if module.endswith("/") else f"{module}.py")


def modules(package: Path = PACKAGE) -> list[str]:
    """Return the modules of the package, sorted.

    Returns
    -------
    list of str
        Names such as ``audit/ledger``. A package's own file is ``audit/report/``; it is left out where it
        defines and imports nothing.
    """
    found = []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).with_suffix("").as_posix()
        if path.stem == "__init__":
            if not any(
                isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ImportFrom | ast.Import)
                for node in parse(path).body
            ):
                continue
            name = name.removesuffix("__init__")
        found.append(name)
    return found


def parse(path: Path) -> ast.Module:
    """Parse a source file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=path.name)


def first_line(module: str, package: Path = PACKAGE) -> str:
    """Return the first line of a module's docstring, empty where it has none."""
    return (ast.get_docstring(parse(module_file(module, package))) or "").partition("\n")[0]


def imports(package: Path = PACKAGE) -> set[tuple[str, str]]:
    """Return which module of the package imports which, wherever in the module the import stands.

    Imports for type checkers alone are no dependency and left out.

    Returns
    -------
    set of (str, str)
        Importing and imported module, both as `modules` names them.
    """
    names = set(modules(package))
    found = set()
    for module in names:
        tree = parse(module_file(module, package))
        for_types = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if id(node) not in for_types:
                found |= {(module, name) for name in _imported(node, package.name, names) if name != module}
    return found


def _imported(node: ast.AST, package: str, names: set[str]) -> set[str]:
    if isinstance(node, ast.Import):
        dotted = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        # What is imported may be a module of the package or a name of that module.
        dotted = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return set()
    found = set()
    for name in dotted:
        parts = name.split(".")
        if parts[0] != package:
            continue
        for end in (len(parts), len(parts) - 1):
            path = "/".join(parts[1:end])
            if match := next((known for known in (path, f"{path}/") if known in names), None):
                found.add(match)
                break
    return found


def between_steps(layout: Layout, edges: set[tuple[str, str]]) -> Counter[tuple[int, int]]:
    """Count imports from step to step, by position in the flow; those within a step are left out."""
    counted: Counter[tuple[int, int]] = Counter()
    for importing, imported in edges:
        pair = layout.step_of(importing), layout.step_of(imported)
        if None not in pair and pair[0] != pair[1]:
            counted[pair] += 1
    return counted


def against_flow(layout: Layout, edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the imports of a later step by an earlier one."""
    found = set()
    for importing, imported in edges:
        here, there = layout.step_of(importing), layout.step_of(imported)
        if here is not None and there is not None and there > here:
            found.add((importing, imported))
    return found


def contributing_table(layout: Layout) -> str:
    """Return the table of steps and modules that ``CONTRIBUTING.md`` shows, as Markdown."""
    rows = ["| step | module |", "|---|---|"]
    for step in layout.steps:
        names = ", ".join(f"`{name}`" if name.endswith("/") else f"`{name}.py`" for name in step.modules)
        rows.append(f"| {step.name} | {names} |")
    return "\n".join(rows) + "\n"
