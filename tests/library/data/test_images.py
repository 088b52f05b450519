import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from leakfree.data import images
from leakfree.data.images import ImageError, ImageFacts, inspect, to_grey


def save(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def ramp(mode="L"):
    """A lossless 48 x 32 ramp: dark at the left, light at the right."""
    return Image.fromarray(np.tile(np.arange(48, dtype=np.uint8) * 5, (32, 1))).convert(mode)


@pytest.mark.parametrize(
    ("mode", "format"),
    [("L", f) for f in ("PNG", "JPEG", "TIFF", "BMP")]
    + [(m, "PNG") for m in ("RGB", "RGBA", "LA", "P", "1")]
    + [("P", "GIF"), ("CMYK", "JPEG"), ("CMYK", "TIFF")],
)
def test_every_colour_mode_ends_as_the_same_grey(mode, format):
    expected = np.asarray(ramp("1").convert("L")) if mode == "1" else np.asarray(ramp())
    data = save(ramp(mode), format)
    assert inspect(data) == ImageFacts(48, 32, mode)
    grey = to_grey(data, None)
    assert grey.dtype == np.uint8
    assert grey.shape == (32, 48)
    tolerance = 6 if format == "JPEG" else 1  # JPEG rounds; CMYK as well
    assert np.abs(grey.astype(int) - expected).max() <= tolerance
    assert to_grey(data, 16).shape == (16, 16)


def test_colour_is_reduced_by_luma():
    for colour, luma in (((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29)):
        grey = to_grey(save(Image.new("RGB", (4, 4), colour)), None)
        assert np.abs(grey.astype(int) - luma).max() <= 1, colour


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_black(mode):
    image = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    image.paste((255, 255, 255, 255), (4, 0, 8, 8))
    grey = to_grey(save(image.convert(mode)), None)
    assert (grey[:, :4] == 0).all()
    assert (grey[:, 4:] == 255).all()


def test_transparent_entry_of_a_palette_is_laid_on_black():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([200, 200, 200, 255, 255, 255])
    image.paste(0, (0, 0, 4, 8))
    data = save(image, transparency=0)
    assert inspect(data).mode == "P"
    grey = to_grey(data, None)
    assert (grey[:, :4] == 0).all()
    assert (grey[:, 4:] == 255).all()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_is_scaled_by_its_own_range(format):
    values = np.tile(np.arange(48, dtype=np.uint16) * 80 + 1000, (32, 1))  # 12 bits of signal, an offset
    grey = to_grey(save(Image.fromarray(values), format), None)
    expected = np.rint((values - 1000.0) * 255 / (47 * 80))
    assert (grey == expected).all()
    assert (grey.min(), grey.max()) == (0, 255)


def sample():
    """A picture with dark and bright places, 8 bits."""
    x, y = np.meshgrid(np.linspace(0, 3, 60), np.linspace(0, 4, 80))
    return np.rint(127.5 + 120 * np.sin(x) * np.cos(y)).astype(np.uint8)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize(("bits", "off"), [("16 by bytes", 0), (16, 1), (14, 1), (12, 1), (10, 1), (8, 0)])
def test_a_picture_of_16_bits_is_the_one_of_8(format, bits, off):
    wide = (
        sample().astype(np.uint16) * 257 if bits == "16 by bytes" else sample().astype(np.uint16) << bits - 8
    )
    for dtype in (np.uint16, np.int32) if format == "TIFF" else (np.uint16,):
        grey = to_grey(save(Image.fromarray(wide.astype(dtype)), format), None).astype(int)
        assert np.abs(grey - sample()).max() <= off
    hot = wide.copy()
    hot[3, 5] = 65535
    with_hot = to_grey(save(Image.fromarray(hot), format), None).astype(int)
    hot[3, 5] = wide[3, 5]
    assert np.abs(np.delete(with_hot.ravel() - sample().ravel().astype(int), 3 * 60 + 5)).max() <= off


def test_16_bits_that_use_a_narrow_range_are_scaled_by_it():
    narrow = (32768 + 4 * sample().astype(np.int64)).astype(np.uint16)  # as Hounsfield units are written
    grey = to_grey(save(Image.fromarray(narrow)), None)
    assert (grey.min(), grey.max()) == (0, 255) and len(np.unique(grey)) > 200
    dark = sample().astype(np.uint16) // 3 * 257  # dark in 8 bits is as dark in 16
    assert (to_grey(save(Image.fromarray(dark)), None) == sample() // 3).all()


def test_constant_sixteen_bit_is_black_and_not_a_division_by_zero():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not to_grey(save(Image.fromarray(np.full((8, 8), 900, dtype=np.uint16))), 4).any()


@pytest.mark.parametrize(
    ("factor", "dtype", "off"),
    [
        (1 / 255, np.float32, 0), (1, np.float32, 0), (16, np.float32, 1), (257, np.float32, 0),
        (16, np.int32, 1), (0x010101, np.int32, 0), (0x01010101, np.uint32, 0),
    ],
)  # fmt: skip
def test_a_picture_of_32_bits_or_of_floats_is_the_one_of_8(factor, dtype, off):
    values = sample().astype(dtype) * dtype(factor)
    hot = {
        np.float32: (900.0, np.inf, -np.inf, np.nan, -1e30),
        np.int32: (2**31 - 1,),
        np.uint32: (2**32 - 1,),
    }
    for pixel in (values[3, 5], *hot[dtype]):
        values[3, 5] = pixel
        grey = to_grey(tiff(values), None).astype(int)
        assert np.abs(np.delete(grey.ravel() - sample().ravel().astype(int), 3 * 60 + 5)).max() <= off


def tiff(values):
    """Save an array as TIFF; Pillow itself writes no 32 bits without a sign."""
    if values.dtype != np.uint32:
        return save(Image.fromarray(values), "TIFF")
    data = bytearray(save(Image.fromarray(values.view(np.int32)), "TIFF"))
    at = data.index(struct.pack("<HHI", 339, 3, 1)) + 8
    data[at] = 1
    return bytes(data)


def test_floats_of_no_known_white_are_scaled_by_their_own_range():
    for values in ((sample() - 99.0) / 40, sample() * 1e36):  # standardised, or beyond all bits
        grey = to_grey(save(Image.fromarray(values.astype(np.float32)), "TIFF"), None)
        assert (grey.min(), grey.max()) == (0, 255)
        assert np.corrcoef(grey.ravel(), sample().ravel())[0, 1] > 0.999
    nothing = np.full((8, 8), np.nan, np.float32)
    assert not to_grey(save(Image.fromarray(nothing), "TIFF"), None).any()


def test_float_and_32_bit_images_keep_their_order():
    for dtype in (np.float32, np.int32):
        values = np.linspace(-300, 3000, 64).reshape(8, 8).astype(dtype)
        grey = to_grey(save(Image.fromarray(values), "TIFF"), None)
        assert (grey[0, 0], grey[-1, -1]) == (0, 255)
        assert (np.diff(grey.ravel().astype(int)) >= 0).all()


def test_the_exif_orientation_turns_the_pixels_but_not_the_stored_facts():
    exif = Image.Exif()
    exif[0x0112] = 6  # the viewer has to turn it by 90 degrees clockwise
    data = save(ramp(), "JPEG", exif=exif.tobytes(), quality=95)
    assert inspect(data) == ImageFacts(48, 32, "L")
    grey = to_grey(data, None)
    assert grey.shape == (48, 32)
    assert np.abs(grey.astype(int) - np.rot90(np.asarray(ramp()), k=-1)).max() <= 6


def test_the_orientation_survives_the_draft_of_a_large_file():
    exif = Image.Exif()
    exif[0x0112] = 3
    large = ramp().resize((480, 320))
    upright = to_grey(save(large, "JPEG"), 16).astype(int)
    turned = to_grey(save(large, "JPEG", exif=exif.tobytes()), 16).astype(int)
    assert np.abs(turned - upright[::-1, ::-1]).max() <= 2
    assert upright[0, 0] < 40 < 200 < upright[0, -1]


def test_the_aspect_ratio_is_not_kept():
    grey = to_grey(save(ramp()), 24)
    assert grey.shape == (24, 24)
    assert np.abs(grey[0].astype(int) - np.linspace(2, 232, 24)).max() <= 6
    for side in (32, 48):  # one side already right
        assert to_grey(save(ramp()), side).shape == (side, side)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
def test_a_truncated_file_is_refused(encode, format, keep):
    whole = encode("RGB", (200, 160), format)
    cut = whole[: int(len(whole) * keep)]
    assert inspect(whole).width == 200
    for read in (inspect, lambda data: to_grey(data, 16)):
        with pytest.raises(ImageError) as caught:
            read(cut)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"notes, not a picture", b"\xff\xd8\xff", b"%PDF-1.7\n", b"GIF89a"]
)
def test_what_is_no_image_is_refused(data):
    with pytest.raises(ImageError) as caught:
        inspect(data)
    assert str(caught.value)
    assert "BytesIO" not in str(caught.value)  # no object address in a message


def test_not_an_image_says_so():
    with pytest.raises(ImageError, match=r"^not an image$"):
        inspect(b"notes, not a picture")


def png_of(width, height):
    """A valid header that promises `width` x `height` pixels, with almost nothing behind it."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_001, 14_000, 60_000])
@pytest.mark.parametrize("read", [inspect, lambda data: to_grey(data, 32)])
def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch, side, read):
    decoded = []
    from PIL import ImageFile

    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: decoded.append(self.size) or load(self))
    with pytest.raises(ImageError, match=r"limit|exceeds"):
        read(png_of(side, side))
    assert not decoded
    inspect(save(ramp()))
    assert decoded, "the spy sees a decode"


def test_the_limit_itself_is_allowed(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 48 * 32)
    assert inspect(save(ramp())).width == 48
    monkeypatch.setattr(images, "MAX_PIXELS", 48 * 32 - 1)
    with pytest.raises(ImageError, match="48 x 32 pixels, over the limit of 1,535"):
        inspect(save(ramp()))


def film(width, height):
    """Smooth structure of several scales and a little grain, like an image."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    values = 120 + 60 * np.sin(9 * x + 3 * y) + 40 * np.cos(25 * y) + 10 * np.sin(90 * x)
    values += np.random.default_rng(0).normal(0, 6, values.shape)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


# A draft rounds the last partial block up to a whole pixel; taken for a whole one, it stretches the image.
@pytest.mark.parametrize(
    ("mode", "width", "height", "size"),
    [
        ("L", 1904, 1504, 64),
        ("RGB", 1904, 1504, 64),
        ("L", 1900, 1500, 128),
        pytest.param("L", 1900, 1500, 64),
        pytest.param("L", 1433, 1161, 64),
    ],
)
def test_the_draft_of_a_huge_jpeg_agrees_with_the_full_decode(monkeypatch, mode, width, height, size):
    data = save(film(width, height).convert(mode), "JPEG", quality=90)
    drafted = []
    from PIL import JpegImagePlugin

    draft = JpegImagePlugin.JpegImageFile.draft

    def spy(self, *arguments):
        result = draft(self, *arguments)
        drafted.append(self.size)
        return result

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", spy)
    fast = to_grey(data, size).astype(float)
    assert drafted, "the draft path was taken"
    assert min(drafted[0]) >= 2 * size
    assert drafted[0][0] < width / 2, "and it decodes fewer pixels"
    difference = np.abs(fast - full_decode(data, size))
    assert difference.mean() < 0.6  # of 255 grey levels
    assert difference.max() < 8.0


def test_a_small_jpeg_does_not_take_the_draft(monkeypatch, encode):
    from PIL import JpegImagePlugin

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", None)  # calling it would raise
    assert to_grey(encode("L", (224, 224)), 64).shape == (64, 64)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    st.binary(max_size=300), st.sampled_from(["", "JPEG", "PNG", "TIFF", "GIF", "BMP"]), st.integers(0, 400)
)
def test_damaged_bytes_give_an_image_or_an_image_error(junk, format, at):
    whole = save(ramp(), format) if format else b""
    data = whole[:at] + junk + whole[at + len(junk) :]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            inspect(data)
        except ImageError:
            return
        assert to_grey(data, 8).shape == (8, 8)


def full_decode(data, size):
    image = Image.open(io.BytesIO(data)).convert("L")
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), dtype=float)


@pytest.fixture(scope="module")
def originals(real_data):
    """Bytes by name: every fourth file, and every RGB file."""
    files = sorted((real_data / "originals").rglob("*.jpeg"))
    chosen = {file: file.read_bytes() for file in files}
    return {
        f.name: data for i, (f, data) in enumerate(chosen.items()) if i % 4 == 0 or inspect(data).mode != "L"
    }


@pytest.mark.real
@pytest.mark.parametrize(
    ("size", "tolerance"),
    [(64, 2.5), (128, 2.5)] + [pytest.param(size, 0.6) for size in (64, 128)],
)
def test_real_originals_agree_with_the_full_decode(originals, size, tolerance):
    assert {inspect(data).mode for data in originals.values()} == {"L", "RGB"}
    for name, data in originals.items():
        difference = np.abs(to_grey(data, size) - full_decode(data, size))
        assert difference.mean() < tolerance, name
