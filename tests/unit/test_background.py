"""Background tasks: the log of their failures, and their end."""

import asyncio

import pytest
from structlog.testing import capture_logs

from service.background import end, in_background

pytestmark = pytest.mark.anyio


async def test_a_failed_background_task_is_logged() -> None:
    """The message of the exception is left out, because it may quote personal data."""

    personal = "ada" + "@example.com"

    async def fail() -> None:
        raise ValueError(personal)

    with capture_logs() as lines:
        stopped = in_background("stopped", asyncio.sleep(60))
        stopped.cancel()
        await asyncio.wait([in_background("failing", fail()), in_background("succeeding", asyncio.sleep(0)), stopped])
    [line] = lines
    assert (line["event"], line["task"], line["error"]) == ("defect", "failing", "ValueError")
    assert line["log_level"] == "error"
    assert "in fail" in line["traceback"]
    assert personal not in str(line)


async def test_a_task_that_swallows_a_cancellation_is_ended() -> None:
    """Until Python 3.12, a wait for a pool's connection swallows it if a connection is free at that moment."""

    async def forget_once() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(60)

    forgetful, usual = asyncio.create_task(forget_once()), asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await end([forgetful, usual])
        await end([])
    assert forgetful.cancelled()
    assert usual.cancelled()
