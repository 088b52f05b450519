"""What the figures that readers can question are given: the table's rows, the looks of the static figures."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from explore_data import as_script, explore_data

from deferred import deferred
from leakfree_study.inflation.preregistration import preregistration

with deferred:
    from leakfree_study.inflation import plots
    from leakfree_study.inflation.catalogue import LEAKS

RUN = Path(__file__).resolve().parents[3] / "artifacts" / "chest_xray"


def a_run(folder: Path, table: pd.DataFrame) -> Path:
    (folder / "tables").mkdir()
    table.to_csv(folder / "tables" / "inflation.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.read_csv(RUN / "tables" / "inflation.csv")


def test_rows_are_those_of_the_table_with_the_looks_of_the_static_figures(table):
    data = explore_data(RUN)
    wanted = table[table["primary"] & (table["metric"] == "roc_auc")]
    assert len(data["rows"]) == len(wanted) > 200
    for row, (_, of_table) in zip(data["rows"], wanted.iterrows(), strict=True):
        for name, value in zip(data["columns"], row, strict=True):
            assert value == of_table[name] or (value is None and pd.isna(of_table[name]))
    looks = {model["name"]: model for model in data["models"]}
    assert set(looks) == set(wanted["model"])
    for name, look in looks.items():
        own = plots.model_look(name)
        assert (look["colour"], look["fill"]) == (own["color"], own["markerfacecolor"])
    assert data["margin"] == preregistration().margins["roc_auc"]
    # It begins where leaks are worth most.
    assert data["tasks"] == ["etiology", "three-class", "binary"] and data["task_titles"]["etiology"]
    order = [leak.protocol for leak in LEAKS]
    names = [leak["name"] for leak in data["leaks"]]
    assert names == sorted(set(wanted["protocol"]), key=order.index)
    assert {leak["name"] for leak in data["leaks"] if leak["doses"]} == {"siblings", "exact", "near"}


def test_element_holds_the_data_and_nothing_in_it_ends_it(tmp_path, table):
    row = table[table["primary"] & (table["metric"] == "roc_auc")].head(1).copy()
    row["verdict"] = "</script><b>"
    text = as_script(a_run(tmp_path, row))
    assert text.count("</script>") == 1 and text.count("<") == 2
    inside = text.partition(">")[2].removesuffix("</script>\n")
    assert json.loads(inside)["rows"][0][-1] == "</script><b>"


def test_what_is_missing_or_unknown_is_one_line(tmp_path, table):
    with pytest.raises(ValueError, match=r"has no tables/inflation\.csv$"):
        explore_data(tmp_path)
    run = a_run(tmp_path, table.drop(columns="low"))
    with pytest.raises(ValueError, match=r"has no column low$"):
        explore_data(run)
    table.replace({"protocol": {"exact": "exactly"}}).to_csv(run / "tables" / "inflation.csv", index=False)
    with pytest.raises(ValueError, match=r"has an unknown leak exactly$"):
        explore_data(run)
