"""Idempotency keys as they come, and what was made as it is told, at first and in a replay."""

from typing import Final

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.responses import Response

from service.booking.appointments import Appointment
from service.booking.holds import Reservation
from service.booking.text import IdempotencyKey
from service.errors import Invalid
from service.http.endpoints import Call, answer
from service.http.versions import version_tag

_KEY: Final = TypeAdapter(IdempotencyKey)

# What `made` puts around a hold, and around an appointment.
HEADERS_OF_HOLD: Final = {201: ("Location",), 200: ("Idempotency-Replayed",)}
HEADERS_OF_APPOINTMENT: Final = {201: ("Location", "ETag"), 200: ("Idempotency-Replayed", "ETag")}


def idempotency_key(call: Call) -> str | None:
    """From the body or the header; both, if given, must agree."""
    in_body: str | None = getattr(call.body, "idempotency_key", None)
    in_header = call.request.headers.get("idempotency-key")
    if in_header is None:
        return in_body
    try:
        in_header = _KEY.validate_python(in_header)
    except ValidationError as error:
        raise Invalid.at("Idempotency-Key", error.errors()[0]["msg"]) from None
    if in_body not in (None, in_header):
        raise Invalid("IDEMPOTENCY_KEY_MISMATCH")
    return in_header


def made(record: Reservation | Appointment, replayed: bool, told: BaseModel | None = None) -> Response:
    """What was made: 201 and where it is, or 200 with a marker where an earlier request has made it.

    `told` is what the answer says of it, if not the record itself. Only an appointment has a tag: a hold runs out, and
    so is another one at each look.
    """
    headers = {"Idempotency-Replayed": "true"} if replayed else {"Location": _place(record)}
    if isinstance(record, Appointment):
        headers |= version_tag(record)
    return answer(told or record, 200 if replayed else 201, headers)


def _place(record: Reservation | Appointment) -> str:
    if isinstance(record, Appointment):
        return f"/api/booking/appointments/{record.appointment_id}"
    return f"/api/booking/reservations/{record.reservation_id}"
