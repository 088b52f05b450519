"""What the parts of `leakfree.check.flow.Flow` share, and ask of one another."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from leakfree.check.values import Event, Value

#: Nodes that know their line.
Located = ast.stmt | ast.expr | ast.arg


class State:
    """Where the interpreter is; `leakfree.check.flow.Flow` fills it and has all methods."""

    events: list[Event]
    words: dict[str, list[tuple[int, str]]]
    env: dict[str, Value]
    functions: dict[str, ast.FunctionDef]
    classes: dict[str, ast.ClassDef]
    imports: dict[str, str]
    fits: dict[object, list[Value]]
    made: dict[object, int]
    _loops: list[tuple[str, frozenset]]
    _returns: list[list[Value]]
    _calls: list[str]
    _called: set[str]
    _left: int
    _drops: int

    if TYPE_CHECKING:

        def run(self, body: list[ast.stmt]) -> None: ...  # noqa: D102
        def bind(self, target: ast.expr, value: Value, node: Located) -> None: ...  # noqa: D102
        def eval(self, node: ast.expr | None) -> Value: ...  # noqa: D102
        def _named(self, name: str, value: Value, node: Located) -> Value: ...
        def _unknown(self, name: str, node: Located) -> Value: ...
        def _word(self, word: object, node: Located, how: str) -> None: ...
        def _words_in(self, node: ast.expr, how: str) -> None: ...
        def _note(self, what: str, node: ast.AST, value: Value, name: str, **more: Any) -> None: ...
        def _source(self, node: ast.Call, last: str, given: Value) -> Value: ...
        def _chosen(self, node: ast.Call, value: Value) -> Value: ...
        def _enter(
            self, name: str, function: ast.FunctionDef, args: list[Value], keywords: dict[str, Value]
        ) -> Value: ...
        def _method(
            self, node: ast.Call, last: str, args: list[Value], keywords: dict[str, Value]
        ) -> Value | None: ...
