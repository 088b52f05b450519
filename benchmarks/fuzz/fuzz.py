"""Coverage-guided fuzzing of what strangers may send: ``python benchmarks/fuzz/fuzz.py TARGET [SECONDS]``.

TARGET is ``decode`` (accept and decode an image), ``tables`` (tables, lists and names of images), ``study``
(``study.yaml``) or ``http`` (bytes of a connection, by gunicorn's reader into the application). It needs
``pip install atheris`` beside the packages of the study, on Linux. Seeds are made here, by code. What is
found is written to ``build/fuzz/TARGET/``, and every finding becomes a test. A finding is any error that is
no `LeakfreeError`, an answer of 5xx, or an input that takes over 25 s or 4 GB. What a run cost and reached is
a row of ``build/fuzz/runs.csv``; ``fuzz.py sum`` adds these rows to ``book/data/fuzzing.csv``.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import gzip
import io
import json
import logging
import os
import re
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import atheris

# Counting every line of torch or pandas would cost more than it finds; their readers are in C.
WATCHED = ["leakfree", "PIL", "gunicorn.http", "werkzeug", "flask", "yaml", "openpyxl"]
with atheris.instrument_imports(include=WATCHED):
    import numpy as np
    import yaml
    from gunicorn.config import Config
    from gunicorn.http import wsgi
    from gunicorn.http.errors import ParseException
    from gunicorn.http.parser import RequestParser
    from PIL import Image

    from leakfree.base import escape
    from leakfree.base.errors import LeakfreeError
    from leakfree.data import decoder, images, intake
    from leakfree.data.formats.base import Item
    from leakfree.data.plain import plain
    from leakfree.data.reading import tables
    from leakfree.data.reading.patient_ids import read_ids
    from leakfree.data.reading.rows import open_table
    from leakfree.data.reading.understand import Input, understand
    from leakfree.data.reading.wishes import Wishes
    from leakfree.data.study_file import parse_study, study_text
    from leakfree.predict.classifier import Answer
    from leakfree.serving.app import create_app
    from leakfree.serving.settings import ServiceSettings

SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".xlsx", ".csv.gz")
FILES = ("train/a/p1_1.png", "train/b/p2_1.png", "test/a/p3_1.png", "test/b/p1_2.png")
STUDY = {
    "name": "s", "title": "T", "data": "d", "labels": ["a", "b"], "patients": {"pattern": r"p(\d+)_"},
    "tasks": {"all": {"a": ["a"], "b": ["b"]}}, "parts": {"train": "train", "test": "test"},
    "csv": {"file": "t.csv", "path": "f", "label": "l"},
}  # fmt: skip


def encoded(kind: str, image: Image.Image, **options: object) -> bytes:
    """Encode an image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pictures() -> list[bytes]:
    """Return small images of all formats and of odd modes."""
    noise = np.random.default_rng(0).integers(0, 256, (34, 40), dtype=np.uint8)
    grey = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    found = [
        encoded("PNG", grey), encoded("PNG", grey.convert("P"), transparency=3),
        encoded("PNG", grey.convert("LA")), encoded("PNG", grey.convert("1")),
        encoded("PNG", Image.fromarray(noise.astype(np.uint16) * 257)),
        encoded("JPEG", grey, exif=exif), encoded("JPEG", grey, progressive=True),
        encoded("JPEG", grey.convert("CMYK")), encoded("GIF", grey), encoded("BMP", grey),
        encoded("BMP", grey.convert("P")), encoded("WEBP", grey.convert("RGB")),
        encoded("PPM", grey),
    ]  # fmt: skip
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        found.append(encoded("TIFF", grey, compression=compression))
    found.append(encoded("TIFF", Image.fromarray(noise.astype(np.float32))))
    return found


def decode(data: bytes) -> None:
    """Accept and decode as service, audit and ingest do; both ways of decoding must agree."""
    answers = []
    for limits in (vars(intake.Limits()), None):
        head, body = decoder._answer({"task": "square", "arguments": (32,), "limits": limits}, data)
        assert set(head) <= {"facts", "shape", "warnings", "refused", "too_large", "memory"}, head
        json.dumps(head)
        if "shape" in head:
            assert len(body) == 32 * 32
            answers.append(bytes(body))
    with contextlib.suppress(LeakfreeError):
        if plain(data):
            intake.check(data, intake.Limits())
            pixels = images.to_grey(data, 32)
            assert not answers or answers[0] == pixels.tobytes(), "the decoder sees another image"


def read_tables(data: bytes) -> None:
    """Read a table or a list whose rows name images, and find part, label and patient by it."""
    suffix, data = SUFFIXES[data[0] % len(SUFFIXES)] if data else ".csv", data[1:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t{suffix}"
        path.write_bytes(data)
        with contextlib.suppress(LeakfreeError):
            tables.read_list(path)
        # Names of files may be any text without a zero; the rows are the names here.
        names = [one for one in data.decode("utf-8", "surrogateescape").splitlines() if "\0" not in one][:20]
        understood = understand(Input([Item(name, name) for name in dict.fromkeys(names) if name]))
        written = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        for line in (*understood.reading.notes, *understood.reading.unclear, *names):
            escape.say(line, file=written)
            shown = escape.html(line) + escape.markdown(line) + escape.code(line)
            assert "<script" not in shown.casefold() and "\x1b" not in shown
        read_ids(names)
        with contextlib.suppress(LeakfreeError):
            table = open_table(path, Path(folder))
            understand(Input([Item(name, name) for name in FILES], [table]), Wishes(csv=(path,)))


def study(data: bytes) -> None:
    """Read a study; what was read must be what is written and read again."""
    with contextlib.suppress(LeakfreeError):
        read = parse_study(data.decode("utf-8", "replace"))
        assert parse_study(study_text(read)) == read


class Stub:
    """A classifier that answers for whatever begins like a PNG."""

    about, names, size = {"name": "stub"}, ("Normal", "Pneumonia"), 32

    def prepare(self, data: bytes, _limits: object, **_more: object) -> np.ndarray:
        """Take it, or refuse it."""
        if not data.startswith(b"\x89PNG"):
            raise images.ImageError("not an image")
        return np.zeros((32, 32), dtype=np.uint8)

    def answer(self, films: np.ndarray) -> list[Answer]:
        """Answer the same for all."""
        fields = {name: None for name in Answer.__dataclass_fields__}
        known = {"diagnosis": "Normal", "confidence": 0.9, "warnings": ()}
        return [Answer(**{**fields, **known}) for _ in films]


def over_http() -> Callable[[bytes], None]:
    """Return the target: bytes that arrive on a connection, with the framing that the first one chooses."""
    logging.disable(logging.CRITICAL)
    app = create_app(Stub(), ServiceSettings(model=Path("none"), body_bytes=100_000, inference_threads=1))
    app.extensions["batcher"].start()
    app.testing = False
    config, wire = Config(), SimpleNamespace(send=len, sendall=len)
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n"
    kinds = (b"application/json", b"multipart/form-data; boundary=B")

    def target(data: bytes) -> None:
        first, sent = data[0] % 6 if data else 0, data[1:]
        if first < 4:
            length = b"Content-Length: %d\r\n\r\n" % len(sent) if first < 2 else b""
            length = length or b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % max(1, len(sent) - first)
            sent = head % kinds[first % 2] + length + sent
        elif first == 4:
            sent = head % kinds[0] + b"Transfer-Encoding: chunked\r\n\r\n" + sent
        try:
            for number, request in enumerate(RequestParser(config, iter([sent]), ("1.1.1.1", 1))):
                _, environ = wsgi.create(request, wire, ("1.1.1.1", 1), ("127.0.0.1", 80), config)
                status: list[str] = []
                body = b"".join(app(environ, lambda line, *_rest, status=status: status.append(line)))
                assert status and status[0][0] in "234", (status, body[:200])
                if number > 5:
                    break
        except (ParseException, OSError):  # gunicorn answers these itself, or hangs up
            pass

    return target


def seeds(name: str) -> list[bytes]:
    """Return inputs to begin with."""
    if name == "decode":
        return pictures()
    if name == "study":
        text = yaml.safe_dump(STUDY)
        return [text.encode(), text.replace("p(", "(?<!p)(").encode(), b"a: &a [*a]", b"!!python/none x"]
    if name == "tables":
        rows = "image,split,label,patient_id\n" + "".join(f"{f},train,a,00{k}\n" for k, f in enumerate(FILES))
        listed = json.dumps([{"image": FILES[0], "label": "a", "split": "test", "patient": 7}])
        import pandas as pd

        pd.read_csv(io.StringIO(rows)).to_excel(excel := io.BytesIO(), index=False)
        bodies = (
            rows.encode(), rows.replace(",", "\t").encode("utf-16"), "\n".join(FILES).encode(),
            listed.encode(), listed[1:-1].encode(), excel.getvalue(), gzip.compress(rows.encode()),
        )  # fmt: skip
        return [bytes([k]) + body for k, body in enumerate(bodies)]
    image = base64.b64encode(pictures()[0])
    body = b'{"image": "%s", "overlay": false}' % image
    form = b'--B\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n%s\r\n--B--\r\n'
    return [
        b"\0" + body, b"\1" + form % pictures()[0], b"\2" + body + b"\r\n0\r\n\r\n", b"\0" + b"[" * 50,
        b"\4%x\r\n%s\r\n0\r\nX: y\r\n\r\n" % (len(body), body), b"\0" + b'{"images": ["%s", ""]}' % image,
        b"\5GET /health HTTP/1.1\r\nHost: x\r\nX-Request-ID: a\r\n\r\nGET /metrics HTTP/1.0\r\n\r\n",
        b"\5POST /predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    ]  # fmt: skip


#: Target and what the table calls it.
SHOWN = {
    "decode": "images", "tables": "tables, lists and names", "study": "study.yaml", "http": "connections",
}  # fmt: skip
RUNS, TABLE = Path("build/fuzz/runs.csv"), Path("book/data/fuzzing.csv")
INSIDE = "LEAKFREE_FUZZER"


def recorded(name: str, arguments: list[str]) -> int:
    """Fuzz in a process of its own, since the fuzzer ends its process; note what it took and reached."""
    log = RUNS.parent / name / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        code = subprocess.call(
            [sys.executable, __file__, *arguments],
            env={**os.environ, INSIDE: "1"},
            stdout=stream,
            stderr=stream,
        )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = log.read_text(encoding="utf-8", errors="replace")
    tried = re.findall(r"number_of_executed_units: (\d+)", told) or re.findall(r"^#(\d+)", told, re.MULTILINE)
    kept = len(list((log.parent / "corpus").iterdir()))
    with RUNS.open("a", encoding="utf-8") as stream:
        seconds = round(used.ru_utime + used.ru_stime, 1)
        csv.writer(stream).writerow([name, tried[-1] if tried else 0, seconds, kept, int(code != 0)])
    print(f"{name}: exit code {code}, {seconds:.0f} processor seconds, {kept} inputs kept; see {log}")
    return code


def add_runs() -> None:
    """Add the runs that were noted to the table of the book, and forget them."""
    with TABLE.open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream)
    found = {row[0]: row for row in rows[:-1]}
    with RUNS.open(encoding="utf-8", newline="") as stream:
        for name, tried, seconds, kept, _ in csv.reader(stream):
            row = found.setdefault(SHOWN[name], [SHOWN[name], "0", "0", "0", "0"])
            row[1], row[3] = str(int(row[1]) + int(tried)), kept
            row[2] = f"{float(row[2]) + float(seconds) / 60:.1f}"
    sums = [sum(float(row[place] or 0) for row in found.values()) for place in (1, 2, 3, 4)]
    last = ["all", int(sums[0]), f"{sums[1]:.1f}", int(sums[2]), int(sums[3])]
    with TABLE.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([head, *found.values(), last])
    RUNS.unlink()


def main() -> None:
    """Make the seeds, and fuzz."""
    name, seconds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 900
    if name == "sum":
        return add_runs()
    if INSIDE not in os.environ:
        sys.exit(recorded(name, sys.argv[1:]))
    warnings.simplefilter("ignore")
    made = {
        "decode": lambda: decode,
        "tables": lambda: read_tables,
        "study": lambda: study,
        "http": over_http,
    }
    target = made[name]()
    decoder.signal.setitimer = lambda *_: None  # its signal would end the fuzzer; the clock below is enough
    folder = Path("build/fuzz") / name
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(name)):
        (folder / "corpus" / f"seed-{number}").write_bytes(data)
    options = [f"-max_total_time={seconds}", "-timeout=25", "-rss_limit_mb=4096", "-max_len=20000"]
    options += [f"-artifact_prefix={folder}/", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], str(folder / "corpus"), *options], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
