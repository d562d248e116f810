"""A minute of schemathesis against the service's own OpenAPI document, over real sockets.

`load_tests/fuzz_api.py` is the long form, for a live service.
"""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fuzz_api
import pytest
import uvicorn
from fake_service import application
from fake_upscaler import FakeUpscaler

MINUTES = 1.0


class Server(uvicorn.Server):
    """A server on a thread of its own, whose event loop the fakes are made in."""

    async def serve(self, sockets: object = None) -> None:
        self.config.app = application(FakeUpscaler())
        await super().serve()


@pytest.fixture
def url() -> Iterator[str]:
    server = Server(uvicorn.Config(app="none", port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    (listening,) = server.servers
    yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_what_is_documented_is_what_is_answered(url: str, tmp_path: Path) -> None:
    report = tmp_path / "events.ndjson"
    assert fuzz_api.fuzz(url, MINUTES, seed=0, report=report) == 0
    answers = fuzz_api.answers(report)
    assert not [status for status in answers if status >= "500"]
    # It has seen pictures, jobs and refusals.
    assert {"200", "202", "404", "405", "410", "415", "422"} <= set(answers)
