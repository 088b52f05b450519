"""The server as people start it: ready soon, small, no request lost that can be kept, nobody holds it."""

import base64
import http.client
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import pytest
from PIL import Image

from conftest import free_port
from leakfree.cli import main
from leakfree.serving import server as server_module
from leakfree.serving.settings import ServiceSettings

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn needs fork")


def most_bytes_of_a_file(most):
    """Limit the files that a process may write: what a full disk says, without one."""
    import resource

    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


#: `leakfree serve` as a command starts it, and with less patience for those who send nothing.
COMMAND = ("-m", "leakfree.cli")
IMPATIENT = (
    "-c",
    """
import sys
from leakfree.cli import main
from leakfree.serving import server

make = server._application

def impatient(settings):
    from leakfree.serving.worker import DeadlineWorker  # not before the folder of the counters is known

    DeadlineWorker.idle_seconds = 1.0
    return make(settings)

server._application = impatient
sys.exit(main())
""",
)


@contextmanager
def serving(models, log, *options, before=None, start=COMMAND):
    """Start `leakfree serve` and wait until it is healthy."""
    port = free_port()
    command = [sys.executable, *start, "serve", "--model", str(models), "--port", str(port), *options]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stderr=stream, stdout=subprocess.DEVNULL, preexec_fn=before)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if call(port, "GET", "/health")[0] == 200:
                    break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield port, process
    finally:
        process.kill()
        process.wait()


def call(port, method, path, body=None, timeout=60):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def children(process):
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as listed:
        return [int(pid) for pid in listed.read().split()]


def lines(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture(scope="module")
def body(films):
    return json.dumps({"image": base64.b64encode(films[0]).decode()}).encode()


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(models, log, "--workers", "2") as (port, process):
        yield port, process, log


@pytest.fixture(scope="module")
def hurried(models, tmp_path_factory):
    """One worker that waits a second for a request; the last test that uses it stops it."""
    log = tmp_path_factory.mktemp("hurried") / "log"
    options = ("--threads", "4", "--receive-seconds", "1", "--inference-threads", "1", "--batch", "1")
    with serving(models, log, *options, start=IMPATIENT) as (port, process):
        yield port, process, log


def test_it_answers_and_logs_json_lines_only(server, body):
    port, _, log = server
    status, answer = call(port, "POST", "/predict", body)
    assert status == 200 and json.loads(answer)["diagnosis"] in ("Normal", "Pneumonia")
    said = lines(log)
    assert any(line["message"] == "request" and line["path"] == "/predict" for line in said)
    assert all({"time", "level", "message"} <= set(line) for line in said)


def test_what_pillow_warns_of_is_a_line_like_all_others(server, films):
    port, _, log = server
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(films[0])) as image:
        image.convert("L").save(buffer, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    damaged = json.dumps({"image": base64.b64encode(buffer.getvalue()).decode()}).encode()
    assert call(port, "POST", "/predict", damaged)[0] == 200
    assert any("Warning" in line["message"] for line in lines(log))


def test_workers_count_together_at_an_address_of_their_own(server, body):
    port, *_ = server
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1:%d\r\n\r\n" % (port + 1))
        assert connection.recv(999).startswith(b"HTTP/1.0 404 ")
    assert call(port + 1, "GET", "/health")[0] == call(port + 1, "POST", "/predict", body)[0] == 404

    def counted():
        text = call(port + 1, "GET", "/metrics")[1].decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in text if line.startswith("leakfree_films_total"))

    before = counted()
    for _ in range(12):
        assert call(port, "POST", "/predict", body)[0] == 200
    assert counted() - before == 12


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")
def test_a_killed_worker_is_replaced_and_no_new_request_is_lost(server, body):
    port, process, _ = server
    before = children(process)
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    assert all(call(port, "POST", "/predict", body)[0] == 200 for _ in range(10))
    deadline = time.monotonic() + 20
    while len(now := [pid for pid in children(process) if pid not in before]) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert now


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")
def test_one_worker_is_small(server, body):
    port, process, _ = server
    call(port, "POST", "/predict", body)
    for pid in children(process):
        with open(f"/proc/{pid}/status") as status:
            resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        assert resident < 900_000, "kB"


def test_what_is_no_http_harms_nobody(server, body):
    port, *_ = server
    for garbage in (
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"\0" * 999,
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            assert b" 500 " not in connection.recv(999)
    assert call(port, "POST", "/predict", body)[0] == 200


def answers(port, sent):
    """Send bytes, and return all that comes back until the server hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65536), b""))


CHUNKS = (
    b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
NEXT = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (CHUNKS + b"-5\r\nabc\r\n0\r\n\r\n" + NEXT, 400),
        (CHUNKS + b"5\r\nabcdeX0\r\n\r\n" + NEXT, 400),
        (CHUNKS + b"2\r\n{}\r\n0\r\nX: a\nb\r\n\r\n" + NEXT, 400),
        (CHUNKS.replace(b"application/json", b"text/plain") + b"zz\r\n\r\n" + NEXT, 415),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: x\r\n\r\n", 417),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ],
)
def test_what_is_malformed_is_one_answer_like_all_others(server, sent, status):
    port, _, log = server
    got = answers(port, sent)
    assert got.count(b"HTTP/1.1 ") == 1, "what follows is no request"
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert status == 415 or b"\r\nConnection: close" in head, "only that one was answered before it was read"
    assert b"nosniff" in head and b"default-src 'none'" in head and b"no-store" in head
    said = json.loads(body)
    assert set(said) == {"error", "request_id"} and f"X-Request-ID: {said['request_id']}".encode() in head
    (line,) = (line for line in lines(log) if line.get("request_id") == said["request_id"])
    assert (line["message"], line["status"]) == ("request", status) and "exc_info" not in line


def test_without_room_for_counters_predictions_go_on(models, body, tmp_path):
    (tmp_path / "log").touch()
    with serving(models, tmp_path / "log", before=most_bytes_of_a_file(60_000)) as (port, _):
        assert all(call(port, "POST", "/predict", body)[0] == 200 for _ in range(3))
        status, said = call(port + 1, "GET", "/metrics")
        assert status == 503 and b"no room for counters: File too large" in said
    errors = [line["message"] for line in lines(tmp_path / "log") if line["level"] == "ERROR"]
    assert errors == ["predictions go on without /metrics: no room for counters: File too large: see TMPDIR"]


def test_where_the_port_of_metrics_is_taken_it_is_left_out_or_refused(models, caplog, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with caplog.at_level(logging.WARNING, "leakfree.service"):
            found = server_module._addresses(ServiceSettings(model=models, port=port - 1, host="::1"))
        assert found == [f"[::1]:{port - 1}"] and f"127.0.0.1:{port}" in caplog.text
        options = ["--model", str(models), "--port", str(free_port()), "--metrics-port", str(port)]
        assert main(["serve", *options]) == 2
        assert f"127.0.0.1:{port}: Address already in use" in capsys.readouterr().err


def test_a_body_in_chunks_is_taken_and_limited(server, body):
    port, *_ = server
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(
        "POST",
        "/predict",
        iter([body[:50], body[50:]]),
        {"Content-Type": "application/json"},
        encode_chunked=True,
    )
    assert connection.getresponse().status == 200
    connection.close()


def test_slow_senders_hold_no_thread_for_longer_than_the_deadline(hurried, body):
    port, _, log = hurried
    head = (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
    )
    # As many as there are threads, and two more.
    begun = (head + b"{", head, b"POST /pre", *[head + b"{"] * 3)
    slow = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in begun]
    for connection, start in zip(slow, begun, strict=True):
        connection.sendall(start)
    stop = threading.Event()

    def drip():
        while not stop.wait(0.2):
            for connection in slow:
                with suppress(OSError):
                    connection.sendall(b" ")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        started = time.monotonic()
        assert call(port, "POST", "/predict", body)[0] == 200
        assert time.monotonic() - started < 15
        refused = slow[0].recv(4096)
    finally:
        stop.set()
        dripping.join()
        for connection in slow:
            connection.close()
    assert refused.startswith(b"HTTP/1.1 408 "), refused
    assert not any(line.get("status", 0) >= 500 for line in lines(log))


def test_an_idle_connection_is_closed(hurried):
    from leakfree.serving.worker import DeadlineWorker

    assert DeadlineWorker.idle_seconds == 5, "which this server has less of"
    with socket.create_connection(("127.0.0.1", hurried[0]), timeout=30) as idle:
        assert idle.recv(1) == b""


def test_a_stop_finishes_what_it_began(hurried, films):
    port, process, _ = hurried
    many = json.dumps(
        {"images": [base64.b64encode(image).decode() for image in films[:8]], "overlay": True}
    ).encode()

    def batches():
        text = call(port + 1, "GET", "/metrics")[1]
        counted = text.partition(b"\nleakfree_batch_films_count ")[2].split()
        return float(counted[0]) if counted else 0

    before, found = batches(), []
    callers = [
        threading.Thread(target=lambda: found.append(call(port, "POST", "/predict", many)[0]))
        for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    deadline = time.monotonic() + 20
    while batches() < before + 4:
        assert time.monotonic() < deadline
    assert len(found) < 4, "something is left to finish"
    process.send_signal(signal.SIGTERM)
    for caller in callers:
        caller.join()
    assert process.wait(30) == 0
    assert found == [200] * 4
    with pytest.raises(OSError):
        call(port, "GET", "/health")


def test_waitress_serves_where_nothing_forks(models, body, tmp_path):
    port = free_port()
    code = (
        "from leakfree.serving.server import serve; from leakfree.serving.settings import ServiceSettings; "
        f"serve(ServiceSettings(model={str(models)!r}, port={port}), forks=False)"
    )
    with (tmp_path / "log").open("w") as stream:
        process = subprocess.Popen([sys.executable, "-c", code], stderr=stream)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                status, answer = call(port, "POST", "/predict", body)
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
        assert status == 200 and json.loads(answer)["diagnosis"]
        assert call(port, "POST", "/predict", b"{")[0] == 400
        assert b"leakfree_films_total" in call(port + 1, "GET", "/metrics")[1]
        assert call(port, "GET", "/metrics")[0] == 404
    finally:
        process.kill()
        process.wait()
    assert all(json.loads(line) for line in (tmp_path / "log").read_text().splitlines())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "nowhere"], "leakfree serve: nowhere: No such file or directory"),
        (["--port", "99999"], "leakfree serve: --port: Input should be less than or equal to 65535"),
        (
            ["--metrics-port", "9696"],
            "leakfree serve: --metrics-port: must be another port than the service's",
        ),
        (["--threads", "1"], "leakfree serve: --threads: Input should be greater than or equal to 2"),
    ],
)
def test_what_cannot_be_served_is_one_line(models, capsys, options, said):
    options += [] if "--model" in options else ["--model", str(models)]
    assert main(["serve", *options]) == 2
    assert capsys.readouterr().err.strip() == said


def test_a_port_that_is_taken_is_said(models, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "leakfree.cli", "serve", "--model", str(models), "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert str(port) in done.stderr and "in use" in done.stderr.lower()
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("sent", [b"", b"POST /predict HTTP/1.1\r\nHost: x\r\n", b"GET /health HTTP/1.1\r\n"])
def test_who_sends_nothing_or_half_does_not_keep_health_waiting(server, sent):
    port, *_ = server
    held = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(100)]
    try:
        for connection in held:
            connection.sendall(sent)
        started = time.monotonic()
        assert all(call(port, "GET", "/health", timeout=10)[0] == 200 for _ in range(3))
        assert time.monotonic() - started < 5
    finally:
        for connection in held:
            connection.close()
