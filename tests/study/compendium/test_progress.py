"""The line that says how far a run is: the share follows what steps cost, the time this machine's pace."""

import pytest

from leakfree_study.compendium import progress
from leakfree_study.compendium.progress import Progress
from leakfree_study.run.config import EXPECTED_SECONDS, NOTEBOOKS, PROFILES


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets forward."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_before_anything_ran_the_expected_seconds_are_told(clock):
    steps = Progress({"a": 30, "b": 60, "c": 30})
    assert steps.line("a") == "[1/3] a (0 % done, about 2 min left)"


@pytest.mark.parametrize(("took", "left"), [(60.0, "about 3 min left"), (15.0, "about 45 s left")])
def test_what_is_left_follows_the_pace_of_this_machine(clock, took, left):
    steps = Progress({"a": 30, "b": 60, "c": 30})
    steps.line("a")
    clock[0] += took
    steps.end("a")
    assert steps.line("b") == f"[2/3] b (25 % done, {left})"
    clock[0] += 4 * took
    steps.end("b")
    assert "75 % done" in steps.line("c")


def test_a_step_that_is_skipped_is_done_and_tells_nothing_of_the_pace(clock):
    steps = Progress({"a": 30, "b": 60, "c": 30})
    steps.line("a")
    steps.end("a", skipped=True)
    assert steps.line("b") == "[2/3] b (25 % done, about 2 min left)"
    clock[0] += 120
    steps.end("b")
    assert steps.line("c") == "[3/3] c (75 % done, about 60 s left)"


def test_hours_are_hours(clock):
    assert Progress({"a": 36_000}).line("a").endswith("about 10.0 h left)")


def test_every_step_of_every_profile_is_expected():
    assert EXPECTED_SECONDS.keys() == PROFILES.keys()
    for expected in EXPECTED_SECONDS.values():
        assert list(expected) == [*NOTEBOOKS, "book"] and min(expected.values()) > 0
