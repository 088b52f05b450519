"""Notebooks begin when those that they need have ended, so many side by side, and a failure ends all."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakfree_study.run.config import EXPECTED_SECONDS, NOTEBOOKS, needs
from leakfree_study.run.order import followers, run_in_order, urgency


@st.composite
def orders(draw):
    """Names, each with some of those before it."""
    names = [f"n{number}" for number in range(draw(st.integers(1, 7)))]
    return {
        name: draw(st.lists(st.sampled_from(names[:place]), unique=True)) if place else []
        for place, name in enumerate(names)
    }


@given(orders(), st.integers(1, 4))
def test_each_is_done_once_after_what_it_needs_and_never_more_than_the_lanes(order, lanes):
    lock, done, running, most = threading.Lock(), [], [], [0]

    def work(name):
        with lock:
            assert set(order[name]) <= set(done)
            running.append(name)
            most[0] = max(most[0], len(running))
        with lock:
            running.remove(name)
            done.append(name)

    run_in_order(order, work, lanes=lanes, seconds=dict.fromkeys(order, 1.0), give_up=pytest.fail)
    assert sorted(done) == sorted(order) and most[0] <= lanes
    if lanes == 1:
        assert done == list(order)


def test_two_that_do_not_need_one_another_run_at_the_same_time():
    both = threading.Barrier(2, timeout=30)
    names = []

    def work(name):
        names.append(threading.current_thread().name)
        both.wait()

    run_in_order({"a": [], "b": []}, work, lanes=2, seconds={"a": 1.0, "b": 1.0}, give_up=pytest.fail)
    assert sorted(names) == ["a", "b"]


def test_the_longest_chain_begins_first():
    order = {"short": [], "long": [], "last": ["long"]}
    seconds = {"short": 3.0, "long": 2.0, "last": 2.0}
    assert urgency(order, seconds) == {"short": 3.0, "last": 2.0, "long": 4.0}
    begun = []
    # Two lanes of which one is held: what comes first in the other is what is urgent.
    order["held"], seconds["held"] = [], 9.0
    free = threading.Event()

    def work(name):
        begun.append(name)
        if name == "held":
            assert free.wait(30)
        if name == "short":
            free.set()

    run_in_order(order, work, lanes=2, seconds=seconds, give_up=pytest.fail)
    assert begun == ["held", "long", "short", "last"]


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_after_a_failure_the_others_are_told_to_end_and_nothing_begins(error):
    told, begun = threading.Event(), []

    def work(name):
        begun.append(name)
        if name == "bad":
            raise error
        assert told.wait(30)

    order = {"bad": [], "beside": [], "later": ["beside"], "after": ["bad"]}
    with pytest.raises(type(error)):
        run_in_order(order, work, lanes=2, seconds=dict.fromkeys(order, 1.0), give_up=told.set)
    assert sorted(begun) == ["bad", "beside"]


def test_nothing_to_do_is_done():
    run_in_order({}, pytest.fail, lanes=0, seconds={}, give_up=pytest.fail)


def test_who_waits_for_each():
    assert followers({"a": [], "b": ["a"], "c": ["a", "b"]}) == {"a": ["b", "c"], "b": ["c"], "c": []}


def test_notebooks_wait_for_the_copies_and_for_what_they_read():
    order = needs(NOTEBOOKS)
    assert list(order) == list(NOTEBOOKS)
    for place, name in enumerate(NOTEBOOKS):
        assert set(order[name]) <= set(NOTEBOOKS[:place])  # the order in which they stand will do
        assert place < 2 or "02_leakage_analysis" in order[name]
    assert set(order["results"]) == set(NOTEBOOKS[:-1])
    # Of a part of them, what is not asked for is not waited for.
    assert needs(["06_checks", "results"]) == {"06_checks": [], "results": ["06_checks"]}
    assert urgency(order, EXPECTED_SECONDS["quick"])["02_leakage_analysis"] > 60
