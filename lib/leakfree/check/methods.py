"""The value of a method: of models and transformers, of loaders, folds, arrays and frames."""

from __future__ import annotations

import ast
from dataclasses import replace

from leakfree.check import names, syntax
from leakfree.check.state import State
from leakfree.check.values import ALL, NOTHING, Mark, Value, join

_PREDICTS = (
    "predict",
    "predict_proba",
    "decision_function",
    "predict_log_proba",
    "forward",
    "predict_classes",
)
_SCORES = ("score", "evaluate", "evaluate_generator")
_FITS = (
    "fit", "partial_fit", "fit_transform", "fit_predict", "fit_resample", "fit_sample", "adapt",
    "fit_on_texts",
    "fit_generator", "train_on_batch", "train", "search",
)  # fmt: skip
_AGGREGATES = (
    "mean",
    "std",
    "min",
    "max",
    "median",
    "quantile",
    "var",
    "mode",
    "percentile",
    "ptp",
    "corr",
    "corrwith",
)


class Methods(State):
    """Evaluates calls of methods; part of `leakfree.check.flow.Flow`."""

    def _method(
        self, node: ast.Call, last: str, args: list[Value], keywords: dict[str, Value]
    ) -> Value | None:
        """Return what a method gives; None where the call is that of a function in a module."""
        base_node = syntax.receiver(node)
        key = syntax.key(base_node)
        if key in self.imports and key not in self.env:
            return None
        base = self.eval(base_node)
        if key == "self" or (key in self.env and f"{next(iter(base.kinds), '')}.{last}" in self.functions):
            owner = next((name for name in self.functions if name.endswith(f".{last}")), None)
            if owner is not None:
                return self._enter(owner, self.functions[owner], args, keywords)
        named = (keywords[word] for word in ("X", "x", "generator") if word in keywords)
        first = args[0] if args else next(named, NOTHING)
        every = [*args, *keywords.values()]
        if last.startswith("flow_from_"):
            # Keras: images of a folder, or of the rows of a table.
            given = join(*every)
            read = given.data() if given.roots else self._source(node, last, given)
            return replace(read, flags=read.flags | {"loader"})
        if last in _FITS:
            if first.roots:
                return self._fit(node, last, base, first, args, keywords)
            if last == "train" or not base.roots:
                return base
        if last in ("transform", "texts_to_sequences", "texts_to_matrix") and first.roots:
            return self._transformed(node, base, first)
        if last in _PREDICTS and (base.objs or first.roots):
            mark = Mark("prediction", node.lineno, first.parts, first.roots, base.objs)
            if not first.roots:
                return NOTHING
            self._note("predict", node, first, last)
            return first.data().having(mark)
        if last in _SCORES and first.roots:
            self._note("score", node, replace(first, objs=base.objs), last)
            return Value(
                first.roots,
                first.parts,
                frozenset({Mark("metric", node.lineno, first.parts, first.roots, base.objs)}),
            )
        if last == "split" and base.kinds & {*names.PLAIN_FOLDS, *names.GROUP_FOLDS}:
            return self._folds(node, base, args, keywords)
        if last == "train_test_split" and base.roots:
            self._note("split", node, base, last, shuffles=True, keywords=keywords)
            return replace(base.data(), flags=frozenset({"fresh"}))
        if last == "step" and "ReduceLROnPlateau" in base.kinds and first.parts == frozenset({"test"}):
            self._note("choose", node, first, "ReduceLROnPlateau", loop=("epochs", frozenset()), saved=True)
        if last == "backward" and base.roots:
            objs = frozenset().union(*(mark.objs for mark in base.marked("prediction")))
            self._note("fit", node, base, "backward", model=Value(objs=objs), first=base)
            return NOTHING
        fills = last in ("append", "extend", "add", "update", "insert", "appendleft")
        if fills and key is not None and not (base.objs and not base.roots):
            value = join(*(replace(value, flags=value.flags - {"element"}, items=None) for value in every))
            if names.names_frames(key) and not value.roots:
                value = Value(frozenset({key}), frozenset({ALL}), frozenset({Mark("frames", node.lineno)}))
            mixed = value.marked("augmentation")
            before = self.env.get(key, NOTHING)
            value = join(replace(before, items=None), value)
            if mixed:
                value = value.having(replace(mixed[0], kind="augmented rows"))
            self.env[key] = value
            return NOTHING
        if not base.roots:
            if base.objs:
                # A method of an object that is not understood, with data: what it gives comes from that data.
                together = join(*(value.data() for value in every))
                if "augment" in last.lower() and together.roots:
                    return together.having(Mark("augmentation", node.lineno, together.parts, together.roots))
                if together.roots:
                    return together
                return (
                    replace(base, texts=frozenset())
                    if last in ("to", "cuda", "cpu", "eval", "double", "float", "compile")
                    else base
                )
            if base.marked("chosen", "metric"):
                return join(base, *every)
            return None
        return self._of_data(node, last, base, args, keywords)

    def _of_data(
        self, node: ast.Call, last: str, base: Value, args: list[Value], keywords: dict[str, Value]
    ) -> Value:
        base = replace(base, items=None)
        if last == "dropna":
            whole = base.having(Mark("complete", node.lineno))
            if any(word.arg == "inplace" for word in node.keywords):
                self._changed(syntax.receiver(node), whole)
            return whole
        if last == "fillna" and base.marked("complete"):
            return base
        if last == "fillna":
            learned = [mark for value in [*args, *keywords.values()] for mark in value.marked("aggregate")]
            filled = base
            if learned:
                filled = base.having(Mark("imputation", learned[0].line, learned[0].parts, learned[0].roots))
                if any(word.arg == "inplace" for word in node.keywords):
                    self._changed(syntax.receiver(node), filled)
            return filled
        if last in _AGGREGATES and "element" not in base.flags and syntax.over_rows(node):
            kind = "correlation" if last.startswith("corr") else "aggregate"
            return base.data().having(Mark(kind, node.lineno, base.parts, base.roots))
        if last in names.CHOOSES:
            return self._chosen(node, base)
        if last == "drop_duplicates":
            value = base.having(Mark("deduplication", node.lineno, base.parts, base.roots))
            self._note("dedup", node, base, last)
            if any(word.arg == "inplace" for word in node.keywords):
                self._changed(syntax.receiver(node), value)
            return value
        if last == "sample" and any(
            word.arg == "replace" and getattr(word.value, "value", None) is True for word in node.keywords
        ):
            return base.having(Mark("resampling", node.lineno, base.parts, base.roots))
        if last == "flow" and base.objs:
            return join(base, *args)
        if last in ("groupby", "unique", "nunique", "value_counts"):
            value = join(base, *(value for value in args if value.roots))
            if any(names.names_patient(text) for arg in args for text in arg.texts):
                self.words["groupby patient"].append((node.lineno, "several"))
                return value.having(Mark("patients", node.lineno))
            if base.marked("patients") and last != "groupby":
                self.words["unique patient"].append((node.lineno, "several"))
            words = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
            if any(isinstance(word, str) and names.names_container(word) for word in words):
                return value.having(Mark("patients", node.lineno))
            return value
        if last in names.SUBSETS and not (last == "drop" and syntax.drops_columns(node)):
            value = join(base, *(value for value in args if value.roots))
            return replace(value, parts=base.parts, flags=frozenset({"subset"}) | (base.flags & {"element"}))
        if last in (
            "copy",
            "reset_index",
            "to_numpy",
            "astype",
            "shuffle",
            "batch",
            "prefetch",
            "cache",
            "repeat",
            "to",
            "cuda",
            "numpy",
            "drop",
            "clone",
            "detach",
            "item",
            "map",
            "sort_values",
            "set_index",
            "dropna",
        ):
            return base
        return replace(
            join(base, *(value.data() for value in [*args, *keywords.values()])),
            flags=base.flags & {"element"},
        )

    def _changed(self, place: ast.expr, value: Value) -> None:
        """Change an object in place, and the frame behind its column."""
        while isinstance(place, ast.Subscript | ast.Attribute) and syntax.key(place) not in self.env:
            place = place.value
        if (key := syntax.key(place)) is not None and key in self.env:
            self.env[key] = join(self.env[key], value)

    def _fit(
        self,
        node: ast.Call,
        last: str,
        base: Value,
        first: Value,
        args: list[Value],
        keywords: dict[str, Value],
    ) -> Value:
        kinds = [names.LEARNS[kind] for kind in sorted(base.kinds) if kind in names.LEARNS]
        oversamples = bool(base.kinds & set(names.OVERSAMPLES)) and last in (
            "fit_resample",
            "fit_sample",
            "fit",
        )
        for obj in base.objs:
            self.fits[obj].append(first)
        transformer = (bool(kinds) and len(base.objs) == 1) or oversamples
        searched = sorted(base.kinds & set(names.SEARCHES))
        if searched and first.roots:
            self._note("split", node, first, searched[0], shuffles=True, keywords=keywords, folds=base)
        self._note(
            "fit", node, first, last, model=base, first=first, keywords=keywords, transformer=transformer,
            arguments=args,
        )  # fmt: skip
        if "validation_split" in keywords or any(word.arg == "validation_split" for word in node.keywords):
            self._note("split", node, first, "validation_split", shuffles=False, keywords=keywords)
        if oversamples:
            mark = Mark("resampling", node.lineno, first.parts, first.roots)
            changed = [value.data().having(mark) for value in args if value.roots]
            return replace(join(*changed), items=tuple(changed) if len(changed) > 1 else None)
        if last in ("fit_transform",) or (transformer and last == "fit_predict"):
            value = first.data()
            for kind in kinds:
                value = value.having(Mark(kind, node.lineno, first.parts, first.roots))
            return replace(value, flags=value.flags - {"fresh", "subset", "split"})
        return base

    def _transformed(self, node: ast.Call, base: Value, first: Value) -> Value:
        value = first.data()
        kinds = [names.LEARNS[kind] for kind in sorted(base.kinds) if kind in names.LEARNS]
        for obj in base.objs:
            for fitted in self.fits[obj][-1:]:
                for kind in kinds:
                    value = value.having(Mark(kind, node.lineno, fitted.parts, fitted.roots))
                self._note("transform", node, first, "transform", fitted=fitted, kinds=kinds, model=base)
        return replace(value, flags=first.flags & {"element"})

    def _folds(self, node: ast.Call, base: Value, args: list[Value], keywords: dict[str, Value]) -> Value:
        data = join(*(value.data() for value in args[:1]))
        if not data.roots:
            data = replace(data, roots=frozenset({id(node)}), parts=frozenset({ALL}))
        self._note(
            "split",
            node,
            data,
            sorted(base.kinds)[0],
            shuffles=True,
            keywords=keywords,
            folds=base,
            arguments=args,
            grouped=any(syntax.of_groups(arg) for arg in node.args[:1]),
        )
        inside = data.parts & {"train"}
        train = Value(data.roots, frozenset({"train"}), flags=frozenset({"element"}))
        fold = Value(data.roots, frozenset({"fold"} if not inside else {"val"}), flags=frozenset({"element"}))
        return Value(
            data.roots, frozenset({"train", "fold"}), kinds=frozenset({"folds"}), items=(train, fold)
        )
