"""Measurements in a process of their own: nothing else is on the device, nothing else compiled."""

import json
import subprocess
import sys
from collections.abc import Iterator

from gpu_report import Figures

LIMIT_S = 120


def said_by(script: str, *arguments: object, left_s: float) -> Iterator[Figures]:
    """Run a script of Python's; yield its JSON lines, and print what else it says.

    It runs for `LIMIT_S` at most, or for ``left_s`` where that is less; what it has said by then
    counts.

    Raises:
        RuntimeError: it said less than was asked for; with its last words.
    """
    limit_s = min(LIMIT_S, left_s)
    command = [sys.executable, script, *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
        said, words = done.stdout, done.stderr
    except subprocess.TimeoutExpired as err:
        said, words = (err.stdout or b"").decode(), f"still running after {limit_s:.0f} s"
    for line in said.splitlines():
        if line.startswith("{"):
            yield json.loads(line)
        else:
            print(line, file=sys.stderr)
    raise RuntimeError(" ".join(words.split())[-250:])
