"""The page on networks that know their training images by heart says what the cells say."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from deferred import deferred

with deferred:
    from leakfree_study.inflation import memory_shown
    from leakfree_study.inflation.memory import NetworkSide, rule
    from leakfree_study.inflation.memory_results import LAST, read_cells, scored


@pytest.fixture(scope="module")
def data(repository):
    return repository / "book" / "data"


@pytest.fixture(scope="module")
def tables(data):
    return {name: pd.read_csv(data / f"memory{name}.csv") for name in ("", "_curve", "_coverage")}


@pytest.fixture(scope="module")
def cells(data):
    """The committed cells of every condition."""
    return read_cells(data / "memory", rule())


def test_the_page_shows_the_committed_tables(data, tables):
    for name, made in (
        ("memory_shown", memory_shown.shown_table(tables[""])),
        ("memory_coverage_shown", memory_shown.coverage_shown(tables["_coverage"])),
    ):
        assert (data / f"{name}.csv").read_text() == made.to_csv(index=False, lineterminator="\n"), name
    said = memory_shown.said(tables[""], tables["_coverage"], rule())
    assert (data / "memory_said.txt").read_text() == said


def test_the_committed_table_is_what_the_cells_give(cells, tables):
    """The estimates again from the predictions; intervals are held by other tests."""
    for of_condition in cells:
        ones = np.ones((1, int(of_condition.groups.max()) + 1))
        gains = []
        for seed in of_condition.seeds:
            values = [
                scored(
                    of_condition.predictions[NetworkSide(seed, arm)],
                    of_condition.condition.epochs,
                    of_condition.labels,
                    of_condition.groups,
                ).values("roc_auc", ones)[0]
                for arm in ("clean", "leaky")
            ]
            gains.append(values[1] - values[0])
        row = tables[""].query("condition == @of_condition.condition.name and epoch == @LAST").iloc[0]
        assert row["estimate"] == pytest.approx(np.mean(gains), abs=2e-5)
        assert row["draws"] == len(gains)


def test_ten_draws_at_three_losses_and_cells_that_agree_with_their_ledgers(cells, tables):
    base = tables[""].query("condition == 'base'").set_index("epoch")
    assert base.loc[LAST, "draws"] == 10
    assert {f"loss {loss:g}" for loss in rule().losses} <= set(base.index)
    for view, record in cells[0].records.items():
        shared = record["shared_groups"]
        assert (shared == 0) if view.arm == "clean" else (shared > 200)
        assert record["shared_images"] == 0


def test_what_is_not_trained_is_named(tables):
    alone = tables[""].query("condition == 'base'")
    said = memory_shown.said(alone, tables["_coverage"], rule())
    assert memory_shown.CONDITIONS["published"] in said.split("Not trained yet")[1]


def test_the_picture_has_a_line_a_draw_and_a_row_a_condition(tables):
    figure = memory_shown.picture(tables["_curve"], tables[""], rule())
    left, right = figure.axes
    assert sum(line.get_color() == "#777777" for line in left.lines) == 10
    assert len(right.get_yticks()) == len(memory_shown.best_known(tables[""]))
    plt.close(figure)
