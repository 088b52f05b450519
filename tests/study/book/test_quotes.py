"""Numbers that prose quotes: looked up by name, once each, and refused where the run is not clear."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from leakfree_study.book.quotes import QUOTES, Quotes
from leakfree_study.book.quoting import NOT_MEASURED, PREREGISTRATION, SEALED, Lookup, Quote, QuoteError
from leakfree_study.inflation.preregistration import preregistration

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = ROOT / "artifacts" / "chest_xray"
SCORES = """\
task,model,seed,selected,estimate,low,high,n_images,note
binary,a,42,False,0.9684,0.9544,0.9801,5216.000000,
binary,b,42,True,0.98119,0.97,0.99,784,x
binary,b,ensemble,False,-0.00001,,,1,y
three-class,a,42,True,0.5,0.4,0.6,784,b
"""


@pytest.fixture
def look(tmp_path):
    """Return a function that looks up one quote in a small run."""
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "t.csv").write_text(SCORES)
    (tmp_path / "provenance.json").write_text(json.dumps({"data": {"name": "phantom", "images": 1200}}))

    def _look(form: str, source: str = "t", **more: object):
        others = {"chosen": Quote("t", "{model}", {"task": "binary", "selected": "True"})}
        return Lookup(tmp_path, {"q": Quote(source, form, **more), **others})["q"]

    return _look


ONE = {"task": "binary", "model": "a"}


@pytest.mark.parametrize(
    ("form", "more", "text"),
    [
        ("{estimate:.3f} ({low:.3f} to {high:.3f})", {"where": ONE}, "0.968 (0.954 to 0.980)"),
        ("{n_images:,d}", {"where": ONE}, "5,216"),
        ("{estimate:.0 %}", {"where": ONE}, "97 %"),
        ("{estimate:.1 %}", {"where": ONE}, "96.8 %"),
        ("{model} on {task}", {"where": ONE}, "a on binary"),
        ("{estimate:.1f}", {"where": ONE, "times": 100}, "96.8"),
        ("{estimate:+z.3f}", {"where": {"seed": "ensemble"}}, "+0.000"),
        ("{n_images.sum:,d}", {}, "6,785"),
        ("{rows}", {"where": {"seed": 42}}, "3"),
        ("{rows:,d}", {"where": {"seed": 7}, "absent": NOT_MEASURED}, "0"),
        ("{rows}", {"where": {"model": ("a", "b"), "task": "binary"}}, "3"),
        ("{rows}", {"keep": lambda rows: rows["note"] != ""}, "3"),
        ("{rows}", {"where": {"task": "binary"}, "keep": lambda rows: rows["note"] == "x"}, "1"),
        ("{estimate.min:.2f} to {estimate.max:.2f}", {"where": {"seed": 42}}, "0.50 to 0.98"),
        ("{estimate.absmax:.2f}", {}, "0.98"),
        ("{n_images.sum/n_images.max:.3f}", {}, "1.301"),
        ("{model} {n_images}", {"pick": ("max", "estimate")}, "b 784"),
        ("{model}", {"pick": ("min", "estimate")}, "b"),
        ("{n_images:d}", {"where": {"task": "binary"}, "model_of": "chosen"}, "784"),
        ("{task}", {"where": ONE, "words": {"binary": "normal or not", "*": "other"}}, "normal or not"),
        ("{model}", {"where": ONE, "words": {"binary": "normal or not", "*": "other"}}, "other"),
    ],
)
def test_a_quote_is_written_by_its_form(look, form, more, text):
    assert look(form, **more).text == text


def test_a_json_file_is_one_row_and_its_key_the_place(look):
    found = look("{data.images:,d}", "provenance.json")
    assert (found.text, found.title) == ("1,200", "provenance.json, data.images")


def test_what_was_decided_before_is_the_file_that_the_study_reads():
    before = preregistration()
    quotes = Quotes(PUBLISHED)
    assert float(quotes["margin_auc"].text) == before.margins["roc_auc"]
    assert float(quotes["margin_f1"].text) == before.margins["macro_f1"]
    assert quotes["margin_auc"].file == PREREGISTRATION


@pytest.mark.parametrize(
    ("form", "more", "reason"),
    [
        ("{estimate:.3f}", {"where": {"task": "binary"}}, "3 rows of tables/t.csv match, lines 2, 3, 4"),
        ("{estimate:.3f}", {"where": {"task": "etiology"}}, "no row of tables/t.csv matches"),
        ("{estimate:.3f}", {"source": "other"}, "tables/other.csv is missing"),
        ("{score:.3f}", {"where": ONE}, "no column 'score'"),
        ("{score.max:.3f}", {}, "no column 'score.max'"),
        ("{estimate}", {"where": {"taks": "binary"}}, "no column 'taks'"),
        ("{estimate}", {"keep": lambda rows: rows["taks"] == ""}, "no column 'taks'"),
        ("{estimate}", {"pick": ("max", "score")}, "no column 'score'"),
        ("{estimate:d}", {"where": ONE}, "0.9684 is no whole number"),
        ("{low:.3f}", {"where": {"seed": "ensemble"}}, "the cell is empty"),
        ("{note:.3f}", {"where": {"seed": "ensemble"}}, "could not convert string to float: 'y'"),
    ],
)
def test_what_is_not_one_number_is_refused_with_the_reason(look, form, more, reason):
    with pytest.raises(QuoteError, match=re.escape(f"quote q: {reason}")):
        look(form, **more)


def test_a_tie_is_no_largest(look):
    with pytest.raises(QuoteError, match=r"2 rows of tables/t\.csv match, lines 3, 5"):
        look("{model}", where={"seed": 42, "selected": "True"}, pick=("max", "n_images"))


@pytest.mark.parametrize(
    ("form", "more", "absent"),
    [
        ("{estimate:.3f}", {"where": {"task": "etiology"}}, True),
        ("{estimate:.3f}", {"source": "05_official"}, True),
        ("{low:.3f}", {"where": {"seed": "ensemble"}}, True),
        ("{estimate:.3f}", {"where": ONE}, False),
    ],
)
def test_what_a_run_lacks_is_said_where_that_is_allowed(look, form, more, absent):
    found = look(form, absent=SEALED, **more)
    assert (found.text == SEALED, found.present) == (absent, not absent)


@pytest.mark.parametrize(
    ("form", "more"),
    [
        ("{estimate:.3f}", {"where": {"task": "binary"}}),
        ("{score}", {"where": ONE}),
        ("{model:d}", {"where": ONE}),
    ],
)
def test_what_is_allowed_to_be_absent_is_not_allowed_to_be_ambiguous_or_wrong(look, form, more):
    with pytest.raises(QuoteError, match="quote q: "):
        look(form, absent=NOT_MEASURED, **more)


def test_an_unknown_name_is_an_error_that_says_the_nearest():
    with pytest.raises(
        QuoteError, match="no quote is named 'siblings_larges'; did you mean 'siblings_largest'"
    ):
        Quotes(PUBLISHED)["siblings_larges"]


def test_no_two_names_give_the_same_cell_of_the_published_run():
    seen: dict[tuple, str] = {}
    quotes = Quotes(PUBLISHED)
    for name in quotes:
        for cell in quotes[name].cells:
            assert seen.setdefault(cell, name) == name, f"{name} and {seen[cell]} both give {cell}"
    assert len(seen) > len(quotes)


def test_the_published_run_has_every_quote():
    quotes = Quotes(PUBLISHED)
    assert [name for name in quotes if not quotes[name].present or "nan" in quotes[name].text] == []
    assert [name for name in quotes if not (PUBLISHED / quotes[name].file).is_file()] == [
        name for name in quotes if QUOTES[name].source == PREREGISTRATION
    ]


def test_the_line_of_a_quote_is_that_of_the_file():
    found = Quotes(PUBLISHED)["siblings_largest"]
    line = int(re.search(r"line (\d+)", found.where)[1])
    text = (PUBLISHED / found.file).read_text(encoding="utf-8").splitlines()[line - 1]
    estimate = float(found.text.split()[0])
    assert text.startswith("siblings,")
    assert any(
        round(float(cell), 3) == estimate for cell in text.split(",") if re.fullmatch(r"-?[\d.]+", cell)
    )


def test_a_bare_run_says_what_it_lacks_but_knows_what_it_is(tmp_path):
    (tmp_path / "provenance.json").write_text('{"data": {"name": "mine", "images": 9}}')
    quotes = Quotes(tmp_path)
    present = {name for name in quotes if quotes[name].present}
    assert present == {"cohort", "n_images", "margin_auc", "margin_f1", "draws_cells", "draws_networks"}
    assert quotes["cohort"].text == "mine"
    with pytest.raises(QuoteError, match=r"quote cohort: provenance\.json is missing"):
        Quotes(tmp_path / "nowhere")["cohort"]


def test_a_damaged_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "provenance.json").write_text("{")
    with pytest.raises(QuoteError, match=r"provenance\.json cannot be read"):
        Quotes(tmp_path)["cohort"]


# The book's role and directive.


@pytest.fixture
def build(tmp_path, monkeypatch, capsys):
    """Return a function that builds one page as the book does, for a run of one table; (output, html).

    In this process, since importing Sphinx takes longer than building a page.
    """
    from sphinx.cmd.build import build_main

    monkeypatch.delenv("LEAKFREE_REPOSITORY", raising=False)
    run = tmp_path / "run"
    (run / "tables").mkdir(parents=True)
    (run / "tables" / "01_scopes.csv").write_text(
        "scope,patients,share\nseries,3654,0.423\nperson,2846,0.660\nmerged,2635,\n"
    )
    (run / "provenance.json").write_text('{"data": {"name": "mine", "images": 9}}')
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'book' / '_ext')!r})\n"
        "extensions = ['myst_parser', 'quote_role']\n"
    )

    (source / "index.md").write_text("# Start\n\n```{toctree}\nsub/page\n```\n")

    def _build(text: str | None = None):
        if text is not None:
            (source / "sub" / "page.md").write_text(f"# Page\n\n{text}\n")
        monkeypatch.setenv("LEAKFREE_RUN", str(run))
        capsys.readouterr()
        code = build_main(["-W", "-n", "--keep-going", "--no-color", str(source), str(tmp_path / "o")])
        done = SimpleNamespace(returncode=code, stderr=capsys.readouterr().err)
        page = tmp_path / "o" / "sub" / "page.html"
        return done, page.read_text(encoding="utf-8") if page.is_file() else ""

    _build.run = run
    return _build


def test_a_page_shows_quotes_with_their_tables_and_the_columns_that_are_asked_for(build):
    done, html = build(
        "Of {quote}`patients_series` in {quote}`n_images`, {quote}`siblings_largest`.\n\n"
        "```{run-table} 01_scopes\n:where: {scope: [series, merged]}\n:caption: Who is *one*?\n"
        'scope: "{scope}"\npatients: "{patients:,d}"\nshare: "{share:.0 %}"\n```\n\n'
        '```{run-table} 02_none\nscope: "{scope}"\n```'
    )
    assert done.returncode == 0, done.stderr
    # A quote leads to its table and says the row.
    link = re.search(r'<a class="[^"]*\bquote\b[^"]*" href="([^"]*)" title="([^"]*)">(?:<span>)?3,654<', html)
    assert link.groups() == ("../tables/01_scopes.csv", "tables/01_scopes.csv, line 2 (series)")
    assert 'href="../provenance.json"' in html
    assert re.search(rf'<span class="quote absent">{NOT_MEASURED}</span>', html)
    cells = re.findall(r"<t[hd][^>]*><p>([^<]*)</p></t[hd]>", html)
    assert cells == ["scope", "patients", "share", "series", "3,654", "42 %", "merged", "2,635", ""]
    assert re.search(r'Who is <em>one</em>\? From <a[^>]*href="../tables/01_scopes\.csv"', html)
    # A table that the run lacks says so.
    assert f"02_none: {NOT_MEASURED}." in html


def test_a_page_names_files_of_the_run_and_modules_with_links_where_there_is_something(build):
    done, html = build("{run-file}`tables/01_scopes.csv`, {run-file}`tables/x.csv`, {module}`leakfree.cli`")
    assert done.returncode == 0, done.stderr
    links = re.findall(r'<a class="reference internal" href="([^"]*)"><code[^>]*>', html)
    assert links == ["../tables/01_scopes.csv", "../api/cli.html#module-leakfree.cli"]
    assert "tables/x.csv" in html


def test_a_new_number_of_the_run_is_a_new_page(build):
    assert ">3,654<" in build("Of {quote}`patients_series`.")[1]
    table = build.run / "tables" / "01_scopes.csv"
    table.write_text(table.read_text().replace("3654", "3655"))
    os.utime(table, (1, 1))
    done, html = build()
    assert done.returncode == 0, done.stderr
    assert ">3,655<" in html
    assert ">3,654<" not in html


def test_each_unknown_name_and_each_wrong_table_is_a_warning_which_fails_the_build(build):
    wrong = {
        "Of {module}`leakfree.nothing`.": "no module 'leakfree.nothing'",
        "Of {quote}`patients_serie`.": "no quote is named 'patients_serie'; did you mean",
        '```{run-table} 01_scopes\nscope: "{scoop}"\n```': "run-table 01_scopes: no column 'scoop'",
        "```{run-table} 01_scopes\nonly words\n```": "run-table 01_scopes: the body must say",
        '```{run-table} 01_scopes\n:where: {scop: series}\nscope: "{scope}"\n```': (
            "run-table 01_scopes: no column 'scop'"
        ),
    }
    done, _ = build("\n\n".join(wrong))
    assert done.returncode != 0
    line = 3
    for text, reason in wrong.items():
        assert f"page.md:{line}: WARNING: {reason}" in done.stderr
        line += text.count("\n") + 2


def test_verdicts_are_more_than_comparisons_as_limitations_says():
    quotes = Quotes(PUBLISHED)
    judged = pd.read_csv(PUBLISHED / "tables" / "inflation.csv").query("primary")
    assert len(judged) == int(quotes["verdicts_judged"].text)
    full = judged["dose"] == 1
    assert (full & (judged["metric"] == "roc_auc")).sum() == int(quotes["n_comparisons"].text)
    assert set(judged[full & (judged["metric"] != "roc_auc")]["protocol"]) == {"threshold"}
    assert set(judged[~full]["metric"]) == {"roc_auc"}
