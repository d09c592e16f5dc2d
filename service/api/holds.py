"""Reserve, look up, extend, release and commit holds, and the capacity left in a slot."""

from functools import partial
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, RootModel

from service.api.cursors import cursor, place_at
from service.api.shapes import (
    CLAIM_REFUSALS,
    Body,
    BusinessQuery,
    ExpectedVersion,
    KnownBusiness,
    PageQuery,
    Query,
    ReachableGuestBody,
    SlotBody,
    SlotEndWithinReach,
    TtlMinutes,
    author,
)
from service.booking.appointments import BookedAppointment, KnownAppointment
from service.booking.availability import Capacity, capacity
from service.booking.holds import Hold, Holds, Listed, Reservation
from service.booking.instants import SlotInstant
from service.booking.requests import Commit, Extend, Release, Reserve
from service.booking.text import NamedBusiness, ServiceId
from service.database.connections import Reader
from service.http.answer import Answer
from service.http.call import Call
from service.http.clients import Holders
from service.http.conditions import COMMIT_HEADERS, HOLD_HEADERS, attempt, created_answer
from service.http.endpoint import Access, Missing, endpoint
from service.naming import Record

ReservationId = Annotated[UUID, Missing("RESERVATION_NOT_FOUND"), Field(description="The hold, by its id.")]
_HOLDS = "/api/booking/reservations"
_HOLD = _HOLDS + "/{reservationId}"
_TTL_MEANING = "How long: fractions allowed, at most the service's maximum (`ttlClamped`), by default `holdTtlMinutes`."
_HOLD_REFUSALS = ("RESERVATION_NOT_FOUND", "RESERVATION_RELEASED", "RESERVATION_EXPIRED", "VERSION_CONFLICT")
_EXTEND_REFUSALS = (*_HOLD_REFUSALS, "RESERVATION_COMMITTED", "HOLD_LIFETIME_EXCEEDED")
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


class HoldsQuery(PageQuery, Listed):
    """A page of live holds."""


class HoldPage(Record):
    """The live holds of a business, by the start of the time that they take."""

    items: list[Hold] = Field(description="The holds, by the start of the time that they take, with its buffer.")
    next_cursor: str | None = Field(description="Asks for the next page; `null` on the last one.")


class OwnHoldsQuery(Query):
    """The business of the holds."""

    business_id: NamedBusiness


class OwnHolds(Record):
    """The live holds of a client."""

    items: list[Reservation] = Field(description="The holds, those that end first.")


class CapacityQuery(Query):
    """A slot of a service."""

    business_id: NamedBusiness
    service_id: ServiceId
    slot_start: SlotInstant = Field(description="When the slot begins.")
    slot_end: SlotEndWithinReach = Field(description="When the slot ends. That instant is not part of it.")


class CommitReplay(RootModel[BookedAppointment | KnownAppointment]):
    """The appointment that an earlier commit made: all of it for the holder, and for others its id and status."""


class HoldApi:
    """The calls on holds."""

    def __init__(self, holds: Holds, reads: Reader, holders: Holders) -> None:
        self._holds = holds
        self._reads = reads
        self._holders = holders

    @_call(
        "POST",
        "/api/booking/reserve",
        answers={201: Reservation, 200: Reservation},
        refusals=(*CLAIM_REFUSALS, "SLOT_NOT_BOOKABLE", "TOO_MANY_HOLDS", "TOO_MANY_BOOKINGS"),
        request_headers=("Idempotency-Key", "X-Client-Id"),
        answer_headers=HOLD_HEADERS,
    )
    async def reserve(self, call: Call, body: ReserveBody) -> Answer:
        """Hold a slot.

        Holds a slot until `expiresAt`. 200 with `Idempotency-Replayed: true` means that an earlier request with this
        idempotency key made it.
        """
        request = Reserve(body.slot(), body.ttl_minutes)
        holder = self._holders.holder(call)
        return created_answer(*await self._holds.reserve(body.business_id, request, attempt(call), holder))

    @_call(
        "POST",
        "/api/booking/commit",
        answers={201: BookedAppointment, 200: CommitReplay},
        refusals=(*_HOLD_REFUSALS, "GUEST_LIMIT_REACHED", "SLOT_UNAVAILABLE"),
        request_headers=("X-Client-Id",),
        answer_headers=COMMIT_HEADERS,
    )
    async def commit(self, call: Call, body: CommitBody) -> Answer:
        """Turn a hold into an appointment.

        The reservation is its own key: committed again, it answers 200, and changes nothing. The answer has the same
        appointment if the request repeats the guest's data, or comes with the `X-Client-Id` of the hold; once it was
        changed, without what the business writes, as a guest's `GET`. Other callers, and all callers after the hold was
        deleted (usually a day later), get `appointmentId` and `status` only. `ifExpired: rebook` books an expired
        hold's slot if it is still free and within the limit of its client's bookings of a day; that of a hold of less
        than a minute only if the public can book it by then.
        """
        request = Commit(body.reservation_id, body, body.expected_version, body.if_expired)
        holder = self._holders.holder(call)
        return created_answer(*await self._holds.commit(request, author(call), holder, body.business_id))

    @_call("GET", _HOLDS, access=Access.READONLY)
    async def list_reservations(self, query: HoldsQuery) -> HoldPage:
        """List the live holds of a business.

        What guests are about to book: the holds that have not ended, for the calendar of a business. They have no guest
        yet. The id of a reservation lets its holder commit, extend and release it, so the list does not contain it:
        staff can't end the hold of a guest, which ends by itself at `expiresAt`.
        """
        after = place_at(query.cursor, query, instants=2) if query.cursor else None
        items, last = await self._holds.page(query, after, query.limit)
        return HoldPage(items=items, next_cursor=cursor(query, *last) if last else None)

    @_call("GET", _HOLDS + "/own", refusals=("BUSINESS_NOT_FOUND",), required_headers=("X-Client-Id",))
    async def list_own_holds(self, call: Call, query: OwnHoldsQuery) -> OwnHolds:
        """List the live holds of a client.

        For a page that was loaded again: those that were reserved with the same `X-Client-Id`, those that end
        first, at most 100. The header is required and is the credential: a random UUID, 16 characters at
        least, that no other client knows.
        """
        client_id = self._holders.secret_id_hmac(call)
        return OwnHolds(items=await self._holds.of_client(query.business_id, client_id))

    @_call("GET", _HOLD, refusals=("RESERVATION_NOT_FOUND",))
    async def get_reservation(self, reservation_id: ReservationId, query: BusinessQuery) -> Reservation:
        """Look up a hold."""
        return await self._holds.get(reservation_id, query.business_id)

    @_call("POST", _HOLD + "/extend", refusals=_EXTEND_REFUSALS)
    async def extend(self, reservation_id: ReservationId, body: ExtendBody, query: BusinessQuery) -> Reservation:
        """Extend a hold.

        `expiresAt` becomes the later of its present value and now + `ttlMinutes`. A refused extend changes nothing.
        """
        request = Extend(reservation_id, body.ttl_minutes, body.expected_version)
        return await self._holds.extend(request, query.business_id)

    @_call("DELETE", _HOLD, refusals=_RELEASE_REFUSALS)
    @_call("POST", _HOLD + "/release", operation_id="releaseByPost", refusals=_RELEASE_REFUSALS)
    async def release(self, reservation_id: ReservationId, query: BusinessQuery) -> None:
        """Release a hold.

        Also 204 when repeated, or when the hold has expired. The POST is for `navigator.sendBeacon` of a page that
        closes: a body of any content type is ignored.
        """
        await self._holds.release(Release(reservation_id), query.business_id)

    @endpoint("GET", "/api/booking/capacity", tag="capacity", refusals=("SERVICE_NOT_FOUND",))
    async def get_capacity(self, query: CapacityQuery) -> Capacity:
        """Get the capacity left in one slot."""
        slot = query.slot_start, query.slot_end
        return await capacity(self._reads, query.business_id, query.service_id, *slot)
