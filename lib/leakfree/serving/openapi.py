"""The OpenAPI document, made from the models of `leakfree.serving.schema`."""

from __future__ import annotations

from typing import Any

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


def document(settings: ServiceSettings) -> dict[str, Any]:
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
    _bounded(definitions["$defs"]["PredictRequest"]["properties"], settings)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "leakfree",
            "version": __version__,
            "description": f"Chest X-rays, normal or pneumonia, by a leak-free model. {WARNING}",
        },
        "paths": {
            "/predict": {"post": _predict(settings)},
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
            "/card": {"get": _card()},
            "/": {"get": _plain("The page", "page", "text/html")},
        },
        "components": {"schemas": definitions["$defs"]},
    }


def _bounded(properties: dict[str, Any], settings: ServiceSettings) -> None:
    """Say of the fields of a request what pydantic checks and does not write down."""
    for name in ("image", "images"):
        properties[name] = _not_null(properties[name])
    encoded = {"format": "byte", "minLength": 1}
    properties["image"] |= encoded
    properties["images"] |= {"maxItems": settings.images}
    properties["images"]["items"] |= encoded


def _predict(settings: ServiceSettings) -> dict[str, Any]:
    """Describe ``POST /predict``."""
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
    return {
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


def _card() -> dict[str, Any]:
    described = _plain("The card of the model: scores, limits, use", "card", "text/plain")
    described["responses"]["404"] = _json("The model has no card", _ref(schema.Refusal))
    return described


def _not_null(described: dict[str, Any]) -> dict[str, Any]:
    """Leave null out: a field that may be missing is not one that may be null."""
    (inner,) = (option for option in described["anyOf"] if option != {"type": "null"})
    rest = {key: value for key, value in described.items() if key not in ("anyOf", "default")}
    return inner | rest


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _json(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": content}}}


def _plain(summary: str, name: str, kind: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "operationId": name,
        "responses": {"200": {"description": summary, "content": {kind: {}}}},
    }
