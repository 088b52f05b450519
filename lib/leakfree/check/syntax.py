"""Small questions about syntax that the interpreter asks."""

from __future__ import annotations

import ast

from leakfree.check import names


def key(node: ast.expr) -> str | None:
    """Return the name of a variable or attribute: ``x``, ``self.x``; None for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := key(node.value)) is not None:
        return f"{base}.{node.attr}"
    return None


def receiver(node: ast.Call) -> ast.expr:
    """Return what a method is called on."""
    assert isinstance(node.func, ast.Attribute)
    return node.func.value


def of_groups(node: ast.expr) -> bool:
    """Tell whether what is split are patients, videos or slides themselves: by its name, or made unique."""
    if isinstance(node, ast.Name):
        return names.names_patient(node.id) or names.names_container(node.id)
    words = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    words |= {
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    }
    words |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
    grouping = any(names.names_patient(word) or names.names_container(word) for word in words)
    return grouping and bool(
        words & {"unique", "set", "keys", "drop_duplicates", "groupby", "glob", "listdir"}
    )


def trains(node: ast.AST) -> bool:
    """Tell whether a loop trains by itself: a step of an optimiser, or a function that is named so."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call):
            name = part.func.attr if isinstance(part.func, ast.Attribute) else getattr(part.func, "id", "")
            if name in ("backward", "step", "train_on_batch", "partial_fit") or name.startswith("train_"):
                return True
    return False


def builds(node: ast.AST) -> bool:
    """Tell whether a loop makes its model anew in every round."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr == "fit":
            return True
    return False


def always(node: ast.expr) -> bool | None:
    """Tell whether a condition of constants holds, such as ``"pca" == "svm"``; None for any other."""
    if isinstance(node, ast.Constant):
        return bool(node.value)
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq | ast.NotEq):
        sides = (node.left, node.comparators[0])
        if all(isinstance(side, ast.Constant) for side in sides):
            same = sides[0].value == sides[1].value  # type: ignore[attr-defined]
            return same is isinstance(node.ops[0], ast.Eq)
    return None


def constants(node: ast.expr) -> bool:
    """Tell whether an expression is a constant, or a list of constants."""
    return isinstance(node, ast.Constant | ast.List | ast.Tuple) and all(
        isinstance(part, ast.Constant) for part in getattr(node, "elts", [node])
    )


def over_rows(node: ast.Call) -> bool:
    """Tell whether a statistic runs over the rows: no axis, or the first."""
    axes = [word.value for word in node.keywords if word.arg == "axis"]
    if not axes:
        return True
    values = [part.value for part in ast.walk(axes[0]) if isinstance(part, ast.Constant)]
    return 0 in values or None in values


def drops_columns(node: ast.Call) -> bool:
    """Tell whether a call of ``drop`` drops columns, not rows."""
    for word in node.keywords:
        if word.arg == "columns" or (
            word.arg == "axis" and getattr(word.value, "value", 0) in (1, "columns")
        ):
            return True
    return len(node.args) > 1 and getattr(node.args[1], "value", 0) == 1
