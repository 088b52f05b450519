"""The OpenAPI document, made from the models of `leakfree.serving.schema`."""

from __future__ import annotations

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from leakfree import __version__
from leakfree.predict.classifier import WARNING
from leakfree.serving import schema, uploads
from leakfree.serving.settings import ServiceSettings

#: What each refusal of ``POST /predict`` means.
REFUSALS = {
    400: "The body is damaged: no JSON, no base64, or without its fields",
    408: "The body did not arrive in time",
    413: "The request, an image or its picture is too large, or there are too many images",
    415: "Neither JSON nor a form",
    422: "An image cannot be used: no image, damaged, too small, or several in one file",
    429: "Too many images wait; come again",
}


def document(settings: ServiceSettings) -> dict[str, object]:
    """Return the OpenAPI 3.1 document of the service."""
    models = (
        schema.PredictRequest,
        schema.PredictResponse,
        schema.BatchResponse,
        schema.Health,
        schema.Refusal,
    )
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    request = definitions["$defs"]["PredictRequest"]
    for name in ("image", "images"):
        request["properties"][name] = _not_null(request["properties"][name])
    encoded = {"format": "byte", "minLength": 1}
    request["properties"]["image"] |= encoded
    request["properties"]["images"] |= {"maxItems": settings.images}
    request["properties"]["images"]["items"] |= encoded
    binary = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "properties": {
            "image": binary | {"description": "An encoded image"},
            "images": {"type": "array", "items": binary, "minItems": 1, "maxItems": settings.images},
            "overlay": {"type": "string", "enum": [*uploads.YES, *uploads.NO]},
        },
        "anyOf": [{"required": ["image"]}, {"required": ["images"]}],
    }
    answer = {"anyOf": [_ref(schema.PredictResponse), _ref(schema.BatchResponse)]}
    predict = {
        "summary": "Classify one image, or several",
        "operationId": "predict",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref(schema.PredictRequest)},
                "multipart/form-data": {"schema": form},
            },
        },
        "responses": {"200": _json("What the model says", answer)}
        | {str(status): _json(text, _ref(schema.Refusal)) for status, text in REFUSALS.items()},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "leakfree",
            "version": __version__,
            "description": f"Chest X-rays, normal or pneumonia, by a leak-free model. {WARNING}",
        },
        "paths": {
            "/predict": {"post": predict},
            "/health": {
                "get": {
                    "summary": "Ready to answer",
                    "operationId": "health",
                    "responses": {
                        "200": _json("Ready: the model has answered a warm-up", _ref(schema.Health)),
                        "503": _json("Starting", _ref(schema.Health)),
                    },
                }
            },
            "/openapi.json": {"get": _plain("This document", "openapi", "application/json")},
            "/": {"get": _plain("The page", "page", "text/html")},
        },
        "components": {"schemas": definitions["$defs"]},
    }


def _not_null(described: dict[str, object]) -> dict[str, object]:
    """Leave null out: a field that may be missing is not one that may be null."""
    (inner,) = (option for option in described["anyOf"] if option != {"type": "null"})
    rest = {key: value for key, value in described.items() if key not in ("anyOf", "default")}
    return inner | rest


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _json(description: str, content: dict[str, object]) -> dict[str, object]:
    return {"description": description, "content": {"application/json": {"schema": content}}}


def _plain(summary: str, name: str, kind: str) -> dict[str, object]:
    return {
        "summary": summary,
        "operationId": name,
        "responses": {"200": {"description": summary, "content": {kind: {}}}},
    }
