"""One-call booking for a booking widget, which knows a business by its slug and speaks a language of its own."""

from typing import Annotated, Literal, cast

from pydantic import Field, StringConstraints
from starlette.responses import Response

from service.api.appointments import author
from service.booking.alternatives import Alternative
from service.booking.appointments import Appointments, BookedAppointment
from service.booking.instants import SlotInstant
from service.booking.tenants import business_of_slug
from service.booking.text import Identifier, Notes, Phone
from service.database.connections import Database
from service.errors import Invalid
from service.http.documentation import examples
from service.http.documentation.schemas import Fault
from service.http.endpoints import Call, Endpoint
from service.http.idempotency import HEADERS_OF_APPOINTMENT, idempotency_key, made
from service.http.problems import WIDGETS
from service.http.shapes import Body, Email
from service.naming import Record

FirstOrLastName = Annotated[str, StringConstraints(min_length=1, max_length=99, pattern=r"^[^\x00]*$")]


class WidgetBody(Body):
    """Books a slot of the business of the address, as long as the service."""

    service_id: Identifier
    staff_id: Identifier | None = None
    start_time: SlotInstant
    first_name: FirstOrLastName
    last_name: FirstOrLastName
    email: Email
    phone: Phone | None = None
    notes: Notes | None = None
    location_id: Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")] | None = None

    def request(self) -> dict[str, object]:
        """The same in the arguments of the verb."""
        return {
            "service_id": self.service_id,
            "slot_start": self.start_time.isoformat(),
            "quantity": 1,
            "resource_id": self.staff_id,
            "guest_name": f"{self.first_name} {self.last_name}",
            "guest_email": self.email,
            "guest_phone": self.phone,
            "notes": self.notes,
            "metadata": {"locationId": self.location_id} if self.location_id else {},
            "source": "widget",
        }


class WidgetBooking(Record):
    """A success, as the widget reads it."""

    success: Literal[True] = True
    data: BookedAppointment


class WidgetError(Record):
    """What was wrong."""

    code: str
    message: str
    errors: list[Fault] | None = Field(default=None, exclude_if=lambda errors: errors is None)
    reason: str | None = Field(default=None, exclude_if=lambda reason: reason is None)


class WidgetRefusal(Record):
    """An error, as the widget reads it: see service.http.problems, which writes it."""

    success: Literal[False] = False
    error: WidgetError
    alternatives: list[Alternative] | None = Field(default=None, exclude_if=lambda slots: slots is None)


class WidgetEndpoints:
    """Parses, calls one verb, answers."""

    def __init__(self, appointments: Appointments, database: Database) -> None:
        self._appointments = appointments
        self._database = database

    def endpoints(self) -> list[Endpoint]:
        """What there is to call."""
        return [
            Endpoint(
                "POST",
                WIDGETS + "{slug}/book",
                self.book,
                "Book from a widget",
                {201: WidgetBooking, 200: WidgetBooking},
                "One call, for a booking widget. Every error has the widget's own shape; a slot that was taken is a "
                "400 with `TIME_CONFLICT` and `alternatives`.",
                body=WidgetBody,
                refusals=(
                    "BUSINESS_NOT_FOUND",
                    "SERVICE_NOT_FOUND",
                    "RESOURCE_NOT_FOUND",
                    "SLOT_UNAVAILABLE",
                    "IDEMPOTENCY_KEY_REUSED",
                    "SLOT_NOT_BOOKABLE",
                ),
                statuses={"SLOT_UNAVAILABLE": (400,)},
                refusal_shape=WidgetRefusal,
                operation_id="bookFromWidget",
                tag="appointments",
                request_headers=("Idempotency-Key",),
                answer_headers=HEADERS_OF_APPOINTMENT,
                examples=examples.WIDGET,
            )
        ]

    async def book(self, call: Call) -> Response:
        """POST /api/v1/public/{slug}/book"""
        body: WidgetBody = call.body
        key = idempotency_key(call)
        business_id = await business_of_slug(self._database, call.path["slug"])
        try:
            booked, replayed = await self._appointments.book(business_id, body.request(), key, author(call))
        except Invalid as error:
            raise _by_names_of_widget(error) from None
        return made(booked, replayed, WidgetBooking(data=booked))


def _by_names_of_widget(error: Invalid) -> Invalid:
    """Faults that are found behind the body's shape are named as the service names its members."""
    names = {"guestPhone": "phone"}
    faults = cast(list[dict[str, str]], error.members["errors"])
    return Invalid(
        error.code, errors=[{**fault, "field": names.get(fault["field"], fault["field"])} for fault in faults]
    )
