"""The page on architecture says what the code and the files of a run say."""

import json
from collections import Counter

import pytest

from deferred import deferred

with deferred:
    from architecture_page import (
        UNSEAL,
        files_alt,
        flow_alt,
        openings,
        reads_table,
        rooms_tables,
        shown,
        tables_read,
        written,
    )
    from rooms import between, imports, rooms

    from leakfree_study.run.config import NOTEBOOKS


@pytest.fixture(scope="module")
def found():
    return rooms()


@pytest.fixture
def run(tmp_path):
    """A run of two notebooks, the second of which reads a table of the first."""
    notebooks = {
        "01_first": {"outputs": {"tables/one.csv": "", "tables/two.csv": "", "figures/a.svg": ""}},
        "02_second": {"outputs": {"tables/three.csv": "", "top.json": ""}},
    }
    (tmp_path / "provenance.json").write_text(json.dumps({"notebooks": notebooks}))
    (tmp_path / "notebooks").mkdir()
    sources = {
        "01_first": 'x = "three"\n',
        "02_second": '%matplotlib inline\nrun.read_table("one"); "three"\n',
    }
    for name, source in sources.items():
        cells = [{"cell_type": "code", "source": [source]}, {"cell_type": "markdown", "source": ['"two"']}]
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(json.dumps({"cells": cells}))
    return tmp_path


def test_every_module_is_in_the_tables_with_a_link(found):
    text = rooms_tables(found)
    assert text.count("\n:::\n") == len(found)
    for room in found:
        assert f"### {room.name}\n\n{room.purpose}\n\n:::{{dropdown}} {len(room.modules)} module" in text
        for module in room.modules:
            assert f'href="api/{room.page}.html#module-{module}"><code>' in text


def test_the_alternative_text_names_the_heaviest_arcs(found):
    counted = shown(between(found, imports()))
    assert all(there != 0 for _, there in counted)
    (here, there), count = counted.most_common(1)[0]
    text = flow_alt(found, counted)
    assert f"{found[here].name} to {found[there].name} ({count})" in text
    assert f"{len(found)} rooms" in text


def test_files_are_counted_by_writer_and_folder(run):
    assert written(run) == {
        "01_first": Counter(tables=2, figures=1),
        "02_second": Counter(tables=1),
    }
    assert "01_first: 2 in tables, 1 in figures" in files_alt(written(run))


def test_who_opened_the_sealed_test_is_a_writer(run):
    assert openings(run) == []
    line = json.dumps({"predictions": {"predictions/sealed/a.csv": "", "predictions/sealed/b.csv": ""}})
    (run / "sealed_test.jsonl").write_text(f"{line}\n{line}\n")
    assert written(run)[UNSEAL] == Counter(predictions=2), (
        "files that a second opening wrote again count once"
    )


def test_only_tables_that_were_written_before_are_read(run):
    assert tables_read(run) == {"02_second": {"01_first": ["one"]}}
    assert "| <code>02_second</code> | <code>01_first</code> | <code>one</code> |" in reads_table(run)


def test_the_published_run_reads_one_way(repository):
    reads = tables_read(repository / "artifacts" / "chest_xray")
    assert set(reads["results"]) >= {"02_leakage_analysis", "05_leakfree_deep"}
    place = NOTEBOOKS.index
    assert all(place(writer) < place(reader) for reader, writers in reads.items() for writer in writers)
