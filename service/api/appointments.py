"""Appointments: one-call and manual booking, the owner's calendar, changes, cancellation, erasure, the audit trail."""

from collections.abc import AsyncGenerator, AsyncIterator
from functools import partial
from typing import Annotated, Any, Final, Self
from uuid import UUID

from pydantic import Field, model_validator
from starlette.types import ASGIApp

from service.api.cursors import cursor, place_at
from service.api.shapes import (
    BOOKING_REFUSALS,
    CLAIM_REFUSALS,
    Body,
    BusinessQuery,
    ExpectedVersion,
    GuestBody,
    PageQuery,
    ReachableGuestBody,
    SlotBody,
    SlotEnd,
    SlotEndWithinReach,
    TtlMinutes,
    Version,
    author,
)
from service.booking.appointments import Appointment, Appointments, AuditEntry, BookedAppointment, Listed, Status
from service.booking.catalog_types import Units
from service.booking.contacts import PHONE_MEANING, Email, Phone
from service.booking.instants import EndOfSlot, SlotInstant
from service.booking.requests import Book, Change
from service.booking.text import BusinessId, Identifier, Metadata, Notes, ServiceId
from service.errors import Invalid
from service.faults import FaultCode, fault_error_at
from service.http.answer import JSON, Answer, answer
from service.http.call import Call
from service.http.clients import Holders
from service.http.conditions import (
    APPOINTMENT_HEADERS,
    attempt,
    created_answer,
    expected_version,
    precondition,
    version_tag,
)
from service.http.endpoint import Access, Missing, endpoint
from service.http.streamed import StreamedAnswer
from service.naming import Record

AppointmentId = Annotated[UUID, Missing("APPOINTMENT_NOT_FOUND"), Field(description="The appointment, by its id.")]


class BookingBody(SlotBody, ReachableGuestBody):
    """Books a slot at once. It takes every member of a hold's body too."""

    ttl_minutes: TtlMinutes | None = Field(None, description="Has no effect: accepted because `reserve` takes it.")


class AppointmentBody(SlotBody, GuestBody):
    """Books a slot on behalf of the business, for a guest of whom no more than a name may be known."""

    business_id: BusinessId
    slot_end: SlotEndWithinReach | None = Field(None, description="When it ends. Left out, as long as the service.")
    source: Identifier = Field("manual", description="Where it was made, in your own words.")


def _if_sent(description: str) -> Any:
    """Declares a member that may be left out but is never null. The schema does not show its default."""
    return Field(default_factory=lambda: None, description=description)


class ChangeBody(GuestBody):
    """Changes the members that are sent. Null removes one that is optional; a resource of null means any free one."""

    expected_version: Version | None = Field(None, description="Required here or as `If-Match`: the version you read.")
    service_id: ServiceId = _if_sent("The new service. Without `slotEnd` it sets the duration too.")
    slot_start: SlotInstant = _if_sent("The new start. Alone, it keeps the duration.")
    slot_end: EndOfSlot = _if_sent("The new end of the slot.")
    resource_id: Identifier | None = Field(None, description="The resource that it moves to; `null` for any free one.")
    quantity: Units = _if_sent("How many units of the service's capacity.")
    status: Status = _if_sent("`completed`, `no_show`, `cancelled`; `confirmed` again.")
    metadata: Metadata = Field(default_factory=dict, description="Replaces the former metadata.")

    def changes(self) -> dict[str, Any]:
        """Returns the members that were sent, by the names of the verb."""
        return self.model_dump(mode="json", by_alias=False, include=self.model_fields_set - {"expected_version"})


class RescheduleBody(Body):
    """Moves an appointment, as its guest or on behalf of the business."""

    slot_start: SlotInstant = Field(description="The new start.")
    slot_end: SlotEnd | None = Field(None, description="The new end. Left out, the duration stays.")
    resource_id: Identifier | None = Field(
        None, description="The resource that it moves to; `null` for any free one. Left out, the resource stays."
    )
    expected_version: ExpectedVersion = None

    def changes(self) -> dict[str, Any]:
        """Returns the members of the new slot, by the names of the verb."""
        sent = self.model_fields_set & {"slot_start", "slot_end", "resource_id"}
        unsaid = {"slot_end"} if self.slot_end is None else set()
        return self.model_dump(mode="json", by_alias=False, include=sent - unsaid)


class CancelBody(Body):
    """Cancels an appointment, as its guest by the token or on behalf of the business."""

    cancellation_token: str | None = Field(None, description="The guest's, if it is not sent as `Guest-Token`.")
    expected_version: ExpectedVersion = None
    reason: Notes | None = Field(None, description="Why, for the business. Its text is not in the audit trail.")


class EraseBody(Body):
    """Names one person, by the e-mail address or the phone number of the person's bookings."""

    business_id: BusinessId
    guest_email: Email | None = Field(
        None, description="The guest's e-mail address, in any case of its letters. Either this or `guestPhone`."
    )
    guest_phone: Phone | None = Field(None, description=f"{PHONE_MEANING} Either this or `guestEmail`.")

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if self.guest_email is None and self.guest_phone is None:
            raise fault_error_at("guestEmail", FaultCode.REQUIRED_WITHOUT, fields=["guestPhone"])
        if self.guest_email is not None and self.guest_phone is not None:
            raise fault_error_at("guestPhone", FaultCode.NOT_WITH, fields=["guestEmail"])
        return self


class Erasure(Record):
    """The result of an erasure."""

    erased: int = Field(description="How many appointments lost their guest's data; 0 if there was none left.")


class AppointmentsQuery(PageQuery, Listed):
    """A page of appointments. Without `updatedSince`, `guestEmail` or `guestPhone`, `from` and `to` are required."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if not (self.updated_since or self.guest_email or self.guest_phone) and not (self.from_ and self.to):
            missing = "to" if self.from_ else "from"
            others = ["updatedSince", "guestEmail", "guestPhone"]
            raise fault_error_at(missing, FaultCode.REQUIRED_WITHOUT, fields=others)
        return self


class AppointmentPage(Record):
    """Appointments by start, or with `updated_since` by change."""

    items: list[Appointment] = Field(description="The appointments, by start; with `updatedSince`, by change.")
    next_cursor: str | None = Field(description="Asks for the next page; `null` on the last one.")


class AuditTrail(Record):
    """The changes of an appointment, by version."""

    items: list[AuditEntry] = Field(description="The changes, by version.")


_APPOINTMENTS: Final = "/api/booking/appointments"
_APPOINTMENT: Final = _APPOINTMENTS + "/{appointmentId}"
_CHANGE_REFUSALS: Final = ("APPOINTMENT_NOT_FOUND", "VERSION_CONFLICT", "APPOINTMENT_ENDED")
_MOVE_REFUSALS: Final = (*_CHANGE_REFUSALS, "BUSINESS_MISCONFIGURED", "RESOURCE_NOT_FOUND", "SLOT_UNAVAILABLE")
_call = partial(endpoint, tag="appointments")
_book = partial(
    _call,
    "POST",
    answers={201: BookedAppointment, 200: BookedAppointment},
    request_headers=("Idempotency-Key", "X-Client-Id"),
    answer_headers=APPOINTMENT_HEADERS,
)
_of_id = partial(_call, query=BusinessQuery, refusals=("APPOINTMENT_NOT_FOUND",))
_tagged_call = partial(_of_id, answers={200: Appointment}, answer_headers={200: ("ETag",)})
_change = partial(
    _tagged_call, access=Access.STAFF, statuses={"VERSION_CONFLICT": (409, 412)}, request_headers=("If-Match",)
)


class AppointmentApi:
    def __init__(self, appointments: Appointments, holders: Holders) -> None:
        self._appointments = appointments
        self._holders = holders

    @_book("/api/bookings", refusals=BOOKING_REFUSALS)
    async def book(self, call: Call, body: BookingBody) -> Answer:
        """Book a slot at once.

        Hold and commit in one, for callers that need no hold. 200 with `Idempotency-Replayed: true` means that an
        earlier request with this idempotency key made it.
        """
        request = Book(body.slot(), body, "online")
        caller = attempt(call), author(call), self._holders.holder(call)
        return created_answer(*await self._appointments.book(body.business_id, request, *caller))

    @_book(_APPOINTMENTS, access=Access.STAFF, refusals=CLAIM_REFUSALS)
    async def create_appointment(self, call: Call, body: AppointmentBody) -> Answer:
        """Book on behalf of the business.

        Without a hold. The same rule about room, but opening hours, notice, the past, `bookingEnabled` and
        `maxUpcomingPerGuest` don't bind: `warnings` names the rules for the public that the slot breaks, but for the
        last two. A replay has none.
        Pass the `cancellationToken` on to the guest, who may have called.
        """
        request = Book(body.slot(), body, body.source, manual=True)
        booked = await self._appointments.book(body.business_id, request, attempt(call), author(call))
        return created_answer(*booked)

    @_call("GET", _APPOINTMENTS, access=Access.READONLY)
    async def list_appointments(self, query: AppointmentsQuery) -> AppointmentPage:
        """List appointments.

        The calendar of a business: the appointments that start in `[from, to)`, by start, in pages. With `overlapping`
        also those that are under way at `from`, such as the guests who are in the house. With `updatedSince` those that
        changed, by change: ask again with the last `updatedAt` to keep a copy up to date; one that changes between two
        pages is listed again. Everything that was committed before the call is included. A page has 512 KB at most, so
        it may be shorter than `limit`.
        """
        after = place_at(query.cursor, query) if query.cursor else None
        found, last = await self._appointments.page(query, after, query.limit)
        items = [_without_hold(appointment) for appointment in found]
        return AppointmentPage(items=items, next_cursor=cursor(query, *last) if last else None)

    @_tagged_call("GET", _APPOINTMENT, access=Access.READONLY, by_guest=True)
    async def get_appointment(self, call: Call, appointment_id: AppointmentId) -> Answer:
        """Get an appointment.

        With a key, or with the guest's `Guest-Token`. A guest sees the slot, the status, the terms and the guest's own
        name and addresses: `notes`, `metadata` and `cancellationReason`, which the business writes too, are hidden as
        `null`, empty and absent, and `reservationId` is `null`.
        """
        business_id = await self._admit(call, appointment_id)
        return _tagged(call, await self._appointments.get(appointment_id, business_id))

    @_change("PATCH", _APPOINTMENT, refusals=(*_MOVE_REFUSALS, "SERVICE_NOT_FOUND", "APPOINTMENT_NOT_STARTED"))
    async def change_appointment(self, call: Call, appointment_id: AppointmentId, body: ChangeBody) -> Answer:
        """Change or move an appointment.

        Changes the members that are sent, if the appointment is still at the version that you read: give it as
        `expectedVersion`, or as `If-Match`, which answers a conflict with 412 instead of 409. `slotStart` alone keeps
        the duration. A new `serviceId` brings the duration and the buffers of that service, and keeps the resource if
        that serves it. The appointment's own claim does not count against it. Opening hours and the other rules for the
        public don't bind: `warnings` names those that the new slot or resource breaks, as a lunch break or a holiday.
        `completed` and `no_show` are possible from the start of the slot on, and `confirmed` takes them back while
        there is room.
        """
        if body.expected_version is None and call.header(b"if-match") is None:
            raise Invalid.at("expectedVersion", FaultCode.REQUIRED_WITHOUT, fields=["If-Match"])
        return await self._change(call, Change(appointment_id, "change", expected_version(call), body.changes()))

    @_change(
        "POST",
        _APPOINTMENT + "/reschedule",
        by_guest=True,
        refusals=(*_MOVE_REFUSALS, "RESCHEDULE_WINDOW_CLOSED", "SLOT_NOT_BOOKABLE"),
    )
    async def reschedule_appointment(self, call: Call, appointment_id: AppointmentId, body: RescheduleBody) -> Answer:
        """Move an appointment.

        By the guest's `Guest-Token` until `reschedulableUntil`, to a slot that the public can book, or by staff at any
        time to any slot. Only room is required of both. The old slot is kept until the new one is taken, and a refused
        move changes nothing. With `expectedVersion`, or `If-Match`, it is moved only at that version. A guest gets the
        answer of `GET`.
        """
        request = Change(appointment_id, "reschedule", expected_version(call), body.changes())
        return await self._change(call, request)

    @_change(
        "POST", _APPOINTMENT + "/cancel", by_guest=True, refusals=(*_CHANGE_REFUSALS, "CANCELLATION_WINDOW_CLOSED")
    )
    async def cancel_appointment(self, call: Call, appointment_id: AppointmentId, body: CancelBody) -> Answer:
        """Cancel an appointment.

        By the guest's `Guest-Token`, or `cancellationToken` in the body, until `cancellableUntil`, or by staff at any
        time. Also 200 when it is cancelled already. With `expectedVersion`, or `If-Match`, it is cancelled only at that
        version. A guest gets the answer of `GET`.
        """
        request = Change(appointment_id, "cancel", expected_version(call), reason=body.reason)
        return await self._change(call, request, body.cancellation_token)

    @_of_id("GET", _APPOINTMENT + "/audit", answers={200: AuditTrail}, access=Access.READONLY)
    async def get_audit_trail(self, call: Call, appointment_id: AppointmentId) -> ASGIApp:
        """Get the audit trail of an appointment.

        One entry for each version. The guest, notes, reasons and metadata appear by name only.
        """
        pages = self._appointments.audit(appointment_id, call.business_id)
        return await StreamedAnswer(_written_trail(pages), JSON).begun()

    @_of_id(
        "DELETE",
        _APPOINTMENT + "/guest",
        access=Access.OWNER,
        refusals=("APPOINTMENT_NOT_FOUND", "VERSION_CONFLICT"),
        statuses={"VERSION_CONFLICT": (412,)},
        request_headers=("If-Match",),
    )
    async def erase_guest(self, call: Call, appointment_id: AppointmentId) -> None:
        """Erase a guest's data.

        Removes the guest, notes, the reason and metadata: all that may be personal. The appointment and its trail stay.
        """
        request = Change(appointment_id, "erase", expected_version(call))
        with precondition(call):
            await self._appointments.change(request, author(call), call.business_id)

    @_call("POST", "/api/booking/guests/erase", access=Access.OWNER)
    async def erase_person(self, call: Call, body: EraseBody) -> Erasure:
        """Erase all data of one person.

        Erases the guest's data, as the erasure of one appointment does, from every appointment of the business that has
        this e-mail address or phone number. A person who booked with both, on different appointments, needs a call for
        each. Repeat the call if its answer was lost: what was erased is not erased again.
        """
        erased = await self._appointments.erase(body.business_id, body.guest_email, body.guest_phone, author(call))
        return Erasure(erased=erased)

    async def _change(self, call: Call, request: Change, token: str | None = None) -> Answer:
        """Runs a change of a guest, or of the holder of a key, and builds the answer with the changed appointment."""
        business_id = await self._admit(call, request.appointment_id, token)
        with precondition(call):
            return _tagged(call, await self._appointments.change(request, author(call), business_id))

    async def _admit(self, call: Call, appointment_id: UUID, token: str | None = None) -> str | None:
        """Returns the business of a call, if it is known. A guest's token, in the header or the body, decides in place
        of the key. Raises `HoldfastError` (FORBIDDEN)."""
        tokens = [sent for sent in (call.guest_token, token) if sent is not None]
        if tokens:
            call.principal = None
        business_id = call.business_id
        for sent in tokens:
            business_id = await self._appointments.check_token(appointment_id, sent, business_id)
        return business_id


async def _written_trail(pages: AsyncIterator[list[AuditEntry]]) -> AsyncGenerator[bytes, None]:
    """Writes an `AuditTrail` page by page."""
    before = '{"items":['
    async for entries in pages:
        written = AuditTrail(items=entries).model_dump_json()
        yield (before + written.removeprefix('{"items":[').removesuffix("]}")).encode()
        before = ","
    yield b"]}"


def _tagged(call: Call, appointment: Appointment) -> Answer:
    """Builds the answer with an appointment and its version.

    Its hold is shown only to staff: with the id of a hold one can commit it again, and gets the cancellation token.
    """
    if call.principal is None:
        appointment = appointment.for_guest()
    elif call.principal.kind == "readonly":
        appointment = _without_hold(appointment)
    return answer(appointment, headers=version_tag(appointment))


def _without_hold(appointment: Appointment) -> Appointment:
    return appointment.model_copy(update={"reservation_id": None})
