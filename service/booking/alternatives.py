"""Alternatives: free slots near a refused one."""

import asyncio
import time
from functools import partial
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from cachetools import LRUCache
from pydantic import Field

from service.booking.instants import WrittenInstant
from service.booking.requests import RequestedSlot
from service.database.connections import Database
from service.database.failures import logged
from service.naming import Record
from service.single_flight import SingleFlight

# How long an answer is reused. Any answer may be out of date when it is sent: only a verb decides.
VALID_SECONDS: Final = 1.0
# A refusal waits at most this long for its alternatives, then it is sent without.
LOOK_UP_SECONDS: Final = 2.0
# Concurrent look-ups of one process: the rest of the connections stays free for other calls.
LOOK_UPS: Final = 2
# Answers that are kept. Each has five slots at most, of 50 resources each: 30 KB.
REMEMBERED: Final = 200
# After a change of its business a kept answer is looked up anew: this often at once, and so often per second. Beyond
# that it is reused, because in a rush each grant is a change, and look-ups would take the time of the database.
RENEWALS: Final = 20
RENEWALS_A_SECOND: Final = 10.0
# Businesses with wishes whose latest change is known.
_BUSINESSES: Final = 1000


class Alternative(Record):
    """A slot to take instead."""

    slot_start: WrittenInstant = Field(description="When the slot begins.")
    slot_end: WrittenInstant = Field(description="When the slot ends. That instant is not part of it.")
    resource_ids: list[str] = Field(description="The resources that are free then; none where the service has none.")


_MEMBERS: Final = attrgetter(*RequestedSlot.__dataclass_fields__)


class Alternatives:
    """Finds alternatives. Equal wishes share a look-up, because a slot that is sold out is refused to a crowd."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # In the form in which they are sent, so that a stampede does not write them anew for each refusal. The key is a
        # wish, and the change since which it was looked up.
        self._answers = SingleFlight[tuple[object, ...], list[dict[str, Any]]](
            keep_seconds=VALID_SECONDS, max_kept=REMEMBERED
        )
        self._look_ups = asyncio.Semaphore(LOOK_UPS)
        # By business and by wish. A business that is not here has no answers that could be out of date.
        self._changes: LRUCache[str, object] = LRUCache(_BUSINESSES)
        self._changes_of_wishes: LRUCache[tuple[object, ...], object] = LRUCache(REMEMBERED)
        self._renewals = float(RENEWALS)
        self._renewed_at = time.monotonic()

    def forget(self, business_id: str | None) -> None:
        """Looks answers about a business up anew, as often as renewals are left; without a business, all answers."""
        if business_id is None:
            self._answers.forget(None)
        elif business_id in self._changes:
            self._changes[business_id] = object()

    async def nearest(
        self, business_id: str, slot: RequestedSlot, appointment_id: UUID | None = None
    ) -> list[dict[str, Any]]:
        """Returns at most five slots as members of `Alternative`, the best first; none if the database fails or is too
        slow. The claim of an appointment that is to be moved does not occupy them."""
        # The members of the slot: a tuple is hashed faster than an object.
        wish = business_id, *_MEMBERS(slot), appointment_id
        return await self._answers.run((wish, self._change_of(wish, business_id)), partial(self._find, *wish))

    def _change_of(self, wish: tuple[object, ...], business_id: str) -> object:
        """Returns the latest change of a business or, without renewals, the one with which the wish was looked up."""
        latest = self._changes.get(business_id)
        if latest is None:
            latest = self._changes[business_id] = object()
        change = self._changes_of_wishes.get(wish)
        if change is not latest and (change is None or self._renew()):
            change = self._changes_of_wishes[wish] = latest
        return change

    def _renew(self) -> bool:
        """Takes one of the renewals, if there is one."""
        now = time.monotonic()
        self._renewals = min(RENEWALS, self._renewals + (now - self._renewed_at) * RENEWALS_A_SECOND)
        self._renewed_at = now
        if self._renewals < 1:
            return False
        self._renewals -= 1
        return True

    async def _find(self, *wish: object) -> list[dict[str, Any]]:
        with logged("alternatives_not_found"):
            async with asyncio.timeout(LOOK_UP_SECONDS), self._look_ups:
                rows = await self._database.fetch("alternatives", *wish)
            return [Alternative.of_row(row).model_dump(mode="json") for row in rows]
        return []
