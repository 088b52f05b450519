"""Pictures of one model show the numbers that they were given."""

import numpy as np
import pandas as pd
import pytest

from deferred import deferred
from leakfree.scores.calibration import reliability
from probabilities import sampled

with deferred:
    from leakfree_study.figures import model_plots


def test_reliability_shows_every_bin_with_images():
    predictions, true = sampled(800, 2, 2.0, seed=1)
    tables = {"before": reliability(predictions), "after": reliability(true)}
    figure = model_plots.reliability_diagram(tables, title="somewhere")
    above, below = figure.axes
    lines = {line.get_label(): line for line in above.get_lines()}
    for name, table in tables.items():
        known = table[table["images"] > 0]
        assert lines[name].get_xdata() == pytest.approx(known["confidence"])
        assert lines[name].get_ydata() == pytest.approx(known["accuracy"])
    # A vertical line a bin with images, from one end of its interval to the other.
    ends = [segment[:, 1] for lines in above.collections for segment in lines.get_segments()]
    wanted = pd.concat([table[table["images"] > 0] for table in tables.values()])
    assert np.array(ends) == pytest.approx(wanted[["accuracy_low", "accuracy_high"]].to_numpy())
    heights = sorted(bar.get_height() for bar in below.patches)
    assert heights == sorted([*tables["before"]["images"], *tables["after"]["images"]])
    assert len({line.get_color() for line in lines.values()}) == 3


def test_hidden_regions_keep_their_order():
    table = pd.DataFrame(
        {"hidden": ["nothing", "lungs"], "estimate": [0.9, 0.6], "low": [0.8, 0.5], "high": [0.95, 0.7]}
    )
    (axis,) = model_plots.hidden_scores(table).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["nothing", "lungs"]
    assert axis.get_ylim()[0] > axis.get_ylim()[1]  # the first stands on top
    (points,) = [line for line in axis.get_lines() if line.get_marker() == "o"]
    assert points.get_xdata() == pytest.approx([0.9, 0.6])


def test_a_zoom_curve_has_a_panel_a_rate_and_a_line_a_network():
    table = pd.DataFrame(
        [
            {"model": model, "zoom": zoom, "metric": metric, "estimate": value, "low": value - 0.1,
             "high": value + 0.05}
            for model, worst in (("before", 0.2), ("now", 0.9))
            for zoom, value in ((1.3, worst), (0.8, worst), (1.0, 0.95))
            for metric in ("sensitivity", "specificity")
        ]
    )  # fmt: skip
    figure = model_plots.zoom_curves(table)
    assert [axis.get_title() for axis in figure.axes] == ["Sensitivity", "Specificity"]
    for axis in figure.axes:
        lines = {line.get_label(): line for line in axis.get_lines() if line.get_label() in ("before", "now")}
        assert lines["before"].get_xdata().tolist() == [0.8, 1.0, 1.3]
        assert lines["now"].get_ydata() == pytest.approx([0.9, 0.95, 0.9])
        assert lines["now"].get_color() != lines["before"].get_color()
        assert len(axis.collections) == 2  # the bands
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["before", "now"]


def test_two_tests_share_one_axis_and_a_line_joins_them():
    table = pd.DataFrame(
        [
            {
                "metric": metric,
                "model": model,
                "test": test,
                "estimate": value,
                "low": value - 0.1,
                "high": value + 0.1,
            }
            for metric in ("accuracy", "roc_auc")
            for model, pair in (("a", (0.9, 0.7)), ("b", (0.8, 0.6)))
            for test, value in zip(("internal", "official"), pair, strict=True)
        ]
    )
    figure = model_plots.two_tests(table)
    first, second = figure.axes
    assert first.get_xlim() == second.get_xlim()
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["accuracy", "ROC AUC"]
    joins = [line.get_xdata() for line in first.get_lines() if line.get_marker() == "None"]
    assert [list(join) for join in joins] == [[0.9, 0.7], [0.8, 0.6]]
    assert [text.get_text() for text in first.texts] == ["internal", "official"]


def test_images_stand_above_their_heat_as_thumbnails():
    images = np.random.default_rng(0).integers(0, 256, (3, 224, 224), dtype=np.uint8)
    heat = np.random.default_rng(1).random((3, 224, 224)).astype(np.float32)
    figure = model_plots.heat_panels(list(images), heat, ["a", "b", "c"], credit="whose", title="t")
    assert len(figure.axes) == 6
    for axis in figure.axes:
        assert all(max(image.get_array().shape) <= 96 for image in axis.get_images())
    assert [len(axis.get_images()) for axis in figure.axes] == [1, 1, 1, 2, 2, 2]
    assert [axis.get_title() for axis in figure.axes[:3]] == ["a", "b", "c"]
    assert figure.get_supxlabel() == "whose"
