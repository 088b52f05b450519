"""What is decoded in this process is bounded by what its header says; what is not known is not plain."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from leakfree.data import bounded, images
from leakfree.data import plain as module
from leakfree.data.images import ImageError
from leakfree.data.plain import plain


def saved(format, mode="L", side=64, **options):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format, **options)
    return buffer.getvalue()


def segment(marker, content):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def jpeg_with(*segments, **options):
    data = saved("JPEG", **options)
    return data[:2] + b"".join(segments) + data[2:]


def png_with(*chunks):
    data = saved("PNG")
    return data[:33] + b"".join(chunks) + data[33:]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"mode": "RGB", "progressive": True}])
@pytest.mark.parametrize("side", [1, 64, 1000])
def test_what_encoders_write_is_plain(options, side):
    assert plain(saved("JPEG", side=side, **options)) == side * side
    assert plain(saved("PNG", side=side)) == side * side


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16"])
def test_png_of_every_mode_is_plain(mode):
    image = Image.fromarray(np.zeros((9, 9), np.uint16)) if mode == "I;16" else Image.new(mode, (9, 9))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", dpi=(72, 72))
    assert plain(buffer.getvalue())


def test_metadata_of_a_scanner_and_filling_bytes_are_plain():
    exif = Image.Exif()
    exif[0x0112] = 6
    icc = segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(3000))
    assert plain(jpeg_with(icc, segment(0xED, b"Photoshop 3.0\0" + bytes(40)), exif=exif.tobytes()))
    assert plain(jpeg_with(segment(0xFE, b"scanned on a Tuesday")))
    assert plain(png_with(chunk(b"tEXt", b"Software\0scan")))


def test_bare_pixels_are_plain_and_nothing_beside_them():
    data = saved("PPM")
    assert plain(data) == 4096
    for odd in (
        data[:-1],
        data + b"\0",
        data.replace(b"\n255", b"\n256"),
        data.replace(b"64 64", b"64 #\n64"),
    ):
        assert plain(odd) == 0


def tiff(values, **options):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF", **options)
    return buffer.getvalue()


WIDE = np.arange(6000, dtype=np.uint16).reshape(60, 100)


@pytest.mark.parametrize("values", [WIDE, WIDE.astype(np.uint8), np.zeros((60, 100, 3), np.uint8)])
def test_bare_pixels_in_strips_are_plain(values):
    for options in ({}, {"tiffinfo": {270: "a film", 278: 7, 305: "who made it"}}):
        data = tiff(values, **options)
        assert plain(data) == 6000
        assert images.decode(data)[1].tobytes() == bounded._asked("grey", data)[1].tobytes()


@pytest.mark.parametrize(
    "options",
    [
        {"tiffinfo": {270: "x" * 10_000}},
        {"tiffinfo": {700: b"<xmp>"}},
        {"tiffinfo": {33432: "whose it is"}},
        {"icc_profile": b"profile"},
        {"save_all": True, "append_images": [Image.fromarray(WIDE)]},
    ],
)
def test_a_tiff_of_other_parts_is_not_plain(options):
    assert plain(tiff(WIDE, **options)) == 0


def test_a_tiff_packed_in_another_way_is_not_plain():
    assert plain(tiff(WIDE.astype(np.uint8), compression="jpeg")) == 0
    assert plain(tiff(WIDE.astype(np.uint8) > 9, compression="group4")) == 0


def test_a_tiff_that_says_other_than_it_holds_is_not_plain():
    data = tiff(WIDE)
    assert all(plain(data[:end]) == 0 for end in (3, 7, 9, 40, 122, len(data) - 1))
    at = struct.unpack_from("<I", data, 4)[0]
    for entry in range(struct.unpack_from("<H", data, at)[0]):
        place = at + 2 + 12 * entry
        tag = struct.unpack_from("<H", data, place)[0]
        for value in (0, 2, 1 << 15, (1 << 32) - 1):
            changed = bytearray(data)
            struct.pack_into("<I", changed, place + 8, value)
            # Which grey is black is no matter of size; an offset may be another one; a strip may be shorter.
            if tag not in (262, 273) and (tag, value) not in ((278, 1 << 15), (278, (1 << 32) - 1)):
                assert plain(bytes(changed)) == 0, (tag, value)
        twice = bytearray(data)
        struct.pack_into("<H", twice, place, 256 if tag != 256 else 257)
        assert plain(bytes(twice)) == 0
    # A square of the same number of pixels, for the reader of animations that is asked first.
    assert plain(data.replace(struct.pack("<I", 8), struct.pack("<I", 0x1AF11), 1) + bytes(0x1AF11)) == 0


@pytest.mark.parametrize("packing", ["tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("values", [WIDE, WIDE.astype(np.uint8), np.zeros((60, 100, 3), np.uint8)])
def test_packed_strips_are_plain_and_decoded_as_elsewhere(packing, values):
    for rows in (7, 60):
        # The difference between neighbours is what archives pack.
        for predictor in (1, 2) if packing != "packbits" else (1,):
            data = tiff(values, compression=packing, tiffinfo={278: rows, 317: predictor})
            assert plain(data) == 6000
            told, image = images.decode(data)
            elsewhere, array = bounded._asked("grey", data)
            assert image.tobytes() == array.tobytes() and vars(told) == elsewhere


def test_packed_strips_that_share_their_bytes_are_not_plain():
    data = bytearray(tiff(WIDE, compression="tiff_lzw", tiffinfo={278: 1}))
    assert plain(bytes(data)) == 6000
    at = struct.unpack_from("<I", data, 4)[0]
    for entry in range(struct.unpack_from("<H", data, at)[0]):
        tag, kind, count, place = struct.unpack_from("<HHII", data, at + 2 + 12 * entry)
        if tag in (273, 279):
            form = f"<{count}{'H' if kind == 3 else 'I'}"
            value = (8, len(data) // 2)[tag == 279]
            struct.pack_into(form, data, place, *[value] * count)
    assert plain(bytes(data)) == 0


def test_the_worst_of_packed_strips_takes_time_in_proportion():
    size = 6_000_000
    codes = bytes.fromhex("804020100804020100") * (size // 9)  # to begin anew, again and again
    entries = [(256, 4, 4096), (257, 4, 4096), (258, 3, 8), (259, 3, 5), (262, 3, 1), (273, 4, 134)]
    entries += [(277, 3, 1), (278, 4, 4096), (279, 4, len(codes))]
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    data = (b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4)).ljust(134, b"\0") + codes
    assert plain(data) == 4096 * 4096
    began = time.process_time()
    with pytest.raises(ImageError):
        images.decode(data)
    assert time.process_time() - began < 1.5


@pytest.mark.parametrize("format", ["GIF", "BMP", "WEBP"])
def test_other_formats_are_not_plain(format):
    assert not plain(saved(format))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xd8\xff", id="a beginning"),
        pytest.param(saved("JPEG")[:-2], id="no end"),
        pytest.param(saved("JPEG")[:200], id="cut off"),
        pytest.param(saved("PNG")[:60], id="PNG cut off"),
        pytest.param(jpeg_with(b"\xff" * 5000), id="filling bytes"),
        pytest.param(jpeg_with(*[segment(0xE1, b"Exif\0\0" + bytes(1000))] * 9), id="EXIF in many segments"),
        pytest.param(jpeg_with(segment(0xE1, b"Exif\0\0" + bytes(9000))), id="long EXIF"),
        pytest.param(jpeg_with(segment(0xE2, b"MPF\0" + bytes(50))), id="several pictures"),
        pytest.param(jpeg_with(*[segment(0xFE, b"")] * 200), id="many comments"),
        pytest.param(jpeg_with(segment(0xC0, b"\x08\xff\xff\xff\xff\x01\x01\x11\x00")), id="two frames"),
        pytest.param(png_with(chunk(b"zTXt", b"a\0\0" + zlib.compress(b"a" * 9))), id="packed text"),
        pytest.param(png_with(chunk(b"iCCP", b"a\0\0" + zlib.compress(b"a" * 9))), id="packed profile"),
        pytest.param(png_with(chunk(b"tEXt", b"k\0" + b"v" * 9000)), id="long text"),
        pytest.param(png_with(chunk(b"eXIf", bytes(20))), id="EXIF of a PNG"),
        pytest.param(png_with(chunk(b"IHDR", bytes(13))), id="two headers"),
        pytest.param(png_with(*[chunk(b"IDAT", b"")] * 9000), id="many chunks"),
    ],
)
def test_what_is_not_known_or_not_small_is_not_plain(data):
    assert not plain(data)


def many_scans(number):
    """A progressive JPEG whose last scan stands there again and again."""
    data = saved("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * number + b"\xff\xd9"


def test_scans_are_counted():
    assert plain(many_scans(1))
    assert not plain(many_scans(module.SCANS + 1))
    with pytest.raises(ImageError, match="more than 256 scans"):
        plain(many_scans(module.MOST_SCANS + 1))


def test_a_scan_in_a_thumbnail_of_the_header_is_not_one_of_the_image():
    assert plain(jpeg_with(segment(0xED, b"Photoshop 3.0\0" + saved("JPEG", side=8) * 3)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (jpeg_with(*[segment(0xFE, b"")] * 2100), "more than 2,048 segments"),
        (png_with(*[chunk(b"aaAa", b"")] * 100_001), "more than 100,000 chunks"),
    ],
)
def test_what_only_an_attack_has_is_refused_at_once(data, reason):
    with pytest.raises(ImageError, match=reason):
        plain(data)


def test_a_tiff_whose_numbers_are_damaged_is_no_plain_one_and_no_crash():
    stream = io.BytesIO()
    Image.new("L", (24, 20), 90).save(stream, "TIFF")
    whole = stream.getvalue()
    assert plain(whole) == 480
    rng = np.random.default_rng(0)
    for _ in range(4000):
        data = bytearray(whole)
        for place in rng.integers(4, len(data), rng.integers(1, 5)):
            data[place] = rng.integers(256)
        assert plain(bytes(data)) >= 0
