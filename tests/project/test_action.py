"""The action's steps and the hooks' entries, run on a planted leak as GitHub and pre-commit run them."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from leakfree.cli import main

ROOT = Path(__file__).resolve().parents[2]
LEAK = "X = StandardScaler().fit_transform(X)\n"
CODE = """import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
X = np.load("x.npy")
train, test = train_test_split(X)
"""


@pytest.fixture(scope="module")
def action():
    return yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))


@pytest.fixture
def checkout(tmp_path, write_folder, encode):
    for part, numbers in (("train", range(6)), ("test", range(20, 24))):
        for n in numbers:
            name = f"{part}/{'NORMAL' if n % 2 else 'PNEUMONIA'}/person{n}_virus_1.jpeg"
            write_folder({name: encode(seed=n, size=(80, 64))}, "my films")
    (tmp_path / "train.py").write_text(CODE)
    return tmp_path


def run(step, checkout, **inputs):
    """Run one step as the runner does: its shell, its variables, the inputs put in."""
    variables = {name: inputs.get(name.lower(), "leakfree-report") for name in step["env"]}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [shutil.which("bash"), "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        cwd=checkout, env={**os.environ, **variables, "PATH": path}, capture_output=True, text=True,
    )  # fmt: skip


def step(action, name):
    return next(step for step in action["runs"]["steps"] if step.get("name") == name)


def test_the_action_is_whole(action):
    assert action["runs"]["using"] == "composite"
    assert all("shell" in step for step in action["runs"]["steps"] if "run" in step)
    # An input is never put into a script by the runner: that would run what stands in it.
    assert not any("inputs." in step.get("run", "") for step in action["runs"]["steps"])


def test_the_audit_step_fails_on_a_leak_and_leaves_its_reports(action, checkout):
    audit = step(action, "audit images")
    options = "'my films' --skip near_duplicates,shortcuts,shift"
    assert run(audit, checkout, audit=options).returncode == 0
    one = checkout / "my films/train/NORMAL/person1_virus_1.jpeg"
    shutil.copy(one, checkout / "my films/test/NORMAL/person90_virus_1.jpeg")
    done = run(audit, checkout, audit=options)
    assert done.returncode == 1 and "LEAK FOUND" in done.stdout
    log = json.loads((checkout / "leakfree-report/audit.sarif").read_text())
    assert log["runs"][0]["results"][0]["level"] == "error"
    assert (checkout / "leakfree-report/audit.xml").exists()


def test_nothing_in_an_input_is_run(action, checkout):
    run(
        step(action, "check training code"),
        checkout,
        check="train.py $(touch gone) `touch gone` ; touch gone",
    )
    assert not (checkout / "gone").exists()


def test_the_check_step_fails_on_a_leak(action, checkout):
    check = step(action, "check training code")
    assert run(check, checkout, check="train.py").returncode == 0
    (checkout / "train.py").write_text(CODE.replace("train, test", f"{LEAK}train, test"))
    done = run(check, checkout, check="train.py")
    assert done.returncode == 1 and "train.py:5: warning: scaling" in done.stdout


def test_the_hooks_are_valid_and_their_entries_find_the_leak(checkout, monkeypatch):
    from pre_commit.clientlib import load_manifest

    entries = {hook["id"]: hook["entry"] for hook in load_manifest(str(ROOT / ".pre-commit-hooks.yaml"))}
    assert set(entries) == {"leakfree-check", "leakfree-audit"}
    (checkout / "train.py").write_text(CODE.replace("train, test", f"{LEAK}train, test"))
    monkeypatch.chdir(checkout)

    def hook(name, given):
        # The steps above start the program; what it runs is asked here.
        words = shlex.split(entries[name])
        assert words[0] == "leakfree"
        return main([*words[1:], *given])

    assert hook("leakfree-check", ["train.py"]) == 1 and hook("leakfree-audit", ["my films"]) == 0
    one = checkout / "my films/train/NORMAL/person1_virus_1.jpeg"
    shutil.copy(one, checkout / "my films/test/NORMAL/person90_virus_1.jpeg")
    assert hook("leakfree-audit", ["my films"]) == 1
