"""Train the bundled prior from free photographs: crops, autoencoder, latents, flow
transformer, draft autoencoder.

Each stage reads what the stage before it wrote under ``--work`` and can be run again alone; the
training stages write a checkpoint every few minutes and go on from it. Run them in this order:

    python tools/train_bundled.py crops       --work W --images DIR
    python tools/train_bundled.py autoencoder --work W --minutes 36
    python tools/train_bundled.py latents     --work W --limit 9000
    python tools/train_bundled.py prior       --work W --minutes 98
    python tools/train_bundled.py draft       --work W --minutes 40
    python tools/train_bundled.py export      --work W --output nullscale/networks/bundled

A prior that is there already is trained further, its autoencoders left as they are, by

    B=nullscale/networks/bundled
    python tools/train_bundled.py latents      --work W --start $B
    python tools/train_bundled.py prior        --work W --start $B --minutes 6
    python tools/train_bundled.py export-prior --work W --output $B

The recipe and the licences of the photographs are in ``docs/bundled-model.md``.
"""

import argparse
import json
import random
import re
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from crops import (
    CROP_PX,
    augment,
    crop_batch,
    load_crops,
    make_crops,
    mosaic,
    unmosaic,
    windows,
)
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
)
from diffusers.models.resnet import ResnetBlock2D
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from training import Training

LATENT_CHANNELS = 12
TEXT_DIM = 64
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


def build_draft() -> AutoencoderTiny:
    """Return an untrained cheap autoencoder for the same latents: 0.3 M parameters, no norms."""
    return AutoencoderTiny(
        encoder_block_out_channels=(32,) * 3,
        decoder_block_out_channels=(32,) * 3,
        # None at full resolution, where they would cost more than all others.
        num_encoder_blocks=(0, 2, 3),
        num_decoder_blocks=(3, 2, 0),
        latent_channels=LATENT_CHANNELS,
    )


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


def gradient_loss(a: Tensor, b: Tensor) -> Tensor:
    """L1 between the horizontal and vertical differences of two batches: punishes blur."""
    return (a.diff(dim=-1) - b.diff(dim=-1)).abs().mean() + (
        a.diff(dim=-2) - b.diff(dim=-2)
    ).abs().mean()


def train_autoencoder(work: Path, minutes: float, device: torch.device, cycle: float) -> None:
    """L1 + gradient loss, light KL, and agreement of a latent with its own round trip.

    The last term (weight ``cycle``) matters to DDNM, which sends the same picture through the
    autoencoder at every step.

    Crops are encoded and decoded alone or as parts of mosaics, drawn anew for either: group
    normalisation takes its statistics from the whole picture, and only so does the autoencoder
    learn to give a region the same latents, and the same pixels, whatever surrounds it.
    """
    crops = load_crops(work, device)
    vae = build_autoencoder().to(device)
    run = Training(vae, work / "autoencoder.pt", minutes, matrices="", muon_lr=3e-3)
    for share in run.progress():
        small = run.step % 4
        x = crop_batch(crops, 12, 64) if small else crop_batch(crops, 4, 128)
        grids = [(1, 1), (2, 2), (3, 4)] if small else [(1, 1), (2, 2)]
        encoded_as, decoded_as = random.choice(grids), random.choice(grids)
        with torch.autocast(device.type, torch.bfloat16):
            posterior = vae.encode(mosaic(x, *encoded_as)).latent_dist
            latents = unmosaic(posterior.sample(), *encoded_as)
            decoded = vae.decode(mosaic(latents, *decoded_as)).sample
        y = unmosaic(decoded.float(), *decoded_as)
        kl = 0.5 * (posterior.mean.float() ** 2 + posterior.var - 1 - posterior.logvar).mean()
        loss = (y - x).abs().mean() + 0.5 * gradient_loss(y, x) + 1e-5 * kl
        if share > 0.6 and run.step % 2 == 0:
            with torch.autocast(device.type, torch.bfloat16):
                again = unmosaic(vae.encode(decoded).latent_dist.mean, *decoded_as)
            target = unmosaic(posterior.mean, *encoded_as).detach().float()
            loss = loss + cycle * (again.float() - target).abs().mean() / target.std()
        run.update(loss, share)


def averaged_autoencoder(work: Path) -> AutoencoderKL:
    vae = build_autoencoder()
    state = torch.load(work / "autoencoder.pt", weights_only=True, map_location="cpu")
    vae.load_state_dict(state["averaged"])
    return vae.eval().requires_grad_(False)


def encode_latents(work: Path, limit: int, device: torch.device, start: Path | None) -> None:
    """Encode the crops once and store them with zero mean and unit deviation.

    start: a checkpoint whose autoencoder it is, and whose two numbers are taken.
    """
    crops = load_crops(work, device)[:limit]
    vae = (
        averaged_autoencoder(work)
        if start is None
        else AutoencoderKL.from_pretrained(start / "vae")
    )
    vae = vae.float().eval().to(device, memory_format=torch.channels_last)
    means = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        for start in range(0, len(crops), 16):
            x = augment(crops[start : start + 16].float() / 127.5 - 1)
            x = x.contiguous(memory_format=torch.channels_last)
            means.append(vae.encode(x).latent_dist.mean.float().contiguous().cpu())
    latents = torch.cat(means)
    if start is None:
        scaling = {
            "shift_factor": float(latents.mean()),
            "scaling_factor": 1 / float(latents.std()),
        }
    else:
        scaling = {name: vae.config[name] for name in ("shift_factor", "scaling_factor")}
    scaled = (latents - scaling["shift_factor"]) * scaling["scaling_factor"]
    np.save(work / "latents.npy", scaled.half().numpy())
    (work / "latents.json").write_text(json.dumps(scaling))
    print(json.dumps(scaling))


def train_prior(
    work: Path, minutes: float, device: torch.device, batch: int, start: Path | None
) -> None:
    """Flow matching on stored latents: velocity MSE, logit-normal times (SD3, Eq. 19).

    Three batches of four hold 64 px windows, the fourth whole 128 px crops, the native tile.

    start: a checkpoint whose weights it goes on from, in place of untrained ones.
    """
    latents = torch.from_numpy(np.load(work / "latents.npy")).to(device)
    model = build_prior()
    if start is not None:
        weights = load_file(start / "transformer" / "diffusion_pytorch_model.safetensors")
        model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    model.to(device)
    path = work / "prior.pt"
    run = Training(model, path, minutes, matrices=IMAGE_STREAM, muon_lr=2e-3)
    forward = torch.compile(model, dynamic=False) if device.type == "cuda" else model
    for share in run.progress():
        side, count = (16, 4 * batch) if run.step % 4 else (32, batch)
        x0 = windows(latents, count, side, grid=2).float()
        sigma = torch.sigmoid(torch.randn(count, device=device))
        noise = torch.randn_like(x0)
        level = sigma.view(-1, 1, 1, 1)
        with torch.autocast(device.type, torch.bfloat16):
            velocity = forward(
                hidden_states=(1 - level) * x0 + level * noise,
                timestep=sigma * 1000,
                encoder_hidden_states=torch.zeros(count, 1, TEXT_DIM, device=device),
                pooled_projections=torch.zeros(count, TEXT_DIM, device=device),
                return_dict=False,
            )[0]
        run.update(F.mse_loss(velocity.float(), noise - x0), share)


def train_draft(work: Path, minutes: float, device: torch.device) -> None:
    """Distil the autoencoder into one that is cheaper: its latents, and its own round trip.

    What is encoded has been decoded from the teacher's latents as often as not, since DDNM encodes
    little else.
    """
    crops = load_crops(work, device)
    teacher = averaged_autoencoder(work).to(device)
    scaling = json.loads((work / "latents.json").read_text())
    draft = build_draft().to(device)
    run = Training(draft, work / "draft.pt", minutes, matrices="", muon_lr=3e-3)
    for share in run.progress():
        x = crop_batch(crops, 12, 64)
        grid = random.choice([(1, 1), (2, 2), (3, 4)])
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                mean = unmosaic(teacher.encode(mosaic(x, *grid)).latent_dist.mean, *grid)
                latents = (mean.float() - scaling["shift_factor"]) * scaling["scaling_factor"]
            encoded = draft.encode(x, return_dict=False)[0]
            decoded = draft.decode(latents, return_dict=False)[0]
            again = draft.encode(decoded, return_dict=False)[0]
        loss = (decoded.float() - x).abs().mean() + 0.5 * gradient_loss(decoded.float(), x)
        for found in (encoded, again):
            loss = loss + 0.25 * (found.float() - latents).abs().mean()
        run.update(loss, share)


def export(work: Path, output: Path) -> None:
    """Write the averaged weights as a diffusers-format SD3 checkpoint.

    They are stored in float16, the matrices of the text stream in float8.
    """
    vae = averaged_autoencoder(work)
    vae.register_to_config(**json.loads((work / "latents.json").read_text()))
    vae.half().save_pretrained(output / "vae")
    draft = build_draft()
    draft.load_state_dict(
        torch.load(work / "draft.pt", weights_only=True, map_location="cpu")["averaged"]
    )
    draft.half().save_pretrained(output / "vae_draft")
    config = output / "vae_draft" / "config.json"
    written = json.loads(config.read_text())
    # Diffusers writes it here, and warns of it when it reads it.
    del written["block_out_channels"]
    config.write_text(json.dumps(written, indent=2) + "\n")
    export_prior(work, output)
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


def export_prior(work: Path, output: Path) -> None:
    """Write the prior's averaged weights into a checkpoint."""
    prior = build_prior()
    prior.load_state_dict(
        torch.load(work / "prior.pt", weights_only=True, map_location="cpu")["averaged"]
    )
    prior.half()
    for name, parameter in prior.named_parameters():
        if parameter.ndim >= 2 and re.search(TEXT_STREAM, name):
            parameter.data = parameter.data.to(torch.float8_e4m3fn)
    prior.save_pretrained(output / "transformer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    stages = ("crops", "autoencoder", "latents", "prior", "draft", "export", "export-prior")
    parser.add_argument("stage", choices=stages)
    parser.add_argument("--work", type=Path, required=True, help="folder for what stages hand on")
    parser.add_argument("--images", type=Path, help="folder of photographs (crops)")
    parser.add_argument("--limit", type=int, default=20_000, help="number of crops")
    parser.add_argument("--minutes", type=float, default=45.0, help="time budget (training stages)")
    parser.add_argument("--cycle", type=float, default=0.05, help="latent round-trip weight")
    parser.add_argument("--output", type=Path, default=Path("nullscale/networks/bundled"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--batch", type=int, default=16, help="crops of the prior's large batches")
    parser.add_argument(
        "--start", type=Path, help="checkpoint that the prior goes on from (latents, prior)"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(int(time.time()))
    np.random.seed(int(time.time()) % 2**32)
    args.work.mkdir(parents=True, exist_ok=True)
    if args.stage == "crops":
        make_crops(args.work, args.images, args.limit)
    elif args.stage == "autoencoder":
        train_autoencoder(args.work, args.minutes, args.device, args.cycle)
    elif args.stage == "latents":
        encode_latents(args.work, args.limit, args.device, args.start)
    elif args.stage == "prior":
        train_prior(args.work, args.minutes, args.device, args.batch, args.start)
    elif args.stage == "draft":
        train_draft(args.work, args.minutes, args.device)
    elif args.stage == "export-prior":
        export_prior(args.work, args.output)
    else:
        export(args.work, args.output)


if __name__ == "__main__":
    main()
