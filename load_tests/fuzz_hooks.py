"""What schemathesis sends as a picture: mostly pictures, sometimes nearly."""

import io
import warnings
from typing import Any

import numpy as np
import schemathesis
from hypothesis import strategies as st
from PIL import Image

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
    """A prompt is for models that take one, and a deadline is for those that can meet it."""
    if isinstance(body, dict) and context.operation.path == "/v1/upscale":
        # Wrong ones are sent as they are; right ones would be refused all the same.
        for name in ("prompt", "negative_prompt", "draft", "deadline_s"):
            body.pop(name, None)
        steps = body.get("num_inference_steps")
        if isinstance(steps, int) and steps > 8:
            body["num_inference_steps"] = 1 + steps % 8
    return body


@schemathesis.hook
def map_headers(context: Any, headers: Any) -> Any:
    """A key is for jobs: without the preference every other request would be refused for it."""
    if headers and "Idempotency-Key" in headers:
        headers["Prefer"] = "respond-async"
    return headers


schemathesis.openapi.format("binary", pictures() | pictures() | pictures() | broken())
