"""What is compared: plain filters, presets, and one parameter at a time."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from quality_damages import DAMAGES, Damage

from nullscale.maths.params import Value
from nullscale.maths.presets import PRESETS

Kind = Literal["bicubic", "lanczos", "pinv", "ddnm"]

SAMPLES = 8
FAITHFUL_STEPS = (1, 4, 8, 16)
CROSS_STEPS = (4, 8, 16)
CROSS_STRENGTHS = (0.5, 0.8, 1.0)
PROJECTIONS = ("latent", "pixel", "residual")
STEPS = (1, 2, 4, 6, 8, 12, 16)
CHANGES: Mapping[str, tuple[Value, ...]] = {
    "projection": ("none", *PROJECTIONS),
    "eta": (0.0, 0.5, 0.85, 1.0),
    "guidance_strength": (0.5, 0.8, 0.9, 1.0, 1.1, 1.2),
    "sigma_spacing": ("linear", "diffusers"),
    "ending": ("pixels", "latents"),
    "rederive": (False, True),
    "num_inference_steps": STEPS,
    "strength": (0.2, 0.4, 0.6, 0.8, 1.0),
    "projection_every": (2, 3),
    "projection_above": (0.3, 0.45),
    "draft": (True, False),
}
SEVERAL: tuple[Mapping[str, Value], ...] = (
    {"draft": False, "num_inference_steps": 4},
    {"draft": False, "projection_every": 2},
    {"draft": False, "projection_every": 3},
    {"draft": False, "projection_above": 0.3},
    {"draft": False, "projection_above": 0.45},
    {"draft": False, "strength": 0.4},
    {"strength": 0.4, "num_inference_steps": 4},
    {"strength": 1.0, "num_inference_steps": 12},
    {"travel_length": 1, "travel_repeats": 2},
    {"travel_length": 2, "travel_repeats": 2},
    {"travel_length": 2, "travel_repeats": 3},
)


@dataclass(frozen=True, slots=True)
class Method:
    """A way to make a picture larger.

    Attributes:
        label: its name on the page.
        params: of `ddnm`, put over the model's defaults.
        samples: pictures whose mean it returns.
        damage: what befalls its input first; None is nothing.
        estimates: σ_y is what the damaged file is guessed to have.
    """

    label: str
    kind: Kind = "ddnm"
    params: Mapping[str, Value] = field(default_factory=dict)
    samples: int = 1
    damage: Damage | None = None
    estimates: bool = False


BICUBIC = Method("bicubic", "bicubic")
PLAIN = (BICUBIC, Method("Lanczos", "lanczos"), Method("A†y (λ = 0)", "pinv"))
BALANCED = Method("balanced", params=PRESETS["balanced"])


def methods() -> Iterator[Method]:
    """Yield the rows of the main table."""
    yield from PLAIN
    for steps in FAITHFUL_STEPS:
        params = {**PRESETS["faithful"], "num_inference_steps": steps}
        yield Method(f"faithful, {steps} step{'s' * (steps > 1)}", params=params)
    yield BALANCED
    for name in ("sharp", "fast"):
        yield Method(name, params=PRESETS[name])
    yield Method(f"mean of {SAMPLES} of balanced", params=PRESETS["balanced"], samples=SAMPLES)


def defaults() -> Iterator[Method]:
    """Yield `balanced`, then it with one parameter changed, then with several."""
    yield BICUBIC
    yield BALANCED
    for name, values in CHANGES.items():
        for value in values:
            yield changed({name: value})
    for params in SEVERAL:
        yield changed(params)


def changed(params: Mapping[str, Value]) -> Method:
    """Return `balanced` with other parameters."""
    words = ", ".join(f"{name}={str(value).lower()}" for name, value in params.items())
    return Method(words, params={**PRESETS["balanced"], **params})


def equal_time() -> Iterator[Method]:
    """Yield each projection at every number of steps, all else as in `balanced`."""
    for projection, steps in itertools.product(PROJECTIONS, STEPS):
        yield changed({"projection": projection, "num_inference_steps": steps})


def cross() -> Iterator[Method]:
    """Yield projection × steps × η × λ, warm start and spacing as in `balanced`, without a draft.

    A single step ends in pixels: it knows no projection and no η.
    """
    yield BICUBIC
    for strength in CROSS_STRENGTHS:
        yield crossed("pixel", 1, 0.0, strength)
    for each in itertools.product(PROJECTIONS, CROSS_STEPS, (0.0, 0.85), CROSS_STRENGTHS):
        yield crossed(*each)


def crossed(projection: str, steps: int, eta: float, strength: float) -> Method:
    """Return one place of the cross."""
    return changed(
        {
            "projection": projection,
            "num_inference_steps": steps,
            "eta": eta,
            "guidance_strength": strength,
            "draft": False,
        }
    )


def noisy() -> Iterator[Method]:
    """Yield, of each damage, bicubic and `balanced`, without allowance for noise and with it."""
    yield BICUBIC
    for name, damage in DAMAGES.items():
        yield replace(BICUBIC, label=f"{name}: bicubic", damage=damage)
        yield replace(BALANCED, label=f"{name}: balanced", damage=damage)
        yield replace(BALANCED, label=f"{name}: estimated", damage=damage, estimates=True)
        if damage.noise:
            given = changed({"sigma_y": damage.noise})
            yield replace(given, label=f"{name}: given", damage=damage)


TABLES = {
    "methods": methods,
    "defaults": defaults,
    "equal_time": equal_time,
    "cross": cross,
    "noisy": noisy,
}
