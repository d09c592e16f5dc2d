"""The cache of answers about what is free: less than a second old, asked once for a crowd, and worthless when
something was changed."""

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
from tests.http.conftest import ADMIN
from tests.http.manual_clock import ManualClock
from tests.redis_server import RedisServer, sharing

pytestmark = pytest.mark.anyio

LIFE_SECONDS = 0.9


@pytest.fixture(autouse=True)
def answers_are_kept(monkeypatch: pytest.MonkeyPatch, no_answer_is_kept: None) -> None:  # noqa: ARG001 — before this
    """As the service keeps them."""
    monkeypatch.setattr(cache, "LIFE_SECONDS", LIFE_SECONDS)


class Oracle:
    """Answers with a number that rises by one with each question."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self) -> bytes:
        self.asked += 1
        self.is_asked.set()
        answer = str(self.asked).encode()
        await self.may_answer.wait()
        return answer


def counted(result: str) -> float:
    """What the metric says."""
    return REGISTRY.get_sample_value("holdfast_availability_cache_total", {"result": result}) or 0


def test_the_life_of_an_answer_is_less_than_a_second() -> None:
    """What comes on top is the time that it is on its way."""
    assert LIFE_SECONDS < 1


async def test_an_answer_is_given_again_until_it_is_too_old() -> None:
    """Its age counts from before it was asked for: what is changed meanwhile it may not know."""
    clock, oracle = ManualClock(), Oracle()
    answers = AnswerCache(Store(None), clock)
    hits, misses = counted("hit"), counted("miss")
    oracle.may_answer.clear()
    asking = asyncio.create_task(answers.get("salon", "question", oracle))
    await oracle.is_asked.wait()
    clock.now += 0.5  # the database takes its time
    oracle.may_answer.set()
    assert await asking == b"1"
    clock.now += 0.39
    assert await answers.get("salon", "question", oracle) == b"1"
    assert await answers.get("salon", "other question", oracle) == b"2"
    assert await answers.get("clinic", "question", oracle) == b"3"
    clock.now += 0.02
    assert await answers.get("salon", "question", oracle) == b"4"
    assert (counted("hit") - hits, counted("miss") - misses) == (1, 4)


async def test_a_crowd_asks_once() -> None:
    """However many come before there is an answer; and whoever goes away does not take it with them."""
    oracle = Oracle()
    answers = AnswerCache(Store(None))
    oracle.may_answer.clear()
    crowd = [asyncio.create_task(answers.get("salon", "question", oracle)) for _ in range(100)]
    await asyncio.sleep(0.01)
    crowd[0].cancel()
    oracle.may_answer.set()
    assert await asyncio.gather(*crowd[1:]) == [b"1"] * 99


async def test_who_comes_late_does_not_join_a_look_up_that_began_long_ago() -> None:
    """Its answer may be from then, and without Redis no other process tells of what it has changed since."""
    clock, oracle = ManualClock(), Oracle()
    answers = AnswerCache(Store(None), clock)
    oracle.may_answer.clear()
    first = asyncio.create_task(answers.get("salon", "question", oracle))
    await oracle.is_asked.wait()
    crowd = [first]
    for seconds in (LIFE_SECONDS - 0.01, 0.02):
        clock.now += seconds
        crowd.append(asyncio.create_task(answers.get("salon", "question", oracle)))
        await asyncio.sleep(0)
    oracle.may_answer.set()
    assert await asyncio.gather(*crowd) == [b"1", b"1", b"2"]
    assert await answers.get("salon", "question", oracle) == b"2"


async def test_a_failure_is_told_to_all_and_not_kept() -> None:
    """The next one asks again."""
    answers = AnswerCache(Store(None))

    async def fail() -> bytes:
        await asyncio.sleep(0.01)
        raise DatabaseDown

    crowd = await asyncio.gather(*(answers.get("salon", "question", fail) for _ in range(5)), return_exceptions=True)
    assert [type(answer) for answer in crowd] == [DatabaseDown] * 5
    assert await answers.get("salon", "question", Oracle()) == b"1"


async def test_what_was_asked_before_a_change_is_no_answer_after_it() -> None:
    """Neither what is kept, nor what is on its way: a browser that is told of a change gets what is so since."""
    answers, oracle = AnswerCache(Store(None)), Oracle()
    feed = Feed(Store(None), answers)
    await answers.get("salon", "question", oracle)
    feed.announce("salon", {"service_id": "cut", "slot_start": "x", "slot_end": "y"}, moved=False)
    oracle.may_answer.clear()
    before = asyncio.create_task(answers.get("salon", "question", oracle))
    await asyncio.sleep(0)
    feed.announce("salon", {"service_id": "cut", "slot_start": "x", "slot_end": "y"}, moved=False)
    after = asyncio.create_task(answers.get("salon", "question", oracle))
    await asyncio.sleep(0)
    oracle.may_answer.set()
    assert (await before, await after) == (b"2", b"3")
    assert await answers.get("salon", "question", oracle) == b"3"


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are as many questions as there are stretches of time."""
    monkeypatch.setattr(cache, "_ANSWERS", 3)
    monkeypatch.setattr(cache, "_BUSINESSES", 4)
    answers, oracle = AnswerCache(Store(None), ManualClock()), Oracle()
    for business in range(10):
        for question in range(10):
            await answers.get(str(business), str(question), oracle)
    assert [len(kept) for kept in answers._own.values()] == [3] * 4
    assert await answers.get("9", "9", oracle) == b"100"
    assert answers._asked == {}


# With Redis.


async def test_processes_share_answers_and_forget_them_together(redis_server: RedisServer) -> None:
    """Until something is changed through one of them."""
    async with sharing(redis_server) as one, sharing(redis_server) as two:
        here, there, oracle = AnswerCache(one), AnswerCache(two), Oracle()
        feed = Feed(one, here)
        feed.start()
        assert await here.get("salon", "question", oracle) == await there.get("salon", "question", oracle) == b"1"
        feed.announce("salon", {"service_id": "cut", "slot_start": "x", "slot_end": "y"}, moved=False)
        async with asyncio.timeout(LIFE_SECONDS / 2):
            while await there.get("salon", "question", oracle) == b"1":
                pass
        assert oracle.asked == 2
        await feed.stop()


async def test_redis_keeps_no_answer_longer_than_it_may(redis_server: RedisServer) -> None:
    """Until a fixed time by its own clock: an answer that was late is kept for the rest only, or not at all."""
    async with sharing(redis_server) as store:
        answers = AnswerCache(store)
        await answers.get("salon", "question", Oracle())
        [key] = redis_server.client.scan_iter("holdfast:availability:*")
        assert 0 < int(str(redis_server.client.pttl(key))) <= LIFE_SECONDS * 1000

        async def late() -> bytes:
            await asyncio.sleep(LIFE_SECONDS + 0.1)
            return b"late"

        assert await answers.get("clinic", "question", late) == b"late"
        assert list(redis_server.client.scan_iter("holdfast:availability:clinic:*")) == []


async def test_an_answer_from_before_a_change_that_comes_after_it_is_not_given(redis_server: RedisServer) -> None:
    """Another process may have asked just before, and write what it heard just after."""
    async with sharing(redis_server) as store:
        answers, oracle = AnswerCache(store), Oracle()
        oracle.may_answer.clear()
        slow = asyncio.create_task(answers.get("salon", "question", oracle))
        await oracle.is_asked.wait()
        redis_server.client.incr("holdfast:changes:salon")
        oracle.may_answer.set()
        assert await slow == b"1"
        assert await answers.get("salon", "question", oracle) == b"2"


async def test_who_may_have_missed_a_change_gets_no_answer_from_before_it(redis_server: RedisServer) -> None:
    """Another process could not say what it had changed. What it says when it can makes all answers worthless."""
    async with sharing(redis_server) as one, sharing(redis_server) as two:
        there, oracle = AnswerCache(two), Oracle()
        feed = Feed(one, AnswerCache(one))
        one._up = False
        feed.announce("salon", {"service_id": "cut", "slot_start": "x", "slot_end": "y"}, moved=False)
        assert await there.get("salon", "question", oracle) == b"1"
        one._up = True
        feed.start()
        async with asyncio.timeout(LIFE_SECONDS / 2):
            while await there.get("salon", "question", oracle) == b"1":
                pass
        await feed.stop()


async def test_without_its_redis_the_cache_is_bypassed(redis_server: RedisServer) -> None:
    """A process by itself does not hear of others' changes."""
    async with sharing(redis_server) as store:
        answers, oracle, bypassed = AnswerCache(store), Oracle(), counted("bypass")
        redis_server.kill()
        assert [await answers.get("salon", "question", oracle) for _ in range(3)] == [b"1", b"2", b"3"]
        assert counted("bypass") - bypassed >= 2


async def test_a_slot_that_was_just_taken_is_not_listed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Over HTTP: by the process that gave it away it is known at once."""
    database.make_service()
    window = {"businessId": "salon", "serviceId": "cut", "from": at(10).isoformat(), "to": at(11).isoformat()}

    async def listed() -> Any:
        return (await client.get("/api/booking/availability", params=window)).json()["slots"]

    assert len(await listed()) == 1
    body = {"businessId": "salon", "serviceId": "cut", "slotStart": at(10).isoformat()}
    held = (await client.post("/api/booking/reserve", json=body)).json()
    assert await listed() == []
    # Behind its back, it may take a moment: nothing is granted by what is listed.
    database.release(held["reservationId"])
    assert await listed() == []
    assert (await client.post("/api/booking/reserve", json=body)).status_code == 201


async def test_what_the_catalog_says_is_listed_at_once(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Whoever has just closed a day looks whether it is closed."""
    database.make_service()
    window = {"businessId": "salon", "serviceId": "cut", "from": at(10).isoformat(), "to": at(11).isoformat()}
    open_before = (await client.get("/api/booking/availability", params=window)).json()["slots"]
    closure = {"from": at(9).isoformat(), "to": at(12).isoformat()}
    await client.put("/api/catalog/businesses/salon/closures/away", json=closure, headers=ADMIN)
    open_after = (await client.get("/api/booking/availability", params=window)).json()["slots"]
    assert (len(open_before), len(open_after)) == (1, 0)
