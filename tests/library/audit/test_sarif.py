"""SARIF has what code hosts ask for: rules, levels, places, and a print that stays."""

import json

import pytest
from jsonschema import Draft202012Validator

from leakfree.audit.checks.findings import CHECKS, Check, Report, not_run
from leakfree.audit.report.sarif import MOST_LOCATIONS, CodeScanningResult, sarif, write_sarif
from leakfree.cli import main

# The part of the standard's schema that is used here; the whole one is not ours to ship (see the last test).
_TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
_REGION = {"type": "object", "properties": {"startLine": {"type": "integer", "minimum": 1}}}
_PLACE = {
    "type": "object",
    "required": ["artifactLocation"],
    "properties": {
        "artifactLocation": {"properties": {"uri": {"type": "string", "pattern": "^[^ \\\\#?]+$"}}},
        "region": _REGION,
    },
}
SCHEMA = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "items": {
                "required": ["tool", "results"],
                "properties": {
                    "results": {
                        "items": {
                            "required": ["ruleId", "ruleIndex", "message", "level", "locations"],
                            "properties": {
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": _TEXT,
                                "locations": {"items": {"properties": {"physicalLocation": _PLACE}}},
                            },
                        }
                    }
                },
            }
        },
    },
}


@pytest.fixture
def report():
    checks = {name: not_run(name, "Not asked for.") for name in CHECKS}
    groups = [["train/a b.png", "test/c#1.png"], ["train/d.png", "train/e.png"]]
    checks["exact_duplicates"] = Check(
        "exact_duplicates", "FAIL", "2 groups.", "Drop one.", 2, ("train/a b.png", "test/c#1.png"), "leak",
        details={"groups": groups, "across_parts": {"count": 1, "files": groups[0]}},
    )  # fmt: skip
    checks["shift"] = Check("shift", "WARN", "The parts differ.", severity="warning")
    return Report("films", {"train": 3, "test": 1}, checks)


def test_a_leak_is_an_error_with_its_files_from_the_root(report, tmp_path):
    log = json.loads(write_sarif(report, tmp_path / "a.sarif", "data/films").read_text())
    Draft202012Validator(SCHEMA).validate(log)
    leak, warning = log["runs"][0]["results"]
    assert (leak["level"], leak["ruleId"]) == ("error", "exact_duplicates")
    uris = [place["physicalLocation"]["artifactLocation"]["uri"] for place in leak["locations"]]
    assert uris == ["data/films/test/c%231.png", "data/films/train/a%20b.png"], (
        "the pair inside train is no leak"
    )
    assert (warning["level"], warning["ruleId"]) == ("warning", "shift")
    rules = log["runs"][0]["tool"]["driver"]["rules"]
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in (leak, warning))


def test_the_print_of_a_finding_stays_and_is_its_own(report, tmp_path):
    def prints():
        log = json.loads(write_sarif(report, tmp_path / "a.sarif").read_text())
        return [result["partialFingerprints"]["leakfree/1"] for result in log["runs"][0]["results"]]

    assert prints() == prints() and len(set(prints())) == 2


def test_a_finding_of_very_many_files_is_cut_and_an_accepted_one_says_why():
    places = tuple((f"{number}.png", 0) for number in range(MOST_LOCATIONS + 50))
    log = sarif({"r": ("asks", "why")}, [CodeScanningResult("r", "error", "text", places, "known")])
    (result,) = log["runs"][0]["results"]
    assert (
        len(result["locations"]) == MOST_LOCATIONS and result["suppressions"][0]["justification"] == "known"
    )


def test_the_whole_standard_takes_it(report, tmp_path):
    model = pytest.importorskip("pydantic_sarif.model")
    standard = model.StaticAnalysisResultsFormatSarifVersion210JsonSchema
    (tmp_path / "t.py").write_text(
        "from sklearn.preprocessing import scale\nfrom sklearn.model_selection import train_test_split\n"
        "X = scale(load('x.npy'))\ntrain, test = train_test_split(X)\n"
    )
    assert main(["check", str(tmp_path / "t.py"), "--sarif", str(tmp_path / "c.sarif"), "--quiet"]) == 1
    for path in (write_sarif(report, tmp_path / "a.sarif", "data/films"), tmp_path / "c.sarif"):
        log = json.loads(path.read_text())
        standard.model_validate(log)
        log["runs"][0]["results"][0]["level"] = "fatal"
        with pytest.raises(ValueError, match="level"):
            standard.model_validate(log)
