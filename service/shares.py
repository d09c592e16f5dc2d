"""Shares: each key may run a few operations at once, so that one key leaves room for the others."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Final
from weakref import WeakValueDictionary

from service.errors import Overloaded

# How long a caller waits for its turn, and how many may wait for those of one key.
TURN_SECONDS: Final = 5.0
MAX_WAITING: Final = 200


class Shares:
    """Limits how many operations of one key run at once, to `most`. Each key has a queue of its own, so that no key
    delays another. Keys are numbers, or names of bounded length.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        # An entry lasts as long as a turn of its key, or the wait for one.
        self._turns: WeakValueDictionary[Hashable, asyncio.Semaphore] = WeakValueDictionary()
        self._waiting: Counter[Hashable] = Counter()

    @asynccontextmanager
    async def turn(self, key: Hashable | None) -> AsyncIterator[None]:
        """Waits for a turn of a key, and keeps it to the end of the block; without a key there is no limit. Raises
        `Overloaded` if the turn would come too late."""
        if key is None:
            yield
            return
        turns = self._turns.setdefault(key, asyncio.Semaphore(self._most))
        if turns.locked():
            await self._wait(turns, key)
        else:
            await turns.acquire()
        try:
            yield
        finally:
            turns.release()

    async def _wait(self, turns: asyncio.Semaphore, key: Hashable) -> None:
        if self._waiting[key] >= MAX_WAITING:
            raise Overloaded
        self._waiting[key] += 1
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await turns.acquire()
        except TimeoutError:
            raise Overloaded from None
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
