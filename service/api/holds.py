"""Reserve, look up, extend, release and commit holds, and the capacity left in a slot."""

from functools import partial
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from service.api.shapes import (
    CLAIM_REFUSALS,
    Body,
    BusinessQuery,
    ExpectedVersion,
    KnownBusiness,
    Query,
    ReachableGuestBody,
    SlotBody,
    SlotEndWithinReach,
    TtlMinutes,
    author,
)
from service.booking.appointments import BookedAppointment
from service.booking.availability import Capacity, capacity
from service.booking.holds import Holds, Reservation
from service.booking.instants import SlotInstant
from service.booking.requests import Commit, Extend, Release, Reserve
from service.booking.text import BusinessId, ServiceId
from service.database.connections import Database
from service.http.answer import Answer, answer, no_content
from service.http.call import Call
from service.http.clients import HoldLimit
from service.http.conditions import APPOINTMENT_HEADERS, HOLD_HEADERS, attempt, created_answer
from service.http.endpoint import Missing, endpoint

ReservationId = Annotated[UUID, Missing("RESERVATION_NOT_FOUND"), Field(description="The hold, by its id.")]
_HOLD = "/api/booking/reservations/{reservationId}"
_TTL_MEANING = "How long: fractions allowed, at most the service's maximum (`ttlClamped`), by default `holdTtlMinutes`."
_HOLD_REFUSALS = ("RESERVATION_NOT_FOUND", "RESERVATION_RELEASED", "RESERVATION_EXPIRED", "VERSION_CONFLICT")
_RELEASE_REFUSALS = ("RESERVATION_NOT_FOUND", "RESERVATION_COMMITTED")
_call = partial(endpoint, tag="reservations")


class ReserveBody(SlotBody):
    """Holds a slot."""

    ttl_minutes: TtlMinutes | None = Field(None, description=_TTL_MEANING)


class CommitBody(ReachableGuestBody):
    """Turns a hold into an appointment. An e-mail address or a phone number is required."""

    reservation_id: UUID = Field(description="The hold.")
    expected_version: ExpectedVersion = None
    business_id: KnownBusiness = None
    if_expired: Literal["rebook"] | None = Field(None, description="`rebook`: books an expired hold's slot if free.")


class ExtendBody(Body):
    """Prolongs a hold to a number of minutes from now, if that is later than its present end."""

    ttl_minutes: TtlMinutes = Field(description="How long from now. Cut to the service's maximum (`ttlClamped`).")
    expected_version: ExpectedVersion = None


class CapacityQuery(Query):
    """A slot of a service."""

    business_id: BusinessId
    service_id: ServiceId
    slot_start: SlotInstant = Field(description="When the slot begins.")
    slot_end: SlotEndWithinReach = Field(description="When the slot ends. That instant is not part of it.")


class HoldApi:
    """The calls on holds. Without a `hold_limit` a client may hold any number of slots."""

    def __init__(self, holds: Holds, database: Database, hold_limit: HoldLimit | None) -> None:
        self._holds = holds
        self._database = database
        self._hold_limit = hold_limit

    @_call(
        "POST",
        "/api/booking/reserve",
        answers={201: Reservation, 200: Reservation},
        refusals=(*CLAIM_REFUSALS, "SLOT_NOT_BOOKABLE", "TOO_MANY_HOLDS"),
        request_headers=("Idempotency-Key", "X-Client-Id"),
        answer_headers=HOLD_HEADERS,
    )
    async def reserve(self, call: Call, body: ReserveBody) -> Answer:
        """Hold a slot.

        Holds a slot until `expiresAt`. 200 with `Idempotency-Replayed: true` means that an earlier request with this
        idempotency key made it.
        """
        request = Reserve(body.slot(), body.ttl_minutes)
        holder = self._hold_limit.holder(call) if self._hold_limit else None
        return created_answer(*await self._holds.reserve(body.business_id, request, attempt(call), holder))

    @_call(
        "POST",
        "/api/booking/commit",
        answers={201: BookedAppointment, 200: BookedAppointment},
        refusals=(*_HOLD_REFUSALS, "SLOT_UNAVAILABLE"),
        answer_headers=APPOINTMENT_HEADERS,
    )
    async def commit(self, call: Call, body: CommitBody) -> Answer:
        """Turn a hold into an appointment.

        The reservation is its own key: committed again, it answers 200 with the same appointment, and later guest
        fields are ignored. `ifExpired: rebook` books an expired hold's slot if it is still free.
        """
        request = Commit(body.reservation_id, body.guest(), body.expected_version, body.if_expired)
        return created_answer(*await self._holds.commit(request, author(call), body.business_id))

    @_call("GET", _HOLD, answers={200: Reservation}, refusals=("RESERVATION_NOT_FOUND",))
    async def get_reservation(self, reservation_id: ReservationId, query: BusinessQuery) -> Answer:
        """Look up a hold."""
        return answer(await self._holds.get(reservation_id, query.business_id))

    @_call(
        "POST",
        _HOLD + "/extend",
        answers={200: Reservation},
        refusals=(*_HOLD_REFUSALS, "RESERVATION_COMMITTED", "HOLD_LIFETIME_EXCEEDED"),
    )
    async def extend(self, reservation_id: ReservationId, body: ExtendBody, query: BusinessQuery) -> Answer:
        """Extend a hold.

        `expiresAt` becomes the later of its present value and now + `ttlMinutes`. A refused extend changes nothing.
        """
        request = Extend(reservation_id, body.ttl_minutes, body.expected_version)
        return answer(await self._holds.extend(request, query.business_id))

    @_call("DELETE", _HOLD, answers={204: None}, refusals=_RELEASE_REFUSALS)
    @_call("POST", _HOLD + "/release", operation_id="releaseByPost", answers={204: None}, refusals=_RELEASE_REFUSALS)
    async def release(self, reservation_id: ReservationId, query: BusinessQuery) -> Answer:
        """Release a hold.

        Also 204 when repeated, or when the hold has expired. The POST is for `navigator.sendBeacon` of a page that
        closes: a body of any content type is ignored.
        """
        await self._holds.release(Release(reservation_id), query.business_id)
        return no_content()

    @endpoint("GET", "/api/booking/capacity", tag="capacity", answers={200: Capacity}, refusals=("SERVICE_NOT_FOUND",))
    async def get_capacity(self, query: CapacityQuery) -> Answer:
        """Get the capacity left in one slot."""
        slot = query.slot_start, query.slot_end
        return answer(await capacity(self._database, query.business_id, query.service_id, *slot))
