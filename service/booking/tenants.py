"""The business of a reservation, an appointment or a slug, where the request does not name it."""

import re
from typing import Final
from uuid import UUID

from cachetools import LRUCache

from service.database.connections import Database
from service.errors import Refused

# Ids whose business is kept in memory, which spares the look-up. About 200 bytes each.
_REMEMBERED: Final = 20_000

_SLUG: Final = re.compile("[a-z0-9-]{1,64}")


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


async def business_of_slug(database: Database, slug: str) -> str:
    """Returns the business that has a slug. Raises `Refused` and `Unavailable`."""
    found = None
    if _SLUG.fullmatch(slug):
        [(found,)] = await database.fetch("business_of_slug", slug)
    if found is None:
        raise Refused("BUSINESS_NOT_FOUND")
    return str(found)
