"""What each code means and what a caller does about it: the text behind a problem's `type`, and its example."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from service.http.documentation import examples
from service.http.endpoints import MAX_BODY_BYTES


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of one code. `members` are those that this problem has besides the usual ones, as an example."""

    meaning: str
    advice: str
    members: Mapping[str, Any] = field(default_factory=dict)


_DEFECT: Final = "A bug in the caller: nothing to show to a guest, and no use sending it again unchanged."
_START_AGAIN: Final = "Start again: let the guest choose a slot, and reserve it under a new key."

# By the codes of service.errors, in their order.
EXPLANATIONS: Final[dict[str, Explanation]] = {
    "VALIDATION_FAILED": Explanation(
        "A member is missing, unknown, of the wrong type or out of its bounds. `errors` names each fault by its field.",
        "Mark the fields that `errors` names and let them be corrected. Sent again unchanged, it fails again.",
        {"errors": [{"field": "slotEnd", "message": "slotEnd must be after slotStart"}]},
    ),
    "IDEMPOTENCY_KEY_MISMATCH": Explanation(
        "The `Idempotency-Key` header and `idempotencyKey` in the body differ: it is not clear which attempt this is.",
        "Send one of them, or the same in both.",
    ),
    "MALFORMED_REQUEST": Explanation(
        "What came over the connection can't be read as HTTP/1.1, or its address is not one. The connection is closed.",
        _DEFECT,
    ),
    "UNAUTHORIZED": Explanation(
        "This call needs a bearer token, and there was none or a wrong one, or a key that was revoked.",
        "Send `Authorization: Bearer …` with a key of the business or the administrator's token, for cron with that or "
        "the scheduler's secret. None of them belongs in a browser.",
    ),
    "FORBIDDEN": Explanation(
        "The key is valid, but its role may not do this. Of a cancellation: the token is not that of the appointment. "
        "Of a calendar feed: its address is not right, or its keys were replaced since.",
        "Use a key of a higher role: the table on the docs page says who may call what. An owner can make such a key, "
        "and tell where the calendar feeds are.",
    ),
    "NOT_FOUND": Explanation("There is no such address.", _DEFECT),
    "BUSINESS_NOT_FOUND": Explanation(
        "The catalog has no business with this id, or the key that was sent is not one of this business.",
        "Check the id, and whose key it is; or put the business first.",
    ),
    "SERVICE_NOT_FOUND": Explanation(
        "The business has no service with this id, or does not offer it any more, or there is no such business.",
        "Take the service off the choice, and let the guest choose another.",
    ),
    "RESOURCE_NOT_FOUND": Explanation(
        "The service has no resource with this id; in the catalog, the business has none.",
        "Leave `resourceId` out, or let the guest choose another.",
    ),
    "CLOSURE_NOT_FOUND": Explanation("The business has no closure with this id.", "List its closures."),
    "KEY_NOT_FOUND": Explanation(
        "The business never had a key with this id.", "List its keys: `keyId` is the id, and not the key itself."
    ),
    "RESERVATION_NOT_FOUND": Explanation(
        "There is no reservation with this id. Ended ones are forgotten after a while, usually a day.",
        _START_AGAIN,
    ),
    "APPOINTMENT_NOT_FOUND": Explanation(
        "There is no appointment with this id, or it belongs to another business than the key.", "Check the id."
    ),
    "METHOD_NOT_ALLOWED": Explanation(
        "This address does not support this method; the `Allow` header lists those that it does.", _DEFECT
    ),
    "REQUEST_TIMEOUT": Explanation(
        "The whole request had not arrived ten seconds after its first byte. The connection is closed; nothing was "
        "done.",
        "Send the same request again: the network was slow.",
    ),
    "SLOT_UNAVAILABLE": Explanation(
        "There is not enough room left at that time: others have held or booked it. With `ifExpired: rebook` on "
        "commit: the hold had expired, and meanwhile its room was taken.",
        "Show `alternatives`, or let the guest choose another time where that list is empty. "
        "Room comes back when somebody's hold ends, so a retry makes sense when the guest asks for it, not in a "
        "loop. A refusal uses up no key.",
        {"alternatives": examples.ALTERNATIVES},
    ),
    "VERSION_CONFLICT": Explanation(
        "It has changed since you read it: `expectedVersion`, or what `If-Match` says, is no longer its version. This "
        "request changed nothing.",
        "Reload it, show what it is now, and let the guest decide on that.",
        {"currentVersion": 3},
    ),
    "HOLD_LIFETIME_EXCEEDED": Explanation(
        "A hold can only be extended so far, or it would keep a slot from others for ever. It is unchanged, and ends "
        "at its `expiresAt`.",
        "Ask for less, up to `maxExpiresAt`, or commit before the hold ends.",
        {"maxExpiresAt": examples.MAX_EXPIRES_AT},
    ),
    "RESERVATION_COMMITTED": Explanation(
        "The hold has become an appointment: there is nothing left to extend or to release.",
        "Show the booking as confirmed. Commit sent again answers with the appointment.",
    ),
    "APPOINTMENT_ENDED": Explanation(
        "It is cancelled, completed or a no-show. Its slot and its status don't change any more; notes and the guest's "
        "data still can.",
        "Reload it and show what it is now. To have the slot again, book anew.",
        {"appointmentStatus": "cancelled"},
    ),
    "CANCELLATION_WINDOW_CLOSED": Explanation(
        "Guests can cancel until a while before the slot begins, as the service says; that was until "
        "`cancellableUntil`. Nothing was changed.",
        "Tell the guest to call. Staff can still cancel it.",
        {"cancellableUntil": examples.MAX_EXPIRES_AT},
    ),
    "CAPACITY_IN_USE": Explanation(
        "At some time from now on, more than the new capacity is claimed already: `claimed` units from `slotStart` "
        "to `slotEnd`, the first such time. Nothing was changed.",
        "Stay at `claimed` or above until that time is past, or move what is booked then.",
        {"slotStart": examples.SLOT_START, "slotEnd": examples.SLOT_END, "claimed": 3},
    ),
    "BUSINESS_IN_USE": Explanation(
        "The business has services or resources, or bookings were made on services that it had.",
        "Delete its services and resources first. A business with bookings stays.",
    ),
    "SLUG_TAKEN": Explanation("Another business has this slug. Nothing was changed.", "Choose another slug."),
    "RESERVATION_EXPIRED": Explanation(
        "The hold's time was up before this request, and its room may be somebody else's by now. That is final.",
        _START_AGAIN + " Where the guest has paid already, commit with `ifExpired: rebook`: it books the same slot if "
        "it is still free. To be spared this, watch `expiresInSeconds` and extend in time.",
    ),
    "RESERVATION_RELEASED": Explanation("The hold was given up. That is final.", _START_AGAIN),
    "PAYLOAD_TOO_LARGE": Explanation(f"The body is larger than {MAX_BODY_BYTES // 1024} KiB.", _DEFECT),
    "UNSUPPORTED_MEDIA_TYPE": Explanation(
        "The body did not come as `Content-Type: application/json`, in UTF-8.", _DEFECT
    ),
    "IDEMPOTENCY_KEY_REUSED": Explanation(
        "Within this business the key was already used for a different request that succeeded.",
        "Take a new key for a new attempt. Make it when the guest presses the button, and keep it for retries of "
        "that very request.",
    ),
    "SLOT_NOT_BOOKABLE": Explanation(
        "Whatever room there is, the public can't book this slot. `reason` says why: `past`; `too_soon` or "
        "`too_far_ahead`, by the service's notice and horizon; `too_long`; `closed`, by opening hours or a closure; "
        "`not_online`, if the service or the resource takes no public bookings.",
        "Tell the guest the reason, and let another time be chosen.",
        {"reason": "too_soon"},
    ),
    "TOO_MANY_HOLDS": Explanation(
        "One client may hold only so many slots of a business at once, and this one does. Nothing was changed.",
        "Commit or release a hold, or wait until one ends. A retry of a request that was granted is answered all the "
        "same.",
    ),
    "RATE_LIMITED": Explanation(
        "The client has made more requests than one may make in a while, or all callers of the business together have. "
        "Nothing was changed.",
        "Send the same request after `Retry-After` seconds; `RateLimit-Remaining` tells beforehand. A server that acts "
        "for many guests shows a key of its business: then only the limit of the business counts.",
    ),
    "HEADERS_TOO_LARGE": Explanation(
        "The address and the headers are larger than 32 KB together, or there are more than a hundred headers. The "
        "connection is closed.",
        "Send less: most likely cookies of other pages on the same domain, of which this service needs none.",
    ),
    "INTERNAL_ERROR": Explanation(
        "A bug in this service. Its log has the details under `requestId`.",
        "Say that it did not work. Retry with the same key: if the request took effect after all, you get its result.",
    ),
    "OVERLOADED": Explanation(
        "There is more work than can be done in time.",
        "Say “High load, please retry”. Send the same request with the same key after `Retry-After` seconds.",
    ),
    "DATABASE_UNAVAILABLE": Explanation(
        "The database does not answer. The request may have had its effect all the same.",
        "Send the same request with the same key after `Retry-After` seconds: it has one effect, and the answer says "
        "what it was.",
    ),
}
