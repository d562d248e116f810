"""Spans of Serve's proxy and replicas: where they go.

Named by ``RAY_SERVE_TRACING_EXPORTER_IMPORT_PATH=deployments.tracing.span_processors`` in the
environment of every node; ``RAY_SERVE_TRACING_SAMPLING_RATIO`` says how many (0.01 by default).
"""

import os

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from ray.serve._private.tracing_utils import default_tracing_exporter

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def span_processors() -> list[SpanProcessor]:
    """OTLP over HTTP where OpenTelemetry's own variables name a collector; else Serve's files.

    The files lie beside Serve's logs, in ``spans/``, one a process.

    Raises:
        ImportError: a collector is named, but the extra ``tracing`` is not installed.
    """
    if not any(os.environ.get(name) for name in ENDPOINTS):
        files: list[SpanProcessor] = default_tracing_exporter(f"{os.getpid()}_tracing.json")
        return files
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return [BatchSpanProcessor(OTLPSpanExporter())]
