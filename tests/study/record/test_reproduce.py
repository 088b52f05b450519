"""A fresh run beside the published one: what differs is found and named, and nothing else is."""

import json
import shutil
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leakfree.base.files import write_json
from leakfree.cli import main
from leakfree_study.record.reproduce import read_table
from leakfree_study.record.tolerances import tolerances

TABLES = sorted(tolerances().tables)
FEW = {
    "01_classes.csv", "04_scores.csv", "05_beside_published.csv", "05_calibration_error.csv",
    "05_coverage.csv", "05_heat.csv", "05_official.csv", "05_scores.csv", "06_roles.csv", "inflation.csv",
    "summary.csv",
}  # fmt: skip


@pytest.fixture(scope="module")
def source(repository):
    return repository / "artifacts" / "chest_xray"


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """The published run without notebooks and predictions, which cost time."""
    run = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(source / "tables", run / "tables")
    for name in ("provenance.json", "sealed_test.jsonl"):
        shutil.copy(source / name, run / name)
    return run


@pytest.fixture(scope="module")
def published(whole, tmp_path_factory):
    """The published run with the tables that tests name: all of them take half a second to compare."""
    run = tmp_path_factory.mktemp("published") / "run"
    return Path(shutil.copytree(whole, run, ignore=lambda _, names: {f"{n}.csv" for n in TABLES} - FEW))


@pytest.fixture
def fresh(published, tmp_path):
    return Path(shutil.copytree(published, tmp_path / "fresh"))


@pytest.fixture
def check(capsys, published):
    """Run the command; return its exit code, what it printed, and what it complained of."""

    def run(folder, *options):
        code = main(["reproduce", str(folder), "--published", str(published), *options])
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def alone(whole, tmp_path_factory):
    """A function that returns the published run with one of its tables, which is compared in a moment."""

    def one(name):
        run = runs / name
        if not run.exists():
            (run / "tables").mkdir(parents=True)
            shutil.copy(whole / "provenance.json", run)
            shutil.copy(whole / "tables" / f"{name}.csv", run / "tables")
        return run

    runs = tmp_path_factory.mktemp("alone")
    return one


@pytest.fixture
def check_alone(capsys, alone, tmp_path):
    """Run the command on a table, changed to what is given, beside the published one; return as `check`."""

    def run(name, table):
        published, fresh = alone(name), tmp_path / "fresh"
        (fresh / "tables").mkdir(parents=True, exist_ok=True)
        shutil.copy(published / "provenance.json", fresh)
        table.to_csv(fresh / "tables" / f"{name}.csv", index=False)
        code = main(["reproduce", str(fresh), "--published", str(published), "--partial"])
        shutil.rmtree(fresh)
        return code, *capsys.readouterr()

    return run


def alter(run, name, row, column, value):
    path = run / "tables" / f"{name}.csv"
    table = read_table(path)
    table.loc[row, column] = value
    table.to_csv(path, index=False)


def provenance(run, change):
    path = run / "provenance.json"
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


def moved(text, by):
    """Move a number, and a text that is none to another text."""
    try:
        value = Decimal(text)
    except ArithmeticError:
        return f"{text} other"
    return str(value + Decimal(by)) if value.is_finite() else "0"


# The same


def test_a_copy_agrees(capsys, whole, tmp_path):
    fresh = Path(shutil.copytree(whole, tmp_path / "fresh"))
    code = main(["reproduce", str(fresh), "--published", str(whole)])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("published") and "profile full" in lines[0] and "5,840 images" in lines[0]
    assert lines[1].startswith("fresh") and str(fresh) in lines[1]
    assert lines[-1] == "the runs agree"
    assert f"{len(TABLES)} tables: {len(TABLES)} agree; " in lines[-2]
    assert [line.split()[1].rstrip(":") for line in lines if line.startswith("agrees")] == TABLES
    scores = next(line for line in lines if line.startswith("agrees    05_scores"))
    assert (
        scores.startswith("agrees    05_scores: 140 rows,") and "within 0.02, largest deviation 0;" in scores
    )


def test_the_published_run_is_found_where_none_is_named(capsys, fresh, repository, monkeypatch, tmp_path):
    monkeypatch.chdir(repository)
    assert main(["reproduce", str(fresh), "--partial"]) == 0
    assert "published  artifacts/chest_xray: profile full, seed 42" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", str(fresh), "--partial"]) == 0
    assert str(repository) in capsys.readouterr().out.splitlines()[0]


# One change in any table


@pytest.mark.parametrize("name", TABLES)
def test_a_change_of_any_column_is_named_when_its_rule_forbids_it(check_alone, whole, name):
    rules = tolerances().tables[name]
    before = read_table(whole / "tables" / f"{name}.csv")
    changed, expected, untold = before.copy(), set(), {}
    for place, column in enumerate(before.columns.difference(list(rules.key))):
        # Another row for each column, so that rules of some rows get their turn.
        number = 37 * place % len(before)
        row = before.loc[number].to_dict()
        old, rule = row[column], rules.of_row(row)[column]
        new = moved(old, "0.000001" if rule == "exact" else "0.021")
        changed.loc[number, column] = new
        key = ", ".join(f"{k} {row[k] or 'empty'}" for k in rules.key)
        if rule not in ("exact", "within"):
            untold[column] = f"{column} (1 of them differ)"
            continue
        allowed = "exact" if rule == "exact" else "within 0.02"
        told = f"{key}: {column}: published {old or 'nothing'}, fresh {new} ({allowed})"
        expected.add(f"          {name}, {told}")
    code, out, _ = check_alone(name, changed)
    assert code == (1 if expected else 0)
    assert {line for line in out.splitlines() if line.startswith(" ")} == expected
    line = next(line for line in out.splitlines() if f"  {name}: " in line)
    assert line.startswith("differs" if expected else "agrees")
    assert all(text in line for text in untold.values())


@pytest.mark.parametrize("name", [name for name in TABLES if tolerances().tables[name].within])
def test_scores_of_any_table_may_move_by_less_than_the_tolerance(check_alone, whole, name):
    rules = tolerances().tables[name]
    table = read_table(whole / "tables" / f"{name}.csv")
    for number, row in enumerate(table.to_dict("records")):
        for column in rules.within:
            if rules.of_row(row)[column] == "within" and row[column]:
                table.loc[number, column] = moved(row[column], "0.019" if number % 2 else "-0.019")
    code, out, _ = check_alone(name, table)
    assert code == 0
    assert "largest deviation 0.019" in next(line for line in out.splitlines() if f"  {name}: " in line)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_change_anywhere_is_found_unless_its_rule_allows_it(check_alone, whole, data):
    name = data.draw(st.sampled_from(TABLES))
    rules = tolerances().tables[name]
    table = read_table(whole / "tables" / f"{name}.csv")
    number = data.draw(st.integers(0, len(table) - 1))
    column = data.draw(st.sampled_from(sorted(table.columns)))
    by = data.draw(st.sampled_from(["0.000001", "-0.000001", "0.019", "-0.02", "0.021", "1", "-40"]))
    row = table.loc[number].to_dict()
    new = moved(row[column], by)
    table.loc[number, column] = new
    rule = rules.of_row(row)[column]
    # A text, a gap and what is no finite number moves to another text or to a number, which no rule allows.
    near = abs(Decimal(by)) <= Decimal("0.02") and row[column] not in ("", "nan", "inf")
    allowed = rule not in ("exact", "within") or (rule == "within" and near)
    allowed |= column in rules.key and rules.free_rows is not None
    code, out, _ = check_alone(name, table)
    assert code == (0 if allowed else 1), (name, number, column, row[column], new, out)


@pytest.mark.parametrize(("by", "expected"), [("0.019", 0), ("-0.02", 0), ("0.021", 1), ("-0.020001", 1)])
def test_a_deep_score_may_move_by_the_tolerance_and_no_further(check, fresh, by, expected):
    before = read_table(fresh / "tables" / "05_scores.csv").loc[3, "estimate"]
    alter(fresh, "05_scores", 3, "estimate", moved(before, by))
    code, out, _ = check(fresh)
    assert code == expected
    assert f"0.02 is allowed: {by.lstrip('-')}" in out


def test_a_classical_score_may_not_move(check, fresh):
    before = read_table(fresh / "tables" / "04_scores.csv").loc[3, "estimate"]
    alter(fresh, "04_scores", 3, "estimate", moved(before, "0.000001"))
    code, out, _ = check(fresh)
    assert code == 1
    assert out.splitlines()[-2].startswith(f"{len(FEW)} tables: {len(FEW) - 1} agree, 1 differs; ")
    assert out.splitlines()[-1] == "the runs differ"


# Tables and rows of one run only


def test_a_missing_table_is_named_with_the_notebook_that_writes_it(check, fresh):
    (fresh / "tables" / "inflation.csv").unlink()
    code, out, _ = check(fresh)
    assert code == 1
    assert "missing   inflation: the fresh run does not have it; written by notebook 06_inflation" in out
    code, out, _ = check(fresh, "--partial")
    assert code == 0
    assert "not run   inflation; written by notebook 06_inflation" in out
    assert out.splitlines()[-1] == "the runs agree, as far as the fresh one went"


def test_a_missing_row_is_named_and_may_be_missing_in_a_partial_run(check, fresh):
    path = fresh / "tables" / "summary.csv"
    read_table(path).drop(index=[0]).to_csv(path, index=False)
    code, out, _ = check(fresh)
    assert code == 1
    assert "summary, notebook 04, task binary, model logistic_regression," in out
    assert "metric accuracy: in the published run only" in out
    code, out, _ = check(fresh, "--partial")
    assert code == 0 and "; 1 row not run" in out


@pytest.mark.parametrize("options", [(), ("--partial",)])
def test_a_row_too_many_fails_also_in_a_partial_run(check, fresh, options):
    path = fresh / "tables" / "01_classes.csv"
    path.write_text(path.read_text() + "train,unknown,1\n")
    code, out, _ = check(fresh, *options)
    assert code == 1
    assert "01_classes, part train, label unknown: in the fresh run only" in out


@pytest.mark.parametrize("options", [(), ("--partial",)])
def test_a_table_without_a_rule_is_reported_and_fails(check, fresh, options):
    (fresh / "tables" / "07_new.csv").write_text("a,b\n1,2\n")
    code, out, _ = check(fresh, *options)
    assert code == 1
    assert "no rule   07_new: not in tolerances.yaml" in out


def test_a_column_without_a_rule_is_reported_and_fails(check, fresh):
    path = fresh / "tables" / "05_scores.csv"
    read_table(path).assign(brier="0.1").to_csv(path, index=False)
    code, out, _ = check(fresh)
    assert code == 1
    assert "05_scores, column brier has no rule" in out


@pytest.mark.parametrize("options", [(), ("--partial",)])
def test_a_table_that_only_the_fresh_run_has_fails(capsys, check, fresh, published, options, tmp_path):
    older = shutil.copytree(published, tmp_path / "older")
    (older / "tables" / "05_heat.csv").unlink()
    assert main(["reproduce", str(fresh), "--published", str(older), *options]) == 1
    assert "extra     05_heat: in the fresh run only" in capsys.readouterr().out


def test_a_table_that_cannot_be_read_is_named(check, fresh):
    (fresh / "tables" / "05_heat.csv").write_bytes(b"a,b\n1,2,3\n4\n1,2,3,4,5\n")
    code, out, _ = check(fresh)
    assert code == 1
    assert "differs   05_heat: 05_heat.csv cannot be read" in out


def test_a_run_whose_sealed_test_is_closed_may_lack_only_what_rests_on_it(check, fresh):
    for name in ("05_official", "05_beside_published"):
        (fresh / "tables" / f"{name}.csv").unlink()
    assert check(fresh)[0] == 1, "it was opened, so the tables must be there"
    (fresh / "sealed_test.jsonl").unlink()
    for name in ("05_coverage", "05_calibration_error"):
        path = fresh / "tables" / f"{name}.csv"
        table = read_table(path)
        table[table["part"] == "internal"].to_csv(path, index=False)
    code, out, _ = check(fresh)
    assert code == 0
    assert "sealed    05_official: the fresh run did not open its sealed test" in out
    assert "rows sealed in the fresh run" in next(
        line for line in out.splitlines() if " 05_coverage:" in line
    )
    (fresh / "tables" / "05_scores.csv").unlink()
    assert check(fresh)[0] == 1


# What the runs are


def test_other_data_are_refused_in_one_line(check, fresh):
    provenance(fresh, lambda content: content["data"].update(checksum="0" * 64, name="others"))
    code, out, err = check(fresh)
    assert (code, out) == (2, "")
    assert err.startswith("leakfree reproduce: not the same data: ") and "others 000000000000" in err
    assert err.count("\n") == 1


def test_a_run_on_a_gpu_says_so_and_its_classical_scores_stay_exact(check, fresh):
    provenance(fresh, lambda content: content["machine"].update(accelerator="NVIDIA H100 80GB HBM3"))
    code, out, _ = check(fresh)
    assert code == 0
    assert (
        "fresh run: made on a machine with a GPU: NVIDIA H100 80GB HBM3; models on pixels must still" in out
    )
    before = read_table(fresh / "tables" / "04_scores.csv").loc[0, "low"]
    alter(fresh, "04_scores", 0, "low", moved(before, "0.000001"))
    assert check(fresh)[0] == 1


@pytest.mark.parametrize("given", ["none", None])
def test_a_run_without_a_gpu_and_one_that_does_not_say_are_told_apart(check, fresh, given):
    provenance(fresh, lambda content: content["machine"].pop("accelerator", None))
    if given:
        provenance(fresh, lambda content: content["machine"].update(accelerator=given))
    assert f"\nfresh run: GPU {given or 'not recorded'}\n" in check(fresh)[1]


def test_runs_whose_networks_differ_in_precision_say_so(check, fresh, published, tmp_path, capsys):
    (there := tmp_path / "there").mkdir()
    shutil.copytree(published, there, dirs_exist_ok=True)
    for folder, precision in ((there, "bfloat16"), (fresh, "float32")):
        facts = {"epoch": 1, "precision": precision}
        write_json(folder / "cells" / "network.json", {"facts": facts})
    assert main(["reproduce", str(fresh), "--published", str(there)]) == 0
    assert (
        "precision of networks: published bfloat16, fresh float32; they come within"
        in capsys.readouterr().out
    )
    assert main(["reproduce", str(fresh), "--published", str(fresh)]) == 0
    assert "precision of networks" not in capsys.readouterr().out


def test_versions_and_settings_that_differ_are_named(check, fresh):
    def change(content):
        content["versions"]["numpy"] = "9.9"
        content["notebooks"]["04_leakfree_classical"]["parameters"].update(trees=7, jobs=3, data="elsewhere")

    provenance(fresh, change)
    code, out, _ = check(fresh)
    assert code == 0, "what they change is in the tables"
    assert "version of numpy: published 2.4.6, fresh 9.9" in out
    assert "setting of 04_leakfree_classical: trees: published 100, fresh 7" in out
    assert "jobs" not in out and "elsewhere" not in out


def test_prediction_files_are_counted_and_change_nothing(check, fresh, published, tmp_path, capsys):
    older = shutil.copytree(published, tmp_path / "older")
    for run, content in ((older, "1"), (fresh, "2")):
        (run / "predictions" / "06").mkdir(parents=True)
        (run / "predictions" / "same.csv").write_text("0")
        (run / "predictions" / "06" / "other.csv.gz").write_text(content)
    (older / "predictions" / "gone.csv").write_text("0")
    assert main(["reproduce", str(fresh), "--published", str(older)]) == 0
    assert "3 published, 2 fresh; of the 2 in both, 1 are identical to the byte" in capsys.readouterr().out


# Bad input, JSON


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda run: (run / "provenance.json").unlink(), "not a finished run"),
        (lambda run: (run / "provenance.json").write_text("{"), "not the provenance of a run"),
        (lambda run: shutil.rmtree(run / "tables"), "has no tables"),
        (shutil.rmtree, "not a finished run"),
    ],
)
def test_what_is_no_run_is_one_line_and_exit_code_2(check, fresh, break_it, reason):
    break_it(fresh)
    code, out, err = check(fresh)
    assert (code, out) == (2, "")
    assert reason in err and str(fresh) in err and err.count("\n") == 1


def test_json_holds_everything(capsys, whole, tmp_path):
    fresh = Path(shutil.copytree(whole, tmp_path / "fresh"))
    before = read_table(fresh / "tables" / "inflation.csv")
    alter(fresh, "inflation", list(range(30)), "draws", "19")
    (fresh / "tables" / "06_roles.csv").unlink()
    file = tmp_path / "found" / "all.json"
    assert main(["reproduce", str(fresh), "--published", str(whole), "--json", str(file)]) == 1
    out = capsys.readouterr().out
    assert "inflation, and 10 more like it; --json writes all" in out
    found = json.loads(file.read_text())
    assert (found["agrees"], found["partial"], found["tolerance"]) == (False, False, "0.02")
    assert found["published"]["profile"] == found["fresh"]["profile"] == "full"
    tables = {table["name"]: table for table in found["tables"]}
    assert sorted(tables) == TABLES
    assert (tables["06_roles"]["status"], tables["06_roles"]["fails"]) == ("missing", True)
    assert len(tables["inflation"]["differences"]) == 30
    assert tables["inflation"]["differences"][0] == {
        "row": {key: before.loc[0, key] for key in tolerances().tables["inflation"].key},
        "column": "draws",
        "published": before.loc[0, "draws"],
        "fresh": "19",
        "allowed": "exact",
    }
    assert found["reasons"] == tolerances().reasons
