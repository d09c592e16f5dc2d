"""The cache of availability answers: less than a second old, a single flight for concurrent callers, and invalidated by
every change."""

import asyncio
from typing import Any

import httpx2
import pytest

from service.errors import DatabaseDown
from service.observability.metrics import REGISTRY
from service.sharing import cache
from service.sharing.cache import AnswerCache
from service.sharing.feed import Feed
from service.sharing.store import Store
from tests.database import TestDatabase, at
from tests.http.booking_calls import slot
from tests.http.conftest import ADMIN
from tests.http.manual_clock import ManualClock
from tests.redis_server import RedisServer, sharing

pytestmark = pytest.mark.anyio

LIFE_SECONDS = 0.9


@pytest.fixture(autouse=True)
def enable_cache(monkeypatch: pytest.MonkeyPatch, no_answer_is_kept: None) -> None:  # noqa: ARG001 — before this
    """Restores the lifetime that the service has."""
    monkeypatch.setattr(cache, "LIFE_SECONDS", LIFE_SECONDS)


class CountingSource:
    """Answers with a number that rises by one with each query."""

    def __init__(self) -> None:
        self.queries = 0
        self.is_queried = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self) -> bytes:
        self.queries += 1
        self.is_queried.set()
        answer = str(self.queries).encode()
        await self.may_answer.wait()
        return answer


def cache_count(result: str) -> float:
    """Returns the counter of a result."""
    return REGISTRY.get_sample_value("holdfast_availability_cache_total", {"result": result}) or 0


def test_the_lifetime_of_an_answer_is_less_than_a_second() -> None:
    """The time of transmission comes on top."""
    assert LIFE_SECONDS < 1


async def test_an_answer_is_reused_until_its_lifetime_ends() -> None:
    """Its age counts from the start of the query, because the answer may lack any change made since then."""
    clock, source = ManualClock(), CountingSource()
    answers = AnswerCache(Store(None), clock)
    hits, misses = cache_count("hit"), cache_count("miss")
    source.may_answer.clear()
    asking = asyncio.create_task(answers.get("salon", "question", source))
    await source.is_queried.wait()
    clock.now += 0.5  # the database takes its time
    source.may_answer.set()
    assert await asking == b"1"
    clock.now += 0.39
    assert await answers.get("salon", "question", source) == b"1"
    assert await answers.get("salon", "other question", source) == b"2"
    assert await answers.get("clinic", "question", source) == b"3"
    clock.now += 0.02
    assert await answers.get("salon", "question", source) == b"4"
    assert (cache_count("hit") - hits, cache_count("miss") - misses) == (1, 4)


async def test_concurrent_callers_share_one_query() -> None:
    """A caller that leaves does not cancel the shared query."""
    source = CountingSource()
    answers = AnswerCache(Store(None))
    source.may_answer.clear()
    crowd = [asyncio.create_task(answers.get("salon", "question", source)) for _ in range(100)]
    await asyncio.sleep(0.01)
    crowd[0].cancel()
    source.may_answer.set()
    assert await asyncio.gather(*crowd[1:]) == [b"1"] * 99


async def test_a_late_caller_does_not_join_a_query_older_than_the_lifetime() -> None:
    """The answer may be as old as the query, and without Redis no other process announces what it has changed since."""
    clock, source = ManualClock(), CountingSource()
    answers = AnswerCache(Store(None), clock)
    source.may_answer.clear()
    first = asyncio.create_task(answers.get("salon", "question", source))
    await source.is_queried.wait()
    crowd = [first]
    for seconds in (LIFE_SECONDS - 0.01, 0.02):
        clock.now += seconds
        crowd.append(asyncio.create_task(answers.get("salon", "question", source)))
        await asyncio.sleep(0)
    source.may_answer.set()
    assert await asyncio.gather(*crowd) == [b"1", b"1", b"2"]
    assert await answers.get("salon", "question", source) == b"2"


async def test_a_failure_reaches_all_callers_and_is_not_cached() -> None:
    """The next caller queries again."""
    answers = AnswerCache(Store(None))

    async def fail() -> bytes:
        await asyncio.sleep(0.01)
        raise DatabaseDown

    crowd = await asyncio.gather(*(answers.get("salon", "question", fail) for _ in range(5)), return_exceptions=True)
    assert [type(answer) for answer in crowd] == [DatabaseDown] * 5
    assert await answers.get("salon", "question", CountingSource()) == b"1"


async def test_a_change_invalidates_cached_answers_and_queries_under_way() -> None:
    """A browser that is notified of a change gets an answer from after it."""
    answers, source = AnswerCache(Store(None)), CountingSource()
    feed = Feed(Store(None), answers)
    await answers.get("salon", "question", source)
    feed.announce("salon", {"service_id": "cut", "slot_start": "x", "slot_end": "y"}, moved=False)
    source.may_answer.clear()
    before = asyncio.create_task(answers.get("salon", "question", source))
    await asyncio.sleep(0)
    feed.announce("salon", {"service_id": "cut", "slot_start": "x", "slot_end": "y"}, moved=False)
    after = asyncio.create_task(answers.get("salon", "question", source))
    await asyncio.sleep(0)
    source.may_answer.set()
    assert (await before, await after) == (b"2", b"3")
    assert await answers.get("salon", "question", source) == b"3"


async def test_the_size_of_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers can ask for any number of time ranges."""
    monkeypatch.setattr(cache, "_ANSWERS", 3)
    monkeypatch.setattr(cache, "_BUSINESSES", 4)
    answers, source = AnswerCache(Store(None), ManualClock()), CountingSource()
    for business in range(10):
        for question in range(10):
            await answers.get(str(business), str(question), source)
    assert [len(kept) for kept in answers._own.values()] == [3] * 4
    assert await answers.get("9", "9", source) == b"100"
    assert answers._asked == {}


# With Redis.


async def test_processes_share_answers_and_their_invalidation(redis_server: RedisServer) -> None:
    """A change through one process invalidates the answers of all."""
    async with sharing(redis_server) as one, sharing(redis_server) as two:
        here, there, source = AnswerCache(one), AnswerCache(two), CountingSource()
        feed = Feed(one, here)
        feed.start()
        assert await here.get("salon", "question", source) == await there.get("salon", "question", source) == b"1"
        feed.announce("salon", {"service_id": "cut", "slot_start": "x", "slot_end": "y"}, moved=False)
        async with asyncio.timeout(LIFE_SECONDS / 2):
            while await there.get("salon", "question", source) == b"1":
                pass
        assert source.queries == 2
        await feed.stop()


async def test_redis_keeps_no_answer_beyond_its_lifetime(redis_server: RedisServer) -> None:
    """The expiry is an instant of Redis' own clock, so a late answer is kept for the rest of the lifetime, or not at
    all."""
    async with sharing(redis_server) as store:
        answers = AnswerCache(store)
        await answers.get("salon", "question", CountingSource())
        [key] = redis_server.client.scan_iter("holdfast:availability:*")
        assert 0 < int(str(redis_server.client.pttl(key))) <= LIFE_SECONDS * 1000

        async def late() -> bytes:
            await asyncio.sleep(LIFE_SECONDS + 0.1)
            return b"late"

        assert await answers.get("clinic", "question", late) == b"late"
        assert list(redis_server.client.scan_iter("holdfast:availability:clinic:*")) == []


async def test_an_answer_that_was_queried_before_a_change_is_not_reused(redis_server: RedisServer) -> None:
    """Another process may query just before the change and store its answer just after it."""
    async with sharing(redis_server) as store:
        answers, source = AnswerCache(store), CountingSource()
        source.may_answer.clear()
        slow = asyncio.create_task(answers.get("salon", "question", source))
        await source.is_queried.wait()
        redis_server.client.incr("holdfast:changes:salon")
        source.may_answer.set()
        assert await slow == b"1"
        assert await answers.get("salon", "question", source) == b"2"


async def test_a_change_that_could_not_be_announced_invalidates_all_answers_later(redis_server: RedisServer) -> None:
    """A process without Redis cannot announce its changes; once it has Redis again, it invalidates all answers."""
    async with sharing(redis_server) as one, sharing(redis_server) as two:
        there, source = AnswerCache(two), CountingSource()
        feed = Feed(one, AnswerCache(one))
        one._up = False
        feed.announce("salon", {"service_id": "cut", "slot_start": "x", "slot_end": "y"}, moved=False)
        assert await there.get("salon", "question", source) == b"1"
        one._up = True
        feed.start()
        async with asyncio.timeout(LIFE_SECONDS / 2):
            while await there.get("salon", "question", source) == b"1":
                pass
        await feed.stop()


async def test_without_its_redis_the_cache_is_bypassed(redis_server: RedisServer) -> None:
    """A single process does not learn of the changes of others."""
    async with sharing(redis_server) as store:
        answers, source, bypassed = AnswerCache(store), CountingSource(), cache_count("bypass")
        redis_server.kill()
        assert [await answers.get("salon", "question", source) for _ in range(3)] == [b"1", b"2", b"3"]
        assert cache_count("bypass") - bypassed >= 2


async def test_a_slot_that_was_just_reserved_is_not_listed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The process that reserved it invalidates its own answers at once."""
    database.make_service()
    window = {"businessId": "salon", "serviceId": "cut", "from": at(10).isoformat(), "to": at(11).isoformat()}

    async def listed() -> Any:
        return (await client.get("/api/booking/availability", params=window)).json()["slots"]

    assert len(await listed()) == 1
    held = (await client.post("/api/booking/reserve", json=slot())).json()
    assert await listed() == []
    # A change in the database alone shows later. That is harmless: a listed slot is not a promise.
    database.release(held["reservationId"])
    assert await listed() == []
    assert (await client.post("/api/booking/reserve", json=slot())).status_code == 201


async def test_a_change_of_the_catalog_is_listed_at_once(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """An owner who has just closed a day checks the result."""
    database.make_service()
    window = {"businessId": "salon", "serviceId": "cut", "from": at(10).isoformat(), "to": at(11).isoformat()}
    open_before = (await client.get("/api/booking/availability", params=window)).json()["slots"]
    closure = {"from": at(9).isoformat(), "to": at(12).isoformat()}
    await client.put("/api/catalog/businesses/salon/closures/away", json=closure, headers=ADMIN)
    open_after = (await client.get("/api/booking/availability", params=window)).json()["slots"]
    assert (len(open_before), len(open_after)) == (1, 0)
