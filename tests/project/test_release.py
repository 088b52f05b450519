"""A release has one version: every place that names it says that of the package."""

import datetime
import json
import re
from importlib import metadata

import pytest
import yaml

import leakfree
from deferred import deferred

with deferred:
    from leakfree.cli import main
    from leakfree_study.book import citing


def test_every_place_names_the_version_of_the_package(repository, capsys):
    read = {
        name: (repository / name).read_text(encoding="utf-8")
        for name in ("CHANGELOG.md", "CITATION.cff", "codemeta.json", "Dockerfile", "compose.yaml")
    }
    cited, described = yaml.safe_load(read["CITATION.cff"]), json.loads(read["codemeta.json"])
    first, *released = re.findall(r"^## (.+)$", read["CHANGELOG.md"], re.M)
    pattern = r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2}), tag v(\S+)"
    heading, *_ = headings = [re.fullmatch(pattern, one) for one in released]
    run = repository / "artifacts" / "chest_xray"
    with pytest.raises(SystemExit):
        main(["--version"])
    places = {
        "heading of the changelog": heading[1],
        "tag of the changelog": heading[3],
        "CITATION.cff": cited["version"],
        "codemeta.json": described["version"],
        "label of the image": re.search(r'image\.version="(.+)"', read["Dockerfile"])[1],
        "compose.yaml": yaml.safe_load(read["compose.yaml"])["services"]["leakfree"]["image"].split(":")[1],
        "page on citing": re.search(r"version = \{(.+)\}", citing.section("bibtex", run))[1],
        "Croissant": citing.croissant(run, cited)["version"],
        "leakfree --version": capsys.readouterr().out.split()[1],
        "installed package": metadata.version("leakfree"),
    }
    assert places == dict.fromkeys(places, leakfree.__version__), "uv pip install -e . after a new version"
    assert cited["date-released"] == described["datePublished"] == heading[2]
    assert datetime.date.fromisoformat(heading[2])
    assert first == "[Unreleased]" and all(headings)


def test_a_record_keeps_the_version_that_made_it(repository):
    for path in sorted((repository / "artifacts").glob("*/provenance.json")):
        made_by = json.loads(path.read_text(encoding="utf-8"))["versions"]["leakfree"]
        crate = citing.ro_crate(path.parent, citing.citation(), within=("tables/01",))
        (software,) = [one for one in crate["@graph"] if one["@id"] == "#leakfree"]
        assert software["softwareVersion"] == made_by, path
