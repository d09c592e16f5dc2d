"""Holds: reserve, look up, extend, release, and commit to an appointment. The rules are in sql/functions."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Annotated, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, Field

from service.booking.appointments import BookedAppointment, Claim, KnownAppointment, committed
from service.booking.businesses import BusinessOf, found, rows_of
from service.booking.guests import Guests
from service.booking.instants import Instant, WrittenInstant, after
from service.booking.requests import Attempt, Author, Commit, Extend, Holder, Release, Reserve, merged, written
from service.booking.text import BusinessId, Identifier, WrittenUuid
from service.booking.tokens import CancellationTokens
from service.booking.verbs import Verbs
from service.database.connections import Database
from service.naming import Record

T = TypeVar("T")

# A place in a list: the start of the window and the expiry of a hold, by which it is sorted, and the id of the hold.
Place = tuple[datetime, datetime, UUID]

Status = Literal["held", "committed", "released", "expired"]


class Listed(BaseModel):
    """The holds to list, in the order of the parameters of booking.list_holds (sql/functions/reads/reservations.sql):
    members of the query of the list."""

    business_id: BusinessId
    from_: Instant | None = Field(None, description="Only those that end after this instant.")
    to: Annotated[Instant, after("from_")] | None = Field(
        None, description="Only those that begin before this instant."
    )
    service_id: Identifier | None = Field(None, description="Only those of this service.")
    resource_id: Identifier | None = Field(None, description="Only those of this resource.")


class OfReservation(Record):
    reservation_id: WrittenUuid = Field(
        description="The hold. This id can commit or release it: show it to its holder only."
    )


class Reservation(Claim, OfReservation):
    """A hold as its holder sees it."""

    status: Status = Field(description="`held`, or how it ended. An ended hold never changes again.")
    expires_at: WrittenInstant = Field(description="When the hold ends by itself: from then on it can't be committed.")
    expires_in_seconds: float = Field(description="Seconds to `expiresAt`, to count down from; 0 when it has ended.")
    ttl_clamped: bool = Field(description="Whether the requested time was cut to the service's maximum.")
    version: int = Field(description="Rises by 1 with every change of the hold.")


class Hold(Claim):
    """A live hold as its business sees it: without the id by which its holder can commit or release it."""

    hold_id: WrittenUuid = Field(description="Names the hold in this list, and nowhere else.")
    created_at: WrittenInstant = Field(description="When it was made.")
    expires_at: WrittenInstant = Field(description="When it ends by itself, unless it is committed or extended before.")
    expires_in_seconds: float = Field(description="Seconds to `expiresAt`, to count down from.")


class Holds:
    """The verbs on holds. Each raises `Refused`, `Invalid` and `Unavailable`, and looks up a `business_id` of None."""

    def __init__(
        self, look_ups: Database, lists: Database, verbs: Verbs, guests: Guests, tokens: CancellationTokens
    ) -> None:
        self._look_ups = look_ups
        self._lists = lists
        self._verbs = verbs
        self._guests = guests
        self._read_committed = partial(committed, tokens)
        self._business_of = BusinessOf(look_ups, query="business_of_reservation", missing="RESERVATION_NOT_FOUND")

    async def reserve(
        self, business_id: str, request: Reserve, attempt: Attempt, holder: Holder
    ) -> tuple[Reservation, bool]:
        """Holds a slot, and returns the hold and whether it is a replay.

        The fingerprint has neither what the catalog fills in nor the `holder`: either may differ at a retry.
        """
        sent = written(request)
        content = merged(sent, attempt.members(sent), holder)
        read = Reservation.model_validate_json
        reservation, replayed = await self._verbs.run(business_id, request, content, read)
        self._business_of.remember(reservation.reservation_id, business_id)
        return reservation, replayed

    async def commit(
        self, request: Commit, author: Author, holder: Holder, business_id: str | None
    ) -> tuple[BookedAppointment | KnownAppointment, bool]:
        """Turns a hold into an appointment, and returns that and whether it is a replay.

        A replay shows the appointment to the holder only: to the client of the hold, or to a request that repeats all
        of the guest's data.
        """
        business_id = await self._business_of.find(request.reservation_id, business_id)
        phone = await self._guests.stored_phone(business_id, request.guest)
        content = merged(written(request), phone, author, holder)
        return await self._verbs.run(business_id, request, content, self._read_committed)

    async def extend(self, request: Extend, business_id: str | None) -> Reservation:
        """Prolongs a hold, if the new end is later than it was."""
        return await self._run(request, business_id, Reservation.model_validate_json)

    async def release(self, request: Release, business_id: str | None) -> None:
        await self._run(request, business_id, bytes)

    async def get(self, reservation_id: UUID, business_id: str | None) -> Reservation:
        """Returns a hold as it is now."""
        business_id = await self._business_of.find(reservation_id, business_id)
        rows = await self._look_ups.fetch("reservation", business_id, reservation_id)
        return found(rows, Reservation, "RESERVATION_NOT_FOUND")

    async def page(self, listed: Listed, after: Place | None, limit: int) -> tuple[list[Hold], Place | None]:
        """Returns a page of the live holds of a business by the start of their window, and its last place if there is a
        next page, which begins `after` that."""
        business_id, *filters = (getattr(listed, name) for name in Listed.model_fields)
        # One more than the page shows whether there is a next one.
        place = after or (None, None, None)
        rows = await rows_of(self._lists, "list_holds", business_id, *filters, *place, limit + 1)
        holds = [Hold.model_validate_json(body) for *_, body in rows[:limit]]
        return holds, rows[limit - 1][:3] if len(rows) > limit else None

    async def of_client(self, business_id: str, client_id_hmac: str) -> list[Reservation]:
        """Returns the live holds of a client in a business, those that end first."""
        rows = await rows_of(self._lists, "holds_of_client", business_id, client_id_hmac)
        return [Reservation.model_validate_json(body) for (body,) in rows]

    async def _run(self, request: Extend | Release, business_id: str | None, read: Callable[[bytes], T]) -> T:
        business_id = await self._business_of.find(request.reservation_id, business_id)
        result, _ = await self._verbs.run(business_id, request, written(request), read)
        return result
