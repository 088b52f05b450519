"""The interface of the library as reStructuredText, from signatures and docstrings in the source.

The source is parsed, not imported: importing the library would bring torch and Deep Lake into every build
of the book.
"""

from __future__ import annotations

import ast

from rooms import Room, module_file, parse
from sphinx.ext.napoleon import Config, NumpyDocstring

_NAPOLEON = Config(
    napoleon_use_ivar=True, napoleon_use_rtype=False, napoleon_use_admonition_for_examples=True
)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def room_page(room: Room) -> str:
    """Return the text of the page of one room: every public name of its modules.

    Parameters
    ----------
    room : Room

    Returns
    -------
    str
        MyST Markdown, a heading for each module.
    """
    lines: list[str] = [room.purpose, ""]
    for module in room.modules:
        lines += [f"## {title_of(module)}", "", "````{eval-rst}", *module_entry(module), "````", ""]
    return "\n".join(lines)


def title_of(module: str) -> str:
    """Return what a module is called in headings: its name below its room."""
    return ".".join(module.split(".")[2:]) or module


def anchor(module: str) -> str:
    """Return the anchor that Sphinx gives a module."""
    return f"module-{module}"


def module_entry(module: str) -> list[str]:
    """Return the reStructuredText of one module: what it is for, its public classes and functions.

    Parameters
    ----------
    module : str
        Such as ``leakfree.ledger.ledger``.

    Returns
    -------
    list of str
    """
    tree = parse(module_file(module))
    # Names in single backticks are those of the library, and linked where they have an entry.
    lines = [".. default-role:: py:obj", "", f".. py:module:: {module}", ""]
    lines += [*_docstring(tree, "module"), ""]
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and _public(node):
            lines += _class(node)
        elif isinstance(node, _Function) and _public(node):
            lines += _entry("function", node.name + _signature(node), _docstring(node, "function"))
    return lines


def public_names(module: str) -> list[str]:
    """Return the public classes and functions that a module defines, in the order in which they stand."""
    body = parse(module_file(module)).body
    return [node.name for node in body if isinstance(node, ast.ClassDef | _Function) and _public(node)]


def _public(node: ast.ClassDef | _Function) -> bool:
    return not node.name.startswith("_")


def _class(node: ast.ClassDef) -> list[str]:
    initial = next((n for n in node.body if isinstance(n, _Function) and n.name == "__init__"), None)
    signature = node.name + (_signature(initial, method=True) if initial else "")
    lines = _entry("class", signature, _docstring(node, "class"))
    for method in node.body:
        if not isinstance(method, _Function) or not _public(method) or not ast.get_docstring(method):
            continue
        decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in method.decorator_list}
        if decorators & {"property", "cached_property"}:
            kind, text = "property", method.name
        elif "staticmethod" in decorators:
            kind, text = "staticmethod", method.name + _signature(method)
        else:
            kind = "classmethod" if "classmethod" in decorators else "method"
            text = method.name + _signature(method, method=True)
        lines += _indented(_entry(kind, text, _docstring(method, "method")))
    return lines


def _entry(kind: str, signature: str, body: list[str]) -> list[str]:
    return [f".. py:{kind}:: {signature}", "", *_indented(body), ""]


def _indented(lines: list[str]) -> list[str]:
    return [f"   {line}" if line else "" for line in lines]


def _signature(node: _Function, *, method: bool = False) -> str:
    """Return arguments and result as they are written, without the first argument of a method."""
    arguments = node.args
    if method:
        first = "posonlyargs" if arguments.posonlyargs else "args"
        rest = {name: getattr(arguments, name) for name in arguments._fields}
        arguments = ast.arguments(**{**rest, first: rest[first][1:]})
    result = f" -> {ast.unparse(node.returns)}" if node.returns and node.name != "__init__" else ""
    return f"({ast.unparse(arguments)}){result}"


def _docstring(node: ast.AST, what: str) -> list[str]:
    text = ast.get_docstring(node) or ""
    # One of its lines can hold several.
    return str(NumpyDocstring(text.splitlines(), _NAPOLEON, None, what)).splitlines()
