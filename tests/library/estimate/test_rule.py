"""What was learned: made by the rule from the table of measurements, and told as it is."""

import pytest

from deferred import deferred

with deferred:
    from leakfree.base.files import file_hash
    from leakfree.estimate import rule
    from leakfree.estimate.rule import Slope, with_patients_apart


def test_a_slope_and_its_interval():
    share, low, high = Slope(0.8, 0.1, 4).gained(0.5)
    assert share == pytest.approx(0.4)
    # t(97.5 %, 3) = 3.182446; a new cohort varies too.
    assert (low, high) == pytest.approx(
        (0.4 - 0.5 * 3.182446 * 0.1 * 1.25**0.5, 0.4 + 0.5 * 3.182446 * 0.1 * 1.25**0.5)
    )
    assert Slope(0.8, 0.1, 4).gained(0.0) == (0, 0, 0)
    assert Slope(3.0, 2.0, 3).gained(0.9)[1:] == (0, 1)


def test_a_score_without_what_it_gained():
    for apart in (0.6, 0.9):
        plain = apart + 0.3 * (1 - apart)
        assert with_patients_apart(plain, 0.3) == pytest.approx(apart)
    # Under one half nothing is told.
    assert with_patients_apart(0.6, 0.9) == with_patients_apart(0.6, 1) == 0.5


def test_the_measurements_are_those_that_it_learned_from(repository):
    found = rule.learned()
    assert list(found["cohorts"]) == rule.rule()["cohorts"]
    assert found["measured_sha256"] == file_hash(repository / "book" / "data" / "inflation_by_size.csv")
    assert all(one.cohorts == len(found["cohorts"]) for one in rule.slopes().values())
