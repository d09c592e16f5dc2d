"""Whose something is: the business of a reservation or an appointment, where the caller does not say it."""

import re
from collections import OrderedDict
from typing import Final
from uuid import UUID

from service.database.connections import Database
from service.errors import Refused

# Ids whose business this process remembers, to spare the look-up. About 200 bytes each.
_REMEMBERED: Final = 50_000

_SLUG: Final = re.compile("[a-z0-9-]{1,64}")


class Tenants:
    """Finds the business of an id, which never changes: what was once known needs no look-up.

    `query` is the named statement that finds it, `missing` the code for an id that is nobody's.
    """

    def __init__(self, database: Database, *, query: str, missing: str) -> None:
        self._database = database
        self._query = query
        self._missing = missing
        self._known: OrderedDict[UUID, str] = OrderedDict()

    async def find(self, of_id: UUID, named: str | None) -> str:
        """The business of an id: the one that the caller named, else looked up. Raises `Refused` and `Unavailable`."""
        if known := named or self._known.get(of_id):
            return known
        [(business_id,)] = await self._database.fetch(self._query, of_id)
        if business_id is None:
            raise Refused(self._missing)
        self.remember(of_id, business_id)
        return str(business_id)

    def remember(self, of_id: UUID, business_id: str) -> None:
        """Notes what the caller has just learnt."""
        self._known[of_id] = business_id
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


async def business_of_slug(database: Database, slug: str) -> str:
    """The business that has a slug. Raises `Refused` and `Unavailable`."""
    found = None
    if _SLUG.fullmatch(slug):
        [(found,)] = await database.fetch("business_of_slug", slug)
    if found is None:
        raise Refused("BUSINESS_NOT_FOUND")
    return str(found)
