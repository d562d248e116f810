"""The fast transformer against diffusers' own, and what it looks up instead of computing."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from nullscale.networks.conditioning import Table
from nullscale.networks.fast_transformer import FastTransformer
from nullscale.networks.fused_attention import fuse
from sr_engine.model import PromptEmbeddings

CHANNELS, CONTEXT_DIM, POOLED_DIM, TOKENS = 4, 32, 24, 5
SD3 = {
    "sample_size": 16,
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "num_layers": 3,
    "attention_head_dim": 8,
    "num_attention_heads": 4,
    "joint_attention_dim": CONTEXT_DIM,
    "caption_projection_dim": 32,
    "pooled_projection_dim": POOLED_DIM,
    "pos_embed_max_size": 24,
}
LARGE = SD3 | {"qk_norm": "rms_norm"}
MEDIUM = LARGE | {"dual_attention_layers": (0, 1)}
KINDS = pytest.mark.parametrize(
    "config", [SD3, LARGE, MEDIUM], ids=["sd3", "sd3.5-large", "sd3.5-medium"]
)
SIGMAS = (1.0, 0.7, 0.7, 0.02)


def stock(config: dict[str, object], seed: int = 0) -> SD3Transformer2DModel:
    """A transformer whose every weight matters: diffusers' own start is zero in places."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = SD3Transformer2DModel(**config).requires_grad_(False).eval()
        for name, weight in transformer.named_parameters():
            if weight.ndim > 1:
                nn.init.normal_(weight, std=1 / weight[0].numel() ** 0.5)
            elif "norm" in name:
                nn.init.normal_(weight, mean=1, std=0.2)
            else:
                nn.init.normal_(weight, std=0.2)
    return transformer


def latents(rows: int, height: int, width: int) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(rows, CHANNELS, height, width, generator=rng)


def prompts(rows: int) -> list[PromptEmbeddings]:
    rng = torch.Generator().manual_seed(2)
    shapes = (TOKENS, CONTEXT_DIM), (POOLED_DIM,)
    return [
        PromptEmbeddings(*(torch.randn(shape, generator=rng) for shape in shapes))
        for _ in range(rows)
    ]


@torch.no_grad()
def expected(
    transformer: SD3Transformer2DModel, x: Tensor, sigmas: tuple[float, ...], rows: list
) -> Tensor:
    dtype = transformer.dtype
    found: Tensor = transformer(
        x.to(dtype),
        encoder_hidden_states=torch.stack([row.context for row in rows]).to(dtype),
        pooled_projections=torch.stack([row.pooled for row in rows]).to(dtype),
        timestep=1000 * torch.tensor(sigmas),
    ).sample
    return found.float()


@torch.no_grad()
def found(fast: FastTransformer, x: Tensor, sigmas: tuple[float, ...], rows: list) -> Tensor:
    times = (1000 * torch.tensor(sigmas)).tolist()
    return fast(x.to(fast.dtype), times, rows).float()


@KINDS
@pytest.mark.parametrize("sides", [(16, 16), (2, 2), (6, 14), (24, 10)])
def test_it_is_the_stock_transformer(config: dict[str, object], sides: tuple[int, int]) -> None:
    transformer, x, rows = stock(config), latents(4, *sides), prompts(4)
    want = expected(transformer, x, SIGMAS, rows)
    fast = FastTransformer(transformer)
    # The second time, nothing is computed anew.
    for _ in range(2):
        close(found(fast, x, SIGMAS, rows), want)


@KINDS
def test_bfloat16_is_no_worse_than_the_stock_transformers(config: dict[str, object]) -> None:
    errors: dict[str, list[float]] = {"stock": [], "fast": []}
    for seed in range(8):
        # Weights that bfloat16 holds, so that arithmetic alone makes the difference.
        exact = stock(config, seed).bfloat16().float()
        half = deepcopy(exact).bfloat16()
        x, rows = latents(4, 16, 16).bfloat16().float(), prompts(4)
        parts = [(row.context, row.pooled) for row in rows]
        rows = [PromptEmbeddings(*(t.bfloat16().float() for t in pair)) for pair in parts]
        want = expected(exact, x, SIGMAS, rows)
        for name, got in (
            ("stock", expected(half, x, SIGMAS, rows)),
            ("fast", found(FastTransformer(half), x, SIGMAS, rows)),
        ):
            errors[name].append(float((got - want).square().mean().sqrt() / want.std()))
    stocks, fasts = (torch.tensor(errors[name]).mean() for name in ("stock", "fast"))
    assert 0 < fasts < 1.05 * stocks < 0.1


def test_each_pair_of_prompt_and_noise_level_is_computed_once() -> None:
    fast = FastTransformer(stock(MEDIUM))
    calls = counted(fast.conditioner.time_text_embed), counted(fast.conditioner.context_embedder)
    one, other = prompts(2)
    found(fast, latents(3, 16, 16), (0.7, 0.7, 0.3), [one, one, one])
    assert [len(c) for c in calls] == [2, 1]
    found(fast, latents(4, 6, 8), (0.7, 0.3, 0.7, 0.3), [one, one, other, one])
    assert [len(c) for c in calls] == [3, 2]
    found(fast, latents(1, 2, 2), (0.3,), [one])
    assert [len(c) for c in calls] == [3, 2]


def test_the_table_is_bounded_and_forgetting_changes_nothing() -> None:
    transformer, rows = stock(MEDIUM), prompts(4)
    x = latents(4, 16, 16)
    want = expected(transformer, x, SIGMAS, rows)
    fast = FastTransformer(transformer, table_bytes=1)
    for _ in range(2):
        close(found(fast, x, SIGMAS, rows), want)
        assert len(fast.table) == 1


def test_the_least_recently_used_is_forgotten() -> None:
    table, made = Table(3 * 4), list[str]()

    def look_up(key: str) -> None:
        def make() -> Tensor:
            made.append(key)
            return torch.zeros(1)

        table.look_up(key, make)

    for key in "abcabdabc":
        look_up(key)
    assert made == ["a", "b", "c", "d", "c"]
    assert table.bytes == 12 and len(table) == 3


@pytest.mark.parametrize("table_bytes", [1, 2**28])
def test_a_prompt_that_is_gone_is_not_taken_for_a_new_one(table_bytes: int) -> None:
    fast = FastTransformer(stock(LARGE), table_bytes=table_bytes)
    x, rows = latents(1, 8, 8), prompts(60)
    seen = set()
    while rows:
        # Each dies after its call, and its place in memory is free for the next.
        seen.add(float(found(fast, x, (0.5,), [rows.pop()]).sum()))
    assert len(seen) == 60


def test_a_copy_in_float32_is_whole_and_has_its_own_table() -> None:
    exact = stock(MEDIUM).bfloat16().float()
    x, rows = latents(4, 16, 16), prompts(4)
    want = expected(exact, x, SIGMAS, rows)
    half = FastTransformer(exact.bfloat16())
    found(half, x, SIGMAS, rows)
    copy = deepcopy(half).float()
    close(found(copy, x, SIGMAS, rows), want)
    assert half.dtype == torch.bfloat16
    assert found(half, x, SIGMAS, rows).isfinite().all()


def test_an_offloaded_conditioner_stays_on_the_host() -> None:
    fast = FastTransformer(stock(MEDIUM)).place(torch.device("meta"), offload=True)
    there = {name.split(".")[0]: weight.device.type for name, weight in fast.named_parameters()}
    assert there.pop("conditioner") == "cpu"
    assert set(there.values()) == {"meta"}


@KINDS
def test_no_weight_is_kept_twice(config: dict[str, object]) -> None:
    transformer = stock(config)
    count = sum(weight.numel() for weight in transformer.parameters())
    fast = FastTransformer(transformer)
    assert sum(weight.numel() for weight in fast.parameters()) == count
    assert not any(weight.requires_grad for weight in fast.parameters())
    attentions = [module for module in fast.modules() if isinstance(module, Attention)]
    assert attentions and not any(hasattr(attn, "to_q") for attn in attentions)


def test_weights_of_a_type_of_their_own_stay_as_they_are() -> None:
    class Quantised(nn.Linear):
        """As libraries replace layers."""

    transformer, x, rows = stock(MEDIUM), latents(4, 16, 16), prompts(4)
    want = expected(transformer, x, SIGMAS, rows)
    for attn in (module for module in transformer.modules() if isinstance(module, Attention)):
        attn.to_q.__class__ = Quantised
        assert not fuse(attn)
    fast = FastTransformer(transformer)
    close(found(fast, x, SIGMAS, rows), want)


def close(got: Tensor, want: Tensor) -> None:
    """Compare to 1e-5 of the largest value."""
    assert float((got - want).abs().max()) < 1e-5 * float(want.abs().max())


def counted(module: nn.Module) -> list[object]:
    calls: list[object] = []
    hook: Callable[..., None] = lambda *args: calls.append(args[0])  # noqa: E731
    module.register_forward_hook(hook)
    return calls
