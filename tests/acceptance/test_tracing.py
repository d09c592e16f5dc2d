"""Traces: a span for each request, with the content of its log line."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.acceptance.clients import slot
from tests.acceptance.conftest import Serve
from tests.database import TestDatabase
from tests.serving import SECRETS, error_of, wait_until

pytestmark = pytest.mark.anyio

# The trace of the caller.
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


class Collector(ThreadingHTTPServer):
    """Receives the export of OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        """Returns the value of OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> dict[str, dict[str, Any]]:
        """Returns the spans by request id: trace, name and attributes."""
        resources = [resource for body in self.bodies for resource in _export(body).resource_spans]
        assert all(_values(resource.resource.attributes)["service.name"] == "holdfast" for resource in resources)
        spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
        return {
            _values(span.attributes)["holdfast.request_id"]: {
                "trace": span.trace_id.hex(),
                "name": span.name,
                **_values(span.attributes),
            }
            for span in spans
        }


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — its name in the library
        """Suppresses the log of each request."""


def _export(body: bytes) -> ExportTraceServiceRequest:
    export = ExportTraceServiceRequest()
    export.ParseFromString(body)
    return export


def _values(attributes: Any) -> dict[str, Any]:
    return {a.key: a.value.string_value or a.value.int_value for a in attributes}


@contextmanager
def running_collector() -> Iterator[Collector]:
    """Runs a collector."""
    with Collector() as collector:
        thread = Thread(target=collector.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


async def test_each_request_is_a_span_of_its_callers_trace(database: TestDatabase, serve: Serve) -> None:
    """The span is named by the route's template; it has neither path nor query, which may hold credentials."""
    database.make_service()
    with running_collector() as collector:
        service = serve(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY=50, WORKERS=2)
        async with service.client() as client:
            held = await client.post("/api/booking/reserve", json=slot(), headers=TRACEPARENT)
            hold = held.json()["reservationId"]
            answers = [
                held,
                await client.get(f"/api/booking/reservations/{hold}"),
                await client.get("/api/booking/calendar/salon.ics", params={"key": "quince"}),
                await client.get("/nowhere/quince"),
            ]
        ids = [answer.headers["x-request-id"] for answer in answers]
        wait_until(lambda: collector.spans().keys() >= set(ids), "the spans")
        spans = [collector.spans()[i] for i in ids]
    parts = ("name", "http.route", "http.response.status_code", "holdfast.code")
    assert [tuple(span[part] for part in parts) for span in spans] == [
        ("POST /api/booking/reserve", "/api/booking/reserve", 201, 0),
        ("GET /api/booking/reservations/{reservationId}", "/api/booking/reservations/{reservationId}", 200, 0),
        (
            "GET /api/booking/calendar/{businessId}.ics",
            "/api/booking/calendar/{businessId}.ics",
            answers[2].status_code,
            answers[2].json()["code"],
        ),
        ("GET unmatched", "unmatched", 404, "NOT_FOUND"),
    ]
    assert spans[0]["trace"] == TRACE
    assert len({span["trace"] for span in spans}) == len(spans)
    sent = b"".join(collector.bodies)
    assert hold.encode() not in sent
    assert b"quince" not in sent


def test_the_error_for_missing_packages_names_the_extra(database: TestDatabase, tmp_path: Path) -> None:
    """It is one line, before the service starts."""
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise ImportError")
    collector = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "PYTHONPATH": tmp_path}
    line = error_of("serve", DATABASE_URL=database.url, **SECRETS, **collector)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in line
    assert "pip install 'holdfast[otel]'" in line


def test_opentelemetry_is_imported_only_with_an_endpoint(serve: Serve, tmp_path: Path) -> None:
    """The import takes time and memory, and the packages are optional."""
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise ImportError")
    service = serve(PYTHONPATH=tmp_path)
    assert "ImportError" not in service.log()
