"""Cancels the work for a client that went away, so that the service does not decide what nobody will read."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from service.background import Deadlines

T = TypeVar("T")

# Most requests are answered before that; only the others are worth a task that watches the connection.
_PATIENCE_SECONDS: Final = 0.25


async def disconnected(receive: Receive) -> None:
    """Returns when the client has disconnected. The body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


@dataclass(slots=True, eq=False)
class _Waiting:
    task: asyncio.Task[Any]
    receive: Receive
    watcher: asyncio.Task[None] | None = None
    gone: bool = False

    def start_watching(self) -> None:
        self.watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        await disconnected(self.receive)
        self.gone = True
        self.task.cancel()


class Disconnects:
    """Watches the connections of the requests that take long."""

    def __init__(self) -> None:
        self._patience: Deadlines[_Waiting] = Deadlines(_PATIENCE_SECONDS, _Waiting.start_watching)

    async def unless_gone(self, receive: Receive, work: Coroutine[Any, Any, T]) -> T:
        """Awaits `work`, and cancels it when the client disconnects. Raises `ClientDisconnect` then. The body must have
        been read: from then on `receive` returns nothing but the disconnect."""
        task = asyncio.current_task()
        assert task is not None
        waiting = _Waiting(task, receive)
        self._patience.add(waiting)
        try:
            return await work
        except asyncio.CancelledError:
            if waiting.gone and task.uncancel() == 0:
                raise ClientDisconnect from None
            raise
        finally:
            self._patience.discard(waiting)
            if waiting.watcher:
                waiting.watcher.cancel()
