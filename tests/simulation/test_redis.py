"""The simulated Redis answers the commands of the feed as a real one does."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.sharing import feed, store
from service.sharing.watchers import Change
from tests.redis_server import RedisServer
from tests.simulation.loop import SimulatedLoop, simulate
from tests.simulation.network import Link
from tests.simulation.redis import SimulatedRedis

CHANGE = Change("salon", "cut", None, "2027-01-11T12:00:00+00:00", "2027-01-11T13:00:00+00:00")


class Script:
    """The commands of the feed, and what a server answers: ids by the order in which they come."""

    def __init__(
        self,
        redis: Redis,
        flush: Callable[[], Any],
        fill: Callable[[], Any],
        until_read: Callable[[], Awaitable[None]],
    ) -> None:
        self._redis = redis
        self._until_read = until_read
        self._flush = flush
        self._fill = fill
        self._ids: dict[str, int] = {}
        self.answers: list[Any] = []

    async def run(self) -> None:
        """Runs all commands."""
        redis = self._redis
        begin = await self._note(feed._end_of_stream(redis))
        assert begin.run_id
        assert await self._note(feed._end_of_stream(redis)) == begin
        await self._note(feed._read_after(begin, redis))  # waits in vain
        await self._note(feed._add([CHANGE, CHANGE._replace(resource_id="rosa")], True, redis))
        events = await self._note(feed._read_after(begin, redis))
        last = begin._replace(last_id=events[-1].id)
        reading = asyncio.create_task(feed._read_after(last, redis))
        await self._until_read()
        await feed._add([CHANGE, CHANGE], False, redis)
        await self._note(reading)  # of the two, only the entry that has woken it
        await self._note(feed._read_after(begin._replace(last_id="1-1"), redis))
        await self._note(feed._read_after(begin._replace(run_id="another"), redis))
        for _ in range(40):
            await feed._add([CHANGE] * 10, False, redis)
        await self._note(feed._read_after(last, redis))  # its entry is trimmed
        self.answers.append(len(await redis.xrange(feed._STREAM, "0-0", "9999999999999-0") or ()))
        end = await self._note(feed._end_of_stream(redis))
        self._flush()
        await self._note(feed._read_after(end, redis))
        await self._note(redis.set("holdfast:watch", 1, ex=60))
        self._fill()
        await self._note(redis.set("holdfast:watch", 1, ex=60))
        await self._note(feed._add([CHANGE], False, redis))
        await redis.aclose()

    async def _note(self, command: Awaitable[Any]) -> Any:
        try:
            answer = await command
        except RedisError as error:
            answer = type(error)
        written = answer
        if isinstance(answer, feed._Position):
            written = self._number(answer.last_id)
        elif isinstance(answer, list):
            written = [(self._number(event.id), event.change) for event in answer]
        self.answers.append(written)
        return answer

    def _number(self, entry_id: str) -> int:
        return self._ids.setdefault(entry_id, len(self._ids))


def test_the_simulated_redis_answers_as_a_real_one(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads that wait, are woken or come too late, a stream that is trimmed or gone, and a full memory."""
    # Longer than a busy machine takes to add entries meanwhile.
    monkeypatch.setattr(feed, "_BLOCK_SECONDS", 1.0)
    monkeypatch.setattr(feed, "_REMEMBERED", 100)
    # Of a real stream, a node has this number of entries, if they are small.
    redis_server.client.config_set("stream-node-max-bytes", 0)
    simulated: list[Any] = []

    async def simulation(loop: SimulatedLoop) -> None:
        redis = SimulatedRedis(loop, Random(1))
        loop.listeners[1] = Link(loop, Random(1), redis).connect
        fill = lambda: setattr(redis, "is_full", True)  # noqa: E731
        script = Script(store._client("redis://simulated:1/0"), redis.flush, fill, lambda: asyncio.sleep(0.1))
        await script.run()
        simulated.extend(script.answers)

    async def reality() -> list[Any]:
        client = redis_server.client
        fill = lambda: client.config_set("maxmemory", 1)  # noqa: E731

        async def until_read() -> None:
            while not client.info("clients")["blocked_clients"]:  # noqa: ASYNC110 — of another process
                await asyncio.sleep(0.001)

        script = Script(store._client(redis_server.url), client.flushall, fill, until_read)
        await script.run()
        return script.answers

    simulate(1, simulation)
    assert simulated == asyncio.run(reality())
