"""Ten thousand damaged requests, and every hostile one we could think of: each is refused in one line."""

import base64
import binascii
import io
import json
import random
import string
import struct
import warnings
from collections import Counter

import numpy as np
import pytest
from PIL import GifImagePlugin, Image, ImageCms, PngImagePlugin, TiffImagePlugin

from deferred import deferred

with deferred:
    from leakfree.serving import app as service

REQUESTS = 10_000
#: Stands in names, comments and fields of what is sent; no answer may repeat it.
CANARY = "Jane-Doe-1918"
IMAGES, BODY_BYTES = 4, 200_000

# Pillow and NumPy warn of damaged metadata and numbers; here nearly all is damaged.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


@pytest.fixture(scope="module")
def app(tiny_app):
    return tiny_app(images=IMAGES, body_bytes=BODY_BYTES)


@pytest.fixture
def client(app):
    return app.test_client()


def picture(width=40, height=48, mode="RGB"):
    coarse = np.random.default_rng(5).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    if mode == "I;16":
        return Image.fromarray(np.asarray(smooth.convert("L"), dtype=np.uint16) * 250)
    if mode == "LAB":
        to_lab = ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        )
        return ImageCms.applyTransform(smooth, to_lab)
    return smooth.convert(mode)


def encoded(kind, image=None, **options):
    buffer = io.BytesIO()
    (picture() if image is None else image).save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation=6):
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, CANARY
    return exif


def originals():
    """Encoded images of all formats and of odd modes, by name; the canary is in their metadata."""
    named = PngImagePlugin.PngInfo()
    named.add_text("Patient", CANARY)
    pages = [picture(40, 40), picture(40, 40, "L").convert("RGB")]
    found = {
        "jpeg": encoded("JPEG", comment=CANARY.encode()),
        "jpeg-progressive": encoded("JPEG", picture(mode="L"), progressive=True),
        # Large enough for the decoder to halve while decoding, which is a way of its own.
        "jpeg-large": encoded("JPEG", picture(150, 140), comment=CANARY.encode()),
        "jpeg-cmyk": encoded("JPEG", picture(mode="CMYK")),
        "jpeg-exif": encoded("JPEG", exif=turned()),
        "png": encoded("PNG", pnginfo=named),
        "png-16": encoded("PNG", picture(mode="I;16")),
        "png-rgba": encoded("PNG", picture(mode="RGBA")),
        "png-la": encoded("PNG", picture(mode="LA")),
        "png-palette": encoded("PNG", picture(mode="P"), transparency=3),
        "png-1": encoded("PNG", picture(mode="1")),
        "png-exif": encoded("PNG", exif=turned(8)),
        "png-animated": encoded("PNG", pages[0], save_all=True, append_images=pages[1:]),
        "tiff": encoded("TIFF", tiffinfo={270: CANARY}),
        "tiff-16": encoded("TIFF", picture(mode="I;16")),
        "tiff-float": encoded("TIFF", picture(mode="F")),
        "tiff-cmyk": encoded("TIFF", picture(mode="CMYK")),
        "tiff-lab": encoded("TIFF", picture(mode="LAB")),
        "tiff-lzw": encoded("TIFF", compression="tiff_lzw"),
        "tiff-jpeg": encoded("TIFF", compression="jpeg"),
        "tiff-pages": encoded("TIFF", pages[0], save_all=True, append_images=pages[1:]),
        "gif": encoded("GIF", picture(mode="P"), comment=CANARY.encode()),
        "gif-animated": encoded("GIF", pages[0], save_all=True, append_images=pages[1:]),
        "bmp": encoded("BMP"),
        "bmp-palette": encoded("BMP", picture(mode="P")),
        "webp": encoded("WEBP", exif=turned()),
        "webp-lossless": encoded("WEBP", picture(mode="RGBA"), lossless=True),
        "webp-animated": encoded("WEBP", pages[0], save_all=True, append_images=pages[1:]),
    }
    return found


#: What is refused of `originals`, and a part of the message; the others are answered.
REFUSED = {
    "png-animated": "send one image",
    "tiff-pages": "send one image",
    "gif-animated": "send one image",
    "webp-animated": "send one image",
    "tiff-lab": "",
}


class Fuzzer:
    """Draws requests, each from its number alone, so that one that fails can be drawn again."""

    def __init__(self):
        self.images = list(originals().items())

    def draw(self, number):
        """Return a name, the body, the content type, headers, and what of images is in the body."""
        rng = random.Random(f"leakfree {number}")
        way = rng.choices(
            (self.image_in_json, self.image_in_form, self.json_bytes, self.json_values, self.form_bytes,
             self.form_tricks, self.noise),
            (24, 18, 12, 20, 10, 12, 4),
        )[0]  # fmt: skip
        body, kind, images = way(rng)
        if rng.random() < 0.04:
            kind = rng.choice(
                ("application/json", "multipart/form-data; boundary=x", "multipart/form-data", "text/plain",
                 "application/x-www-form-urlencoded", "image/png", "", "application/json; charset=utf-16",
                 "multipart/mixed; boundary=x", ";;;", "application/json\xff", "a" * 5000)
            )  # fmt: skip
        headers = {}
        if rng.random() < 0.03:  # the sender goes, or says nonsense of the length
            headers["CONTENT_LENGTH"] = rng.choice(
                (str(len(body) + 7), str(len(body) // 2), "-1", "x", "", "9" * 30, "0")
            )
        if rng.random() < 0.02:
            headers |= {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
        if rng.random() < 0.05:
            odd = ("ok-1", "a" * 999, "\xff\xfe", "<b>", "", " ")
            headers["HTTP_X_REQUEST_ID"] = rng.choice(odd)
        return way.__name__, body, kind, headers, images

    def image(self, rng):
        name, data = rng.choice(self.images)
        for _ in range(rng.choice((0, 1, 1, 1, 2, 5))):
            data = damaged(rng, data)
        return with_checksums(data) if name.startswith("png") and rng.random() < 0.7 else data

    def image_in_json(self, rng):
        image = self.image(rng)
        overlay = {"overlay": True} if rng.random() < 0.3 else {}
        if rng.random() < 0.15:
            images = [image, self.image(rng)]
            return json_of({"images": [base64_of(i) for i in images]} | overlay), "application/json", images
        return json_of({"image": base64_of(image)} | overlay), "application/json", [image]

    def image_in_form(self, rng):
        image = self.image(rng)
        parts = [part(image, name=rng.choice(("image", "images")))]
        if rng.random() < 0.3:
            parts.append(part(b"true", name="overlay", file=None))
        return form_of(parts), "multipart/form-data; boundary=x", [image]

    def json_bytes(self, rng):
        image = rng.choice(self.images)[1]
        body = json_of({"image": base64_of(image), "overlay": False, CANARY: 1})
        for _ in range(rng.choice((1, 1, 3, 20))):
            body = damaged(rng, body)
        return body, "application/json", [image]

    def json_values(self, rng):
        image = rng.choice(self.images)[1]
        text = base64_of(image)
        odd = (
            None, True, False, 0, -0.0, 1e308, float("nan"), float("inf"), 10**30, "", " ", "\0", "\ud800",
            "data:", "data:,", "data:image/png;base64," + text, text[:-1], text + "=", text + "====",
            text.replace("A", "-").replace("B", "_"), "\r\n".join(text[i : i + 9] for i in range(0, 99, 9)),
            text[: rng.randrange(len(text))], "\u00e4" * 30, "\ud83d\ude00", text + "\udfff", CANARY, [],
            [[]], {}, {"image": text}, [text], [text, None], [text] * 3, [""] * 9, [text, "\ud800"],
            [text] * IMAGES, [3, text], text, text, text,
        )  # fmt: skip
        content = {}
        for _ in range(rng.choice((1, 1, 2, 3))):
            key = rng.choices(
                ("image", "images", "overlay", "Image", "", "\ud800", CANARY, "image\0", "__class__"),
                (8, 8, 4, 1, 1, 1, 1, 1, 1),
            )[0]
            content[key] = rng.choice(odd)
        if rng.random() < 0.1:
            content = rng.choice((odd, [content], None, text, 3, [[content]]))
        written = json.dumps(content)
        if rng.random() < 0.15:
            depth, (left, right) = rng.choice((10, 900, 30_000)), rng.choice(("[]", ('{"image":', "}")))
            written = rng.choice((left * depth + "1" + right * depth, left * depth))
        if rng.random() < 0.1:
            huge = "1" * rng.choice((400, 5000)), "1e999999", "-0e-9999", "1" * 400 + ".5"
            written = rng.choice(('{"image": %s}', '{"images": [%s]}', '{"x": %s}')) % rng.choice(huge)
        if rng.random() < 0.05:  # the same name twice, and what follows the end
            written = written[:-1] + ', "image": "aGk="}' + rng.choice(("", "}", "\0", "{}"))
        encoding = rng.choices(("utf-8", "utf-16", "utf-32", "latin-1", "utf-8-sig"), (20, 1, 1, 1, 1))[0]
        return written.encode(encoding, "replace"), "application/json", [image]

    def form_bytes(self, rng):
        image = rng.choice(self.images)[1]
        body = form_of([part(image), part(b"true", name="overlay", file=None)])
        for _ in range(rng.choice((1, 1, 3, 20))):
            body = damaged(rng, body)
        return body, "multipart/form-data; boundary=x", [image]

    def form_tricks(self, rng):
        image = rng.choice(self.images)[1]
        word = "".join(rng.choices(string.printable, k=rng.choice((1, 8, 70, 300))))
        parts = [
            part(
                rng.choice((image, image, b"", b"--x", b"\r\n--x--\r\n", image + b"\r\n--x")),
                name=rng.choice(("image", "image", "images", "overlay", "", None, CANARY, "im\0age", word)),
                file=rng.choice(("f.png", "f.png", None, "", "../../" + CANARY, "\xff", word, "a\nb")),
                kind=rng.choice(("image/png", "text/html; charset=utf-7", "", "multipart/mixed; boundary=x")),
                end=rng.choice((b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r")),
            )
            for _ in range(rng.choice((0, 1, 1, 1, 2, IMAGES + 1, 40)))
        ]
        if rng.random() < 0.3:
            overlay = rng.choice((b"true", b"1", b"maybe", b"\xff", b"", b"TRUE ", b"x" * 5000))
            parts.append(part(overlay, name="overlay", file=None))
        odd = (b"", b"-", b"--", b" ", b"\xff", b"x" * 200, b"a'()+_,-./:=?")
        boundary = b"x" if rng.random() < 0.6 else rng.choice(odd)
        body = form_of(parts, boundary, closed=rng.random() < 0.9)
        if rng.random() < 0.1:
            body = rng.choice(
                (b"preamble\r\n" + body, body * 2, body + b"epilogue", b"\r\n" + body, body[2:])
            )
        said = rng.choices((boundary.decode("latin-1"), "y", "", None), (9, 1, 1, 1))[0]
        quoted = said if said is None or rng.random() < 0.5 else f'"{said}"'
        kind = "multipart/form-data" + ("" if said is None else f"; boundary={quoted}")
        if len(body) > BODY_BYTES and rng.random() < 0.9:
            body = body[: BODY_BYTES - 9]
        return body, kind, [image]

    def noise(self, rng):
        body = rng.randbytes(rng.choice((0, 1, 10, 3000)))
        if rng.random() < 0.05:
            body = b" " * (BODY_BYTES + 1)
        kind = rng.choice(("application/json", "multipart/form-data; boundary=x", "image/jpeg"))
        return body, kind, []


def damaged(rng, data):
    """Damage bytes in one way; the beginning, where formats say what they are, more often than the rest."""
    data = bytearray(data)
    if not data:
        return bytes(data)
    at = rng.randrange(min(len(data), rng.choice((16, 64, 256, len(data)))))
    some = rng.choice((1, 2, 4, 16, 100))
    way = rng.randrange(9)
    if way <= 1:
        data[at] ^= 1 << rng.randrange(8)
    elif way == 2:
        data[at] = rng.randrange(256)
    elif way == 3:
        del data[at : None if rng.random() < 0.3 else at + some]
    elif way == 4:
        data[at:at] = data[at : at + some]
    elif way == 5:
        data[at:at] = rng.randbytes(some)
    elif way == 6:
        data[at : at + some] = rng.choice((b"\0", b"\xff")) * len(data[at : at + some])
    elif way == 7:
        extreme = rng.choice((0, 1, 0x7F, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
        data[at : at + 4] = struct.pack(rng.choice(("<I", ">I")), extreme)[: len(data[at : at + 4])]
    else:
        data = data[at:] + data[:at]
    return bytes(data)


def with_checksums(png):
    """Make the checksums of a damaged PNG right, so that the damage gets past them."""
    data, at = bytearray(png), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = struct.pack(">I", binascii.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(data)


def base64_of(data):
    return base64.b64encode(data).decode()


def json_of(content):
    return json.dumps(content).encode()


def part(data, name="image", file=CANARY + ".png", kind="", end=b"\r\n"):
    about = "Content-Disposition: form-data"
    about += "" if name is None else f'; name="{name}"'
    about += "" if file is None else f'; filename="{file}"'
    about += f"\r\nContent-Type: {kind}" if kind else ""
    return about.encode("latin-1") + end + end + data


def form_of(parts, boundary=b"x", closed=True):
    return b"".join(b"--" + boundary + b"\r\n" + p + b"\r\n" for p in parts) + (
        b"--" + boundary + b"--\r\n" if closed else b""
    )


def send(client, body, kind, headers=()):
    environ = {"CONTENT_LENGTH": str(len(body)), **dict(headers)}
    if "wsgi.input_terminated" in environ:
        del environ["CONTENT_LENGTH"]
    stream = io.BytesIO(body)
    return client.post("/predict", input_stream=stream, content_type=kind, environ_overrides=environ)


def wrong_with(answer, images=()):
    """Say what is wrong with an answer to a damaged request, or nothing."""
    text = answer.get_data(as_text=True)
    content = answer.get_json(silent=True)
    if not isinstance(content, dict) or answer.headers.get("X-Request-ID") != content.get("request_id"):
        return f"no JSON object with the request's id: {text[:200]}"
    if CANARY in text or CANARY in str(answer.headers):
        return "tells what was in the request"
    if answer.status_code == 200:
        predictions = content.get("predictions", [content])
        whole = all(sum(p["probabilities"].values()) == pytest.approx(1) for p in predictions)
        return "" if predictions and whole else f"no whole answer: {text[:200]}"
    if not 400 <= answer.status_code < 500:
        return f"status {answer.status_code}: {text[:200]}"
    if set(content) != {"error", "request_id"} or not content["error"]:
        return f"no refusal: {text[:200]}"
    error = content["error"]
    if len(error) > 500 or not error.isprintable():
        return f"not one short line: {error[:600]!r}"
    for image in images:
        for sent in (image.decode("latin-1"), base64_of(image)):
            if any(error[at : at + 8] in sent for at in range(len(error) - 7)):
                return f"tells a piece of an image: {error!r}"
    return ""


@pytest.mark.slow
def test_ten_thousand_damaged_requests_are_each_answered_or_refused_in_one_line(client):
    fuzzer, statuses, ways, wrong = Fuzzer(), Counter(), Counter(), []
    for number in range(REQUESTS):
        way, body, kind, headers, images = fuzzer.draw(number)
        answer = send(client, body, kind, headers)
        statuses[answer.status_code] += 1
        ways[way, answer.status_code] += 1
        if said := wrong_with(answer, images):
            wrong.append(f"request {number} ({way}): {said}")
    assert not wrong, f"{len(wrong)} of {REQUESTS}, such as\n" + "\n".join(wrong[:10])
    # Fuzzing that only ever meets the first check would prove nothing of those behind it.
    assert statuses.total() == REQUESTS and statuses[200] > 1000, statuses
    for status, least in {400: 1000, 408: 30, 413: 50, 415: 50, 422: 1000}.items():
        assert statuses[status] >= least, statuses
    assert ways["image_in_json", 200] and ways["image_in_form", 200] and ways["json_values", 200], ways


def test_what_the_fuzzer_damages_is_answered_while_it_is_whole(client):
    for name, data in originals().items():
        for body, kind in (
            (json_of({"image": base64_of(data), "overlay": True}), "application/json"),
            (form_of([part(data)]), "multipart/form-data; boundary=x"),
        ):
            answer = send(client, body, kind)
            assert not wrong_with(answer, [data]), name
            assert answer.status_code == (422 if name in REFUSED else 200), (name, answer.json)
            assert REFUSED.get(name, "") in answer.json.get("error", ""), name


def test_an_error_that_gets_through_is_found(app, client, monkeypatch):
    """What the fuzzing looks at would show an exception, a second line and a piece of an image."""
    image = originals()["jpeg"]
    body = json_of({"image": base64_of(image)})
    assert not wrong_with(send(client, body, "application/json"), [image])
    for raised, said in (
        (KeyError("no ImageError"), "status 500"),
        (service.ImageError("x" * 600), "not one short line"),
        (service.ImageError(base64_of(image)[40:60]), "a piece of an image"),
        (service.ImageError(f"{CANARY} is ill"), "what was in the request"),
    ):

        def fails(*given, raised=raised, **options):
            raise raised

        monkeypatch.setattr("leakfree.predict.classifier.Classifier.prepare", fails)
        assert said in wrong_with(send(client, body, "application/json"), [image])


def huge(kind, width=20_000, height=20_000):
    """Make an image whose header says so; hardly any pixels are behind it."""
    if kind == "png":
        small, at, sides = bytearray(encoded("PNG", picture(64, 64, "L"))), 16, (width, height)
    else:
        small = bytearray(encoded("JPEG", picture(64, 64, "L")))
        at, sides = small.index(b"\xff\xc0") + 5, (height, width)
    length = 8 if kind == "png" else 4
    small[at : at + length] = struct.pack(">II" if kind == "png" else ">HH", *sides)
    return with_checksums(small) if kind == "png" else bytes(small)


def many_pages(pages):
    """Make a TIFF whose directories are all there is of its pages."""
    tags = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
            (278, 4, 1, 64), (279, 4, 1, 4096)]  # fmt: skip
    size, out = 2 + 12 * len(tags) + 4, bytearray(b"II*\0\x08\0\0\0")
    for page in range(pages):
        out += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        out += struct.pack("<I", 8 + (page + 1) * size if page < pages - 1 else 0)
    return bytes(out)


def many_frames(frames):
    """Make a GIF of frames of one pixel."""
    still = encoded("GIF", picture(64, 64, "P"))
    return still[: still.index(b"\x2c")] + b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0" * frames + b";"


HOSTILE_IMAGES = {
    "empty": (b"", 422, "image: empty"),
    "one byte": (b"\xff", 422, "not an image"),
    "text": (b"hello, not an image", 422, "not an image"),
    "a page": (b"<html><script>alert(1)</script></html>", 422, "not an image"),
    "PDF": (b"%PDF-1.7\n1 0 obj", 422, "not an image"),
    "PostScript, which programs run": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", 422, "not an"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>', 422, "not an image"),
    "DICOM": (b"\0" * 128 + b"DICM" + b"\0" * 64, 422, "a DICOM file"),
    "JPEG, cut off": (encoded("JPEG")[:-200], 422, "truncated"),
    "PNG, cut off": (encoded("PNG")[:1500], 422, "truncated"),
    "TIFF, cut off": (encoded("TIFF")[:2000], 422, ""),
    "GIF, cut off": (encoded("GIF", picture(mode="P"))[:900], 422, "truncated"),
    "BMP, cut off": (encoded("BMP")[:1500], 422, "truncated"),
    "WEBP, cut off": (encoded("WEBP")[:90], 422, ""),
    "animated GIF": (originals()["gif-animated"], 422, "send one image"),
    "GIF of 8,000 frames": (many_frames(8_000), 422, "send one image"),
    "TIFF of two pages": (originals()["tiff-pages"], 422, "send one image"),
    "1 x 1": (encoded("PNG", Image.new("L", (1, 1))), 422, "1 x 1 pixels: too small for an image"),
    "31 x 400": (encoded("PNG", Image.new("L", (31, 400))), 422, "31 x 400 pixels: too small"),
    "PNG of 20,000 x 20,000": (huge("png"), 413, " pixels"),
    "JPEG of 20,000 x 20,000": (huge("jpeg"), 413, " pixels"),
    "PNG of 4 thousand million squared": (huge("png", 2**31 - 1, 2**31 - 1), 413, " pixels"),
    "TIFF of colours that are none of a screen": (originals()["tiff-lab"], 422, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_IMAGES)
@pytest.mark.parametrize("by", ["json", "form"])
def test_a_hostile_image_is_refused(client, name, by):
    data, status, said = HOSTILE_IMAGES[name]
    if by == "json":
        answer = send(client, json_of({"image": base64_of(data)}), "application/json")
    else:
        answer = send(client, form_of([part(data)]), "multipart/form-data; boundary=x")
    assert answer.status_code == status, answer.json
    assert not wrong_with(answer)
    assert answer.json["error"].startswith("image: ") and said in answer.json["error"]


@pytest.mark.parametrize("name", ["jpeg-cmyk", "png-16", "png-rgba", "png-palette", "webp", "bmp"])
def test_an_odd_but_whole_image_is_answered(client, name):
    answer = send(client, json_of({"image": base64_of(originals()[name])}), "application/json")
    assert answer.status_code == 200 and not wrong_with(answer)


@pytest.mark.parametrize("orientation", range(10))
def test_an_image_is_turned_by_its_exif_and_nonsense_there_is_no_error(client, orientation):
    answer = send(client, form_of([part(encoded("JPEG", exif=turned(orientation)))]), FORM)
    assert answer.status_code == 200 and not wrong_with(answer)


@pytest.mark.parametrize(
    "exif", [b"", b"MM", b"II*\0\x08\0\0\0\xff\xff", b"II*\0\xff\xff\xff\xff", b"\0" * 9], ids=repr
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_is_no_error_of_the_service(client, kind, exif):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = encoded(kind, exif=b"Exif\0\0" + exif)
        answer = send(client, json_of({"image": base64_of(data), "overlay": True}), "application/json")
    assert answer.status_code in (200, 422) and not wrong_with(answer)


TEXT = base64_of(encoded("PNG", picture(32, 32, "L")))
FORM = "multipart/form-data; boundary=x"
HOSTILE_BODIES = {
    "nothing": (b"", "application/json", 400, "the body is not JSON"),
    "half of it": (json_of({"image": TEXT})[:60], "application/json", 400, "the body is not JSON"),
    "no UTF-8": (b'{"image": "\xff\xfe"}', "application/json", 400, "the body is not JSON"),
    "deep lists": (b"[" * 90_000, "application/json", 413, "the body has more than"),
    "deep objects": (b'{"image":' * 20_000, "application/json", 413, "the body has more than"),
    "an endless number": (b'{"image": ' + b"1" * 9_000 + b"}", "application/json", 400, "not JSON"),
    "a list": (b"[1]", "application/json", 400, "no JSON object"),
    "no field": (b"{}", "application/json", 400, "give image (base64), or images"),
    "a number": (json_of({"image": 7}), "application/json", 400, "image: Input should be a valid string"),
    "half a character": (b'{"image": "\\ud800"}', "application/json", 400, "image: "),
    "bad base64": (json_of({"image": "?" * 40}), "application/json", 400, "image: not base64"),
    "base64 of a name": (json_of({"image": TEXT[:-3]}), "application/json", 400, "image: not base64"),
    "too many": (json_of({"images": [TEXT] * 5}), "application/json", 413, "5 images in one request"),
    "too large": (b" " * (BODY_BYTES + 1), "application/json", 413, "over the limit of 200,000 bytes"),
    "too large a form": (b" " * (BODY_BYTES + 1), FORM, 413, "over the limit of 200,000 bytes"),
    "text": (json_of({"image": TEXT}), "text/plain", 415, "send application/json or multipart/form-data"),
    "no type": (json_of({"image": TEXT}), "", 415, "send application/json or multipart/form-data"),
    "a form of text": (b"image=" + TEXT.encode(), "application/x-www-form-urlencoded", 415, "send "),
    "a form without a boundary": (form_of([part(b"x")]), "multipart/form-data", 400, ""),
    "a form without its end": (form_of([part(b"x")], closed=False), FORM, 400, "its end is missing"),
    "a form without a file": (form_of([part(b"1", name="overlay", file=None)]), FORM, 400, "no file in the"),
    "a form with text for a file": (form_of([part(b"x", file=None)]), FORM, 400, "image: text where a file"),
    "a form of another field": (form_of([part(b"x", name="film")]), FORM, 400, "no file in the form"),
    "a form of too many": (form_of([part(b"x", name="images")] * 5), FORM, 413, "5 images in one request"),
    "a form of many parts": (form_of([part(b"x", name="images")] * 40), FORM, 413, "too many parts"),
    "overlay of words": (
        form_of([part(b"x"), part(b"maybe", name="overlay", file=None)]), FORM, 400, "overlay: true or false"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_BODIES)
def test_a_hostile_body_is_refused(client, name):
    body, kind, status, said = HOSTILE_BODIES[name]
    answer = send(client, body, kind)
    assert answer.status_code == status, answer.json
    assert not wrong_with(answer) and said in answer.json["error"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
def test_a_wrong_method_is_refused(client, method):
    answer = client.open("/predict", method=method, data=b"x", content_type="application/json")
    assert answer.status_code == 405 and "POST" in answer.headers["Allow"] and not wrong_with(answer)


@pytest.mark.parametrize("length", ["7", "5000"])
def test_a_length_that_is_none_of_the_body_is_refused(client, length):
    body = json_of({"image": TEXT})
    answer = send(client, body, "application/json", {"CONTENT_LENGTH": length})
    assert answer.status_code == (400 if int(length) < len(body) else 408) and not wrong_with(answer)


def test_a_body_in_chunks_is_taken_and_limited_too(client):
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    assert send(client, json_of({"image": TEXT}), "application/json", chunked).status_code == 200
    answer = send(client, b" " * (BODY_BYTES + 1), "application/json", chunked)
    assert answer.status_code == 413 and not wrong_with(answer)


@pytest.mark.parametrize(
    ("reader", "pages"),
    [(TiffImagePlugin.TiffImageFile, many_pages(300)), (GifImagePlugin.GifImageFile, many_frames(3_000))],
    ids=["TIFF", "GIF"],
)
def test_pages_are_not_counted_to_the_end(client, monkeypatch, reader, pages):
    """Pillow takes longer the more it has counted: 20 MB of a TIFF's directories took three minutes."""
    sought, real = [], reader._seek

    def seek(image, frame, *more):
        sought.append(frame)
        return real(image, frame, *more)

    monkeypatch.setattr(reader, "_seek", seek)
    answer = send(client, json_of({"image": base64_of(pages)}), "application/json")
    assert answer.status_code == 422 and "send one image" in answer.json["error"]
    assert max(sought, default=0) < 20, f"page {max(sought)} was sought"
