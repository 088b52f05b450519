"""Slides: ten figures of the run in one file, without an image of the cohort, which needs nothing outside."""

import base64
import json
import re
from pathlib import Path

import pytest

from leakfree.base.errors import LeakfreeError
from leakfree_study.book.slides import FIGURES, main, slides

RUN = Path(__file__).resolve().parents[3] / "artifacts" / "chest_xray"


@pytest.fixture(scope="module")
def published():
    return slides(RUN)


def test_the_published_run_has_ten_figures_each_with_its_file(published):
    index = json.loads((RUN / "figures" / "index.json").read_text())
    assert published.count("<img ") == published.count("<h2>") == len(FIGURES) == 10
    for number, (name, title) in enumerate(FIGURES.items(), start=1):
        assert f"<h2>{number}. {title}</h2>" in published
        assert not index[name]["films"]
    for found in re.findall(r'src="data:image/[^;]+;base64,([^"]+)"', published):
        content = base64.b64decode(found)
        assert content in {path.read_bytes() for path in (RUN / "figures").iterdir()}


def test_it_needs_nothing_outside(published):
    assert not re.findall(r'(?:src|href)="(?!data:|#)', published)
    assert "http" not in re.sub(r"base64,[^\"]+", "", published)


def run_of(folder, **entries):
    (folder / "figures").mkdir()
    (folder / "provenance.json").write_text(json.dumps({"data": {"name": "<b>", "images": 1234}}))
    for name, entry in entries.items():
        (folder / "figures" / f"{name}.svg").write_text("<svg/>")
        entry |= {"files": [f"{name}-narrow.svg", f"{name}.svg"], "tables": [], "source": "notebooks/a.ipynb"}
    (folder / "figures" / "index.json").write_text(json.dumps(entries))
    return folder


def test_names_are_escaped_and_images_of_the_cohort_left_out(tmp_path):
    shown = {"alt": 'a "quote"', "caption": "<script>", "films": False}
    run = run_of(
        tmp_path, results_answer=dict(shown), **{"05_hidden": shown | {"films": True}, "other": dict(shown)}
    )
    made = slides(run)
    assert made.count("<img ") == 1 and "1,234 images" in made and "&lt;b&gt;" in made
    assert "<script>," not in made and "&lt;script&gt;" in made and 'alt="a &quot;quote&quot;"' in made


def test_a_run_without_figures_is_one_line(tmp_path, capsys):
    with pytest.raises(LeakfreeError, match="has none of the figures"):
        slides(run_of(tmp_path))
    assert main([str(tmp_path / "none"), str(tmp_path / "out.html")]) == 1
    assert "not a finished run" in capsys.readouterr().err
    assert main([str(RUN), str(tmp_path / "out.html")]) == 0
    assert (tmp_path / "out.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
