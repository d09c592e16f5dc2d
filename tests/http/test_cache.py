"""The cache of availability answers: less than a second old, asked once for a crowd, dropped at a change."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from tests.http.booking_calls import timestamp
from tests.http.conftest import ADMIN
from tests.manual_clock import ManualClock
from tests.redis_server import RedisServer, sharing, until_both_listen

pytestmark = pytest.mark.anyio

LIFE_SECONDS = 0.9
CHANGE = {"service_id": "cut", "slot_start": at(10).isoformat(), "slot_end": at(11).isoformat()}


@pytest.fixture(autouse=True)
def answers_are_kept(monkeypatch: pytest.MonkeyPatch, no_answer_is_kept: None) -> None:  # noqa: ARG001 — before this
    """For as long as the service keeps them."""
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
    """The value of the metric."""
    return REGISTRY.get_sample_value("holdfast_availability_cache_total", {"result": result}) or 0


def test_the_life_of_an_answer_is_less_than_a_second() -> None:
    """The transfer to the client comes on top."""
    assert LIFE_SECONDS < 1


async def test_an_answer_is_given_again_until_it_is_too_old() -> None:
    """Its age counts from before the database was asked: a change in the meantime may be missing."""
    clock, oracle = ManualClock(), Oracle()
    answers = AnswerCache[bytes](clock)
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
    """However many callers come before there is an answer; cancelling a caller does not cancel the look-up."""
    oracle, answers = Oracle(), AnswerCache[bytes]()
    oracle.may_answer.clear()
    crowd = [asyncio.create_task(answers.get("salon", "question", oracle)) for _ in range(100)]
    await asyncio.sleep(0.01)
    crowd[0].cancel()
    oracle.may_answer.set()
    assert await asyncio.gather(*crowd[1:]) == [b"1"] * 99


async def test_a_look_up_ends_when_its_callers_have_left() -> None:
    """A client that asks for long lists and leaves must not keep the database busy."""
    oracle, answers = Oracle(), AnswerCache[bytes]()
    oracle.may_answer.clear()
    crowd = [asyncio.create_task(answers.get("salon", "question", oracle)) for _ in range(3)]
    await oracle.is_asked.wait()
    [task] = answers._answers._running.values()
    for caller in crowd:
        assert not task.cancelling()
        caller.cancel()
        await asyncio.wait([caller])
    assert task.cancelling()


async def test_who_comes_late_does_not_join_a_look_up_that_began_long_ago() -> None:
    """Its answer may be as old as the look-up, and without Redis no change of another process drops it."""
    clock, oracle = ManualClock(), Oracle()
    answers = AnswerCache[bytes](clock)
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


async def test_a_failure_reaches_all_callers_and_is_not_kept() -> None:
    """The next caller asks again."""
    answers = AnswerCache[bytes]()

    async def fail() -> bytes:
        await asyncio.sleep(0.01)
        raise DatabaseDown

    crowd = await asyncio.gather(*(answers.get("salon", "question", fail) for _ in range(5)), return_exceptions=True)
    assert [type(answer) for answer in crowd] == [DatabaseDown] * 5
    assert await answers.get("salon", "question", Oracle()) == b"1"


async def test_what_was_asked_before_a_change_is_no_answer_after_it() -> None:
    """Neither a kept answer nor one under way: a browser that loads again after a change sees it."""
    answers, oracle = AnswerCache[bytes](), Oracle()
    feed = Feed(Store(None), answers.forget)
    await answers.get("salon", "question", oracle)
    feed.announce("salon", CHANGE, moved=False)
    oracle.may_answer.clear()
    before = asyncio.create_task(answers.get("salon", "question", oracle))
    await asyncio.sleep(0)
    feed.announce("salon", CHANGE, moved=False)
    after = asyncio.create_task(answers.get("salon", "question", oracle))
    await asyncio.sleep(0)
    oracle.may_answer.set()
    assert (await before, await after) == (b"2", b"3")
    assert await answers.get("salon", "question", oracle) == b"3"


@pytest.mark.parametrize("length", [0, 1000])
async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    """Long answers by their bytes, and short ones too: there are as many questions as there are intervals."""
    monkeypatch.setattr(cache, "MAX_BYTES", 10_000 + 5 * length)
    answers = AnswerCache[bytes](ManualClock())

    async def ask() -> bytes:
        return b"x" * length

    for business in range(10):
        for question in range(10):
            await answers.get(str(business), str(question), ask)
    assert 5 <= len(answers._answers._kept) < 10
    hits = counted("hit")
    await answers.get("9", "9", ask)
    assert counted("hit") == hits + 1
    assert not answers._answers._running


async def test_an_answer_that_is_larger_than_all_is_given_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """And drops no other one."""
    monkeypatch.setattr(cache, "MAX_BYTES", 10_000)
    answers, oracle = AnswerCache[bytes](ManualClock()), Oracle()
    assert await answers.get("salon", "small", oracle) == b"1"

    async def ask() -> bytes:
        return b"x" * 10_000

    assert len(await answers.get("salon", "large", ask)) == 10_000
    assert list(map(len, (task.result() for task in answers._answers._kept.values()))) == [1]


async def test_the_businesses_with_kept_answers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their names are what callers send."""
    monkeypatch.setattr(cache, "_BUSINESSES", 4)
    answers, oracle = AnswerCache[bytes](ManualClock()), Oracle()
    for business in range(10):
        await answers.get(str(business), "question", oracle)
    assert len(answers._epochs) == 4


# With Redis.


@asynccontextmanager
async def two_processes(redis: RedisServer) -> AsyncIterator[tuple[Feed, Store, AnswerCache[bytes]]]:
    """Two processes that share a Redis: the feed and the store of one, the answers of the other.

    Its clock stands still, so no answer expires.
    """
    async with sharing(redis) as one, sharing(redis) as two:
        answers = AnswerCache[bytes](ManualClock())
        feeds = Feed(one), Feed(two, answers.forget)
        for each in feeds:
            each.start()
        await until_both_listen(redis)
        yield feeds[0], one, answers
        for each in feeds:
            await each.stop()


async def until_asked_again(answers: AnswerCache[bytes], oracle: Oracle) -> None:
    """Returns when the answer about the salon has been dropped and the oracle has given another."""
    async with asyncio.timeout(20):
        while await answers.get("salon", "question", oracle) == b"1":  # noqa: ASYNC110 — the cache has no event for it
            await asyncio.sleep(0.001)


async def test_a_change_of_another_process_drops_the_answers_of_its_business(redis_server: RedisServer) -> None:
    """Those of other businesses stay."""
    async with two_processes(redis_server) as (feed, _, answers):
        oracle, other = Oracle(), Oracle()
        for _ in range(2):
            assert await answers.get("salon", "question", oracle) == b"1"
            assert await answers.get("clinic", "question", other) == b"1"
        feed.announce("salon", CHANGE, moved=False)
        await until_asked_again(answers, oracle)
        assert await answers.get("clinic", "question", other) == b"1"
        assert oracle.asked == 2


async def test_a_change_of_another_process_drops_the_answer_under_way(redis_server: RedisServer) -> None:
    """The database may have been asked just before the change."""
    async with two_processes(redis_server) as (feed, _, answers):
        oracle = Oracle()
        oracle.may_answer.clear()
        before = asyncio.create_task(answers.get("salon", "question", oracle))
        await oracle.is_asked.wait()
        [under_way] = answers._epochs.values()
        feed.announce("salon", CHANGE, moved=False)
        async with asyncio.timeout(20):
            while under_way in answers._epochs.values():  # noqa: ASYNC110 — the cache has no event for it
                await asyncio.sleep(0.001)
        after = asyncio.create_task(answers.get("salon", "question", oracle))
        await asyncio.sleep(0)
        oracle.may_answer.set()
        assert (await before, await after) == (b"1", b"2")


async def test_changes_that_may_have_been_missed_drop_all_answers(redis_server: RedisServer) -> None:
    """Another process could not publish a change, and publishes a gap as soon as it can."""
    async with two_processes(redis_server) as (feed, store, answers):
        oracle = Oracle()
        store._up = False
        feed.announce("salon", CHANGE, moved=False)
        assert await answers.get("salon", "question", oracle) == b"1"
        store._up = True
        await until_asked_again(answers, oracle)


async def test_losing_redis_drops_all_answers(redis_server: RedisServer) -> None:
    """Changes of other processes may have been missed. Afterwards answers are kept as in a service without Redis."""
    async with two_processes(redis_server) as (_, __, answers):
        oracle = Oracle()
        assert await answers.get("salon", "question", oracle) == b"1"
        redis_server.kill()
        await until_asked_again(answers, oracle)
        assert [await answers.get("salon", "question", oracle) for _ in range(2)] == [b"2", b"2"]


# Over HTTP.


async def test_a_slot_that_was_just_taken_is_not_listed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The process that granted it lists it no more at once."""
    database.make_service()
    window = {"businessId": "salon", "serviceId": "cut", "from": at(10).isoformat(), "to": at(11).isoformat()}

    async def listed() -> Any:
        return (await client.get("/api/booking/availability", params=window)).json()["slots"]

    assert len(await listed()) == 1
    body = {"businessId": "salon", "serviceId": "cut", "slotStart": at(10).isoformat()}
    held = (await client.post("/api/booking/reserve", json=body)).json()
    assert await listed() == []
    # A change past the service shows when the answer expires: a listing grants nothing.
    database.release(held["reservationId"])
    assert await listed() == []
    assert (await client.post("/api/booking/reserve", json=body)).status_code == 201


async def test_each_parameter_is_part_of_the_question(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Two queries share an answer only if all of their parameters are equal, defaults included."""
    database.make_service(resource_ids=["anna"])
    service = {"businessId": "salon", "serviceId": "cut"}
    slots = service | {"from": timestamp(at(9)), "to": timestamp(at(12))}
    days = service | {"from": "2027-01-11", "to": "2027-01-12"}
    other = {
        "businessId": "clinic",
        "serviceId": "perm",
        "quantity": "2",
        "resourceId": "anna",
        "durationMinutes": "30",
    }
    questions = [
        *(("/availability", slots | {name: value}) for name, value in other.items()),
        *(("/availability", slots | more) for more in ({}, {"limit": "2"}, {"from": timestamp(at(10))})),
        *(("/availability/days", days | {name: value}) for name, value in other.items()),
        *(("/availability/days", days | more) for more in ({}, {"from": "2027-01-10"}, {"to": "2027-01-13"})),
    ]
    before = counted("miss")
    for path, query in questions:
        await client.get(f"/api/booking{path}", params=query)
    assert counted("miss") - before == len(questions)
    hits = counted("hit")
    same = ({"limit": "500"}, {"limit": "500", "quantity": "1"})
    await asyncio.gather(*(client.get("/api/booking/availability", params=slots | more) for more in same))
    assert counted("hit") > hits


async def test_what_the_catalog_says_is_listed_at_once(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A manager who has just closed a day checks whether it is closed."""
    database.make_service()
    window = {"businessId": "salon", "serviceId": "cut", "from": at(10).isoformat(), "to": at(11).isoformat()}
    open_before = (await client.get("/api/booking/availability", params=window)).json()["slots"]
    closure = {"from": at(9).isoformat(), "to": at(12).isoformat()}
    await client.put("/api/catalog/businesses/salon/closures/away", json=closure, headers=ADMIN)
    open_after = (await client.get("/api/booking/availability", params=window)).json()["slots"]
    assert (len(open_before), len(open_after)) == (1, 0)


async def test_a_crowd_shares_one_public_catalogue(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The largest take the database half a second, also where the answer is a 304. A change shows at once."""
    database.make_service()
    address, hits, misses = "/api/v1/public/salon", counted("hit"), counted("miss")
    answers = await asyncio.gather(*(client.get(address) for _ in range(5)))
    known = {"If-None-Match": answers[0].headers["etag"]}
    assert (counted("hit") - hits, counted("miss") - misses) == (4, 1)
    assert (await client.get(address, headers=known)).status_code == 304
    await client.put("/api/catalog/businesses/salon", json={"name": "Rosa"}, headers=ADMIN)
    changed = await client.get(address, headers=known)
    assert (changed.status_code, changed.json()["business"]["name"]) == (200, "Rosa")
