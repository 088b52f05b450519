"""What was decided before the first run: metrics, family, margins, draws; the code reads it here."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict


class Draws(BaseModel):
    """Seeds of the draws, and how many each kind of cell gets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first_seed: int
    cells: int
    networks: int
    random_labels: int
    scopes: int


class Preregistration(BaseModel):
    """The file ``preregistration.yaml``; an unknown entry raises."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    written: Any
    question: str
    known_before: str
    metric: dict[str, str]
    secondary: tuple[str, ...]
    family: str
    level: float
    margins: dict[str, float]
    draws: Draws
    resamples: int
    estimator: str
    settings: dict[str, Any]
    control_random_labels: str
    minimal_detectable_effect: str
    amendments: list[dict[str, Any]]


def text() -> str:
    """Return the file as it is."""
    return files("leakfree_study.inflation").joinpath("preregistration.yaml").read_text(encoding="utf-8")


def preregistration() -> Preregistration:
    """Read the file."""
    return Preregistration.model_validate(yaml.safe_load(text()))
