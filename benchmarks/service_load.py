"""Requests a second of our service over those of a plain Flask development server, same load, same machine.

Run it with ``python benchmarks/service_load.py`` on a quiet machine. Theirs: Flask's development server,
ResNet18 at 224 px in full precision, one image at a time, as a first service is often written. Ours:
``leakfree serve`` with the same network and weights at 224 px, and with the published model. All servers run
all the time, one at a time is under load; rounds alternate, so that a busy machine slows all; the ratio
of medians counts. The load: connections, kept open where the server does so, each sending the next request
when its answer is there, from one process that shares the cores with the server. ``bare`` is the limit: the
network alone, batches of 8, one on each core, with nothing around it, in a process of its own while the
servers idle.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import csv
import io
import json
import multiprocessing
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from leakfree.base.files import file_hash, write_json, write_text
from leakfree.data.images import to_grey
from leakfree.data.sources.phantom import PhantomSettings, PhantomSource
from leakfree.models.resnet import ResNet18
from leakfree.predict.calibrated import Calibrated
from leakfree.predict.classifier import Classifier
from leakfree.predict.description import default_model
from leakfree.serving.settings import available_cores

SIDE, GOAL_SAME, GOAL_SHIPPED, GOAL_P99 = 224, 2.0, 3.0, 120.0
BASELINE = """
import base64, io, sys
import numpy as np, torch
from flask import Flask, jsonify, request
from PIL import Image
from safetensors.torch import load_file
from leakfree.models.resnet import ResNet18

network = ResNet18(2)
state = load_file(sys.argv[1])
network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
network.eval()
app = Flask("baseline")

@app.post("/predict")
def predict():
    image = Image.open(io.BytesIO(base64.b64decode(request.get_json()["image"])))
    image = image.convert("L").resize((224, 224))
    x = torch.from_numpy(np.asarray(image, dtype=np.float32))[None, None] / 255.0
    with torch.no_grad():
        p = torch.softmax(network((x - 0.48) / 0.23), dim=1)[0]
    best = int(p.argmax())
    return jsonify(diagnosis=("Normal", "Pneumonia")[best], confidence=float(p[best]))

app.run(host="127.0.0.1", port=int(sys.argv[2]), threaded=True)
"""


def make_models(folder: Path) -> Path:
    """Publish a ResNet18 of drawn weights at 224 px; return its weights."""
    torch.manual_seed(0)
    weights = folder / "resnet18-224.safetensors"
    state = ResNet18(2).state_dict()
    save_file({name: v.half() if v.is_floating_point() else v for name, v in state.items()}, weights)
    described = {
        "model": "resnet18", "task": "binary", "classes": ["normal", "pneumonia"], "image_size": SIDE,
        "mean": 0.48, "std": 0.23, "weights": weights.name, "weights_sha256": file_hash(weights),
        "manifest_hash": "none",
    }  # fmt: skip
    write_json(folder / "preprocessing.json", described)
    Calibrated(1.0, None).save(folder / "calibration.json", described["weights_sha256"])
    return weights


def film() -> bytes:
    """Make a JPEG of 224 px from a phantom image."""
    source = iter(PhantomSource(PhantomSettings(n_images=60, size=SIDE)))
    buffer = io.BytesIO()
    Image.fromarray(to_grey(next(source).data, SIDE)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(command: list[str], port: int, log: Path) -> Iterator[int]:
    """Run a server until the block ends; yields its port once it accepts connections."""
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[:4]} did not start: {log.read_text()[-500:]}") from None
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def load(port: int, request: bytes, connections: int, seconds: float) -> tuple[list[float], int]:
    """Send requests for so long; return the milliseconds of each that was answered, and how many were not."""
    times: list[float] = []
    failed = [0]
    end = time.perf_counter() + seconds

    def client() -> None:
        reader = connection = None
        while (started := time.perf_counter()) < end:
            try:
                if connection is None:  # the development server closes after each answer
                    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    reader = connection.makefile("rb")
                connection.sendall(request)
                status = reader.readline()
                length, close = 0, status.startswith(b"HTTP/1.0")
                while (line := reader.readline().lower()) not in (b"\r\n", b""):
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                    close = close or line.startswith(b"connection: close")
                if b" 200 " in status and len(reader.read(length)) == length:
                    times.append(1000 * (time.perf_counter() - started))
                else:
                    close = True
                    failed[0] += 1
                if close:
                    connection.close()
                    connection = None
            except OSError:
                failed[0] += 1
                connection = None

    threads = [threading.Thread(target=client) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, failed[0]


def bare(models: Path, seconds: float) -> float:
    """Return images a second of the network alone, batches of 8, a thread for each core."""
    classifier = Classifier.load(models)
    films = np.zeros((8, classifier.size, classifier.size), dtype=np.uint8)
    done = [0] * available_cores()
    classifier.probabilities(films)  # builds kernels
    end = time.perf_counter() + seconds

    def work(number: int) -> None:
        torch.set_num_threads(1)
        while time.perf_counter() < end:
            classifier.probabilities(films)
            done[number] += len(films)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(done))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / seconds


def processor() -> str:
    """Return what the machine calls its processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def apart(work: Callable[..., float], *about: object) -> float:
    """Call in a process of its own, so that no threads of it are left here."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *about).result()


def csv_of(rows: list[dict], limits: dict[str, float]) -> str:
    """Return the book's table; a name of a server may hold a comma."""
    head = ("server", "connections", "requests a second", "p50 (ms)", "p99 (ms)", "failed", "ratio", "bare")
    with io.StringIO(newline="") as text:
        table = csv.writer(text, lineterminator="\n")
        table.writerow(head)
        for r in rows:
            numbers = [f"{r[name]:.1f}" for name in ("per_second", "p50_ms", "p99_ms")]
            limit = f"{limits[r['server']]:.0f}" if r["server"] in limits else ""
            table.writerow([r["server"], r["connections"], *numbers, r["failed"], f"{r['ratio']:.2f}", limit])
        return text.getvalue()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="of load, each time")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--image", type=Path, help="JPEG of 224 px; a phantom image without")
    parser.add_argument("--json", type=Path, metavar="F", help="write all figures there")
    parser.add_argument("--csv", type=Path, metavar="F", help="write the book's table there")
    given = parser.parse_args()
    data = given.image.read_bytes() if given.image else film()
    body = json.dumps({"image": base64.b64encode(data).decode()}).encode()
    head = (
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        weights = make_models(folder)
        ours = [sys.executable, "-m", "leakfree.cli", "serve", "--model"]
        commands = {
            "development server": [sys.executable, "-c", BASELINE, str(weights)],
            "ours, same network": [*ours, str(folder), "--port"],
            "ours, shipped model": [*ours, str(default_model()), "--port"],
        }
        ports = {}
        for number, (name, command) in enumerate(commands.items()):
            port = free_port()
            started = server([*command, str(port)], port, folder / f"log{number}")
            ports[name] = stack.enter_context(started)
        for port in ports.values():
            load(port, request, max(given.connections), 2.0)
        rate, p99, p50, failures, pooled = ({} for _ in range(5))
        limit: dict[str, list[float]] = {"ours, same network": [], "ours, shipped model": []}
        for _ in range(given.rounds):
            for name, models in zip(limit, (folder, default_model()), strict=True):
                limit[name].append(apart(bare, models, given.seconds / 2))
            for connections in given.connections:
                for name, port in ports.items():
                    times, failed = load(port, request, connections, given.seconds)
                    key = (name, connections)
                    rate.setdefault(key, []).append(len(times) / given.seconds)
                    failures[key] = failures.get(key, 0) + failed
                    pooled.setdefault(key, []).extend(times)
                    if times:
                        p50.setdefault(key, []).append(float(np.quantile(times, 0.5)))
                        p99.setdefault(key, []).append(float(np.quantile(times, 0.99)))
    limits = {name: statistics.median(values) for name, values in limit.items()}
    precision = Classifier.load(default_model()).precision
    print(
        f"{processor()}, {available_cores()} cores, torch {torch.__version__}; {given.rounds} rounds "
        f"of {given.seconds:g} s; theirs float32, ours {precision}"
    )
    print(
        f"{'server':22}{'connections':>12}{'per second':>12}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'worst p99':>11}{'failed':>8}{'ratio':>7}{'to bare':>9}"
    )
    rows = []
    for (name, connections), rates in sorted(rate.items(), key=lambda item: item[0][1]):
        key, base = (name, connections), statistics.median(rate["development server", connections])
        if not pooled[key] or not base:
            raise SystemExit(f"{name}, {connections} connections: no request was answered")
        row = {
            "server": name,
            "connections": connections,
            "per_second": statistics.median(rates),
            "p50_ms": statistics.median(p50[key]),
            "p99_ms": statistics.median(p99[key]),
            "p99_of_all_rounds_ms": float(np.quantile(pooled[key], 0.99)),
            "worst_p99_ms": max(p99[key]),
            "failed": failures[key],
            "ratio": statistics.median(rates) / base,
            "to_bare": statistics.median(rates) / limits[name] if name in limits else None,
        }
        rows.append(row)
        print(
            f"{name:22}{connections:12}{row['per_second']:12.1f}{row['p50_ms']:9.1f}{row['p99_ms']:9.1f}"
            f"{row['worst_p99_ms']:11.1f}{row['failed']:8}{row['ratio']:7.2f}"
            + (f"{row['to_bare']:9.2f}" if name in limits else "")
        )
    for name, films in limits.items():
        print(f"bare network, {name}, {precision}: {films:.0f} images a second")
    measured = {(row["server"], row["connections"]): row for row in rows}
    goals = [
        goal(f"{name}, {connections} connections: times the development server", row["ratio"], ">=", least)
        for name, least in (("ours, same network", GOAL_SAME), ("ours, shipped model", GOAL_SHIPPED))
        for connections in given.connections
        if (row := measured[name, connections])
    ]
    if 8 in given.connections:
        goals += [
            goal(f"{name}, 8 connections: p99 in ms", measured[name, 8]["p99_ms"], "<", GOAL_P99)
            for name in limits
        ]
    for said in goals:
        met = "met" if said["met"] else "MISSED"
        print(f"{said['what']}: {said['measured']:.2f}, goal {said['goal']}, {met}")
    if given.csv:
        write_text(given.csv, csv_of(rows, limits))
    if given.json:
        about = {
            "processor": processor(),
            "cores": available_cores(),
            "torch": torch.__version__,
            "rounds": given.rounds,
            "seconds": given.seconds,
            "precision": {"theirs": "float32", "ours": precision},
        }
        write_json(given.json, about | {"rows": rows, "bare": limits, "goals": goals})


def goal(what: str, measured: float, relation: str, value: float) -> dict[str, object]:
    """State a goal beside what was measured; missing it is no error."""
    met = measured >= value if relation == ">=" else measured < value
    return {"what": what, "measured": measured, "goal": f"{relation} {value:g}", "met": met}


if __name__ == "__main__":
    main()
