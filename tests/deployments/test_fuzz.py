"""Two minutes of schemathesis against the service's own OpenAPI document, over real sockets.

`load_tests/fuzz_api.py` is the long form, for a live service.
"""

from collections.abc import Iterator
from pathlib import Path

import fuzz_api
import pytest
from fake_service import application
from fake_upscaler import FakeUpscaler
from serving import serving

MINUTES = 1.9


@pytest.fixture
def url() -> Iterator[str]:
    with serving(lambda: application(FakeUpscaler())) as address:
        yield address


def test_what_is_documented_is_what_is_answered(url: str, tmp_path: Path) -> None:
    report = tmp_path / "events.ndjson"
    assert fuzz_api.fuzz(url, MINUTES, seed=0, report=report) == 0
    answers = fuzz_api.answers(report)
    assert not [status for status in answers if status >= "500"]
    # It has seen pictures, jobs and refusals.
    assert {"200", "202", "404", "405", "410", "415", "422"} <= set(answers)
