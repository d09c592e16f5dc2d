"""Answers about what is free, kept for less than a second, so that a crowd costs one look. Nothing is granted by them.

How old an answer is counts from before the database was asked, by one clock: that of Redis, or this process's. And
every change in a business that is told of makes its answers worthless at once.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from service.observability.metrics import AVAILABILITY_CACHE
from service.sharing.store import Store, StoreDown

# With the time that an answer is on its way this stays below a second.
LIFE_SECONDS: Final = 0.9
# Of one process, the latest: answers about one business, and businesses. An answer is a few kilobytes, and 62 busy
# days are a few hundred.
_ANSWERS: Final = 20
_BUSINESSES: Final = 50
# What is larger is not sent to Redis, which would take longer for it than others should wait.
_LARGEST_BYTES: Final = 256 * 1024
# Longer than any answer that was asked for before a change can still be on its way.
_CHANGE_SECONDS: Final = 60
# In place of a business's id, and no id itself: something was changed, and nobody knows where.
EVERY_BUSINESS: Final = "*"


@dataclass(frozen=True, slots=True)
class _Found:
    """What Redis has: its time, how often the business and all were changed lately, and the answer if it holds."""

    now_ms: int
    changes: str
    answer: bytes | None


class AnswerCache:
    """One process's cache. Questions that are asked at the same time are asked once."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        # By business and question: until when, and the answer. Without Redis only: others' changes are not known here.
        self._own: OrderedDict[str, OrderedDict[str, tuple[float, bytes]]] = OrderedDict()
        # By business and question: since when, and who asks.
        self._asked: dict[str, dict[str, tuple[float, asyncio.Task[bytes]]]] = {}

    async def get(self, business_id: str, question: str, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        """The answer to a question about a business, from whoever has it, else by asking. Raises what asking raises."""
        key = (business_id, hashlib.sha256(question.encode()).hexdigest())
        now = self._clock()
        began, task = self._asked.get(business_id, {}).get(key[1], (now, None))
        # What was asked for long ago may be an answer from then, and no other process tells this one of its changes.
        if task is None or now - began >= LIFE_SECONDS:
            task = asyncio.create_task(self._find(key, ask))
            self._asked.setdefault(business_id, {})[key[1]] = (now, task)
            task.add_done_callback(lambda done: self._end(key, done))
        else:
            AVAILABILITY_CACHE.labels("hit").inc()
        # Whoever goes away must not take the answer with them.
        return await asyncio.shield(task)

    def forget(self, business_id: str) -> None:
        """Something was changed: answers that were asked for before it are no answers any more."""
        self._own.pop(business_id, None)
        self._asked.pop(business_id, None)

    def forget_all(self) -> None:
        """Something may have been changed anywhere."""
        self._own.clear()
        self._asked.clear()

    def _end(self, key: tuple[str, str], task: asyncio.Task[bytes]) -> None:
        if self._is_asked(key, task):
            del self._asked[key[0]][key[1]]
            if not self._asked[key[0]]:
                del self._asked[key[0]]
        if not task.cancelled():
            # Somebody has had it, if they have not gone away.
            task.exception()

    def _is_asked(self, key: tuple[str, str], task: asyncio.Task[bytes] | None) -> bool:
        """Whether this task is the latest to ask, and nothing was changed since."""
        _, latest = self._asked.get(key[0], {}).get(key[1], (0.0, None))
        return task is not None and latest is task

    async def _find(self, key: tuple[str, str], ask: Callable[[], Awaitable[bytes]]) -> bytes:
        if not self._store.exists:
            return await self._find_here(key, ask)
        try:
            found = await self._store.ask("cache", lambda redis: _look(redis, key))
        except StoreDown:
            AVAILABILITY_CACHE.labels("bypass").inc()
            return await ask()
        if found.answer is not None:
            AVAILABILITY_CACHE.labels("hit").inc()
            return found.answer
        AVAILABILITY_CACHE.labels("miss").inc()
        answer = await ask()
        if len(answer) <= _LARGEST_BYTES:
            with suppress(StoreDown):
                await self._store.ask("cache", lambda redis: _keep(redis, key, found, answer))
        return answer

    async def _find_here(self, key: tuple[str, str], ask: Callable[[], Awaitable[bytes]]) -> bytes:
        began = self._clock()
        kept = self._own[key[0]].get(key[1]) if key[0] in self._own else None
        if kept and began < kept[0]:
            AVAILABILITY_CACHE.labels("hit").inc()
            return kept[1]
        AVAILABILITY_CACHE.labels("miss").inc()
        answer = await ask()
        if self._is_asked(key, asyncio.current_task()):
            self._keep(key, began + LIFE_SECONDS, answer)
        return answer

    def _keep(self, key: tuple[str, str], until: float, answer: bytes) -> None:
        answers = self._own.setdefault(key[0], OrderedDict())
        self._own.move_to_end(key[0])
        answers[key[1]] = (until, answer)
        answers.move_to_end(key[1])
        for kept, most in ((answers, _ANSWERS), (self._own, _BUSINESSES)):
            if len(kept) > most:
                kept.popitem(last=False)


def forget(pipeline: Pipeline, business_id: str) -> None:
    """Makes all answers about a business, or about `EVERY_BUSINESS`, worthless in every process."""
    pipeline.incr(_changes_key(business_id))
    pipeline.expire(_changes_key(business_id), _CHANGE_SECONDS)


def _changes_key(business_id: str) -> str:
    return f"holdfast:changes:{business_id}"


def _answer_key(key: tuple[str, str]) -> str:
    return f"holdfast:availability:{key[0]}:{key[1]}"


async def _look(redis: Redis, key: tuple[str, str]) -> _Found:
    pipeline = redis.pipeline(transaction=False)
    pipeline.time()
    pipeline.mget(_changes_key(key[0]), _changes_key(EVERY_BUSINESS))
    pipeline.get(_answer_key(key))
    (seconds, microseconds), counts, kept = await pipeline.execute()
    now_ms, changes = seconds * 1000 + microseconds // 1000, ",".join(count or "" for count in counts)
    until, at_changes, answer = kept.split("|", 2) if kept else ("0", "", "")
    holds = now_ms < int(until) and at_changes == changes
    return _Found(now_ms, changes, answer.encode() if holds else None)


async def _keep(redis: Redis, key: tuple[str, str], found: _Found, answer: bytes) -> Any:
    """Until a fixed time: an answer that comes late, out of a queue, must not live longer for that."""
    until = found.now_ms + int(LIFE_SECONDS * 1000)
    return await redis.set(_answer_key(key), f"{until}|{found.changes}|{answer.decode()}", pxat=until)
