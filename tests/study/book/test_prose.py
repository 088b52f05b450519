"""Prose: no number is typed where a run could say it, and files that show numbers agree with the run."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from leakfree_study.book.findings import FINDINGS, found
from leakfree_study.book.prose import main, renew
from leakfree_study.book.quotes import QUOTES, Quotes
from leakfree_study.book.quoting import QuoteError

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = ROOT / "artifacts" / "chest_xray"
PAGES = (
    *("intro", "identity", "methods", "limitations", "audit", "service", "own_training_loop", "detectors"),
    "after_a_finding",
    "estimate",
    "inflation_design",
    "glossary",
    "fooled",
    "cite",
    "cohorts",
    *("cluster", "references", "reforms", "model_info_sheet"),
)
#: Numbers that pages may type, and why; every one must stand there.
ALLOWED = {
    "intro": {
        "80/20": "a kind of split",
        "95 %": "level of all intervals",
        "0.5 is guessing": "a definition",
        "Zoomed by 1.2": "a setting",
        "zooms of 0.8 to 1.3": "a setting",
        "1 is perfect": "a definition",
    },
    "identity": {"80/20": "a kind of split"},
    "methods": {
        "90 %": "name of a metric",
        "95 %": "level of all intervals",
        "5 %": "level of all tests",
        "of 0.98 and": "goal of the plan, which holds it",
        "accuracy of 0.93": "goal of the plan, which holds it",
        "of 0.84 for three": "goal of the plan, which holds it",
        "zoomed by 0.8 to 1.3": "a setting",
        "under 1 the image": "a definition",
        "zoom 0.75 to 1.5": "a setting",
        "by up to 15 %": "a setting",
        "0.95 was the aim": "set before the training, in no artifact",
    },
    "limitations": {"224 x 224": "size of the published copies, a setting"},
    "audit": {
        "2 GB": "bound of what is kept, a setting",
        "exit code is 0 if": "exit code",
        "checked, 1 if": "exit code",
        "found, 2 if": "exit code",
        "not), 3 if": "exit code",
        "exit code is 2": "exit code",
        "HDF5": "name of a format",
        "0 and 1": "values of a column, a definition",
        "UTF-8": "name of an encoding",
        "UTF-16": "name of an encoding",
        "256-bit": "size of a hash, a setting",
        "95 %": "level of all intervals",
    },
    "service": {
        "exit code is then 2, and 0 when": "exit codes",
        "9696": "port",
        "503": "HTTP status",
        "4xx": "HTTP status",
        "400": "HTTP status",
        "408": "HTTP status",
        "413": "HTTP status",
        "415": "HTTP status",
        "422": "HTTP status",
        "429": "HTTP status",
        "Novelty over 1": "limit of the score, a definition",
        "99 in 100": "quantile of the limit, a definition",
        "middle 99 % of": "quantile of the limit, a definition",
        "0.00001": "tolerance of the test",
        "224 px": "size of the reference service's images",
        "50 ms": "longest batch, a setting",
        "15 s": "time for a request, a setting",
        "16 bits and 16 megapixels": "size of an extreme image",
    },
    "own_training_loop": {
        "Deep Lake 4": "a version",
        "exit code is 0 if": "exit code",
        "agrees, 1 if": "exit code",
        "not, 2 if": "exit code",
    },
    "after_a_finding": {"LeakageDetector 2.0": "a name"},
    "estimate": {
        "32 x 32 pixels": "a setting",
        "95 %": "level of all intervals",
        "exit code is 0 where": "exit code",
        "and 2 where there": "exit code",
    },
    "cite": {"CC BY 4.0": "the name of a licence"},
    "detectors": {
        "256-bit": "size of a hash, a setting",
        "24 bits, 16": "radius of a search, a setting",
        "30,000": "size from which the index is used, a setting",
        "0.90": "agreement from which a pair is a copy, a setting",
        "10,000": "size of a planted crowd, a setting",
        "0.6 to 0.9": "planted likeness, a setting",
        "1 to 12 bits": "planted distance, a setting",
    },
    "cohorts": {
        "CC BY-NC 4.0": "the name of a licence",
        "CC BY 4.0": "the name of a licence",
        "95 %": "level of all intervals",
    },
    "cluster": {"10,000 jobs": "a round number of jobs to think with"},
    "reforms": {
        "32 items": "size of the checklist",
        "10.17632/rscbjbr9sj.2": "the identifier of the data set",
        "CC BY 4.0": "the name of its licence",
        "95 %": "level of all intervals",
    },
    "model_info_sheet": {
        "21 questions": "size of the sheet",
        "10.17632/rscbjbr9sj.2": "the identifier of the data set",
    },
}
QUOTE = re.compile(r"\{quote\}`([^`]*)`")
#: What is no prose: blocks of code and of directives, comments, roles, code in a line, targets of links.
NO_PROSE = (
    re.compile(r"^(`{3,})[^\n]*\n.*?^\1[ ]*$", re.MULTILINE | re.DOTALL),
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"\{[\w:]+\}`[^`]*`"),
    re.compile(r"`[^`]*`"),
    re.compile(r"\]\([^)]*\)"),
    re.compile(r"^:.*$", re.MULTILINE),
    re.compile(r"^\d+\. ", re.MULTILINE),
    re.compile(r"^\*\*\d+[a-z]?\*\*", re.MULTILINE),
)
#: Names with digits: of models, metrics, formats and notebooks.
NAMES = re.compile(r"ResNet18|EfficientNet-Lite0|[Mm]acro F1|SHA-256|notebook 0\d|bfloat16|float32|uint8")


def typed_numbers(text: str, allowed: dict[str, str]) -> list[str]:
    """Return the lines of a page with a number in its prose that nothing allows."""
    for pattern in NO_PROSE:
        text = pattern.sub(lambda match: "\n" * match[0].count("\n"), text)
    for term in sorted(allowed, key=len, reverse=True):
        text = re.sub(rf"(?<![\d.,]){re.escape(term)}(?![\d]|[.,]\d)".replace(r"\ ", r"\s+"), "", text)
    text = NAMES.sub("", text)
    return [line.strip() for line in text.splitlines() if re.search(r"\d", line)]


def page(name: str) -> str:
    return (ROOT / "book" / f"{name}.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def published() -> Quotes:
    return Quotes(PUBLISHED)


@pytest.mark.parametrize("name", PAGES)
def test_no_page_types_a_number_that_nothing_allows(name):
    assert typed_numbers(page(name), ALLOWED.get(name, {})) == []


@pytest.mark.parametrize("name", ALLOWED)
def test_what_a_page_may_type_stands_there(name):
    text = " ".join(page(name).split())
    assert [term for term in ALLOWED[name] if term not in text] == []


@pytest.mark.parametrize("line", ["An AUC of 0.91.", "In 12 % of images", "30,0001 images", "all 3 of them"])
def test_a_typed_number_is_seen(line):
    text = f"# Page\n\n```sh\nrun 5\n```\n\n{{quote}}`n_images` and `x2` and ResNet18.\n{line}\n"
    assert typed_numbers(text, {"30,000": "allowed", "95 %": "allowed"}) == [line]


def test_pages_quote_names_that_the_published_run_gives(published):
    quoted = {name for file in (ROOT / "book").glob("*.md") for name in QUOTE.findall(file.read_text())}
    assert len(quoted) > 40
    assert [name for name in sorted(quoted) if not published[name].present] == []


def test_every_quote_is_used():
    text = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "book").glob("*.md"))
    text += (ROOT / "README.md").read_text(encoding="utf-8")
    used = set(QUOTE.findall(text)) | set(re.findall(r"<!-- quote:(\w+) -->", text))
    used |= {name for finding in FINDINGS for name in re.findall(r"\{(\w+)\}", finding.sentence)}
    assert set(QUOTES) - used == set()


@pytest.mark.parametrize(
    ("name", "items"),
    [
        (
            "reforms",
            [f"{m}{letter}" for m, n in enumerate((3, 5, 7, 3, 6, 3, 3, 2), 1) for letter in "abcdefg"[:n]],
        ),
        ("model_info_sheet", [str(n) for n in range(1, 22)]),
    ],
)
def test_a_checklist_answers_each_of_its_items_and_says_where_to_look(name, items):
    see = r'  <span class="checklist-where">See ((?:.|\n)*?)</span>'
    found = re.findall(rf"^\*\*(\w+)\*\* \S.*\n: (\S(?:.|\n)*?)\n\n{see}$", page(name), re.MULTILINE)
    assert [number for number, _, _ in found] == items
    assert all(len(answer) > 20 for _, answer, _ in found)
    named = [entry for _, _, where in found for entry in re.findall(r"(\{[\w-]+\})?`([^`]+)`", where)]
    assert [file for role, file in named if not role and not (ROOT / file).exists()] == []
    assert [file for role, file in named if role == "{run-file}" and not (PUBLISHED / file).is_file()] == []
    assert {role for role, _ in named} == {"", "{run-file}", "{module}"}


def test_no_page_glues_numbers_of_notebooks():
    assert [file.name for file in (ROOT / "book").glob("*.md") if "{glue:" in file.read_text()] == []


def test_readme_agrees_with_the_published_run(published):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    renewed, differences = renew(text, published, ROOT)
    assert differences == []
    assert renewed == text
    assert len(re.findall("<!-- quote:", text)) >= 8


def test_readme_types_no_result():
    marked = re.compile(r"<!-- (quote|figure):\w+ -->.*?<!-- /\1 -->", re.DOTALL)
    text = marked.sub("", (ROOT / "README.md").read_text(encoding="utf-8"))
    allowed = {
        "95 %": "level of all intervals",
        "Python 3.11": "a version",
        "Goldbaum 2018": "a year",
        "CC BY 4.0": "a licence",
        "Exit code 0:": "exit code",
        "checked; 1:": "exit code",
        "found; 2:": "exit code",
        "understood; 3:": "exit code",
    }
    assert typed_numbers(text, allowed) == []


def sentences(text: str) -> list[str]:
    """Return the sentences of a text without roles and brackets."""
    text = re.sub(r"`[^`]*`|\([^)]*\)", "", " ".join(text.split()))
    return re.findall(r"\S.*?[.!?](?= |$)", text)


def test_a_finding_is_one_sentence_with_a_number_of_the_run_and_a_link_to_a_notebook():
    for finding in FINDINGS:
        assert len(sentences(finding.sentence)) == 1, finding.sentence
        assert "{" in finding.sentence and typed_numbers(finding.sentence, {"80/20": "a kind of split"}) == []
        notebook = re.fullmatch(r"\[[^]]+\]\((\w+\.ipynb)\)", finding.evidence)[1]
        assert (ROOT / "notebooks" / notebook).is_file()


def test_the_published_run_has_every_finding_and_a_run_without_tables_says_what_it_lacks(tmp_path, published):
    lines = found(PUBLISHED).splitlines()
    assert [line.split(".")[0] for line in lines] == [str(n) for n in range(1, len(FINDINGS) + 1)]
    assert f"**{published['exact_largest'].text}**" in lines[0]
    (told,) = found(tmp_path).strip().splitlines()
    assert told.startswith("Not measured in this run: copies; ") and told.count(";") == len(FINDINGS) - 1


def test_landing_page_answers_in_three_sentences_and_tells_what_to_do_in_four_lines():
    text = page("intro")
    answer = text.split("## The answer\n")[1].split("::::")[0]
    assert len(sentences(answer)) == 3
    commands = re.findall(
        r"^\d\. `leakfree (\w+) ", text.split("## Do this\n")[1].split("## ")[0], re.MULTILINE
    )
    assert commands == ["audit", "split", "check", "score"]
    # Each of the five answers has its numbers.
    numbers = text.split(":::{dropdown} Five answers")[1].split(":::")[0]
    items = re.findall(r"^(\d)\. (.*?)(?=^\d\. |^\*)", numbers, re.MULTILINE | re.DOTALL)
    assert [number for number, _ in items] == list("12345")
    for _, sentence in items:
        assert QUOTE.search(sentence), sentence


def test_what_the_landing_page_concludes_is_in_the_tables():
    rows = pd.read_csv(PUBLISHED / "tables" / "inflation.csv").query(
        "primary and dose == 1 and metric == 'roc_auc'"
    )
    most = rows.groupby("protocol")["estimate"].max()
    margin = 0.01
    # "far too good", "a little too good", "about nothing".
    assert most[["exact", "no-test-set"]].min() > 5 * most["siblings"] > 5 * margin
    small = rows[rows["protocol"].isin(["scaling", "pca", "tuning"])]
    assert small["estimate"].abs().max() < margin / 5
    # "can tell its label too": no lung was looked at.
    ring = pd.read_csv(PUBLISHED / "tables" / "05_framing.csv").query("looked_at == 'ring'")
    assert ring["low"].min() > 0.5 and ring["tells"].all()


def test_what_the_page_on_identity_concludes_is_in_the_tables():
    def table(name: str) -> pd.DataFrame:
        return pd.read_csv(PUBLISHED / "tables" / f"{name}.csv")

    chance = table("06_person_collisions").query("part == 'train'").set_index("null")
    assert chance["p_more"].lt(0.05).to_dict() == {"range": True, "windows": False, "shifts": False}
    alike = table("06_person_likeness").set_index("pairs_of")["percentile"]
    assert alike["across, same number"] <= alike["across, next number"] < alike["same series"]
    scopes = table("inflation_scopes").query("task == 'etiology'")
    gains = scopes.pivot(index="model", columns="scope", values="estimate")
    assert (gains[["person", "merged"]].max(axis=1) <= gains["series"]).all()
    exact = table("inflation").query("protocol == 'exact' and task == 'etiology' and dose == 1 and primary")
    copies = exact.set_index("model")["estimate"]
    assert (gains.max(axis=1) < copies.reindex(gains.index)).all()


def write_run(folder: Path) -> Path:
    """Write a run with what two marks ask for."""
    (folder / "tables").mkdir(parents=True)
    (folder / "figures").mkdir()
    (folder / "tables" / "01_scopes.csv").write_text("scope,patients\nseries,3654\nperson,2846\n")
    (folder / "figures" / "01_x.svg").write_text("<svg/>")
    (folder / "figures" / "index.json").write_text(
        '{"01_x": {"caption": "Counts.", "alt": "Bars.", "files": ["01_x.svg"]}}'
    )
    return folder


def test_a_stale_number_is_reported_and_renewed(tmp_path, capsys):
    write_run(tmp_path / "artifacts" / "chest_xray")
    file = tmp_path / "README.md"
    file.write_text(
        "Of <!-- quote:patients_series -->3,000<!-- /quote --> patients.\n\n"
        "<!-- figure:01_x -->![old](old.png)<!-- /figure -->\n"
    )
    assert main([str(file)]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"{file}, line 1: patients_series is '3,654', not '3,000'"
    assert len(told) == 2
    assert "3,000" in file.read_text()
    assert main([str(file), "--write"]) == 0
    assert file.read_text() == (
        "Of <!-- quote:patients_series -->3,654<!-- /quote --> patients.\n\n"
        "<!-- figure:01_x -->![Bars.](artifacts/chest_xray/figures/01_x.svg)<!-- /figure -->\n"
    )
    capsys.readouterr()
    assert main([str(file)]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<!-- quote:patients_seris -->1<!-- /quote -->", "did you mean 'patients_series'?"),
        ("<!-- quote:patients_series -->1", "is not closed"),
        ("<!-- quote:siblings_largest -->1<!-- /quote -->", "siblings_largest: the run chest_xray lacks it"),
        ("<!-- figure:02_x -->1<!-- /figure -->", "figure 02_x: the run chest_xray has none"),
    ],
)
def test_what_cannot_be_checked_is_one_line(tmp_path, capsys, text, reason):
    run = write_run(tmp_path / "artifacts" / "chest_xray")
    file = tmp_path / "README.md"
    file.write_text(text)
    assert main([str(file)]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
    with pytest.raises(QuoteError, match=re.escape(reason)):
        renew(text, Quotes(run), tmp_path)
