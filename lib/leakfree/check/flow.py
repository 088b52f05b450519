"""Follow data through a program: an abstract interpreter that runs every branch, and loops twice.

Local functions are entered where they are called; a name that is not understood passes on what its arguments
carry. What happens on the way (splits, fits, scores, choices) is noted as events, which the rules read.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import replace
from typing import Any

from leakfree.check import names, syntax
from leakfree.check.calls import Calls
from leakfree.check.expressions import Expressions
from leakfree.check.methods import Methods
from leakfree.check.state import Located
from leakfree.check.values import ALL, NOTHING, Event, Mark, TooLarge, Value, join

#: Nodes that one file may cost, lest a file of nested calls takes for ever.
_BUDGET = 400_000
_BESTS = ("best", "opt", "max", "thr", "patience", "wait", "counter")
_KEEPS = (
    "save",
    "save_weights",
    "save_pretrained",
    "save_model",
    "dump",
    "deepcopy",
    "save_checkpoint",
    "clone",
    "copy",
)


class Flow(Expressions, Calls, Methods):
    """Runs a program abstractly; ``events`` and ``words`` are the outcome.

    Parameters
    ----------
    tree : ast.Module

    Attributes
    ----------
    events : list of Event
    words : dict of str to list of (int, str)
        Words that name columns or data, each with its lines and how it was used: ``key``, ``name``, ``drop``.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.events, self.words, self.env = [], defaultdict(list), {}
        self.functions, self.classes, self.imports = {}, {}, {}
        self.fits, self.made = defaultdict(list), {}
        self._loops, self._returns, self._calls, self._called = [], [], [], set()
        self._left, self._drops = _BUDGET, 0
        self.run(tree.body)
        for name, function in list(self.functions.items()):
            if name not in self._called:
                self._enter(name, function, [], {})

    # Statements

    def run(self, body: list[ast.stmt]) -> None:
        """Run statements."""
        for statement in body:
            self._left -= 1
            if self._left < 0:
                raise TooLarge
            method = getattr(self, f"_run_{type(statement).__name__}", None)
            if method is not None:
                method(statement)
            else:
                for child in ast.iter_child_nodes(statement):
                    if isinstance(child, ast.expr):
                        self.eval(child)

    def _run_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.imports[alias.asname or alias.name.split(".")[0]] = alias.name

    def _run_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self.imports[alias.asname or alias.name] = f"{node.module or ''}.{alias.name}"

    def _run_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.functions[node.name] = node

    _run_AsyncFunctionDef = _run_FunctionDef

    def _run_ClassDef(self, node: ast.ClassDef) -> None:
        self.classes[node.name] = node
        self._note("class", node, NOTHING, node.name, definition=node)
        for statement in node.body:
            if isinstance(statement, ast.FunctionDef):
                self.functions[f"{node.name}.{statement.name}"] = statement

    def _run_Assign(self, node: ast.Assign) -> None:
        value = self.eval(node.value)
        for target in node.targets:
            self._alias(target, node.value, node)
            self.bind(target, value, node)

    def _run_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.bind(node.target, self.eval(node.value), node)

    def _run_AugAssign(self, node: ast.AugAssign) -> None:
        before, more = self.eval(node.target), self.eval(node.value)
        self.bind(node.target, join(self._scaled(node, before, more), before, more), node)

    def _run_Return(self, node: ast.Return) -> None:
        value = self.eval(node.value) if node.value is not None else NOTHING
        if self._returns:
            self._returns[-1].append(value)

    def _run_If(self, node: ast.If) -> None:
        if (known := syntax.always(node.test)) is not None:
            self.run(node.body if known else node.orelse)
            return
        condition = self.eval(node.test)
        if any(isinstance(part, ast.Compare | ast.Call) for part in ast.walk(node.test)):
            self._choice(node, condition)
        self._branches([node.body, node.orelse])

    def _run_For(self, node: ast.For) -> None:
        over = self.eval(node.iter)
        self._loop(node, over)

    _run_AsyncFor = _run_For

    def _run_While(self, node: ast.While) -> None:
        self.eval(node.test)
        self._repeat("batches" if not syntax.trains(node) else "epochs", frozenset(), node.body)
        self.run(node.orelse)

    def _run_With(self, node: ast.With) -> None:
        for item in node.items:
            value = self.eval(item.context_expr)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, value, node)
        self.run(node.body)

    _run_AsyncWith = _run_With

    def _run_Try(self, node: ast.Try) -> None:
        self.run(node.body)
        for handler in node.handlers:
            self._branches([handler.body, []])
        self.run(node.orelse)
        self.run(node.finalbody)

    _run_TryStar = _run_Try

    def _run_Match(self, node: ast.Match) -> None:
        self.eval(node.subject)
        self._branches([case.body for case in node.cases])

    def _branches(self, bodies: list[list[ast.stmt]]) -> None:
        before, ends = self.env, []
        for body in bodies:
            self.env = dict(before)
            self.run(body)
            ends.append(self.env)
        self.env = {}
        for key in set().union(*ends):
            found = [end[key] for end in ends if key in end]
            first = found[0]
            self.env[key] = first if all(value is first for value in found) else join(*found)

    def _loop(self, node: ast.For, over: Value) -> None:
        target = {name.id for name in ast.walk(node.target) if isinstance(name, ast.Name)}
        if "folds" in over.kinds or any("fold" in word.lower() for word in target):
            kind = "folds"
        elif over.roots and not syntax.constants(node.iter):
            kind = "batches"
        elif any(word.lower().startswith("epoch") for word in target) or syntax.trains(node):
            kind = "epochs" if not syntax.builds(node) else "settings"
        else:
            kind = "settings"
        element = over
        if over.roots and "folds" not in over.kinds and not over.items:
            element = replace(over, flags=over.flags | {"element"})
        self.bind(node.target, element, node)
        self._repeat(kind, frozenset(target), node.body)
        self.run(node.orelse)

    def _repeat(self, kind: str, target: frozenset, body: list[ast.stmt]) -> None:
        self._loops.append((kind, target))
        before = dict(self.env)
        # Twice, so that what one round leaves behind meets the next.
        self.run(body)
        self.run(body)
        self._loops.pop()
        for key, value in before.items():
            if self.env.get(key) is not value:
                self.env[key] = join(value, self.env.get(key, NOTHING))

    # Names

    def bind(self, target: ast.expr, value: Value, node: Located) -> None:
        """Give a value to a target."""
        if isinstance(target, ast.Starred):
            target = target.value
        if isinstance(target, ast.Tuple | ast.List):
            items = value.items if value.items and len(value.items) == len(target.elts) else None
            if not value.roots and items is None:
                # X_train, X_test = parts(): data by their names, as where nothing was assigned at all.
                items = tuple(self._unpacked(part, value, node) for part in target.elts)
            for place, part in enumerate(target.elts):
                self.bind(part, items[place] if items else replace(value, items=None), node)
            return
        if isinstance(target, ast.Subscript):
            self.eval(target.slice)
            self._words_in(target.slice, "key")
            key = syntax.key(target.value)
            if key is not None:
                self.env[key] = join(
                    self.env.get(key, NOTHING), replace(value, objs=frozenset(), kinds=frozenset())
                )
            return
        key = syntax.key(target)
        if isinstance(target, ast.Attribute) and value.roots:
            frame = syntax.key(target.value)
            if frame is not None and self.env.get(frame, NOTHING).roots:
                # df.age = df.age.fillna(...) changes the table too.
                self.env[frame] = join(self.env[frame], value.data())
        if key is not None:
            self.env[key] = self._named(key.rsplit(".", 1)[-1], value, node)

    def _unpacked(self, target: ast.expr, value: Value, node: Located) -> Value:
        name = getattr(target, "id", "")
        told = names.part_of_name(name) and (names.DATA.match(name) or names.LOADED.match(name))
        return self._unknown(name, node) if told else value

    def _named(self, name: str, value: Value, node: Located) -> Value:
        if names.names_patient(name) or names.names_frames(name):
            self.words[name].append((node.lineno, "name"))
        if not value.roots:
            return value
        part = names.part_of_name(name)
        whole = value.parts <= {ALL}
        if part:
            value = replace(value, marks=value.marks - set(value.marked("by place")))
        if part and "split" in value.flags and value.parts & {"train", "test", "val"}:
            value = replace(value, parts=frozenset({part}))
        elif part and whole and value.flags & {"fresh", "subset"} and "element" not in value.flags:
            if "subset" in value.flags:
                self._note("split", node, replace(value, parts=frozenset({ALL})), "by hand")
            value = replace(value, parts=frozenset({part}))
        elif part == "val" and value.parts == {"test"} and "loader" in value.flags:
            # A part of its own name later: its author takes it for validation.
            value = replace(value, parts=frozenset({"val"}))
        elif part in ("test", "val") and value.parts == {ALL} and "loader" in value.flags:
            self._note("misnamed", node, value, name)
        if names.names_patient(name):
            value = value.having(Mark("patients", node.lineno))
        if names.holds_frames(name):
            value = value.having(Mark("frames", node.lineno))
        return replace(value, flags=value.flags & {"element"}, items=value.items)

    def _alias(self, target: ast.expr, source: ast.expr, node: Located) -> None:
        """Note ``best_model = model`` and ``best = model.state_dict()``: the same object, not a copy."""
        key, given = syntax.key(target), source
        if key is None or "best" not in key.lower() or not self._loops:
            return
        called = source.func if isinstance(source, ast.Call) and not source.args else None
        if isinstance(called, ast.Attribute) and called.attr in ("state_dict", "get_weights"):
            if called.attr == "get_weights":
                return  # Keras returns copies
            given = called.value
        elif not isinstance(source, ast.Name | ast.Attribute):
            return
        value = self.eval(given)
        if value.objs and not value.roots:
            depth = max(self.made.get(obj, 0) for obj in value.objs)
            self._note("alias", node, value, syntax.key(given) or "", state=given is not source, made=depth)

    # Choices

    def _choice(self, node: ast.If, condition: Value) -> None:
        """Notice that a better score keeps a model, a setting or a threshold."""
        loops = [loop for loop in self._loops if loop[0] in ("epochs", "settings")]
        compares = [part for part in ast.walk(node.test) if isinstance(part, ast.Compare)]
        ordered = any(
            isinstance(op, ast.Gt | ast.Lt | ast.GtE | ast.LtE) for part in compares for op in part.ops
        )
        if not loops or not ordered or not condition.roots or condition.parts != frozenset({"test"}):
            return
        keeps = [part for statement in node.body for part in ast.walk(statement)]
        saved = any(
            isinstance(part, ast.Call) and self._callee(part.func).rsplit(".", 1)[-1] in _KEEPS
            for part in keeps
        )
        bests = [
            part.id for part in keeps
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
            and any(word in part.id.lower() for word in _BESTS)
        ]  # fmt: skip
        stops = any(isinstance(part, ast.Break) for part in keeps)
        kept = {part.id for part in keeps if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
        measure = {part.id for part in ast.walk(node.test) if isinstance(part, ast.Name)}
        if saved or stops or len(set(bests) | kept - measure) > (1 if not saved else 0) or kept - measure:
            self._note("choose", node, condition, "if", loop=loops[-1], saved=saved)

    # Words

    def _word(self, word: object, node: Located, how: str) -> None:
        if isinstance(word, str) and (names.names_patient(word) or names.names_frames(word)):
            self.words[word].append((node.lineno, "drop" if self._drops else how))

    def _words_in(self, node: ast.expr, how: str) -> None:
        parts = [node, *getattr(node, "elts", ())]
        for part in parts:
            if isinstance(part, ast.Constant):
                self._word(part.value, part, how)

    def _note(self, what: str, node: ast.AST, value: Value, name: str, **more: Any) -> None:
        loops = tuple(kind for kind, _ in self._loops)
        self.events.append(Event(what, getattr(node, "lineno", 0), value, name, more, loops))
