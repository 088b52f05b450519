"""The fixture fails the test of another project where its images leak, and only there."""

import importlib.metadata

import pytest

pytest_plugins = ["pytester"]
TEST = """
def test_split(assert_no_leak):
    assert_no_leak("films", skip=("near_duplicates", "shortcuts", "shift"{more}))
"""
PLUGIN = "leakfree.gates.pytest_plugin"
# Installed, pytest finds it by its entry point; in an older install it is named.
FOUND = any(entry.value == PLUGIN for entry in importlib.metadata.entry_points(group="pytest11"))
OPTIONS = ("-q", *(() if FOUND else ("-p", PLUGIN)), "-p", "no:cacheprovider", "-o", "addopts=")


@pytest.fixture
def project(pytester, encode):
    for part, numbers in (("train", range(6)), ("test", range(20, 24))):
        for n in numbers:
            file = (
                pytester.path
                / "films"
                / part
                / ("NORMAL" if n % 2 else "PNEUMONIA")
                / f"person{n}_virus_1.jpeg"
            )
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode(seed=n, size=(80, 64)))
    pytester.makepyfile(TEST.replace("{more}", ""))
    return pytester


def test_a_clean_folder_passes_and_a_leak_fails(project):
    project.makepyfile(TEST.replace("{more}", ', "linked_groups"'))  # which no search for copies leaves open
    project.runpytest_subprocess(*OPTIONS).assert_outcomes(passed=1)
    one = project.path / "films/train/NORMAL/person1_virus_1.jpeg"
    (project.path / "films/test/NORMAL/person90_virus_1.jpeg").write_bytes(one.read_bytes())
    result = project.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*LEAK FOUND*", "*exact_duplicates*person90_virus_1.jpeg*"])


def test_what_was_not_looked_at_is_not_clean(project):
    result = project.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*not everything was checked*", "linked_groups:*"])


def test_an_unreadable_file_fails(project):
    (project.path / "films/train/NORMAL/broken.jpeg").write_bytes(b"no image")
    result = project.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*1 files could not be read*broken.jpeg*"])
