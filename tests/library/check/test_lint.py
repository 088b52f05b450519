"""Twins get opposite verdicts, notebooks are read as they ran, and what is not seen is said."""

import json
import os
import warnings

import nbformat
import pytest

from leakfree.check.lint import lint, lint_source
from leakfree.check.rules import RULES
from leakfree.check.source import SourceUnreadable, read_source
from leakfree.cli import main
from linter_twins import CONFUSED, NOTEBOOKS, TWINS

PAIRS = [
    pytest.param(*twins, id=f"{kind}, {style}")
    for kind, styles in TWINS.items()
    for style, twins in styles.items()
]
PAIRS += [pytest.param(*twins, id=kind) for kind, twins in CONFUSED.items()]
CELLS = [
    pytest.param(*twins, id=f"{kind}, {style}")
    for kind, styles in NOTEBOOKS.items()
    for style, twins in styles.items()
]
LEAK = """import pandas as pd
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
df = pd.read_csv("data.csv")
X = StandardScaler().fit_transform(df)
train, test = train_test_split(X)
"""


@pytest.fixture
def script(tmp_path):
    def write(text, name="train.py"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def notebook(tmp_path):
    """A function that writes cells, each with its execution count, as a notebook."""

    def write(*cells, name="train.ipynb"):
        book = nbformat.v4.new_notebook()
        for count, text in cells:
            book.cells.append(nbformat.v4.new_code_cell(text, execution_count=count))
        path = tmp_path / name
        nbformat.write(book, path)
        return path

    return write


def rules(path):
    return [finding.rule for finding in lint(path).findings]


@pytest.mark.parametrize(("rule", "leaky", "clean"), PAIRS)
def test_twins_get_opposite_verdicts(script, rule, leaky, clean):
    assert rule in rules(script(leaky)), "the leak is not found"
    assert rules(script(clean)) == [], "the clean twin is blamed"


@pytest.mark.parametrize(("rule", "leaky", "clean"), CELLS)
def test_the_three_kinds_of_yang_are_followed_through_functions_loops_order_and_magics(
    notebook, rule, leaky, clean
):
    assert rule in rules(notebook(*leaky)), "the leak is not found"
    assert rules(notebook(*clean)) == [], "the clean twin is blamed"


def test_there_are_enough_kinds_and_styles():
    assert len(TWINS) >= 15 and all(len(styles) >= 2 for styles in TWINS.values())
    assert set(NOTEBOOKS) == {"overlap", "preprocessing", "multi-test"}
    assert all(len(styles) >= 4 for styles in NOTEBOOKS.values())
    assert {rule for styles in TWINS.values() for rule, _, _ in styles.values()} >= set(RULES) - {
        "target-encoding"
    }


def test_every_finding_has_its_line_and_its_rule(script):
    (finding,) = lint(script(LEAK)).findings
    assert (finding.rule, finding.line, finding.cell) == ("scaling", 5, 0)
    assert "line 6" in finding.message and finding.where.endswith("train.py:5")


def test_a_notebook_is_read_cell_by_cell_with_magics_as_no_hindrance(notebook):
    lines = LEAK.splitlines()
    path = notebook(
        (1, "%matplotlib inline\n!pip install something\n" + "\n".join(lines[:4])),
        (2, f"%%time\n{lines[4]}"),
        (3, "%%bash\nif then fi"),
        (4, lines[5]),
    )
    found = lint(path)
    assert [(one.rule, one.cell, one.line) for one in found.findings] == [("scaling", 2, 2)]
    assert "cell 4, line 1" in found.findings[0].message
    assert any(line.startswith("4 magics") for line in found.unseen)


def test_cells_are_read_in_the_order_in_which_they_ran(notebook):
    start, scaled, split = (
        LEAK.rpartition("X = ")[0],
        "X = StandardScaler().fit_transform(df)",
        "train, test = train_test_split(X)",
    )
    assert rules(notebook((1, start), (3, split), (2, scaled))) == ["scaling"]
    assert any(
        "from top to bottom" in line for line in lint(notebook((1, start), (3, split), (2, scaled))).unseen
    )
    clean = "train, test = train_test_split(df)\ns = StandardScaler()\ntrain = s.fit_transform(train)"
    assert rules(notebook((1, start), (2, clean))) == []


def test_a_cell_that_is_no_python_is_said_and_the_others_are_read(notebook):
    found = lint(notebook((1, LEAK), (2, "this is no python")))
    assert [one.rule for one in found.findings] == ["scaling"]
    assert any(line.startswith("cell 2: ") for line in found.unseen)


def test_what_python_or_a_notebook_warns_of_is_no_output(notebook):
    path = notebook((1, LEAK + 'pattern = "\\d+"\n'))
    book = json.loads(path.read_text())
    del book["cells"][0]["id"]
    path.write_text(json.dumps(book))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert rules(path) == ["scaling"]
    assert told == []


def test_a_function_is_entered_where_it_is_called(script):
    text = LEAK.replace("X = StandardScaler().fit_transform(df)", "X = prepared(df)")
    text = text.replace("df = pd", "def prepared(x):\n    return StandardScaler().fit_transform(x)\ndf = pd")
    assert rules(script(text)) == ["scaling"]
    assert rules(script(text.replace("prepared(df)", "df"))) == []


def test_code_without_a_split_says_that_there_was_nothing_to_check(script):
    found = lint(script("import pandas as pd\ndf = pd.read_csv('a.csv')\nprint(df.mean())\n"))
    assert found.findings == () and any("no split" in line for line in found.unseen)


@pytest.mark.parametrize(
    "text",
    [
        "from x import *\nwhile True:\n    y = f(y)\n",
        "def f(x):\n    return f(f(x))\nf(1)\n",
        "class A:\n    def g(self):\n        return self.g()\nA().g()\n",
        "match x:\n    case [a, *b]:\n        pass\n",
        "async def f():\n    async with a as b:\n        async for c in b:\n            await c\n",
        "x = [*a, *b]\n(p, *q), r = s\nx[0], y.z = 1, 2\nlambda: (yield)\n",
        "".join(f"f{i} = lambda x: x\n" for i in range(500)),
        "x = " + "(" * 80 + "1" + ")" * 80,
        "",
    ],
)
def test_any_python_is_read_without_a_fault(script, text):
    lint(script(text))


def test_a_program_too_large_is_not_called_clean(script):
    text = "def f0(x):\n    return x\n"
    text += "".join(
        f"def f{i}(x):\n    return [f{i - 1}(x) for a in x] + f{i - 1}(x) * f{i - 1}(x)\n"
        for i in range(1, 9)
    )
    deep = "".join("for a in b:\n".rjust(12 + i * 1) for i in range(14)) + " " * 14 + "f7(1)\n"
    found = lint_source(read_source(script(text + deep)))
    assert found.findings == () and any("nothing was checked" in line for line in found.unseen)


def book_of(**cell):
    """A notebook of one cell, valid or not."""
    one = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": 1, **cell}
    made = {"nbformat": 4, "nbformat_minor": 4, "metadata": {"kernelspec": 3}, "cells": [one]}
    return json.dumps(made).encode()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.py", b"def (", "not Python that can be parsed"),
        ("a.py", b"\x00\x01", "not Python"),
        ("a.py", b"# coding: nowhere\n", "not Python"),
        ("a.ipynb", b"{}", "not a notebook"),
        ("a.ipynb", b"\xff\xfe", "not a notebook"),
        ("a.py", b"# coding: hex\n41\n", "not Python"),
        ("a.py", b"x = " + b"-" * 20_000 + b"1\n", "not Python that can be parsed: nested too deep"),
        ("a.ipynb", b"[" * 100_000, "not a notebook"),
        ("a.ipynb", b'{"nbformat": 4, "nbformat_minor": 4, "cells": [3]}', "not a notebook"),
        (
            "a.ipynb",
            b'{"nbformat": 4, "nbformat_minor": 4, "cells": [{"cell_type": "code", "source": "def ("}]}',
            "not a notebook",
        ),
        ("a.ipynb", book_of(source=3), "not a notebook: a cell whose source is no text"),
        ("a.ipynb", book_of(source="def ("), "no cell is Python that can be parsed: cell 1"),
        (
            "a.ipynb",
            book_of(source="x = " + "-" * 20_000 + "1"),
            "no cell is Python that can be parsed: cell 1",
        ),
    ],
)
def test_what_is_no_program_is_one_line_and_code_2(tmp_path, capsys, caplog, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceUnreadable, match=reason):
        lint(tmp_path / name)
    assert main(["check", str(tmp_path / name)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and reason in err and "Traceback" not in err
    assert not caplog.records


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_among_scripts_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.py")
    with pytest.raises(SourceUnreadable, match="not a regular file"):
        lint(tmp_path / "a.py")


def test_the_command_reads_folders_and_its_code_says_what_was_found(script, notebook, tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 2 and "no script or notebook" in capsys.readouterr().err
    clean = script("print(1)\n", "clean.py")
    assert main(["check", str(clean)]) == 0
    script(LEAK), notebook((1, LEAK))
    assert main(["check", str(tmp_path), "--json", str(tmp_path / "out.json")]) == 1
    said = capsys.readouterr().out
    assert "train.py:5: warning: scaling" in said and "train.ipynb:cell 1:5: warning: scaling" in said
    assert "What to do:" in said and "leakfree audit" in said
    assert len(json.loads((tmp_path / "out.json").read_text())["files"]) == 3


def test_a_note_does_not_fail(script):
    rule, leaky, _ = TWINS["several models on one test part"]["scikit-learn"]
    assert rule == "multi-test" and main(["check", str(script(leaky)), "--quiet"]) == 0


def test_a_comment_lets_one_rule_pass_with_its_reason(script, capsys):
    text = LEAK.replace("transform(df)", "transform(df)  # leakfree: ignore[scaling] labels are not used")
    assert main(["check", str(script(text))]) == 0
    assert "Let pass by a comment: 1." in capsys.readouterr().out
    assert lint(script(text)).findings[0].accepted == "labels are not used"
    assert main(["check", str(script(text.replace("[scaling]", "[groups]"))), "--quiet"]) == 1
