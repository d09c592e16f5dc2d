"""Notices when a client has gone away while its request waits, so that nobody works for it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from starlette.types import Receive

T = TypeVar("T")

# Most requests are answered before that; only the others are worth a watcher.
_PATIENCE_SECONDS: Final = 0.25


class ClientGone(Exception):
    """There is nobody left to answer."""


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Awaits `work`, but cancels it when the client disconnects. Raises `ClientGone` then.

    The body must have been read: from then on all that `receive` can tell is the disconnect.
    """
    task = asyncio.current_task()
    assert task is not None
    watcher: asyncio.Task[None] | None = None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    def begin() -> None:
        nonlocal watcher
        watcher = asyncio.create_task(watch())

    timer = asyncio.get_running_loop().call_later(_PATIENCE_SECONDS, begin)
    try:
        return await work
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()
