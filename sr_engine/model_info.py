"""What can be said of a model, without the libraries that its networks need."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What can be said of a loaded model.

    Attributes:
        native_px: side of the square picture that the transformer was trained for.
        vae_factor: pixels a latent, per axis.
        multiple_px: picture sides are multiples of it (autoencoder factor × patch size).
        shift: of the noise levels (SD3, Eq. 23), from the checkpoint's scheduler configuration.
        parameters: of transformer and autoencoder together.
        memory_bytes: what the weights take on the device.
        prompts: the checkpoint has text encoders.
        draft: there is a cheaper autoencoder.
        quantize: how the transformer's weights are kept in fewer bits; None where they are not.
    """

    name: str
    native_px: int
    vae_factor: int
    multiple_px: int
    latent_channels: int
    shift: float
    parameters: int
    memory_bytes: int
    device: str
    dtype: str
    prompts: bool
    draft: bool
    quantize: str | None = None
