"""Who is on both sides: averaged over seeds, between parts of a manifest, and between the official parts."""

import numpy as np
import pandas as pd
import pytest

from deferred import deferred

with deferred:
    from leakfree.split.manifest import Manifest
    from leakfree_study.figures.overlap_plot import overlap_strips
    from leakfree_study.identity import overlaps


def draws():
    rows = [
        ("plain", "series", 1, 4, 5.0, 0.25, 0.30),
        ("plain", "series", 2, 8, 5.0, 0.35, 0.30),
        ("stratified", "series", 1, 6, 5.0, 0.40, 0.30),
    ]
    columns = [
        "split", "scope", "seed", "shared", "expected_shared", "share_of_images", "expected_share_of_images",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def test_the_summary_averages_over_seeds():
    table = overlaps.overlap_summary(draws()).set_index("split")
    plain = table.loc["plain"]
    assert (plain["seeds"], plain["shared"], plain["shared_min"], plain["shared_max"]) == (2, 6, 4, 8)
    assert plain["share_of_images"] == pytest.approx(0.3)
    assert table.loc["stratified", "shared"] == 6
    shown = overlaps.readable_summary(overlaps.overlap_summary(draws())).iloc[0]
    assert shown.tolist() == ["plain", "series", "6.0", "4 to 8", "5.0", "30.0%", "30.0%"]


def test_parts_are_counted_under_every_scope():
    ids = np.array(list("abcdef"), dtype=object)
    parts = {"train": ("a", "b", "c"), "val": ("d",), "test": ("e", "f")}
    manifest = Manifest("m", "patient-level", parts, seed=1, scope="series")
    groups = {"apart": np.arange(6), "joined": np.array([0, 1, 2, 2, 0, 1])}
    table = overlaps.between_parts(manifest, ids, groups)
    assert list(table.index) == ["apart", "joined"]
    assert (table.loc["apart"] == 0).all()
    assert table.loc["joined"].to_dict() == {"train and val": 1, "train and test": 2, "val and test": 0}


def test_official_parts_are_compared_by_names_and_by_files(monkeypatch):
    monkeypatch.setattr(
        overlaps, "patient_ids", lambda table, scope: table["file"].str.split("_").str[0].to_numpy()
    )
    names = [
        ("person1_virus_1.jpeg", "train", "h1"), ("person2_virus_2.jpeg", "train", "h2"),
        ("person1_virus_3.jpeg", "test", "h3"), ("person9_virus_4.jpeg", "test", "h2"),
        ("person9_virus_5.jpeg", "test", "h5"),
    ]  # fmt: skip
    table = pd.DataFrame(names, columns=["file", "part", "sha256"]).assign(image_id=lambda t: t["file"])
    found = overlaps.official_parts(table.assign(**{"label": None}), ["series"])
    assert found.to_numpy().tolist() == [["series", 1, 1, 3], ["identical files", 1, 1, 3]]
    alone = overlaps.official_parts(table[table["part"] == "train"], ["series"])
    assert alone.empty and alone.columns.tolist() == found.columns.tolist()


def test_each_split_is_a_dot_and_chance_a_line():
    figure = overlap_strips(draws(), overlaps.overlap_summary(draws()), seed=1)
    (axis,) = figure.axes
    dots = np.concatenate([c.get_offsets() for c in axis.collections if len(c.get_offsets())])
    assert sorted(dots[:, 0]) == pytest.approx([0.25, 0.35, 0.40])
    (line,) = [line for line in axis.lines if line.get_label() == "expected of a random split"]
    assert list(line.get_xdata()) == [0.3, 0.3]
    again = overlap_strips(draws(), overlaps.overlap_summary(draws()), seed=1).axes[0].collections
    same = np.concatenate([c.get_offsets() for c in again if len(c.get_offsets())])
    assert np.array_equal(dots, same)
