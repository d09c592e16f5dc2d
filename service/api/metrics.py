"""The metrics, for Prometheus."""

import asyncio
import time
from typing import Final

from anyio import to_thread
from starlette.responses import Response

from service.http.documentation import examples
from service.http.endpoints import Call, Endpoint
from service.observability.metrics import exposition

# The version of the text format that every Prometheus reads.
_TEXT_FORMAT: Final = "text/plain; version=0.0.4; charset=utf-8"


class MetricsEndpoints:
    """Answers from what was counted, and asks the database nothing: that may be the very thing that is looked into."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._text = b""
        self._begun_at = -1.0

    def endpoints(self) -> list[Endpoint]:
        """What there is to call."""
        return [
            Endpoint(
                "GET",
                "/metrics",
                self.metrics,
                "Metrics for Prometheus",
                {200: None},
                "In the text exposition format, of all workers together, whichever answers. Aggregates only.",
                operation_id="getMetrics",
                tag="health",
                asks_database=False,
                media_type="text/plain",
                examples=examples.METRICS,
            )
        ]

    async def metrics(self, call: Call) -> Response:  # noqa: ARG002 — nothing to parse
        """GET /metrics"""
        return Response(await self._latest(time.monotonic()), headers={"Content-Type": _TEXT_FORMAT})

    async def _latest(self, asked_at: float) -> bytes:
        """How things are after `asked_at`. To add up takes milliseconds: who asks meanwhile shares the next answer."""
        async with self._lock:
            if self._begun_at < asked_at:
                begun_at = time.monotonic()
                # In a thread, because it reads some files of each worker, and others want to be answered meanwhile.
                self._text = await to_thread.run_sync(exposition)
                self._begun_at = begun_at
            return self._text
