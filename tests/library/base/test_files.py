import hashlib
import json
import os
import stat
import subprocess
import sys
import threading

import pytest

from leakfree.base.files import file_hash, locked, replacing, writable, write_json, write_text


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


posix = pytest.mark.skipif(os.name != "posix", reason="pipes, links and locks as POSIX has them")


@posix
def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "through")
    reader.join(10)
    assert read == ["through"] and stat.S_ISFIFO(pipe.stat().st_mode)
    write_text(os.devnull, "lost")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert names(tmp_path) == ["pipe"]


@posix
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "a").mkdir()
    target, link = tmp_path / "a" / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink() and target.read_text() == "new"


def test_a_folder_is_not_written_to(tmp_path):
    with pytest.raises(IsADirectoryError), replacing(tmp_path):
        pytest.fail("there is nothing to write")


def test_where_nothing_can_be_written_is_said_before_the_work(tmp_path):
    writable(tmp_path / "new" / "deep" / "table.csv")
    assert names(tmp_path) == []
    (tmp_path / "file").touch()
    writable(tmp_path / "file")
    writable(os.devnull)
    with pytest.raises(IsADirectoryError):
        writable(tmp_path)
    with pytest.raises(NotADirectoryError, match="file"):
        writable(tmp_path / "file" / "table.csv")
    with pytest.raises(FileNotFoundError):
        writable(tmp_path.anchor + "no-such-folder-in-the-root/table.csv")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_said_before_the_work(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        writable(tmp_path / "table.csv")
    tmp_path.chmod(0o700)


@posix
def test_two_runs_do_not_share_a_folder_and_a_killed_one_leaves_no_lock(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from leakfree.base.files import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(BlockingIOError) as caught, locked(tmp_path):
        pytest.fail("both hold it")
    assert (caught.value.filename, caught.value.strerror) == (
        str(tmp_path),
        "another run writes into this folder",
    )
    holder.kill()
    holder.communicate()
    with locked(tmp_path):
        pass
