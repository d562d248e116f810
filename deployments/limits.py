"""What an operator may set: limits of requests and jobs, and who may come."""

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from nullscale.imaging.image_io import ImageLimits

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
