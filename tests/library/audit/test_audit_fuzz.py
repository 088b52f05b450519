"""Hostile folders and tables: an audit of any of them ends in a report or in one line, and drops nothing."""

import contextlib
import io
import os
import shutil
import tempfile
import threading
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from deferred import deferred
from leakfree.audit.report import load_json
from leakfree.cli import main
from leakfree.data.files import IMAGE_SUFFIXES

with deferred:
    from leakfree.audit.auditor import unusable

SKIP = ("--skip", "shortcuts,shift")
FUZZ = settings(
    max_examples=40, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


def png_header(width, height):
    """A PNG of a few bytes that claims to be of any size."""

    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


def encoded(mode, size, format, seed):
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(values)
    image = Image.fromarray(values[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    stream = io.BytesIO()
    try:
        image.save(stream, format)
    except (OSError, ValueError):  # a format that does not know the mode
        stream = io.BytesIO()
        image.convert("L").save(stream, format)
    return stream.getvalue()


images = st.builds(
    encoded,
    st.sampled_from(["L", "RGB", "RGBA", "LA", "P", "CMYK", "1", "I;16", "F", "I", "YCbCr"]),
    st.one_of(
        st.tuples(st.integers(1, 40), st.integers(1, 40)),
        st.sampled_from([(1, 1), (1, 3000), (5000, 1), (2, 2)]),
    ),
    st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"]),
    st.integers(0, 3),
)
truncated = st.builds(lambda data, share: data[: int(len(data) * share)], images, st.floats(0, 0.99))
flipped = st.builds(
    lambda data, place, byte: data[: place % len(data)] + bytes([byte]) + data[place % len(data) + 1 :],
    images, st.integers(0, 4000), st.integers(0, 255),
)  # fmt: skip
contents = st.one_of(
    images, images, truncated, flipped, st.binary(max_size=40),
    st.sampled_from([b"", b"a text\n", *map(png_header, (30_000, 20_000, 0), (30_000, 9_000, 0))]),
)  # fmt: skip
stems = st.one_of(
    st.sampled_from([
        "a", "b", "person1_virus_2", "person1_bacteria_3", "IM-0001-0001", "train", "test", "val", "NORMAL",
        "Lungenröntgen", "胸部X線", "with space", "-rf", "..a", ".hidden", "line\nfeed", "tab\tbed",
        "a;b,c\"d'", "%s{0}", "\u202eevil", "\x1b[31m", "e\u0301", "<b>", "x" * 80,
        os.fsdecode(b"\xff\xfe"), "\\xff\\xfe",
    ]),
    st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=8),
).filter(lambda name: name not in (".", ".."))  # fmt: skip
suffixes = st.sampled_from([*sorted(IMAGE_SUFFIXES), ".JPEG", ".Png", ".txt", "", ".dcm", ".jpeg.bak"])
kinds = st.sampled_from(
    ["file"] * 12 + ["link", "link", "hard", "dangling", "self", "folder", "fifo", "locked"]
)
entries = st.lists(
    st.tuples(st.lists(stems, max_size=4), stems, suffixes, kinds, contents, st.integers(0, 20)), max_size=12
)


def build(root, drawn):
    """Write what was drawn; names that the system refuses, or that are taken, are left out."""
    made = []
    for folders, stem, suffix, kind, data, other in drawn:
        path = root.joinpath(*folders, stem + suffix)
        with contextlib.suppress(OSError, ValueError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind in ("link", "hard") and made:
                source = made[other % len(made)]
                os.symlink(source, path) if kind == "link" else os.link(source, path)
            elif kind == "dangling":
                path.symlink_to(root / "nothing here")
            elif kind == "self":
                path.symlink_to(path)
            elif kind == "folder":
                path.mkdir()
            elif kind == "fifo":
                os.mkfifo(path)
            elif not os.path.lexists(path):
                path.write_bytes(data)
                made.append(path)
                if kind == "locked":
                    path.chmod(0)


def listed(root):
    """All files by the name that a report gives them: bytes that are no UTF-8 are escaped."""
    names = []
    for folder, _, files in os.walk(root, followlinks=True):
        names += [Path(folder, name).relative_to(root).as_posix() for name in files]
    return Counter(
        name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in names
    )


def run(target, *options):
    """Audit in a thread that must end; return exit code, the report (None without one), stdout and stderr."""
    out, err, found = io.StringIO(), io.StringIO(), []
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder, f"report.{kind}") for kind in ("json", "html", "junit")]
        arguments = ["audit", str(target), *SKIP, *options]
        for path in places:
            arguments += [f"--{path.suffix[1:]}", str(path)]

        def work():
            try:
                found.append(main(arguments))
            except BaseException as error:
                found.append(error)

        thread = threading.Thread(target=work, daemon=True)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            thread.start()
            thread.join(60)
        assert not thread.is_alive(), "the audit hangs"
        if isinstance(found[0], BaseException):
            raise found[0]
        report = None
        if places[0].exists():
            report = load_json(places[0])
            for path in places[1:]:
                assert path.stat().st_size
    assert "Traceback" not in err.getvalue()
    return found[0], report, out.getvalue(), err.getvalue()


def check(code, report, out, err, names):
    """Hold what is true of every audit: exit code, nothing lost, no pass over what was not read."""
    assert code in (0, 1, 2)
    if report is None:
        line = err.splitlines()[-1]
        assert code == 2 and line.startswith("leakfree audit: ") and not out
        return
    problems = Counter(problem["file"] for problem in report.problems)
    assert sum(report.images.values()) + sum(problems.values()) == sum(names.values())
    assert set(problems) <= set(names)
    for entry in report.checks.values():
        assert set(entry.files) <= set(names)
        assert not (entry.status == "PASS" and unusable(report))
        assert all(len(example) for example in entry.examples)
    assert report.leaks == any(entry.fails for entry in report.checks.values())
    unclear = report.reading["unclear"] or report.reading["partial"]
    assert code == (1 if report.leaks else 2 if unusable(report) or unclear else 0)
    # What was not understood is not cleared.
    assert not unclear or "PASS" not in {entry.status for entry in report.checks.values()}


@FUZZ
@given(entries, st.booleans())
def test_any_folder_is_accounted_for_to_the_last_file(drawn, thorough):
    root = Path(tempfile.mkdtemp()) / "films"
    root.mkdir()
    try:
        build(root, drawn)
        options = ("--thorough",) if thorough else ()
        code, report, out, err = run(root, *options)
        names = listed(root)
        check(code, report, out, err, names)
        if report is None:
            # Refused as a whole: there is no name of an image in it.
            assert not [name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
            assert "no image" in err
    finally:
        shutil.rmtree(root.parent)


table_text = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
    st.lists(
        st.lists(
            st.one_of(
                st.sampled_from([
                    "a.png", "b.png", "none.png", ".", "", "train", "test", "NA", '"', "x,y", "\0", "/", "~",
                ]),
                st.text(max_size=6),
            ),
            min_size=1, max_size=5,
        ),
        max_size=8,
    ).map(lambda rows: "\n".join([
        "path,part,label,patient", *(",".join(row) for row in rows),
    ]).encode("utf-8", "replace")),
)  # fmt: skip


@settings(FUZZ, max_examples=120)
@given(table_text, st.sampled_from([".csv", ".tsv", ".txt"]))
@example(b"path,part\na.png,train,x\n", ".csv")
@example(b"path\n\n\na.png\n", ".csv")
@example(b"path,path\na.png,b.png\n", ".csv")
def test_any_table_ends_in_a_report_or_in_one_line(text, suffix):
    folder = Path(tempfile.mkdtemp())
    try:
        for seed, name in enumerate(("a.png", "b.png")):
            (folder / name).write_bytes(encoded("L", (30, 20), "PNG", seed))
        (folder / f"films{suffix}").write_bytes(text)
        code, report, _, err = run(folder / f"films{suffix}")
        assert code in (0, 1, 2)
        if report is None:
            line = err.splitlines()[-1]
            assert code == 2 and line.startswith("leakfree audit: ") and f"films{suffix}" in line
        else:
            assert (
                set(report.images) and code == (1 if report.leaks else 2 if report.problems else 0)
            ) or code == 2
            for entry in report.checks.values():
                assert not (entry.status == "PASS" and unusable(report))
    finally:
        shutil.rmtree(folder)


@FUZZ
@given(contents, st.sampled_from(sorted(IMAGE_SUFFIXES)))
def test_any_content_is_an_image_or_a_problem(data, suffix):
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / f"a{suffix}").write_bytes(data)
        code, report, out, err = run(folder, "--thorough", "--quiet")
        check(code, report, out, err, Counter({f"a{suffix}": 1}))
        assert report is not None
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("size", [(10_001, 10_000), (100_000_001, 1)])
def test_a_bomb_costs_nothing(write_folder, encode, size):
    bomb = io.BytesIO()
    Image.new("1", size).save(bomb, "PNG")
    assert len(bomb.getvalue()) < 100_000
    root = write_folder({"train/A/bomb.png": bomb.getvalue(), "train/A/a.png": encode()})
    code, report, _, _ = run(root)
    assert code == 2 and "over the limit" in report.problems[0]["reason"] and sum(report.images.values()) == 1


def test_a_link_back_is_refused_at_any_depth(write_folder, encode):
    for number, (place, back) in enumerate((("back", "."), ("train/A/back", "."), ("train/A/back", "train"))):
        root = write_folder({"train/A/a.png": encode()}, f"films{number}")
        (root / place).symlink_to(root / back, target_is_directory=True)
        code, report, out, err = run(root)
        assert (code, report, out) == (2, None, "") and "leads back" in err and err.count("\n") == 1
    (root / place).unlink()
    (root / place).symlink_to(root.parent, target_is_directory=True)
    assert run(root)[0] == 2


def test_a_pipe_and_other_odd_files_do_not_hang(write_folder, encode):
    root = write_folder({"train/A/a.png": encode(), "train/B/x.jpeg/b.png": encode(seed=1)})
    os.mkfifo(root / "train/A/pipe.jpeg")
    (root / "train/A/null.jpeg").symlink_to("/dev/null")
    (root / "train/A/zero.jpeg").symlink_to("/dev/zero")
    code, report, _, _ = run(root)
    assert code == 2
    assert {problem["file"]: problem["reason"] for problem in report.problems} == dict.fromkeys(
        [f"train/A/{name}.jpeg" for name in ("null", "pipe", "zero")], "foreign: not a regular file"
    )


def test_a_file_that_may_not_be_read(write_folder, encode, monkeypatch):
    """As root every file can be read, so that the refusal of the system is played."""
    root = write_folder({"train/A/a.png": encode(), "train/A/locked.png": encode(seed=1)})
    (root / "train/A/locked.png").chmod(0)
    read = Path.read_bytes

    def refuse(path):
        if path.name == "locked.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    code, report, _, _ = run(root)
    assert code == 2
    assert report.problems == ({"file": "train/A/locked.png", "reason": "unreadable: Permission denied"},)


def test_thousands_of_images_in_one_folder(tmp_path):
    folder = tmp_path / "films/train/A"
    folder.mkdir(parents=True)
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "BMP")
    head = stream.getvalue()[:-64]  # the pixels come last
    for number in range(2_000):
        pixels = np.random.default_rng(number // 2 if number < 20 else number).bytes(64)
        (folder / f"{number}.bmp").write_bytes(head + pixels)
    code, report, _, _ = run(tmp_path / "films", "--quiet")
    assert code == 0 and report.images == {"train": 2_000} and not report.problems
    exact = report.checks["exact_duplicates"]
    assert exact.count == 10 and exact.files == tuple(sorted(f"train/A/{i}.bmp" for i in range(20)))
