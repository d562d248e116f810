"""Train the bundled prior from free photographs: crops, autoencoder, latents, flow transformer.

Each stage reads what the stage before it wrote under ``--work`` and can be run again alone; the two
training stages write a checkpoint every few minutes and go on from it. Run them in this order:

    python tools/train_bundled.py crops       --work W --images DIR
    python tools/train_bundled.py autoencoder --work W --minutes 36
    python tools/train_bundled.py latents     --work W --limit 9000
    python tools/train_bundled.py prior       --work W --minutes 98
    python tools/train_bundled.py export      --work W --output sr_engine/bundled

The recipe and the licences of the photographs are in ``docs/bundled-model.md``.
"""

import argparse
import json
import math
import random
import re
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from diffusers.models.resnet import ResnetBlock2D
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

CROP_PX = 128
LONG_SIDES_PX = (2560, 1280, 720)
LATENT_CHANNELS = 12
TEXT_DIM = 64
CHECKPOINT_EVERY_S = 180.0
# The text stream holds half of the matrices and one constant token: it is worth neither Muon's time
# nor sixteen bits a weight. Eight change the velocity by a thousandth of its deviation.
TEXT_STREAM = r"^transformer_blocks\.\d+\..*(context|add_)"
IMAGE_STREAM = r"^transformer_blocks\.\d+\.(?!.*(context|add_))"


def build_autoencoder() -> AutoencoderKL:
    """Return an untrained f4 autoencoder: 2.5 M parameters, no attention.

    It starts almost linear and almost free of noise: residual branches end in zeros, and the
    posterior's deviation is e⁻³ instead of one.
    """
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 64, 128),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=2,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        sample_size=CROP_PX,
    )
    for module in vae.modules():
        if isinstance(module, ResnetBlock2D):
            nn.init.zeros_(module.conv2.weight)
    with torch.no_grad():
        vae.encoder.conv_out.weight[LATENT_CHANNELS:].zero_()
        vae.encoder.conv_out.bias[LATENT_CHANNELS:] = -6.0
    return vae


def build_prior() -> SD3Transformer2DModel:
    """Return an untrained SD3 transformer: 6 layers of width 256, 13.7 M parameters."""
    return SD3Transformer2DModel(
        sample_size=CROP_PX // 4,
        patch_size=2,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=6,
        attention_head_dim=64,
        num_attention_heads=4,
        joint_attention_dim=TEXT_DIM,
        caption_projection_dim=256,
        pooled_projection_dim=TEXT_DIM,
        pos_embed_max_size=64,
        qk_norm="rms_norm",
    )


def make_crops(work: Path, images: Path, limit: int) -> None:
    """Cut detailed 128 px crops at three scales from every large picture below ``images``."""
    rng = np.random.default_rng(0)
    paths = sorted(p for p in images.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    crops: list[np.ndarray] = []
    detail: list[float] = []
    for path in paths:
        try:
            with Image.open(path) as opened:
                picture = opened.convert("RGB")
        except (OSError, ValueError) as err:
            print(f"left out {path.name}: {err}")
            continue
        if min(picture.size) < 700:
            continue
        for long_side in LONG_SIDES_PX:
            ratio = min(1.0, long_side / max(picture.size))
            size = (round(picture.width * ratio), round(picture.height * ratio))
            scaled = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
            stride = CROP_PX if long_side > 1000 else CROP_PX // 2
            for top in range(0, scaled.shape[0] - CROP_PX + 1, stride):
                for left in range(0, scaled.shape[1] - CROP_PX + 1, stride):
                    crop = scaled[top : top + CROP_PX, left : left + CROP_PX]
                    luma = crop.astype(np.float32).mean(-1)
                    energy = float(
                        np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean()
                    )
                    if energy > 1.5:
                        crops.append(crop.copy())
                        detail.append(min(energy, 12.0))
    chance = np.asarray(detail) / np.sum(detail)
    count = min(limit, len(crops))
    chosen = rng.choice(len(crops), size=count, replace=False, p=chance)
    stacked = np.stack([crops[i] for i in chosen]).transpose(0, 3, 1, 2)
    np.save(work / "crops.npy", stacked)
    print(json.dumps({"pictures": len(paths), "candidates": len(crops), "kept": count}))


def load_crops(work: Path) -> np.ndarray:
    return np.load(work / "crops.npy", mmap_mode="r")


def augment(batch: Tensor) -> Tensor:
    """Flip and transpose a batch at random: the eight symmetries of the square."""
    if random.random() < 0.5:
        batch = batch.flip(-1)
    if random.random() < 0.5:
        batch = batch.flip(-2)
    if random.random() < 0.5:
        batch = batch.transpose(-1, -2)
    return batch


def crop_batch(crops: np.ndarray, count: int, side: int) -> Tensor:
    """Return ``count`` random ``side``² windows of the crops, [-1, 1]."""
    rows = []
    for index in np.random.randint(0, len(crops), count):
        top, left = np.random.randint(0, CROP_PX - side + 1, 2)
        rows.append(crops[index, :, top : top + side, left : left + side])
    return augment(torch.from_numpy(np.stack(rows)).float() / 127.5 - 1)


def mosaic(batch: Tensor, rows: int, cols: int) -> Tensor:
    """Lay every ``rows`` · ``cols`` items [n, c, h, w] out as one picture."""
    _, channels, height, width = batch.shape
    grid = batch.reshape(-1, rows, cols, channels, height, width)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, rows * height, cols * width)


def unmosaic(batch: Tensor, rows: int, cols: int) -> Tensor:
    """Undo `mosaic`."""
    _, channels, height, width = batch.shape
    grid = batch.reshape(-1, channels, rows, height // rows, cols, width // cols)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, height // rows, width // cols)


def gradient_loss(a: Tensor, b: Tensor) -> Tensor:
    """L1 between the horizontal and vertical differences of two batches: punishes blur."""
    return (a.diff(dim=-1) - b.diff(dim=-1)).abs().mean() + (
        a.diff(dim=-2) - b.diff(dim=-2)
    ).abs().mean()


class Training:
    """A model under training with averaged weights, a schedule over wall time and checkpoints.

    The learning rate follows the share of the time budget already used, so that a run on a busy
    machine ends as well annealed as one on an idle one.

    Weights of two and more dimensions whose names match ``matrices`` are trained by Muon, which
    steps equally in all directions of a matrix, the rest by AdamW. A convolution counts as the
    matrix [out, in · kh · kw]. Adam alone learns the directions in the order of their variance: the
    autoencoder had brightness in minutes and the second axis of colour not within the hour.
    """

    def __init__(
        self, model: nn.Module, path: Path, minutes: float, *, matrices: str, muon_lr: float
    ) -> None:
        self.model = model
        self.averaged = deepcopy(model).eval().requires_grad_(False)
        rest = []
        self.flattened: list[tuple[nn.Parameter, nn.Parameter]] = []
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and re.search(matrices, name):
                self.flattened.append((parameter, nn.Parameter(parameter.data.flatten(1))))
            else:
                rest.append(parameter)
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                [flat for _, flat in self.flattened],
                lr=muon_lr,
                weight_decay=0.0,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0),
        ]
        self.path = path
        self.budget_s = minutes * 60
        self.spent_s = 0.0
        self.step = 0
        self.losses: list[float] = []
        self.base_lr = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        if path.exists():
            state = torch.load(path, weights_only=True)
            model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.spent_s, self.step = state["spent_s"], state["step"]

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "spent_s": self.spent_s,
            "step": self.step,
        }
        torch.save(state, self.path.with_suffix(".tmp"))
        self.path.with_suffix(".tmp").replace(self.path)

    def progress(self) -> Iterator[float]:
        """Yield the share of the budget used, until it is; log and save on the way."""
        last, saved_s = time.monotonic(), self.spent_s
        while self.spent_s < self.budget_s:
            yield self.spent_s / self.budget_s
            now = time.monotonic()
            self.spent_s, last = self.spent_s + now - last, now
            if self.step % 50 == 0:
                record = {
                    "step": self.step,
                    "minutes": round(self.spent_s / 60, 2),
                    "loss": round(sum(self.losses) / max(1, len(self.losses)), 5),
                }
                with self.path.with_suffix(".jsonl").open("a") as log:
                    log.write(json.dumps(record) + "\n")
                self.losses.clear()
            if self.spent_s - saved_s > CHECKPOINT_EVERY_S:
                self.save()
                saved_s = self.spent_s
        self.save()

    def update(self, loss: Tensor, share: float) -> None:
        """Take one optimiser step at the learning rate due after ``share`` of the budget."""
        warm = min(1.0, (self.step + 1) / 100)
        anneal = 1.0 if share < 0.4 else 0.5 * (1 + math.cos(math.pi * (share - 0.4) / 0.6))
        for optimizer, rates in zip(self.optimizers, self.base_lr, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * warm * max(anneal, 0.01)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for parameter, flat in self.flattened:
            # The flat one shares the weights' memory; the gradient it must be told.
            assert parameter.grad is not None
            flat.grad = parameter.grad.flatten(1)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self.losses.append(float(loss.detach()))
        decay = min(0.998, self.step / (self.step + 10))
        with torch.no_grad():
            for slow, fast in zip(self.averaged.parameters(), self.model.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)


def train_autoencoder(work: Path, minutes: float, cycle: float) -> None:
    """L1 + gradient loss, light KL, and agreement of a latent with its own round trip.

    The last term (weight ``cycle``) matters to DDNM, which sends the same picture through the
    autoencoder at every step.

    Crops are encoded and decoded alone or as parts of mosaics, drawn anew for either: group
    normalisation takes its statistics from the whole picture, and only so does the autoencoder
    learn to give a region the same latents, and the same pixels, whatever surrounds it.
    """
    crops = load_crops(work)
    vae = build_autoencoder()
    run = Training(vae, work / "autoencoder.pt", minutes, matrices="", muon_lr=3e-3)
    for share in run.progress():
        small = run.step % 4
        x = crop_batch(crops, 12, 64) if small else crop_batch(crops, 4, 128)
        grids = [(1, 1), (2, 2), (3, 4)] if small else [(1, 1), (2, 2)]
        encoded_as, decoded_as = random.choice(grids), random.choice(grids)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(mosaic(x, *encoded_as)).latent_dist
            latents = unmosaic(posterior.sample(), *encoded_as)
            decoded = vae.decode(mosaic(latents, *decoded_as)).sample
        y = unmosaic(decoded.float(), *decoded_as)
        kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var - 1 - posterior.logvar).mean()
        loss = (y - x).abs().mean() + 0.5 * gradient_loss(y, x) + 1e-5 * kl
        if share > 0.6 and run.step % 2 == 0:
            with torch.autocast("cpu", torch.bfloat16):
                again = unmosaic(vae.encode(decoded).latent_dist.mean, *decoded_as)
            target = unmosaic(posterior.mean, *encoded_as).detach().float()
            loss = loss + cycle * (again.float() - target).abs().mean() / target.std()
        run.update(loss, share)


def averaged_autoencoder(work: Path) -> AutoencoderKL:
    vae = build_autoencoder()
    state = torch.load(work / "autoencoder.pt", weights_only=True)
    vae.load_state_dict(state["averaged"])
    return vae.eval().requires_grad_(False)


def encode_latents(work: Path, limit: int) -> None:
    """Encode the crops once and store them with zero mean and unit deviation."""
    crops = load_crops(work)[:limit]
    vae = averaged_autoencoder(work).to(memory_format=torch.channels_last)
    means = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, len(crops), 16):
            x = torch.from_numpy(np.ascontiguousarray(crops[start : start + 16]))
            x = augment(x.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
            means.append(vae.encode(x).latent_dist.mean.float().contiguous())
    latents = torch.cat(means)
    shift, deviation = float(latents.mean()), float(latents.std())
    np.save(work / "latents.npy", ((latents - shift) / deviation).half().numpy())
    scaling = {"shift_factor": shift, "scaling_factor": 1 / deviation}
    (work / "latents.json").write_text(json.dumps(scaling))
    print(json.dumps(scaling))


def train_prior(work: Path, minutes: float) -> None:
    """Flow matching on stored latents: velocity MSE, logit-normal times (SD3, Eq. 19).

    Three batches of four hold 64 px windows, the fourth whole 128 px crops, the native tile.
    """
    latents = np.load(work / "latents.npy")
    model = build_prior()
    path = work / "prior.pt"
    run = Training(model, path, minutes, matrices=IMAGE_STREAM, muon_lr=2e-3)
    for share in run.progress():
        side, count = (16, 64) if run.step % 4 else (32, 16)
        rows = []
        for index in np.random.randint(0, len(latents), count):
            top, left = 2 * np.random.randint(0, (32 - side) // 2 + 1, 2)
            rows.append(latents[index, :, top : top + side, left : left + side])
        x0 = torch.from_numpy(np.stack(rows)).float()
        sigma = torch.sigmoid(torch.randn(count))
        noise = torch.randn_like(x0)
        level = sigma.view(-1, 1, 1, 1)
        with torch.autocast("cpu", torch.bfloat16):
            velocity = model(
                hidden_states=(1 - level) * x0 + level * noise,
                timestep=sigma * 1000,
                encoder_hidden_states=torch.zeros(count, 1, TEXT_DIM),
                pooled_projections=torch.zeros(count, TEXT_DIM),
                return_dict=False,
            )[0]
        run.update(F.mse_loss(velocity.float(), noise - x0), share)


def export(work: Path, output: Path) -> None:
    """Write the averaged weights as a diffusers-format SD3 checkpoint.

    They are stored in float16, the matrices of the text stream in float8.
    """
    vae = averaged_autoencoder(work)
    vae.register_to_config(**json.loads((work / "latents.json").read_text()))
    prior = build_prior()
    prior.load_state_dict(torch.load(work / "prior.pt", weights_only=True)["averaged"])
    vae.half().save_pretrained(output / "vae")
    prior.half()
    for name, parameter in prior.named_parameters():
        if parameter.ndim >= 2 and re.search(TEXT_STREAM, name):
            parameter.data = parameter.data.to(torch.float8_e4m3fn)
    prior.save_pretrained(output / "transformer")
    FlowMatchEulerDiscreteScheduler(shift=1.0).save_pretrained(output / "scheduler")
    index = {
        "_class_name": "StableDiffusion3Pipeline",
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    }
    (output / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    save_file(
        {
            "prompt_embeds": torch.zeros(1, 1, TEXT_DIM),
            "pooled_prompt_embeds": torch.zeros(1, TEXT_DIM),
        },
        output / "empty_prompt.safetensors",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    stages = ("crops", "autoencoder", "latents", "prior", "export")
    parser.add_argument("stage", choices=stages)
    parser.add_argument("--work", type=Path, required=True, help="folder for what stages hand on")
    parser.add_argument("--images", type=Path, help="folder of photographs (crops)")
    parser.add_argument("--limit", type=int, default=20_000, help="number of crops")
    parser.add_argument("--minutes", type=float, default=45.0, help="time budget (training stages)")
    parser.add_argument("--cycle", type=float, default=0.05, help="latent round-trip weight")
    parser.add_argument("--output", type=Path, default=Path("sr_engine/bundled"))
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(int(time.time()))
    np.random.seed(int(time.time()) % 2**32)
    args.work.mkdir(parents=True, exist_ok=True)
    if args.stage == "crops":
        make_crops(args.work, args.images, args.limit)
    elif args.stage == "autoencoder":
        train_autoencoder(args.work, args.minutes, args.cycle)
    elif args.stage == "latents":
        encode_latents(args.work, args.limit)
    elif args.stage == "prior":
        train_prior(args.work, args.minutes)
    else:
        export(args.work, args.output)


if __name__ == "__main__":
    main()
