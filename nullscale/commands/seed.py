"""The seed repository's command line, `main.py --lr_img_path …`, kept for its users."""

import os
from pathlib import Path
from typing import Annotated

import typer

from nullscale.commands.terminal import console
from nullscale.commands.upscale import run_upscale


def upscale(
    lr_img_path: Annotated[Path, typer.Option("--lr_img_path", help="the small picture")],
    savepath: Annotated[Path, typer.Option("--savepath", help="the file to write")],
    num_inference_steps: Annotated[int | None, typer.Option("--num_inference_steps")] = None,
    guidance_strength: Annotated[float | None, typer.Option("--guidance_strength")] = None,
    scale: Annotated[float | None, typer.Option("--scale")] = None,
    hf_token: Annotated[
        str | None, typer.Option("--hf_token", help="set HF_TOKEN instead of this")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="bundled, a folder or a hub id")] = (
        "stabilityai/stable-diffusion-3.5-medium"
    ),
) -> None:
    """Upscale one picture with the options of the seed repository's main.py."""
    if hf_token is not None:
        console.print(
            "warning: a token on the command line can be read by every user of this machine; "
            "set HF_TOKEN in the environment instead",
            style="yellow",
        )
        os.environ["HF_TOKEN"] = hf_token
    given = {
        "scale": scale,
        "num_inference_steps": num_inference_steps,
        "guidance_strength": guidance_strength,
    }
    run_upscale([lr_img_path], savepath, {**given}, model=model)


def main() -> None:
    """Entry point of the console script `nullscale-main`."""
    typer.run(upscale)
