"""What a request holds is read in memory, whichever way it was sent."""

import base64
import io
import json

import pytest
from werkzeug.test import EnvironBuilder

from deferred import deferred
from leakfree.serving.settings import ServiceSettings

with deferred:
    from leakfree.serving.uploads import InMemoryRequest, RefusedError, Upload, read_upload

SETTINGS = ServiceSettings(model="none", images=3)


def request(**sent):
    return InMemoryRequest(EnvironBuilder(method="POST", **sent).get_environ())


def test_files_of_a_form_stay_in_memory():
    large = request(data={"image": (io.BytesIO(b"x" * 2_000_000), "film.png")})
    assert read_upload(large, SETTINGS) == Upload((b"x" * 2_000_000,), True, False)
    assert type(large.files["image"].stream) is io.BytesIO


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
