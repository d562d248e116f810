"""What travels between ingress and replica."""

from dataclasses import dataclass

import numpy as np

from nullscale.imaging.image_io import OutputFormat, SourceImage
from nullscale.maths.params import UpscaleParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A decoded picture and what is wanted of it.

    Attributes:
        source: with the metadata that the answer is to have, and no other.
        params: with a seed, so that a second try gives the same picture.
        output_quality: None is the format's own default.
        until_s: Unix time at which the client's time is up.
        decode_ms: milliseconds that decoding took.
        expected_s: engine seconds that it is expected to take, as far as the ingress knows.
    """

    source: SourceImage
    params: UpscaleParams
    output_format: OutputFormat
    output_quality: int | None
    until_s: float
    decode_ms: float
    expected_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleReply:
    """What a replica sends back for one picture.

    Attributes:
        image: 8-bit sRGB samples [H, W, 3].
        reachable: False where no picture in range gives the input back.
        queue_s: seconds in the replica before the first model call.
        compute_s: seconds from then to the end.
        work_s: of the engine's time, its share: what a picture costs whatever else ran beside it.
        start_s: what the replica's own start took.
    """

    image: np.ndarray
    model: str
    seed: int
    reachable: bool
    queue_s: float
    compute_s: float
    work_s: float
    start_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDescription:
    """What a replica says of the model that it has loaded.

    Attributes:
        native_px: side of the square picture that the model was trained for.
        prompts: the model has text encoders.
        draft: the model has a cheaper autoencoder.
        start_s: seconds from the beginning of the replica's start to its first picture.
        unit_s: engine seconds that a unit of work took then (`deployments.workload`).
    """

    name: str
    native_px: int
    parameters: int
    device: str
    dtype: str
    prompts: bool
    draft: bool
    defaults: UpscaleParams
    start_s: float
    unit_s: float
