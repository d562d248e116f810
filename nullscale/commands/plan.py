"""The command `nullscale plan`: how many GPUs to rent for a load."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from nullscale.errors import InvalidParameter, ModelLoadError
from nullscale.maths.params import Projection, UpscaleParams
from nullscale.simulation.capacity import (
    Prediction,
    Service,
    load_of,
    parse_counts,
    parse_mix,
    predict,
)
from nullscale.simulation.devices import find_device

ASSUMPTIONS = (
    "Simulated: batches take what the device's published figures say, ± 10 %, until they are "
    "measured on a GPU. Requests come at random times (Poisson) and all stay; every replica is up; "
    "nobody is refused."
)

MOST = 1e9
"""The largest number that an option takes: beyond, there is nothing to plan."""


def plan(
    rate: Annotated[float, typer.Option(min=0.001, max=MOST, help="pictures an hour that arrive")],
    gpu: Annotated[
        str,
        typer.Option(
            help="device of the table in nullscale/simulation/devices.json, ?slow=F for slower"
        ),
    ] = "sd3.5-medium-h100",
    gpus: Annotated[str, typer.Option(help="counts to try, as 1,2,4-8")] = "1-8",
    mix: Annotated[
        str, typer.Option(help="sizes of inputs, HEIGHTxWIDTH:SCALE:WEIGHT[,…]")
    ] = "256x256:4:1",
    num_inference_steps: Annotated[int | None, typer.Option(help="denoising steps")] = None,
    projection: Annotated[Projection | None, typer.Option(help="DDNM projection")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="1 is off, else twice")] = None,
    target_p95: Annotated[
        float | None,
        typer.Option(min=0, max=MOST, help="seconds; the smallest count that meets it is named"),
    ] = None,
    added_ms: Annotated[
        float, typer.Option(min=0, max=MOST, help="of HTTP and image coding, a request")
    ] = 80.0,
    max_active: Annotated[int, typer.Option(min=1, help="as in the Serve configuration")] = 8,
    max_ongoing: Annotated[int, typer.Option(min=1, help="max_ongoing_requests of it")] = 16,
    requests: Annotated[int, typer.Option(min=100, max=100_000, help="to simulate")] = 3000,
    seed: Annotated[int, typer.Option(help="of the arrivals")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Say what so many GPUs make of a load: utilisation, pictures an hour, response times."""
    given = {
        "num_inference_steps": num_inference_steps,
        "projection": projection,
        "guidance_scale": guidance_scale,
    }
    try:
        service = Service(find_device(gpu), max_active, max_ongoing, added_ms / 1e3)
        counts, sizes = parse_counts(gpus), parse_mix(mix)
        params = UpscaleParams().override(given)
        load = load_of(sizes, params, service.device, per_hour=rate, requests=requests, seed=seed)
    except InvalidParameter as err:
        raise typer.BadParameter(err.message, param_hint=_option(err.field)) from err
    except ModelLoadError as err:
        raise typer.BadParameter(str(err), param_hint="--gpu") from err
    found = predict(load, counts, service, seed=seed)
    progress = Console(stderr=True)
    predictions = list(track(found, "simulating", len(counts), console=progress, transient=True))
    enough = None
    if target_p95 is not None:
        enough = next((p.gpus for p in predictions if p.meets(target_p95)), None)
    if as_json:
        rows = [asdict(prediction) for prediction in predictions]
        told = {"gpus": rows, "target_p95_s": target_p95, "enough_gpus": enough}
        print(json.dumps({**told, "assumptions": ASSUMPTIONS}))
        return
    console = Console()
    console.print(_table(predictions, enough))
    if target_p95 is not None:
        verdict = f"needs {enough} GPUs" if enough else "is met by none of these"
        console.print(f"A 95th percentile of {target_p95:g} s {verdict}.")
    console.print(ASSUMPTIONS)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _table(predictions: list[Prediction], enough: int | None) -> Table:
    table = Table("GPUs", "busy", "pictures an hour, at most", "p50", "p95", "p99")
    for column in table.columns:
        column.justify = "right"
    for found in predictions:
        times = (found.p50_s, found.p95_s, found.p99_s)
        table.add_row(
            str(found.gpus),
            f"{found.utilisation:.0%}",
            f"{found.full_per_hour:,.0f}",
            *("grows" if seconds is None else f"{seconds:.2f} s" for seconds in times),
            style="bold" if found.gpus == enough else None,
        )
    return table
