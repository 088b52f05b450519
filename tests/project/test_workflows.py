"""What runs elsewhere: the workflows of GitHub and the machine of Binder."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def load(name: str) -> dict:
    # "on" is a key of YAML 1.1 that reads as true.
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text().replace("\non:", "\n'on':"))


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_workflow_is_whole_and_pinned(file):
    workflow = load(file.name)
    assert {"name", "on", "permissions", "jobs"} <= set(workflow)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert re.fullmatch(r"ubuntu-\d+\.\d+", job["runs-on"]) and job["timeout-minutes"] <= 120
    pinned(steps(workflow), file)


def test_the_action_is_pinned():
    file = ROOT / "action.yml"
    pinned(yaml.safe_load(file.read_text())["runs"]["steps"], file)


def pinned(steps: list[dict], file: Path) -> None:
    for step in steps:
        assert ("uses" in step) != ("run" in step)
        if "uses" in step:
            # A tag can be moved; the commit cannot. The tag is beside it, for people.
            assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"])
            assert re.search(rf"{step['uses']}  # v\d+\.\d+\.\d+$", file.read_text(), re.MULTILINE)


def test_the_list_with_hashes_is_the_other_list():
    plain = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if "==" in line]
    blocks = re.split(r"\n(?=\S)", (ROOT / "requirements.hashed.txt").read_text().strip())
    assert [block.partition(" \\\n")[0] for block in blocks] == plain
    for block in blocks:
        _, *hashes = block.split(" \\\n")
        assert hashes and all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}", line) for line in hashes), block


def test_checks_are_the_project_s_own():
    assert ".ci/run" in [step.get("run") for step in steps(load("ci.yml"))]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_pages_get_the_book_by_its_own_command_and_the_address_of_the_repository():
    workflow = load("book.yml")
    build = next(step for step in steps(workflow) if "jupyter-book" in step.get("run", ""))
    command = "jupyter-book build -W -n --keep-going book"
    assert build["run"] == f"uv run {command}" and command in (ROOT / "README.md").read_text()
    assert build["env"]["LEAKFREE_REPOSITORY"] == "${{ github.server_url }}/${{ github.repository }}"
    upload = next(step for step in steps(workflow) if "upload-pages-artifact" in step.get("uses", ""))
    assert upload["with"]["path"] == "book/_build/html"
    deploy = workflow["jobs"]["deploy"]
    assert deploy["needs"] == "build" and deploy["permissions"] == {"pages": "write", "id-token": "write"}


def test_binder_installs_the_pinned_versions_and_the_project():
    environment = yaml.safe_load((ROOT / ".binder" / "environment.yml").read_text())
    own = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == own["name"] and environment["channels"] == own["channels"]
    # The versions stand in requirements.txt alone.
    assert environment["dependencies"] == [part for part in own["dependencies"] if isinstance(part, str)]
    script = ROOT / ".binder" / "postBuild"
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n") and "set -euo pipefail" in text
    assert "--requirement requirements.txt" in text and "--no-deps --editable ." in text
    assert re.search(r"^jupyterlab==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
