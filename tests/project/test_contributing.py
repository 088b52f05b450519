"""CONTRIBUTING.md does what it says: its worked examples are applied to a copy of the tree and run."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml

from leakfree_study.run.config import PROFILES

#: What the examples touch or run; a copy of it is all that they get.
COPIED = ("lib", "notebooks", "tests", "examples", "run_all.py", "pyproject.toml")
#: A block of the guide, with the file that the line above it names, if any.
BLOCK = re.compile(
    r"(?:^New file `(?P<file>[^`\n]+)`:\n\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.M | re.S
)
EXAMPLES = ("Add a leak", "Add a source", "Add a model", "Add a check to the audit")
SECTION = "Four extensions, worked out"


@dataclass(frozen=True)
class Block:
    kind: str
    file: str
    body: str


def split(text, marks):
    """Return the text below each heading with so many marks, up to the next one."""
    titles = [*re.finditer(rf"^{marks} (.+)$", text, re.M)]
    ends = [*(title.start() for title in titles[1:]), len(text)]
    return {title[1]: text[title.end() : end] for title, end in zip(titles, ends, strict=True)}


def blocks(text):
    return [Block(found["kind"], found["file"] or "", found["body"]) for found in BLOCK.finditer(text)]


@pytest.fixture(scope="module")
def guide(repository):
    return (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def sections(guide):
    return split(guide, "##")


@pytest.fixture(scope="module")
def examples(sections):
    return split(sections[SECTION], "###")


class Copy:
    """A copy of the tree, in which diffs are applied and commands run as in an activated environment."""

    def __init__(self, root, cache):
        self.root = root
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {name: v for name, v in os.environ.items() if not name.startswith("LEAKFREE_")} | {
            "PATH": path,
            "PYTHONPATH": str(root / "lib"),
            "PYTHONUNBUFFERED": "1",
            "LEAKFREE_CACHE": str(cache),
            # The copy is no repository, wherever it lies.
            "GIT_CEILING_DIRECTORIES": str(root.parent),
        }

    def call(self, *command, given=None, code=0):
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            input=given,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == code, f"{' '.join(command)}\n{done.stdout}"
        return done.stdout

    def do(self, block):
        """Apply a diff, write a file, or run commands; return what was said."""
        if block.kind == "diff":
            return self.call("git", "apply", "-", given=block.body)
        if block.kind == "sh":
            return self.call("sh", "-e", "-c", block.body)
        assert block.kind == "python" and block.file, "a block that nothing says what to do with"
        path = self.root / block.file
        assert not path.exists(), f"{block.file} is there already"
        path.write_text(block.body, encoding="utf-8")
        return ""

    def follow(self, section):
        """Do what a section shows and compare what is said with its last block; return that and the files."""
        *steps, seen = blocks(section)
        assert seen.kind == "text" and {"diff", "sh"} <= {step.kind for step in steps}
        said = "".join(self.do(step) for step in steps)
        lines = iter(re.split(r"[\r\n]+", said))
        for wanted in seen.body.splitlines():
            pattern = re.compile(".+".join(map(re.escape, wanted.split("…"))))
            assert any(pattern.search(line) for line in lines), f"not said, or not in order: {wanted}\n{said}"
        changed = [re.findall(r"^\+\+\+ b/(.+)$", step.body, re.M) for step in steps if step.kind == "diff"]
        return said, sorted({file for files in changed for file in files} | {s.file for s in steps if s.file})


@pytest.fixture(scope="module")
def base(repository, examples, sections, tmp_path_factory):
    """A copy of the tree with the images that the guide has made first."""
    folder = tmp_path_factory.mktemp("contributing")
    root = folder / "base"
    root.mkdir()
    for name in COPIED:
        source = repository / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
        else:
            shutil.copy2(source, root / name)
    (before,) = blocks(sections[SECTION].partition("\n### ")[0])
    copy = Copy(root, folder / "cache")
    copy.do(before)
    assert copy.call("python", "-c", "import leakfree; print(leakfree.__file__)").startswith(str(root))
    return copy


@pytest.fixture
def copy(base, tmp_path):
    # Times of files are kept: cohorts are found again by them, and so is compiled code.
    return Copy(shutil.copytree(base.root, tmp_path / "copy"), base.environment["LEAKFREE_CACHE"])


def keeps_the_rules(copy, files):
    python = [file for file in files if file.endswith(".py")]
    copy.call("ruff", "check", "--no-cache", *python)
    copy.call("ruff", "format", "--no-cache", "--check", *python)


def test_all_examples_are_tested(examples, sections):
    assert tuple(examples) == EXAMPLES
    kinds = {block.kind for section in examples.values() for block in blocks(section)}
    assert kinds == {"diff", "python", "sh", "text"}
    # No fence is left that the pattern does not see.
    seen = sum(len(blocks(section)) for section in sections.values())
    assert 2 * seen == sum(section.count("```") for section in sections.values())


@pytest.mark.slow
def test_add_a_leak(copy, examples):
    said, files = copy.follow(examples["Add a leak"])
    keeps_the_rules(copy, files)
    # The plan knows both arms, so that verify checks them.
    assert "unknown arms" not in said
    table = pd.read_csv(copy.root / "artifacts/one-leak/tables/inflation.csv")
    assert (table["low"] <= table["estimate"]).all() and (table["estimate"] <= table["high"]).all()
    ledger = copy.root / "artifacts/one-leak/ledgers/06_etiology.csv.gz"
    rows = pd.read_csv(ledger)
    rows.loc[rows["predictions"].str.contains("settings-test"), "shared_images"] = 0
    rows.to_csv(ledger, index=False)
    told = copy.call("leakfree", "verify", "artifacts/one-leak", code=1)
    assert re.search(r"settings-test\S* draw \d+: .*shared_images is '0', planned", told), told


@pytest.mark.slow
def test_add_a_source(copy, examples):
    _, files = copy.follow(examples["Add a source"])
    keeps_the_rules(copy, files)
    images = {path.name for path in (copy.root / "artifacts/films").rglob("*.jpeg")}
    cohort = pd.read_csv(copy.root / "artifacts/from-zip/cohort.csv", dtype=str)
    assert images and {Path(image_id).name for image_id in cohort["image_id"]} == images


@pytest.mark.slow
def test_add_a_model(copy, examples):
    _, files = copy.follow(examples["Add a model"])
    keeps_the_rules(copy, files)
    (cell,) = (copy.root / "artifacts/pooled-cnn/cells").glob("*.json")
    assert yaml.safe_load(cell.read_text(encoding="utf-8"))["facts"]["shared_groups"] == 0
    # A ledger that does not agree is found.
    (ledger,) = (copy.root / "artifacts/pooled-cnn/ledgers").glob("*.json")
    text = ledger.read_text(encoding="utf-8")
    ledger.write_text(text.replace('"agrees": true', '"agrees": false'), encoding="utf-8")
    assert "does not claim to agree" in copy.call("leakfree", "verify", "artifacts/pooled-cnn", code=1)


@pytest.mark.slow
def test_add_a_check(copy, examples):
    _, files = copy.follow(examples["Add a check to the audit"])
    keeps_the_rules(copy, files)
    audit = ("leakfree", "audit", "artifacts/films", "--skip", "near_duplicates,shortcuts,shift", "--quiet")
    copy.call(*audit, "--fail-on", "tiny", code=1)
    (copy.root / "artifacts/films/train/NORMAL/p.png").unlink()
    copy.call(*audit, "--fail-on", "tiny")


# What the rest of the guide says


def test_files_that_the_guide_names_are_there(guide, repository):
    made = {block.file for block in blocks(guide)}
    lines = BLOCK.sub("", guide)
    named = set(re.findall(r"`((?:lib|tests|examples|book|artifacts/chest_xray|\.ci)/[^`\s]*)`", lines))
    named |= set(re.findall(r"`([A-Za-z_]+\.(?:md|cff|yml|txt|in|toml))`", lines))
    assert len(named) > 10
    assert not {name for name in named - made if not (repository / name).exists()}
    for target in re.findall(r"\]\(([^)#]+)\)", guide):
        assert (repository / target).exists(), target


def test_the_set_up_names_tools_that_are_pinned(sections, repository):
    commands = "\n".join(block.body for block in blocks(sections["Set up"]))
    pins = {line.split("==")[0] for line in (repository / "requirements.txt").read_text().splitlines()}
    for tool, package in {
        "pre-commit": "pre-commit",
        "pytest": "pytest",
        "jupyter lab": "jupyterlab",
    }.items():
        assert re.search(rf"^{tool}", commands, re.M), tool
        assert package in pins
    markers = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    known = [marker.split(":")[0] for marker in markers["markers"]]
    assert re.findall(r'-m "not (\w+)"', commands) == ["slow"] and "slow" in known
    hooks = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert {"ruff-check", "ruff-format", "mypy", "nbstripout"} == {hook["id"] for hook in hooks}


def test_commands_of_the_guide_are_known(guide, capsys):
    from leakfree.cli import main

    lines = [line for block in blocks(guide) if block.kind == "sh" for line in block.body.splitlines()]
    commands = {m[1] for line in lines if (m := re.match(r"leakfree (\w+)", line))}
    commands |= set(re.findall(r"`leakfree (\w+)", guide))
    assert {"train", "verify", "audit", "rebuild", "reproduce", "unseal"} <= commands
    for command in sorted(commands):
        with pytest.raises(SystemExit) as left:
            main([command, "--help"])
        assert left.value.code == 0, command
        options = {
            o for line in lines if f"leakfree {command} " in line for o in re.findall(r"--[a-z-]+", line)
        }
        said = capsys.readouterr().out
        assert not {option for option in options if option not in said}, command
    profiles = {profile for line in lines for profile in re.findall(r"--profile (\w+)", line)}
    assert profiles and profiles <= set(PROFILES)


def test_the_changelog_keeps_to_its_sections(repository):
    text = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^### (.+)$", text, re.M)
    assert sections and set(sections) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    for part in split(text, "##").values():
        inside = re.findall(r"^### (.+)$", part, re.M)
        assert len(inside) == len(set(inside))
        # Every entry stands below one of them.
        assert not re.search(r"^- ", part.partition("\n### ")[0], re.M)
