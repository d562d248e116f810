"""What every command of the command line says and does when it cannot go on.

Exit codes: 0 all done, 1 some of it failed, 2 the call is wrong, 3 the model cannot be loaded.
"""

from typing import TYPE_CHECKING, Never

import typer
from rich.console import Console

from nullscale.errors import ModelLoadError

if TYPE_CHECKING:
    from nullscale.networks.model import SRModel

SOME_FAILED, WRONG_CALL, NO_MODEL = 1, 2, 3

console = Console(stderr=True)


def load(model: str, device: str, dtype: str, quantize: str | None = None) -> "SRModel":
    """Load a model, or end the process with one line."""
    # Takes seconds, and some commands never come here.
    from nullscale.networks.loading import load_model

    try:
        return load_model(model, device=device, dtype=dtype, quantize=quantize)
    except ModelLoadError as err:
        stop(str(err), NO_MODEL)


def stop(message: str, code: int) -> Never:
    """End the process with a complaint."""
    complain(message)
    raise typer.Exit(code)


def complain(message: str) -> None:
    """Say what is wrong, in one line however long."""
    console.print(message, style="red", highlight=False, markup=False, soft_wrap=True)
