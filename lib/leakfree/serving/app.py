"""The Flask application: what each address answers."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from importlib import resources
from typing import Any

import numpy as np
from flask import Flask, Response, abort, g, jsonify, request
from markupsafe import escape
from werkzeug.exceptions import HTTPException

from leakfree.data.bounded import DecodersBusyError
from leakfree.data.images import ImageError
from leakfree.data.intake import TooLargeError
from leakfree.data.plain import plain
from leakfree.predict.classifier import WARNING, Answer, Classifier
from leakfree.predict.overlay import draw_overlay
from leakfree.serving import monitoring
from leakfree.serving.batching import Batcher, BusyError
from leakfree.serving.openapi import document
from leakfree.serving.settings import ServiceSettings
from leakfree.serving.uploads import InMemoryRequest, RefusedError, Upload, read_upload

#: Of every answer. Nothing on the page comes from elsewhere, or is framed by anybody.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


#: Pixels of an image that is decoded in a tenth of a second, even one of 16 bits.
SMALL_PIXELS = 4_000_000


def create_app(classifier: Classifier, settings: ServiceSettings) -> Flask:
    """Make the application; its ``extensions["batcher"]`` must be started before it is ready."""
    app = Flask("leakfree.serving", static_folder="page", static_url_path="/static")
    app.request_class = InMemoryRequest
    app.config["MAX_CONTENT_LENGTH"] = settings.body_bytes
    app.config["MAX_FORM_PARTS"] = settings.images + 8
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of the provider that Flask has
    service = _Service(classifier, settings)
    app.extensions["batcher"] = service.batcher
    _observe(app, settings)
    _answer(app, service)
    _refuse(app, settings)
    return app


class _Service:
    """What ``POST /predict`` does."""

    def __init__(self, classifier: Classifier, settings: ServiceSettings) -> None:
        self.classifier, self.settings = classifier, settings
        self.batcher = Batcher(
            classifier,
            settings.inferring(),
            settings.batch,
            settings.batch_ms / 1000,
            settings.queue,
            monitoring.BATCH.observe,
        )
        # As many as there are cores: decoding takes memory, and more at a time are no faster. Half of the
        # requests at most wait for what takes long: a small image finds a thread, and its own places.
        self._small = threading.BoundedSemaphore(settings.cores())
        self._large = threading.BoundedSemaphore(settings.cores())
        self._long = threading.BoundedSemaphore(settings.threads // 2)

    def predict(self) -> Response:
        upload = read_upload(request, self.settings)
        prepared = self._prepared(upload)
        waiting = [self.batcher.submit(image) for image in prepared]
        answers = [future.result() for future in waiting]
        g.images = len(answers)
        for answer in answers:
            monitoring.IMAGES.labels(answer.diagnosis).inc()
            monitoring.NOVEL.inc(answer.novelty is not None and answer.novelty > 1)
        overlays = self._overlays(upload, prepared, answers) if upload.overlay else [None] * len(answers)
        predictions = [_said(*pair) for pair in zip(answers, overlays, strict=True)]
        rest = {"model": self.classifier.about, "warning": WARNING, "request_id": g.request_id}
        if upload.single:
            return jsonify(predictions[0] | rest)
        return jsonify({"predictions": predictions} | rest)

    def _prepared(self, upload: Upload) -> list[np.ndarray]:
        limits, wait, prepared = self.settings.limits, self.settings.decode_wait_seconds, []
        for number, data in enumerate(upload.images):
            name = "image" if upload.single else f"images[{number}]"
            try:
                with self._place(data):
                    prepared.append(self.classifier.prepare(data, limits, wait=wait))
            except DecodersBusyError:
                raise
            except TooLargeError as error:
                raise RefusedError(413, "too large", f"{name}: {error}") from error
            except ImageError as error:
                raise RefusedError(422, "image", f"{name}: {error}") from error
        return prepared

    def _overlays(
        self, upload: Upload, prepared: Sequence[np.ndarray], answers: Sequence[Answer]
    ) -> list[str]:
        chosen = [self.classifier.names.index(answer.diagnosis) for answer in answers]
        # It holds no place: a lock of its own lets one request at a time in.
        heats = self.classifier.heat(np.stack(prepared), chosen)
        drawn = []
        for data, heat in zip(upload.images, heats, strict=True):
            with self._place(data):
                png = draw_overlay(data, heat, wait=self.settings.decode_wait_seconds)
            drawn.append(_data_url(png))
        return drawn

    @contextmanager
    def _place(self, data: bytes) -> Iterator[None]:
        """Hold a place to decode an image; where that takes long, none that a small one waits for."""
        pixels = plain(data)
        if 0 < pixels <= SMALL_PIXELS:
            with self._small:
                yield
            return
        if not self._long.acquire(blocking=False):
            raise DecodersBusyError("many large or unusual images wait to be decoded")
        try:
            # What is not plain is decoded in another process, and waits for that.
            with self._large if pixels else nullcontext():
                yield
        finally:
            self._long.release()


def _observe(app: Flask, settings: ServiceSettings) -> None:
    """Give each request an id, time it, log it, and protect its answer."""

    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()
        g.request_id = monitoring.request_id(request.headers.get("X-Request-ID"))
        g.images = 0
        # Counts of diagnoses are not for everyone who may ask: they have an address of their own, with
        # nothing else on it.
        own = request.environ.get("SERVER_PORT") == str(settings.metrics_address[1])
        if own != (request.path == "/metrics"):
            abort(404)

    @app.after_request
    def finish(response: Response) -> Response:
        seconds = time.perf_counter() - g.started
        path = request.url_rule.rule if request.url_rule else "unknown"
        response.headers["X-Request-ID"] = g.request_id
        response.headers.update(HEADERS)
        if not request.path.startswith("/static/"):
            response.headers["Cache-Control"] = "no-store"
        monitoring.REQUESTS.labels(_method(), path, response.status_code).inc()
        monitoring.SECONDS.labels(path).observe(seconds)
        monitoring.log.info(
            "request",
            extra={
                "request_id": g.request_id,
                "method": _method(),
                "path": path,
                "status": response.status_code,
                "ms": round(1000 * seconds, 1),
                "bytes": request.content_length,
                "films": g.images,
            },
        )
        return response


def _answer(app: Flask, service: _Service) -> None:
    """Add the addresses."""
    page = resources.files("leakfree.serving").joinpath("page/index.html").read_text(encoding="utf-8")
    card = service.settings.card
    # What has an address, and no more.
    links = ' <a href="card">The card of this model</a>.' if card.is_file() else ""
    if service.settings.book:
        links += f' <a href="{escape(service.settings.book)}">The book of the study</a>.'
    page = page.replace("<!-- links -->", links)
    openapi = document(service.settings)
    app.post("/predict")(service.predict)

    @app.get("/health")
    def health() -> tuple[Response, int]:
        ready = service.batcher.ready
        return jsonify(
            status="healthy" if ready else "starting", model=service.classifier.about
        ), 200 if ready else 503

    @app.get("/metrics")
    def metrics() -> Response:
        if why := monitoring.missing():  # a part of the counts would be taken for all
            raise RefusedError(503, "no counters", why)
        monitoring.WAITING.set(service.batcher.waiting)
        return Response(monitoring.exposition(), content_type="text/plain; version=1.0.0; charset=utf-8")

    @app.get("/card")
    def model_card() -> Response:
        try:
            return Response(card.read_bytes(), content_type="text/plain; charset=utf-8")
        except OSError:
            abort(404, "this model has no card")

    @app.get("/openapi.json")
    def openapi_json() -> Response:
        return jsonify(openapi)

    @app.get("/")
    def index() -> Response:
        return Response(page, content_type="text/html; charset=utf-8")


def _refuse(app: Flask, settings: ServiceSettings) -> None:
    """Say in one line why there is no answer."""

    @app.errorhandler(RefusedError)
    def refused(error: RefusedError) -> tuple[Response, int]:
        monitoring.REFUSED.labels(error.reason).inc()
        return _refusal(str(error)), error.status

    @app.errorhandler(BusyError)
    @app.errorhandler(DecodersBusyError)
    def busy(error: BusyError | DecodersBusyError) -> tuple[Response, int, dict[str, str]]:
        monitoring.REFUSED.labels("busy").inc()
        return _refusal(f"{error}: come again in a second"), 429, {"Retry-After": "1"}

    @app.errorhandler(HTTPException)
    def refused_by_flask(error: HTTPException) -> Response:
        response = error.get_response()
        message = error.description
        if error.code == 413:
            message = f"the request is over the limit of {settings.body_bytes:,} bytes"
        answer = _refusal(message or error.name)
        for name, value in response.headers:
            if name not in ("Content-Type", "Content-Length"):
                answer.headers[name] = value
        answer.status_code = response.status_code
        return answer

    @app.errorhandler(Exception)
    def failed(error: Exception) -> tuple[Response, int]:
        monitoring.log.error("failed", extra={"request_id": g.request_id}, exc_info=error)
        return _refusal("an error of the service; the log has it under this request id"), 500


def _method() -> str:
    # A method can be any word; a counter must not have as many labels as a caller has words.
    return request.method if request.method in ("GET", "HEAD", "POST", "OPTIONS") else "other"


def _refusal(message: str) -> Response:
    line = " ".join(message.split())
    return jsonify(error=line, request_id=g.request_id)


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _said(answer: Answer, overlay: str | None) -> dict[str, Any]:
    said = asdict(answer)
    return said if overlay is None else said | {"overlay": overlay}
