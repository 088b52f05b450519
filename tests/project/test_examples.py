"""The examples against the real service, as a reader would try them."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from PIL import Image

from conftest import free_port
from leakfree.base.precision import SAME_PROBABILITY

needs_curl = pytest.mark.skipif(
    os.name == "nt" or not shutil.which("curl") or not shutil.which("sh"), reason="no curl, or no sh"
)


@pytest.fixture(scope="module")
def examples(repository):
    return repository / "examples"


@pytest.fixture(scope="module")
def down():
    """Address where nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def url(repository, tmp_path_factory):
    """Address of the real service with the published model."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    log = tmp_path_factory.mktemp("service") / "log"
    command = [sys.executable, "-m", "leakfree.cli", "serve", "--port", str(port), "--images", "4"]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=repository, stderr=stream, stdout=stream)
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(f"{address}/health", timeout=10):
                    break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
        yield address
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def expected(repository, examples):
    """What the model says of the sample without any service."""
    from leakfree.predict.classifier import Classifier

    classifier = Classifier.load(repository / "artifacts" / "chest_xray" / "models")
    return classifier.answer(classifier.prepare((examples / "sample.png").read_bytes())[None])[0]


def client(examples, *arguments):
    # Isolated and without site-packages: the standard library is all that it has.
    command = [sys.executable, "-I", "-S", str(examples / "client.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def client_sh(examples, *arguments, **options):
    command = ["sh", str(examples / "client.sh"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def one_line(done, code, beginning):
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(beginning) and done.stderr.count("\n") == 1, done.stderr


def test_the_sample_is_the_drawn_image_that_the_readme_says(examples, tmp_path):
    readme = (examples / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r'^python -c "\n(.*?)^"$', readme, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "sample.png") as made, Image.open(examples / "sample.png") as ours:
        assert made.mode == ours.mode == "L"
        assert not ours.info, "nothing but pixels"
        made, ours = (np.asarray(image, dtype=np.int16) for image in (made, ours))
    assert made.shape == ours.shape
    assert ours.std() > 20
    # JPEG decoders may round a pixel differently.
    assert np.abs(made - ours).max() <= 2


def test_client_prints_diagnosis_and_confidence(examples, url, expected):
    done = client(examples, examples / "sample.png", "--url", f"{url}/")
    assert (done.returncode, done.stdout) == (
        0,
        f"{expected.diagnosis}, confidence {expected.confidence:.3f}\n",
    )
    assert done.stderr.count("warning: ") == len(expected.warnings)


def test_client_passes_warnings_on(examples, url, tmp_path):
    image = Image.effect_noise((64, 64), 90)
    image.save(tmp_path / "noise.png")
    done = client(examples, tmp_path / "noise.png", "--url", url)
    assert done.returncode == 0
    assert done.stderr.startswith("warning: ")


@pytest.mark.parametrize("name", ["client.py", "client.sh"])
@needs_curl
def test_a_service_that_is_down_is_one_line(examples, down, name):
    film = examples / "sample.png"
    if name == "client.py":
        one_line(client(examples, film, "--url", down), 1, f"client: {down} cannot be reached: ")
    else:
        done = client_sh(examples, film, down)
        assert (done.returncode, done.stdout) == (7, "# health\n")
        assert done.stderr.startswith("curl: (7)") and done.stderr.count("\n") == 1


def test_what_the_service_refuses_is_one_line(examples, url):
    done = client(examples, examples / "README.md", "--url", url)
    one_line(done, 1, f"client: {url} refused: 422 image: ")


def test_a_file_that_is_not_there_is_one_line(examples, url, tmp_path):
    one_line(
        client(examples, tmp_path / "none.png", "--url", url), 2, f"client: {tmp_path / 'none.png'}: No such"
    )
    one_line(client(examples, tmp_path, "--url", url), 2, f"client: {tmp_path}: ")


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"<html>", "no answer of such a service: JSONDecodeError"),
        (200, b'{"diagnosis": "x"}', "no answer of such a service: KeyError"),
        (200, b"[]", "no answer of such a service: TypeError"),
        (500, b"<html>\n</html>", "refused: 500 Internal Server Error"),
        (404, b'{"error": "two\\nlines"}', "refused: 404 two lines"),
        (None, b"", "cannot be reached: "),
    ],
)
def test_another_service_s_answer_is_one_line(examples, status, body, said):
    class Other(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            if status is None:
                return  # hangs up without a word
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_about):
            pass

    server = HTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        done = client(examples, examples / "sample.png", "--url", address)
    finally:
        server.shutdown()
        server.server_close()
    one_line(done, 1, f"client: {address}")
    assert said in done.stderr
    one_line(client(examples, examples / "sample.png", "--url", "nonsense"), 1, "client: nonsense: ")


def test_a_body_over_the_limit_is_told_as_that(examples, url, tmp_path):
    (tmp_path / "large.png").write_bytes(bytes(30_000_000))
    done = client(examples, tmp_path / "large.png", "--url", url)
    one_line(done, 1, f"client: {url} refused: 413 the request is over the limit of 32,000,000 bytes")


def test_the_plain_contract_is_all_that_the_client_needs(examples):
    seen = []

    class Reference(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, sorted(body), base64.b64decode(body["image"], validate=True)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"diagnosis": "Normal", "confidence": 0.75}')

        def log_message(self, *_about):
            pass

    server = HTTPServer(("127.0.0.1", 0), Reference)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        done = client(examples, examples / "sample.png", "--url", f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert (done.returncode, done.stdout, done.stderr) == (0, "Normal, confidence 0.750\n", "")
    assert seen == [("/predict", ["image"], (examples / "sample.png").read_bytes())]


@needs_curl
def test_client_sh_asks_for_health_json_form_and_several(examples, url, expected, tmp_path):
    # A name that curl's form would take apart.
    film = tmp_path / "an image, 1;x.png"
    film.write_bytes((examples / "sample.png").read_bytes())
    done = client_sh(examples, film, url)
    assert (done.returncode, done.stderr) == (0, "")
    parts = re.split(r"^# .*\n", done.stdout, flags=re.MULTILINE)[1:]
    health, as_json, as_form, several = map(json.loads, parts)
    assert health["status"] == "healthy"
    for answer in (as_json, as_form, *several["predictions"]):
        assert answer["diagnosis"] == expected.diagnosis
        assert answer["confidence"] == pytest.approx(expected.confidence, abs=SAME_PROBABILITY)
    assert len(several["predictions"]) == 2


@needs_curl
def test_client_sh_takes_any_base64(examples, url, tmp_path):
    # One that knows no options and breaks lines, as that of busybox or macOS may.
    program = tmp_path / "base64"
    program.write_text(
        f"#!{sys.executable}\nimport base64, sys\nassert len(sys.argv) == 1\n"
        "sys.stdout.buffer.write(base64.encodebytes(sys.stdin.buffer.read()))\n"
    )
    program.chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = client_sh(examples, examples / "sample.png", url, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count('"diagnosis"') == 4


@needs_curl
def test_client_sh_says_what_is_wrong(examples, url, tmp_path):
    done = client_sh(examples, examples / "README.md", url)
    assert done.returncode == 1
    assert done.stderr.startswith('client.sh: 422 {"error":"image: ') and done.stderr.count("\n") == 1
    one_line(client_sh(examples, tmp_path / "none.png", url), 2, f"client.sh: {tmp_path / 'none.png'} cannot")
