"""Each kind of locust's users against the service's own HTTP side with a fake worker.

Locust runs as a process of its own: it patches the sockets of the one it is in.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from fake_service import application
from fake_upscaler import FakeUpscaler
from ray.serve.exceptions import BackPressureError
from serving import serving

LOCUSTFILE = Path(__file__).parents[2] / "load_tests" / "locustfile.py"
NAMES = {
    "AppUser": {"small picture"},
    "BatchUser": {
        "job: submit",
        "job: status",
        "job: events",
        "job: result",
        "job: forget",
        "job: from the first event to the end",
    },
    "ImpatientUser": {"left", "job: submit", "job: cancel"},
    "PatientUser": {"picture, again when told"},
    "ClumsyUser": {
        "mistake: words",
        "mistake: another format",
        "mistake: cut off",
        "mistake: scale",
        "mistake: steps",
        "mistake: field",
        "mistake: no such job",
    },
}


def locust(
    upscaler: FakeUpscaler, users: Iterable[str], *, seconds: int = 12
) -> tuple[int, dict[str, Any]]:
    """Let the users come for so long; return the exit status, and the statistics by name."""
    with serving(lambda: application(upscaler)) as url:
        command = [
            *(sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--host", url),
            *("--headless", "--users", "10", "--spawn-rate", "10", "--run-time", f"{seconds}s"),
            *("--small-px", "32", "--large-px", "48", "--think-s", "0.1", "--patience-s", "0.1"),
            *("--json", "--loglevel", "WARNING", *users),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
    # Shown where the test fails: an exception in a user's own code.
    print(done.stderr)
    try:
        return done.returncode, {entry["name"]: entry for entry in json.loads(done.stdout)}
    except ValueError:
        pytest.fail(done.stdout)


def test_every_user_gets_what_the_contract_promises() -> None:
    upscaler = FakeUpscaler(delay_s=0.01)
    code, found = locust(upscaler, NAMES, seconds=15)
    failed = {name: entry["num_failures"] for name, entry in found.items() if entry["num_failures"]}
    assert (code, failed) == (0, {})
    assert set(found) <= set().union(*NAMES.values())
    # A busy machine gets through less.
    assert all(set(found) & names for names in NAMES.values()), set(found)
    assert len({tuple(call["image"].shape) for call in upscaler.calls}) > 2
    assert len({call["params"]["scale"] for call in upscaler.calls}) == 3


def test_one_who_is_told_to_comes_again() -> None:
    upscaler = FakeUpscaler(*(BackPressureError(num_queued_requests=9, max_queued_requests=9),) * 5)
    code, found = locust(upscaler, ["PatientUser"])
    assert code == 0
    assert found["told to come again"]["num_requests"] == 5
    assert found["picture, again when told"]["num_requests"] > 0


def test_a_refusal_is_a_failure_of_one_who_does_not() -> None:
    upscaler = FakeUpscaler(BackPressureError(num_queued_requests=9, max_queued_requests=9))
    code, found = locust(upscaler, ["AppUser"])
    assert (code, found["small picture"]["num_failures"]) == (1, 1)
