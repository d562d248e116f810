"""The request as the OpenAPI document shows it: the form's fields and the headers."""

from typing import Any, get_args

from nullscale.imaging.encoding import JPEG_QUALITY
from nullscale.imaging.image_io import OutputFormat
from nullscale.maths.params import CHOICES, MAX_PROMPT_CHARS, MAX_SCALE, MAX_SEED, MAX_STEPS
from nullscale.maths.presets import Preset

MIN_DEADLINE_S, MAX_DEADLINE_S = 0.001, 86400

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
        "enum": list(CHOICES["projection"]),
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
    "sigma_spacing": {
        "type": "string",
        "description": "of the noise levels; diffusers' own spends its last step on nothing",
        "enum": list(CHOICES["sigma_spacing"]),
    },
    "ending": {
        "type": "string",
        "description": "where the last step is made consistent; latents give no guarantee",
        "enum": list(CHOICES["ending"]),
    },
    "sigma_y": {
        "type": "number",
        "description": "deviation of the picture's noise as a share of the full range; above 0 "
        "the noise is not given back, nor is anything guaranteed",
        "minimum": 0,
        "maximum": 1,
    },
    "travel_length": {
        "type": "integer",
        "description": "steps after which the sampler goes back over them; 0 is never",
        "minimum": 0,
        "maximum": MAX_STEPS,
    },
    "travel_repeats": {
        "type": "integer",
        "description": f"times that it takes them in all; at most {MAX_STEPS} steps may come of it",
        "minimum": 1,
        "maximum": MAX_STEPS,
    },
    "preset": {
        "type": "string",
        "description": "a set of the parameters above, which any of them may change; balanced is "
        "the model's own",
        "enum": [preset.value for preset in Preset],
        "default": "balanced",
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
    "metadata": {
        "type": "string",
        "description": "keep writes the file's EXIF and XMP data into the answer, its place "
        "and time included",
        "enum": ["strip", "keep"],
        "default": "strip",
    },
    "deadline_s": {
        "type": "number",
        "description": "seconds after which the answer is of no use; capped by the server's own",
        "minimum": MIN_DEADLINE_S,
        "maximum": MAX_DEADLINE_S,
    },
    "async": {
        "type": "boolean",
        "description": "answer 202 at once, as `Prefer: respond-async` does, and make a job of it",
        "default": False,
    },
}
# Those that no parameter of the engine stands behind.
REQUEST_FIELDS = ("preset", "output_format", "output_quality", "metadata", "deadline_s", "async")

PREFER_HEADER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "`respond-async` makes a job of the request (RFC 7240)",
    "schema": {"type": "string", "examples": ["respond-async"]},
}
IDEMPOTENCY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "of a job: the same key with the same request finds the job that it made",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}

FORM: dict[str, Any] = {
    "parameters": [PREFER_HEADER, IDEMPOTENCY_HEADER],
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
                },
                "example": {"image": "(a file)", "scale": 4, "seed": 7},
            }
        },
    },
}
