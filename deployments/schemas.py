"""What travels between client, ingress and replica, and how it is documented."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from sr_engine.image_io import ImageLimits, OutputFormat, SourceImage
from sr_engine.presets import Preset
from sr_engine.request import UpscaleParams, Value

# Past these sizes Pillow itself warns of a decompression bomb.
PILLOW_MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 2**26


class Limits(BaseModel):
    """What one request may cost before it is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_input_pixels: int = Field(default=4096**2, ge=1, le=PILLOW_MAX_PIXELS)
    max_output_pixels: int = Field(default=8192**2, ge=1, le=PILLOW_MAX_PIXELS)
    max_body_bytes: int = Field(default=32 * 2**20, ge=1, description="the whole multipart body")
    max_bodies_bytes: int = Field(
        default=2**30, ge=1, description="of all bodies that one ingress replica holds at once"
    )
    body_timeout_s: float = Field(default=60.0, gt=0, description="for the whole body to arrive")
    max_wait_s: float = Field(
        default=120.0, gt=0, description="queued work beyond which nothing more is taken"
    )

    @property
    def image(self) -> ImageLimits:
        """The limits that concern pixels."""
        return ImageLimits(
            max_input_pixels=self.max_input_pixels, max_output_pixels=self.max_output_pixels
        )


class JobSettings(BaseModel):
    """How many jobs are kept, and for how long."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout_s: float = Field(default=3600.0, gt=0, description="a job's time, waiting included")
    keep_s: float = Field(default=3600.0, gt=0, description="of a job that has ended")
    forget_s: float = Field(
        default=86400.0, gt=0, description="for which an expired job is a 410 instead of a 404"
    )
    max_unfinished: int = Field(default=256, ge=1)
    max_unfinished_a_key: int = Field(default=32, ge=1)
    max_running: int = Field(
        default=32, ge=1, description="with the workers at once; the rest take turns by key"
    )
    max_kept: int = Field(default=4096, ge=1, description="jobs that have ended")
    max_bytes: int = Field(
        default=2**30, ge=1, description="of pictures that wait, and as much again of results"
    )


class Access(BaseModel):
    """Who may come, and how often."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keys_file: str | None = Field(
        default=None, description="a line `NAME SHA256` a key; without it anyone may come"
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="of one key, at one ingress replica"
    )
    cors_origins: list[str] = Field(
        default=[], description="origins whose pages may use the service"
    )


class IngressSettings(BaseModel):
    """What may change while an ingress replica runs: its deployment's `user_config`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limits: Limits = Limits()
    access: Access = Access()
    take_jobs: bool = Field(
        default=True, description="false refuses new jobs, so that none is lost in an upgrade"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A decoded picture and what is wanted of it.

    Attributes:
        source: with the metadata that the answer is to have, and no other.
        params: with a seed, so that a second try gives the same picture.
        output_quality: None is the format's own default.
        until_s: Unix time at which the client's time is up.
        decode_ms: milliseconds that decoding took.
        expected_s: engine seconds that it is expected to take, as far as the ingress knows.
    """

    source: SourceImage
    params: UpscaleParams
    output_format: OutputFormat
    output_quality: int | None
    until_s: float
    decode_ms: float
    expected_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleReply:
    """What a replica sends back for one picture.

    Attributes:
        image: 8-bit sRGB samples [H, W, 3].
        reachable: False where no picture in range gives the input back.
        queue_s: seconds in the replica before the first model call.
        compute_s: seconds from then to the end.
        work_s: of the engine's time, its share: what a picture costs whatever else ran beside it.
        start_s: what the replica's own start took.
    """

    image: np.ndarray
    model: str
    seed: int
    reachable: bool
    queue_s: float
    compute_s: float
    work_s: float
    start_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """What a replica says of the model that it has loaded.

    Attributes:
        native_px: side of the square picture that the model was trained for.
        prompts: the model has text encoders.
        draft: the model has a cheaper autoencoder.
        start_s: seconds from the beginning of the replica's start to its first picture.
        unit_s: engine seconds that a unit of work took then (`deployments.workload`).
    """

    name: str
    native_px: int
    parameters: int
    device: str
    dtype: str
    prompts: bool
    draft: bool
    defaults: UpscaleParams
    start_s: float
    unit_s: float


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
