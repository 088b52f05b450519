"""All settings of the service on one screen."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from leakfree.base.parallel import available_cores
from leakfree.data.intake import Limits


class ServiceSettings(BaseModel):
    """How the service runs; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Path = Field(description="folder of published models, or one's description in it")
    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    port: int = Field(9696, ge=0, le=65535)
    metrics_host: str = Field("127.0.0.1", description="address of /metrics, which is not on the other port")
    metrics_port: int = Field(0, ge=0, le=65535, description="of /metrics; 0: the one after `port`")
    workers: int = Field(0, ge=0, le=64, description="processes; 0: one for each four cores")
    threads: int = Field(32, ge=2, le=256, description="requests at the same time, in each worker")
    inference_threads: int = Field(0, ge=0, le=64, description="in each worker; 0: the cores, shared out")
    batch: int = Field(8, ge=1, le=64, description="images that are predicted at once, at most")
    batch_ms: float = Field(50.0, gt=0, description="what a batch may take; makes batches smaller")
    queue: int = Field(128, ge=1, description="images that may wait; beyond, requests are told to come again")
    images: int = Field(32, ge=1, description="images in one request, at most")
    body_bytes: int = Field(32_000_000, ge=1_000, description="of one request, at most")
    receive_seconds: float = Field(15.0, gt=0, description="for a request to arrive whole")
    book: str = Field(
        "", pattern=r"^(https?://[^\s\"<>]+)?$", description="address of the book, linked from the page"
    )
    decode_wait_seconds: float = Field(10.0, gt=0, description="for an unusual image to wait for a decoder")
    grace_seconds: int = Field(30, ge=1, description="for requests to be finished when the service stops")

    @field_validator("metrics_port")
    @classmethod
    def _apart(cls, port: int, others: ValidationInfo) -> int:
        if port and port == others.data.get("port"):
            raise ValueError("must be another port than the service's")
        return port

    @property
    def card(self) -> Path:
        """Where the model card is, if there is one."""
        return (self.model.parent if self.model.is_file() else self.model) / "MODEL_CARD.md"

    @property
    def limits(self) -> Limits:
        """What is accepted as an image."""
        return Limits()

    @property
    def metrics_address(self) -> tuple[str, int]:
        """Host and port of /metrics."""
        return self.metrics_host, self.metrics_port or self.port + 1

    def cores(self) -> int:
        """Count the cores that this process may use, limits of a container included."""
        return available_cores()

    def processes(self) -> int:
        """Return the number of workers: one serves four cores before its Python becomes the limit."""
        return self.workers or max(1, self.cores() // 4)

    def inferring(self) -> int:
        """Return the inference threads of a worker, each on one core."""
        return self.inference_threads or max(1, self.cores() // self.processes())
