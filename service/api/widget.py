"""One-call booking for a booking widget, which knows a business by its slug and has a format of its own."""

from typing import Annotated, Literal

from pydantic import Field

from service.api.shapes import BOOKING_REFUSALS, SLOT_END_MEANING, Body, PathBusiness, author
from service.booking.alternatives import Alternative
from service.booking.appointments import Appointments, BookedAppointment
from service.booking.contacts import EMAIL_MEANING, PHONE_MEANING, Email, Phone
from service.booking.instants import EndOfSlot, SlotInstant, after
from service.booking.requests import Book, Guest, RequestedSlot
from service.booking.text import FirstName, ForeignId, Identifier, LastName, Notes, ServiceId, if_any
from service.errors import Invalid
from service.http.answer import PUBLIC, Answer
from service.http.call import Call
from service.http.clients import Holders
from service.http.conditions import APPOINTMENT_HEADERS, attempt, created_answer
from service.http.endpoint import endpoint
from service.http.schemas import Fault
from service.naming import Record


class WidgetBody(Body):
    """Books a slot of the business of the address."""

    service_id: ServiceId
    staff_id: Identifier | None = Field(None, description="One resource of the service. Left out, any free one.")
    start_time: SlotInstant = Field(description="When the slot begins.")
    slot_end: Annotated[EndOfSlot, after("start_time")] | None = Field(None, description=SLOT_END_MEANING)
    first_name: FirstName = Field(description="The guest's first name, or the whole name.")
    last_name: LastName | None = Field(None, description="The guest's last name. It may be empty.")
    email: Email = Field(description=EMAIL_MEANING)
    phone: Phone | None = Field(None, description=PHONE_MEANING)
    notes: Notes | None = Field(None, description="Free text for the business.")
    location_id: ForeignId | None = Field(None, description="Kept in `metadata` as it is.")

    def request(self) -> Book:
        slot = RequestedSlot(self.service_id, self.start_time, self.slot_end, 1, self.staff_id)
        # Not validated again: it has the members of this body.
        guest = Guest.model_construct(
            guest_name=f"{self.first_name} {self.last_name}" if self.last_name else self.first_name,
            guest_email=self.email,
            guest_phone=self.phone,
            notes=self.notes,
            metadata={"locationId": self.location_id} if self.location_id else {},
        )
        return Book(slot, guest, "widget")


class WidgetBooking(Record):
    """A success, as the widget reads it."""

    success: Literal[True] = Field(default=True, description="Whether it worked.")
    data: BookedAppointment = Field(description="The appointment.")


class WidgetError(Record):
    """An error of the widget's call."""

    code: str = Field(
        description="Branch on this: `TIME_CONFLICT` for a slot that is taken, else a code of `docs/errors`."
    )
    message: str = Field(description="For the person who reads it.")
    errors: list[Fault] | None = if_any("With `VALIDATION_FAILED`: the faults, the first 20 of them.")
    error_count: int | None = if_any("With `VALIDATION_FAILED`: how many faults there are.")
    reason: str | None = if_any("With `SLOT_NOT_BOOKABLE`: why.")


class WidgetProblem(Record):
    """An error, as the widget reads it."""

    success: Literal[False] = Field(default=False, description="Whether it worked.")
    error: WidgetError = Field(description="The error.")
    alternatives: list[Alternative] | None = if_any("With `TIME_CONFLICT`: slots to take instead.")


class WidgetApi:
    def __init__(self, appointments: Appointments, holders: Holders) -> None:
        self._appointments = appointments
        self._holders = holders

    @endpoint(
        "POST",
        PUBLIC + "{slug}/book",
        tag="appointments",
        answers={201: WidgetBooking, 200: WidgetBooking},
        refusals=("BUSINESS_NOT_FOUND", *BOOKING_REFUSALS),
        statuses={"SLOT_UNAVAILABLE": (400,)},
        refusal_model=WidgetProblem,
        request_headers=("Idempotency-Key", "X-Client-Id"),
        answer_headers=APPOINTMENT_HEADERS,
    )
    async def book_from_widget(self, call: Call, slug: PathBusiness, body: WidgetBody) -> Answer:
        """Book from a widget.

        One call, for a booking widget. Every error has the widget's own format; a slot that was taken is a 400 with
        `TIME_CONFLICT` and `alternatives`.
        """
        caller = attempt(call), author(call), self._holders.holder(call)
        try:
            booked, replayed = await self._appointments.book(slug, body.request(), *caller)
        except Invalid as error:
            for fault in error.faults:
                if fault["field"] == "guestPhone":  # as the rest of the API names it
                    fault["field"] = "phone"
            raise
        return created_answer(booked, replayed, WidgetBooking(data=booked))
