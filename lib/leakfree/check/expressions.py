"""The value of an expression: names, rows of data, arithmetic, comparisons."""

from __future__ import annotations

import ast
from dataclasses import replace

from leakfree.check import names, syntax
from leakfree.check.state import Located, State
from leakfree.check.values import ALL, NOTHING, Mark, TooLarge, Value, join


class Expressions(State):
    """Evaluates expressions; part of `leakfree.check.flow.Flow`."""

    def eval(self, node: ast.expr | None) -> Value:
        """Return the value of an expression."""
        if node is None:
            return NOTHING
        self._left -= 1
        if self._left < 0:
            raise TooLarge
        method = getattr(self, f"_eval_{type(node).__name__}", None)
        if method is not None:
            return method(node)
        return join(
            *(self.eval(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))
        )

    def _eval_Constant(self, node: ast.Constant) -> Value:
        return Value(texts=frozenset({node.value})) if isinstance(node.value, str) and node.value else NOTHING

    def _eval_Name(self, node: ast.Name) -> Value:
        if (names.names_patient(node.id) or names.names_frames(node.id)) and isinstance(node.ctx, ast.Load):
            self.words[node.id].append((node.lineno, "name"))
        known = node.id in self.env or node.id in self.imports or node.id in self.functions
        if known or not (names.DATA.match(node.id) or names.LOADED.match(node.id)):
            return self.env.get(node.id, NOTHING)
        # Read elsewhere, such as in another file: data all the same.
        return self._unknown(node.id, node)

    def _unknown(self, name: str, node: Located) -> Value:
        root = Value(frozenset({f"name {name}"}), frozenset({ALL}), flags=frozenset({"fresh"}))
        return self._named(name, root, node)

    def _eval_Attribute(self, node: ast.Attribute) -> Value:
        key = syntax.key(node)
        if key is not None and key in self.env:
            return self.env[key]
        base = self.eval(node.value)
        if base.roots:
            self._word(node.attr, node, "key")
            if names.names_patient(node.attr):
                return base.data().having(Mark("patients", node.lineno))
            if node.attr in ("iloc", "loc", "at", "iat"):
                return base
            part = names.part_of_name(node.attr)
            if part and base.parts <= {ALL}:
                return replace(base.data(), parts=frozenset({part}))
        if base.kinds & {"StandardScaler"}:
            return NOTHING
        return base

    def _eval_Subscript(self, node: ast.Subscript) -> Value:
        base, index = self.eval(node.value), self.eval(node.slice)
        self._words_in(node.slice, "key")
        if (
            base.items is not None
            and isinstance(node.slice, ast.Constant)
            and isinstance(node.slice.value, int)
        ):
            place = node.slice.value
            return base.items[place] if -len(base.items) <= place < len(base.items) else base
        value = replace(base, items=None)
        if not value.roots:
            # A choice among constants: thresholds[best].
            return join(value, replace(index, texts=frozenset()))
        constants = (part.value for part in ast.walk(node.slice) if isinstance(part, ast.Constant))
        words = {value for value in constants if isinstance(value, str)}
        if any(names.names_patient(word) for word in words):
            value = value.having(Mark("patients", node.lineno))
        part = names.part_of_name(next(iter(words))) if len(words) == 1 else None
        if part and value.parts <= {ALL} and isinstance(node.slice, ast.Constant):
            return replace(value.data(), parts=frozenset({part}), flags=frozenset({"fresh"}))
        if index.parts and not index.parts <= {ALL}:
            # Rows by the indices of a part.
            inside = value.parts <= {ALL} or index.parts & {"fold"}
            parts = index.parts if inside and index.roots else value.parts
            value = replace(
                value, parts=parts, marks=value.marks | index.marks, roots=value.roots | index.roots
            )
        elif index.marked("correlation"):
            mark = index.marked("correlation")[0]
            value = value.having(Mark("selection", mark.line, mark.parts, mark.roots))
        elif index.marked("chosen"):
            value = join(value, index)
        if isinstance(
            node.slice,
            ast.Slice | ast.Subscript | ast.Compare | ast.UnaryOp | ast.BinOp | ast.Name | ast.Call,
        ):
            value = replace(value, flags=value.flags | {"subset"})
        if isinstance(node.slice, ast.Tuple) and isinstance(node.slice.elts[0], ast.Slice):
            first = node.slice.elts[0]
            if first.lower is not None or first.upper is not None:
                value = replace(value, flags=value.flags | {"subset"})
        return value

    def _eval_Tuple(self, node: ast.Tuple) -> Value:
        items = tuple(self.eval(item) for item in node.elts)
        return replace(join(*items), items=items) if items else NOTHING

    _eval_List = _eval_Tuple

    def _eval_Starred(self, node: ast.Starred) -> Value:
        return self.eval(node.value)

    def _eval_Lambda(self, node: ast.Lambda) -> Value:
        return NOTHING

    def _eval_BinOp(self, node: ast.BinOp) -> Value:
        left, right = self.eval(node.left), self.eval(node.right)
        if isinstance(node.op, ast.Add) and left.items and right.items:
            items = left.items + right.items
            return replace(join(*items), items=items)
        return join(self._scaled(node, left, right), left, right)

    def _scaled(self, node: ast.AST, left: Value, right: Value) -> Value:
        """Notice data that is shifted or divided by a statistic of the same data."""
        operator = getattr(node, "op", None)
        if not isinstance(operator, ast.Sub | ast.Div) or not left.roots:
            return NOTHING
        for mark in right.marked("aggregate"):
            if mark.roots & left.roots and not left.marked("aggregate"):
                return left.data().having(Mark("scaling", mark.line, mark.parts, mark.roots))
        return NOTHING

    def _eval_Compare(self, node: ast.Compare) -> Value:
        values = [self.eval(node.left), *(self.eval(other) for other in node.comparators)]
        data = [value for value in values if value.roots]
        for chosen in values:
            for mark in chosen.marked("chosen"):
                others = [value for value in data if value is not chosen and value.marked("prediction")]
                if others and mark.parts == frozenset({"test"}) == join(*others).parts:
                    self._note("use", node, chosen, "threshold", chosen=mark)
        return join(*values)

    def _eval_NamedExpr(self, node: ast.NamedExpr) -> Value:
        value = self.eval(node.value)
        self.bind(node.target, value, node)
        return value

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Value:
        kept, kind = dict(self.env), "batches"
        target: set[str] = set()
        for generator in node.generators:
            over = self.eval(generator.iter)
            kind = "batches" if over.roots else "settings"
            target |= {name.id for name in ast.walk(generator.target) if isinstance(name, ast.Name)}
            self.bind(
                generator.target, replace(over, flags=over.flags | {"element"}) if over.roots else over, node
            )
            for condition in generator.ifs:
                self.eval(condition)
        self._loops.append((kind, frozenset(target)))
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        value = join(*(self.eval(part) for part in parts))
        self._loops.pop()
        self.env = kept
        return replace(value, flags=value.flags - {"element"}, items=None)

    _eval_ListComp = _eval_SetComp = _eval_GeneratorExp = _eval_DictComp = _comprehension

    def _eval_Dict(self, node: ast.Dict) -> Value:
        values = [self.eval(value) for value in node.values]
        return join(*(replace(value, items=None) for value in values))
