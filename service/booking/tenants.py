"""The business of a reservation or an appointment, where the request does not name it, and of a name that it has."""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from cachetools import LRUCache, TTLCache

from service.database.connections import Database
from service.errors import Refused
from service.single_flight import SingleFlight

# Ids whose business is kept in memory, which spares the look-up. About 200 bytes each.
_REMEMBERED: Final = 20_000

# How long a name counts as an id without a look-up. So long after its business was deleted, it may fail as a slug.
ID_SECONDS: Final = 60.0

# An id; slugs are a part of these.
_NAME: Final = re.compile("[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


class Tenants:
    """Finds the business of an id. It never changes, so a known one needs no look-up.

    `query` is the named statement that finds it, `missing` the error code for an id that does not exist.
    """

    def __init__(self, database: Database, *, query: str, missing: str) -> None:
        self._database = database
        self._query = query
        self._missing = missing
        self._known: LRUCache[UUID, str] = LRUCache(_REMEMBERED)

    async def find(self, of_id: UUID, named: str | None) -> str:
        """Returns the business that the request named, else that of the id. Raises `Refused` and `Unavailable`."""
        if known := named or self._known.get(of_id):
            return known
        [(business_id,)] = await self._database.fetch(self._query, of_id)
        if business_id is None:
            raise Refused(self._missing)
        self.remember(of_id, business_id)
        return str(business_id)

    def remember(self, of_id: UUID, business_id: str) -> None:
        """Stores the business of an id that a verb has just returned."""
        self._known[of_id] = business_id


async def require_business(database: Database, business_id: str) -> None:
    """Tells a business without entries from one that does not exist. Raises `Refused` and `Unavailable`."""
    if not await database.fetch("business", business_id):
        raise Refused("BUSINESS_NOT_FOUND")


class BusinessNames:
    """Finds the business that a public request names by its id or by its slug.

    A name that was found to be an id costs nothing for a while: no other business can have it, and the verbs refuse it
    once its business is deleted. A slug may move to another business, so it is looked up for each request, by a look-up
    that begins after the request came; the requests that come during one look-up share the next.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        # Ids that exist: names of no business are not kept.
        self._ids: TTLCache[str, None] = TTLCache(_REMEMBERED, ID_SECONDS, clock)
        self._asked: set[str] = set()
        self._turn = 0
        self._one_at_a_time = asyncio.Lock()
        self._look_ups = SingleFlight[int, dict[str, str]]()

    def is_id(self, name: str) -> bool:
        """Returns whether a name is known to be an id."""
        return name in self._ids

    async def find(self, name: str) -> str | None:
        """Returns the id of the business with a name; None if there is none. Raises `Unavailable`."""
        if name in self._ids:
            return name
        if not _NAME.fullmatch(name):
            return None
        self._asked.add(name)
        return (await self._look_ups.run(self._turn, self._look_up)).get(name)

    async def _look_up(self) -> dict[str, str]:
        async with self._one_at_a_time:
            names, self._asked = self._asked, set()
            self._turn += 1
            rows = await self._database.fetch("businesses_named", list(names))
        found = {name: business_id for name, business_id in rows if business_id is not None}
        self._ids.update({name: None for name in found if found[name] == name})
        return found
