"""The metrics, for Prometheus."""

import asyncio
import time
from functools import partial
from typing import Final

from anyio import to_thread

from service.http.answer import Answer
from service.http.endpoint import endpoint
from service.observability.metrics import exposition

# The version of the text format that every Prometheus reads.
_TEXT_FORMAT: Final = "text/plain; version=0.0.4; charset=utf-8"
_probe = partial(endpoint, tag="health", limited=False, asks_database=False, probe=True)


class MetricsApi:
    """The scrape. It asks the database nothing: that may be the very thing that is looked into."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._text = b""
        self._begun_at = -1.0

    @_probe("GET", "/metrics", answers={200: None}, media_type="text/plain")
    async def get_metrics(self) -> Answer:
        """Get the metrics for Prometheus.

        In the text exposition format, of all workers together, whichever answers. Aggregates only.
        """
        return Answer(await self._latest(time.monotonic()), media_type=_TEXT_FORMAT)

    async def _latest(self, asked_at: float) -> bytes:
        """Returns the state after `asked_at`. Concurrent scrapes share a result: adding up takes milliseconds."""
        async with self._lock:
            if self._begun_at < asked_at:
                begun_at = time.monotonic()
                # In a thread, because it reads several files of each worker.
                self._text = await to_thread.run_sync(exposition)
                self._begun_at = begun_at
            return self._text
