"""Work that nobody waits for."""

import asyncio

import pytest
from structlog.testing import capture_logs

from service.background import end, in_background

pytestmark = pytest.mark.anyio


async def test_work_that_ends_by_an_error_is_told_in_the_log() -> None:
    """Nobody would miss it until it is needed. The message may quote what somebody sent, so it is left out."""

    sent = "ada" + "@example.com"

    async def fail() -> None:
        raise ValueError(sent)

    with capture_logs() as lines:
        stopped = in_background("stopped", asyncio.sleep(60))
        stopped.cancel()
        await asyncio.wait([in_background("failing", fail()), in_background("succeeding", asyncio.sleep(0)), stopped])
    [line] = lines
    assert (line["event"], line["task"], line["error"]) == ("defect", "failing", "ValueError")
    assert line["log_level"] == "error"
    assert "in fail" in line["traceback"]
    assert sent not in str(line)


async def test_work_that_forgets_that_it_was_cancelled_is_ended_all_the_same() -> None:
    """As what waits for a connection does until Python 3.12, if there is one at that very moment."""

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
