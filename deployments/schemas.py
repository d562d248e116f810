"""The JSON that clients get, and how it is documented."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, Field

from deployments.limits import Limits
from nullscale.maths.params import Value
from nullscale.maths.presets import Preset


class TimingsMs(BaseModel):
    """Milliseconds that each part of the work took."""

    decode: float
    queue: float
    upscale: float
    encode: float


class UpscaleAnswer(BaseModel):
    """The answer to ``Accept: application/json``."""

    image: str = Field(description="the encoded picture in base64")
    media_type: str
    width: int
    height: int
    bit_depth: Literal[8] = 8
    input_bit_depth: int = Field(description="of the file that was sent, 8 or 16")
    seed: int = Field(description="send it again to get the same picture")
    model: str
    consistency_exact: bool = Field(
        description="Pillow's bicubic downscale of this picture is the input, bit for bit"
    )
    consistency_reachable: bool = Field(
        description="false where no picture in range gives the input back"
    )
    consistency_psnr_db: float | None = Field(
        description="of that downscale against the input; null when exact"
    )
    timings_ms: TimingsMs
    request_id: str


class JobState(StrEnum):
    """How far a job has come."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Model(BaseModel):
    """The loaded model, its limits, the defaults of its parameters, and what presets change."""

    name: str
    native_px: int
    parameters: int
    device: str
    dtype: str
    prompts: bool
    draft: bool
    limits: Limits
    defaults: dict[str, Value]
    presets: dict[Preset, dict[str, Value]]


class ModelList(BaseModel):
    """The models that this server answers for."""

    models: list[Model]


class Status(BaseModel):
    """A probe's answer."""

    status: Literal["alive", "ready", "asleep"]


class FieldError(BaseModel):
    """One field that is wrong."""

    pointer: str = Field(description="JSON pointer to the form field", examples=["#/scale"])
    detail: str


class ProblemDetails(BaseModel):
    """An error as of RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="stable, for programs", examples=["invalid_parameter"])
    errors: list[FieldError]
    retryable: bool = Field(description="the same request may succeed later")
    request_id: str


class JobStatus(BaseModel):
    """How a job stands; what does not apply yet is absent."""

    id: str
    status: JobState
    seed: int
    request_id: str
    created_at: datetime
    started_at: datetime | None = Field(default=None, description="when workers got it")
    ended_at: datetime | None = None
    expires_at: datetime | None = Field(
        default=None, description="when its result is dropped, at the latest"
    )
    problem: ProblemDetails | None = Field(default=None, description="why it failed")
    result_url: str
    events_url: str
