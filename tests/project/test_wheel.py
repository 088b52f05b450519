"""The wheel alone, in empty environments, with newest and oldest versions, audits as the checkout does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
#: What an audit may ask for.
MOST_DISTRIBUTIONS, MOST_MEGABYTES = 30, 600


def call(*command, **options):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=clean, **options)
    assert done.returncode in (0, 1), f"{command}: {done.stderr or done.stdout}"
    return done


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory):
    """The wheel, built from a copy without what earlier builds left."""
    root = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, root)
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(repository / "lib", root / "lib", ignore=ignore)
    done = subprocess.run(
        ["uv", "build", "--wheel", "--out-dir", root / "dist"], cwd=root, capture_output=True, text=True
    )
    if "Failed to fetch" in done.stderr or "error sending request" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    (file,) = (root / "dist").glob("*.whl")
    return file


def installed(wheel, folder, python, resolution, extra=""):
    """Install a wheel, with the oldest versions that it allows of what it names, or with the newest."""
    call("uv", "venv", "--python", python, folder)
    call(
        *("uv", "pip", "install", "--python", folder / "bin" / "python", "--resolution", resolution),
        f"{wheel}{extra}",
    )
    return folder / "bin"


def interpreter(version):
    """The command of a Python that is here, also where pyenv keeps it; skips without one."""
    kept = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    if kept:
        return str(kept[-1])
    if subprocess.run(["uv", "python", "find", version], capture_output=True).returncode:
        pytest.skip(f"no Python {version} here")
    return version


def outcome(path):
    report = json.loads(path.read_text(encoding="utf-8"))
    return {name: (check["status"], check["files"]) for name, check in report["checks"].items()}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What this checkout finds in the planted faults, and where they are."""
    folder = tmp_path_factory.mktemp("expected")
    call(sys.executable, "-m", "leakfree.cli", "demo", "--out", folder / "demo")
    images = folder / "demo" / "images"
    call(sys.executable, "-m", "leakfree.cli", "audit", images, "--json", folder / "here.json")
    return images, outcome(folder / "here.json")


@pytest.mark.parametrize(
    ("python", "resolution"),
    [("3.11", "highest"), ("3.11", "lowest-direct"), ("3.12", "highest"), ("3.13", "highest")],
)
def test_the_wheel_alone_finds_the_same(wheel, expected, tmp_path, python, resolution):
    python = interpreter(python)
    images, here = expected
    scripts = installed(wheel, tmp_path / "env", python, resolution)
    call(scripts / "leakfree", "audit", images, "--json", tmp_path / "there.json", cwd=tmp_path)
    assert outcome(tmp_path / "there.json") == here
    listed = call("uv", "pip", "list", "--python", scripts / "python", "--format", "json").stdout
    size = sum(
        file.stat().st_size
        for file in (tmp_path / "env").rglob("*")
        if file.is_file() and not file.is_symlink()
    )
    print(f"Python {python}, {resolution}: {len(json.loads(listed))} distributions, {size / 1e6:.0f} MB")
    assert len(json.loads(listed)) <= MOST_DISTRIBUTIONS
    assert size / 1e6 <= MOST_MEGABYTES
    # A command whose extra is missing says in one line which to install.
    for command in (["predict", "x.png"], ["serve"]):
        done = subprocess.run(
            [scripts / "leakfree", *command], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "pip install 'leakfree[serve]'" in line, line
