"""How far each sampler is from the true posterior, where that is known: a prior of 1/f² pictures.

    python load_tests/bench_posterior.py [--save]

Pictures are Gaussian with the power spectrum of photographs, the autoencoder is lossless, and so
the sampler's result is Gaussian too: all figures are exact, averaged over all measurements. Only
the operator and the noise levels are the product's own. The last line printed is a JSON object.
"""

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import measurements
import numpy as np
from gaussian import Moments
from gaussian_ddnm import Settings, recursion
from gaussian_pictures import CONTRAST, Figures, Judge, measured

from nullscale.maths.params import UpscaleParams
from nullscale.maths.presets import Preset, preset_params
from nullscale.maths.sampling import sigma_schedule, time_travel
from nullscale.networks.checkpoint import BUNDLED_FOLDER, read_defaults

SHIFT = 3.0
STEPS = (1, 4, 6, 8, 16, 28, 100)
ETAS = (0.0, 0.5, 0.85, 1.0)
LAMBDAS = (0.5, 0.7, 0.8, 0.9, 1.0, 1.05, 1.1, 1.15, 1.2)
STARTS = (0.4, 0.6, 0.8, 1.0)
NOISES = (0.02, 0.05, 0.1)
# Steps, length and repeats of walks with as many denoising steps each.
WALKS = {10: ((10, 0, 1), (6, 2, 2), (4, 1, 3)), 28: ((28, 0, 1), (16, 4, 2), (10, 3, 3))}


def ddnm(steps: int, eta: float, start: float = 1.0, **others: Any) -> Settings:
    """Return settings with evenly spaced levels."""
    return Settings(sigmas=sigma_schedule(steps, shift=SHIFT, start=start), eta=eta, **others)


TYPICAL = {
    "28 steps, η = 0": ddnm(28, 0.0),
    "8 steps, η = 0.85": ddnm(8, 0.85),
    "6 steps, η = 0.85, σ₀ = 0.6": ddnm(6, 0.85, 0.6),
    "6 steps, η = 1, σ₀ = 0.6": ddnm(6, 1.0, 0.6),
}


def settings_of(params: UpscaleParams) -> Settings:
    """Return what the sampler makes of a request's parameters."""
    assert params.projection_every == 1 and params.projection_above == 0
    sigmas = sigma_schedule(
        params.num_inference_steps,
        shift=SHIFT,
        start=params.strength,
        spacing=params.sigma_spacing,
    )
    return Settings(
        sigmas=time_travel(sigmas, params.travel_length, params.travel_repeats),
        projection=params.projection,
        guidance_strength=params.guidance_strength,
        eta=params.eta,
        rederive=params.rederive,
        ending=params.ending,
        sigma_y=params.sigma_y,
    )


def presets() -> dict[str, UpscaleParams]:
    """Return the parameters of a checkpoint without its own, and the bundled model's presets."""
    bundled = read_defaults(BUNDLED_FOLDER)
    return {
        "a checkpoint's defaults": UpscaleParams(),
        **{f"`{preset}`": preset_params(bundled, preset) for preset in Preset},
    }


def references(judge: Judge, steps: int) -> list[Figures]:
    """Return the figures of what is no DDNM."""
    problem, truth = judge.problem, judge.truth
    plain = recursion(problem, ddnm(steps, 0.0, projection="none"))
    certain = np.zeros_like(truth.covariance)
    pictures = {
        "a sample of the posterior": truth,
        "the posterior's mean": Moments(truth.mean, certain),
        "bicubic interpolation": Moments(problem.y @ problem.interpolation.T, certain),
        "`A†y`": Moments(problem.y @ problem.pinv.T, certain),
        f"the plain sampler, {steps} steps": plain,
    }
    return [{"method": name, **judge.figures(found)} for name, found in pictures.items()]


def compare(side_px: int) -> dict[str, Any]:
    """Return every table."""
    judge = measured(side_px)

    def table(settings: Iterable[tuple[Mapping[str, Any], Settings]]) -> list[Figures]:
        return [{**said, **judge.sampler(one)} for said, one in settings]

    return {
        "side_px": side_px,
        "contrast": CONTRAST,
        "references": references(judge, 28),
        "steps": table(({"steps": n, "eta": eta}, ddnm(n, eta)) for n, eta in product(STEPS, ETAS)),
        "warm": table(
            ({"steps": n, "start": start, "eta": eta}, ddnm(n, eta, start))
            for n, start, eta in product((6, 8), STARTS, ETAS)
        ),
        "strength": table(
            ({"of": of, "lambda": lam}, replace(settings, guidance_strength=lam))
            for (of, settings), lam in product(TYPICAL.items(), LAMBDAS)
        ),
        "rederive": table(
            ({"steps": n, "eta": eta, "rederive": again}, ddnm(n, eta, rederive=again))
            for n, eta, again in product((4, 8, 28), (0.0, 0.5), (False, True))
        ),
        "spacing": table(
            (
                {"steps": n, "eta": eta, "spacing": spacing},
                Settings(sigmas=sigma_schedule(n, shift=SHIFT, spacing=spacing), eta=eta),
            )
            for n, eta, spacing in product((4, 8, 28), (0.0, 0.85), ("linear", "diffusers"))
        ),
        "travel": table(
            (
                {"denoising": count, "walk": walk, "eta": eta},
                replace(settings, sigmas=time_travel(settings.sigmas, *walk[1:])),
            )
            for count, walks in WALKS.items()
            for walk, eta in product(walks, ETAS)
            for settings in [ddnm(walk[0], eta)]
        ),
        "presets": table(
            ({"preset": name}, settings_of(params)) for name, params in presets().items()
        ),
        "noise": noise(side_px),
    }


def noise(side_px: int) -> list[Figures]:
    """Return the figures for noisy measurements: noise ignored, DDNM+, and the sampler's way."""
    rows = []
    for sigma_y in NOISES:
        judge = measured(side_px, sigma_y)
        best = judge.figures(judge.truth)["psnr_db"]
        for name, settings in TYPICAL.items():
            ways = {
                "ignored": settings,
                "ddnm_plus": replace(settings, sigma_y=sigma_y, allowance="ddnm+"),
                "levels": replace(settings, sigma_y=sigma_y),
                "measured_levels": replace(settings, sigma_y=sigma_y, allowance="measured levels"),
            }
            found = {way: judge.sampler(one) for way, one in ways.items()}
            rows.append({"sigma_y": sigma_y, "of": name, "posterior_psnr_db": best, **found})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side-px", type=int, default=16, help="of the pictures")
    measurements.add_option(parser)
    options = parser.parse_args()
    found = compare(options.side_px)
    if options.save:
        measurements.save("posterior", found)
    print(json.dumps(found, ensure_ascii=False))


if __name__ == "__main__":
    main()
