"""Tables and picture of what was measured cohort by cohort say what the measurements say."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from deferred import deferred

with deferred:
    from leakfree_study.inflation.by_cohort_shown import COHORTS, gain_table, likeness_table, name_of, picture
    from leakfree_study.inflation.learn import MODELS


@pytest.fixture(scope="module")
def tables(repository):
    data = repository / "book" / "data"
    return {name: pd.read_csv(data / f"{name}.csv") for name in ("likeness", "inflation_by_size")}


def test_pages_show_the_committed_measurements(repository, tables):
    data = repository / "book" / "data"
    for name, made in (
        ("likeness_shown", likeness_table(tables["likeness"])),
        ("inflation_by_cohort_shown", gain_table(tables["inflation_by_size"])),
    ):
        assert (data / f"{name}.csv").read_text() == made.to_csv(index=False, lineterminator="\n"), name


def test_a_row_says_the_full_size_of_its_cohort(tables):
    measured = tables["inflation_by_size"]
    shown = gain_table(measured)
    assert len(shown) == len(MODELS) * len(measured.groupby(["cohort", "task"]))
    one = measured[(measured["cohort"] == "bus_bra") & (measured["model"] == "1-nn")]
    row = one[one["features"] == "pixels"].sort_values("size").iloc[-1]
    said = shown[(shown["Cohort"] == COHORTS["bus_bra"]) & (shown["Model"] == "1-nn on pixels")].iloc[0]
    assert said["Train"] == f"{row['size']:,d}"
    assert (
        said["Added by a plain split"] == f"{row['estimate']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
    )
    assert said["Share of what was left"].startswith(f"{row['share']:+.0%} (")


def test_the_picture_has_a_row_for_each_cohort_and_a_point_for_each_measurement(tables):
    measured = tables["inflation_by_size"]
    figure = picture(measured)
    left, right = figure.axes
    places = measured[["cohort", "task"]].drop_duplicates()
    assert [text.get_text() for text in left.get_yticklabels()] == [
        name_of(*one) for one in places.to_numpy()
    ]
    points = [line for line in right.lines if line.get_marker() not in ("None", None, "")]
    assert len(points) == len(measured)
    plt.close(figure)
