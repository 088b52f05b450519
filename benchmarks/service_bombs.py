"""Good requests beside every bomb that was found: ``python benchmarks/service_bombs.py --minutes 10``.

A freshly started service gets good images alone for a tenth of the time. Then as many good ones, with all
bombs beside them: images that take long or much memory to decode, bodies that are large once they are read,
chunks that are malformed, connections that send nothing. Exit code 1 where an answer is a 5xx, a good image
gets none (an unusual one may be told to come again), or the memory of all processes (summed PSS) at the end
is over a fifth above that at the start, or ever over the 3 GiB of ``compose.yaml``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from service_load import film, free_port
from service_soak import CLOSED, Client, Kind, Record, chunks, encoded, http, predict, text, until_answered

from leakfree.base.files import write_json
from leakfree.predict.description import default_model

MOST, GROWTH = 3 << 30, 1.2


def segment(marker: int, content: bytes) -> bytes:
    """Make a segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def chunk(name: bytes, content: bytes) -> bytes:
    """Make a chunk of a PNG."""
    return struct.pack(">I4s", len(content), name) + content + struct.pack(">I", zlib.crc32(name + content))


def progressive(scans: int, side: int = 4096) -> bytes:
    """Make a JPEG of 16 megapixels that says again and again that no block has anything more to say."""
    blocks = (side // 8) ** 2
    runs = -(-blocks // 32767)
    bits = "".join(
        f"0{blocks // runs + (k < blocks % runs) - 16384:014b}" for k in range(runs)
    )  # of 0xE0: a run of 16384 and more blocks
    bits += "1" * (-len(bits) % 8)
    packed = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"".join((
        b"\xff\xd8", segment(0xDB, b"\0" + b"\1" * 64),
        segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0"),
        segment(0xC4, b"\0\1" + bytes(15) + b"\0"), segment(0xC4, b"\x10\1\1" + bytes(14) + b"\xe0\0"),
        segment(0xDA, b"\1\1\0\0\0\0"), bytes(blocks // 8),
        (segment(0xDA, b"\1\1\0\1\x3f\0") + packed) * scans, b"\xff\xd9",
    ))  # fmt: skip


def tiff(fields: dict[int, int], content: bytes, at: int = 8, head: bytes = b"") -> bytes:
    """Make a TIFF of 64 x 64 pixels whose directory is at a place; 0 stands for where the content is."""
    start = at + 2 + 12 * len(fields) + 4
    entries = b"".join(
        struct.pack("<HHII", tag, 4, 1, value or start) for tag, value in sorted(fields.items())
    )
    whole = (b"II*\0" + struct.pack("<I", at) + head).ljust(at, b"\0")
    return whole + struct.pack("<H", len(fields)) + entries + bytes(4) + content


def images() -> dict[str, bytes]:
    """Make the images that are bombs, by name."""
    small = Image.effect_noise((64, 64), 60)
    jpeg, png = encoded(small, "JPEG"), encoded(small, "PNG")
    packer = zlib.compressobj(9)
    tile = b"".join(packer.compress(bytes(1 << 24)) for _ in range(64)) + packer.flush()
    grey = {256: 64, 257: 64, 258: 8, 262: 1, 277: 1}
    # Bytes 4 to 5 are the magic number of FLI as well: an animation of 10,000 x 10,000.
    frame = struct.pack("<IHH8x", 32, 0xF1FA, 1) + struct.pack("<IH10x", 16, 13)
    fli = struct.pack("<HHHHI", 10_000, 10_000, 8, 0, 5).ljust(120, b"\0") + frame
    return {
        "JPEG of 8,000 scans": progressive(8000),
        "JPEG of 250 scans": progressive(250),
        "TIFF in one tile of 1 GiB": tiff(
            {**grey, 259: 8, 322: 32768, 323: 32768, 324: 0, 325: len(tile)}, tile
        ),
        "TIFF that is FLI too": tiff(
            {**grey, 259: 1, 273: 0, 279: 4096}, bytes(range(256)) * 16, 0x1AF11, fli
        ),
        "JPEG of 5 MB of EXIF": jpeg[:2] + segment(0xE1, b"Exif\0\0" + b"e" * 1000) * 5000 + jpeg[2:],
        "PNG of 1.9 million chunks": png[:33] + chunk(b"aaAa", b"") * 1_900_000 + png[33:],
        "JPEG of 4 MB of 0xFF": jpeg[:2] + b"\xff" * 4_000_000 + jpeg[2:],
        "PNG of 16 bits, 16 megapixels": encoded(Image.fromarray(np.zeros((4096, 4096), np.uint16)), "PNG"),
    }


def bombs() -> list[Kind]:
    """Make all requests that are bombs; each may be refused, and none may be an error of the service."""
    refused = (200, 400, 408, 413, 415, 422, 429, CLOSED)
    lists = b'{"image": [' + b"[]," * 10_000_000 + b"[]]}"
    long = http("POST", "/predict", b"", "application/json", "Transfer-Encoding: chunked")
    return [
        *(
            Kind(name, 1, predict({"image": text(data)}), refused, way="alone")
            for name, data in images().items()
        ),
        Kind("31 MB of []", 1, http("POST", "/predict", lists, "application/json"), refused, way="alone"),
        Kind("malformed chunks", 1, long + b"-5\r\nabc\r\n0\r\n\r\n", refused, way="alone"),
        Kind("chunks", 1, chunks(b"[" * 99_999, 3000), refused, way="alone"),
    ]


def idle(port: int, stop: threading.Event, most: int = 200) -> None:
    """Keep connections open that send nothing."""
    held: list[socket.socket] = []
    while not stop.wait(0.05):
        with contextlib.suppress(OSError):
            held.append(socket.create_connection(("127.0.0.1", port), timeout=5))
        if len(held) > most:
            held.pop(0).close()


def tiff_of(image: bytes) -> bytes:
    """Save an image as TIFF, which a process of its own decodes."""
    return encoded(Image.open(io.BytesIO(image)), "TIFF")


def pss(master: psutil.Process) -> int:
    """Return the bytes that all processes of the service take, shared ones divided among those who share."""
    total = 0
    for process in (master, *master.children(recursive=True)):
        with contextlib.suppress(psutil.Error, OSError):
            total += process.memory_full_info().pss
    return total


class Good(threading.Thread):
    """Sends one good image after another, each a fifth of a second after the last answer."""

    def __init__(self, port: int, kind: Kind, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.client, self.kind, self.stop = Client(port, Record()), kind, stop
        self.seconds: list[float] = []
        self.outcomes: Counter[int | str] = Counter()

    def run(self) -> None:
        """Send until told to stop."""
        while not self.stop.wait(0.2):
            started = time.monotonic()
            self.outcomes[self.client.once(self.kind, self.stop)] += 1
            self.seconds.append(time.monotonic() - started)


def good_for(
    port: int, kinds: list[Kind], seconds: float, watch: list[int], master: psutil.Process
) -> list[Good]:
    """Send good requests for so long, and sample memory."""
    stop, until = threading.Event(), time.monotonic() + seconds
    senders = [Good(port, kind, stop) for kind in kinds]
    for sender in senders:
        sender.start()
    while time.monotonic() < until:
        watch.append(pss(master))
        time.sleep(1)
    stop.set()
    for sender in senders:
        sender.join(60)
    return senders


def main() -> int:
    """Load, measure, print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--senders", type=int, default=3, help="of bombs, at the same time")
    parser.add_argument("--json", type=Path, metavar="F", help="write all figures there")
    given = parser.parse_args()
    image, port = film(), free_port()
    good = [
        Kind("good", 1, predict({"image": text(image)}), way="alone"),
        Kind("good, unusual", 1, predict({"image": text(tiff_of(image))}), way="alone"),
        Kind("health", 1, http("GET", "/health"), way="alone"),
    ]
    kinds = bombs()
    command = [
        sys.executable,
        "-m",
        "leakfree.cli",
        "serve",
        "--port",
        str(port),
        "--model",
        str(default_model()),
    ]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            for kind in good:
                until_answered(port, kind, process)
            master, before, during, after = psutil.Process(process.pid), [], [], []
            alone = good_for(port, good, 6 * given.minutes, before, master)
            record, stop = Record(), threading.Event()
            senders = [
                threading.Thread(target=Client(port, record).run, args=(kinds, seed, stop), daemon=True)
                for seed in range(given.senders)
            ]
            senders.append(threading.Thread(target=idle, args=(port, stop), daemon=True))
            for sender in senders:
                sender.start()
            beside = good_for(port, good, 54 * given.minutes, during, master)
            stop.set()
            for sender in senders:
                sender.join(60)
            for _ in range(20):  # memory is given back every few seconds, when something is asked
                time.sleep(1)
                until_answered(port, good[-1], process)
                after.append(pss(master))
            after = after[10:]
        finally:
            process.terminate()
            process.wait(60)
    errors = sum(n for (_, what), n in record.outcomes.items() if isinstance(what, int) and what >= 500)
    # An image that another process decodes may be told to come again: then there is no work to spare for it.
    answered = {kind.name: {str(k): n for k, n in (a.outcomes + b.outcomes).items()}
                for kind, a, b in zip(good, alone, beside, strict=True)}  # fmt: skip
    errors += sum(n for name, outcomes in answered.items() for what, n in outcomes.items()
                  if what not in (("200", "429") if name == "good, unusual" else ("200",)))  # fmt: skip
    start, peak, end = (round(float(v) / 1e6) for v in (np.median(before), max(during), np.median(after)))
    figures = {
        "minutes": given.minutes, "bombs": sum(record.outcomes.values()), "failed": errors,
        "unexpected": sorted({f"{name}: {what}" for _, name, what in record.unexpected}),
        "outcomes": {f"{name}: {what}": n for (name, what), n in sorted(record.outcomes.items(), key=str)},
        "answers to good ones": answered,
        "pss_mb": {"start": start, "peak": peak, "end": end},
        "seconds": {
            kind.name: {
                when: {f"p{100 * q:g}": round(float(np.quantile(s.seconds, q)), 3) for q in (0.5, 0.99, 1)}
                for when, s in (("alone", one), ("with bombs", other))
            }
            for kind, one, other in zip(good, alone, beside, strict=True)
        },
    }  # fmt: skip
    for name, what in figures.items():
        print(f"{name}: {what}")
    if given.json:
        write_json(given.json, figures)
    return int(bool(errors or record.unexpected or end > GROWTH * start or 1e6 * peak > MOST))


if __name__ == "__main__":
    sys.exit(main())
