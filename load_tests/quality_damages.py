"""What befalls an input besides being made small: a sensor's noise, and JPEG."""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

SEED = 20221200490


@dataclass(frozen=True, slots=True)
class Damage:
    """White noise of a deviation, as a share of the range, or JPEG of a quality; not both.

    Attributes:
        label: its name on the page.
    """

    label: str
    noise: float = 0.0
    jpeg_quality: int = 0

    def done_to(self, image: np.ndarray) -> tuple[bytes, np.ndarray]:
        """Return the damaged picture, 8-bit [h, w, 3], as a file and as its samples."""
        rng = np.random.default_rng(SEED)
        noisy = image + 255 * self.noise * rng.normal(size=image.shape)
        picture = Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))
        file = io.BytesIO()
        if self.jpeg_quality:
            picture.save(file, "jpeg", quality=self.jpeg_quality)
        else:
            picture.save(file, "png")
        with Image.open(file) as opened:
            return file.getvalue(), np.asarray(opened.convert("RGB"))


_ALL = (
    Damage("none"),
    *(Damage(f"noise, σ = {sigma:g}", noise=sigma) for sigma in (0.02, 0.05, 0.1)),
    *(Damage(f"JPEG, quality {quality}", jpeg_quality=quality) for quality in (90, 70, 40)),
)
DAMAGES: Mapping[str, Damage] = {damage.label: damage for damage in _ALL}
