"""The fixture fails the test of another project where its images leak, and only there."""

import importlib.metadata
import subprocess
import sys
from xml.etree import ElementTree

import pytest

#: Tests of the other project: what each audits, and checks that it does without beside these.
TESTS = {
    # No search for copies leaves linked groups open.
    "clean": ("clean", ', "linked_groups"'),
    "leak": ("leak", ', "linked_groups"'),
    "open": ("clean", ""),
    "broken": ("broken", ""),
}
TEST = """
def test_{name}(assert_no_leak):
    assert_no_leak("{folder}", skip=("near_duplicates", "shortcuts", "shift"{more}))
"""
PLUGIN = "leakfree.gates.pytest_plugin"
# Installed, pytest finds it by its entry point; in an older install it is named.
FOUND = any(entry.value == PLUGIN for entry in importlib.metadata.entry_points(group="pytest11"))
OPTIONS = ("-q", *(() if FOUND else ("-p", PLUGIN)), "-p", "no:cacheprovider", "-o", "addopts=")


def write(root, encode):
    for part, numbers in (("train", range(6)), ("test", range(20, 24))):
        for n in numbers:
            file = root / part / ("NORMAL" if n % 2 else "PNEUMONIA") / f"person{n}_virus_1.jpeg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode(seed=n, size=(80, 64)))
    return root


@pytest.fixture(scope="module")
def told(tmp_path_factory, encode):
    """What pytest says of each of `TESTS`, all run at once: None where it passes, else how it fails."""
    project = tmp_path_factory.mktemp("project")
    write(project / "clean", encode)
    leak = write(project / "leak", encode)
    one = leak / "train/NORMAL/person1_virus_1.jpeg"
    (leak / "test/NORMAL/person90_virus_1.jpeg").write_bytes(one.read_bytes())
    (write(project / "broken", encode) / "train/NORMAL/broken.jpeg").write_bytes(b"no image")
    tests = [TEST.format(name=name, folder=folder, more=more) for name, (folder, more) in TESTS.items()]
    (project / "test_images.py").write_text("".join(tests), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", *OPTIONS, "--junitxml", "told.xml"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    cases = ElementTree.parse(project / "told.xml").iter("testcase")
    found = {case.get("name").removeprefix("test_"): case for case in cases}
    assert set(found) == set(TESTS) and not any(len(case.findall("error")) for case in found.values())
    return {name: case.findtext("failure") for name, case in found.items()}


def test_a_clean_folder_passes_and_a_leak_fails(told):
    assert told["clean"] is None
    assert "LEAK FOUND" in told["leak"]
    (line,) = (line for line in told["leak"].splitlines() if line.startswith("exact_duplicates"))
    assert "person90_virus_1.jpeg" in line


def test_what_was_not_looked_at_is_not_clean(told):
    assert "not everything was checked\nlinked_groups:" in told["open"]


def test_an_unreadable_file_fails(told):
    assert "1 files could not be read" in told["broken"] and "broken.jpeg" in told["broken"]
