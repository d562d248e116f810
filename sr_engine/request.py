"""What a caller asks for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import UInt8

from sr_engine.degradations import Degradation
from sr_engine.errors import InvalidImage, InvalidParameter
from sr_engine.sampling import SigmaSpacing
from sr_engine.work import UNLIMITED, TileLimits

Projection = Literal["none", "latent", "pixel", "residual"]
Ending = Literal["pixels", "latents"]
Downscale = Literal["bicubic", "average"]
Value = str | float | int | bool

MAX_SEED = 2**32 - 1
MAX_STEPS = 1000
MAX_SCALE = 16.0
MAX_PROMPT_CHARS = 2000
MAX_PRIORITY = 16
MAX_PREVIEW_PX = 1024

CHOICES = {
    "projection": get_args(Projection),
    "sigma_spacing": get_args(SigmaSpacing),
    "ending": get_args(Ending),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleParams:
    """Parameters of one upscale; what is left out takes the model's own default.

    Attributes:
        scale: output side over input side; 1, or 1.1 to 16.
        num_inference_steps: denoising steps, 1 to 1000.
        guidance_strength: λ, how much of the generated null-space detail is kept, 0 to 2.
            0 gives the pseudo-inverse image ``A†y``.
        seed: 0 … 2³²−1; None draws one.
        prompt: what the picture shows; empty needs no text encoder.
        negative_prompt: what it should not show; read only where ``guidance_scale`` is not 1.
        guidance_scale: classifier-free guidance w, 0 to 20; 1 is off and costs nothing.
        projection: where the estimate is made consistent at every step but the last;
            ``none`` is the plain sampler, without any guarantee.
        eta: share of fresh noise in each step, 0 (deterministic) to 1.
        rederive: take the noise of a step from the corrected estimate, as the seed repository does.
        strength: the noise level σ to start at, above 0 to 1; below 1 the start is the noised
            encoding of the input's interpolation, made consistent, instead of pure noise.
        projection_every: project at every k-th step only, counted back from the last, which always
            ends in a projection; 1 to 1000.
        projection_above: and only at noise levels σ above this, 0 to 1.
        draft: project through the model's cheaper autoencoder at all steps but the last.
        sigma_spacing: of the noise levels, `sr_engine.sampling.sigma_schedule`.
        ending: the last step's projection; in ``latents``, as the seed repository has it, it is one
            like the others, and what the decoder makes of it need not give the input back.
        sigma_y: deviation of the input's noise, as a share of the full range, 0 to 1. Above 0 the
            picture is not bound to the input more closely than that (DDNM+).
        travel_length: steps after which the sampler goes back over them (time travel, DDNM's l);
            0 is never.
        travel_repeats: times that it takes them in all, 1 to 1000 (DDNM's r).

    Raises:
        InvalidParameter: one of them is out of range or of the wrong type.
    """

    scale: float = 4.0
    num_inference_steps: int = 8
    guidance_strength: float = 1.0
    seed: int | None = None
    prompt: str = ""
    negative_prompt: str = ""
    guidance_scale: float = 1.0
    projection: Projection = "pixel"
    eta: float = 0.85
    rederive: bool = False
    strength: float = 1.0
    projection_every: int = 1
    projection_above: float = 0.0
    draft: bool = False
    sigma_spacing: SigmaSpacing = "linear"
    ending: Ending = "pixels"
    sigma_y: float = 0.0
    travel_length: int = 0
    travel_repeats: int = 1

    def __post_init__(self) -> None:
        if self.scale != 1:
            _check_number("scale", self.scale, 1.1, MAX_SCALE)
        _check_whole("num_inference_steps", self.num_inference_steps, 1, MAX_STEPS)
        _check_number("guidance_strength", self.guidance_strength, 0, 2)
        if self.seed is not None:
            _check_whole("seed", self.seed, 0, MAX_SEED)
        for name in ("prompt", "negative_prompt"):
            _check_text(name, getattr(self, name))
        _check_number("guidance_scale", self.guidance_scale, 0, 20)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InvalidParameter(name, f"must be one of {choices}")
        _check_number("eta", self.eta, 0, 1)
        for name in ("rederive", "draft"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidParameter(name, "must be true or false")
        _check_number("strength", self.strength, 1e-3, 1)
        _check_whole("projection_every", self.projection_every, 1, MAX_STEPS)
        _check_number("projection_above", self.projection_above, 0, 1)
        _check_number("sigma_y", self.sigma_y, 0, 1)
        _check_whole("travel_length", self.travel_length, 0, MAX_STEPS)
        _check_whole("travel_repeats", self.travel_repeats, 1, MAX_STEPS)
        if self.denoising_steps > MAX_STEPS:
            raise InvalidParameter("travel_repeats", f"must not make more than {MAX_STEPS} steps")

    @property
    def consistent(self) -> bool:
        """Whether the picture is bound to give its input back."""
        return self.projection != "none" and self.ending == "pixels" and not self.sigma_y

    @property
    def tolerant(self) -> bool:
        """Whether projections make allowance for the input's noise (DDNM+)."""
        return self.projection != "none" and self.sigma_y > 0

    @property
    def denoising_steps(self) -> int:
        """How often the transformer sees the picture, time travel included."""
        if not self.travel_length:
            return self.num_inference_steps
        again = (self.num_inference_steps - 1) // self.travel_length * self.travel_length
        return self.num_inference_steps + again * (self.travel_repeats - 1)

    def override(self, given: Mapping[str, Value | None]) -> "UpscaleParams":
        """Return these parameters with those of ``given`` that are not None in their place.

        Raises:
            InvalidParameter: an unknown name, or a value out of range.
        """
        known = {f.name for f in fields(self)}
        for name in given:
            if name not in known:
                raise InvalidParameter(name, "unknown parameter")
        # Of any type until the constructor has judged them.
        values: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        return replace(self, **values)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleRequest:
    """One picture to upscale: 8-bit sRGB samples [h, w, 3], at least 1 px a side.

    Attributes:
        downscale: how it became small: by Pillow's bicubic filter, or each pixel is the mean of a
            square of them, as sensors bin them; that for whole scales only.
        degradation: what has happened to the picture besides being small.
        priority: each step up halves the work that counts against it in the order of service,
            −16 to 16.
        deadline_s: on the engine's clock, `time.monotonic`; once passed, the request is dropped.
        preview_px: longer side of the previews that its events bring, 0 to 1024; 0 brings none.
        tiles: how large tiles may be; the engine lowers it where one alone does not fit in memory.

    Raises:
        InvalidImage: the array is no such picture.
        InvalidParameter: the priority, the deadline or the previews' side is no such number, or
            the scale is none for this downscale.
    """

    request_id: str
    image: UInt8[np.ndarray, "h w 3"]
    params: UpscaleParams
    downscale: Downscale = "bicubic"
    degradation: Degradation | None = None
    priority: int = 0
    deadline_s: float | None = None
    preview_px: int = 0
    tiles: TileLimits = UNLIMITED

    def __post_init__(self) -> None:
        shape = self.image.shape
        if self.image.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise InvalidImage(f"expected 8-bit samples [h, w, 3], got {self.image.dtype} {shape}")
        check_downscale(self.downscale, self.params.scale)
        _check_whole("priority", self.priority, -MAX_PRIORITY, MAX_PRIORITY)
        if self.deadline_s is not None and not math.isfinite(self.deadline_s):
            raise InvalidParameter("deadline_s", "must be a finite number")
        _check_whole("preview_px", self.preview_px, 0, MAX_PREVIEW_PX)


def check_downscale(downscale: Downscale, scale: float) -> None:
    """Do nothing where a picture can have become so much smaller in this way.

    Raises:
        InvalidParameter: it cannot.
    """
    if downscale == "average" and scale != int(scale):
        raise InvalidParameter("scale", "must be whole for means of squares")


def _check_number(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidParameter(name, "must be a finite number")
    if not low <= value <= high:
        raise InvalidParameter(name, f"must be between {low:g} and {high:g}")


def _check_whole(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidParameter(name, "must be a whole number")
    if not low <= value <= high:
        raise InvalidParameter(name, f"must be between {low} and {high}")


def _check_text(name: str, value: str) -> None:
    if not isinstance(value, str):
        raise InvalidParameter(name, "must be text")
    if len(value) > MAX_PROMPT_CHARS:
        raise InvalidParameter(name, f"must not be longer than {MAX_PROMPT_CHARS} characters")
