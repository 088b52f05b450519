"""What a request holds is read in memory, whichever way it was sent."""

import base64
import io
import json
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress

import pytest
from werkzeug.test import EnvironBuilder

from deferred import deferred
from leakfree.serving.settings import ServiceSettings

with deferred:
    from leakfree.serving import uploads
    from leakfree.serving.uploads import InMemoryRequest, RefusedError, Upload, read_upload

SETTINGS = ServiceSettings(model="none", images=3)


def request(**sent):
    return InMemoryRequest(EnvironBuilder(method="POST", **sent).get_environ())


def test_files_of_a_form_stay_in_memory():
    large = request(data={"image": (io.BytesIO(b"x" * 2_000_000), "film.png")})
    assert read_upload(large, SETTINGS) == Upload((b"x" * 2_000_000,), True, False)
    assert type(large.files["image"].stream) is io.BytesIO


def test_a_small_body_waits_for_no_large_one(monkeypatch):
    lock = threading.Lock()
    monkeypatch.setattr(uploads, "_READING", lock)
    with ThreadPoolExecutor(2) as threads, lock:
        small = threads.submit(read_upload, request(json={"image": "aGk="}), SETTINGS)
        large = threads.submit(read_upload, request(json={"image": "A" * 2_000_000}), SETTINGS)
        assert small.result(10).images == (b"hi",)
        assert not wait([large], timeout=0.5).done
        lock.release()
        assert large.result(10).images == (bytes(1_500_000),)
        lock.acquire()


def test_one_file_is_one_image_and_several_are_a_list():
    several = request(data={"image": [(io.BytesIO(b"a"), "a"), (io.BytesIO(b"b"), "b")]})
    assert read_upload(several, SETTINGS) == Upload((b"a", b"b"), False, False)
    listed = request(data={"images": (io.BytesIO(b"a"), "a"), "overlay": "True"})
    assert read_upload(listed, SETTINGS) == Upload((b"a",), False, True)
    both = request(data={"image": (io.BytesIO(b"a"), "a"), "images": (io.BytesIO(b"b"), "b")})
    assert read_upload(both, SETTINGS) == Upload((b"a", b"b"), False, False)


def test_base64_may_have_line_breaks_and_come_as_a_data_url():
    text = base64.encodebytes(bytes(range(200))).decode()
    assert "\n" in text.strip()
    for sent in (text, f"data:image/png;base64,{text}"):
        assert read_upload(request(json={"image": sent}), SETTINGS).images == (bytes(range(200)),)


def test_fields_that_nobody_knows_are_ignored():
    assert read_upload(request(json={"image": "YQ==", "patient": "x"}), SETTINGS).images == (b"a",)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"json": {"images": ["YQ=="] * 4}}, 413),
        ({"data": {"images": [(io.BytesIO(b"a"), "a") for _ in range(4)]}}, 413),
        ({"data": json.dumps({"image": "YQ=="}), "content_type": "text/json"}, 415),
    ],
)
def test_too_many_and_other_types_are_refused(sent, status):
    with pytest.raises(RefusedError) as caught:
        read_upload(request(**sent), SETTINGS)
    assert caught.value.status == status


def peak_of(body):
    """Megabytes that reading a JSON body takes beside the body."""
    tracemalloc.start()
    try:
        with suppress(RefusedError):
            read_upload(request(data=body, content_type="application/json"), SETTINGS)
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "inside",
    [
        pytest.param(b"[" + b"[]," * 100_000 + b"[]]", id="lists"),
        pytest.param(b"[" + b"{}," * 100_000 + b"{}]", id="objects"),
        pytest.param(b"[" + b"1000," * 60_000 + b"1]", id="numbers"),
        pytest.param(b"{" + b'"a":1,' * 50_000 + b'"b":2}', id="keys"),
        pytest.param(b'"' + b"A " * 1_50_000 + b'"', id="an image of single letters"),
    ],
)
def test_a_small_body_takes_little_memory(inside):
    for body in (b'{"image": ' + inside + b"}", b'{"image": "AAAA", "x": ' + inside + b"}"):
        assert peak_of(body) < 6 * len(body) / 1e6


def test_a_body_of_very_many_values_is_refused():
    with pytest.raises(RefusedError, match="more than 4,099 values") as caught:
        read_upload(request(json={"image": "YQ==", "x": list(range(5000))}), SETTINGS)
    assert caught.value.status == 413
