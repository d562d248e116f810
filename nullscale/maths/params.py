"""What may be asked of the method: the parameters of one upscale, and their ranges."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from nullscale.errors import InvalidParameter
from nullscale.maths.sampling import SigmaSpacing

Projection = Literal["none", "latent", "pixel", "residual"]
Ending = Literal["pixels", "latents"]
Value = str | float | int | bool

MAX_SEED = 2**32 - 1
MAX_STEPS = 1000
MAX_SCALE = 16.0
MAX_PROMPT_CHARS = 2000

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
        sigma_spacing: of the noise levels, `nullscale.maths.sampling.sigma_schedule`.
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
            check_number("scale", self.scale, 1.1, MAX_SCALE)
        check_whole("num_inference_steps", self.num_inference_steps, 1, MAX_STEPS)
        check_number("guidance_strength", self.guidance_strength, 0, 2)
        if self.seed is not None:
            check_whole("seed", self.seed, 0, MAX_SEED)
        for name in ("prompt", "negative_prompt"):
            _check_text(name, getattr(self, name))
        check_number("guidance_scale", self.guidance_scale, 0, 20)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InvalidParameter(name, f"must be one of {choices}")
        check_number("eta", self.eta, 0, 1)
        for name in ("rederive", "draft"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidParameter(name, "must be true or false")
        check_number("strength", self.strength, 1e-3, 1)
        check_whole("projection_every", self.projection_every, 1, MAX_STEPS)
        check_number("projection_above", self.projection_above, 0, 1)
        check_number("sigma_y", self.sigma_y, 0, 1)
        check_whole("travel_length", self.travel_length, 0, MAX_STEPS)
        check_whole("travel_repeats", self.travel_repeats, 1, MAX_STEPS)
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


def check_number(name: str, value: float, low: float, high: float) -> None:
    """Do nothing where a value is a finite number in a range; `InvalidParameter` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidParameter(name, "must be a finite number")
    if not low <= value <= high:
        raise InvalidParameter(name, f"must be between {low:g} and {high:g}")


def check_whole(name: str, value: int, low: int, high: int) -> None:
    """Do nothing where a value is a whole number in a range; `InvalidParameter` otherwise."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidParameter(name, "must be a whole number")
    if not low <= value <= high:
        raise InvalidParameter(name, f"must be between {low} and {high}")


def _check_text(name: str, value: str) -> None:
    if not isinstance(value, str):
        raise InvalidParameter(name, "must be text")
    if len(value) > MAX_PROMPT_CHARS:
        raise InvalidParameter(name, f"must not be longer than {MAX_PROMPT_CHARS} characters")
