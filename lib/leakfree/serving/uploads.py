"""Take the images out of a request, or say in one line why it is refused."""

from __future__ import annotations

import base64
import binascii
import io
import json
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from flask import Request
from pydantic import ValidationError
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import ClientDisconnected, HTTPException, RequestEntityTooLarge

from leakfree.base.errors import LeakfreeError
from leakfree.serving.schema import PredictRequest
from leakfree.serving.settings import ServiceSettings

#: Values in a JSON body beside its images, at most: commas and brackets, in texts as well.
_JSON_VALUES = 4096
_SPACE = b" \t\r\n\f\v"
# Large bodies one at a time: reading takes three times their bytes, and no two run at once anyway.
_LARGE_BODY, _READING = 1_000_000, threading.Lock()
#: Values of the form field ``overlay``, which the document lists.
YES, NO = ("true", "True", "1", "yes", "on"), ("false", "False", "0", "no", "off", "")


class RefusedError(LeakfreeError):
    """A request cannot be answered.

    Attributes
    ----------
    status : int
        HTTP status, 4xx.
    reason : str
        Short name for counters.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class InMemoryRequest(Request):
    """A request whose files stay in memory: Flask would put larger ones on the disk."""

    def _get_file_stream(self, *_about: object, **_more: Any) -> io.BytesIO:
        return io.BytesIO()


@dataclass(frozen=True)
class Upload:
    """What a request asks for.

    Attributes
    ----------
    images : tuple of bytes
        Encoded, not looked at yet.
    single : bool
        Whether the answer is that of one image, not a list.
    overlay : bool
        Whether to draw what the network looks at.
    """

    images: tuple[bytes, ...]
    single: bool
    overlay: bool


def read_upload(request: Request, settings: ServiceSettings) -> Upload:
    """Read a request: JSON with base64, or a form with files.

    Raises
    ------
    RefusedError
        If it is neither, damaged, empty, or has too many images.
    werkzeug.exceptions.HTTPException
        If it is too large or its form is damaged.
    """
    if request.mimetype not in ("application/json", "multipart/form-data"):
        raise RefusedError(415, "type", "send application/json or multipart/form-data, see /openapi.json")
    try:
        # The form's parser needs the body again; a JSON body goes when its images are out of it.
        body = request.get_data(cache=request.mimetype != "application/json")
        whole = request.content_length is None or len(body) == request.content_length
    except (OSError, ClientDisconnected):
        whole = False
    except HTTPException:
        raise
    except Exception as error:  # the server's reader of chunks has types of its own
        raise RefusedError(400, "framing", "the body comes in chunks, and one is malformed") from error
    if not whole:
        # The server stops reading from a sender that takes too long, and some senders go.
        raise RefusedError(408, "not received", "the request did not arrive whole, or not in time")
    if request.content_length is None and len(body) >= settings.body_bytes:
        # A body in chunks is cut off at the limit in silence.
        raise RefusedError(
            413, "too large", f"the request is over the limit of {settings.body_bytes:,} bytes"
        )
    with _READING if len(body) > _LARGE_BODY else nullcontext():
        json_sent = request.mimetype == "application/json"
        upload = _of_json(body, settings) if json_sent else _of_form(request, body)
    if len(upload.images) > settings.images:
        raise RefusedError(
            413,
            "too many",
            f"{len(upload.images)} images in one request, over the limit of {settings.images}",
        )
    return upload


def _of_json(body: bytes, settings: ServiceSettings) -> Upload:
    # Each value of a list or an object takes fifty times its bytes in memory once it is read.
    if sum(map(body.count, (b",", b"[", b"{"))) > settings.images + _JSON_VALUES:
        raise RefusedError(413, "json", f"the body has more than {settings.images + _JSON_VALUES:,} values")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "json", f"the body is not JSON: {_first_line(error)}") from error
    if not isinstance(content, dict):
        raise RefusedError(400, "json", "the body is no JSON object")
    try:
        asked = PredictRequest.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise RefusedError(400, "fields", f"{where}: {message}" if where else message) from error
    single = asked.image is not None
    texts = [asked.image] if asked.image is not None else asked.images or []
    images = tuple(_decoded(text, "image" if single else f"images[{i}]") for i, text in enumerate(texts))
    return Upload(images, single, asked.overlay)


def _decoded(text: str, name: str) -> bytes:
    # Browsers give data URLs; some encoders break lines.
    text = text.partition(",")[2] if text.startswith("data:") else text
    try:
        # Not by splitting: a body of single letters would be a list of millions.
        return base64.b64decode(text.encode("ascii").translate(None, _SPACE), validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(400, "base64", f"{name}: not base64: {_first_line(error)}") from error


def _of_form(request: Request, body: bytes) -> Upload:
    boundary = request.mimetype_params.get("boundary", "").encode("latin-1", "replace")
    if b"--" + boundary + b"--" not in body:
        # The parser would take the part that is there for a whole image.
        raise RefusedError(400, "form", "the form is damaged: its end is missing")
    try:
        files: list[FileStorage] = request.files.getlist("image")
    except RequestEntityTooLarge as error:  # the body as a whole is not
        raise RefusedError(
            413, "form", "the form has too many parts, or a long field that is no file"
        ) from error
    for name in ("image", "images"):
        if name in request.form:
            raise RefusedError(400, "fields", f"{name}: text where a file belongs")
    single = len(files) == 1 and not request.files.getlist("images")
    files += request.files.getlist("images")
    if not files:
        raise RefusedError(400, "fields", "no file in the form's field image (or images, for several)")
    overlay = request.form.get("overlay", "")
    if overlay not in (*YES, *NO):
        raise RefusedError(400, "fields", "overlay: true or false")
    return Upload(tuple(file.read() for file in files), single, overlay in YES)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
