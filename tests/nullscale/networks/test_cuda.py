"""What only a CUDA device can show: the same pictures there, no waiting for it, no lost request."""

import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nullscale.maths.operators import BicubicDownscale
from nullscale.maths.params import UpscaleParams
from nullscale.maths.pillow_resize import pillow_downscale
from nullscale.maths.rounding import round_plainly
from nullscale.networks.autoencoder import RECORDINGS, REPLAYED_PIXELS, Autoencoder
from nullscale.networks.compiling import compile_networks
from nullscale.networks.fast_transformer import FastTransformer
from nullscale.networks.fast_vae import faster
from nullscale.networks.loading import load_model
from nullscale.networks.model import SRModel
from nullscale.networks.replay import Call, CudaRecorder, Replayed
from nullscale.scheduling.work import Variant
from sr_engine.caps import native_kinds
from sr_engine.engine import SREngine
from sr_engine.events import UpscaleResult
from sr_engine.request import UpscaleRequest

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.usefixtures("fresh_compiler"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]
PHOTO = Path(__file__).parents[3] / "examples" / "coffee.png"
LEAST_DB = {"float32": 60, "bfloat16": 35}
"""Of a picture on CUDA against the CPU's in float32."""


@pytest.fixture(scope="module")
def small() -> NDArray[np.uint8]:
    with Image.open(PHOTO) as photo:
        part = photo.convert("RGB").crop((128, 64, 384, 256))
    return np.asarray(part.resize((64, 48), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def on_the_cpu(small: NDArray[np.uint8]) -> UpscaleResult:
    return upscaled(load_model("bundled", device="cpu"), small)


def upscaled(model: SRModel, image: NDArray[np.uint8]) -> UpscaleResult:
    engine = SREngine(model)
    return engine.upscale(image, model.defaults.override({"scale": 4, "seed": 7}))


def psnr_db(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a.cpu() - b.cpu()).square().mean()))


@pytest.mark.parametrize("dtype", LEAST_DB)
def test_the_bundled_models_picture_is_the_cpus(
    dtype: str, small: NDArray[np.uint8], on_the_cpu: UpscaleResult
) -> None:
    result = upscaled(load_model("bundled", device="cuda", dtype=dtype), small)
    assert psnr_db(result.unrounded, on_the_cpu.unrounded) > LEAST_DB[dtype]
    given_back = Image.fromarray(result.image).resize((64, 48), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(given_back), small)


def requests(count: int, scale: float | None = None) -> list[UpscaleRequest]:
    rng, noise = Random(0), np.random.default_rng(0)
    made = []
    for number in range(count):
        sides = (128, 128) if number % 5 == 0 else (rng.randint(8, 40), rng.randint(8, 40))
        params = UpscaleParams(
            scale=scale or rng.choice([1.5, 2, 2.7, 4]),
            num_inference_steps=rng.choice([1, 2, 3]),
            guidance_scale=rng.choice([1.0, 3.0]),
            projection=rng.choice(["latent", "pixel", "residual"]),
            draft=rng.random() < 0.3,
            ending="latents",
            seed=number,
        )
        image = noise.integers(0, 256, (*sides, 3), dtype=np.uint8)
        made.append(UpscaleRequest(request_id=str(number), image=image, params=params))
    return made


def finished(engine: SREngine, given: list[UpscaleRequest]) -> dict[str, UpscaleResult]:
    for request in given:
        engine.add_request(request)
    results = {}
    while engine.has_work():
        for event in engine.step():
            if isinstance(event, UpscaleResult):
                results[event.request_id] = event
    return results


def test_mixed_requests_are_those_of_the_cpu(drafting_checkpoint: Path) -> None:
    given = requests(20)
    cpu = finished(SREngine(load_model(str(drafting_checkpoint), device="cpu")), given)
    cuda = load_model(str(drafting_checkpoint), device="cuda", dtype="float32")
    found = finished(SREngine(cuda), given)
    assert len(cpu) == len(found) == len(given)
    for name, result in found.items():
        assert psnr_db(result.unrounded, cpu[name].unrounded) > 60, name


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
def test_no_step_waits_for_the_device(drafting_checkpoint: Path, small: NDArray[np.uint8]) -> None:
    """Steps only queue work; at its end a picture is waited for."""
    engine = SREngine(load_model("bundled", device="cuda", dtype="bfloat16"))
    params = engine.model.defaults.override({"scale": 4, "seed": 7})
    # Where a picture asks for something once alone, the second one records it.
    for _ in range(2):
        engine.upscale(small, params)
    engine.add_request(UpscaleRequest(request_id="one", image=small, params=params))
    steps = waited = 0
    reasons = []
    torch.cuda.set_sync_debug_mode("warn")
    try:
        while engine.has_work():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                events = engine.step()
            if any(isinstance(event, UpscaleResult) for event in events):
                break
            steps += 1
            waited += bool(caught)
            reasons += [f"{steps}: {w.filename}:{w.lineno} {w.message}" for w in caught]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert steps > params.num_inference_steps
    assert not waited, "\n".join(reasons)


@pytest.mark.parametrize("quant_conv", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fast_autoencoder_is_as_near_as_the_stock_one(
    quant_conv: bool, dtype: torch.dtype
) -> None:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 64),
        norm_num_groups=8,
        latent_channels=4,
        use_quant_conv=quant_conv,
        use_post_quant_conv=quant_conv,
    ).requires_grad_(False)
    z, x = torch.randn(2, 4, 13, 10), torch.randn(2, 3, 52, 41)
    half = deepcopy(vae).to("cuda", dtype)
    ways: list[tuple[Callable[..., Tensor], Tensor]] = [
        (lambda network, given: network.decode(given).sample, z),
        (lambda network, given: network.encode(given).latent_dist.mean, x),
    ]
    for way, given in ways:
        want = way(vae.double(), given.double())
        stock, fast = (
            (way(network, given.to("cuda", dtype)).double().cpu() - want).square().mean().sqrt()
            for network in (half, faster(half))
        )
        assert fast < 1.3 * stock + 1e-6


@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning")
def test_graphs_give_the_same_and_none_is_made_after_the_warm_up(drafting_checkpoint: Path) -> None:
    given = requests(40)
    eager = finished(
        SREngine(load_model(str(drafting_checkpoint), device="cuda", dtype="float32")), given
    )
    model = load_model(str(drafting_checkpoint), device="cuda", dtype="float32")
    assert compile_networks(model)
    torch.compiler.set_stance("fail_on_recompile")
    found = finished(SREngine(model), given)
    assert len(found) == len(given)
    for name, result in found.items():
        assert psnr_db(result.unrounded, eager[name].unrounded) > 50, name


def test_requests_survive_where_memory_is_short() -> None:
    model = load_model("bundled", device="cuda", dtype="float32")
    engine = SREngine(model)
    # As if batches paid.
    for kind in native_kinds(model.info):
        for rows in (1, 2, 4):
            for _ in range(5):
                engine.runner.costs.observe(kind, rows, 1e-6)
    image = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    params = model.defaults.override({"scale": 4, "draft": False, "num_inference_steps": 2})
    given = [UpscaleRequest(request_id=str(n), image=image, params=params) for n in range(4)]
    finished(engine, given[:1])
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    # One row alone would be replayed, and take no memory any more.
    model.decode(torch.zeros(2, model.info.latent_channels, 128, 128, device="cuda"))
    row = (torch.cuda.max_memory_allocated() - before) // 2
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    held = torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction((held + 2 * row) / whole)
    try:
        assert len(finished(engine, given)) == len(given)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@torch.inference_mode()
def test_replayed_velocities_are_those_of_the_stock_transformer(drafting_checkpoint: Path) -> None:
    stock, fast = (
        load_model(str(drafting_checkpoint), device="cuda", dtype="float32", transformer=kind)
        for kind in ("stock", "fast")
    )
    for _ in range(4):
        for rows, sides in ((1, (16, 16)), (3, (10, 6)), (2, (16, 16))):
            x = torch.randn(rows, 4, *sides, device="cuda")
            given = x, torch.rand(rows), [stock.empty_prompt] * rows
            torch.testing.assert_close(
                fast.velocity(*given), stock.velocity(*given), atol=1e-4, rtol=1e-4
            )


@torch.inference_mode()
@pytest.mark.parametrize(("dtype", "apart"), [("float32", 1e-4), ("bfloat16", 2e-2)])
def test_replayed_ways_through_the_autoencoder_are_the_plain_ones(dtype: str, apart: float) -> None:
    stock = load_model("bundled", device="cuda", dtype=dtype).autoencoder.stock
    recorder, recorded = CudaRecorder(2**27), list[torch.Size]()

    def record(call: Call, given: tuple[Tensor, ...]) -> tuple[Callable[[], None], Tensor]:
        recorded.append(given[0].shape)
        return recorder(call, given)

    replayed = Autoencoder(stock, record=record)
    channels, factor = replayed.latent_channels, replayed.factor
    for _ in range(4):
        for rows, height, width in ((1, 24, 32), (3, 20, 12)):
            z = torch.randn(rows, channels, height, width, device="cuda")
            x = torch.rand(rows, 3, factor * height, factor * width, device="cuda")
            # A new one has met nothing before.
            plain = Autoencoder(stock)
            found, want = replayed.decode(z), plain.decode(z)
            torch.testing.assert_close(found, want, atol=apart, rtol=apart)
            found, want = replayed.encode(x), plain.encode(x)
            torch.testing.assert_close(found, want, atol=apart, rtol=apart)
    assert len(recorded) == len(set(recorded)) == 2 * 2


def test_recordings_of_all_shapes_share_one_piece_of_memory() -> None:
    autoencoder = load_model("bundled", device="cuda", dtype="bfloat16").autoencoder
    piece = autoencoder.row_bytes(REPLAYED_PIXELS)
    sides = range(8, 8 + 2 * RECORDINGS, 2)
    for side in sides:
        autoencoder.decode(torch.zeros(1, autoencoder.latent_channels, side, 40, device="cuda"))
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    for side in sides:
        autoencoder.decode(torch.zeros(1, autoencoder.latent_channels, side, 40, device="cuda"))
    torch.cuda.empty_cache()
    # What is given and found lies besides, and workspaces of libraries.
    assert piece <= torch.cuda.memory_reserved() - before < piece + 2**27


def test_a_recording_without_room_leaves_nothing_behind() -> None:
    def greedy(x: Tensor) -> Tensor:
        found = 2 * x
        if torch.cuda.is_current_stream_capturing():
            x.new_empty(2**44)
        return found

    x, stream = torch.ones(3, device="cuda"), torch.cuda.current_stream()
    recorder = CudaRecorder(2**24)
    for call in (greedy, lambda x: 3 * x, greedy, lambda x: 4 * x):
        replayed = Replayed(call, record=recorder)
        for _ in range(3):
            assert torch.equal(replayed(x), call(x))
        assert torch.cuda.current_stream() == stream
        assert not torch.cuda.is_current_stream_capturing()


@torch.inference_mode()
def test_the_float32_networks_say_what_the_others_say(drafting_checkpoint: Path) -> None:
    model = load_model(str(drafting_checkpoint), device="cuda", dtype="bfloat16")
    side = model.info.native_px // model.info.vae_factor
    x = torch.randn(2, model.info.latent_channels, side, side, device="cuda")
    prompts = [model.empty_prompt] * 2
    calls: list[Callable[[Variant], Tensor]] = [
        lambda variant: model.velocity(x, torch.tensor([0.9, 0.2]), prompts, variant),
        lambda variant: model.decode(x, variant),
        lambda variant: model.encode(model.decode(x), variant),
    ]
    for call in calls:
        exact, base = call(Variant.FLOAT32), call(Variant.BASE)
        error = (exact - base).square().mean().sqrt() / exact.std()
        assert 0 < error < 0.05
    held = torch.cuda.memory_allocated()
    model.release_float32()
    assert torch.cuda.memory_allocated() < held


def test_conditioning_leaves_the_device(drafting_checkpoint: Path) -> None:
    there, here = (
        load_model(str(drafting_checkpoint), device="cuda", transformer=kind)
        for kind in ("fast", "offloaded")
    )
    assert isinstance(here.transformer, FastTransformer)
    assert here.info.memory_bytes < there.info.memory_bytes
    x = torch.randn(2, 4, 16, 16, device="cuda")
    given = x, torch.tensor([0.9, 0.2]), [here.empty_prompt] * 2
    torch.testing.assert_close(here.velocity(*given), there.velocity(*given))


def test_fp8_weights_say_nearly_the_same(drafting_checkpoint: Path) -> None:
    pytest.importorskip("torchao")
    exact, fewer = (
        load_model(str(drafting_checkpoint), device="cuda", dtype="bfloat16", quantize=quantize)
        for quantize in (None, "fp8")
    )
    x = torch.randn(2, 4, 16, 16, device="cuda")
    given = x, torch.tensor([0.9, 0.2]), [exact.empty_prompt] * 2
    want, found = exact.velocity(*given), fewer.velocity(*given)
    assert 0 < (found - want).square().mean().sqrt() / want.std() < 0.1


def test_a_picture_that_comes_back_is_exact_whatever_its_size() -> None:
    generator = torch.Generator().manual_seed(0)
    for height in range(31, 47):
        for width in range(40, 56):
            image = torch.randint(256, (3, 2 * height, 2 * width), generator=generator)
            y = pillow_downscale(image.to(torch.uint8), (height, width))
            rounded = round_plainly(image.cuda() / 255, y, BicubicDownscale((height, width), 2))
            found = rounded.consistency
            assert (found.exact, found.exact_share, found.psnr_db) == (True, 1, None)
