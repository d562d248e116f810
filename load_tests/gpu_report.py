"""One JSON line a measurement, whatever becomes of it: having no memory is a result."""

import json
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import torch

Figures = Mapping[str, Any]


class Report:
    """Runs measurements one after the other until the time is up; keeps and prints what they say.

    Args:
        always: fields of every line.
    """

    def __init__(self, budget_s: float, **always: Any) -> None:
        self._until_s = time.monotonic() + budget_s
        self._always = always
        self.lines: list[dict[str, Any]] = []

    def left_s(self) -> float:
        """Return the seconds until the time is up."""
        return max(0.0, self._until_s - time.monotonic())

    def measure(self, name: str, call: Callable[[], Figures], **what: Any) -> Figures:
        """Take one measurement; return its figures, none if there are none.

        ``what`` says what is measured: it is in the line beside the figures.
        """
        started = time.monotonic()
        found: Figures = {}
        if started >= self._until_s:
            told: Figures = {"skipped": "no time left"}
        else:
            try:
                told = found = call()
            except torch.OutOfMemoryError as err:
                traceback.clear_frames(err.__traceback__)
                told = {"error": "out of memory"}
            except Exception as err:
                # Whatever one measurement meets, the next may go well.
                traceback.clear_frames(err.__traceback__)
                told = {"error": " ".join(f"{type(err).__name__}: {err}".split())[:300]}
        if torch.cuda.is_available() and "error" in told:
            torch.cuda.empty_cache()
        took_s = round(time.monotonic() - started, 3)
        line = {"measurement": name, **what, **told, "took_s": took_s, **self._always}
        self.lines.append(line)
        print(json.dumps(line), flush=True)
        return found


def rounded(number: float, digits: int = 4) -> float:
    """Keep so many significant digits."""
    return float(f"{number:.{digits}g}")
