"""Named sets of parameters, to be put over a model's own defaults."""

from collections.abc import Mapping
from enum import StrEnum

from nullscale.maths.params import UpscaleParams, Value


class Preset(StrEnum):
    """What each costs and brings: docs/quality.md."""

    FAITHFUL = "faithful"
    """The seed repository's algorithm, without its defects."""
    BALANCED = "balanced"
    """The model's own defaults."""
    SHARP = "sharp"
    """More of the generated detail."""
    FAST = "fast"
    """Half the time of the default, or less."""


PRESETS: Mapping[Preset, Mapping[str, Value]] = {
    Preset.FAITHFUL: {
        "projection": "latent",
        "num_inference_steps": 8,
        "eta": 0.0,
        "rederive": True,
        "strength": 1.0,
        "sigma_spacing": "diffusers",
        "ending": "latents",
        "draft": False,
        "projection_every": 1,
        "projection_above": 0.0,
        "sigma_y": 0.0,
        "travel_length": 0,
    },
    Preset.BALANCED: {},
    Preset.SHARP: {"guidance_strength": 1.1, "eta": 0.85},
    Preset.FAST: {"num_inference_steps": 2, "strength": 0.4},
}


def preset_params(defaults: UpscaleParams, preset: Preset | None) -> UpscaleParams:
    """Return a model's parameters under a preset; None is the model's own."""
    return defaults.override(PRESETS[preset]) if preset else defaults
