"""Background tasks: they run beside the requests until the process stops."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

import structlog

from service.observability.logging import error_fields

log = structlog.get_logger(__name__)


def in_background(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Starts `work` as a task named `name`. An exception that ends it is a defect, and is logged at once."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_log_failure)
    return task


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancels tasks, and returns when all have ended.

    Repeats the cancellation every second: before Python 3.12, `asyncio.wait_for`, which waits for a connection, loses a
    cancellation that coincides with its result (python/cpython#86296), and the task runs on.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("defect", task=task.get_name(), **error_fields(error))
