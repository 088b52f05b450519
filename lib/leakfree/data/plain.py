"""Tell from its bytes alone that an image is cheap to decode: nearly all that cameras and archives write is.

What is called plain is decoded in this process. All else goes to a process with limits, see
`leakfree.data.bounded`. So this module never has to know a trick: what it does not know is not plain.
"""

from __future__ import annotations

import io
import re
import struct

from PIL import Image

from leakfree.data.images import ImageError

#: Most header segments of a JPEG, or chunks of a PNG, and most bytes that the header segments take together.
SEGMENTS, CHUNKS, HEADER_BYTES = 128, 8192, 1 << 18
#: Most scans of a progressive JPEG: encoders write about ten, and each one goes over all pixels.
SCANS = 24
#: Beyond these no reader is asked at all.
MOST_SEGMENTS, MOST_CHUNKS, MOST_SCANS = 2048, 100_000, 256
#: Most bytes of EXIF, XMP, Photoshop's block and comments together, and of a PNG's text: their readers are
#: not linear in the size.
METADATA_BYTES = 8192

# What follows a scan: not a stuffed zero, a restart or another filling byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
# Baseline, extended sequential and progressive, all with Huffman codes.
_FRAMES = (0xC0, 0xC1, 0xC2)
_END, _SCAN, _JFIF, _ICC, _ADOBE = 0xD9, 0xDA, 0xE0, 0xE2, 0xEE
# EXIF or XMP, Photoshop, comment.
_METADATA = (0xE1, 0xED, 0xFE)
# Huffman and quantisation tables, restart interval.
_TABLES = (0xC4, 0xDB, 0xDD)

_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
# Numbers, and texts on who made it; not: further directories, colour maps, profiles, tiles, other samples.
_TIFF_TAGS = frozenset(
    {254, 256, 257, 258, 259, 262, 266, 269, 270, 271, 272, 273, 274, 277, 278, 279, 280, 281, 282, 283, 284,
     296, 305, 306, 315, 317, 339}
)  # fmt: skip
_STRIPS = (273, 279)
# LZW, Deflate by its two numbers, and runs of bytes: each byte that is packed, and each one that comes out,
# is looked at once, and what comes out of a strip ends with its pixels.
_PACKINGS = (5, 8, 32946, 32773)
# Bytes of a value: BYTE, ASCII, SHORT, LONG, RATIONAL.
_TIFF_TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8}
_PNM = re.compile(rb"P([56])\n([1-9]\d{0,5}) ([1-9]\d{0,5})\n255\n")
_PNG = b"\x89PNG\r\n\x1a\n"
# Of a fixed small size, or of colours.
_SMALL_CHUNKS = (b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"pHYs", b"tIME", b"hIST")


def plain(data: bytes) -> int:
    """Return how many pixels the header names, if decoding takes time and memory in proportion to them.

    More than 0 only for a JPEG or PNG of which every part is known and within bounds, for strips of a TIFF,
    or for the bare pixels of a PGM or PPM; 0 says nothing.

    Raises
    ------
    leakfree.data.images.ImageError
        If there are so many parts that only an attack has them.
    """
    try:
        if data[:3] == b"\xff\xd8\xff":
            return _plain_jpeg(data)
        if data[:4] in _TIFF:
            return _plain_tiff(data, _TIFF[data[:4]])
        return _plain_png(data) if data[:8] == _PNG else _plain_pnm(data)
    except ImageError:
        raise
    except (struct.error, IndexError, KeyError, ValueError):  # cut off, or of parts that are not known
        return 0


def _plain_jpeg(data: bytes) -> int:
    at, known = 2, True
    segments = header = metadata = scans = frames = pixels = 0
    while at < len(data):
        if data[at] != 0xFF:
            return 0
        marker = data[at + 1]
        if marker == _END:
            small = segments <= SEGMENTS and header <= HEADER_BYTES and metadata <= METADATA_BYTES
            return pixels if known and small and 0 < scans <= SCANS and frames == 1 else 0
        (length,) = struct.unpack_from(">H", data, at + 2)
        begins = data[at + 4 : at + 16]
        at += 2 + length
        if marker == _SCAN:
            scans += 1
            found = _MARKER.search(data, at)
            if scans > MOST_SCANS:
                raise ImageError(f"more than {MOST_SCANS} scans: no encoder of images writes so many")
            if found is None:
                return 0
            at = found.start()
            continue
        segments, header = segments + 1, header + length
        metadata += length if marker in _METADATA else 0
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", begins, 1)
            frames, pixels = frames + 1, height * width
        known = known and (
            marker in _FRAMES
            or marker in _TABLES
            or marker in _METADATA
            or (marker == _JFIF and begins.startswith(b"JFIF\0"))
            or (marker == _ICC and begins.startswith(b"ICC_PROFILE\0"))
            or (marker == _ADOBE and begins.startswith(b"Adobe"))
        )
        if segments > MOST_SEGMENTS:
            raise ImageError(f"more than {MOST_SEGMENTS:,} segments: no encoder of images writes so many")
    return 0


def _plain_tiff(data: bytes, order: str) -> int:
    """One page of pixels of 8 or 16 bits in strips, bare or packed, beside numbers and short texts."""
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (entries,) = struct.unpack_from(f"{order}H", data, at)
    tags: dict[int, tuple[int, ...]] = {}
    before = 0
    for place in range(at + 2, at + 2 + 12 * min(entries, SEGMENTS), 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", data, place)
        size = count * _TIFF_TYPES[kind]
        if (
            tag not in _TIFF_TAGS
            or tag <= before
            or size > (HEADER_BYTES if tag in _STRIPS else METADATA_BYTES)
        ):
            return 0
        if size > 4:
            (place,) = struct.unpack_from(f"{order}I", data, place + 8)
        else:
            place += 8
        before, tags[tag] = tag, ()
        if kind in (3, 4):
            tags[tag] = struct.unpack_from(f"{order}{count}{'H' if kind == 3 else 'I'}", data, place)
    (following,) = struct.unpack_from(f"{order}I", data, at + 2 + 12 * entries)
    (width,), (height,), (samples,) = tags[256], tags[257], tags.get(277, (1,))
    bits, (rows,) = tags[258], tags.get(278, (tags[257][0],))
    (packing,), (offsets, sizes) = tags[259], (tags[tag] for tag in _STRIPS)
    bare = sum(sizes) == width * height * samples * bits[0] // 8
    # Strips that lie in one place would be unpacked again and again.
    fits = bare if packing == 1 else packing in _PACKINGS and min(sizes) > 0 and sum(sizes) <= len(data)
    plain = (
        not following
        and tags.get(284, (1,)) == tags.get(339, (1,)) == (1,)
        and tags.get(317, (1,)) in ((1,), (2,))
        and samples in (1, 3)
        and tags[262] in ((0,), (1,), (2,))  # grey or RGB: what else there is may not become grey
        and bits in ((8,) * samples, (16,))
        and rows > 0
        and len(offsets) == len(sizes) == -(-height // rows)
        and fits
        and all(offset + size <= len(data) for offset, size in zip(offsets, sizes, strict=True))
    )
    if not plain:
        return 0
    # A reader that is asked before that of TIFF must not take it for something else.
    try:
        with Image.open(io.BytesIO(data)) as image:
            return width * height if (image.format, image.size) == ("TIFF", (width, height)) else 0
    except Exception:  # Pillow's readers raise many types
        return 0


def _plain_pnm(data: bytes) -> int:
    """All pixels of 8 bits one after another, as `leakfree.data.formats` writes them."""
    if (head := _PNM.match(data)) is None:
        return 0
    pixels = int(head[2]) * int(head[3])
    return pixels if len(data) == head.end() + pixels * (3 if head[1] == b"6" else 1) else 0


def _plain_png(data: bytes) -> int:
    at, known, pixels = 8, True, 0
    for number in range(MOST_CHUNKS):
        length, name = struct.unpack_from(">I4s", data, at)
        if (number == 0) != (name == b"IHDR"):
            return 0
        if number == 0:
            width, height = struct.unpack_from(">II", data, at + 8)
            pixels = width * height
        if name == b"IEND":
            return pixels if known and number < CHUNKS else 0
        small = name in _SMALL_CHUNKS or (name == b"tEXt" and number < SEGMENTS)
        known = known and (name in (b"IHDR", b"IDAT") or (small and length <= METADATA_BYTES))
        at += 12 + length
    raise ImageError(f"more than {MOST_CHUNKS:,} chunks: no encoder of images writes so many")
