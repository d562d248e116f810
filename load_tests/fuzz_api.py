"""Sends what the service's own OpenAPI document allows, and what it forbids, and reads the answers.

    python load_tests/fuzz_api.py [http://127.0.0.1:8000] [--minutes 20]

Without an address it starts a service of its own, with the bundled model. schemathesis makes the
requests, with pictures from `fuzz_hooks`. Its last line is one JSON object; the exit status is 1
where an answer was none of those documented, did not fit its schema, or was a server error.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import measurements

HERE = Path(__file__).resolve().parent
HOOKS = "fuzz_hooks"
ARGS = {
    "model": "bundled",
    "threads": 1,
    "limits": {"max_input_pixels": 4096, "max_output_pixels": 65536, "max_body_bytes": 2**20},
}
# Not among them: whether all that fits the schema is taken, since no schema can say which file is
# broken, and whether what does not fit is refused, which is tested field by field elsewhere. And a
# job that was cancelled can still be asked for.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    measurements.add_option(parser)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, address(args.url) as url:
        report = Path(folder) / "events.ndjson"
        code = fuzz(url, args.minutes, args.seed, report)
        statuses = answers(report)
    figures = {"requests": sum(statuses.values()), "statuses": statuses, "failed": code != 0}
    if args.save:
        measurements.save("fuzz_api", figures)
    print(json.dumps(figures))
    sys.exit(code)


@contextmanager
def address(url: str | None) -> Iterator[str]:
    """Yield the address given, or that of a service which lives as long as the block."""
    if url is not None:
        yield url
        return
    from cluster import service

    with service(ARGS, upscalers=1, ingresses=1) as own:
        yield own


def fuzz(url: str, minutes: float, seed: int, report: Path) -> int:
    """Run schemathesis for so long; return its exit status."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
        *("--checks", ",".join(CHECKS)),
        *("--max-time", str(round(60 * minutes))),
        *("--seed", str(seed)),
        *("--request-timeout", "120"),
        *("--report-ndjson-path", str(report)),
        "--continue-on-failure",
        *("--generation-database", "none"),
    ]
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": HOOKS,
        "PYTHONPATH": os.pathsep.join(
            [*map(str, (HERE, HERE.parent)), os.environ.get("PYTHONPATH", "")]
        ),
    }
    # It keeps what it has found in a folder of where it runs.
    return subprocess.run(command, cwd=report.parent, env=environment, check=False).returncode


def answers(report: Path) -> dict[str, int]:
    """Count the statuses that schemathesis has seen."""
    counts: Counter[str] = Counter()
    for line in report.read_text().splitlines():
        for status in statuses_in(json.loads(line)):
            counts[status] += 1
    return dict(sorted(counts.items()))


def statuses_in(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [str(node["status_code"])] if isinstance(node.get("status_code"), int) else []
        return own + [status for value in node.values() for status in statuses_in(value)]
    if isinstance(node, list):
        return [status for value in node for status in statuses_in(value)]
    return []


if __name__ == "__main__":
    main()
