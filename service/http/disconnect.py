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


async def _disconnected(receive: Receive) -> None:
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

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        except asyncio.CancelledError:
            if self.gone and self.task.uncancel() == 0:
                raise ClientDisconnect from None
            raise
        finally:
            if self.watcher:
                self.watcher.cancel()

    async def _watch(self) -> None:
        await _disconnected(self.receive)
        self.gone = True
        self.task.cancel()


def _waiting(receive: Receive) -> _Waiting:
    task = asyncio.current_task()
    assert task is not None
    return _Waiting(task, receive)


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Does the same as `Disconnects.unless_gone`, and watches the connection from the beginning."""
    waiting = _waiting(receive)
    waiting.start_watching()
    return await waiting.run(work)


class Disconnects:
    """Watches the connections of the requests that take long."""

    def __init__(self) -> None:
        self._patience: Deadlines[_Waiting] = Deadlines(_PATIENCE_SECONDS, _Waiting.start_watching)

    async def unless_gone(self, receive: Receive, work: Coroutine[Any, Any, T]) -> T:
        """Awaits `work`, and cancels it when the client disconnects. Raises `ClientDisconnect` then. The body must have
        been read: from then on `receive` returns nothing but the disconnect."""
        waiting = _waiting(receive)
        self._patience.add(waiting)
        try:
            return await waiting.run(work)
        finally:
            self._patience.discard(waiting)
