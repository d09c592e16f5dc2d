"""Errors of the service: the exceptions that end a request, and the table of the codes that callers read.

HoldfastError            an answer that is no success: a code of the table and the members of its problem
├── Refused              the outcome of a verb; never retried
├── Invalid              a fault of the request itself
└── Unavailable          a temporary condition; Retry-After says when to try again
    ├── Overloaded       more work than can be done in time
    └── DatabaseDown     no answer from the database
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self


@dataclass(frozen=True, slots=True)
class Problem:
    """One code: its HTTP status, what a person reads, and what a caller does about it.

    `members` are those that this problem has besides the usual ones, as an example in JSON.
    """

    code: str
    status: int
    title: str
    detail: str
    meaning: str
    advice: str
    members: Mapping[str, Any] = field(default_factory=dict)
    retry_after_seconds: int | None = None


_DEFECT: Final = "A bug in the caller: show nothing to the guest, and don't send the request again unchanged."
_START_AGAIN: Final = "Start again: let the guest choose a slot, and reserve it under a new key."

# In order of precedence: a request with several faults gets the first of its codes. The protocol comes first, then
# routing, access, the body, limits, the load of the service, and last the verbs. The functions in sql/ answer the same
# codes, in lower case, as outcomes.
_TABLE: Final = (
    Problem(
        "MALFORMED_REQUEST", 400, "Malformed request",
        "The request is not valid HTTP/1.1.",
        "The bytes on the connection are not HTTP/1.1, or the URL is malformed. The connection is closed.",
        _DEFECT,
    ),
    Problem(
        "HEADERS_TOO_LARGE", 431, "Headers too large",
        "There are more headers, or larger ones, than this service accepts.",
        "URL and headers are larger than 32 KB together, or there are more than 100 headers. The connection is closed.",
        "Send less. The usual cause is cookies of other pages on the same domain; this service needs none.",
    ),
    Problem(
        "REQUEST_TIMEOUT", 408, "Request timeout",
        "The request took too long to arrive.",
        "The last byte of the request had not arrived ten seconds after its first. The connection is closed; the "
        "request had no effect.",
        "Send the same request again: the network was slow.",
    ),
    Problem("NOT_FOUND", 404, "Not found", "There is nothing at this address.", "No call has this path.", _DEFECT),
    Problem(
        "METHOD_NOT_ALLOWED", 405, "Method not allowed",
        "This address does not support this method.",
        "The `Allow` header lists the methods of this path.",
        _DEFECT,
    ),
    Problem(
        "UNAUTHORIZED", 401, "Unauthorized",
        "A valid bearer token is required.",
        "This call needs a bearer token, and there was none, an unknown one, or a key that was revoked.",
        "Send `Authorization: Bearer …` with a key of the business or the administrator's token; for cron that token "
        "or the scheduler's secret. None of them belongs in a browser.",
    ),
    Problem(
        "BUSINESS_NOT_FOUND", 404, "Business not found",
        "There is no such business.",
        "The catalog has no business with this id, or the key that was sent belongs to another business.",
        "Check the id and the key, or put the business first.",
    ),
    Problem(
        "FORBIDDEN", 403, "Forbidden",
        "The role of this key does not allow this call.",
        "The key is valid, but its role is too low. For a cancellation: the token belongs to another appointment. For "
        "a calendar feed: the address is wrong, or its keys were replaced.",
        "Use a key of a higher role: each call names the lowest one. An owner can create such a key, and list the "
        "calendar feeds.",
    ),
    Problem(
        "PAYLOAD_TOO_LARGE", 413, "Payload too large",
        "The body is larger than this service accepts.",
        "The body is larger than 64 KiB.",
        _DEFECT,
    ),
    Problem(
        "UNSUPPORTED_MEDIA_TYPE", 415, "Unsupported media type",
        "Send the body as application/json, in UTF-8.",
        "The `Content-Type` of the body is not `application/json`, or its charset is not UTF-8.",
        _DEFECT,
    ),
    Problem(
        "VALIDATION_FAILED", 400, "Validation failed",
        "The request is not valid; `errors` names each fault.",
        "A member is missing, unknown, of the wrong type or out of its bounds. `errors` names each fault by its field.",
        "Mark the fields that `errors` names and let the guest correct them. Sent again unchanged, it fails again.",
        members={"errors": [{"field": "slotEnd", "message": "slotEnd must be after slotStart"}]},
    ),
    Problem(
        "RATE_LIMITED", 429, "Rate limited",
        "Too many requests, please retry later",
        "The client, or all callers of the business together, made more requests than the limit allows. The request "
        "had no effect.",
        "Send the same request after `Retry-After` seconds; `RateLimit-Remaining` shows beforehand what is left. A "
        "server that acts for many guests sends a key of its business: then only the limit of the business counts.",
    ),
    Problem(
        "IDEMPOTENCY_KEY_MISMATCH", 400, "Idempotency keys differ",
        "The Idempotency-Key header and idempotencyKey differ; send one, or the same.",
        "The `Idempotency-Key` header and `idempotencyKey` in the body name two different attempts.",
        "Send one of them, or the same in both.",
    ),
    Problem(
        "OVERLOADED", 503, "Overloaded",
        "High load, please retry",
        "There is more work than can be done in time. The request had no effect.",
        "Show “High load, please retry”. Send the same request with the same key after `Retry-After` seconds.",
        retry_after_seconds=5,
    ),
    Problem(
        "DATABASE_UNAVAILABLE", 503, "Database unavailable",
        "The database does not answer, please retry",
        "The database does not answer. The request may have had its effect all the same.",
        "Send the same request with the same key after `Retry-After` seconds: it has one effect, and the answer "
        "reports it.",
        retry_after_seconds=5,
    ),
    Problem(
        "IDEMPOTENCY_KEY_REUSED", 422, "Idempotency key reused",
        "This key was used for a different request; use a new key for a new attempt.",
        "Within this business the key belongs to a different request that succeeded.",
        "Create a new key for a new attempt: when the guest presses the button. Keep it for retries of that request.",
    ),
    Problem(
        "SERVICE_NOT_FOUND", 404, "Service not found",
        "There is no such service in this business.",
        "The business has no service with this id, or offers it no more, or there is no such business.",
        "Remove the service from the choice, and let the guest choose another.",
    ),
    Problem(
        "RESOURCE_NOT_FOUND", 404, "Resource not found",
        "The business, or the service, has no such resource.",
        "The service has no resource with this id; in the catalog, the business has none.",
        "Leave `resourceId` out, or let the guest choose another.",
    ),
    Problem(
        "CLOSURE_NOT_FOUND", 404, "Closure not found",
        "There is no such closure in this business.",
        "The business has no closure with this id.",
        "List its closures.",
    ),
    Problem(
        "KEY_NOT_FOUND", 404, "Key not found",
        "The business has no such key.",
        "The business never had a key with this id.",
        "List its keys: `keyId` is the id, and not the key itself.",
    ),
    Problem(
        "RESERVATION_NOT_FOUND", 404, "Reservation not found",
        "Reservation not found or expired",
        "There is no reservation with this id. Ended ones are deleted after a while, usually a day.",
        _START_AGAIN,
    ),
    Problem(
        "APPOINTMENT_NOT_FOUND", 404, "Appointment not found",
        "There is no such appointment.",
        "There is no appointment with this id, or it belongs to another business than the key.",
        "Check the id.",
    ),
    Problem(
        "RESERVATION_RELEASED", 410, "Reservation released",
        "The reservation was released; make a new one.",
        "The hold was released. That is final.",
        _START_AGAIN,
    ),
    Problem(
        "RESERVATION_COMMITTED", 409, "Reservation committed",
        "The reservation has become an appointment; only that can be changed now.",
        "The hold became an appointment: it can be neither extended nor released.",
        "Show the booking as confirmed. A repeated commit answers with the appointment.",
    ),
    Problem(
        "RESERVATION_EXPIRED", 410, "Reservation expired",
        "Reservation not found or expired",
        "The hold expired before this request, and another caller may have its room by now. That is final.",
        _START_AGAIN + " Where the guest has already paid, commit with `ifExpired: rebook`: it books the same slot if "
        "that is still free. To avoid it, watch `expiresInSeconds` and extend in time.",
    ),
    Problem(
        "VERSION_CONFLICT", 409, "Version conflict",
        "It has been changed in the meantime: read it again before you decide.",
        "The reservation or appointment changed since it was read: `expectedVersion`, or `If-Match`, is no longer its "
        "version. This request had no effect.",
        "Read it again, show its present state, and let the person decide on that.",
        members={"currentVersion": 3},
    ),
    Problem(
        "APPOINTMENT_ENDED", 409, "Appointment ended",
        "The appointment is over or cancelled: its slot and status are final.",
        "The appointment is cancelled, completed or a no-show. Its slot and status can't change any more; notes and "
        "the guest's data can.",
        "Read it again and show its present state. To get the slot again, make a new booking.",
        members={"appointmentStatus": "cancelled"},
    ),
    Problem(
        "CANCELLATION_WINDOW_CLOSED", 409, "Cancellation window closed",
        "It is too late to cancel this online; please call the business.",
        "Guests could cancel until `cancellableUntil`, by the service's cancellation window. Nothing was changed.",
        "Ask the guest to call. Staff can still cancel it.",
        members={"cancellableUntil": "2027-01-10T09:00:00Z"},
    ),
    Problem(
        "HOLD_LIFETIME_EXCEEDED", 409, "Hold lifetime exceeded",
        "A hold can't be kept past `maxExpiresAt`: commit it before then, or let it go.",
        "The total lifetime of a hold is limited, or it would keep a slot from others for ever. The hold is unchanged, "
        "and ends at its `expiresAt`.",
        "Ask for less, up to `maxExpiresAt`, or commit before the hold ends.",
        members={"maxExpiresAt": "2027-01-11T13:00:00Z"},
    ),
    Problem(
        "SLOT_NOT_BOOKABLE", 422, "Slot not bookable",
        "This slot can't be booked; `reason` says why.",
        "The public can't book this slot, whatever room there is. `reason` is `past`; `too_soon` or `too_far_ahead`, "
        "by the service's notice and horizon; `too_long`; `closed`, by opening hours or a closure; or `not_online`, if "
        "the service or the resource takes no public bookings.",
        "Show the reason, and let the guest choose another time.",
        members={"reason": "too_soon"},
    ),
    Problem(
        "TOO_MANY_HOLDS", 429, "Too many holds",
        "You already hold as many slots as you may: commit or release one first.",
        "The client has as many live holds in this business as one client may have. The request had no effect.",
        "Commit or release a hold, or wait until one ends. A retry of a request that was granted is still answered.",
        retry_after_seconds=60,
    ),
    Problem(
        "SLOT_UNAVAILABLE", 409, "Slot unavailable",
        "The selected time slot is no longer available",
        "Others hold or booked the room at that time. With `ifExpired: rebook` on commit: the hold expired, and its "
        "room was taken meanwhile.",
        "Show `alternatives`, or let the guest choose another time where that list is empty. Room comes back when a "
        "hold ends, so retry when the guest asks for it, not in a loop. A refusal uses up no key.",
        members={
            "alternatives": [
                {"slotStart": "2027-01-11T10:00:00Z", "slotEnd": "2027-01-11T10:45:00Z", "resourceIds": []}
            ]
        },
    ),
    Problem(
        "CAPACITY_IN_USE", 409, "Capacity in use",
        "More than the new capacity is already claimed; `slotStart` is the first such time.",
        "From now on there is a time at which more than the new capacity is claimed: `claimed` units from `slotStart` "
        "to `slotEnd`, the first such time. Nothing was changed.",
        "Stay at `claimed` or above until that time is past, or move the bookings of that time.",
        members={"slotStart": "2027-01-11T09:00:00Z", "slotEnd": "2027-01-11T09:45:00Z", "claimed": 3},
    ),
    Problem(
        "BUSINESS_IN_USE", 409, "Business in use",
        "The business has services or resources, or had bookings on former ones.",
        "The business has services or resources, or bookings on services that were removed.",
        "Delete its services and resources first. A business with bookings can't be deleted.",
    ),
    Problem(
        "SLUG_TAKEN", 409, "Slug taken",
        "This slug belongs to another business; choose a different one.",
        "Another business has this slug. Nothing was changed.",
        "Choose another slug.",
    ),
    Problem(
        "INTERNAL_ERROR", 500, "Internal error",
        "An error in the service; its log has the details under `requestId`.",
        "A bug in this service. Its log has the details under `requestId`.",
        "Tell the guest that it failed. Retry with the same key: if the request had its effect, you get its result.",
    ),
)  # fmt: skip
PROBLEMS: Final[dict[str, Problem]] = {problem.code: problem for problem in _TABLE}


class HoldfastError(Exception):
    """An answer that is no success. `members` are added to the problem, by their names in JSON.

    `status` overrides the status of the code. Raises KeyError for a code that is not in the table.
    """

    def __init__(self, code: str, detail: str | None = None, *, status: int | None = None, **members: object) -> None:
        super().__init__(code)
        self.problem = PROBLEMS[code]
        self.code = code
        self.status = status or self.problem.status
        self.detail = detail or self.problem.detail
        self.members = members


class Refused(HoldfastError):
    """A refusal: the outcome of a verb that says no."""


class Invalid(HoldfastError):
    """A fault of the request. The member `errors` has one entry, {field, message}, for each fault."""

    @classmethod
    def at(cls, field: str, message: str) -> Self:
        """Builds the error for a single fault of a member, parameter or header."""
        return cls("VALIDATION_FAILED", errors=[{"field": field, "message": message}])


class Unavailable(HoldfastError):
    """A temporary condition. The same request may be sent again; nothing that was acknowledged is lost."""


class Overloaded(Unavailable):
    """More requests than can be answered in time."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__("OVERLOADED", detail)


class DatabaseDown(Unavailable):
    """No connection to the database, or no answer on one."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__("DATABASE_UNAVAILABLE", detail)
