"""Blocks of pages are replaced by what generators return, in a real build too."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from deferred import deferred
from leakfree_study.book.build import JUPYTER_BOOK

with deferred:
    from generated_pages import GENERATORS, fill
    from sphinx.errors import ExtensionError

BLOCK = "```{{generated}} {} {}\n```"


@pytest.fixture(scope="module")
def published(repository):
    return repository / "artifacts" / "chest_xray"


def test_a_block_is_replaced_and_the_rest_kept(published):
    text = f"# Title\n\n{BLOCK.format('provenance', 'data')}\n\nAfter.\n"
    filled = fill(text, published, "page")
    assert filled.startswith("# Title\n\n| what | value |") and filled.endswith("\n\nAfter.\n")
    assert "{generated}" not in filled


@pytest.mark.parametrize(
    "block", [BLOCK.format("nothing", "data"), BLOCK.format("provenance", "x"), BLOCK.format("api", "x")]
)
def test_an_unknown_block_names_its_page(published, block):
    with pytest.raises(ExtensionError, match="page some: cannot generate"):
        fill(block, published, "some")


def test_a_run_without_provenance_names_the_page(tmp_path):
    with pytest.raises(ExtensionError, match=r"page some: .* has no provenance\.json"):
        fill(BLOCK.format("provenance", "data"), tmp_path, "some")


def test_every_block_of_the_book_can_be_filled(repository, published):
    pages = [p for p in (repository / "book").rglob("*.md") if "_build" not in p.parts]
    texts = {page: page.read_text(encoding="utf-8") for page in pages}
    generated = {page: text for page, text in texts.items() if "{generated}" in text}
    assert {page.stem for page in generated} >= {"provenance", "architecture", "reforms", "model_info_sheet"}
    used = set()
    for page, text in generated.items():
        filled = fill(text, published, page.stem)
        assert "{generated}" not in filled, f"{page.name}: a block that is not closed, or of another form"
        used |= set(re.findall(r"\{generated\} ([\w-]+)", text))
    assert used == set(GENERATORS)


@pytest.mark.slow
def test_pages_build_without_a_warning(repository, published, tmp_path):
    """The generated pages alone, as Jupyter Book builds them, for a run without official test."""
    source, run = tmp_path / "source", tmp_path / "run"
    source.mkdir()
    (source / "_ext").symlink_to(repository / "book" / "_ext")
    # Without the pages that it links to.
    text = re.sub(
        r"see \[\]\(sealed-test\)", "see there", (repository / "book" / "provenance.md").read_text()
    )
    text = re.sub(r"\{term\}`([^`<]+?)(?: <[^>]*>)?`", r"\1", text)
    (source / "provenance.md").write_text(text)
    (source / "data.md").write_text((repository / "book" / "api" / "data.md").read_text())
    (source / "_toc.yml").write_text(
        "format: jb-book\nroot: provenance\nchapters:\n- file: data\n", encoding="utf-8"
    )
    extensions = ["myst_nb", "jupyter_book", "sphinx_comments", "sphinx_external_toc", "sphinx_design"]
    config = {
        "title": "pages",
        "only_build_toc_files": True,
        "sphinx": {
            "local_extensions": {"generated_pages": "_ext/"},
            "config": {"extensions": [*extensions, "sphinx_book_theme", "generated_pages"]},
        },
    }
    (source / "_config.yml").write_text(json.dumps(config))
    run.mkdir()
    content = json.loads((published / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps(content | {"notebooks": {}}))
    done = subprocess.run(
        [*JUPYTER_BOOK, "build", "-W", "-n", "--keep-going", str(source)],
        capture_output=True,
        text=True,
        env={**os.environ, "LEAKFREE_RUN": str(run), "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    html = Path(source, "_build", "html")
    assert content["data"]["checksum"] in (html / "provenance.html").read_text(encoding="utf-8")
    assert 'id="leakfree.data.cohort.Cohort"' in (html / "data.html").read_text(encoding="utf-8")
    assert (html / "_images" / "architecture_flow.svg").is_file()
    assert (html / "provenance.json").read_bytes() == (run / "provenance.json").read_bytes()
