"""What is no single image of a sane size is refused by its content, before pixels are decoded."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from leakfree.data.images import ImageError
from leakfree.data.intake import FORMATS, Limits, TooLargeError, check

LIMITS = Limits(bytes=200_000, pixels=300 * 300, least_side=32)


def saved(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def grey(width=64, height=48):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width), dtype=np.uint8))


def png_header(width, height):
    """A PNG that says how large it is and holds next to nothing."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("format", FORMATS)
def test_images_of_every_format_pass_whatever_their_name(format):
    check(saved(grey(), format), LIMITS)


def test_sixteen_bits_palettes_and_transparency_pass():
    check(saved(Image.fromarray(np.zeros((40, 40), np.uint16)), "PNG"), LIMITS)
    check(saved(grey().convert("RGBA"), "PNG"), LIMITS)
    check(saved(grey().convert("CMYK"), "JPEG"), LIMITS)
    check(saved(grey().convert("P"), "GIF"), LIMITS)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello", "not an image"),
        (b"%PDF-1.7 and more", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "not an image"),
        (b"\0" * 128 + b"DICM" + b"\0" * 50, "DICOM.*export"),
        (saved(grey(1, 1), "PNG"), "1 x 1 pixels: too small"),
        (saved(grey(500, 20), "PNG"), "500 x 20 pixels: too small"),
        (saved(grey(), "GIF", save_all=True, append_images=[grey().rotate(90)]), "several frames or pages"),
        (saved(grey(), "TIFF", save_all=True, append_images=[grey(), grey()]), "several frames or pages"),
    ],
)
def test_the_reason_is_said(data, reason):
    with pytest.raises(ImageError, match=reason) as caught:
        check(data, LIMITS)
    assert not isinstance(caught.value, TooLargeError)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"x" * 200_001, "200,001 bytes, over the limit of 200,000"),
        (png_header(20_000, 20_000), "more than 90,000 pixels"),
        (png_header(301, 300), "301 x 300"),
        (png_header(2**31 - 1, 2**31 - 1), "pixels"),
    ],
)
def test_what_is_too_large_is_told_from_what_is_damaged(data, reason):
    with pytest.raises(TooLargeError, match=reason):
        check(data, LIMITS)


def test_pixels_are_not_decoded():
    check(png_header(300, 300), LIMITS)  # its pixels are missing: decoding says so, not this check


def test_a_file_of_very_many_pages_is_refused_without_counting_them(monkeypatch):
    def counted(image):
        pytest.fail("pages were counted")

    # Each page is a directory without an entry that names the next one; counting them takes quadratic time.
    pages = 200
    head = saved(grey(), "TIFF")
    first = struct.unpack("<I", head[4:8])[0]
    entries = struct.unpack("<H", head[first : first + 2])[0]
    end = first + 2 + 12 * entries
    data = bytearray(head[:end] + struct.pack("<I", len(head)) + head[end + 4 :])
    data += b"".join(
        struct.pack("<HI", 0, len(head) + 6 * (i + 1) if i + 1 < pages else 0) for i in range(pages)
    )
    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "n_frames", property(counted))
    with pytest.raises(ImageError, match="several frames or pages"):
        check(bytes(data), Limits())
