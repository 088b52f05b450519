"""The program that decodes under limits: its messages, and what it says of what it refuses."""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest

from conftest import encode_image
from leakfree.data import decoder
from leakfree.data.decoder import receive, send
from leakfree.data.images import decode, to_grey


@pytest.fixture
def program():
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "leakfree.data.decoder"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def ask(process, task, data, *arguments, limits=None):
    send(process.stdin, {"task": task, "arguments": arguments, "limits": limits}, data)
    return receive(process.stdout)


def array(reply):
    head, body = reply
    return np.frombuffer(body, np.uint8).reshape(head["shape"])


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM"])
def test_it_decodes_as_this_process_does(program, format):
    data = encode_image(format=format, size=(50, 40))
    told, image = decode(data)
    assert ask(program, "facts", data) == ({"facts": vars(told), "warnings": []}, b"")
    reply = ask(program, "grey", data)
    assert reply[0]["facts"] == vars(told) and (array(reply) == np.asarray(image)).all()
    assert (array(ask(program, "square", data, 24)) == to_grey(data, 24)).all()
    assert array(ask(program, "small", data, 25)).shape == (20, 25)


def test_what_is_refused_leaves_it_ready_for_the_next(program):
    assert "cannot" not in ask(program, "facts", b"nothing")[0]["refused"]
    assert ask(program, "facts", b"nothing")[0]["refused"] == "not an image"
    limits = {"bytes": 9999, "pixels": 100, "least_side": 1}
    assert "over the limit of 100" in ask(program, "facts", encode_image(), limits=limits)[0]["too_large"]
    assert "DICOM" in ask(program, "facts", bytes(128) + b"DICM" + bytes(9))[0]["refused"]
    assert ask(program, "facts", encode_image(size=(32, 24)))[0]["facts"]["width"] == 32


def test_it_ends_with_its_input(program):
    program.stdin.close()
    assert program.wait(10) == 0


def test_what_pillow_warns_of_comes_back(program):
    data = encode_image(exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    assert any("UserWarning" in line for line in ask(program, "facts", data)[0]["warnings"])


def test_a_message_that_is_cut_off_is_none():
    buffer = io.BytesIO()
    send(buffer, {"a": 1}, b"body")
    whole = buffer.getvalue()
    assert receive(io.BytesIO(whole)) == ({"a": 1}, b"body")
    for end in range(len(whole)):
        assert receive(io.BytesIO(whole[:end])) is None


def fli_in_tiff(side):
    """A file that Pillow takes for an animation of 100 megapixels, and its TIFF reader for 64 x 64."""
    first = 0x1AF11
    head = bytearray(128)
    head[:8] = b"II*\0" + struct.pack("<I", first)
    struct.pack_into("<HHHHI", head, 8, side, side, 8, 0, 5)
    frame = struct.pack("<IHH8x", 32, 0xF1FA, 1) + struct.pack("<IH10x", 16, 13)
    entries = [(256, 4, 64), (257, 4, 64), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, first + 102)]
    entries += [(277, 3, 1), (279, 4, 4096)]
    packed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    directory = struct.pack("<H", len(entries)) + packed + struct.pack("<I", 0)
    return (bytes(head) + frame).ljust(first, b"\0") + directory + bytes(range(256)) * 16


def test_what_is_checked_is_what_is_decoded(program):
    limits = {"bytes": 10**6, "pixels": 10**6, "least_side": 32}
    reply = ask(program, "square", fli_in_tiff(10_000), 32, limits=limits)
    assert reply[0]["refused"] == "reads as TIFF and as FLI: no image is both"


def test_time_grows_with_the_pixels():
    assert decoder.seconds_for(0) == decoder.SECONDS
    assert decoder.seconds_for(4096 * 4096) < 5
