"""How the study is cited, and what machines read of a run: as CITATION.cff and the record say it."""

import csv
import hashlib
import json
import re
from pathlib import Path

import pytest

from deferred import deferred

with deferred:
    from leakfree_study.book import citing

ROOT = Path(__file__).resolve().parents[3]
RUN = ROOT / "artifacts" / "chest_xray"


@pytest.fixture(scope="module")
def cited():
    return citing.citation()


@pytest.fixture(scope="module")
def crate(cited):
    return {one["@id"]: one for one in citing.ro_crate(RUN, cited)["@graph"]}


@pytest.fixture(scope="module")
def croissant(cited):
    return citing.croissant(RUN, cited)


def test_bibtex_names_the_software_and_the_images(cited):
    text = citing.bibtex(cited)
    software, images = text.split("\n\n")
    assert software.startswith("@software{leakfree2026,\n") and "{{The leakfree authors}}" in software
    assert f"version = {{{cited['version']}}}" in software
    assert images.startswith("@dataset{kermany2018,\n") and "10.17632/rscbjbr9sj.2" in images
    assert "Kermany, Daniel and Zhang, Kang and Goldbaum, Michael" in images
    for entry in (software, images):
        assert entry.count("{") == entry.count("}") and entry.endswith("\n}")
    assert f"```bibtex\n{text}\n```" in citing.section("bibtex", RUN)


def test_codemeta_of_the_project_is_the_one_that_is_made(cited):
    kept = (ROOT / "codemeta.json").read_text(encoding="utf-8")
    assert kept == citing.as_json(citing.codemeta(cited)), (
        "python -m leakfree_study.book.citing codemeta.json > codemeta.json"
    )
    assert json.loads(kept)["version"] == cited["version"]


def test_the_crate_has_every_file_of_the_record_with_its_hash_and_size(crate):
    listed = dict(
        reversed(line.split("  ", 1))
        for line in (RUN / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    )
    files = {name: one for name, one in crate.items() if one["@type"] == "File"}
    assert {name: one["sha256"] for name, one in files.items()} == listed
    assert [part["@id"] for part in crate["./"]["hasPart"]] == list(files)
    for name in ("tables/inflation.csv", "models/calibration.json"):
        data = (RUN / name).read_bytes()
        assert files[name]["sha256"] == hashlib.sha256(data).hexdigest()
        assert files[name]["contentSize"] == str(len(data))
    assert "application/octet-stream" not in {
        one["encodingFormat"] for name, one in files.items() if not name.endswith(".safetensors")
    }


def test_the_crate_says_what_made_it_from_what(crate):
    assert crate["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    provenance = json.loads((RUN / "provenance.json").read_text(encoding="utf-8"))
    assert crate["#leakfree"]["identifier"] == provenance["git"]["commit"]
    assert crate["#run"]["object"] == {"@id": "https://doi.org/10.17632/rscbjbr9sj.2"}
    assert crate["#run"]["object"]["@id"] in crate
    index = json.loads((RUN / "figures" / "index.json").read_text(encoding="utf-8"))
    (file,) = index["01_classes"]["files"]
    assert crate[f"figures/{file}"]["description"] == index["01_classes"]["caption"]
    for one in crate.values():  # whatever is pointed to is there
        for value in one.values():
            if isinstance(value, dict) and not value["@id"].startswith("https://w3id.org/ro/crate"):
                assert value["@id"] in crate or value["@id"].startswith("https://spdx.org/")


def test_a_run_on_other_images_is_not_said_to_be_on_these(tmp_path, cited):
    provenance = json.loads((RUN / "provenance.json").read_text(encoding="utf-8"))
    provenance["data"]["name"] = "phantom"
    (tmp_path / "provenance.json").write_text(json.dumps(provenance))
    (tmp_path / "SHA256SUMS").write_text("")
    text = citing.as_json(citing.ro_crate(tmp_path, cited))
    assert "rscbjbr9sj" not in text and "Cohort phantom" in text


def test_a_crate_of_some_files_names_no_others(cited):
    crate = citing.ro_crate(RUN, cited, ("tables/", "provenance.json"))
    names = {one["@id"] for one in crate["@graph"] if one["@type"] == "File"}
    assert "provenance.json" in names and {name.split("/")[0] for name in names} == {
        "tables",
        "provenance.json",
    }


def test_the_croissant_describes_every_column_of_every_table(croissant):
    tables = sorted(path.name for path in (RUN / "tables").glob("*.csv"))
    assert [one["name"] for one in croissant["distribution"]] == tables
    ids = {one["@id"] for one in croissant["distribution"]}
    fields = [field for record in croissant["recordSet"] for field in record["field"]]
    assert len({field["@id"] for field in fields}) == len(fields)
    for record in croissant["recordSet"]:
        with (RUN / "tables" / f"{record['name']}.csv").open(newline="", encoding="utf-8") as file:
            assert [field["name"] for field in record["field"]] == next(csv.reader(file))
    for field in fields:
        assert field["source"]["fileObject"]["@id"] in ids
        # A validator of Croissant refuses ids with blanks in them.
        assert re.fullmatch(r"[\w./-]+", field["@id"])
    types = {field["@id"]: field["dataType"] for field in fields}
    assert types["inflation/estimate"] == "sc:Float" and types["inflation/draws"] == "sc:Integer"
    assert types["inflation/model"] == "sc:Text" and types["inflation/primary"] == "sc:Boolean"


@pytest.mark.parametrize("arguments", [["croissant.json"], ["croissant.json", "nowhere"]])
def test_what_cannot_be_written_is_one_line(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["citing", *arguments])
    assert citing.main() == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("citing: ") and shown.err.count("\n") == 1


def test_it_is_written_to_standard_output(monkeypatch, capsys, crate):
    monkeypatch.setattr("sys.argv", ["citing", "ro-crate-metadata.json", str(RUN)])
    assert citing.main() == 0
    assert len(json.loads(capsys.readouterr().out)["@graph"]) == len(crate)
