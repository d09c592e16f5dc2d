"""Idempotency keys as callers send them, and the answer to a call that creates something or replays that."""

from typing import Any, Final

from pydantic import BaseModel, TypeAdapter, ValidationError

from service.booking.appointments import Appointment
from service.booking.holds import Reservation
from service.booking.text import IdempotencyKey
from service.errors import Invalid
from service.http.answer import Answer, answer
from service.http.call import Call
from service.http.versions import version_tag

_KEY: Final[TypeAdapter[Any]] = TypeAdapter(IdempotencyKey)

# The headers of `created_answer`, for a hold and for an appointment.
HOLD_HEADERS: Final = {201: ("Location",), 200: ("Idempotency-Replayed",)}
APPOINTMENT_HEADERS: Final = {201: ("Location", "ETag"), 200: ("Idempotency-Replayed", "ETag")}


def idempotency_key(call: Call) -> str | None:
    """Reads the key from the body or the header; both, if given, must agree. Raises `Invalid`."""
    in_body: str | None = getattr(call.body, "idempotency_key", None)
    in_header = call.header(b"idempotency-key")
    if in_header is None:
        return in_body
    try:
        _KEY.validate_python(in_header)
    except ValidationError as error:
        raise Invalid.at("Idempotency-Key", error.errors()[0]["msg"]) from None
    if in_body not in (None, in_header):
        raise Invalid("IDEMPOTENCY_KEY_MISMATCH")
    return in_header


def created_answer(record: Reservation | Appointment, replayed: bool, body: BaseModel | None = None) -> Answer:
    """Builds a 201 with the place of what was created, or a 200 with a marker where an earlier request created it.

    `body` replaces the record in the answer. Only an appointment has a tag: the remaining time of a hold differs at
    each look.
    """
    headers = {"Idempotency-Replayed": "true"} if replayed else {"Location": _place(record)}
    if isinstance(record, Appointment):
        headers |= version_tag(record)
    return answer(body or record, 200 if replayed else 201, headers)


def _place(record: Reservation | Appointment) -> str:
    if isinstance(record, Appointment):
        return f"/api/booking/appointments/{record.appointment_id}"
    return f"/api/booking/reservations/{record.reservation_id}"
