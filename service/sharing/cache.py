"""Availability and public catalogues, reused for less than a second: a crowd that watches one calendar costs one
look-up a second.

An answer grants nothing: only a verb decides whether a slot is free.
"""

import time
from collections.abc import Callable, Coroutine, Hashable, Sized
from typing import Final, Generic, TypeVar

from cachetools import TTLCache

from service.observability.metrics import AVAILABILITY_CACHE
from service.single_flight import SingleFlight

V = TypeVar("V", bound=Sized)

# Counted from before the database is asked. With the transfer to the client, the age stays below a second.
LIFE_SECONDS: Final = 0.9
# The length of all kept answers, of which a page of slots has 512 KB at most. What an answer needs besides is counted
# as well, so that many short ones have a bound.
MAX_BYTES: Final = 16 * 1024 * 1024
_ENTRY_BYTES: Final = 1024
# Businesses with kept answers.
_BUSINESSES: Final = 1000


class AnswerCache(Generic[V]):
    """The answers of one process. Concurrent callers with the same question share one look-up.

    A change in a business drops its answers at once. Changes of other processes arrive with the feed, if there is a
    Redis; without one, an answer may miss what they changed in the last 0.9 s.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # By business, a part of the key of its answers. It expires LIFE_SECONDS after its first look-up began: so no
        # answer is older, and no caller joins a look-up that began earlier.
        self._epochs: TTLCache[str, object] = TTLCache(_BUSINESSES, LIFE_SECONDS, clock)
        self._answers = SingleFlight[tuple[object, Hashable], V](
            keep_seconds=LIFE_SECONDS,
            max_kept=MAX_BYTES,
            cancel_unwanted=True,
            size_of=lambda answer: len(answer) + _ENTRY_BYTES,
            clock=clock,
        )

    async def get(self, business_id: str, question: Hashable, ask: Callable[[], Coroutine[object, object, V]]) -> V:
        """Returns the answer to a question about a business, kept or from `ask`. Raises what `ask` raises."""
        result = "hit"

        def load() -> Coroutine[object, object, V]:
            nonlocal result
            result = "miss"
            return ask()

        epoch = self._epochs.get(business_id)
        if epoch is None:
            epoch = self._epochs[business_id] = object()
        try:
            return await self._answers.run((epoch, question), load)
        finally:
            AVAILABILITY_CACHE.labels(result).inc()

    def forget(self, business_id: str | None) -> None:
        """Drops the answers about a business, those under way included: they may not contain a change. Without a
        business, drops all answers."""
        if business_id is None:
            self._epochs.clear()
        elif business_id in self._epochs:  # to look takes a quarter of the time
            self._epochs.pop(business_id, None)
