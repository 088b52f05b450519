"""Every address of the service answers as its contract says, and refuses in one line."""

import base64
import io
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from werkzeug.test import EnvironBuilder

from deferred import deferred
from leakfree import __version__
from leakfree.base.precision import SAME_PROBABILITY
from leakfree.serving import monitoring
from leakfree.serving.settings import ServiceSettings

with deferred:
    from leakfree.predict.classifier import WARNING, Classifier
    from leakfree.serving.app import create_app
    from leakfree.serving.batching import BusyError


#: The port after the default one.
METRICS = "http://127.0.0.1:9697"


@pytest.fixture(scope="module")
def app(models):
    made = create_app(Classifier.load(models), ServiceSettings(model=models, images=4, body_bytes=300_000))
    made.extensions["batcher"].start()
    return made


@pytest.fixture
def client(app):
    return app.test_client()


def text(data):
    return base64.b64encode(data).decode()


def test_a_client_of_the_reference_study_works_unchanged(client, films):
    answer = client.post("/predict", json={"image": text(films[0])})
    assert answer.status_code == 200 and answer.is_json
    assert answer.json["diagnosis"] in ("Normal", "Pneumonia")
    assert 0.5 <= answer.json["confidence"] <= 1
    health = client.get("/health")
    assert health.status_code == 200 and health.json["status"] == "healthy"


def test_an_answer_says_what_it_rests_on(client, films, models):
    said = client.post("/predict", json={"image": text(films[0])}, headers={"X-Request-ID": "mine-7"})
    described = json.loads((models / "preprocessing.json").read_text())
    assert said.json["model"] == client.get("/health").json["model"]
    assert said.json["model"]["weights_sha256"] == described["weights_sha256"]
    assert said.json["model"]["version"] == __version__ and said.json["warning"] == WARNING
    assert said.json["request_id"] == said.headers["X-Request-ID"] == "mine-7"
    assert sum(said.json["probabilities"].values()) == pytest.approx(1)
    assert said.json["coverage"] == pytest.approx(0.9) and "overlay" not in said.json


def test_json_form_and_data_url_are_the_same_image(client, films):
    by_json = client.post("/predict", json={"image": text(films[1])}).json
    by_url = client.post("/predict", json={"image": "data:image/png;base64," + text(films[1])}).json
    by_form = client.post("/predict", data={"image": (io.BytesIO(films[1]), "../<b>.exe")}).json
    for other in (by_url, by_form):
        assert other | {"request_id": ""} == by_json | {"request_id": ""}


def test_several_images_are_answered_in_their_order(client, films):
    alone = [client.post("/predict", json={"image": text(film)}).json["confidence"] for film in films[:3]]
    together = client.post("/predict", json={"images": [text(film) for film in films[:3]]}).json
    assert [p["confidence"] for p in together["predictions"]] == pytest.approx(alone, abs=SAME_PROBABILITY)
    form = client.post("/predict", data={"images": [(io.BytesIO(film), "f") for film in films[:3]]}).json
    assert [p["confidence"] for p in form["predictions"]] == pytest.approx(alone, abs=SAME_PROBABILITY)
    one = client.post("/predict", json={"images": [text(films[0])]}).json
    assert len(one["predictions"]) == 1, "a list is answered by a list"


def test_an_overlay_is_drawn_where_it_is_asked_for(client, films):
    said = client.post("/predict", json={"image": text(films[0]), "overlay": True}).json
    kind, _, data = said["overlay"].partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture, Image.open(io.BytesIO(films[0])) as film:
        assert picture.size == film.size
    form = client.post("/predict", data={"image": (io.BytesIO(films[0]), "f"), "overlay": "true"}).json
    assert form["overlay"] == said["overlay"]
    none = client.post("/predict", data={"image": (io.BytesIO(films[0]), "f"), "overlay": "no"}).json
    assert "overlay" not in none


def test_a_picture_that_is_no_image_is_answered_with_a_warning(client):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(buffer, "PNG")
    said = client.post("/predict", json={"image": text(buffer.getvalue())}).json
    assert said["novelty"] > 1 and "do not believe" in said["warnings"][0]


def png(image, kind="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        ({"data": b"{", "content_type": "application/json"}, 400, "not JSON"),
        ({"data": b"\xff\xfe", "content_type": "application/json"}, 400, "not JSON"),
        ({"data": b"[" * 100_000, "content_type": "application/json"}, 413, "the body has more than"),
        ({"json": [1]}, 400, "no JSON object"),
        ({"json": {}}, 400, "give image (base64), or images"),
        ({"json": {"image": "aGk=", "images": ["aGk="]}}, 400, "give image (base64), or images"),
        ({"json": {"image": 3}}, 400, "image: Input should be a valid string"),
        ({"json": {"image": None}}, 400, "give image"),
        ({"json": {"images": []}}, 400, "images: List should have at least 1 item"),
        ({"json": {"images": ["aGk=", None]}}, 400, "images.1: Input should be a valid string"),
        ({"json": {"image": "aGk=", "overlay": "yes"}}, 400, "overlay: Input should be a valid boolean"),
        ({"json": {"image": "not base64!"}}, 400, "image: not base64"),
        ({"json": {"images": ["aGk=", "ä"]}}, 400, "images[1]: not base64"),
        ({"json": {"image": ""}}, 422, "image: empty"),
        ({"json": {"image": "aGVsbG8="}}, 422, "image: not an image"),
        ({"json": {"images": ["aGVsbG8="] * 5}}, 413, "5 images in one request, over the limit of 4"),
        ({"json": {"image": "A" * 400_000}}, 413, "over the limit of 300,000 bytes"),
        ({"data": b"x", "content_type": "text/plain"}, 415, "send application/json or multipart/form-data"),
        ({"data": {"image": "aGk="}}, 415, "send application/json or multipart/form-data"),
        ({"data": {"other": (io.BytesIO(b"x"), "x")}}, 400, "no file in the form's field image"),
        ({"data": b"x", "content_type": "multipart/form-data"}, 400, ""),
        ({"data": {"image": (io.BytesIO(b"x"), "x"), "overlay": "maybe"}}, 400, "overlay: true or false"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_in_one_line(client, sent, status, said):
    answer = client.post("/predict", **sent)
    assert answer.status_code == status, answer.data
    assert set(answer.json) == {"error", "request_id"}
    assert said in answer.json["error"] and "\n" not in answer.json["error"]


@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_a_form_that_was_cut_off_is_not_taken_for_an_image(client, films, share):
    whole = EnvironBuilder(method="POST", data={"image": (io.BytesIO(films[0]), "f.png")}).get_request()
    body = whole.get_data()
    cut = body[: int(share * len(body))]
    answer = client.post("/predict", data=cut, content_type=whole.content_type)
    assert answer.status_code == 400 and "its end is missing" in answer.json["error"]
    late = client.post(
        "/predict",
        data=cut,
        content_type=whole.content_type,
        environ_overrides={"CONTENT_LENGTH": str(len(body))},
    )
    assert late.status_code == 408 and "did not arrive whole" in late.json["error"]


def test_an_image_among_several_is_named(client, films):
    answer = client.post("/predict", json={"images": [text(films[0]), text(films[0][:300])]})
    assert answer.status_code == 422 and answer.json["error"].startswith("images[1]: ")
    large = client.post("/predict", json={"image": text(png(Image.new("1", (5000, 5000))))})
    assert large.status_code == 413 and "5000 x 5000 pixels" in large.json["error"]


def test_addresses_and_methods_that_are_not_there(client):
    assert client.get("/nowhere").status_code == 404 and client.get("/nowhere").json["error"]
    wrong = client.get("/predict")
    assert wrong.status_code == 405 and "POST" in wrong.headers["Allow"] and wrong.is_json
    assert client.get("/static/../app.py").status_code == 404


def test_it_is_healthy_only_once_it_has_answered(models, films):
    made = create_app(Classifier.load(models), ServiceSettings(model=models))
    health = made.test_client().get("/health")
    assert health.status_code == 503 and health.json["status"] == "starting"
    made.extensions["batcher"].start()
    assert made.test_client().get("/health").status_code == 200


def test_when_too_many_wait_clients_are_told_to_come_again(app, client, films, monkeypatch):
    def full(film):
        raise BusyError("3 images wait already")

    monkeypatch.setattr(app.extensions["batcher"], "submit", full)
    answer = client.post("/predict", json={"image": text(films[0])})
    assert answer.status_code == 429 and answer.headers["Retry-After"] == "1"
    assert "come again" in answer.json["error"]


def test_small_images_wait_for_no_large_or_unusual_ones(models, films, monkeypatch):
    monkeypatch.setattr(ServiceSettings, "cores", lambda self: 1)
    classifier = Classifier.load(models)
    service = create_app(classifier, ServiceSettings(model=models, threads=6))
    service.extensions["batcher"].start()
    may_go, begun, prepare = threading.Event(), threading.Semaphore(0), classifier.prepare

    def held(data, *rest, **more):
        if data not in films:
            begun.release()
            assert may_go.wait(30)
        return prepare(data, *rest, **more)

    monkeypatch.setattr(classifier, "prepare", held)
    large, unusual = png(Image.new("I;16", (2500, 2000))), png(Image.new("L", (64, 64)), "BMP")

    def ask(data, **more):
        return service.test_client().post("/predict", json={"image": text(data), **more}).status_code

    with ThreadPoolExecutor(6) as threads:
        try:
            waiting = [threads.submit(ask, data) for data in (large, large, unusual)]
            assert begun.acquire(timeout=30) and begun.acquire(timeout=30)  # a large one waits for the other
            for overlay in (False, True):
                assert threads.submit(ask, films[0], overlay=overlay).result(30) == 200
            assert [threads.submit(ask, data).result(30) for data in (large, unusual)] == [429, 429]
        finally:
            may_go.set()
        assert [done.result(30) for done in waiting] == [200, 200, 200]
    assert ask(large) == 200


def test_an_error_of_ours_is_told_without_its_inside(app, client, films, monkeypatch, caplog):
    def fails(film):
        raise RuntimeError("secret inside")

    monkeypatch.setattr(app.extensions["batcher"], "submit", fails)
    with caplog.at_level(logging.ERROR, monitoring.log.name):
        answer = client.post("/predict", json={"image": text(films[0])})
    assert answer.status_code == 500 and "secret" not in answer.text
    assert any(record.request_id == answer.json["request_id"] for record in caplog.records)


def test_a_log_line_has_the_request_and_nothing_of_the_image(client, films, caplog):
    with caplog.at_level(logging.INFO, monitoring.log.name):
        client.post(
            "/predict", data={"image": (io.BytesIO(films[0]), "Jane-Doe.png")}, headers={"X-Request-ID": "r1"}
        )
    (record,) = (r for r in caplog.records if r.name == monitoring.log.name)
    line = monitoring.json_formatter().format(record)
    said = json.loads(line)
    assert (said["request_id"], said["path"], said["status"], said["films"]) == ("r1", "/predict", 200, 1)
    assert said["ms"] > 0 and said["bytes"] > len(films[0])
    for inside in ("Jane", "Normal", "Pneumonia", text(films[0])[:40]):
        assert inside not in line


def test_counters_count(client, films):
    def value(name):
        lines = client.get("/metrics", base_url=METRICS).text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    answered = 'leakfree_requests_total{method="POST",path="/predict",status="200"}'
    before = value(answered), value('leakfree_refused_total{reason="image"}'), value("leakfree_films_total")
    client.post("/predict", json={"images": [text(film) for film in films[:3]]})
    client.post("/predict", json={"image": text(b"none")})
    client.open("/predict", method="BREW")
    client.get("/a-path-that-nobody-knows")
    after = value(answered), value('leakfree_refused_total{reason="image"}'), value("leakfree_films_total")
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 3]
    text_ = client.get("/metrics", base_url=METRICS).text
    assert "BREW" not in text_ and "nobody-knows" not in text_
    assert client.get("/metrics").status_code == client.get("/", base_url=METRICS).status_code == 404


def test_pages_may_load_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.status_code == 200 and page.mimetype == "text/html"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "http" not in policy and "unsafe" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "://" not in page.text


def test_the_page_links_what_has_an_address(tiny_app):
    client = tiny_app(book="https://example.org/book").test_client()
    assert '<a href="https://example.org/book">' in client.get("/").text
    missing = client.get("/card")
    assert 'href="card"' not in client.get("/").text, "a model without a card"
    assert missing.status_code == 404 and missing.json["error"] == "this model has no card"
    for wrong in ("javascript:alert(1)", 'https://x.org/"onclick="', "book"):
        with pytest.raises(ValueError, match="book"):
            ServiceSettings(model="none", book=wrong)


def test_an_image_that_was_trained_on_is_answered_so(client, learned):
    said = client.post("/predict", json={"image": text(learned)}).json
    assert said["in_training_set"] == "this image" and "proves nothing" in said["warnings"][0]
    again = Image.open(io.BytesIO(learned)).convert("L").resize((150, 130))
    said = client.post("/predict", json={"image": text(png(again, "JPEG"))}).json
    assert said["in_training_set"] == "a copy" and "A copy of this image" in said["warnings"][0]


def test_the_document_names_every_address(app, client):
    document = client.get("/openapi.json").json
    served = {rule.rule for rule in app.url_map.iter_rules() if rule.endpoint != "static"}
    assert set(document["paths"]) == served - {"/metrics"}, "which is at another address"
    assert document["components"]["schemas"]["PredictRequest"]["properties"]["images"]["maxItems"] == 4
