"""What can go wrong, for the person who reads it.

HoldfastError            has a code of the table below, and what there is to say besides
├── Refused              a verb said no: data, not an accident; never retried
├── Invalid              the request itself is at fault
└── Unavailable          not now; Retry-After says when
    ├── Overloaded       more work than can be done in time
    └── DatabaseDown     no answer from the database
"""

from dataclasses import dataclass
from typing import Final, Self


@dataclass(frozen=True, slots=True)
class Kind:
    """How a code is told over HTTP: its status, a short title, and the usual detail."""

    status: int
    title: str
    detail: str
    retry_after_seconds: int | None = None


# The one table: code → HTTP. The verbs in SQL give the same codes, in lower case, as their outcomes.
KINDS: Final[dict[str, Kind]] = {
    "VALIDATION_FAILED": Kind(400, "Validation failed", "The request is not valid; `errors` names each fault."),
    "IDEMPOTENCY_KEY_MISMATCH": Kind(
        400, "Idempotency keys differ", "The Idempotency-Key header and idempotencyKey differ; send one, or the same."
    ),
    "MALFORMED_REQUEST": Kind(400, "Malformed request", "The request is not valid HTTP/1.1."),
    "UNAUTHORIZED": Kind(401, "Unauthorized", "A valid bearer token is required."),
    "FORBIDDEN": Kind(403, "Forbidden", "The role of this key does not allow this call."),
    "NOT_FOUND": Kind(404, "Not found", "There is nothing at this address."),
    "BUSINESS_NOT_FOUND": Kind(404, "Business not found", "There is no such business."),
    "SERVICE_NOT_FOUND": Kind(404, "Service not found", "There is no such service in this business."),
    "RESOURCE_NOT_FOUND": Kind(404, "Resource not found", "The business, or the service, has no such resource."),
    "CLOSURE_NOT_FOUND": Kind(404, "Closure not found", "There is no such closure in this business."),
    "KEY_NOT_FOUND": Kind(404, "Key not found", "The business has no such key."),
    "RESERVATION_NOT_FOUND": Kind(404, "Reservation not found", "Reservation not found or expired"),
    "APPOINTMENT_NOT_FOUND": Kind(404, "Appointment not found", "There is no such appointment."),
    "METHOD_NOT_ALLOWED": Kind(405, "Method not allowed", "This address does not support this method."),
    "REQUEST_TIMEOUT": Kind(408, "Request timeout", "The request took too long to arrive."),
    "SLOT_UNAVAILABLE": Kind(409, "Slot unavailable", "The selected time slot is no longer available"),
    "VERSION_CONFLICT": Kind(
        409, "Version conflict", "It has been changed in the meantime: read it again before you decide."
    ),
    "HOLD_LIFETIME_EXCEEDED": Kind(
        409, "Hold lifetime exceeded", "A hold can't be kept past `maxExpiresAt`: commit it before then, or let it go."
    ),
    "RESERVATION_COMMITTED": Kind(
        409, "Reservation committed", "The reservation has become an appointment; only that can be changed now."
    ),
    "APPOINTMENT_ENDED": Kind(
        409, "Appointment ended", "The appointment is over or cancelled: its slot and status are final."
    ),
    "CANCELLATION_WINDOW_CLOSED": Kind(
        409, "Cancellation window closed", "It is too late to cancel this online; please call the business."
    ),
    "CAPACITY_IN_USE": Kind(
        409, "Capacity in use", "More than the new capacity is already claimed; `slotStart` is the first such time."
    ),
    "BUSINESS_IN_USE": Kind(
        409, "Business in use", "The business has services or resources, or had bookings on former ones."
    ),
    "SLUG_TAKEN": Kind(409, "Slug taken", "This slug belongs to another business; choose a different one."),
    "RESERVATION_EXPIRED": Kind(410, "Reservation expired", "Reservation not found or expired"),
    "RESERVATION_RELEASED": Kind(410, "Reservation released", "The reservation was released; make a new one."),
    "PAYLOAD_TOO_LARGE": Kind(413, "Payload too large", "The body is larger than this service accepts."),
    "UNSUPPORTED_MEDIA_TYPE": Kind(415, "Unsupported media type", "Send the body as application/json, in UTF-8."),
    "IDEMPOTENCY_KEY_REUSED": Kind(
        422, "Idempotency key reused", "This key was used for a different request; use a new key for a new attempt."
    ),
    "SLOT_NOT_BOOKABLE": Kind(422, "Slot not bookable", "This slot can't be booked; `reason` says why."),
    "TOO_MANY_HOLDS": Kind(
        429,
        "Too many holds",
        "You already hold as many slots as you may: commit or release one first.",
        retry_after_seconds=60,
    ),
    "RATE_LIMITED": Kind(429, "Rate limited", "Too many requests, please retry later"),
    "HEADERS_TOO_LARGE": Kind(
        431, "Headers too large", "There are more headers, or larger ones, than this service accepts."
    ),
    "INTERNAL_ERROR": Kind(
        500, "Internal error", "An error in the service; its log has the details under `requestId`."
    ),
    "OVERLOADED": Kind(503, "Overloaded", "High load, please retry", retry_after_seconds=5),
    "DATABASE_UNAVAILABLE": Kind(
        503, "Database unavailable", "The database does not answer, please retry", retry_after_seconds=5
    ),
}


class HoldfastError(Exception):
    """An answer that is not a success. `members` are added to what is told, by their JSON names."""

    def __init__(self, code: str, detail: str | None = None, **members: object) -> None:
        super().__init__(code)
        self.code = code
        self.kind = KINDS[code]
        self.status = self.kind.status
        self.detail = detail or self.kind.detail
        self.members = members


class Refused(HoldfastError):
    """A verb's refusal."""


class Invalid(HoldfastError):
    """A fault of the request. `errors` has one entry for each: {field, message}."""

    @classmethod
    def at(cls, field: str, message: str) -> Self:
        """The one fault of a request, at the member, parameter or header that is named."""
        return cls("VALIDATION_FAILED", errors=[{"field": field, "message": message}])


class Unavailable(HoldfastError):
    """The service can't do this now. Nothing that was acknowledged is lost; the same request may be sent again."""


class Overloaded(Unavailable):
    """More is asked for than can be answered in time."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__("OVERLOADED", detail)


class DatabaseDown(Unavailable):
    """No connection to the database, or no answer on one."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__("DATABASE_UNAVAILABLE", detail)
