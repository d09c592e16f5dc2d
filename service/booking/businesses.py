"""Finds a business: by the id of a reservation or an appointment, or by its own id or slug."""

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

from cachetools import LRUCache, TTLCache

from service.database.connections import Database, Reader, Rows
from service.errors import DatabaseDown, Refused
from service.naming import ID_PATTERN, Record
from service.single_flight import SingleFlight

R = TypeVar("R", bound=Record)

# Ids whose business is kept in memory, which spares the look-up. About 200 bytes each.
_REMEMBERED: Final = 20_000

# How long a name counts as an id without a look-up. After its business was deleted, a slug of this name may fail for as
# long.
ID_SECONDS: Final = 60.0

# An id; slugs are a part of these.
_NAME: Final = re.compile(ID_PATTERN)


class BusinessOf:
    """Finds the business of a reservation or an appointment. It never changes, so a known one needs no look-up.

    An id that is not found while a node is down may be on that node: the answer is `DatabaseDown` then.

    `query` is the named statement that finds it, `missing` the error code for an id that does not exist.
    """

    def __init__(self, database: Database, *, query: str, missing: str) -> None:
        self._database = database
        self._query = query
        self._missing = missing
        # By the ids as text, which is hashed faster.
        self._known: LRUCache[str, str] = LRUCache(_REMEMBERED)

    async def find(self, row_id: UUID, named_id: str | None) -> str:
        """Returns the business that the request named, else that of the row. Raises `Refused` and `Unavailable`."""
        if known := named_id or self._known.get(str(row_id)):
            return known
        [(business_id,)], left_out = await self._database.fetch_everywhere(self._query, row_id)
        if business_id is None:
            raise DatabaseDown if left_out else Refused(self._missing)
        self.remember(str(row_id), business_id)
        return str(business_id)

    def remember(self, row_id: str, business_id: str) -> None:
        """Stores the business of a row that a verb has just returned."""
        self._known[row_id] = business_id


async def require_business(reads: Reader, business_id: str) -> None:
    """Raises `Refused` if there is no such business, and `Unavailable`."""
    if not await reads.fetch("business", business_id):
        raise Refused("BUSINESS_NOT_FOUND")


async def rows_of(reads: Reader, query: str, business_id: str, *parameters: object) -> Rows:
    """Returns the rows of a business. Raises `Refused` if there is no such business, and `Unavailable`."""
    rows = await reads.fetch(query, business_id, *parameters)
    if not rows:
        await require_business(reads, business_id)
    return rows


def found(rows: Rows, model: type[R], missing: str) -> R:
    """Reads the record of a look-up, which has no row or no body without one: then raises `Refused`."""
    for (body,) in rows:
        if body is not None:
            return model.model_validate_json(body)
    raise Refused(missing)


class BusinessNames:
    """Finds the business that a public request names by its id or by its slug.

    No slug is the id of another business, so a name is taken for an id first, and looked up only if there is no such
    business. A name that is known as a slug is looked up at once. A slug may move to another business, so each request
    needs a look-up that began after the request arrived; requests that arrive during a look-up share the next one.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        # Names that were looked up, of ids and of slugs. Those of no business are not kept.
        self._ids: TTLCache[str, None] = TTLCache(_REMEMBERED, ID_SECONDS, clock)
        self._slugs: LRUCache[str, None] = LRUCache(_REMEMBERED)
        # One for each partition: a node that is down fails the look-ups of its own names only.
        self._look_ups: defaultdict[int | None, _LookUps] = defaultdict(partial(_LookUps, database))

    def may_be_id(self, name: str) -> bool:
        """Returns whether a name is to be taken for an id first."""
        return name not in self._slugs and _NAME.fullmatch(name) is not None

    async def find(self, name: str) -> str | None:
        """Returns the id of the business with a name; None if there is none. Raises `Unavailable`."""
        if name in self._ids:
            return name
        if not _NAME.fullmatch(name):
            return None
        await self._database.refuse_if_down(name)
        business_id = await self._look_ups[self._database.nodes.partition(name)].find(name)
        self._slugs.pop(name, None)
        if business_id is not None:
            (self._ids if business_id == name else self._slugs)[name] = None
        return business_id


class _LookUps:
    """Looks names up, one list at a time: names that are asked for during a look-up form the list of the next one."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked: set[str] = set()
        self._turn = 0
        self._one_at_a_time = asyncio.Lock()
        self._flights = SingleFlight[int, dict[str, str | None]]()

    async def find(self, name: str) -> str | None:
        self._asked.add(name)
        return (await self._flights.run(self._turn, self._look_up)).get(name)

    async def _look_up(self) -> dict[str, str | None]:
        async with self._one_at_a_time:
            names, self._asked = self._asked, set()
            self._turn += 1
            return dict(await self._database.fetch("businesses_named", list(names)))
