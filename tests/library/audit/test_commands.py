"""Each finding names the command that goes on from it, with the options that say how the images are read."""

import argparse
import io
import shlex

import pytest

from leakfree.audit.checks.findings import CHECKS, Check, Report, not_run
from leakfree.audit.commands import advised, reading_options
from leakfree.audit.report.terminal import print_report


def given(*words):
    from leakfree.cli import _parser

    return _parser().parse_args(words)


def test_only_what_says_how_to_read_is_kept():
    options = (
        "--patient-pattern",
        r"(p\d+)",
        "--json",
        "a.json",
        "--quiet",
        "--skip",
        "shift",
        "--jobs",
        "3",
    )
    assert reading_options(given("audit", "my images", *options)) == [
        "my images",
        "--patient-pattern",
        r"(p\d+)",
    ]
    assert reading_options(given("audit", "films", "--scope", "person")) == ["films", "--scope", "person"]
    split = given("split", "films", "--folds", "3", "--scope", "person", "--lists")
    assert reading_options(split) == ["films", "--scope", "person"]


@pytest.mark.parametrize(
    ("name", "severity", "command"),
    [
        ("patients", "leak", "leakfree split 'my images' --scope person --manifest m.json --repair"),
        ("near_duplicates", "leak", "leakfree split 'my images' --scope person --manifest m.json --repair"),
        (
            "near_duplicates",
            "warning",
            "leakfree audit 'my images' --scope person --manifest m.json --html report.html",
        ),
        ("shift", "warning", "leakfree split 'my images' --scope person"),
        (
            "shortcuts",
            "warning",
            "leakfree audit 'my images' --scope person --manifest m.json --html report.html",
        ),
    ],
)
def test_the_command_of_a_finding(name, severity, command):
    checks = {check: not_run(check, "Not asked for.", "Ask.") for check in CHECKS}
    checks["patients"] = Check("patients", "PASS", "None.", "Ask.", 0)
    status = "FAIL" if severity == "leak" else "WARN"
    checks[name] = Check(name, status, "Found.", "Do it.", 1, severity=severity)
    told = advised(Report("films", {}, checks), ["my images", "--scope", "person"], "m.json").checks
    assert told[name].advice == f"Do it. Run: {command}"
    words = shlex.split(command)
    assert isinstance(given(*words[1:]), argparse.Namespace), "the command can be pasted"
    assert [check.advice for check in told.values() if check.name != name] == ["Ask."] * (len(CHECKS) - 1)


def test_a_new_split_is_not_advised_where_it_would_be_refused():
    """``leakfree split`` refuses a target whose patients nothing tells."""
    shift = Check("shift", "WARN", "Found.", "Do it.", 1, severity="warning")
    checks = {"patients": not_run("patients", "Not told."), "shift": shift}
    told = advised(Report("films", {}, checks), ["films"]).checks["shift"].advice
    assert told == "Do it. Run: leakfree audit films --html report.html"


def test_a_long_command_is_one_line_of_the_report():
    check = Check("patients", "FAIL", "Found.", "Split by patient: all in one part.", 1, severity="leak")
    reading = ["a folder with a long name/of films", "--patient-pattern", "patient" * 10, "--scope", "person"]
    stream = io.StringIO()
    print_report(advised(Report("films", {}, {"patients": check}), reading), stream)
    (command,) = [line.strip() for line in stream.getvalue().splitlines() if "leakfree split" in line]
    assert shlex.split(command) == ["leakfree", "split", *reading, "--repair"]
