"""The value of a call: the program's own functions are entered, those of libraries known by name."""

from __future__ import annotations

import ast
from dataclasses import replace

from leakfree.check import names, syntax
from leakfree.check.state import State
from leakfree.check.values import ALL, NOTHING, Mark, Value, join

#: Calls inside one another that are followed.
_DEPTH = 6


class Calls(State):
    """Evaluates calls of functions and classes; part of `leakfree.check.flow.Flow`."""

    def _eval_Call(self, node: ast.Call) -> Value:
        name = self._callee(node.func)
        last = name.rsplit(".", 1)[-1]
        dropping = last == "drop"
        self._drops += dropping
        args = [self.eval(arg) for arg in node.args]
        keywords = {word.arg or "**": self.eval(word.value) for word in node.keywords}
        self._drops -= dropping
        for arg in [*node.args, *(word.value for word in node.keywords if word.arg != "data")]:
            self._words_in(arg, "drop" if dropping else "key")
        if isinstance(node.func, ast.Attribute):
            method = self._method(node, last, args, keywords)
            if method is not None:
                return method
        elif isinstance(node.func, ast.Name) and node.func.id in self.functions:
            return self._enter(node.func.id, self.functions[node.func.id], args, keywords)
        called = (
            self.eval(node.func)
            if not isinstance(node.func, ast.Name)
            else self.env.get(node.func.id, NOTHING)
        )
        if called.objs and args and not (isinstance(node.func, ast.Attribute) and last in self.imports):
            return self._object_called(node, called, args, keywords)
        return self._function(node, name, last, args, keywords)

    def _callee(self, func: ast.expr) -> str:
        """Return the dotted name of what is called, by its import."""
        if isinstance(func, ast.Name):
            return self.imports.get(func.id, func.id)
        if isinstance(func, ast.Attribute):
            before = self._callee(func.value)
            return f"{before}.{func.attr}" if before else func.attr
        return ""

    def _enter(
        self, name: str, function: ast.FunctionDef, args: list[Value], keywords: dict[str, Value]
    ) -> Value:
        """Run a local function with these arguments; unknown ones are data only by their names."""
        first = name not in self._called
        self._called.add(name)
        if name in self._calls or len(self._calls) >= _DEPTH:
            return join(*args, *keywords.values()).data()
        given = [*function.args.posonlyargs, *function.args.args]
        if "." in name and given and given[0].arg in ("self", "cls"):
            given = given[1:]
        outer, self.env = self.env, dict(self.env)
        # Only a function that nobody calls is met without arguments.
        unknown = not args and not keywords and first
        for place, parameter in enumerate([*given, *function.args.kwonlyargs]):
            value = args[place] if place < len(args) else keywords.get(parameter.arg, NOTHING)
            if (
                value is NOTHING
                and unknown
                and parameter.arg.lower() in ("model", "net", "network", "classifier")
            ):
                value = self._object(parameter, parameter.arg)
            elif (
                value is NOTHING
                and unknown
                and (names.part_of_name(parameter.arg) or names.DATA.match(parameter.arg))
            ):
                value = self._unknown(parameter.arg, parameter)
            self.env[parameter.arg] = value
        self._calls.append(name)
        self._returns.append([])
        self.run(function.body)
        found = self._returns.pop()
        self._calls.pop()
        self.env = outer
        if len(found) == 1:
            return found[0]
        tuples = [value.items for value in found if value.items]
        if tuples and len({len(items) for items in tuples}) == 1 and len(tuples) == len(found):
            items = tuple(join(*values) for values in zip(*tuples, strict=True))
            return replace(join(*found), items=items)
        return join(*found)

    def _object(self, node: ast.AST, kind: str) -> Value:
        obj = (id(node), *self._calls)
        self.made.setdefault(obj, len(self._loops))
        return Value(objs=frozenset({obj}), kinds=frozenset({kind}))

    def _object_called(
        self, node: ast.Call, called: Value, args: list[Value], keywords: dict[str, Value]
    ) -> Value:
        """Return the predictions of a model; note a stopper of training that is shown a test score."""
        first = args[0]
        if called.kinds & {"EarlyStopping", "EarlyStopper"} and first.parts == frozenset({"test"}):
            self._note("choose", node, first, "EarlyStopping", loop=("epochs", frozenset()), saved=True)
        data = join(*(value.data() for value in [*args, *keywords.values()]))
        if "augment" in " ".join(called.kinds).lower() and data.roots:
            return data.having(Mark("augmentation", node.lineno, data.parts, data.roots))
        return (
            data.having(Mark("prediction", node.lineno, data.parts, data.roots, called.objs))
            if data.roots
            else data
        )

    def _function(
        self, node: ast.Call, name: str, last: str, args: list[Value], keywords: dict[str, Value]
    ) -> Value:
        """Return what a function or class gives that is not the program's own."""
        every = [*args, *keywords.values()]
        together = join(*(replace(value, items=None) for value in every))
        data = together.data()
        first = args[0] if args else next(iter(keywords.values()), NOTHING)
        if last in names.SPLITS_ROWS:
            return self._split_rows(node, last, args, keywords)
        if last in names.CROSS_VALIDATES:
            self._cross_validated(node, last, args, keywords)
            return data.having(Mark("metric", node.lineno, frozenset({"fold"})))
        if (last == "resample" and "signal" not in name) or (last in ("repeat", "tile") and first.roots):
            return (
                first.data().having(Mark("resampling", node.lineno, first.parts, first.roots))
                if first.roots
                else data
            )
        if last in (
            "enumerate",
            "tqdm",
            "trange",
            "list",
            "iter",
            "array",
            "asarray",
            "progress_bar",
            "track",
        ):
            if last == "enumerate" and args:
                return replace(args[0], items=(NOTHING, args[0])) if not args[0].items else args[0]
            return args[0] if args else NOTHING
        if last == "zip" and args:
            return replace(data, items=tuple(args))
        if last in names.METRICS:
            self._note("score", node, together.data(), last)
            models = frozenset().union(*(mark.objs for mark in together.marked("prediction")))
            mark = Mark("metric", node.lineno, together.parts, together.roots, models)
            value = data.having(mark)
            return replace(value, items=(value, value, value)) if last.endswith("_curve") else value
        if (last in names.CHOOSES and not isinstance(node.func, ast.Attribute)) or last.startswith(
            ("arg", "nanarg")
        ):
            if len(args) > 1 and any(not value.roots for value in args[:2]) and last in ("max", "min"):
                return data  # a bound, such as max(score, 0)
            return self._chosen(node, join(first, *args[1:]))
        if last in names.LEARNS and last[0].islower() and first.roots:
            return first.data().having(Mark(names.LEARNS[last], node.lineno, first.parts, first.roots))
        if last in names.AUGMENTS and first.roots:
            return data.having(Mark("augmentation", node.lineno, data.parts, data.roots))
        if "augment" in last.lower() and data.roots:
            return data.having(Mark("augmented rows", node.lineno, data.parts, data.roots))
        if (
            last in ("concatenate", "concat", "vstack", "append", "cat", "stack", "ConcatDataset")
            and data.roots
        ):
            pieces = first.items or tuple(args)
            some = [mark for piece in pieces for mark in piece.marked("augmentation")]
            plain = [piece for piece in pieces if piece.roots and not piece.marked("augmentation")]
            if some and plain:
                return data.having(Mark("augmented rows", some[0].line, data.parts, data.roots))
            if name == "pandas.concat":
                # These frames are tables.
                data = replace(data, marks=data.marks - set(data.marked("frames")))
            return data
        if last in ("mean", "std", "median", "average") and first.roots and syntax.over_rows(node):
            return data.having(Mark("aggregate", node.lineno, first.parts, first.roots))
        if last in ("DataLoader", "Subset", "SubsetRandomSampler", "WeightedRandomSampler"):
            return self._loader(last, args, keywords)
        if last.endswith("Pool") or last in ("DMatrix", "TensorDataset", "from_tensor_slices"):
            return replace(data, flags=frozenset())
        is_class = last[:1].isupper() or last in ("make_pipeline", "make_imb_pipeline", "clone")
        if names.SOURCES.match(last) and last not in names.NOT_SOURCES and not data.roots:
            return self._source(node, last, together)
        if last in self.classes and (data.roots or "Dataset" in last):
            if data.roots:
                return replace(data, flags=data.flags | ({"subset"} if len(every) > 1 else set()))
            return self._source(node, last, together)
        if is_class:
            for value in every:
                for mark in value.marked("chosen"):
                    if mark.parts == frozenset({"test"}):
                        self._note("use", node, value, "settings", chosen=mark)
        if data.roots and not (is_class and last in names.LEARNS):
            return data if not is_class or not together.objs else together
        made = self._object(node, last)
        objs = made.objs
        if any(word.arg == "early_stopping_rounds" for word in node.keywords):
            made = replace(made, kinds=made.kinds | {"early_stopping"})
        inner = together.objs if last in ("make_pipeline", "Pipeline", "clone", "deepcopy") else frozenset()
        if last in ("clone", "deepcopy"):
            return Value(objs=objs, kinds=together.kinds | {last})
        searched = together.objs if last in names.SEARCHES else frozenset()
        return Value(
            objs=objs | inner if not searched else objs,
            kinds=made.kinds | (together.kinds if inner else frozenset()),
            marks=frozenset(together.marked("chosen")),
            texts=together.texts,
        )

    def _source(self, node: ast.Call, last: str, given: Value) -> Value:
        part = names.part_of_path(given.texts)
        for word in node.keywords:
            value = getattr(word.value, "value", None)
            if word.arg == "train" and isinstance(value, bool):
                part = "train" if value else "test"
            if word.arg in ("subset", "split") and isinstance(value, str):
                part = names.part_of_name(value)
                if word.arg == "subset" and part:
                    # Keras: a share of the images of one folder.
                    whole = Value(frozenset({"|".join(sorted(given.texts - {value}))}), frozenset({ALL}))
                    self._note("split", node, whole, "validation_split")
        marks = {Mark("frames", node.lineno)} if last == "VideoCapture" else set()
        root = frozenset({id(node)})
        flags = frozenset({"fresh"})
        parts = frozenset({part or ALL})
        value = Value(root, parts, frozenset(marks), flags=flags, texts=given.texts)
        if last == "load_data" and any("datasets" in part for part in self.imports.values()):
            # Keras: (x_train, y_train), (x_test, y_test).
            pair = [replace(value, parts=frozenset({part})) for part in ("train", "test")]
            return replace(value, items=tuple(replace(one, items=(one, one)) for one in pair))
        return value

    def _loader(self, last: str, args: list[Value], keywords: dict[str, Value]) -> Value:
        base = args[0] if args else keywords.get("dataset", NOTHING)
        rows = keywords.get("sampler", args[1] if last == "Subset" and len(args) > 1 else NOTHING)
        rows = (
            rows if rows is not NOTHING else keywords.get("batch_sampler", keywords.get("indices", NOTHING))
        )
        if last == "SubsetRandomSampler":
            return base
        if rows.roots and not rows.parts <= {ALL}:
            return replace(
                base.data(), parts=rows.parts, roots=base.roots | rows.roots, marks=base.marks | rows.marks
            )
        flags = frozenset({"subset"}) if last == "Subset" else (base.flags & {"fresh"}) | {"loader"}
        return replace(base.data(), flags=flags)

    def _split_rows(self, node: ast.Call, last: str, args: list[Value], keywords: dict[str, Value]) -> Value:
        """Return the parts of a split, and note it."""
        rows = [value for value in args if value.roots or not value.texts]
        if last != "train_test_split":
            rows = rows[:1]
        shuffles = not any(
            word.arg == "shuffle" and getattr(word.value, "value", None) is False for word in node.keywords
        )
        whole = join(*(value.data() for value in rows))
        if not whole.roots:
            # Such as a range of numbers, or what a function gave that is not known.
            whole = replace(whole, roots=frozenset({id(node)}), parts=frozenset({ALL}))
            rows = [whole for _ in rows] or [whole]
        grouped = any(syntax.of_groups(arg) for arg in node.args[:1])
        self._note("split", node, whole, last, shuffles=shuffles, keywords=keywords, grouped=grouped)
        items = []
        names_of = ("train", "test") if last != "random_split" else ("train", "val", "test")
        if last == "random_split":
            sizes = node.args[1] if len(node.args) > 1 else None
            count = len(sizes.elts) if isinstance(sizes, ast.List | ast.Tuple) else 2
            names_of = ("train", "val", "test") if count == 3 else ("train", "test")
        for value in rows:
            value = value if value.roots else replace(value, roots=whole.roots, parts=whole.parts)
            for part in names_of:
                kept = value.parts - {ALL}
                parts = (
                    kept if kept == {"test"} else frozenset({part if not kept or part == "train" else "val"})
                )
                flags = frozenset({"split"}) | (value.flags & {"element"})
                # Which part it is is told by its place; a name that tells it takes the mark away.
                marks = value.marks | {Mark("by place", node.lineno)}
                items.append(replace(value.data(), parts=parts, flags=flags, marks=marks))
        return replace(join(*items), items=tuple(items), flags=frozenset({"split"}))

    def _cross_validated(
        self, node: ast.Call, last: str, args: list[Value], keywords: dict[str, Value]
    ) -> None:
        data = keywords.get("X", args[1] if len(args) > 1 else NOTHING)
        folds = keywords.get("cv", NOTHING)
        model = keywords.get("estimator", args[0] if args else NOTHING)
        if data.roots and "FrozenEstimator" not in model.kinds:
            more = {"keywords": keywords, "shuffles": True, "folds": folds}
            self._note("split", node, data, last, **more)

    def _chosen(self, node: ast.Call, value: Value) -> Value:
        marks = value.marked("metric")
        if not marks:
            return value
        parts = frozenset().union(*(mark.parts for mark in marks))
        objs = frozenset().union(*(mark.objs for mark in marks))
        if len(objs) > 1 and not self._loops:
            self._note("best", node, value, "", chosen=Mark("chosen", node.lineno, parts, value.roots, objs))
        return value.having(Mark("chosen", node.lineno, parts, value.roots, objs))
