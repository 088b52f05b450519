"""The service does what its OpenAPI document says, for what the document allows and for what it does not."""

import base64
import io
from collections import Counter

import numpy as np
import pytest
import schemathesis
from flask import Response
from hypothesis import strategies as st
from jsonschema_rs import ValidationError
from PIL import Image
from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import from_schema
from schemathesis.engine.events import FatalError, NonFatalError, ScenarioFinished
from schemathesis.specs.openapi.formats import unregister_string_format
from schemathesis.transport.serialization import Binary

from deferred import deferred
from leakfree.scores.conformal import Conformal

with deferred:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    from leakfree.serving import app as service
    from leakfree.serving.uploads import RefusedError, Upload

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

#: Checks that have nothing to look at here, and why.
LEFT_OUT = {
    "use_after_free": "nothing is made that could be deleted",
    "ensure_resource_availability": "nothing is made that could be asked for",
    "ignored_auth": "the service knows no accounts",
    "object_level_authorization": "the service knows no accounts",
    "missing_required_header": "no header is required",
}
CONFIG = {
    "seed": 2018,
    "continue-on-failure": True,
    "checks": {
        # What no schema can tell from images: 422, base64 of something else; 413, image and list together.
        "positive_data_acceptance": {"expected-statuses": ["200", "413", "422"]},
        # Stricter than Schemathesis, to which an error of the service is a refusal too.
        "negative_data_rejection": {"expected-statuses": ["400", "405", "413", "415", "422"]},
        **{name: {"enabled": False} for name in LEFT_OUT},
    },
}


def encoded(seed, kind, side):
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((side, side + seed), Image.Resampling.BICUBIC).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def app(tiny_app, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "MODEL_CARD.md").write_text("# A card", encoding="utf-8")  # without one, /card answers 404
    sets = Conformal(("normal", "pneumonia"), (0.1, 0.5, 0.9), (3.0, 2.0, 1.0), 30, 0.1)
    return tiny_app(sets, model=folder, images=4, body_bytes=100_000)


@pytest.fixture(scope="module")
def contract(app):
    films = st.builds(
        encoded, st.integers(0, 9), st.sampled_from(("PNG", "JPEG", "WEBP")), st.sampled_from((32, 50))
    )
    # Two of three are images; the others are whatever else the document allows.
    schemathesis.openapi.format("binary", films | films | st.binary(max_size=60))
    data = films | films | st.binary(min_size=1, max_size=60)
    schemathesis.openapi.format("byte", data.map(lambda image: base64.b64encode(image).decode()))

    def loaded(examples, coverage):
        generation = {"deterministic": True, "no-shrink": True, "max-examples": examples}
        # One address changes nothing that another one tells: there are no series of requests to try.
        phases = {"stateful": {"enabled": False}, "coverage": {"enabled": coverage}}
        config = SchemathesisConfig.from_dict(CONFIG | {"generation": generation, "phases": phases})
        return schemathesis.openapi.from_wsgi("/openapi.json", app, config=config)

    yield loaded
    for name in ("binary", "byte"):
        unregister_string_format(name)


def run(contract):
    """Try all that Schemathesis generates: what failed, and how many cases and checks there were."""
    failed, tried, checked = [], Counter(), Counter()
    for event in from_schema(contract).execute():
        assert not isinstance(event, NonFatalError | FatalError), event
        if not isinstance(event, ScenarioFinished):
            continue
        for number, node in event.recorder.cases.items():
            case, interaction = node.value, event.recorder.interactions.get(number)
            if interaction is None:
                continue
            status = interaction.response.status_code
            tried[case.operation.label, case.media_type, case.meta.generation.mode.value, status] += 1
            for check in event.recorder.checks.get(number, []):
                checked[check.name] += 1
                wrong = check.name == "negative_data_rejection" and right_after_all(case)
                if check.failure_info and not wrong:
                    said = check.failure_info.failure.message
                    failed.append(
                        f"{check.name}: {case.operation.label}, {status}: {said}; {case.body!r:.300}"
                    )
    return failed, tried, checked


def right_after_all(case):
    """Whether a form that was made to be wrong is right as it goes out.

    An empty list is no field then; and Schemathesis takes a form for wrong that lacks one of the two fields,
    either of which is enough.
    """
    if case.media_type != "multipart/form-data" or not isinstance(case.body, dict):
        return False
    sent = {name: case.body[name] for name in ("image", "images", "overlay") if case.body.get(name, []) != []}
    form = case.operation.schema.raw_schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    is_text = Draft202012Validator.TYPE_CHECKER.redefine(
        "string", lambda _, value: isinstance(value, str | Binary)
    )
    return extend(Draft202012Validator, type_checker=is_text)(form["multipart/form-data"]["schema"]).is_valid(
        sent
    )


@pytest.mark.slow
def test_every_answer_is_one_that_the_document_promises(contract):
    failed, tried, checked = run(contract(examples=250, coverage=True))
    assert not failed, f"{len(failed)}, such as\n" + "\n".join(failed[:10])
    assert set(checked) == set(CHECKS.get_all_names()) - set(LEFT_OUT)
    for kind in ("application/json", "multipart/form-data"):
        # Images were answered, what is none was not, and damage was refused.
        assert tried["POST /predict", kind, "positive", 200] >= 10, tried
        assert tried["POST /predict", kind, "positive", 422] >= 3, tried
        assert tried["POST /predict", kind, "negative", 400] >= 20, tried
    for path in ("/", "/health"):
        assert tried[f"GET {path}", None, "positive", 200] and tried[f"GET {path}", None, "negative", 405]


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("no such field", "response_schema_conformance"),
        ("an error of the service", "not_a_server_error"),
        ("a status of its own", "status_code_conformance"),
        ("a page for JSON", "content_type_conformance"),
        ("an answer to anything", "negative_data_rejection"),
        ("no answer to images", "positive_data_acceptance"),
    ],
)
def test_a_service_that_breaks_its_promise_is_found(contract, monkeypatch, name, check):
    read, say = service.read_upload, service._said
    image = encoded(1, "PNG", 32)

    def fails(request, settings):
        try:
            return read(request, settings)
        except RefusedError as error:
            if name == "an error of the service":
                raise KeyError("no field") from error
            if name == "a status of its own":
                raise RefusedError(418, "own", "a teapot") from error
            if name == "an answer to anything":
                return Upload((image,), True, False)
            raise

    def no_image(request, settings):
        raise RefusedError(400, "film", "no image is good enough")

    def page(message):
        return Response(message, content_type="text/html")

    monkeypatch.setattr(service, "read_upload", no_image if name == "no answer to images" else fails)
    if name == "no such field":
        monkeypatch.setattr(service, "_said", lambda *of: say(*of) | {"confidence": "very"})
    if name == "a page for JSON":
        monkeypatch.setattr(service, "_refusal", page)
    failed, *_ = run(contract(examples=15, coverage=False))
    assert check in {line.partition(":")[0] for line in failed}


def test_the_document_is_one_of_openapi_3_1(contract):
    loaded = contract(examples=1, coverage=False)
    loaded.validate()
    assert loaded.raw_schema["openapi"] == "3.1.0"
    for described in loaded.raw_schema["components"]["schemas"].values():
        Draft202012Validator.check_schema(described)
    damaged = schemathesis.openapi.from_dict(loaded.raw_schema | {"paths": {"/": {"get": 3}}})
    with pytest.raises(ValidationError):
        damaged.validate()
