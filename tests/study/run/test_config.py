"""Settings, profiles, and the notebooks' parameters cells, which must say the same."""

import ast
import json
import re

import pytest
from pydantic import ValidationError

from deferred import deferred
from leakfree_study.run.config import (
    CHEST_ONLY,
    NOTEBOOKS,
    PART_OF,
    PROFILES,
    Settings,
    select_notebooks,
)

with deferred:
    import nbformat

    from leakfree_study.run.notebooks import known_parameters

#: What the runner sets itself, beside a profile's own parameters.
COMMON = {"data", "profile", "seed", "run_dir", "jobs", "resume", "allow_problems"}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module", params=NOTEBOOKS)
def notebook(request, repository):
    return repository / "notebooks" / f"{request.param}.ipynb"


@pytest.fixture(scope="module")
def defaults(notebook):
    return {name: ast.literal_eval(value) for name, value in known_parameters(notebook).items()}


# Settings


def test_the_defaults_are_the_phantom_and_the_quick_profile():
    settings = Settings()
    assert (settings.data, settings.profile, settings.out, settings.only) == ("phantom", "quick", None, ())
    assert (settings.resume, settings.book, settings.allow_problems) == (False, True, False)
    assert (settings.jobs, settings.scheduler, settings.parameters) == (0, "", {})


@pytest.mark.parametrize("unknown", [{"epochs": 3}, {"Profile": "quick"}, {"no_book": True}, {"": 1}])
def test_an_unknown_setting_raises(unknown):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Settings(**unknown)


@pytest.mark.parametrize(
    "bad", [{"profile": "fast"}, {"jobs": -1}, {"jobs": "many"}, {"jobs": 1.5}, {"book": "perhaps"}]
)
def test_a_value_that_makes_no_sense_raises(bad):
    with pytest.raises(ValidationError):
        Settings(**bad)


def test_settings_do_not_change_and_do_not_share():
    first, second = Settings(), Settings()
    with pytest.raises(ValidationError, match="frozen"):
        first.profile = "full"
    first.parameters["seed"] = 7
    assert second.parameters == {}


# Which notebooks


@pytest.mark.parametrize(
    ("only", "chosen"),
    [
        ((), list(NOTEBOOKS)),
        (("02",), ["02_leakage_analysis"]),
        (("05", "02"), ["02_leakage_analysis", *(name for name in NOTEBOOKS if name.startswith("05_"))]),
        (("results", "01_exploration"), ["01_exploration", "results"]),
        (("03", "03_leaky_cnn", "03"), ["03_leaky_cnn"]),
    ],
)
def test_notebooks_are_chosen_by_number_or_name_and_run_in_order(only, chosen):
    assert select_notebooks(only) == chosen


@pytest.mark.parametrize("only", [("2",), ("02", "07"), ("leaky",), ("",), ("02_leakage",), ("RESULTS",)])
def test_an_unknown_notebook_is_refused_by_name(only):
    with pytest.raises(ValueError, match=r"--only .*: no such notebook; known: 01_exploration, .*, results$"):
        select_notebooks(only)


def test_the_list_holds_every_notebook_of_the_folder_in_the_order_of_their_numbers(repository):
    found = sorted(path.stem for path in (repository / "notebooks").glob("*.ipynb"))
    assert sorted(NOTEBOOKS) == found
    numbers = [name.split("_")[0] for name in NOTEBOOKS]
    assert numbers == sorted(numbers)
    assert NOTEBOOKS[-1] == "results"


def test_a_part_runs_after_the_notebook_that_it_was_a_part_of():
    assert PART_OF and set(CHEST_ONLY) <= set(NOTEBOOKS)
    for part, whole in PART_OF.items():
        assert NOTEBOOKS.index(whole) < NOTEBOOKS.index(part)
        shared = PROFILES["full"][part].keys() & PROFILES["full"][whole].keys()
        for profile in PROFILES.values():
            assert {name: profile[part][name] for name in shared} == {
                name: profile[whole][name] for name in shared
            }


# Profiles and notebooks


def test_profiles_cover_the_same_notebooks_and_parameters():
    assert list(PROFILES) == ["smoke", "quick", "full"]
    for profile in PROFILES.values():
        assert list(profile) == list(NOTEBOOKS)
    quick = PROFILES["quick"]
    for name in NOTEBOOKS:
        assert PROFILES["full"][name].keys() == quick[name].keys()
        assert PROFILES["smoke"][name].keys() <= quick[name].keys()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_names_parameters_that_the_notebook_declares(notebook, defaults, profile):
    for name, value in PROFILES[profile][notebook.stem].items():
        assert name in defaults
        assert type(value) is type(defaults[name])
        assert name not in COMMON


def test_a_notebooks_defaults_are_the_quick_profile(notebook, defaults):
    settings = Settings()
    common = {
        "data": settings.data,
        "profile": "quick",
        "seed": 42,
        "run_dir": "",
        "jobs": settings.jobs,
        "resume": settings.resume,
        "allow_problems": settings.allow_problems,
    }
    assert set(common) == COMMON
    expected = {**common, **PROFILES["quick"][notebook.stem]}
    assert {name: defaults.get(name) for name in expected} == expected
    # What no profile changes is the same in every notebook that has it.
    constant = {"scope": "series", "scheduler": "", "weights": "imagenet"}
    constant |= {
        "main_models": ["resnet18", "efficientnet-lite0-imagenet"],
        "other_models": ["simple-cnn-32"],
    }
    choices = {"task", "tasks"}
    left = {k: v for k, v in defaults.items() if k not in expected and k not in choices}
    assert left == {k: v for k, v in constant.items() if k in left}


def test_a_parameters_cell_holds_literals_only(notebook, defaults):
    cells = [
        cell
        for cell in nbformat.read(notebook, as_version=4).cells
        if "parameters" in cell.metadata.get("tags", [])
    ]
    assert len(cells) == 1
    statements = ast.parse(cells[0].source).body
    names = []
    for statement in statements:
        assert isinstance(statement, ast.Assign), ast.unparse(statement)
        (target,) = statement.targets
        ast.literal_eval(statement.value)
        names.append(target.id)
    assert len(names) == len(set(names))
    # papermill reads the cell line by line: a value over two lines would be lost without a word.
    assert names == list(defaults)


def test_a_notebook_is_committed_without_outputs(notebook):
    content = json.loads(notebook.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
        assert not {"execution", "papermill"} & set(cell["metadata"])
    assert "papermill" not in content["metadata"]
    nbformat.validate(nbformat.read(notebook, as_version=4))


def test_a_notebook_can_be_run_and_begins_with_a_title(notebook):
    read = nbformat.read(notebook, as_version=4)
    assert read.metadata["kernelspec"]["name"] == "python3"
    assert read.cells[0].cell_type == "markdown"
    titles = [
        line
        for cell in read.cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("# ")
    ]
    assert titles == read.cells[0].source.splitlines()[:1]
    for cell in read.cells:
        if cell.cell_type == "code":
            ast.parse(cell.source)


def test_a_notebook_tells_the_run_its_own_name(notebook):
    source = "\n".join(c.source for c in nbformat.read(notebook, as_version=4).cells if c.cell_type == "code")
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "open_run"
    ]
    assert [ast.literal_eval(call.args[0]) for call in calls] == [notebook.stem]
    made_how = re.search(r"made_how = (\{.*\})", source)
    given = {k.arg: ast.unparse(k.value) for k in calls[0].keywords if k.arg}
    if made_how:
        assert "**made_how" in ast.unparse(calls[0])
        pairs = ast.parse(made_how[1], mode="eval").body
        given |= {k.value: ast.unparse(v) for k, v in zip(pairs.keys, pairs.values, strict=True)}
    wanted = ("data", "run_dir", "seed", "jobs", "resume", "allow_problems")
    assert given == {name: name for name in wanted}
