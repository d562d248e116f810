"""The corrections of DDNM: estimates made to agree with what was measured.

Source: Wang, Yu & Zhang, "Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model",
arXiv 2212.00490; ``A†y + (I − A†A) x0`` is its Eq. 13.
"""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from nullscale.maths.network_calls import Decode, Encode, Sampler
from nullscale.maths.operators import Canvas, LinearOperator, project
from nullscale.maths.params import UpscaleParams


@dataclass(slots=True)
class Measurement:
    """What is known of a picture, and what follows from it for an estimate.

    Attributes:
        pinv_y: ``A†y``, of the picture's size.
        pinv_latents: ``g(A†y)`` by the draft or not, once it is needed.
    """

    operator: LinearOperator
    canvas: Canvas
    pinv_y: Tensor
    params: UpscaleParams
    pinv_latents: dict[bool, Tensor] = field(default_factory=dict)

    def project(
        self, pixels: Float[Tensor, "*b c Hc Wc"], guidance_strength: float | None = None
    ) -> Float[Tensor, "*b c Hc Wc"]:
        """Return ``Π_λ`` of what a canvas shows, by default with the λ of ``params``."""
        strength = self.params.guidance_strength if guidance_strength is None else guidance_strength
        return project(
            pixels,
            pinv_y=self.pinv_y,
            operator=self.operator,
            canvas=self.canvas,
            guidance_strength=strength,
        )

    def correct(self, x0: Float[Tensor, "*b c h w"], *, draft: bool) -> Sampler:
        """Make latents agree with the measurement, in the way of ``params.projection``."""
        if self.params.projection == "latent":
            return (yield from self._correct_latents(x0, draft))
        (pixels,) = yield (Decode(x0, draft),)
        if self.params.projection == "pixel":
            (corrected,) = yield (Encode(self.project(pixels), draft),)
            return corrected
        projected, unprojected = yield (
            Encode(self.project(pixels), draft),
            Encode(pixels, draft),
        )
        return x0 + projected - unprojected

    def noise_in_latents(self, probe: Float[Tensor, "*b c h w"]) -> Sampler:
        """Measure κ [], what noise σ_y of ``y`` does to latents.

        The autoencoder is far from linear there, so that it is measured: the root mean square of
        ``g(A†(y + σ_y n)) − g(A†y)`` for a ``probe`` n of unit noise, of several rows the largest.
        """
        noisy = self.pinv_y + self.operator.pinv(self.params.sigma_y * probe)
        clean_latents, noisy_latents = yield (
            Encode(self.canvas.extend(self.pinv_y), self.params.draft),
            Encode(self.canvas.extend(noisy), self.params.draft),
        )
        return (noisy_latents - clean_latents).square().mean((-3, -2, -1)).sqrt().max()

    def _correct_latents(self, x0: Tensor, draft: bool) -> Sampler:
        """``g(A†y) + λ (x0 − g(A†A g'(x0)))``: the seed repository's Eq. 2."""
        if draft not in self.pinv_latents:
            # By the autoencoder whose losses it has to cancel.
            (found,) = yield (Encode(self.canvas.extend(self.pinv_y), draft),)
            self.pinv_latents[draft] = found
        (pixels,) = yield (Decode(x0, draft),)
        seen = self.operator.pinv(self.operator.A(self.canvas.crop(pixels)))
        (range_latents,) = yield (Encode(self.canvas.extend(seen), draft),)
        return self.pinv_latents[draft] + self.params.guidance_strength * (x0 - range_latents)
