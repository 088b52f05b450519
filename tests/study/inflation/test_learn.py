"""The fit of the rule of `leakfree estimate`: recovered from made-up cohorts, and made again."""

import numpy as np
import pandas as pd
import pytest
import yaml

from deferred import deferred

with deferred:
    from leakfree.base.files import file_hash
    from leakfree.estimate import rule
    from leakfree_study.inflation import learn


def measured(slopes, sizes=(100, 400)):
    """A table in which the share gained is a cohort's slope times the share found, for every model."""
    rows = []
    for cohort, slope in slopes.items():
        for size in sizes:
            for model, features in learn.MODELS.values():
                found = 0.5 - size / 2000
                share, clean = slope * found, 0.7
                seen = found if (model, features) == ("1-nn", "pixels") else 0.0
                scores = {"clean": clean, "leaky": clean + share * (1 - clean), "share": share, "found": seen}
                of = {"cohort": cohort, "task": "classes", "images": 500, "features": features}
                rows.append({**of, "model": model, "size": size, **scores})
    return pd.DataFrame(rows)


def test_slopes_are_recovered_and_a_cohort_counts_once():
    slopes = {"a": 0.5, "b": 0.9}
    table = measured(slopes)
    again = table[table["cohort"] == "a"].assign(task="another")
    cells = learn.cells_of(pd.concat([table, again]))
    for slope in learn.slopes_of(cells, ["a", "b"]).values():
        assert slope.mean == pytest.approx(0.7)
        assert slope.spread == pytest.approx(np.std([0.5, 0.9], ddof=1))


def test_a_cohort_that_is_left_out_does_not_foretell_itself():
    cells = learn.cells_of(measured({"a": 0.5, "b": 0.5, "c": 1.1, "new": 0.2}))
    out = learn.left_out(cells, ["a", "b", "c"], ["new"]).set_index(["cohort", "model"])
    assert len(out) == 4 * len(learn.MODELS)
    assert set(out["size"]) == {400}
    of_c = out.loc[("c", "1-nn on pixels")]
    assert of_c["foretold"] == pytest.approx(0.5 * of_c["found"])
    assert of_c["foretold_gained"] == pytest.approx(0.5 * of_c["found"] * 0.3)
    assert not of_c["inside"], "two cohorts agree, the third does not"
    of_new = out.loc[("new", "1-nn on pixels")]
    assert of_new["foretold"] == pytest.approx(0.7 * of_new["found"])
    assert (of_c["learned_from"], of_new["learned_from"]) == (2, 3)


def test_the_committed_numbers_are_the_fit_of_the_committed_table(repository, tmp_path):
    table = repository / "book" / "data" / "inflation_by_size.csv"
    learn.write(table, tmp_path / "left_out.csv", tmp_path / "learned.yaml")
    assert (tmp_path / "learned.yaml").read_bytes() == rule.LEARNED.read_bytes()
    committed = table.with_name("estimate_left_out.csv")
    assert (tmp_path / "left_out.csv").read_bytes() == committed.read_bytes()
    assert yaml.safe_load(rule.LEARNED.read_text())["measured_sha256"] == file_hash(table)


def test_every_gain_in_the_table_is_the_difference_of_its_scores(repository):
    for name in ("inflation_by_size", "inflation_by_images"):
        table = pd.read_csv(repository / "book" / "data" / f"{name}.csv")
        np.testing.assert_allclose(table["estimate"], table["leaky"] - table["clean"], atol=3e-5)
        assert (table["low"] <= table["estimate"]).all() and (table["estimate"] <= table["high"]).all()
        assert (table["draws"] >= 10).all()
