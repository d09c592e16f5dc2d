"""Tasks that run beside the requests, for as long as the process does."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

import structlog

from service.observability.logging import error_fields

log = structlog.get_logger(__name__)


def in_background(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Starts work that nobody waits for. If it ends by an error, which is a defect, the log says so at once."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell)
    return task


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancels tasks, and returns when they have ended.

    It may take more than one attempt. Until Python 3.12 `asyncio.wait_for`, with which a connection is waited for,
    forgets a cancellation that comes together with what it waited for (python/cpython#86296): the task went on, and the
    process never ended.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1)


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("defect", task=task.get_name(), **error_fields(error))
