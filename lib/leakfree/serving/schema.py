"""What goes over the wire, and the OpenAPI document that says so."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr, model_validator

from leakfree.predict.classifier import WARNING
from leakfree.predict.training_set import COPY, NOT_FOUND, SAME

_Probability = Annotated[float, Field(ge=0, le=1)]


class PredictRequest(BaseModel):
    """One image, or several; other fields are ignored."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["image"]}, {"required": ["images"]}]}
    )

    image: Annotated[StrictStr | None, Field(description="An encoded image in base64, or a data URL")] = None
    images: Annotated[list[StrictStr] | None, Field(min_length=1, description="Several of them")] = None
    overlay: StrictBool = Field(False, description="Also draw what the network looks at")

    @model_validator(mode="after")
    def _one_of_both(self) -> PredictRequest:
        # Null is no field that is missing: the document says so.
        given = self.model_fields_set & {"image", "images"}
        if len(given) != 1 or getattr(self, *given) is None:
            raise ValueError("give image (base64), or images (a list of them)")
        return self


class Model(BaseModel):
    """Which model answered."""

    name: str
    weights_sha256: str
    files_sha256: str = Field(description="Of all files of the model together: description, calibration, ...")
    files_checked: str = Field(
        description="By what these are known to be the model's own: 'hashes of the run', 'hashes in the "
        "description', or 'no': it has no hashes, and a changed calibration or novelty score is not noticed"
    )
    preprocessing: str = Field(description="Version; changes with anything that changes pixels")
    precision: str = Field(description="bfloat16, as the published scores were made, or float32")
    version: str = Field(description="Of leakfree")


class Prediction(BaseModel):
    """What is said of one image."""

    diagnosis: str
    confidence: _Probability = Field(description="Calibrated probability of the diagnosis")
    probabilities: dict[str, _Probability] = Field(description="Calibrated, of every class")
    prediction_set: list[str] | None = Field(description="Classes that cannot be ruled out")
    coverage: _Probability | None = Field(
        description="Share of patients like those of the study whose true class is in the set"
    )
    novelty: float | None = Field(description="Distance from images of the study; over 1 is warned of")
    zoom: float | None = Field(description="Times closer than the images of the study, as it seems")
    in_training_set: str | None = Field(
        description="Whether the network was trained on this image: 'this image', 'a copy', or 'not found' "
        "(neither its pixels nor a copy; another image of the same patient is not looked for); null where "
        "the model has no list of its training images",
        json_schema_extra={"enum": [SAME, COPY, NOT_FOUND, None]},
    )
    warnings: list[str]
    overlay: str | None = Field(None, description="PNG as data URL, where it was asked for")


class PredictResponse(Prediction):
    """Answer to a request with one image."""

    model: Model
    warning: str = WARNING
    request_id: str


class BatchResponse(BaseModel):
    """Answer to a request with several images, in their order."""

    predictions: list[Prediction]
    model: Model
    warning: str = WARNING
    request_id: str


class Health(BaseModel):
    """State of a worker."""

    status: str
    model: Model


class Refusal(BaseModel):
    """Why a request was refused."""

    error: str
    request_id: str
