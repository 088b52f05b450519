import hashlib
import json
import os
import stat
import sys

import pytest

from leakfree.base.files import file_hash, replacing, write_json, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_old_file_stays_until_the_block_ends(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent  # or os.replace would cross file systems
        assert temporary.suffix == path.suffix  # writers choose the format by it
    assert path.read_text() == "half"
    assert names(tmp_path) == ["table.csv"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_no_litter(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["table.csv"]


def test_an_error_leaves_no_new_file(tmp_path):
    with pytest.raises(RuntimeError), replacing(tmp_path / "new.csv") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert names(tmp_path) == []


def test_folders_are_made_and_the_umask_is_kept(tmp_path):
    path = tmp_path / "a" / "b" / "table.csv"
    write_text(path, "x")
    assert path.read_text() == "x"
    if os.name == "posix":
        plain = tmp_path / "plain"
        plain.touch()
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_text_has_line_feeds_and_utf8_on_every_platform(tmp_path, monkeypatch):
    # Text mode would write os.linesep, which io takes at import: the bytes written must not pass it.
    monkeypatch.setattr(type(tmp_path), "write_text", None)
    assert write_text(tmp_path / "t.csv", "a,b\né,2\n") == tmp_path / "t.csv"
    assert (tmp_path / "t.csv").read_bytes() == b"a,b\n\xc3\xa9,2\n"


def test_json_is_sorted_and_ends_with_a_line_feed(tmp_path):
    write_json(tmp_path / "one.json", {"b": 1, "a": [1, 2]})
    write_json(tmp_path / "two.json", {"a": [1, 2], "b": 1})
    data = (tmp_path / "one.json").read_bytes()
    assert data == (tmp_path / "two.json").read_bytes()
    assert json.loads(data) == {"a": [1, 2], "b": 1}
    assert data.endswith(b"\n")
    assert b"\r" not in data


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "one.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "one.json", {"a": object()})
    assert json.loads((tmp_path / "one.json").read_text()) == {"a": 1}
    assert names(tmp_path) == ["one.json"]


def test_the_hash_is_that_of_the_bytes(tmp_path):
    data = bytes(range(256)) * 8193  # more than one block, and not a whole number of them
    (tmp_path / "f").write_bytes(data)
    assert file_hash(tmp_path / "f") == hashlib.sha256(data).hexdigest()
    assert file_hash(tmp_path / "f", hashlib.md5) == hashlib.md5(data).hexdigest()
    (tmp_path / "empty").touch()
    assert file_hash(tmp_path / "empty") == hashlib.sha256().hexdigest()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_writer_leaves_the_old_file(tmp_path):
    import subprocess

    path = tmp_path / "table.csv"
    path.write_text("old")
    code = (
        "import os, signal, sys; from pathlib import Path; from leakfree.base.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as t:\n"
        "    t.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -9
    assert path.read_text() == "old"
