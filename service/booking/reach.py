"""The reach of a claim: the services whose slots have more or less room because of it, and when these slots start."""

from datetime import datetime, timedelta
from functools import partial
from typing import Final, NamedTuple

from pydantic import Field

from service.booking.instants import WrittenInstant, written_instant
from service.database.connections import Database
from service.naming import Record
from service.single_flight import SingleFlight

# Businesses with watchers whose settings are kept, and for how long. Changes of settings are forgotten at once.
_BUSINESSES: Final = 200
_SECONDS: Final = 60.0


class ServiceReach(NamedTuple):
    """A service in the columns of booking.reaches (sql/functions/reads/reaches.sql)."""

    service_id: str
    is_listed: bool
    resource_ids: list[str]
    before: timedelta
    after: timedelta
    longest_slot: timedelta
    longest_window: timedelta


class ChangedSlots(Record):
    """Services with slots that have more or less room now, and the range in which these start: load it again."""

    service_ids: list[str] = Field(description="The services: that of the claim, and those that share its resource.")
    from_: WrittenInstant = Field(description="The `from` of the slots to load.")
    to: WrittenInstant = Field(description="The `to` of the slots to load.")


class Reaches:
    """Finds the reach of claims. Keeps the services of the businesses that are watched."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._services = SingleFlight[str, dict[str, ServiceReach]](keep_seconds=_SECONDS, max_kept=_BUSINESSES)

    def forget(self, business_id: str | None) -> None:
        """Drops the services of a business, whose settings may have changed; without one, of all."""
        self._services.forget(business_id)

    async def of_claim(
        self,
        business_id: str,
        service_id: str,
        resource_id: str | None,
        slot: tuple[datetime, datetime],
        watched: str | None,
    ) -> ChangedSlots | None:
        """Returns the reach of a claim, among all services or the one that is `watched`: None if it has none there.

        It may be wider than necessary, and never too narrow. Raises `Unavailable`, `KeyError` for an unknown service,
        and `OverflowError` at the end of time.
        """
        services = await self._services.run(business_id, partial(self._read, business_id))
        own = services[service_id]
        slot_start, slot_end = slot
        # The buffers of a claim are those of its service when it was made. They may differ from those of today, but no
        # window is longer than the longest one.
        starts = min(slot_start - own.before, slot_end - own.longest_window)
        ends = max(slot_end + own.after, slot_start + own.longest_window)
        concerned = [
            service
            for service in services.values()
            if service.is_listed
            and watched in (None, service.service_id)
            and (service.service_id == service_id or resource_id in service.resource_ids)
        ]
        if not concerned:
            return None
        # The slots whose own windows overlap this time.
        return ChangedSlots(
            service_ids=sorted(service.service_id for service in concerned),
            from_=written_instant(min(starts - service.longest_slot - service.after for service in concerned)),
            to=written_instant(max(ends + service.before for service in concerned)),
        )

    async def _read(self, business_id: str) -> dict[str, ServiceReach]:
        return {row[0]: ServiceReach(*row) for row in await self._database.fetch("reaches", business_id)}
