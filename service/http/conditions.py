"""The conditions of a request: its idempotency key, the version of the appointment that a change expects, and the
content that a client already has. A version is sent as `ETag`, and expected as `If-Match` or in the body."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from pydantic import BaseModel

from service.booking.appointments import Appointment, KnownAppointment
from service.booking.holds import Reservation
from service.booking.requests import Attempt
from service.errors import Invalid, Refused
from service.faults import FaultCode
from service.http.answer import Answer, answer
from service.http.call import Call
from service.http.clients import client_id, is_guessable, made_up_name
from service.http.compression import Body

_TAG: Final = re.compile(r'(?:W/)?"([1-9][0-9]{0,8})"')
_ANY_TAG: Final = re.compile('"[^"]*"')

# The headers of `created_answer`, for a hold and for an appointment.
HOLD_HEADERS: Final = {201: ("Location",), 200: ("Idempotency-Replayed",)}
APPOINTMENT_HEADERS: Final = {201: ("Location", "ETag"), 200: ("Idempotency-Replayed", "ETag")}
# The headers of a commit. Its replay has a tag only if it shows the appointment.
COMMIT_HEADERS: Final = {201: ("Location", "ETag"), 200: ("Idempotency-Replayed",)}
# The headers of `tagged_answer`.
CONTENT_HEADERS: Final = ("ETag", "Cache-Control")


def attempt(call: Call) -> Attempt:
    """Reads the idempotency key, and the client that it is bound to: `X-Client-Id`. Raises `Invalid`.

    Where neither is long enough to be a secret, the attempt is also bound to the address: another client that guesses
    the key must not get the hold. A key of the business is no guess.
    """
    key, own = _idempotency_key(call), client_id(call)
    is_bound = call.principal is None and is_guessable(key) and is_guessable(own)
    return Attempt(key, own, call.client if is_bound else None)


def _idempotency_key(call: Call) -> str | None:
    """Reads the key from the body or the header; both, if given, must agree. Raises `Invalid`."""
    in_body: str | None = getattr(call.body, "idempotency_key", None)
    in_header = made_up_name(call, b"idempotency-key")
    if None not in (in_body, in_header) and in_body != in_header:
        raise Invalid("IDEMPOTENCY_KEY_MISMATCH")
    return in_header or in_body


def created_answer(
    record: Reservation | Appointment | KnownAppointment, replayed: bool, body: BaseModel | None = None
) -> Answer:
    """Builds a 201 with the place of what was created, or a 200 with a marker where an earlier request created it.

    `body` replaces the record in the answer. Only an appointment has a tag: the remaining time of a hold differs at
    each look.
    """
    headers = version_tag(record) if isinstance(record, Appointment) else {}
    if isinstance(record, Reservation):
        place = f"reservations/{record.reservation_id}"
    else:
        place = f"appointments/{record.appointment_id}"
    headers |= {"Idempotency-Replayed": "true"} if replayed else {"Location": f"/api/booking/{place}"}
    return answer(body or record, 200 if replayed else 201, headers)


def tagged_answer(call: Call, body: Body, media_type: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Builds a 200 with the tag of its content, or a 304 where `If-None-Match` has the tag, or any (RFC 9110, 13.1.2).
    Caches may store the answer, and must revalidate it."""
    # The tag is weak, because the body may be compressed.
    headers = {"ETag": f"W/{body.tag}", "Cache-Control": "no-cache", **(headers or {})}
    known = call.header(b"if-none-match") or ""
    if known.strip() == "*" or body.tag in _ANY_TAG.findall(known):
        return Answer(status=304, headers=headers | {"Vary": "Accept-Encoding"})
    return Answer(body, 200, headers, media_type)


def version_tag(appointment: Appointment) -> dict[str, str]:
    return {"ETag": f'"{appointment.version}"'}


def expected_version(call: Call) -> int | None:
    """Reads the version that a change expects, None for any: from the body or from `If-Match`. Both, if they name one,
    must agree. Raises `Invalid`."""
    in_body: int | None = getattr(call.body, "expected_version", None)
    in_header = _version_in_header(call)
    if in_header is None:
        return in_body
    tag = _TAG.fullmatch(in_header)
    if not tag:
        raise Invalid.at("If-Match", FaultCode.INVALID_IF_MATCH)
    version = int(tag[1])
    if in_body not in (None, version):
        raise Invalid.at("expectedVersion", FaultCode.DIFFERS, field="If-Match")
    return version


@contextmanager
def precondition(call: Call) -> Iterator[None]:
    """Wraps a change: a conflict is a 412 where `If-Match` named the version (RFC 9110, 13.1.1)."""
    try:
        yield
    except Refused as refused:
        if refused.code == "VERSION_CONFLICT" and _version_in_header(call) is not None:
            refused.status = 412
        raise


def _version_in_header(call: Call) -> str | None:
    """Returns the `If-Match` of a call as it was sent; None without one, and for `*`, which any version meets."""
    sent = call.header(b"if-match")
    return None if sent is None or sent.strip() == "*" else sent.strip()
