import io
import json
import logging
import logging.handlers
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray.serve.context
from ray.serve._private import logging_utils
from ray.serve._private.common import ServeComponentType
from ray.serve.schema import EncodingType, LoggingConfig

from deployments import logs

Configure = Callable[[EncodingType], Path]


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    """Serve's own set-up of a replica's logger; returns the log file."""
    serve = logging.getLogger(logs.SERVE_LOGGER)
    before = (serve.propagate, serve.level, list(serve.handlers))
    opened: list[logging.Handler] = []
    # A replica's print and stderr go to its log as well; the test's own do not.
    monkeypatch.setattr(logging_utils, "RAY_SERVE_LOG_TO_STDERR", True)

    def configured(encoding: EncodingType) -> Path:
        logging_utils.configure_component_logger(
            component_name="nullscale_Upscaler",
            component_id="abc",
            logging_config=LoggingConfig(encoding=encoding, logs_dir=str(tmp_path)),
            component_type=ServeComponentType.REPLICA,
            max_bytes=10**6,
            backup_count=1,
        )
        opened.extend(serve.handlers)
        (path,) = tmp_path.glob("*.log")
        return path

    yield configured
    for handler in opened:
        if isinstance(handler, logging.handlers.MemoryHandler) and handler.target is not None:
            handler.target.close()
        handler.close()
    serve.propagate, serve.level = before[:2]
    serve.handlers[:] = before[2]


@pytest.fixture
def request_context(monkeypatch: pytest.MonkeyPatch) -> None:
    context = ray.serve.context._RequestContext(request_id="mine", route="/v1/upscale")
    monkeypatch.setattr(ray.serve.context, "_get_serve_request_context", lambda: context)


@pytest.mark.parametrize("name", ["deployments.dispatch", "sr_engine.engine"])
def test_json_lines_have_the_request_id(
    configure: Configure, request_context: None, name: str
) -> None:
    path = configure(EncodingType.JSON)
    logs.join_serve()
    logging.getLogger(name).warning("%s of %d", "one", 2, extra={"outcome": "done"})
    (line,) = path.read_text().splitlines()
    written = json.loads(line)
    assert written["message"] == "one of 2"
    assert written["request_id"] == "mine"
    assert written["outcome"] == "done"
    assert written["levelname"] == "WARNING"


def test_text_lines_have_the_request_id(configure: Configure, request_context: None) -> None:
    path = configure(EncodingType.TEXT)
    logs.join_serve()
    logging.getLogger("deployments.access_log").info("done")
    (line,) = path.read_text().splitlines()
    assert line.endswith("mine -- done")


def test_a_line_of_the_engines_thread_names_its_request(configure: Configure) -> None:
    path = configure(EncodingType.JSON)
    logs.join_serve()
    logging.getLogger("sr_engine.failures").error("failed", extra={"request_id": "mine.1a2b"})
    assert json.loads(path.read_text())["request_id"] == "mine.1a2b"


def test_another_configuration_of_serves_holds_for_ours(configure: Configure) -> None:
    path = configure(EncodingType.JSON)
    logs.join_serve()
    configure(EncodingType.TEXT)
    logging.getLogger("deployments.x").info("again")
    (line,) = path.read_text().splitlines()
    assert line.endswith("-- again")


def test_lines_reach_stderr(configure: Configure) -> None:
    configure(EncodingType.JSON)
    logs.join_serve()
    stream = io.StringIO()
    handlers = logging.getLogger(logs.SERVE_LOGGER).handlers
    (handler,) = (h for h in handlers if isinstance(h, logging.StreamHandler))
    handler.setStream(stream)
    logging.getLogger("sr_engine.engine").error("a line")
    assert stream.getvalue().endswith("a line\n")


def test_the_level_is_serves(configure: Configure) -> None:
    path = configure(EncodingType.JSON)
    logs.join_serve()
    logging.getLogger("sr_engine.engine").debug("too much")
    assert path.read_text() == ""
