"""Availability answers, reused for less than a second: a crowd that watches one calendar costs one look-up a second.

An answer grants nothing: only a verb decides whether a slot is free.
"""

import time
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final

from cachetools import TTLCache

from service.observability.metrics import AVAILABILITY_CACHE
from service.single_flight import SingleFlight

# Counted from before the database is asked. With the transfer to the client, the age stays below a second.
LIFE_SECONDS: Final = 0.9
# Kept answers per business, and businesses with answers. A page of slots has 512 KB at most, and a busy month of five
# resources about 80 KiB. Answers are dropped after LIFE_SECONDS, so the database's speed limits what is kept.
_ANSWERS: Final = 20
_BUSINESSES: Final = 50


class AnswerCache:
    """The answers of one process. Concurrent callers with the same question share one look-up.

    A change in a business drops its answers at once. Changes of other processes arrive with the feed, if there is a
    Redis; without one, an answer may miss what they changed in the last 0.9 s.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By business. An entry expires as a whole, LIFE_SECONDS after its first look-up began: so no answer in it is
        # older, and no caller joins a look-up that began earlier.
        self._businesses: TTLCache[str, SingleFlight[Hashable, bytes]] = TTLCache(_BUSINESSES, LIFE_SECONDS, clock)

    async def get(self, business_id: str, question: Hashable, ask: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
        """Returns the answer to a question about a business, kept or from `ask`. Raises what `ask` raises."""
        result = "hit"

        def load() -> Coroutine[Any, Any, bytes]:
            nonlocal result
            result = "miss"
            return ask()

        answers = self._businesses.get(business_id)
        if answers is None:
            answers = SingleFlight(keep_seconds=LIFE_SECONDS, max_kept=_ANSWERS, clock=self._clock)
            self._businesses[business_id] = answers
        try:
            return await answers.run(question, load)
        finally:
            AVAILABILITY_CACHE.labels(result).inc()

    def forget(self, business_id: str) -> None:
        """Drops the answers about a business, those under way included: they may not contain a change."""
        self._businesses.pop(business_id, None)

    def forget_all(self) -> None:
        """Drops all answers: changes of any business may have been missed."""
        self._businesses.clear()
