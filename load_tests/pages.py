"""How templates become pages."""

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"


def environment() -> Environment:
    """Return what renders the templates of this folder; an unknown name is an error."""
    made = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"fixed": fixed, "signed": signed, "thousands": lambda number: f"{number:,}"}
    return made


def fixed(value: float | None, digits: int) -> str:
    """Return a number with so many digits, a dash for none; a half is rounded up."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    rounded = Decimal(str(value)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    # Adding zero takes the sign off another.
    return str(rounded + 0)


def signed(value: float, digits: int) -> str:
    """Return a number as `fixed` does, with its sign."""
    text = fixed(value, digits).replace("-", "−")
    return text if text.startswith("−") or not float(text) else f"+{text}"


def ends(values: Sequence[float]) -> str:
    """Return the first and the last of a series."""
    return f"{fixed(values[0], 0)}, {fixed(values[-1], 0)}"
