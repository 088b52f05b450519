import os
import sqlite3
import time

import pytest

from leakfree.base import kept as module
from leakfree.base.kept import Kept, file_identity, keeping
from leakfree.base.paths import user_cache


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "kept.sqlite"


def filled(path, values, code="a", **options):
    store = Kept(path, code, **options)
    keys = [store.key(name) for name in values]
    store.put(zip(keys, values.values(), strict=True))
    store.close()
    return keys


def test_values_come_back_for_the_same_code_and_parts_alone(path):
    (key,) = filled(path, {"x": b"1"})
    again = Kept(path, "a")
    assert again.get([key, b"other"]) == {key: b"1"} and again.key("x") == key
    assert again.key("y") != key and Kept(path, "b").key("x") != key
    assert path.stat().st_mode & 0o077 == 0 or os.name == "nt"


def test_a_damaged_value_is_told_once_and_is_none(path, capsys):
    keys = filled(path, {"x": b"1" * 50, "y": b"2" * 50, "z": b"3" * 50})
    with sqlite3.connect(path) as store:
        # One value with a changed byte, one that stands under the key of another.
        store.execute(
            "UPDATE kept SET value = substr(value, 1, 20) || x'00' || substr(value, 22) WHERE key = ?",
            keys[:1],
        )
        store.execute(
            "UPDATE kept SET value = (SELECT value FROM kept WHERE key = ?) WHERE key = ?", (keys[2], keys[1])
        )
    assert Kept(path, "a").get(keys) == {keys[2]: b"3" * 50}
    assert capsys.readouterr().err.count("damaged; made again") == 1


@pytest.mark.parametrize("damage", ["garbage", "cut", "schema", "hole"])
def test_a_damaged_file_is_one_line_and_begun_anew(path, capsys, damage):
    keys = filled(path, {f"x{i}": os.urandom(3000) for i in range(40)})
    whole = path.read_bytes()
    if damage == "garbage":
        path.write_bytes(b"no database at all" * 100)
    elif damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "hole":
        path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    else:
        path.unlink()
        with sqlite3.connect(path) as store:
            store.execute("CREATE TABLE kept (key BLOB)")
    store = Kept(path, "a")
    got = store.get(keys)
    store.put([(keys[0], b"new")])
    err = capsys.readouterr().err
    assert 1 <= err.count("\n") <= 2 and "damaged" in err and "Traceback" not in err
    assert len(got) < len(keys)
    assert Kept(path, "a").get(keys[:1]) == {keys[0]: b"new"}


def test_where_nothing_can_be_kept_the_work_goes_on(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    store = Kept(tmp_path / "file" / "kept.sqlite", "a")
    store.put([(b"k", b"v")])
    assert store.get([b"k"]) == {} and store.size() == 0
    assert capsys.readouterr().err.count("nothing is kept for the next audit") == 1


def test_a_file_that_another_process_holds_is_not_thrown_away(path, capsys, monkeypatch):
    (key,) = filled(path, {"x": b"1"})
    monkeypatch.setattr(
        module.sqlite3, "connect", lambda *a, connect=sqlite3.connect, **k: connect(path, timeout=0)
    )
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    held = Kept(path, "a")
    assert held.get([key]) == {}
    other.rollback()
    assert "locked" in capsys.readouterr().err
    assert Kept(path, "a").get([key]) == {key: b"1"}


def test_what_was_not_used_for_longest_goes_first(path):
    keys = filled(path, {i: bytes(1000) for i in range(200)})
    store = Kept(path, "a", most=150_000)
    store._today += 1
    store.get(keys[:20])  # used today
    store.put([(store.key("new"), bytes(1000))])
    assert store.size() <= 150_000
    left = store.get(keys)
    assert len(left) < 200 and set(keys[:20]) <= set(left) and store.get([store.key("new")])


def test_a_file_is_another_once_it_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SETTLED", 0.0)
    file, now = tmp_path / "a", time.time() + 10
    file.write_bytes(b"one")
    before, stat = file_identity(str(file), now), file.stat()
    assert before == file_identity(str(file), now + 1)
    file.write_bytes(b"two")  # of the same size, its time set back
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file_identity(str(file), now + 2) != before
    assert file_identity(str(tmp_path / "none"), now) is None
    monkeypatch.setattr(module, "SETTLED", 60.0)
    assert file_identity(str(file), now + 3) is None  # changed a moment ago: it may change again


@pytest.mark.parametrize(
    ("platform", "env", "place"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/leakfree"),
        ("linux", {}, "/h/.cache/leakfree"),
        ("darwin", {}, "/h/Library/Caches/leakfree"),
        ("win32", {"LOCALAPPDATA": "/l"}, "/l/leakfree"),
        ("linux", {"LEAKFREE_CACHE": "/own", "XDG_CACHE_HOME": "/x"}, "/own"),
    ],
)
def test_it_lives_where_the_system_has_caches(monkeypatch, platform, env, place):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "LEAKFREE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/h", "USERPROFILE": "/h", **env}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("leakfree.base.paths.sys.platform", platform)
    assert user_cache().as_posix() == place


def test_nobody_who_does_not_want_it_has_it(monkeypatch, tmp_path):
    monkeypatch.setenv("LEAKFREE_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("LEAKFREE_NO_CACHE", "1")
    with keeping(True, "a") as store:
        assert store is None
    monkeypatch.delenv("LEAKFREE_NO_CACHE")
    with keeping(False, "a") as store:
        assert store is None
    assert not (tmp_path / "c").exists()
    with keeping(True, "a") as store:
        assert store is not None
    assert (tmp_path / "c").is_dir()
