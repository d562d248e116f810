"""The command `nullscale`: its subcommands, and what can be said of a model."""

from typing import Annotated

import typer

from nullscale.commands.fits import print_fits
from nullscale.commands.plan import plan
from nullscale.commands.restore import restore
from nullscale.commands.terminal import load
from nullscale.commands.upscale import upscale
from nullscale.commands.verify import verify
from nullscale.imaging.image_io import MAX_SIDE_PX, ImageLimits
from nullscale.maths.operators import MIN_SCALE
from nullscale.maths.params import MAX_SCALE

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(upscale)


@app.command()
def info(
    model: Annotated[str, typer.Option(help="bundled, a folder or a hub id")] = "bundled",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16")] = "auto",
    quantize: Annotated[str | None, typer.Option(help="nf4 (on CUDA) or fp8: less memory")] = None,
    fits: Annotated[
        bool, typer.Option("--fits", help="what fits on which GPU; reads no weights")
    ] = False,
) -> None:
    """Print the model, its device, memory, limits and default parameters; or what fits where."""
    if fits:
        print_fits(model)
        return
    loaded = load(model, device, dtype, quantize)
    details = loaded.info
    print(f"model            {details.name}")
    kept = f", {details.quantize}" if details.quantize else ""
    print(f"device           {details.device} ({details.dtype}{kept})")
    print(f"parameters       {details.parameters / 1e6:.1f} million")
    print(f"weights          {details.memory_bytes / 2**20:.0f} MiB")
    print(f"native size      {details.native_px} px, in multiples of {details.multiple_px} px")
    print(f"prompts          {'yes' if details.prompts else 'no'}")
    print(f"scale            1, or {MIN_SCALE:g} to {MAX_SCALE:g}")
    limits = ImageLimits()
    for way, pixels in (("in", limits.max_input_pixels), ("out", limits.max_output_pixels)):
        print(f"most pixels {way:<5}{pixels:,}")
    sides = ", ".join(f"{side} px ({kind})" for kind, side in MAX_SIDE_PX.items())
    print(f"longest side     {sides}")
    for name in ("num_inference_steps", "projection", "guidance_strength", "eta", "strength"):
        print(f"{name:<17}{getattr(loaded.defaults, name)}")


app.command()(restore)
app.command()(verify)
app.command()(plan)


def main() -> None:
    """Entry point of the console script."""
    app()
