"""What schemathesis sends as a picture: mostly pictures, sometimes nearly."""

import io
import math
import warnings
from typing import Any

import numpy as np
import schemathesis
from hypothesis import strategies as st
from PIL import Image

from deployments.form_schema import MAX_DEADLINE_S, MIN_DEADLINE_S
from nullscale.maths.params import MAX_STEPS

FEW_STEPS = 8
MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "WEBP": ("L", "RGB", "RGBA"),
}


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    """A file of some format, mode and size up to 40 px, now and then of one colour."""
    kind = draw(st.sampled_from(sorted(MODES)))
    mode = draw(st.sampled_from(MODES[kind]))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    samples = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    if draw(st.booleans()):
        samples[:] = samples[0, 0]
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 2**16, (height, width), dtype=np.uint16))
    else:
        image = Image.fromarray(samples).convert("RGB" if mode == "CMYK" else mode)
        image = image.convert(mode)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.save(buffer, kind)
    return buffer.getvalue()


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A picture that was cut off, or had bytes changed; or no picture at all."""
    data = bytearray(draw(pictures()))
    if draw(st.booleans()):
        return bytes(data[: draw(st.integers(0, len(data)))])
    for _ in range(draw(st.integers(1, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Give a valid request more time and fewer steps; wrong values are sent as they are."""
    if isinstance(body, dict) and context.operation.path == "/v1/upscale":
        # Most that are valid are too short, and an honest 504 is a server error to schemathesis.
        if MIN_DEADLINE_S <= number(body.get("deadline_s")) <= MAX_DEADLINE_S:
            body["deadline_s"] = MAX_DEADLINE_S
        if FEW_STEPS < (steps := number(body.get("num_inference_steps"))) <= MAX_STEPS:
            body["num_inference_steps"] = 1 + int(steps) % FEW_STEPS
    return body


def number(value: Any) -> float:
    """What the server makes of a field's text; nothing where that is no number."""
    try:
        return float(str(value))
    except ValueError:
        return math.nan


@schemathesis.hook
def map_headers(context: Any, headers: Any) -> Any:
    """A key is for jobs: without the preference every other request would be refused for it."""
    if headers and "Idempotency-Key" in headers:
        headers["Prefer"] = "respond-async"
    return headers


schemathesis.openapi.format("binary", pictures() | pictures() | pictures() | broken())
