"""Pictures of the inflation study: every row that should be drawn is drawn, and labelled."""

import pandas as pd
import pytest

from deferred import deferred

with deferred:
    import matplotlib.pyplot as plt

    from leakfree_study.inflation import plots
    from leakfree_study.inflation.catalogue import LEAKS

TITLES = {"binary": "normal against pneumonia", "etiology": "bacterial against viral"}


def rows():
    made = []
    for leak in LEAKS:
        for task in ("binary", "etiology"):
            for model in ("1-nn on pixels", "1-nn on embeddings", "resnet18"):
                for _, _, dose in leak.arms:
                    made.append(
                        {
                            "protocol": leak.protocol,
                            "task": task,
                            "model": model,
                            "dose": dose,
                            "metric": leak.metrics[0],
                            "estimate": 0.1 * dose,
                            "low": 0.05 * dose,
                            "high": 0.2 * dose,
                        }
                    )
    return pd.DataFrame(made)


def marks(axis):
    return [line for line in axis.lines if line.get_linestyle() == "None"]


def test_the_forest_has_a_mark_for_each_leak_and_model_at_full_dose():
    figure = plots.forest(rows(), margin=0.01)
    expected = 3 * sum(leak.metrics[0] == "roc_auc" for leak in LEAKS)
    assert len(figure.axes) == 2
    for axis, task in zip(figure.axes, TITLES, strict=True):
        assert axis.get_title() == TITLES[task]
        assert len(marks(axis)) == expected
        assert {line.get_xdata()[0] for line in marks(axis)} == {0.1}
    shown = {label.get_text() for label in figure.axes[0].get_yticklabels()}
    assert "The same patient on both sides (L3.2)" in shown
    assert "Threshold chosen on test" not in shown
    assert [t.get_text() for t in figure.legends[0].get_texts()][-1].startswith("within 0.01")
    assert not plt.get_fignums()


def test_dose_response_starts_at_nothing():
    figure = plots.dose_response(rows(), margin=0.01)
    assert len(figure.axes) == 4
    assert [axis.get_title() for axis in figure.axes] == [*TITLES.values(), "", ""]
    for axis in figure.axes:
        lines = [line for line in axis.lines if len(line.get_xdata()) == 5]
        assert len(lines) == 3
        for line in lines:
            assert (line.get_xdata()[0], line.get_ydata()[0]) == (0, 0)
            assert line.get_ydata()[-1] == pytest.approx(0.1)


def test_the_control_has_a_line_for_each_strength_and_dose():
    made = pd.DataFrame(
        [
            {
                "identity": i,
                "disease": d,
                "dose": dose,
                "model": m,
                "estimate": i,
                "low": i - 1,
                "high": i + 1,
            }
            for i in (0.0, 0.5, 1.0)
            for d in (0.5, 1.0)
            for dose in (0.5, 1.0)
            for m in ("1-nn on pixels", "logistic-regression on pixels")
        ]
    )
    figure = plots.phantom_control(made)
    for axis in figure.axes:
        lines = [line for line in axis.lines if len(line.get_xdata()) == 3]
        assert len(lines) == 4
        assert all(list(line.get_ydata()) == [0.0, 0.5, 1.0] for line in lines)
