"""Load a freshly started service with good and hostile requests for minutes, kill a worker, then stop it.

Run it with ``python benchmarks/service_soak.py --minutes 10``. Clients draw from a fixed mix: images as JSON
and as forms, alone and several, pages and metrics; and all that a service meets that should not be there,
from truncated images to senders that never finish. Time is cut into ten parts. The memory of all processes,
sampled once a second, is compared between the second part and the last one; a worker is killed at the end of
the fifth. At the end the service is told to stop while requests are in flight. Exit code 1 where something is
broken that must hold: no error of the service, no answer that is not foreseen, memory within 5 %, nothing
lost at the kill but what was in flight, and a stop that finishes what it began.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import contextlib
import io
import json
import os
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from service_load import free_port

from leakfree.base.files import write_json, write_text
from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
from leakfree.predict.description import default_model

#: What may be wrong: growth of memory in per cent.
GROWTH = 5.0
#: Outcome of a connection that ended without an answer, and of one that the client left.
CLOSED, LEFT = "closed", "left"
PARTS, LARGEST, MOST = 10, 32_000_000, 32


@dataclass(frozen=True)
class Kind:
    """One kind of request: its bytes, how often it is drawn, and what may come of it."""

    name: str
    weight: float
    request: bytes
    expected: tuple[int | str, ...] = (200,)
    answers: int = 1
    #: ``whole``, or what the client does instead of waiting for its answer: ``leave``, ``stall`` or ``drip``.
    way: str = "whole"


def http(
    method: str, path: str, body: bytes = b"", kind: str = "", *more: str, length: int | None = None
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *more]
    if kind:
        lines.append(f"Content-Type: {kind}")
    if method == "POST" and not any(line.startswith("Transfer-Encoding") for line in more):
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def predict(content: object, **more: object) -> bytes:
    return http("POST", "/predict", json.dumps(content).encode(), "application/json", **more)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def form(*files: bytes, closed: bool = True) -> bytes:
    about = b'Content-Disposition: form-data; name="images"; filename="film.jpeg"\r\n\r\n'
    body = b"".join(b"--x\r\n" + about + data + b"\r\n" for data in files) + (b"--x--\r\n" if closed else b"")
    return http("POST", "/predict", body, "multipart/form-data; boundary=x")


def chunks(body: bytes, size: int) -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    coded = b"".join(b"%x\r\n" % len(part) + part + b"\r\n" for part in parts) + b"0\r\n\r\n"
    return http("POST", "/predict", coded, "application/json", "Transfer-Encoding: chunked")


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def many_pages(pages: int) -> bytes:
    """Make a TIFF of directories; whoever counts its pages is busy."""
    tags = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
            (278, 4, 1, 64), (279, 4, 1, 4096)]  # fmt: skip
    size, data = 2 + 12 * len(tags) + 4, b"II*\0\x08\0\0\0"
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    following = [8 + (page + 1) * size for page in range(pages - 1)] + [0]
    return data + b"".join(directory + struct.pack("<I", at) for at in following)


def hostile_images(film: Image.Image) -> dict[str, tuple[bytes, tuple[int, ...]]]:
    """Make odd and hostile images, each with the statuses that may come of it."""
    small = film.resize((64, 64))
    turned = Image.Exif()
    turned[0x0112] = 6
    jpeg, png = encoded(film, "JPEG"), encoded(small, "PNG")
    huge_jpeg, huge_png = bytearray(encoded(small, "JPEG")), bytearray(png)
    at = huge_jpeg.index(b"\xff\xc0") + 5
    huge_jpeg[at : at + 4] = struct.pack(">HH", 20_000, 20_000)
    huge_png[16:24] = struct.pack(">II", 20_000, 20_000)
    huge_png[29:33] = struct.pack(">I", binascii.crc32(huge_png[12:29]))
    frames = [small, small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    sixteen = Image.frombytes("I;16", (64, 64), small.tobytes() * 2)
    return {
        "CMYK": (encoded(film.convert("CMYK"), "JPEG"), (200,)),
        "16 bits": (encoded(sixteen, "PNG"), (200,)),
        "RGBA": (encoded(small.convert("RGBA"), "PNG"), (200,)),
        "turned by EXIF": (encoded(film, "JPEG", exif=turned), (200,)),
        "damaged EXIF": (encoded(small, "PNG", exif=b"Exif\0\0MM\0\xaa\0\0\0\x08"), (200, 422)),
        # Pillow warns of it: the log must stay one of JSON lines.
        "EXIF cut off": (encoded(small, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"), (200,)),
        "truncated JPEG": (jpeg[: len(jpeg) // 2], (422,)),
        "truncated PNG": (png[: len(png) // 2], (422,)),
        "empty": (b"", (422,)),
        "text for an image": (b"hello, this is no image", (422,)),
        "animated GIF": (encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), (422,)),
        "TIFF of two pages": (encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]), (422,)),
        "TIFF of 1,000 pages": (many_pages(1000), (422,)),
        "1 x 1": (encoded(Image.new("L", (1, 1)), "PNG"), (422,)),
        "20,000 x 20,000 PNG": (bytes(huge_png), (413,)),
        "20,000 x 20,000 JPEG": (bytes(huge_jpeg), (413,)),
    }


def mix() -> tuple[list[Kind], list[Kind], Kind]:
    """Make the requests: those that are answered soon, those that never end, and one that is long work."""
    source = PhantomSource(PhantomSettings(n_images=60, size=224))
    films = [source.render(planned).data for planned in source.plan[:16]]
    film = Image.open(io.BytesIO(films[0])).convert("L")
    one = predict({"image": text(films[0])})
    body = one.partition(b"\r\n\r\n")[2]
    second, endless = "Content-Length: 9", "X: " + "x" * 99_999
    quick = [
        Kind("image as JSON", 30, one),
        Kind("image as form", 14, form(films[1])),
        Kind("8 images as JSON", 5, predict({"images": [text(data) for data in films[:8]]})),
        Kind("4 images as form", 4, form(*films[:4])),
        Kind("overlay", 6, predict({"image": text(films[2]), "overlay": True})),
        Kind("image in chunks", 3, chunks(body, 3000)),
        Kind("two in one go", 3, one + http("GET", "/health"), answers=2),
        Kind("page", 3, http("GET", "/")),
        Kind("metrics", 3, http("GET", "/metrics"), (404,)),
        Kind("health", 4, http("GET", "/health")),
        Kind("openapi.json", 2, http("GET", "/openapi.json")),
        *(
            Kind(f"image: {name}", 1, predict({"image": text(data)}), expected)
            for name, (data, expected) in hostile_images(film).items()
        ),
        Kind("bad base64", 1, predict({"image": "?" * 99}), (400,)),
        Kind("half a JSON", 1, http("POST", "/predict", body[:99], "application/json"), (400,)),
        Kind("no field", 1, predict({"film": "x"}), (400,)),
        Kind("deep JSON", 1, http("POST", "/predict", b"[" * 99_999, "application/json"), (413,)),
        Kind("too many images", 1, predict({"images": [text(films[0][:99])] * (MOST + 1)}), (413,)),
        Kind("wrong type", 1, http("POST", "/predict", body, "text/plain"), (415,)),
        Kind("no type", 1, http("POST", "/predict", body), (415,)),
        Kind("form without its end", 1, form(films[0], closed=False), (400,)),
        Kind("wrong method", 1, http("DELETE", "/predict"), (405,)),
        Kind("no such address", 1, http("GET", "/wp-login.php"), (404,)),
        # The answer comes before the body is there; who sends on may find the connection closed.
        Kind("too large", 1, predict({"image": "x"}, length=LARGEST + 1), (413,), way="alone"),
        Kind("too large, in chunks", 0.1, chunks(b" " * (LARGEST + 9), 1 << 20), (413, CLOSED), way="alone"),
        Kind("left in the middle", 1, one[: len(one) // 2], (LEFT,), way="leave"),
        Kind("TLS", 0.5, bytes.fromhex("16030100c8010000c40303") + bytes(200), (400, CLOSED), way="alone"),
        Kind("noise", 0.5, random.Random(0).randbytes(999) + b"\r\n\r\n", (400, CLOSED), way="alone"),
        Kind("two lengths", 0.5, http("POST", "/predict", b"{}", "", second), (400,), way="alone"),
        Kind("endless header", 0.5, http("GET", "/", b"", "", endless), (431, CLOSED), way="alone"),
    ]  # fmt: skip
    slow = [
        Kind("stalls in the body", 1, one[: len(one) // 2], (408,), way="stall"),
        Kind("stalls in the header", 1, one[:40], (400, 408, CLOSED), way="stall"),
        Kind("one byte at a time", 1, one, (400, 408, CLOSED), way="drip"),
    ]
    work = predict({"images": [text(data) for data in films], "overlay": True})
    return quick, slow, Kind("16 images with overlays", 0, work)


@dataclass
class Record:
    """What came of all requests, and what is in flight."""

    outcomes: Counter[tuple[str, int | str]] = field(default_factory=Counter)
    unexpected: list[tuple[float, str, int | str]] = field(default_factory=list)
    in_flight: dict[int, str] = field(default_factory=dict)
    reconnected: int = 0
    killed: float = float("inf")
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: Kind, outcome: int | str) -> None:
        """Count what came of a request."""
        with self.lock:
            self.outcomes[kind.name, outcome] += 1
            if outcome not in kind.expected:
                self.unexpected.append((time.monotonic(), kind.name, outcome))


class Client:
    """One connection at a time, kept open where the service keeps it; one request at a time."""

    def __init__(self, port: int, record: Record) -> None:
        self.port, self.record = port, record
        self.connection: socket.socket | None = None
        self.opened = 0.0

    def run(self, kinds: list[Kind], seed: int, stop: threading.Event) -> None:
        """Send what is drawn from kinds until told to stop."""
        rng = random.Random(seed)
        weights = [kind.weight for kind in kinds]
        while not stop.is_set():
            (kind,) = rng.choices(kinds, weights)
            self.record.add(kind, self.once(kind, stop))
        self.close()

    def once(self, kind: Kind, stop: threading.Event) -> int | str:
        """Send one request; return its status, or how it ended without one."""
        if kind.way in ("alone", "leave", "stall", "drip"):
            self.close()
        started, reused = time.monotonic(), self.connection is not None
        self.record.in_flight[threading.get_ident()] = kind.name
        try:
            outcome = self.send(kind, stop)
            if outcome == CLOSED and reused and self.opened < self.record.killed < started:
                # The connection had died with its worker before anything was sent: a client comes again.
                self.record.reconnected += 1
                self.close()
                outcome = self.send(kind, stop)
        finally:
            del self.record.in_flight[threading.get_ident()]
        if kind.way != "whole" or outcome == CLOSED:
            self.close()
        return outcome

    def send(self, kind: Kind, stop: threading.Event) -> int | str:
        """Send it over the open connection, or a new one."""
        try:
            if self.connection is None:
                self.connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
                self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.reader, self.opened = self.connection.makefile("rb"), time.monotonic()
            if kind.way == "drip":
                for at in range(len(kind.request)):
                    self.connection.sendall(kind.request[at : at + 1])
                    if stop.wait(0.3):
                        break
            else:
                with contextlib.suppress(OSError if kind.way == "alone" else ()):
                    self.connection.sendall(kind.request)
            if kind.way == "leave":
                return LEFT
            return max((self.answer() for _ in range(kind.answers)), key=lambda outcome: outcome != 200)
        except OSError:
            return CLOSED

    def answer(self) -> int | str:
        """Read one answer to its end; return its status."""
        status = self.reader.readline()
        length, close = 0, False
        while (line := self.reader.readline().lower()) not in (b"\r\n", b""):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            close = close or line.startswith(b"connection: close")
        whole = len(self.reader.read(length)) == length
        if close:
            self.close()
        return int(status.split()[1]) if whole and status.startswith(b"HTTP/") else CLOSED

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self.connection is not None:
            self.reader.close()
            self.connection.close()
            self.connection = None


class Memory(threading.Thread):
    """Samples the resident memory of the service once a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.master, self.samples = psutil.Process(pid), []
        self.stop = threading.Event()

    def run(self) -> None:
        """Take samples until told to stop."""
        while not self.stop.wait(1):
            with contextlib.suppress(psutil.Error):
                master = self.master.memory_info().rss
                workers = [child.memory_info().rss for child in self.master.children()]
                self.samples.append((time.monotonic(), master, sum(workers)))

    def between(self, start: float, end: float) -> float | None:
        """Return the median of master and workers together, in MB."""
        found = [master + workers for at, master, workers in self.samples if start <= at <= end]
        return round(statistics.median(found) / 1e6, 1) if found else None


def until_answered(port: int, kind: Kind, process: subprocess.Popen, seconds: float = 120) -> float:
    """Ask until there is the answer; return the seconds that it took."""
    started = time.monotonic()
    while Client(port, Record()).send(kind, threading.Event()) != 200:
        if process.poll() is not None or time.monotonic() > started + seconds:
            raise SystemExit("the service did not start, or did not come back; see the log")
        time.sleep(0.02)
    return time.monotonic() - started


def kill_a_worker(port: int, process: subprocess.Popen, record: Record) -> dict[str, object]:
    before = {child.pid for child in psutil.Process(process.pid).children()}
    record.killed, in_flight = time.monotonic(), list(record.in_flight.values())
    os.kill(min(before), signal.SIGKILL)
    healthy = until_answered(port, Kind("health", 0, http("GET", "/health")), process)
    deadline = time.monotonic() + 120
    while len({child.pid for child in psutil.Process(process.pid).children()} - {min(before)}) < len(before):
        if time.monotonic() > deadline:
            raise SystemExit("the killed worker was not replaced")
        time.sleep(0.02)
    return {
        "in_flight": len(in_flight),
        "healthy_after_seconds": round(healthy, 2),
        "replaced_after_seconds": round(time.monotonic() - record.killed, 2),
    }


def stop_in_flight(port: int, process: subprocess.Popen, work: Kind, clients: int) -> dict[str, object]:
    found: list[int | str] = []
    threads = [
        threading.Thread(target=lambda: found.append(Client(port, Record()).send(work, threading.Event())))
        for _ in range(clients)
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.15)  # they are sent; none can be answered so soon
    answered = len(found)
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    code = process.wait(60)
    return {
        "in_flight": clients - answered,
        "answered_200": found.count(200),
        "asked": clients,
        "exit_code": code,
        "seconds": round(time.monotonic() - started, 2),
    }


def read_log(log: Path) -> dict[str, object]:
    """Count what the service itself says: its errors, and lines that are no JSON."""
    errors, other, requests = [], [], 0
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            other.append(line[:200])
            continue
        requests += said.get("message") == "request"
        ours = "SIGKILL" in said.get("message", "")  # the server says that a worker was killed
        if said.get("status", 0) >= 500 or (said.get("level") in ("ERROR", "CRITICAL") and not ours):
            errors.append({k: str(v)[-300:] for k, v in said.items() if k != "request_id"})
    return {"requests": requests, "errors": len(errors), "first_errors": errors[:5],
            "lines_not_json": len(other), "first_not_json": other[:5]}  # fmt: skip


def soak(given: argparse.Namespace, log: Path) -> dict[str, object]:
    quick, slow, work = mix()
    port, record, stop = free_port(), Record(), threading.Event()
    command = [
        sys.executable,
        "-m",
        "leakfree.cli",
        "serve",
        "--model",
        str(given.model),
        "--port",
        str(port),
    ]
    command += ["--workers", str(given.workers)]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
    try:
        first = until_answered(port, quick[0], process)
        memory = Memory(process.pid)
        memory.start()
        threads = [
            threading.Thread(target=Client(port, record).run, args=(kinds, seed, stop))
            for seed, kinds in enumerate([quick] * given.clients + [slow] * given.slow)
        ]
        started, part = time.monotonic(), 60 * given.minutes / PARTS
        for thread in threads:
            thread.start()
        time.sleep(max(0.0, started + PARTS // 2 * part - time.monotonic()))
        killed = kill_a_worker(port, process, record)
        back = time.monotonic()
        time.sleep(max(0.0, started + PARTS * part - time.monotonic()))
        ended = time.monotonic()
        memory.stop.set()
        stop.set()
        for thread in threads:
            thread.join()
        stopped = stop_in_flight(port, process, work, 4)
    finally:
        process.kill()
        process.wait()
    # A request that was in flight may only notice when its client has read to the end.
    lost = [one for one in record.unexpected if one[2] == CLOSED and record.killed <= one[0] <= back + 2]
    outcomes: dict[str, dict[str, int]] = {kind.name: {} for kind in (*quick, *slow)}
    for (name, outcome), number in sorted(record.outcomes.items(), key=str):
        outcomes[name][str(outcome)] = number
    early, late = memory.between(started + part, started + 2 * part), memory.between(ended - part, ended)
    return {
        "minutes": given.minutes,
        "seconds_to_first_answer": round(first, 2),
        "requests": record.outcomes.total(),
        "per_second": round(record.outcomes.total() / (ended - started), 1),
        "outcomes": outcomes,
        "answered_5xx": sum(n for (_, o), n in record.outcomes.items() if isinstance(o, int) and o >= 500),
        "unexpected": dict(Counter(f"{one[1]}: {one[2]}" for one in record.unexpected if one not in lost)),
        "memory_mb": {
            "second_part": early,
            "last_part": late,
            "peak": round(max((m + w for _, m, w in memory.samples), default=0) / 1e6, 1),
            "growth_percent": growth(early, late),
            # The killed worker took what it had grown by with it: the new one is looked at alone, too.
            "growth_after_the_kill_percent": growth(memory.between(back + part, back + 2 * part), late),
        },
        "kill": killed | {"lost": len(lost), "came_again": record.reconnected},
        "stop": stopped,
        "log": read_log(log),
    }


def growth(early: float | None, late: float | None) -> float | None:
    return round(100 * (late / early - 1), 2) if early and late else None


def broken(found: dict[str, object]) -> list[str]:
    """Say what does not hold that must."""
    grown, stopped = found["memory_mb"]["growth_percent"], found["stop"]
    checks = {
        "no error of the service": not found["answered_5xx"] and not found["log"]["errors"],
        "no answer that is not foreseen": not found["unexpected"],
        "its log is JSON lines": not found["log"]["lines_not_json"],
        f"memory within {GROWTH:g} %": grown is not None and grown < GROWTH,
        "nothing lost at the kill but what was in flight": found["kill"]["lost"]
        <= found["kill"]["in_flight"],
        "the stop finishes what it began": stopped["answered_200"] == stopped["asked"] == stopped["in_flight"]
        and stopped["exit_code"] == 0,
    }
    return [name for name, holds in checks.items() if not holds]


def show(found: dict[str, object]) -> None:
    print(f"{'request':28}{'number':>8}  outcomes")
    for name, outcomes in found["outcomes"].items():
        said = ", ".join(f"{outcome}: {number}" for outcome, number in outcomes.items())
        print(f"{name:28}{sum(outcomes.values()):8}  {said}")
    print(f"{found['requests']:,} requests in {found['minutes']:g} minutes, {found['per_second']} a second; "
          f"first answer {found['seconds_to_first_answer']} s after the start")  # fmt: skip
    print(f"answers of 5xx: {found['answered_5xx']}; not foreseen: {found['unexpected'] or 'none'}")
    for name in ("memory_mb", "kill", "stop", "log"):
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in found[name].items()))


def as_table(found: dict[str, object]) -> str:
    """Write what the book shows, as CSV."""
    memory, kill, stopped = found["memory_mb"], found["kill"], found["stop"]
    rows = [
        ("requests", f"{found['requests']}", ""),
        ("minutes", f"{found['minutes']:g}", ""),
        ("answers of 5xx", f"{found['answered_5xx']}", "0"),
        ("answers that are not foreseen", f"{sum(found['unexpected'].values())}", "0"),
        (
            "resident memory of all processes: second tenth of the time (MB)",
            f"{memory['second_part']:.0f}",
            "",
        ),
        ("the same: last tenth (MB)", f"{memory['last_part']:.0f}", ""),
        ("growth (%)", f"{memory['growth_percent']:.1f}", f"under {GROWTH:g}"),
        ("highest (MB)", f"{memory['peak']:.0f}", ""),
        ("lost when a worker was killed", f"{kill['lost']}", f"at most {kill['in_flight']} in flight"),
        ("finished of those in flight at the stop", f"{stopped['answered_200']}", f"{stopped['in_flight']}"),
        ("start to first answer (s)", f"{found['seconds_to_first_answer']:.1f}", "under 6"),
    ]
    return "\n".join(["what,measured,must be", *(",".join(row) for row in rows), ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=6, help="that draw from the whole mix")
    parser.add_argument("--slow", type=int, default=3, help="that only stall")
    parser.add_argument("--workers", type=int, default=0, help="of the service; 0: its default")
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--json", type=Path, metavar="F", help="write all figures there")
    parser.add_argument("--csv", type=Path, metavar="F", help="write the book's table there")
    parser.add_argument("--log", type=Path, metavar="F", help="keep the service's log there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soak(given, given.log or Path(folder) / "log")
    found["broken"] = broken(found)
    show(found)
    if given.csv:
        write_text(given.csv, as_table(found))
    if given.json:
        write_json(given.json, found)
    print("broken: " + "; ".join(found["broken"]) if found["broken"] else "all holds")
    return 1 if found["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
