"""What a run is, as its provenance says, also where an older one says less."""

import json

import pytest

from deferred import deferred
from leakfree.base.files import write_json
from leakfree_study.record.run_identity import RunError, identity

with deferred:
    import nbformat

PROVENANCE = {
    "data": {"name": "films", "checksum": "a" * 64, "images": 1234},
    "machine": {
        "architecture": "arm64",
        "cores": 8,
        "cpu": "A processor",
        "system": "Linux",
        "accelerator": "none",
    },
    "versions": {"numpy": "2.4.6"},
    "notebooks": {
        "01_first": {
            "parameters": {"profile": "full", "data": "x"},
            "outputs": {"tables/01_a.csv": "", "figures/f": ""},
        },
        "02_second": {"parameters": {"profile": "full", "seed": 7}, "outputs": {}},
    },
}


@pytest.fixture
def run(tmp_path):
    write_json(tmp_path / "provenance.json", PROVENANCE)
    return tmp_path


def change(run, **changes):
    write_json(run / "provenance.json", PROVENANCE | changes)


def test_a_run_is_what_its_provenance_says(run):
    found = identity(run)
    assert (found.data, found.checksum, found.images) == ("films", "a" * 64, 1234)
    assert (found.profile, found.seed, found.accelerator, found.opened) == ("full", "7", "none", False)
    assert found.versions == {"numpy": "2.4.6"}
    assert found.outputs == {"01_a": "01_first"}
    assert found.line() == (
        f"{run}: profile full, seed 7, data films aaaaaaaaaaaa (1,234 images), 8 cores, A processor, "
        "Linux, arm64"
    )


def test_the_precision_is_that_of_its_networks(run):
    assert identity(run).precision == "none"
    facts = {"a": {"epoch": 1, "precision": "float32"}, "b": {"n_train": 3}}
    for name, kept in facts.items():
        write_json(run / "cells" / f"{name}.json", {"facts": kept})
    assert identity(run).precision == "float32"
    write_json(run / "cells" / "c.json", {"facts": {"epoch": 2}})  # before it was noted
    assert identity(run).precision == "bfloat16 and float32"


def test_what_was_not_given_is_the_default_of_the_executed_notebook(run):
    notebook = nbformat.v4.new_notebook()
    cell = nbformat.v4.new_code_cell(
        "seed = 42\nsizes = [64, 128]\nprofile = 'quick'", metadata={"tags": ["parameters"]}
    )
    notebook.cells = [cell]
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (run / "notebooks").mkdir()
    nbformat.write(notebook, run / "notebooks" / "01_first.ipynb")
    found = identity(run)
    assert found.parameters["01_first"] == {"seed": 42, "sizes": [64, 128], "profile": "full", "data": "x"}
    assert found.seed == "42 and 7"


def test_an_older_provenance_says_less(run):
    machine = {name: value for name, value in PROVENANCE["machine"].items() if name != "accelerator"}
    change(run, machine=machine)
    assert identity(run).accelerator == "not recorded"
    content = json.loads((run / "provenance.json").read_text())
    del content["machine"], content["versions"]
    content["notebooks"] = {"01_first": {"parameters": {}, "outputs": {}}}
    write_json(run / "provenance.json", content)
    found = identity(run)
    assert (found.profile, found.seed, found.versions) == ("not recorded", "not recorded", {})
    assert "? cores" in found.line()


def test_a_test_is_open_when_its_log_has_a_line(run):
    (run / "sealed_test.jsonl").write_text("\n")
    assert not identity(run).opened
    (run / "sealed_test.jsonl").write_text('{"opening": 1}\n')
    assert identity(run).opened


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"data": {}, "notebooks": {}}', '{"data": 1, "notebooks": 2}']
)
def test_what_is_no_provenance_is_one_line_that_names_the_file(run, content):
    (run / "provenance.json").write_text(content)
    with pytest.raises(RunError, match=r"provenance\.json: not the provenance of a run") as caught:
        identity(run)
    assert "\n" not in str(caught.value)


def test_a_folder_without_provenance_is_no_run(tmp_path):
    with pytest.raises(RunError, match="not a finished run"):
        identity(tmp_path / "gone")
