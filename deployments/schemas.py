"""What travels between client, ingress and replica, and how it is documented."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from sr_engine.image_io import ImageLimits
from sr_engine.request import UpscaleParams

# Past these sizes Pillow itself warns of a decompression bomb.
PILLOW_MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 2**26


class Limits(BaseModel):
    """What one request may cost before it is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_input_pixels: int = Field(default=4096**2, ge=1, le=PILLOW_MAX_PIXELS)
    max_output_pixels: int = Field(default=8192**2, ge=1, le=PILLOW_MAX_PIXELS)
    max_body_bytes: int = Field(default=32 * 2**20, ge=1, description="the whole multipart body")

    @property
    def image(self) -> ImageLimits:
        """The limits that concern pixels."""
        return ImageLimits(
            max_input_pixels=self.max_input_pixels, max_output_pixels=self.max_output_pixels
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleReply:
    """What a replica sends back for one picture.

    Attributes:
        image: 8-bit sRGB samples [H, W, 3].
        reachable: False where no picture in range gives the input back.
        queue_s: seconds in the replica before the first model call.
        compute_s: seconds from then to the end.
    """

    image: np.ndarray
    model: str
    seed: int
    reachable: bool
    queue_s: float
    compute_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """What a replica says of the model that it has loaded.

    Attributes:
        native_px: side of the square picture that the model was trained for.
        prompts: the model has text encoders.
        draft: the model has a cheaper autoencoder.
    """

    name: str
    native_px: int
    parameters: int
    device: str
    dtype: str
    prompts: bool
    draft: bool
    defaults: UpscaleParams


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


class Model(BaseModel):
    """The loaded model, its limits and the defaults of its parameters."""

    name: str
    native_px: int
    parameters: int
    device: str
    dtype: str
    prompts: bool
    draft: bool
    limits: Limits
    defaults: dict[str, float | int | str | bool]


class ModelList(BaseModel):
    """The models that this server answers for."""

    models: list[Model]


class Status(BaseModel):
    """A probe's answer."""

    status: Literal["alive", "ready"]


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
