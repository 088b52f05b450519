"""No file takes more time or memory to decode than its size allows, whatever the trick."""

import io
import os
import struct
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from conftest import encode_image
from leakfree.data import bounded, decoder, images
from leakfree.data.images import ImageError
from leakfree.data.intake import Limits, TooLargeError

LIMITS = Limits()
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")


@pytest.mark.parametrize("format", [*FORMATS, "PPM"])
def test_good_images_are_decoded_as_without_bounds(format):
    data = encode_image(format=format, size=(70, 50))
    facts, grey = images.decode(data)
    assert bounded.facts(data) == facts
    told, decoded = bounded.decode(data)
    assert told == facts and decoded.mode == "L" and decoded.tobytes() == grey.tobytes()
    assert (bounded.to_square(data, 32) == images.to_grey(data, 32)).all()
    grey.thumbnail((35, 35), Image.Resampling.BILINEAR)
    assert bounded.shrunk(data, 35).tobytes() == grey.tobytes()


def test_sixteen_bits_are_as_without_bounds():
    buffer = io.BytesIO()
    Image.fromarray(np.arange(6400, dtype=np.uint16).reshape(80, 80)).save(buffer, "TIFF")
    assert (bounded.to_square(buffer.getvalue(), 32) == images.to_grey(buffer.getvalue(), 32)).all()


@pytest.mark.parametrize("format", FORMATS)
def test_limits_hold_here_and_there(format):
    data = encode_image(format=format, size=(70, 50))
    assert bounded.to_square(data, 32, LIMITS).shape == (32, 32)
    with pytest.raises(TooLargeError, match="70 x 50 pixels, over the limit of 3,000"):
        bounded.to_square(data, 32, Limits(pixels=3000))
    with pytest.raises(TooLargeError, match="bytes, over the limit of 10"):
        bounded.to_square(data, 32, Limits(bytes=10))
    with pytest.raises(ImageError, match="too small"):
        bounded.to_square(data, 32, Limits(least_side=64))
    bounded.check_bounded(data, LIMITS)


def filling(size=4_000_000):
    """A JPEG of filling bytes, which Pillow's reader takes one by one: seconds for its header."""
    data = encode_image(size=(64, 64))
    return data[:2] + b"\xff" * size + data[2:]


def deep_tile(side=16384):
    """A TIFF of 64 x 64 pixels in one tile of 256 MiB, packed to a quarter of one."""
    # One piece of zeros, packed to stand by itself, again and again: packing all of them takes a second.
    squeeze, piece, pieces = zlib.compressobj(9), bytes(1 << 22), side * side >> 22
    first, other = (squeeze.compress(piece) + squeeze.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    checksum = 1
    for _ in range(pieces):
        checksum = zlib.adler32(piece, checksum)
    packed = first + (pieces - 1) * other + b"\x03\0" + checksum.to_bytes(4, "big")
    entries = [(256, 4, 64), (257, 4, 64), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1)]
    entries += [(322, 4, side), (323, 4, side), (324, 4, 8 + 2 + 120 + 4), (325, 4, len(packed))]
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + struct.pack("<I", 0) + packed


@pytest.mark.skipif(sys.platform == "win32", reason="there the clock is the limit, which takes a minute")
def test_processor_time_has_a_bound():
    # In a process of its own: what other tests started is among the children of this one.
    code = (
        "import resource, sys; from leakfree.data import bounded\n"
        "from leakfree.data.images import ImageError\n"
        "from leakfree.data.intake import Limits\n"
        "try: bounded.to_square(sys.stdin.buffer.read(), 32, Limits())\n"
        "except ImageError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime)"
    )
    given = filling(20_000_000)
    done = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, check=True)
    *said, seconds = done.stdout.decode().splitlines()
    assert "takes longer to decode than an image of its size needs" in "".join(said)
    # Of the decoder that was ended, its start included.
    assert float(seconds) < 4 * decoder.SECONDS
    assert bounded.to_square(encode_image(format="WEBP", size=(64, 64)), 32, LIMITS).any()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="the limit on memory is one of Linux")
def test_memory_has_a_bound():
    # In a process of its own: what other tests started is among the children of this one.
    code = (
        "import resource, sys; from leakfree.data import bounded\n"
        "from leakfree.data.images import ImageError\n"
        "from leakfree.data.intake import Limits\n"
        "try: bounded.to_square(sys.stdin.buffer.read(), 32, Limits())\n"
        "except ImageError: print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=deep_tile(), capture_output=True, check=True)
    assert int(done.stdout) * 1024 < 200 << 20  # with all that it imports
    assert bounded.to_square(encode_image(format="WEBP", size=(64, 64)), 32, LIMITS).any()


def test_a_decoder_that_dies_is_a_reason_and_the_next_image_has_another(monkeypatch):
    pool = bounded._Decoders()
    monkeypatch.setattr(bounded, "_kept", pool)
    pool.start()
    data = encode_image(format="WEBP", size=(64, 64))
    for worker in pool._idle:
        worker.process.terminate()
        worker.process.wait()
    before = len(pool._idle)
    with pytest.raises(TooLargeError, match="its decoder ended with SIGTERM"):
        bounded.facts(data)
    assert len(pool._idle) == before
    for _ in range(before):
        try:
            bounded.facts(data)
        except TooLargeError:
            continue
    assert bounded.facts(data).width == 64


def test_who_waits_too_long_is_told(monkeypatch):
    pool = bounded._Decoders()
    monkeypatch.setattr(bounded, "_kept", pool)
    while pool._slots.acquire(blocking=False):
        pass
    started = time.monotonic()
    with pytest.raises(bounded.DecodersBusyError):
        bounded.to_square(encode_image(format="WEBP", size=(64, 64)), 32, wait=0.1)
    assert time.monotonic() - started < 5
    # A plain image needs no decoder.
    for format in ("JPEG", "PNG", "TIFF"):
        assert bounded.to_square(encode_image(format=format, size=(64, 64)), 32, wait=0.1).any()


def test_threads_get_their_own_answers():
    sides = list(range(40, 72))
    files = [encode_image(format="BMP", size=(side, side), seed=side) for side in sides]
    found = {}
    threads = [
        threading.Thread(target=lambda s=s, f=f: found.update({s: bounded.facts(f).width}))
        for s, f in zip(sides, files, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {side: side for side in sides}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_decoders_of_its_own():
    bounded.facts(encode_image(format="BMP"))
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, b"1" if bounded._kept is None else b"0")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 1) == b"1"


def test_a_module_in_the_working_folder_is_not_run(tmp_path, monkeypatch):
    for name in ("numpy", "PIL", "json"):
        (tmp_path / f"{name}.py").write_text("open('RAN', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bounded, "_kept", None)
    assert bounded.facts(encode_image(format="BMP")).width == 32
    assert not (tmp_path / "RAN").exists()
