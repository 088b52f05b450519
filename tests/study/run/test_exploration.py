"""What a cohort holds: sizes by class and mode, and files with the same bytes."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from deferred import deferred

with deferred:
    from leakfree_study.run import exploration

TABLE = pd.DataFrame(
    {
        "image_id": list("abcde"),
        "label": ["ill", "ill", "well", "well", "ill"],
        "mode": ["L", "L", "L", "L", "RGB"],
        "width": [100, 300, 50, 50, 10],
        "height": [100, 100, 100, 100, 10],
        "sha256": ["1", "2", "1", "3", "2"],
    }
)


def test_sizes_are_medians_by_class_and_mode():
    table = exploration.sizes(TABLE).set_index(["label", "mode"])
    assert table.loc[("ill", "L")].tolist() == [2, 200, 100, 2.0]
    assert table.loc[("ill", "RGB"), "images"] == 1
    assert table.loc[("well", "L"), "median_aspect"] == 0.5


def test_identical_files_are_listed_by_their_content():
    found = exploration.identical_files(TABLE)
    assert found.to_numpy().tolist() == [[0, "a", "ill"], [0, "c", "well"], [1, "b", "ill"], [1, "e", "ill"]]
    alone = exploration.identical_files(TABLE.iloc[:2])
    assert alone.empty and alone.columns.tolist() == ["group", "image_id", "label"]


def test_samples_are_drawn_under_their_labels(encode, monkeypatch):
    from leakfree_study.figures import plots

    drawn = {}
    monkeypatch.setattr(plots, "contact_sheet", lambda images, **s: drawn.update(images=images, **s))
    blobs = [encode(seed=1), encode(seed=2)]
    cohort = SimpleNamespace(iterate=lambda rows: [(rows, [blobs[row] for row in rows])])
    run = SimpleNamespace(cohort=cohort, credit="By us.")
    exploration.draw_samples(run, TABLE.iloc[[1, 0]])
    assert [image.shape for image in drawn["images"]] == [(96, 96)] * 2
    assert not np.array_equal(*drawn["images"])
    assert drawn["titles"] == ["ill", "ill"] and drawn["credit"] == "By us."
