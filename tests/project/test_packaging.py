"""One list of versions, requirements.txt, is the truth for conda, pip and uv."""

import ast
import re
import sys
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ADDRESS = re.compile(r"://|^-|@|--(?:index|extra-index|find-links|hash)", re.MULTILINE)


@pytest.fixture(scope="module")
def pinned(repository):
    """Lines of requirements.txt as requirements."""
    lines = (repository / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines]


@pytest.fixture(scope="module")
def project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def direct(project):
    """All that the project asks for: for the audit, in its extras, and to develop it."""
    extras = project["project"]["optional-dependencies"].values()
    lines = [*project["project"]["dependencies"], *(line for extra in extras for line in extra)]
    found = [Requirement(line) for line in [*lines, *project["dependency-groups"]["dev"]]]
    return [requirement for requirement in found if requirement.name != "leakfree"]


def test_environment_yml_holds_no_version_of_its_own(repository):
    text = (repository / "environment.yml").read_text(encoding="utf-8")
    environment = yaml.safe_load(text)
    *conda, nested = environment["dependencies"]
    assert conda == ["python=3.11", "pip"]
    assert nested == {"pip": ["-r requirements.txt", "-e ."]}
    assert environment["name"] == "leakfree"
    assert not ADDRESS.search(text.replace("- -r", "").replace("- -e", ""))


def test_the_library_asks_for_ranges_and_the_audit_for_little(project):
    core = [Requirement(line) for line in project["project"]["dependencies"]]
    assert len(core) < 16
    for requirement in core:
        assert {s.operator for s in requirement.specifier} == {">="}, f"{requirement}: a floor and no ceiling"
    assert project["project"]["requires-python"] == ">=3.11"
    assert project["tool"]["uv"] == {"managed": False}, "else `uv run` installs the newest of everything"
    study = project["project"]["optional-dependencies"]["study"]
    assert study[0] == "leakfree[train,serve,store,cluster]"


def test_every_line_of_requirements_txt_is_an_exact_pin(repository, pinned):
    text = (repository / "requirements.txt").read_text(encoding="utf-8")
    assert not ADDRESS.search(text)
    assert len(pinned) > 100
    for requirement in pinned:
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        assert "*" not in specifier.version, requirement
        assert Version(specifier.version).local is None, f"{requirement}: a local build"
        assert requirement.url is None
        assert not requirement.extras


def test_a_package_has_one_pin_on_each_platform(pinned):
    platforms = [
        {"sys_platform": s, "os_name": o, "platform_system": p, "python_full_version": v}
        for s, o, p in (
            ("linux", "posix", "Linux"),
            ("darwin", "posix", "Darwin"),
            ("win32", "nt", "Windows"),
        )
        for v in ("3.11.0", "3.11.13")
    ]
    for platform in platforms:
        names = [
            canonicalize_name(requirement.name)
            for requirement in pinned
            if requirement.marker is None or requirement.marker.evaluate(platform)
        ]
        twice = {name for name in names if names.count(name) > 1}
        assert not twice, platform


def test_what_the_project_asks_for_is_pinned_within_its_ranges(direct, pinned, repository):
    versions = {canonicalize_name(r.name): r for r in pinned}
    lines = (repository / "requirements.in").read_text(encoding="utf-8").splitlines()
    bounds = [Requirement(bare) for line in lines if (bare := line.split("#")[0].strip())]
    assert len(direct) > 40 and len(bounds) > 3
    for requirement in [*direct, *bounds]:
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name}: not pinned"
        (specifier,) = versions[name].specifier
        assert requirement.specifier.contains(specifier.version, prereleases=True), requirement


def test_what_is_installed_is_what_is_pinned(direct, pinned):
    names = {canonicalize_name(requirement.name) for requirement in direct}
    for requirement in pinned:
        name = canonicalize_name(requirement.name)
        if name in names and (requirement.marker is None or requirement.marker.evaluate()):
            # A build for one machine, such as 2.12.1+cpu, is the pinned version.
            installed = Version(metadata.version(name)).public
            assert requirement.specifier.contains(installed, prereleases=True), f"{requirement}: {installed}"


def test_the_version_is_that_of_the_package(project):
    import leakfree

    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "leakfree.__version__"}
    assert metadata.version("leakfree") == leakfree.__version__


def test_every_import_is_pinned(repository, pinned):
    modules = {
        "PIL": "pillow",
        "sklearn": "scikit-learn",
        "yaml": "pyyaml",
        "pythonjsonlogger": "python-json-logger",
    } | {
        "cv2": "opencv-python-headless",
        "faiss": "faiss-cpu",
        "markdown_it": "markdown-it-py",
        "bs4": "beautifulsoup4",
    }
    names = {canonicalize_name(requirement.name) for requirement in pinned}
    folders = (repository / "tests", repository / "book" / "_ext")
    files = [
        *(repository / "lib").rglob("*.py"),
        *(file for folder in folders for file in folder.rglob("*.py")),
    ]
    imported = {}
    for file in [*files, repository / "run_all.py"]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                found = [node.module]
            for name in found:
                imported[name.split(".")[0]] = file.relative_to(repository).as_posix()
    scripts = (repository / "book").glob("*.py")
    ours = {"leakfree", "leakfree_study", *(file.stem for file in [*files, *scripts])}
    outside = {top: file for top, file in imported.items() if top not in sys.stdlib_module_names | ours}
    assert {"numpy", "PIL", "torch"} <= set(outside)
    # What is read or wrapped only where a user has it; pyarrow changes how pandas keeps text.
    theirs = {"pyarrow", "keras", "lightning", "transformers"}
    assert not {
        t: f for t, f in outside.items() if canonicalize_name(modules.get(t, t)) not in names | theirs
    }
