"""Names that attack stand in every field that a user can set, and in all that is written they are text."""

import ast
import base64
import io
import json
import re
import sys
from types import SimpleNamespace
from typing import ClassVar
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from IPython.display import Markdown
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser
from nbformat import v4, write
from PIL import Image

from deferred import deferred
from hostile import (
    EVERY,
    IMAGE,
    OUT_OF_CODE,
    PRINTABLE,
    PWNED,
    TEMPLATE,
    UNPRINTABLE,
    attacks,
    controls,
    read_page,
)

with deferred:
    import matplotlib as mpl

    from leakfree.audit.checks.findings import CHECKS, Check, Report
    from leakfree.audit.report import load_json, print_report, write_html, write_json, write_junit
    from leakfree.base.escape import markdown, one_line
    from leakfree.cli import main
    from leakfree.data.study_file import OwnStudy, StudyFileError, parse_study, study_text
    from leakfree.predict.classifier import Answer
    from leakfree.predict.predict_files import FORMATS, Row, report_unusable
    from leakfree_study.book.own_book import stage
    from leakfree_study.compendium import new
    from leakfree_study.compendium.study import parse
    from leakfree_study.figures import model_plots
    from leakfree_study.figures import plots as figures
    from leakfree_study.figures.plots import Entry
    from leakfree_study.figures.tables import styled
    from leakfree_study.networks.model_card import model_card
    from leakfree_study.run.config import NOTEBOOKS
    from leakfree_study.run.shown import ShownFigure

LABELS = PRINTABLE[:20]
TITLE = " ".join(PRINTABLE)


def study_of(**changed):
    """A study whose every text is an attack."""
    half = len(LABELS) // 2
    entries = {
        "name": "study",
        "title": TITLE,
        "data": IMAGE,
        "csv": {"file": TEMPLATE, "path": PRINTABLE[2], "label": PRINTABLE[3], "part": PRINTABLE[4]},
        "labels": LABELS,
        "leave_out": PRINTABLE[20:],
        "tasks": {"all": {a: (a,) for a in LABELS}, "two": {IMAGE: LABELS[:half], TEMPLATE: LABELS[half:]}},
        "patients": {"column": PRINTABLE[5]},
        "parts": {"train": PRINTABLE[6], "test": OUT_OF_CODE},
        "image": "photo",
        "credit": TITLE,
    }
    return OwnStudy(**entries | changed)


def check_named(name, status="FAIL"):
    return Check(
        name, status, f"Found in {name}: {' '.join(EVERY)}", " ".join(EVERY), len(EVERY), EVERY, "leak",
        (EVERY,), {"groups": [list(EVERY)], TEMPLATE: {IMAGE: list(EVERY)}},
    )  # fmt: skip


@pytest.fixture(scope="module")
def report():
    """A report with every name in every place."""
    problems = tuple({"file": name, "reason": f"unreadable: {name}"} for name in EVERY)
    return Report(
        " ".join(EVERY), dict.fromkeys(EVERY, 3), {name: check_named(name) for name in CHECKS},
        problems=problems, unchecked=EVERY, settings={"a": list(EVERY)}, provenance=dict.fromkeys(EVERY, "b"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder whose tables, record and notebooks hold the names in every column of text."""
    folder = tmp_path_factory.mktemp("hostile") / "run"
    (folder / "tables").mkdir(parents=True)

    def table(name, rows):
        pd.DataFrame(rows).to_csv(folder / "tables" / f"{name}.csv", index=False)

    printable = [name for name in EVERY if name != "\ud800"]
    score = {"seed": 42, "selected": True, "estimate": 0.9, "low": 0.8, "high": 0.95}
    table("01_classes", [{"part": name, "label": name, "images": 12} for name in printable])
    table("02_audit", [
        {"split": split, "check": name, "status": "FAIL", "count": 1, "summary": name}
        for split in PRINTABLE[:3] for name in printable
    ])  # fmt: skip
    table("02_overlap", [
        {"scope": "patient", "split": name, "seeds": 5, "shared": 1.5, "shared_min": 1, "shared_max": 2}
        for name in printable
    ])  # fmt: skip
    named = [score | {"task": n, "model": n, "protocol": n, "metric": "roc_auc"} for n in printable]
    for name in ("03_scores", "04_scores", "05_scores"):
        table(name, named)
    leaks = {"primary": True, "dose": 1.0, "protocol": "siblings"}
    table("inflation", [row | leaks for row in named])
    cohort = pd.DataFrame({"image_id": printable, "label": printable, "part": "train", "subject": printable})
    cohort.to_csv(folder / "cohort.csv", index=False)
    problems = [{"file": " ".join(EVERY), "reason": " ".join(EVERY)}]
    about = {"problems": problems, "study": study_of().model_dump(mode="json")}
    (folder / "cohort.json").write_text(json.dumps(about), encoding="utf-8")
    notebooks = {name: {"outputs": {"tables/01_classes.csv": "a"}} for name in NOTEBOOKS}
    settings = {"settings": {"profile": OUT_OF_CODE}, "notebooks": notebooks}
    (folder / "provenance.json").write_text(json.dumps(settings), encoding="utf-8")
    write_notebooks(folder)
    return folder


def write_notebooks(folder):
    """Write executed notebooks that show names in sentences, tables and figures, as those of the study do."""
    (folder / "notebooks").mkdir()
    (folder / "figures").mkdir()
    picture = folder / "figures" / "01_classes.png"
    Image.new("L", (8, 8)).save(picture)
    entry = {"caption": TITLE, "alt": TITLE, "source": "notebooks/01_exploration.ipynb"}
    entry["files"] = [picture.name]
    (folder / "figures" / "index.json").write_text(json.dumps({"01_classes": entry}), encoding="utf-8")
    frame = pd.DataFrame({IMAGE: EVERY, TEMPLATE: EVERY})
    sentence = f"Cohort **{markdown(TITLE)}**: " + ", ".join(f"3 {markdown(name)}" for name in EVERY)
    shown = [
        {"text/markdown": Markdown(sentence).data},
        {"text/html": styled(frame).to_html()},
        {"text/html": frame.head(20).to_html()},
        {"text/html": ShownFigure(picture, TITLE, TITLE)._repr_html_()},
    ]
    for name in NOTEBOOKS:
        outputs = [v4.new_output("display_data", data=data) for data in shown]
        code = v4.new_code_cell(f"data = {json.dumps(TITLE)}", execution_count=1, outputs=outputs)
        language = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
        notebook = v4.new_notebook(
            metadata=language, cells=[v4.new_markdown_cell(f"# Notebook {name}"), code]
        )
        write(notebook, folder / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def pages(run, tmp_path, repository):
    """The Markdown pages that are written for a study, by name."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "_config.yml").write_bytes((repository / "book" / "_config.yml").read_bytes())
    stage(source, run, study_of())
    return {path.name: path.read_text(encoding="utf-8") for path in source.glob("*.md")}


def test_the_book_runs_no_template(repository):
    config = yaml.safe_load((repository / "book" / "_config.yml").read_text(encoding="utf-8"))
    assert "substitution" not in config["parse"]["myst_enable_extensions"]


def rendered(text):
    config = MdParserConfig(enable_extensions={"colon_fence", "deflist"})
    # What stands in the box of the landing page is read as the rest; this reader takes it for code.
    text = re.sub(r"^:::(\{admonition\} The cohort\n:class: note)?$", "", text, flags=re.MULTILINE)
    return create_md_parser(config, RendererHTML).render(text)


def shows(text, name):
    return " ".join(one_line(name).split()) in text


@settings(max_examples=20, deadline=None)
@example("\xa0", "\x85")
@given(st.text(st.characters(codec="utf-8"), min_size=1), st.sampled_from(EVERY[:-1]))
def test_a_study_file_says_what_was_meant(text, name):
    for part in (text, name, f"{name}{text}"):
        made = study_of(data=part, parts={"train": part, "test": "other"}, patients={"column": part})
        assert parse_study(study_text(made)) == made
    made = study_of()
    assert parse_study(study_text(made)) == made and yaml.safe_load(study_text(made))["title"] == made.title


@pytest.mark.parametrize("name", [name for name in UNPRINTABLE if "\n" not in name])
def test_titles_credits_and_classes_can_be_shown(name):
    wrong = [{"title": f"a{name}b"}, {"credit": f"a{name}b"}, {"labels": (name, *LABELS)}]
    wrong.append({"tasks": {"two": {name: LABELS[:1], "b": LABELS[1:2]}}})
    for entry in wrong:
        with pytest.raises(ValueError) as caught:
            study_of(**entry)
        assert name not in str(caught.value)


def test_a_title_of_several_lines_is_one():
    assert study_of(title="One\ntitle\n").title == "One title"


def test_a_wrong_study_file_is_told_in_one_line(tmp_path, capsys):
    file = tmp_path / "study.yaml"
    file.write_text(json.dumps({"\x1b[2J\n": 1, **study_of().model_dump(mode="json")}), encoding="utf-8")
    assert main(["audit", str(tmp_path / "\x1b[2J\n")]) == 2
    with pytest.raises(StudyFileError):
        parse_study(file.read_text(encoding="utf-8"))
    told = capsys.readouterr()
    assert not controls(told.out + told.err) and told.err.count("\n") == 1


def test_pages_of_a_book_show_names_as_text(pages):
    _, intro = read_page(rendered(pages["intro.md"]))
    elements, limits = read_page(rendered(pages["limits.md"]))
    for page in pages.values():
        html = rendered(page)
        assert not attacks(html) and not controls(page)
        assert {tag for tag, _ in read_page(html)[0]} <= {
            "h1", "h2", "p", "a", "strong", "code", "pre", "ul", "li", "dl", "dt", "dd",
            "table", "thead", "tbody", "tr", "th", "td",
        }  # fmt: skip
    assert [tag for tag, _ in elements].count("code") == 1
    for name in EVERY:
        assert shows(limits, name), name
        assert name == "\ud800" or shows(intro, name), name
    links = [about["href"] for tag, about in read_page(rendered(pages["intro.md"]))[0] if tag == "a"]
    assert all(re.fullmatch(r"(run/\w+\.ipynb|limits\.md|words\.md)", link) for link in links), links


def test_a_readme_shows_names_as_text(tmp_path, report):
    table = pd.DataFrame({"image_id": EVERY, "label": EVERY, "part": "train", "subject": EVERY})
    started = new.Started(tmp_path / TEMPLATE / "study.yaml", study_of(), report, EVERY)
    text = new._readme(started, table)
    elements, said = read_page(rendered(text))
    assert not attacks(rendered(text)) and not controls(text)
    assert {"img", "script", "svg", "em", "strong", "a"}.isdisjoint(tag for tag, _ in elements)
    assert all(shows(said, name) for name in EVERY)


def test_a_model_card_shows_classes_as_text(tmp_path):
    described = {
        "model": "net", "task": "two", "classes": list(PRINTABLE), "image_size": 96, "scale": "grey",
        "mean": 0.4, "std": 0.2, "weights": "net.safetensors", "weights_sha256": "a" * 64,
        "initial_weights": "scratch", "manifest_hash": "m", "seed": 42, "epoch": 7,
    }  # fmt: skip
    row = {"task": "two", "model": "net", "seed": 42, "part": "internal", "metric": "roc_auc", "low": 0.8,
           "high": 0.9, "estimate": 0.85, "n_images": 9, "n_patients": 9}  # fmt: skip
    tables = {
        "scores": [row],
        "calibration_error": [row | {"when": when, "ece": 0.1} for when in ("before", "after")],
        "coverage": [row | {"group": name, "coverage": 0.9} for name in PRINTABLE],
        "hidden": [row | {"hidden": hidden} for hidden in ("nothing", "centre")],
        "hidden_probe": [row | {"hidden": hidden} for hidden in ("nothing", "centre")],
        "novelty": [row | {"kind": name, "group": name, "warned": 0.5} for name in PRINTABLE],
    }
    for folder in ("models", "manifests", "tables"):
        (tmp_path / folder).mkdir()
    (tmp_path / "models" / "preprocessing.json").write_text(json.dumps(described), encoding="utf-8")
    manifest = {"hash": "m", "scope": "patient", "seed": 1, "parts": {"train": ["x"]}}
    (tmp_path / "manifests" / "05-a.json").write_text(json.dumps(manifest), encoding="utf-8")
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(tmp_path / "tables" / f"05_{name}.csv", index=False)
    page = rendered(model_card(tmp_path, study_of()))
    elements, text = read_page(page)
    assert not attacks(page) and {"img", "script", "svg", "em"}.isdisjoint(tag for tag, _ in elements)
    for name in set(PRINTABLE) - {"null", "nan"}:  # which are no text in a table
        assert text.count(" ".join(name.split())) >= 3, name


def test_a_report_shows_names_as_text(report, tmp_path, capsys):
    page = write_html(report, tmp_path / "a.html", lambda name: None, str).read_text(encoding="utf-8")
    _, text = read_page(page)
    assert not attacks(page) and not controls(page) and all(shows(text, name) for name in EVERY)
    assert load_json(write_json(report, tmp_path / "a.json")).checks["patients"].files == EVERY
    text = write_junit(report, tmp_path / "a.xml").read_text(encoding="utf-8")
    assert not controls(text) and len(ElementTree.fromstring(text)) > len(CHECKS)
    print_report(report, sys.stdout)
    assert not controls(capsys.readouterr().out)


class Model:
    """What writing answers asks of a model."""

    names = PRINTABLE
    about: ClassVar = {"name": "net", "weights_sha256": "a" * 64, "preprocessing": "1", "files_checked": "no"}
    calibrated = SimpleNamespace(conformal=None)


def test_predictions_show_names_as_text(capsys):
    answers = [
        Answer(name, 0.9, dict.fromkeys(PRINTABLE, 0.1), (name,), 0.9, None, None, None, ())
        for name in PRINTABLE
    ]
    rows = [Row(name, answer) for name, answer in zip(EVERY, answers, strict=False)]
    rows += [Row(name, None, name) for name in EVERY]
    table = FORMATS["table"](rows, Model)
    assert not controls(table) and all(one_line(name) in table for name in EVERY)
    cells = pd.read_csv(io.StringIO(FORMATS["csv"](rows, Model)), dtype=str, keep_default_na=False)
    texts = cells[["file", "diagnosis", "prediction_set", "error"]].to_numpy().ravel().tolist()
    assert not [text for text in texts if text.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert "./=HYPERLINK(1)" in texts and "'=HYPERLINK(1)" in texts
    said = json.loads(FORMATS["json"](rows, Model))["predictions"]
    assert [entry["file"] for entry in said] == [row.file for row in rows]
    for name in EVERY:
        report_unusable([Row(name, None, name)], 0)
    told = capsys.readouterr().err
    assert not controls(told) and told.count("\n") == len(EVERY)


def test_a_terminal_gets_no_control_character_of_a_table(tmp_path, capsys, monkeypatch):
    (tmp_path / "a\x1b[2J.png").write_bytes(b"no image")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for kind in FORMATS:
        assert main(["predict", str(tmp_path), "--format", kind, "--quiet"]) == 2
        told = capsys.readouterr()
        assert not controls(told.out + told.err) and "2J.png" in told.out


def test_commands_refuse_a_name_in_one_line(tmp_path, capsys):
    for name in UNPRINTABLE[:-1]:
        missing = str(tmp_path / name)
        assert main(["predict", missing]) == main(["new", missing]) == main(["verify", missing]) == 2
        with pytest.raises(SystemExit):
            parse(["--parameter", name])
        told = capsys.readouterr()
        assert not controls(told.out + told.err), name


def test_figures_show_names_as_they_are(tmp_path):
    figures.use_style()
    formula = next(name for name in PRINTABLE if name.startswith("$"))
    names = (formula, TEMPLATE, "\\", "😀 𝕏 漢")
    counts = pd.DataFrame({"part": "train", "label": names, "images": 3})
    pixels = [np.zeros((8, 8), dtype=np.uint8)] * len(names)
    matrix = pd.DataFrame(np.eye(len(names), dtype=int), names, names)
    with mpl.rc_context({"figure.dpi": 30}):
        drawn = [
            figures.class_bars(counts, title=formula),
            figures.confusion_matrix(matrix, title=IMAGE),
            figures.contact_sheet(pixels, names, credit=f"{formula} {IMAGE}", title=formula),
            figures.images_per_patient({name: [1, 2] for name in names}),
            model_plots.heat_panels(pixels, np.zeros((len(names), 8, 8)), names, credit=formula, title=IMAGE),
        ]
        for figure in drawn:
            figure.draw_without_rendering()
        path = figures.save(drawn[2], tmp_path, "sheet", Entry(caption=IMAGE, alt=IMAGE, source="a.ipynb"))
    if path.suffix == ".svg":
        ElementTree.parse(path)


SENTENCES = {
    "Cohort **": ("01_exploration", {}),
    "carry no identifier": (
        "01_exploration",
        {
            "missing": pd.Series([True]),
            "share": pd.DataFrame({"label": PRINTABLE, "images_without_identifier": 1, "share": 0.5}),
        },
    ),
    "official.leak_or_shift": ("05_leakfree_deep", {"told": " ".join(EVERY)}),
}


class Some(tuple):
    """A cohort of no images."""

    name, problems, checksum = TITLE, (), "a" * 64


@pytest.mark.parametrize("words", SENTENCES)
def test_sentences_of_notebooks_show_names_as_text(repository, words):
    name, values = SENTENCES[words]
    cells = json.loads((repository / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    (source,) = ("".join(c["source"]) for c in cells if words in "".join(c["source"]) and "outputs" in c)
    said = ast.Expression(ast.parse(source).body[-1].value)
    known = {"Markdown": Markdown, "markdown": markdown, "development": Some(), "cohort": Some()}
    page = rendered(eval(compile(said, name, "eval"), known | values).data)
    elements, text = read_page(page)
    assert (
        {tag for tag, _ in elements} <= {"p", "strong", "code"}
        and shows(text, IMAGE)
        and shows(text, TEMPLATE)
    )
    assert [tag for tag, _ in elements].count("strong") == ("**" in words)


def test_a_figure_shows_its_texts_as_text(tmp_path):
    path = tmp_path / "a.png"
    Image.new("L", (4, 4)).save(path)
    page = ShownFigure(path, " ".join(EVERY), " ".join(EVERY))._repr_html_()
    elements, text = read_page(page)
    assert [tag for tag, _ in elements] == ["figure", "img", "figcaption"] and not attacks(page)
    assert elements[1][1]["alt"] == one_line(" ".join(EVERY)) and not controls(page)
    assert base64.b64decode(elements[1][1]["src"].split(",")[1]) == path.read_bytes()
    assert shows(text, " ".join(EVERY)) and not controls(repr(ShownFigure(path, " ".join(EVERY), "a")))


@pytest.mark.slow
def test_a_built_book_shows_names_as_text(run, repository, monkeypatch, tmp_path):
    from leakfree_study.book.build import build

    monkeypatch.chdir(tmp_path)
    book = build(run, repository).parent
    pages = sorted(book.rglob("*.html"))
    assert len(pages) >= 12
    for path in pages:
        page = path.read_text(encoding="utf-8")
        # What every page has: scripts of the theme with an address or of its own making.
        assert not attacks(page), path.name
        assert not [tag for tag, _ in read_page(page)[0] if tag == "svg"], path.name
        scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, re.DOTALL)
        assert "alert(1)" not in "".join(scripts), path.name
        if path.name == "intro.html" or path.parent.name == "run":
            text = read_page(page)[1]
            assert all(shows(text, name) for name in EVERY[:-1]), path.name
    titles = json.loads((book / "searchindex.js").read_text("utf-8")[len("Search.setIndex(") : -1])
    assert not [title for title in (*titles["alltitles"], *titles["titles"]) if attacks(title)]
    assert any("&lt;img" in title for title in titles["alltitles"])
    assert not [path for folder in (tmp_path, run, repository) for path in folder.rglob(f"{PWNED}*")]
