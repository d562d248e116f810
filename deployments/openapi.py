"""What the OpenAPI document says of `POST /v1/upscale` beyond its types."""

from typing import Any, get_args

from pydantic import BaseModel

from deployments.problems import MEDIA_TYPE
from deployments.schemas import ProblemDetails, UpscaleAnswer
from sr_engine.encoding import JPEG_QUALITY
from sr_engine.image_io import OutputFormat
from sr_engine.request import MAX_PROMPT_CHARS, MAX_SCALE, MAX_SEED, MAX_STEPS, Projection

# The form's fields as the OpenAPI document shows them. What is enforced are the types here and the
# ranges of `UpscaleParams`; a test holds the two together.
FORM_FIELDS: dict[str, dict[str, Any]] = {
    "scale": {
        "type": "number",
        "description": "output side over input side: 1, or 1.1 and more; 4 by default",
        "anyOf": [{"const": 1}, {"minimum": 1.1, "maximum": MAX_SCALE}],
    },
    "num_inference_steps": {
        "type": "integer",
        "description": "denoising steps; by default the model's own number",
        "minimum": 1,
        "maximum": MAX_STEPS,
    },
    "guidance_strength": {
        "type": "number",
        "description": "λ, how much of the generated detail is kept; 0 keeps none",
        "minimum": 0,
        "maximum": 2,
    },
    "seed": {
        "type": "integer",
        "description": "drawn and reported when absent",
        "minimum": 0,
        "maximum": MAX_SEED,
    },
    "prompt": {
        "type": "string",
        "description": "what the picture shows; only for models with text encoders",
        "maxLength": MAX_PROMPT_CHARS,
    },
    "negative_prompt": {
        "type": "string",
        "description": "what it should not show; read where guidance_scale is not 1",
        "maxLength": MAX_PROMPT_CHARS,
    },
    "guidance_scale": {
        "type": "number",
        "description": "classifier-free guidance; 1 is off",
        "minimum": 0,
        "maximum": 20,
    },
    "projection": {
        "type": "string",
        "description": "where each step is made consistent with the input",
        "enum": list(get_args(Projection)),
    },
    "eta": {
        "type": "number",
        "description": "share of fresh noise in each step",
        "minimum": 0,
        "maximum": 1,
    },
    "rederive": {
        "type": "boolean",
        "description": "take a step's noise from the corrected estimate",
    },
    "strength": {
        "type": "number",
        "description": "noise level to start from; 1 starts from pure noise",
        "minimum": 1e-3,
        "maximum": 1,
    },
    "projection_every": {
        "type": "integer",
        "description": "project at every k-th step only, counted back from the last",
        "minimum": 1,
        "maximum": MAX_STEPS,
    },
    "projection_above": {
        "type": "number",
        "description": "project only at noise levels above this; the last step always does",
        "minimum": 0,
        "maximum": 1,
    },
    "draft": {
        "type": "boolean",
        "description": "a cheaper autoencoder at all steps but the last; only for models with one",
    },
    "output_format": {
        "type": "string",
        "description": "format of the answer",
        "enum": list(get_args(OutputFormat)),
        "default": "png",
    },
    "output_quality": {
        "type": "integer",
        "description": f"of JPEG ({JPEG_QUALITY} by default) and WebP (lossless by default); "
        "without effect on PNG",
        "minimum": 1,
        "maximum": 100,
    },
}

FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "additionalProperties": False,
                    "properties": {
                        "image": {
                            "type": "string",
                            "format": "binary",
                            "description": "a PNG, JPEG or WebP file",
                        },
                        **FORM_FIELDS,
                    },
                }
            }
        },
    }
}


def _header(kind: str, description: str) -> dict[str, Any]:
    return {"schema": {"type": kind}, "description": description}


PICTURE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The upscaled picture.",
        "model": UpscaleAnswer,
        "content": {
            f"image/{name}": {"schema": {"type": "string", "format": "binary"}}
            for name in get_args(OutputFormat)
        },
        "headers": {
            "X-Request-Id": _header("string", "the request's own, or a new one"),
            "X-Seed": _header("integer", "send it again to get the same picture"),
            "X-Model": _header("string", "the model's name"),
            "X-Consistency-Exact": _header("string", "?1 where the input comes back bit for bit"),
            "X-Consistency-PSNR": _header("number", "dB; left out when exact"),
            "Server-Timing": _header("string", "milliseconds of decode, queue, upscale, encode"),
        },
    }
}


def _inlined(model: type[BaseModel]) -> dict[str, Any]:
    """A model's schema without references: FastAPI registers only what it answers itself."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})
    for field in schema["properties"].values():
        if "items" in field and "$ref" in field["items"]:
            field["items"] = parts[field["items"]["$ref"].rpartition("/")[2]]
    return schema


PROBLEM: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "What went wrong (RFC 9457).",
        "content": {MEDIA_TYPE: {"schema": _inlined(ProblemDetails)}},
    }
}
