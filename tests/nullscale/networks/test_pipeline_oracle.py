"""The plain sampler against diffusers' own pipeline, on a small random checkpoint."""

from pathlib import Path

import pytest
import torch
from checkpoints import LATENT_CHANNELS, write_checkpoint
from diffusers import StableDiffusion3Pipeline
from torch import Tensor

from nullscale.maths.ddnm import drive, restore
from nullscale.maths.network_calls import Decode, Denoise, NetworkCall
from nullscale.maths.operators import AveragePooling, Canvas
from nullscale.maths.params import UpscaleParams
from nullscale.maths.sampling import sigma_schedule
from nullscale.networks.loading import load_model
from nullscale.networks.model import SRModel

PROMPT, NEGATIVE_PROMPT = "a red fox, 85 mm", "blur"
HEIGHT, WIDTH, FACTOR = 64, 48, 4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    return write_checkpoint(folder, empty_prompt=False, text_encoders=True)


@pytest.fixture(scope="module")
def model(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> SRModel:
    return load_model(str(checkpoint), device="cpu", cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def pipeline(checkpoint: Path) -> StableDiffusion3Pipeline:
    # Given by name as absent: they are optional, and looking for them needs torchvision.
    loaded = StableDiffusion3Pipeline.from_pretrained(
        checkpoint, image_encoder=None, feature_extractor=None, local_files_only=True
    )
    loaded.set_progress_bar_config(disable=True)
    return loaded


def noise() -> Tensor:
    shape = (1, LATENT_CHANNELS, HEIGHT // FACTOR, WIDTH // FACTOR)
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def sample(model: SRModel, params: UpscaleParams) -> tuple[Tensor, Tensor]:
    """Return the picture, and the latents that it was decoded from."""
    prompts = {
        False: model.encode_prompt(params.prompt),
        True: model.encode_prompt(params.negative_prompt),
    }
    decoded: list[Tensor] = []

    def answer(call: NetworkCall) -> Tensor:
        if isinstance(call, Denoise):
            sigmas = torch.tensor([call.sigma])
            return model.velocity(call.latents, sigmas, [prompts[call.negative]])
        assert isinstance(call, Decode)
        decoded.append(call.latents)
        return model.decode(call.latents)

    operator = AveragePooling((HEIGHT // 4, WIDTH // 4), 4)
    sampler = restore(
        torch.rand(1, 3, *operator.measurement_size),
        operator=operator,
        canvas=Canvas(operator.image_size, model.info.multiple_px),
        sigmas=sigma_schedule(params.num_inference_steps, shift=model.info.shift),
        draw_noise=noise,
        params=params,
    )
    picture = drive(sampler, answer)
    (latents,) = decoded
    return picture, latents


@pytest.mark.parametrize("guidance_scale", [1.0, 4.5], ids=["plain", "guided"])
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_the_plain_sampler_is_the_pipeline(
    pipeline: StableDiffusion3Pipeline, model: SRModel, steps: int, guidance_scale: float
) -> None:
    params = UpscaleParams(
        num_inference_steps=steps,
        prompt=PROMPT,
        negative_prompt=NEGATIVE_PROMPT,
        guidance_scale=guidance_scale,
        projection="none",
        eta=0.0,
    )
    picture, latents = sample(model, params)
    known = {
        output_type: pipeline(
            prompt=PROMPT,
            negative_prompt=NEGATIVE_PROMPT,
            guidance_scale=guidance_scale,
            height=HEIGHT,
            width=WIDTH,
            # Not shifted yet: the scheduler does that.
            sigmas=[1 - i / steps for i in range(steps)],
            latents=noise(),
            output_type=output_type,
        ).images
        for output_type in ("latent", "pt")
    }
    torch.testing.assert_close(latents, known["latent"], rtol=0, atol=1e-4)
    torch.testing.assert_close(picture.clamp(0, 1), known["pt"], rtol=0, atol=1e-4)
    inside = (picture > 0) & (picture < 1)
    assert float(inside.float().mean()) > 0.5, "clipped pixels compare nothing"


def test_the_comparison_can_tell_one_prompt_from_another(model: SRModel) -> None:
    params = UpscaleParams(prompt=PROMPT, guidance_scale=4.5, projection="none", eta=0.0)
    guided, _ = sample(model, params)
    for changed in ({"prompt": ""}, {"negative_prompt": "x"}, {"guidance_scale": 4.0}):
        other, _ = sample(model, params.override(changed))
        assert float((other - guided).abs().max()) > 1e-3
