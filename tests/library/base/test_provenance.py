import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from leakfree.base import provenance

DIGEST = re.compile(r"[0-9a-f]{64}")


@pytest.fixture(autouse=True)
def apart(monkeypatch):
    """Keep git away from the settings of the machine, and from the repository whose hook may run us."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def git(tmp_path):
    """Run git in a new repository with one commit."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path / "project"
    (root / "artifacts").mkdir(parents=True)

    def run(*arguments):
        identity = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
        done = subprocess.run(
            ["git", "-C", str(root), *identity, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    run.root = root
    run("init", "--quiet")
    for name in ("a.py", "b.py", "artifacts/table.csv"):
        (root / name).write_text("1\n")
    run("add", ".")
    run("commit", "--quiet", "--message", "first")
    return run


# Versions


def test_versions_are_those_that_are_installed():
    found = provenance.versions()
    assert list(found) == ["python", *provenance.PACKAGES]
    assert found["python"] == platform.python_version()
    assert found["numpy"] == metadata.version("numpy")
    assert found["leakfree"] == metadata.version("leakfree")
    assert "unknown" not in found.values()


def test_a_package_that_is_not_installed_is_unknown(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package-of-anyone"))
    assert provenance.versions()["no-such-package-of-anyone"] == "unknown"
    assert provenance.versions()["numpy"] == metadata.version("numpy")


def test_a_package_with_broken_metadata_is_unknown(monkeypatch, tmp_path):
    (tmp_path / "half_removed-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(provenance, "PACKAGES", ("half-removed",))
    assert provenance.versions()["half-removed"] == "unknown"


# Git


def test_a_clean_state_is_the_commit(git):
    found = provenance.git_state(git.root)
    assert found == {"commit": git("rev-parse", "HEAD"), "changed_files": []}
    assert re.fullmatch(r"[0-9a-f]{40}", found["commit"])


def test_changed_files_are_named_and_results_do_not_count(git):
    (git.root / "b.py").write_text("2\n")
    (git.root / "a.py").unlink()
    (git.root / "new.py").write_text("untracked\n")
    (git.root / "artifacts" / "table.csv").write_text("written by the run itself\n")
    assert provenance.git_state(git.root)["changed_files"] == ["a.py", "b.py"]
    git("add", "new.py")
    assert provenance.git_state(git.root)["changed_files"] == ["a.py", "b.py", "new.py"]


UNKNOWN = {"commit": "unknown", "changed_files": "unknown"}


def test_outside_a_repository_the_state_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_state(tmp_path) == UNKNOWN
    assert provenance.git_state(tmp_path / "gone") == UNKNOWN


def test_a_repository_without_a_commit_has_an_unknown_one(git):
    git("update-ref", "-d", "HEAD")
    assert provenance.git_state(git.root)["commit"] == "unknown"


def test_without_git_the_state_is_unknown(git, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_state(git.root) == UNKNOWN


@pytest.mark.parametrize(
    "error",
    [
        subprocess.TimeoutExpired("git", 20),
        subprocess.CalledProcessError(128, "git"),
        PermissionError("git"),
        OSError("no memory"),
    ],
)
def test_a_git_that_fails_never_fails_the_run(monkeypatch, tmp_path, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert provenance.git_state(tmp_path) == UNKNOWN


def test_a_name_in_another_encoding_never_fails_the_run(git):
    git("config", "core.quotePath", "false")
    path = os.path.join(os.fsencode(git.root), b"r\xe9sum\xe9.py")
    try:
        with open(path, "w"):
            pass
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    git("add", ".")
    assert len(provenance.git_state(git.root)["changed_files"]) == 1


# Machine


def test_the_machine_is_described_and_not_named():
    found = provenance.machine()
    assert set(found) == {"system", "architecture", "cores", "cpu", "accelerator"}
    assert found["cores"] == os.cpu_count()
    assert platform.node() not in json.dumps(found).split('"')


@pytest.mark.parametrize("content", [None, "processor : 0\n"])
def test_an_unknown_processor_never_fails_the_run(monkeypatch, content):
    def read(self, *_, **__):
        if content is None:
            raise FileNotFoundError(self)
        return content

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert provenance.machine()["cpu"] == "unknown"


# Accelerator


class FakeTorch:
    """PyTorch as far as `provenance.accelerator` asks it."""

    def __init__(self, name=None, error=None):
        self.cuda, self.name, self.error = self, name, error

    def is_available(self):
        if self.error:
            raise self.error
        return self.name is not None

    def get_device_name(self):
        return self.name


@pytest.mark.parametrize(
    ("torch", "expected"),
    [
        (FakeTorch("NVIDIA H100 80GB HBM3"), "NVIDIA H100 80GB HBM3"),
        (FakeTorch(), "none"),
        (FakeTorch("a card", error=RuntimeError("driver too old")), "none"),
        (object(), "none"),
    ],
    ids=["a GPU", "no GPU", "a broken driver", "a broken PyTorch"],
)
def test_the_accelerator_is_what_pytorch_can_use(monkeypatch, torch, expected):
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert provenance.machine()["accelerator"] == expected


def test_pytorch_is_not_imported_where_no_device_file_is():
    code = (
        "import sys; from leakfree.base import provenance; provenance._GPU_FILES = ('/no/such/device',);"
        "print(provenance.machine()['accelerator'], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["none", "False"]


def test_pytorch_is_asked_where_a_device_file_is(tmp_path):
    (tmp_path / "torch.py").write_text(
        "class cuda:\n"
        "    is_available = staticmethod(lambda: True)\n"
        "    get_device_name = staticmethod(lambda: 'a card')\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from leakfree.base import provenance;"
        f"provenance._GPU_FILES = ({str(tmp_path)!r},); print(provenance.machine()['accelerator'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "a card"


# Library


@pytest.fixture
def package(tmp_path, monkeypatch):
    root = tmp_path / "lib" / "leakfree"
    (root / "models").mkdir(parents=True)
    for name in ("splits.py", "models/networks.py"):
        (root / name).write_text(f"# {name}\n")
    monkeypatch.setattr(provenance, "_LIB", root.parent)
    return root


def test_the_digest_covers_the_source_of_this_package():
    first = provenance.library_digest()
    assert DIGEST.fullmatch(first)
    assert first == provenance.library_digest()
    assert (provenance._LIB / "leakfree" / "split" / "manifest.py").is_file()
    assert (provenance._LIB / "leakfree_study" / "run" / "run.py").is_file()


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "splits.py").write_text("# splits.pY\n"),
        lambda root: (root / "models" / "networks.py").write_text(""),
        lambda root: (root / "new.py").write_text(""),
        lambda root: (root / "splits.py").unlink(),
        lambda root: (root / "splits.py").rename(root / "divisions.py"),
        lambda root: (root / "splits.py").rename(root / "models" / "splits.py"),
        lambda root: shutil.copytree(root, root.with_name("leakfree_study")),
    ],
    ids=["a character", "in a room", "a new file", "a lost file", "renamed", "moved", "of the study"],
)
def test_the_digest_changes_with_a_file(package, change):
    before = provenance.library_digest()
    change(package)
    assert provenance.library_digest() != before


def test_the_digest_does_not_change_with_what_is_no_source(package):
    before = provenance.library_digest()
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "splits.cpython-311.pyc").write_bytes(b"\0")
    (package / "notes.txt").write_text("text")
    os.utime(package / "splits.py", (1, 1))
    assert provenance.library_digest() == before


def test_the_digest_does_not_depend_on_where_the_package_stands(package, tmp_path, monkeypatch):
    before = provenance.library_digest()
    shutil.copytree(package, tmp_path / "elsewhere" / "leakfree")
    monkeypatch.setattr(provenance, "_LIB", tmp_path / "elsewhere")
    assert provenance.library_digest() == before


# Caches


def test_what_a_cache_was_made_by_follows_modules_and_packages(package, monkeypatch):
    made_by = provenance.code_digest
    before = made_by(["leakfree/splits"], ["pillow"])
    assert before == made_by(["leakfree/splits"], ["pillow"])
    assert before != made_by(["leakfree/splits"], ["pillow", "numpy"])
    (package / "models" / "networks.py").write_text("# another\n")
    assert made_by(["leakfree/splits"], ["pillow"]) == before
    (package / "splits.py").write_text("# splits.pY\n")
    changed = made_by(["leakfree/splits"], ["pillow"])
    assert changed != before
    another = package.parent / "pillow-0.0.1.dist-info"
    another.mkdir()
    (another / "METADATA").write_text("Metadata-Version: 2.1\nName: pillow\nVersion: 0.0.1\n")
    monkeypatch.syspath_prepend(another.parent)
    assert made_by(["leakfree/splits"], ["pillow"]) != changed


def test_every_module_behind_a_cache_makes_it_stale():
    import rooms

    from leakfree.data import cohort, pixels
    from leakfree.data.sources.folder import FolderSource
    from leakfree.data.sources.hub import HubSource
    from leakfree.data.sources.own import OwnSource
    from leakfree.data.sources.phantom import PhantomSource
    from leakfree_study.inflation import control, material

    edges = {(here.replace(".", "/"), there.replace(".", "/")) for here, there in rooms.imports()}
    base = {"leakfree/base/files", "leakfree/base/provenance", "leakfree/base/errors"}

    def behind(modules, *no_number):
        further = {f"{package}/{name}" for name in no_number for package in ("leakfree", "leakfree_study")}
        return {used for module, used in edges if module in modules} - base - further

    # Of the cohort, the checksum is in the name of the cache.
    assert behind(pixels.MODULES, "data/cohort") <= set(pixels.MODULES)
    for kind, modules in material.MODULES.items():
        other = {"models/embeddings"} if kind == "pixels" else set()
        # A ledger checks, and a task labels.
        labels = ("data/cohort", "ledger/ledger", "data/raw", "data/tasks")
        assert behind(modules, *labels, *other) <= set(modules)
    drawing = set(control.MODULES) - {"leakfree_study/inflation/control"}
    assert behind(drawing, "data/raw") <= drawing
    sources = (FolderSource, HubSource, OwnSource, PhantomSource)
    making = {*cohort.MODULES, *(module for source in sources for module in source.modules)}
    # What a study's files and its CSV say is in the fingerprint of its source; a record is no store.
    # A bound on decoding refuses, and changes no pixel.
    further = (
        "data/bounded",
        "data/decoder",
        "data/formats",
        "data/held",
        "data/intake",
        "data/reading/patient_ids",
        "data/reading/tables",
        "data/sources/listing",
        "data/patients",
        "data/record",
        "data/sources",
        "data/tasks",
    )
    assert behind(making, *further, "data/vocabulary") <= making
    in_sources = {module for module, _ in edges if module.startswith("leakfree/data/sources/")}
    # It lists: no pixel hangs on it.
    assert in_sources - making == {"leakfree/data/sources/listing"}
