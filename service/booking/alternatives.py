"""What to offer to those who were refused a slot."""

import asyncio
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

import psycopg
import structlog
from pydantic import AwareDatetime

from service.database.connections import Database
from service.errors import Unavailable
from service.naming import Record

# For how long an answer is given again. It may be out of date as soon as it is made: only a verb decides.
VALID_SECONDS: Final = 1.0

# How long a refusal waits for them at most, then it goes without.
LOOK_UP_SECONDS: Final = 2.0

# Look-ups under way at once in one process, so that they leave connections to other calls.
LOOK_UPS: Final = 2

# Wishes whose answers are remembered. Each has five slots at most.
REMEMBERED: Final = 1000

log = structlog.get_logger(__name__)


class Alternative(Record):
    """A slot to take instead."""

    slot_start: AwareDatetime
    slot_end: AwareDatetime
    resource_ids: list[str]


class Wish(NamedTuple):
    """What was refused, in the parameters of booking.alternatives (sql/functions/reads/availability.sql)."""

    business_id: str
    service_id: str
    slot_start: datetime
    slot_end: datetime | None
    quantity: int
    resource_id: str | None
    # What was to be moved there, if it is an appointment: its own claim is in nobody's way then.
    appointment_id: str | None = None


@dataclass(slots=True)
class _LookUp:
    """One that is under way, or its answer until that is too old."""

    answer: asyncio.Task[list[Alternative]]
    valid_until: float = math.inf


class Alternatives:
    """Finds alternatives. Those who are refused the same at the same time share one look-up: a stampede for a slot that
    is sold out must not become a stampede of look-ups."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._look_ups: OrderedDict[Wish, _LookUp] = OrderedDict()
        self._turns = asyncio.Semaphore(LOOK_UPS)

    async def nearest(self, wish: Wish) -> list[Alternative]:
        """At most five slots, the best first.

        Empty also where the database does not say so in time: those who ask were refused already, and are to be told.
        """
        look_up = self._look_ups.get(wish)
        if look_up is None or time.monotonic() >= look_up.valid_until:
            look_up = self._begin(wish)
        # One of those who wait may go away without taking the answer from the others.
        return await asyncio.shield(look_up.answer)

    def _begin(self, wish: Wish) -> _LookUp:
        look_up = self._look_ups[wish] = _LookUp(asyncio.create_task(self._find(wish)))
        self._look_ups.move_to_end(wish)
        if len(self._look_ups) > REMEMBERED:
            self._look_ups.popitem(last=False)

        def note_end(_: object) -> None:
            look_up.valid_until = time.monotonic() + VALID_SECONDS

        look_up.answer.add_done_callback(note_end)
        return look_up

    async def _find(self, wish: Wish) -> list[Alternative]:
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS), self._turns:
                rows = await self._database.fetch("alternatives", *wish)
        except (Unavailable, psycopg.Error, TimeoutError) as error:
            log.warning("alternatives_not_found", error=getattr(error, "sqlstate", None) or type(error).__name__)
            return []
        return [
            Alternative(slot_start=slot_start, slot_end=slot_end, resource_ids=resource_ids)
            for slot_start, slot_end, resource_ids in rows
        ]
