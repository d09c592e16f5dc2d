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
from functools import cached_property
from typing import Any, Final, Self, cast

from pydantic import ValidationError

from service.faults import Fault, FaultCode, fault, faults_of

# How many faults an answer has: a body of 64 KiB has room for thousands.
MAX_FAULTS: Final = 20


@dataclass(frozen=True)
class Problem:
    """One code: its HTTP status, what a person reads, and what a caller does about it."""

    code: str
    status: int
    detail: str
    advice: str
    # The members that this problem has besides the usual ones, with examples of their values.
    members: Mapping[str, Any] = field(default_factory=dict)
    retry_after_seconds: int | None = None
    # The title, if it is not the code in words.
    other_title: str = ""

    @cached_property
    def title(self) -> str:
        return self.other_title or self.code.replace("_", " ").capitalize()


_START_AGAIN: Final = "Start again: let the guest choose a slot, and reserve it under a new key."

# In order of precedence: a request with several faults gets the first of its codes. The protocol comes first, then
# routing, limits, access, the body, the load of the service, and last the verbs. With the verbs comes also the access
# that needs a look-up: an unknown business, and a guest's token. The functions in sql/ answer the same codes, in lower
# case, as outcomes.
_TABLE: Final = (
    Problem(
        "MALFORMED_REQUEST", 400, "The request is not valid HTTP/1.1.",
        "A bug in the caller, which wrote other bytes than HTTP/1.1 or a malformed URL. The connection is closed.",
    ),
    Problem(
        "HEADERS_TOO_LARGE", 431, "There are more headers, or larger ones, than this service accepts.",
        "Send 32 KB of URL and headers at most, and 100 headers: the usual cause is cookies of other pages on the same "
        "domain, of which this service needs none. The connection is closed.",
    ),
    Problem(
        "REQUEST_TIMEOUT", 408, "The request took too long to arrive.",
        "Send the same request again: ten seconds after its first byte it was incomplete, and had no effect. The "
        "connection is closed.",
    ),
    Problem("NOT_FOUND", 404, "There is nothing at this address.", "A bug in the caller: no call has it."),
    Problem(
        "METHOD_NOT_ALLOWED", 405, "This address does not support this method.",
        "A bug in the caller: the `Allow` header lists the methods of this path.",
    ),
    Problem(
        "RATE_LIMITED", 429, "Too many requests, please retry later",
        "Send the same request after `Retry-After` seconds: the client, or all callers of the business together, made "
        "more requests than the limit allows, and it had no effect. `RateLimit-Remaining` shows beforehand what is "
        "left. A server that acts for many guests sends a key of its business: then only the business is limited.",
    ),
    Problem(
        "UNAUTHORIZED", 401, "A valid bearer token is required.",
        "Send `Authorization: Bearer …` with a key of the business that was not revoked or the administrator's token; "
        "for cron that token or the scheduler's secret. None of them belongs in a browser. A guest sends the "
        "`cancellationToken` of the appointment as `Guest-Token`.",
    ),
    Problem(
        "BUSINESS_NOT_FOUND", 404, "There is no such business.",
        "Check the id, and that the key is one of this business; or put the business first.",
    ),
    Problem(
        "FORBIDDEN", 403, "The role of this key does not allow this call.",
        "Use a key of a higher role: each call names the lowest one, and an owner can create such a key. A guest's "
        "token belongs to one appointment, and where one is sent a key does not help. The address of a calendar feed "
        "changes when its keys are replaced: list the feeds.",
    ),
    Problem(
        "PAYLOAD_TOO_LARGE", 413, "The body is larger than this service accepts.",
        "A bug in the caller: 64 KiB are enough for every call, and 1 MiB for the document of a catalog.",
    ),
    Problem(
        "UNSUPPORTED_MEDIA_TYPE", 415, "Send the body as application/json, in UTF-8, and not compressed.",
        "A bug in the caller: set `Content-Type: application/json`, and no `Content-Encoding`.",
    ),
    Problem(
        "VALIDATION_FAILED", 400, "The request is not valid; `errors` names each fault.",
        "Mark the fields that `errors` names and let the guest correct them: they are missing, unknown, of the wrong "
        "type or out of bounds. Translate a fault by its `code` and `parameters`. `errors` has the first 20 of "
        "`errorCount` faults. Sent again unchanged, the request fails again.",
        members={"errors": [fault("slotEnd", FaultCode.NOT_AFTER, field="slotStart")], "errorCount": 1},
    ),
    Problem(
        "IDEMPOTENCY_KEY_MISMATCH", 400, "The Idempotency-Key header and idempotencyKey differ; send one, or the same.",
        "Send one of them, or the same in both: they name two different attempts.",
        other_title="Idempotency keys differ",
    ),
    Problem(
        "OVERLOADED", 503, "High load, please retry",
        "Send the same request with the same key after `Retry-After` seconds: it had no effect.",
        retry_after_seconds=5,
    ),
    Problem(
        "DATABASE_UNAVAILABLE", 503, "The database does not answer, please retry",
        "Send the same request with the same key after `Retry-After` seconds. It may have had its effect: the answer "
        "reports it, and there is no second one.",
        retry_after_seconds=5,
    ),
    Problem(
        "IDEMPOTENCY_KEY_REUSED", 422,
        "This key was used for a different request or by another client; use a new key for a new attempt.",
        "Create the key, a random UUID, when the guest presses the button; keep it for retries of that request only. "
        "A key that came with X-Client-Id is bound to that client.",
    ),
    Problem(
        "SERVICE_NOT_FOUND", 404, "There is no such service in this business.",
        "Remove the service from the choice, and let the guest choose another: it is not offered, or never was.",
    ),
    Problem(
        "CLOSURE_NOT_FOUND", 404, "There is no such closure in this business.",
        "List the closures of the business.",
    ),
    Problem(
        "SPECIAL_HOURS_NOT_FOUND", 404, "There are no such special hours in this business.",
        "List the special hours of the business.",
    ),
    Problem(
        "KEY_NOT_FOUND", 404, "The business has no such key.",
        "List the keys of the business: `keyId` is the id, and not the key itself.",
    ),
    Problem(
        "RESERVATION_NOT_FOUND", 404, "Reservation not found or expired",
        _START_AGAIN + " Ended reservations are deleted after a while, usually a day.",
    ),
    Problem(
        "APPOINTMENT_NOT_FOUND", 404, "There is no such appointment.",
        "Check the id, and that the key is one of its business.",
    ),
    Problem(
        "RESERVATION_RELEASED", 410, "The reservation was released; make a new one.",
        _START_AGAIN,
    ),
    Problem(
        "RESERVATION_COMMITTED", 409, "The reservation has become an appointment; only that can be changed now.",
        "Show the booking as confirmed. A repeated commit answers with the appointment, to its holder.",
    ),
    Problem(
        "RESERVATION_EXPIRED", 410, "Reservation not found or expired",
        _START_AGAIN + " Where the guest has already paid, commit with `ifExpired: rebook`: it books the same slot if "
        "that is still free. To avoid it, watch `expiresInSeconds` and extend in time.",
    ),
    Problem(
        "VERSION_CONFLICT", 409, "It has been changed in the meantime: read it again before you decide.",
        "Read it again, show its present state, and let the person decide on that. This request had no effect.",
        members={"currentVersion": 3},
    ),
    Problem(
        "APPOINTMENT_ENDED", 409, "The appointment is over or cancelled: its slot is final.",
        "Read it again and show its present state; notes and the guest's data can still be changed. Status `confirmed` "
        "takes `completed` and `no_show` back, while there is room. After a cancellation, make a new booking.",
        members={"appointmentStatus": "cancelled"},
    ),
    Problem(
        "APPOINTMENT_NOT_STARTED", 409,
        "The appointment has not begun: it can't be `completed` or `no_show` before its start.",
        "Ask again from `slotStart` on, or cancel the appointment. This request had no effect.",
        members={"slotStart": "2027-01-11T09:00:00.000Z"},
    ),
    Problem(
        "CANCELLATION_WINDOW_CLOSED", 409, "It is too late to cancel this online; please call the business.",
        "Ask the guest to call: guests could cancel until `cancellableUntil`. Staff still can.",
        members={"cancellableUntil": "2027-01-10T09:00:00.000Z"},
    ),
    Problem(
        "RESCHEDULE_WINDOW_CLOSED", 409, "It is too late to move this online; please call the business.",
        "Ask the guest to call: guests could move it until `reschedulableUntil`. Staff still can. The appointment is "
        "unchanged.",
        members={"reschedulableUntil": "2027-01-10T09:00:00.000Z"},
    ),
    Problem(
        "HOLD_LIFETIME_EXCEEDED", 409, "A hold can't be kept past `maxExpiresAt`: commit it before then, or let it go.",
        "Ask for less, up to `maxExpiresAt`, or commit before the hold ends. The hold is unchanged.",
        members={"maxExpiresAt": "2027-01-11T13:00:00.000Z"},
    ),
    Problem(
        "BUSINESS_MISCONFIGURED", 422, "The time zone of the business is unknown to this service.",
        "Nothing that the caller sends helps: the owner puts the business with a time zone of the database's server, "
        "or the operator updates that server. Holds can still be committed.",
    ),
    Problem(
        "RESOURCE_NOT_FOUND", 404, "The business, or the service, has no such resource.",
        "Leave `resourceId` out, or let the guest choose another.",
    ),
    Problem(
        "SLOT_NOT_BOOKABLE", 422, "This slot can't be booked; `reason` says why.",
        "Show the reason, list the slots anew, and let the guest choose another. It is `past`; `too_soon` or "
        "`too_far_ahead`, by the service's notice and horizon; `too_short` or `too_long`, by its lengths; `off_grid`, "
        "if the start is not listed or the end is not that of a number of days; `closed`, by opening hours or a "
        "closure; or `not_online`, if the service or the resource takes no public bookings.",
        members={"reason": "too_soon"},
    ),
    Problem(
        "TOO_MANY_HOLDS", 429, "You already hold as many places as you may: commit or release a hold first.",
        "Ask for fewer places, commit or release a hold, or wait for `Retry-After` seconds: then the first of your "
        "holds ends. A retry of a request that was granted is still answered.",
        retry_after_seconds=60,
    ),
    Problem(
        "TOO_MANY_BOOKINGS", 429,
        "You have booked as many places today as you may: go on tomorrow, or call the business.",
        "Ask for fewer places, or ask again on the next day (UTC). A retry of a request that was granted is still "
        "answered, and holds can still be committed.",
        retry_after_seconds=3600,
    ),
    Problem(
        "GUEST_LIMIT_REACHED", 409,
        "This guest already has as many upcoming appointments of this service as one guest may have.",
        "Say so, and let the guest cancel or move one of them. A hold stays, and can be committed for another guest or "
        "after a cancellation. `maxUpcomingPerGuest` of the service is the limit; staff may book beyond it.",
    ),
    Problem(
        "SLOT_UNAVAILABLE", 409, "The selected time slot is no longer available",
        "Show `alternatives`, or let the guest choose another time where that list is empty. Room comes back when a "
        "hold ends, so retry when the guest asks for it, not in a loop. A refusal uses up no key.",
        members={
            "alternatives": [
                {"slotStart": "2027-01-11T10:00:00.000Z", "slotEnd": "2027-01-11T10:45:00.000Z", "resourceIds": []}
            ]
        },
    ),
    Problem(
        "CAPACITY_IN_USE", 409, "More than the new capacity is already claimed; `slotStart` is the first such time.",
        "Stay at `claimed` or above until `slotEnd` is past, or move the bookings of that time. Nothing was changed.",
        members={"slotStart": "2027-01-11T09:00:00.000Z", "slotEnd": "2027-01-11T09:45:00.000Z", "claimed": 3},
    ),
    Problem(
        "BUSINESS_IN_USE", 409, "The business has services or resources, or had bookings on former ones.",
        "Delete its services and resources first. A business that had bookings can't be deleted.",
    ),
    Problem(
        "LIMIT_REACHED", 409, "The business has as many entries of this kind as it may: `limit`.",
        "Delete entries that are not needed any more, such as past closures or keys that are not used. Archived "
        "services and resources count. A removed resource that is put again brings its opening hours and its places in "
        "pools back: of these a list has 500. Nothing was changed.",
        members={"limit": 1000},
    ),
    Problem(
        "SLUG_TAKEN", 409, "The slug, or the id of a new business, is the slug or the id of another business.",
        "Choose another: a public call names a business by either. Nothing was changed.",
    ),
    Problem(
        "INTERNAL_ERROR", 500, "An error in the service; its log has the details under `requestId`.",
        "Tell the guest that it failed. Retry with the same key: if the request had its effect, you get its result.",
    ),
)  # fmt: skip
PROBLEMS: Final[dict[str, Problem]] = {problem.code: problem for problem in _TABLE}


class HoldfastError(Exception):
    """An answer that is no success. `members` are added to the problem, by their names in JSON."""

    def __init__(self, code: str, detail: str | None = None, **members: object) -> None:
        super().__init__(code)
        self.problem = PROBLEMS[code]
        self.code = code
        self.status = self.problem.status
        self.detail = detail or self.problem.detail
        self.retry_after_seconds = self.problem.retry_after_seconds
        self.members = members


class Refused(HoldfastError):
    """A refusal: the outcome of a verb that says no."""


class Invalid(HoldfastError):
    """A fault of the request itself."""

    @classmethod
    def at(cls, field: str, code: FaultCode, /, **parameters: Any) -> Self:
        """Builds the error for a single fault of a member, parameter or header."""
        return cls("VALIDATION_FAILED", errors=[fault(field, code, **parameters)], errorCount=1)

    @classmethod
    def of_input(cls, error: ValidationError, field: str | None = None) -> Self:
        """Builds the error for input that its model refuses. A body of 64 KB may have thousands of faults: only those
        that the caller reads are translated. `field` is as in `faults_of`."""
        return cls("VALIDATION_FAILED", errors=faults_of(error, field, MAX_FAULTS), errorCount=error.error_count())

    @property
    def faults(self) -> list[Fault]:
        """The faults that the caller reads."""
        return cast(list[Fault], self.members["errors"])


class Unavailable(HoldfastError):
    """A temporary condition. The same request may be sent again; nothing that was acknowledged is lost."""


class Overloaded(Unavailable):
    def __init__(self, detail: str | None = None) -> None:
        super().__init__("OVERLOADED", detail)


class DatabaseDown(Unavailable):
    def __init__(self) -> None:
        super().__init__("DATABASE_UNAVAILABLE")
