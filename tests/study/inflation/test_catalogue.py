"""The catalogue of leaks: complete against the taxonomy, and consistent with the jobs that compute it."""

import pytest

from deferred import deferred

with deferred:
    from leakfree_study.inflation import catalogue
    from leakfree_study.inflation.catalogue import LEAKS, NOT_TESTABLE, POPULATIONS
    from leakfree_study.inflation.jobs import FAMILIES

#: Kapoor and Narayanan (2023), all types.
TAXONOMY = {"L1.1", "L1.2", "L1.3", "L1.4", "L2", "L3.1", "L3.2", "L3.3"}


def test_every_type_of_the_taxonomy_has_a_row_or_a_reason():
    measured = {leak.taxonomy for leak in LEAKS if leak.taxonomy}
    assert measured | set(NOT_TESTABLE) == TAXONOMY
    assert not measured & set(NOT_TESTABLE)
    for _, reason in NOT_TESTABLE.values():
        assert reason.startswith("not testable here, because ")


def test_names_are_known():
    assert len({leak.protocol for leak in LEAKS}) == len(LEAKS)
    for leak in LEAKS:
        assert leak.family in FAMILIES
        assert leak.population in POPULATIONS
        assert leak.arms[-1][2] == 1.0
        assert catalogue.by_protocol(leak.protocol) is leak
    with pytest.raises(KeyError):
        catalogue.by_protocol("none")


def test_the_table_for_readers_has_a_row_each():
    table = catalogue.table()
    assert len(table) == len(LEAKS) + len(NOT_TESTABLE)
    assert table["taxonomy"].tolist()[0] == "L1.1"
    assert table["taxonomy"].tolist()[-1] == "none"
