"""One list of versions, requirements.txt, is the truth for conda, pip and uv."""

import ast
import re
import shutil
import subprocess
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
def direct(repository):
    """Requirements that the project names itself."""
    lines = (repository / "requirements.in").read_text(encoding="utf-8").splitlines()
    bare = [line.split("#")[0].strip() for line in lines]
    return [Requirement(line) for line in bare if line]


@pytest.fixture(scope="module")
def project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))


def test_environment_yml_holds_no_version_of_its_own(repository):
    text = (repository / "environment.yml").read_text(encoding="utf-8")
    environment = yaml.safe_load(text)
    *conda, nested = environment["dependencies"]
    assert conda == ["python=3.11", "pip"]
    assert nested == {"pip": ["-r requirements.txt", "-e ."]}
    assert environment["name"] == "leakfree"
    assert not ADDRESS.search(text.replace("- -r", "").replace("- -e", ""))


def test_pyproject_reads_its_dependencies_from_requirements_txt(project):
    assert "dependencies" in project["project"]["dynamic"]
    assert "dependencies" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["dependencies"] == {"file": ["requirements.txt"]}
    assert project["tool"]["setuptools"]["packages"]["find"]["where"] == ["lib"]
    assert project["project"]["requires-python"] == ">=3.11,<3.12", "as python=3.11 of environment.yml"
    # A second list, for instance of development tools, would be a second truth.
    assert "optional-dependencies" not in project["project"]
    assert "dependency-groups" not in project
    assert "uv" not in project.get("tool", {})


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


def test_the_names_of_requirements_in_are_all_pinned_within_their_bounds(direct, pinned):
    versions = {canonicalize_name(r.name): r for r in pinned if r.marker is None}
    assert direct
    for requirement in direct:
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name}: not pinned for every platform"
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


def test_the_built_package_asks_for_exactly_these_pins(repository, pinned, tmp_path):
    for file in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE", "lib/leakfree/__init__.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / file, tmp_path / file)
    code = "from setuptools.build_meta import prepare_metadata_for_build_wheel as p; print(p('.'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    built = metadata.Distribution.at(tmp_path / done.stdout.splitlines()[-1])
    assert {str(Requirement(line)) for line in built.requires or []} == {str(line) for line in pinned}
    assert built.metadata["Requires-Python"] in ("<3.12,>=3.11", ">=3.11,<3.12")


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
        *(file for folder in folders for file in folder.glob("*.py")),
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
    ours = {"leakfree", *(file.stem for file in [*files, *scripts])}
    outside = {top: file for top, file in imported.items() if top not in sys.stdlib_module_names | ours}
    assert {"numpy", "PIL", "torch"} <= set(outside)
    assert not {t: f for t, f in outside.items() if canonicalize_name(modules.get(t, t)) not in names}
