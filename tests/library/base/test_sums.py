"""SHA256SUMS of a run: every byte counts, and the reason is said."""

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leakfree.base.sums import NAME, check_sums, recorded_files, renew_sums, write_sums


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    for name, text in {
        "provenance.json": "{}\n",
        "tables/a.csv": "x\n1\n",
        "notebooks/01.ipynb": "{}",
        "notebooks/01.html": "<p>",
        "notebooks/01.failed.ipynb": "{}",
        "book/index.html": "<p>",
        ".cache/x": "x",
        "tables/.hidden": "x",
        "deep/book/x.csv": "x",
        "name with  two spaces.csv": "x",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    write_sums(folder)
    return folder


def test_what_belongs_to_the_record(run):
    assert recorded_files(run) == [
        "deep/book/x.csv",
        "name with  two spaces.csv",
        "notebooks/01.ipynb",
        "provenance.json",
        "tables/a.csv",
    ]
    assert list(check_sums(run)) == []


def test_the_list_is_one_that_sha256sum_checks(run):
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", NAME], cwd=run, check=True)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_found_with_its_file(run, data):
    name = data.draw(st.sampled_from([*recorded_files(run), NAME]))
    content = (run / name).read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    try:
        (run / name).write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        found = list(check_sums(run))
        assert found
        assert all(reason for _, reason in found)
        if name != NAME:
            assert [file for file, _ in found] == [name]
    finally:
        (run / name).write_bytes(content)
    assert list(check_sums(run)) == []


def test_missing_and_additional_files_are_named(run):
    (run / "tables/a.csv").rename(run / "tables/b.csv")
    try:
        assert dict(check_sums(run)) == {
            "tables/a.csv": f"is missing, or is no file of a run, but {NAME} lists it",
            "tables/b.csv": f"{NAME} does not list it",
        }
    finally:
        (run / "tables/b.csv").rename(run / "tables/a.csv")


def test_a_list_that_is_cut_off_or_out_of_order_is_named(run):
    text = (run / NAME).read_text()
    try:
        (run / NAME).write_text(text[:-1])
        assert (NAME, "does not end with a line feed: it is cut off, or was changed") in set(check_sums(run))
        (run / NAME).write_text("".join(reversed(text.splitlines(keepends=True))))
        assert list(check_sums(run)) == [(NAME, "its names are not in order")]
    finally:
        (run / NAME).write_text(text)


def test_sums_are_renewed_only_where_there_are_some(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    renew_sums(tmp_path)
    assert not (tmp_path / NAME).exists()
    write_sums(tmp_path)
    (tmp_path / "a.csv").write_text("y")
    renew_sums(tmp_path)
    assert list(check_sums(tmp_path)) == []
