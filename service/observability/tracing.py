"""OpenTelemetry tracing, a span for each request. Imported only if OTEL_EXPORTER_OTLP_ENDPOINT is set.

A span holds no more than the request's log line. OpenTelemetry's own middleware would add paths, which contain the ids
of reservations, and queries, which contain calendar keys.
"""

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import __version__


class Tracing:
    """ASGI middleware around the application; OpenTelemetry's environment variables configure the collector."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        default = Resource({"service.name": "holdfast", "service.version": __version__})
        provider = TracerProvider(resource=default.merge(OTELResourceDetector().detect()))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = provider.get_tracer("holdfast", __version__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request; its span continues the caller's trace, if the headers carry one."""
        caller = extract({str(name, "latin-1"): str(value, "latin-1") for name, value in scope["headers"]})
        method = scope["method"]
        # Without exceptions: their messages may quote the request.
        with self._tracer.start_as_current_span(
            method, caller, SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:

            async def send_traced(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, send_traced)
            finally:
                route = scope.get("route", "unmatched")
                span.update_name(f"{method} {route}")
                span.set_attributes({"http.request.method": method, "http.route": route})
                span.set_attribute("holdfast.request_id", scope["request_id"])
                span.set_attribute("holdfast.code", scope.get("problem_code", ""))
