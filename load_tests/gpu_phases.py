"""Seconds and memory of the networks, of Π and of the exact rounding, each against its floor."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from gpu_floors import Floors, Limits, timed
from gpu_models import Bench
from gpu_report import Figures, Report, rounded
from torch import Tensor

from nullscale.maths.operators import BicubicDownscale, Canvas, project
from nullscale.maths.rounding import round_consistently
from nullscale.scheduling.work import Kind, Phase
from sr_engine.model import Model

ROWS = (1, 2, 4, 8)
SCALE = 4


def phases(
    report: Report,
    bench: Bench,
    how: str,
    model: Model,
    floors: Floors,
    *,
    which: Sequence[Phase] = tuple(Phase),
    rows: Sequence[int] = ROWS,
) -> None:
    """Measure batches of square tiles through each network."""
    for phase in which:
        for side_px in bench.sides_px:
            for count in rows:
                cells = side_px // model.info.vae_factor
                kind = Kind(phase, cells, cells)
                report.measure(
                    "phase",
                    lambda kind=kind, count=count: _phase(model, kind, count, floors),
                    model=bench.name,
                    how=how,
                    phase=phase.value,
                    side_px=side_px,
                    rows=count,
                )


def maths(report: Report, sides_px: Iterable[int], device: str, limits: Limits) -> None:
    """Measure Π and the rounding of one picture."""
    for side_px in sides_px:
        for name, measured in (("projection", _projection), ("rounding", _rounding)):
            report.measure(
                name,
                lambda measured=measured, side_px=side_px: measured(side_px, device, limits),
                side_px=side_px,
            )


def _projection(side_px: int, device: str, limits: Limits) -> Figures:
    x, y, operator = _picture(side_px, device)
    canvas, pinv_y = Canvas(operator.image_size, 1), operator.pinv(y.float() / 255)
    return _against(
        lambda: project(x, pinv_y=pinv_y, operator=operator, canvas=canvas, guidance_strength=1.0),
        device,
        _read_and_written_s(x, limits),
    )


def _rounding(side_px: int, device: str, limits: Limits) -> Figures:
    x, y, operator = _picture(side_px, device)
    rounded_image = round_consistently(x, y, operator)
    return {
        **_against(
            lambda: round_consistently(x, y, operator), device, _read_and_written_s(x, limits)
        ),
        "rounds": rounded_image.rounds,
    }


def _read_and_written_s(x: Tensor, limits: Limits) -> float:
    return 2 * x.numel() * x.element_size() / limits.bytes_s


def _phase(model: Model, kind: Kind, rows: int, floors: Floors) -> Figures:
    info, device = model.info, model.info.device
    generator = torch.Generator(device).manual_seed(2)
    factor, channels = (
        (info.vae_factor, 3) if kind.phase is Phase.ENCODE else (1, info.latent_channels)
    )
    shape = rows, channels, factor * kind.height, factor * kind.width
    batch = torch.rand(shape, device=device, generator=generator)
    # On the host, as the engine has them.
    sigmas = torch.linspace(0.1, 0.9, rows)
    calls = {
        Phase.DENOISE: lambda: model.velocity(batch, sigmas, [model.empty_prompt] * rows),
        Phase.DECODE: lambda: model.decode(batch),
        Phase.ENCODE: lambda: model.encode(batch),
    }
    return _against(calls[kind.phase], device, floors.seconds(kind, rows))


def _against(call: Any, device: str, floor_s: float) -> Figures:
    with torch.inference_mode():
        timing = timed(call, device)
    return {
        "seconds": rounded(timing.seconds),
        "floor_s": rounded(floor_s),
        "over_floor": rounded(timing.seconds / floor_s),
        "peak_bytes": timing.peak_bytes,
    }


def _picture(side_px: int, device: str) -> tuple[Tensor, Tensor, BicubicDownscale]:
    """Return a picture consistent with an input of smooth shapes and grain, the input, and A.

    It has some of what A does not see.
    """
    small = side_px // SCALE
    ramp = torch.linspace(0, 6.3, small)
    waves = (ramp[:, None].sin() * ramp[None].cos()).expand(3, -1, -1)
    generator = torch.Generator().manual_seed(3)
    grain = torch.rand(3, small, small, generator=generator)
    y = (128 + 90 * waves + 24 * (grain - 0.5)).to(torch.uint8).to(device)
    operator = BicubicDownscale((small, small), SCALE)
    pinv_y, canvas = operator.pinv(y.float() / 255), Canvas(operator.image_size, 1)
    noise = 0.02 * torch.randn(pinv_y.shape, generator=generator).to(device)
    x = project(
        pinv_y + noise, pinv_y=pinv_y, operator=operator, canvas=canvas, guidance_strength=1.0
    )
    return x, y, operator
