"""Holds: reserve, look, extend, release, and commit to an appointment. The rules are in sql/functions."""

from typing import Any, Literal
from uuid import UUID, uuid4

from pydantic import AwareDatetime

from service.booking.appointments import BookedAppointment
from service.booking.guests import Guests
from service.booking.operations import new_operation_id
from service.booking.outcomes import fingerprint
from service.booking.tenants import Tenants
from service.booking.tokens import CancellationTokens
from service.booking.verbs import Verbs
from service.database.connections import Database
from service.errors import Refused
from service.naming import Record


class Reservation(Record):
    """A hold as its holder sees it. `expires_in_seconds` is 0 when it has ended."""

    reservation_id: UUID
    business_id: str
    service_id: str
    resource_id: str | None
    slot_start: AwareDatetime
    slot_end: AwareDatetime
    quantity: int
    status: Literal["held", "committed", "released", "expired"]
    expires_at: AwareDatetime
    expires_in_seconds: float
    ttl_clamped: bool
    version: int


class Holds:
    """The verbs on holds."""

    def __init__(self, database: Database, verbs: Verbs, guests: Guests, tokens: CancellationTokens) -> None:
        self._database = database
        self._verbs = verbs
        self._guests = guests
        self._tokens = tokens
        self._tenants = Tenants(database, query="business_of_reservation", missing="RESERVATION_NOT_FOUND")

    async def reserve(
        self, business_id: str, request: dict[str, object], idempotency_key: str | None, holder: dict[str, object]
    ) -> tuple[Reservation, bool]:
        """Holds a slot.

        `request` has the members of a request to reserve (sql/functions/verbs/claim.sql) as the caller sent them: what
        the catalog would fill in is not filled in, because it is their fingerprint that a replay is compared by.
        `holder` has those that say who holds, where that is limited: a retry may come from another address.
        Returns the reservation and whether it is a replay. Raises `Refused`, `Invalid` and `Unavailable`.
        """
        # A reservation's id is the credential of its holder: all of it random.
        body, replayed = await self._verbs.run(
            "reserve",
            business_id,
            uuid4(),
            {**request, **holder, "idempotency_key": idempotency_key, "fingerprint": fingerprint(request)},
        )
        reservation = Reservation.model_validate(body)
        self._tenants.remember(reservation.reservation_id, business_id)
        return reservation, replayed

    async def commit(
        self, reservation_id: UUID, request: dict[str, object], business_id: str | None
    ) -> tuple[BookedAppointment, bool]:
        """Turns a hold into an appointment.

        `request` has the members of a request to commit (sql/functions/verbs/commit.sql). Without a `business_id` it is
        looked up. Returns the appointment and whether it is a replay. Raises `Refused`, `Invalid` and `Unavailable`.
        """
        business_id = await self._tenants.find(reservation_id, business_id)
        request = await self._guests.normalise_or_tell(business_id, request)
        body, replayed = await self._run("commit", reservation_id, business_id, request)
        return BookedAppointment.of(body, self._tokens), replayed

    async def extend(
        self, reservation_id: UUID, ttl_minutes: float, expected_version: int | None, business_id: str | None
    ) -> Reservation:
        """Prolongs a hold to `ttl_minutes` from now, if that is later. Raises `Refused` and `Unavailable`."""
        request: dict[str, object] = {"ttl_minutes": ttl_minutes, "expected_version": expected_version}
        body, _ = await self._run("extend", reservation_id, business_id, request)
        return Reservation.model_validate(body)

    async def release(self, reservation_id: UUID, business_id: str | None) -> None:
        """Gives up a hold. Raises `Refused` and `Unavailable`."""
        await self._run("release", reservation_id, business_id, {})

    async def get(self, reservation_id: UUID, business_id: str | None) -> Reservation:
        """A hold as it is now. Raises `Refused` and `Unavailable`."""
        business_id = await self._tenants.find(reservation_id, business_id)
        [(body,)] = await self._database.fetch("reservation", business_id, reservation_id)
        if body is None:
            raise Refused("RESERVATION_NOT_FOUND")
        return Reservation.model_validate(body)

    async def _run(
        self, verb: str, reservation_id: UUID, business_id: str | None, request: dict[str, object]
    ) -> tuple[dict[str, Any], bool]:
        business_id = await self._tenants.find(reservation_id, business_id)
        arguments = {"reservation_id": str(reservation_id), **request}
        return await self._verbs.run(verb, business_id, new_operation_id(), arguments)
