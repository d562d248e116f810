import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from ray.serve._private import logging_utils, tracing_utils

from deployments import tracing

PATH = "deployments.tracing.span_processors"


@pytest.fixture(autouse=True)
def no_collector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in tracing.ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(logging_utils, "get_serve_logs_dir", lambda: str(tmp_path))


class Collector(HTTPServer):
    """Takes OTLP over HTTP and keeps the names of the spans."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Take)
        self.spans: list[str] = []


class Take(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        got = ExportTraceServiceRequest.FromString(body)
        for resource in got.resource_spans:
            for spans in resource.scope_spans:
                self.server.spans += [f"{self.path} {span.name}" for span in spans.spans]
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def record(processors: list[SpanProcessor]) -> None:
    provider = TracerProvider()
    for processor in processors:
        provider.add_span_processor(processor)
    provider.get_tracer("test").start_span("a picture").end()
    provider.shutdown()


def test_serve_takes_what_it_gets_and_writes_files(tmp_path: Path) -> None:
    record(tracing_utils._load_span_processors(PATH, "unused.json"))
    (file,) = (tmp_path / "spans").iterdir()
    assert '"name": "a picture"' in file.read_text()


@pytest.mark.parametrize("variable", tracing.ENDPOINTS)
def test_a_collector_gets_them_instead(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    path = "/v1/traces" if "TRACES" in variable else ""
    monkeypatch.setenv(variable, f"http://127.0.0.1:{collector.server_port}{path}")
    record(tracing_utils._load_span_processors(PATH, "unused.json"))
    assert collector.spans == ["/v1/traces a picture"]
    assert list(tmp_path.iterdir()) == []
