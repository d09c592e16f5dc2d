"""Appointments: manual and one-call booking, the owner's calendar, changes, cancellation, erasure, the audit trail."""

import base64
from datetime import datetime
from typing import Final
from uuid import UUID

from starlette.responses import Response

from service.booking.appointments import Appointment, Appointments, AuditEntry, Author, BookedAppointment
from service.errors import HoldfastError, Invalid
from service.http.documentation import examples
from service.http.endpoints import Access, Call, Endpoint, answer
from service.http.idempotency import HEADERS_OF_APPOINTMENT, idempotency_key, made
from service.http.shapes import AppointmentBody, AppointmentsQuery, BookingBody, CancelBody, ChangeBody, OfBusiness
from service.http.versions import expectation, version_tag
from service.naming import Record

_TO_CLAIM: Final = (
    "IDEMPOTENCY_KEY_MISMATCH",
    "SERVICE_NOT_FOUND",
    "RESOURCE_NOT_FOUND",
    "SLOT_UNAVAILABLE",
    "IDEMPOTENCY_KEY_REUSED",
)


class AppointmentPage(Record):
    """Appointments by start. `next_cursor` asks for the next page; it is null on the last one."""

    items: list[Appointment]
    next_cursor: str | None


class AuditTrail(Record):
    """The changes of an appointment, by version."""

    items: list[AuditEntry]


class AppointmentEndpoints:
    """Parses, calls one verb, answers."""

    def __init__(self, appointments: Appointments) -> None:
        self._appointments = appointments

    def endpoints(self) -> list[Endpoint]:
        """What there is to call."""
        appointments = "/api/booking/appointments"
        of_id = appointments + "/{appointmentId}"
        return [
            Endpoint(
                "POST",
                "/api/bookings",
                self.book,
                "Book a slot at once",
                {201: BookedAppointment, 200: BookedAppointment},
                "Hold and commit in one, for callers that need no hold. 200 with `Idempotency-Replayed: true` means "
                "that an earlier request with this idempotency key made it.",
                body=BookingBody,
                refusals=(*_TO_CLAIM, "SLOT_NOT_BOOKABLE"),
                operation_id="book",
                tag="appointments",
                request_headers=("Idempotency-Key",),
                answer_headers=HEADERS_OF_APPOINTMENT,
                examples=examples.BOOK,
            ),
            Endpoint(
                "POST",
                appointments,
                self.create,
                "Book on behalf of the business",
                {201: Appointment, 200: Appointment},
                "Without a hold. The same rule about room, but opening hours, notice, the past and `bookingEnabled` "
                "don't bind.",
                access=Access.STAFF,
                body=AppointmentBody,
                refusals=_TO_CLAIM,
                operation_id="createAppointment",
                tag="appointments",
                request_headers=("Idempotency-Key",),
                answer_headers=HEADERS_OF_APPOINTMENT,
                examples=examples.CREATE_APPOINTMENT,
            ),
            Endpoint(
                "GET",
                appointments,
                self.calendar,
                "List appointments",
                {200: AppointmentPage},
                "The calendar of a business: the appointments that start in `[from, to)`, by start, in pages. "
                "Whatever was committed before the call is included.",
                access=Access.READONLY,
                query=AppointmentsQuery,
                refusals=("BUSINESS_NOT_FOUND",),
                operation_id="listAppointments",
                tag="appointments",
                examples=examples.LIST_APPOINTMENTS,
            ),
            Endpoint(
                "GET",
                of_id,
                self.get,
                "One appointment",
                {200: Appointment},
                "`ETag` is its version, for `If-Match`.",
                access=Access.READONLY,
                query=OfBusiness,
                refusals=("APPOINTMENT_NOT_FOUND",),
                operation_id="getAppointment",
                tag="appointments",
                answer_headers={200: ("ETag",)},
                examples=examples.GET_APPOINTMENT,
            ),
            Endpoint(
                "PATCH",
                of_id,
                self.change,
                "Change or move an appointment",
                {200: Appointment},
                "Changes what the body names, if the appointment is still at the version that you read: give it as "
                "`expectedVersion`, or as `If-Match`, which answers a conflict with 412 instead of 409. `slotStart` "
                "alone keeps the duration. The appointment's own claim does not count against it.",
                access=Access.STAFF,
                body=ChangeBody,
                query=OfBusiness,
                refusals=(
                    "APPOINTMENT_NOT_FOUND",
                    "RESOURCE_NOT_FOUND",
                    "SLOT_UNAVAILABLE",
                    "VERSION_CONFLICT",
                    "APPOINTMENT_ENDED",
                ),
                statuses={"VERSION_CONFLICT": (409, 412)},
                operation_id="changeAppointment",
                tag="appointments",
                request_headers=("If-Match",),
                answer_headers={200: ("ETag",)},
                examples=examples.CHANGE_APPOINTMENT,
            ),
            Endpoint(
                "POST",
                of_id + "/cancel",
                self.cancel,
                "Cancel an appointment",
                {200: Appointment},
                "By the guest's `cancellationToken`, within the service's cancellation window, or by staff at any "
                "time. Also 200 when it is cancelled already. `expectedVersion`, or `If-Match`, lets it be cancelled "
                "only as you have read it.",
                access=Access.GUEST,
                body=CancelBody,
                query=OfBusiness,
                refusals=(
                    "APPOINTMENT_NOT_FOUND",
                    "VERSION_CONFLICT",
                    "APPOINTMENT_ENDED",
                    "CANCELLATION_WINDOW_CLOSED",
                ),
                statuses={"VERSION_CONFLICT": (409, 412)},
                operation_id="cancelAppointment",
                tag="appointments",
                request_headers=("If-Match",),
                answer_headers={200: ("ETag",)},
                examples=examples.CANCEL_APPOINTMENT,
            ),
            Endpoint(
                "GET",
                of_id + "/audit",
                self.audit,
                "The audit trail of an appointment",
                {200: AuditTrail},
                "One entry for each version. The guest, notes, reasons and metadata appear by name only.",
                access=Access.READONLY,
                query=OfBusiness,
                refusals=("APPOINTMENT_NOT_FOUND",),
                operation_id="getAuditTrail",
                tag="appointments",
                examples=examples.AUDIT_TRAIL,
            ),
            Endpoint(
                "DELETE",
                of_id + "/guest",
                self.erase,
                "Erase a guest's data",
                {204: None},
                "Removes the guest, notes, the reason and metadata: whatever is or may be personal. The appointment "
                "and its trail stay.",
                access=Access.OWNER,
                query=OfBusiness,
                refusals=("APPOINTMENT_NOT_FOUND", "VERSION_CONFLICT"),
                statuses={"VERSION_CONFLICT": (412,)},
                operation_id="eraseGuest",
                tag="appointments",
                request_headers=("If-Match",),
            ),
        ]

    async def book(self, call: Call) -> Response:
        """POST /api/bookings"""
        body: BookingBody = call.body
        request = {**body.wish(), **body.guest(), "source": "online"}
        return made(*await self._appointments.book(body.business_id, request, idempotency_key(call), author(call)))

    async def create(self, call: Call) -> Response:
        """POST /api/booking/appointments"""
        body: AppointmentBody = call.body
        request = {**body.wish(), **body.guest(), "source": body.source}
        return made(*await self._appointments.create(body.business_id, request, idempotency_key(call), author(call)))

    async def calendar(self, call: Call) -> Response:
        """GET /api/booking/appointments"""
        query: AppointmentsQuery = call.query
        # One more than is shown tells whether there is a next page.
        found = await self._appointments.page(
            query.business_id,
            (query.from_, query.to),
            query.resource_id,
            query.status,
            _place(query.cursor) if query.cursor else None,
            query.limit + 1,
        )
        items = [_without_hold(appointment) for appointment in found[: query.limit]]
        next_cursor = _cursor(items[-1]) if len(found) > query.limit else None
        return answer(AppointmentPage(items=items, next_cursor=next_cursor))

    async def get(self, call: Call) -> Response:
        """GET /api/booking/appointments/{appointmentId}"""
        return _tagged(call, await self._appointments.get(_appointment_id(call), call.business_id))

    async def change(self, call: Call) -> Response:
        """PATCH /api/booking/appointments/{appointmentId}"""
        body: ChangeBody = call.body
        expected = expectation(call)
        if expected.version is None and not expected.by_header:
            raise Invalid.at("expectedVersion", "is required, here or as If-Match: the version that you read")
        with expected.kept():
            changed = await self._appointments.change(
                _appointment_id(call), body.changes(), expected.version, author(call), call.business_id
            )
        return _tagged(call, changed)

    async def cancel(self, call: Call) -> Response:
        """POST /api/booking/appointments/{appointmentId}/cancel"""
        body: CancelBody = call.body
        expected = expectation(call)
        appointment_id, business_id = _appointment_id(call), call.business_id
        if call.principal is None:
            if body.cancellation_token is None:
                raise HoldfastError("UNAUTHORIZED", "Send the guest's cancellationToken, or a key of the business.")
            business_id = await self._appointments.check_token(appointment_id, body.cancellation_token, business_id)
        with expected.kept():
            cancelled = await self._appointments.cancel(
                appointment_id, body.reason, expected.version, author(call), business_id
            )
        return _tagged(call, cancelled)

    async def audit(self, call: Call) -> Response:
        """GET /api/booking/appointments/{appointmentId}/audit"""
        return answer(AuditTrail(items=await self._appointments.audit(_appointment_id(call), call.business_id)))

    async def erase(self, call: Call) -> Response:
        """DELETE /api/booking/appointments/{appointmentId}/guest"""
        expected = expectation(call)
        with expected.kept():
            await self._appointments.erase(_appointment_id(call), expected.version, author(call), call.business_id)
        return Response(status_code=204)


def author(call: Call) -> Author:
    """Who asks for a change: the key that was used, or a guest."""
    request_id = call.request.scope["request_id"]
    if call.principal is None:
        return Author("guest", None, request_id)
    return Author(call.principal.kind, call.principal.key_id, request_id)


def _appointment_id(call: Call) -> UUID:
    return call.path_uuid("appointmentId", "APPOINTMENT_NOT_FOUND")


def _tagged(call: Call, appointment: Appointment) -> Response:
    """An appointment with its version. Its hold is named only to those who may cancel it anyway: with the id of a hold
    one can commit it again, and is told the cancellation token."""
    if call.principal is None or call.principal.kind == "readonly":
        appointment = _without_hold(appointment)
    return answer(appointment, headers=version_tag(appointment))


def _without_hold(appointment: Appointment) -> Appointment:
    return appointment.model_copy(update={"reservation_id": None})


def _cursor(last: Appointment) -> str:
    """The place behind the last one of a page, opaque to callers."""
    place = f"{last.slot_start.isoformat()} {last.appointment_id}"
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _place(cursor: str) -> tuple[datetime, UUID]:
    try:
        start, _, appointment_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(" ")
        place = datetime.fromisoformat(start), UUID(appointment_id)
    except ValueError:
        place = None
    if place is None or place[0].tzinfo is None:
        raise Invalid.at("cursor", "is not a cursor of this service; start again without it")
    return place
