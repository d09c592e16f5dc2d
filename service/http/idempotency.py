"""Idempotency keys as they come, and replays as they are told."""

from typing import Final

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.responses import Response

from service.booking.text import IdempotencyKey
from service.errors import Invalid
from service.http.endpoints import Call, answer

_KEY: Final = TypeAdapter(IdempotencyKey)


def idempotency_key(call: Call) -> str | None:
    """From the body or the header; both, if given, must agree."""
    in_body: str | None = getattr(call.body, "idempotency_key", None)
    in_header = call.request.headers.get("idempotency-key")
    if in_header is None:
        return in_body
    try:
        in_header = _KEY.validate_python(in_header)
    except ValidationError:
        raise Invalid.at("Idempotency-Key", "must be 1 to 255 printable ASCII characters") from None
    if in_body not in (None, in_header):
        raise Invalid("IDEMPOTENCY_KEY_MISMATCH")
    return in_header


def made(record: BaseModel, replayed: bool) -> Response:
    """What was made: 201, or 200 with a marker where an earlier request has made it."""
    return answer(record, 200, {"Idempotency-Replayed": "true"}) if replayed else answer(record, 201)
