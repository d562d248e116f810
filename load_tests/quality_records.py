"""Measures of pictures that outlast the run: JSON lines, one a method and picture."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Measures = Mapping[str, float | None]


class Records:
    """Reads several files, so that several runs may share what they find; writes to the first.

    A line that a run was cut off in is passed over.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._path = paths[0]
        self._found: dict[str, Measures] = {}
        for path in paths:
            lines = path.read_text().splitlines() if path.exists() else []
            for line in lines:
                self._read(line)

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: Mapping[str, Any]) -> Measures | None:
        """Return what was measured under a key."""
        return self._found.get(_name(key))

    def add(self, key: Mapping[str, Any], measures: Measures) -> None:
        """Keep what was measured, in the file too."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        cut_off = self._path.exists() and not self._path.read_bytes().endswith(b"\n")
        with self._path.open("a") as file:
            # An empty file has no line to end, but an empty line harms nobody.
            line = json.dumps({"key": key, "measures": measures}, ensure_ascii=False)
            file.write("\n" * cut_off + line + "\n")
        self._found[_name(key)] = measures

    def _read(self, line: str) -> None:
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            return
        self._found[_name(record["key"])] = record["measures"]


def _name(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)
