"""What the members of requests and answers mean, for those who read the OpenAPI document.

A name means the same wherever it stands; where a shape says it more exactly, it comes as `Shape.member`.
"""

from typing import Final

_ONLY_IF: Final = "Only if this is still its version; else `VERSION_CONFLICT`, and nothing changes."
_SPARES: Final = "Spares a look-up, where you know the business."

MEMBERS: Final[dict[str, str]] = {
    # Slots and holds.
    "businessId": "The business, by its id in the catalog.",
    "serviceId": "The service, by its id within the business.",
    "resourceId": "The resource that is taken; `null` where the service has none.",
    "slotStart": "When the slot begins.",
    "slotEnd": "When the slot ends. That instant belongs to the next slot already.",
    "quantity": "How many units of the service's capacity.",
    "reservationId": "The hold. Whoever has this id may commit or release it: keep it to its holder.",
    "expectedVersion": _ONLY_IF,
    "version": "Rises by 1 with every change.",
    "status": "How it is now.",
    "ReserveBody.slotEnd": "When the slot ends. Left out, it is as long as the service.",
    "ReserveBody.resourceId": "One resource of the service. Left out, any free one.",
    "ReserveBody.idempotencyKey": (
        "Your name for this attempt: sent again with the same key, the request has no second effect. "
        "It may come as the `Idempotency-Key` header instead."
    ),
    "ReserveBody.ttlMinutes": (
        "How long to hold the slot, fractions allowed. Above the service's maximum it is cut to that "
        "(`ttlClamped`); left out, it is the service's usual time."
    ),
    "ExtendBody.ttlMinutes": "How long to keep the hold from now on. Above the service's maximum it is cut to that.",
    "Reservation.status": "`held`, or how it ended. An ended hold never changes again.",
    "Reservation.version": "Rises by 1 with every change of the hold.",
    "expiresAt": "When the hold ends by itself. At that instant it can't be committed any more.",
    "expiresInSeconds": "From now until `expiresAt`; 0 when it has ended. Count down from this, not by your own clock.",
    "ttlClamped": "Whether the time asked for was cut to the service's maximum.",
    "CommitBody.businessId": _SPARES,
    "OfBusiness.businessId": _SPARES,
    "CommitBody.ifExpired": (
        "`rebook` books the slot of an expired hold anew if it is still free: for a payment that came late."
    ),
    # Guests and appointments.
    "guestName": "The guest's name.",
    "guestEmail": "The guest's e-mail address.",
    "guestPhone": "The guest's phone number.",
    "CommitBody.guestEmail": "This or `guestPhone` is required.",
    "CommitBody.guestPhone": "This or `guestEmail` is required.",
    "notes": "Free text for the business.",
    "metadata": "Whatever your own system needs, up to 4096 bytes as JSON. Kept as it is.",
    "appointmentId": "The appointment.",
    "Appointment.reservationId": "The hold that it was made from.",
    "Appointment.version": "Rises by 1 with every change of the appointment.",
    "source": "Where it was made: `online` for a committed hold.",
    "createdAt": "When it was made.",
    "updatedAt": "When it was changed last.",
    "cancellationToken": "Lets the guest cancel without an account. Only for the guest.",
    # The room in a slot.
    "capacity": "Units that the service has.",
    "held": "Units on hold, at the fullest instant of the slot.",
    "booked": "Units booked, at that instant.",
    "available": "Units left. It may have changed by the time you read it: only `reserve` decides.",
    # Health and the purge.
    "ReservationHealth.status": "`degraded` wants a look within the hour, `critical` at once.",
    "reasons": "Why it is not `ok`.",
    "live": "Holds that are neither ended nor expired.",
    "expiredUnpurged": "Expired holds that the purge has not marked yet. They block nobody.",
    "oldestExpiredSeconds": "For how long the oldest of those has waited.",
    "lastPurgeAt": "When the purge last ended.",
    "purgeLate": "Whether that is more than five minutes ago.",
    "conversion": "The share of the holds ended within the last hour that were committed; `null` if none ended.",
    "invariantViolations": "How often each promise of the service is broken in the data: all must be 0.",
    "expired": "Holds that were marked as expired.",
    "deleted": "Ended reservations that were deleted.",
    "remaining": "What this run had to leave for the next one.",
    "durationMs": "How long the run took, in milliseconds.",
    # The catalog.
    "items": "All of them, by id.",
    "name": "What people call it.",
    "slug": "Its name in public addresses: lower-case letters, digits and hyphens.",
    "timezone": "A time zone of the IANA database, like `Europe/Berlin`.",
    "country": "An ISO 3166 code of two letters.",
    "maxSimultaneousBookings": "The capacity: how many units may overlap at one instant.",
    "durationMinutes": "How long a slot is, where a caller does not say.",
    "maxDurationMinutes": "How long a slot may be at most.",
    "holdTtlMinutes": "How long a slot is held, where a caller does not say.",
    "maxHoldTtlMinutes": "How long one request may hold a slot.",
    "maxHoldLifetimeMinutes": "How long a hold can live, however often it is extended.",
    "slotStepMinutes": "How far apart listed slots begin.",
    "ServiceSettings.maxDurationMinutes": (
        "How long a slot may be at most. Left out, it is a day, or `durationMinutes` if that is longer."
    ),
    "ServiceSettings.maxHoldTtlMinutes": (
        "How long one request may hold a slot. Left out, it is an hour, or `holdTtlMinutes` if that is longer."
    ),
    "ServiceSettings.maxHoldLifetimeMinutes": (
        "How long a hold can live, however often it is extended. Left out, it is four times `maxHoldTtlMinutes`."
    ),
    "ServiceSettings.slotStepMinutes": "How far apart listed slots begin. Left out, it is `durationMinutes`.",
    "bufferBeforeMinutes": "Kept free before each slot.",
    "bufferAfterMinutes": "Kept free after each slot.",
    "minNoticeMinutes": "How long before its start a slot must be reserved.",
    "maxAdvanceDays": "How many days ahead a slot may be reserved.",
    "cancellationWindowMinutes": "Until how long before the start a guest may cancel.",
    "bookingEnabled": "Whether the public may reserve it.",
    # Problems.
    "Problem.type": "Where the code is explained: its place on the docs page.",
    "Problem.title": "A short name.",
    "Problem.status": "The HTTP status again.",
    "Problem.detail": "One sentence for people.",
    "Problem.code": "What to branch on. Never on `title` or `detail`, whose wording may change.",
    "Problem.requestId": "Names this request in the service's log; the same as the `X-Request-Id` header.",
    "Problem.errors": "With `VALIDATION_FAILED`: each fault of the request.",
    "Problem.alternatives": "With `SLOT_UNAVAILABLE`: at most five other slots. May be empty.",
    "Problem.reason": "With `SLOT_NOT_BOOKABLE`: why.",
    "Problem.currentVersion": "With `VERSION_CONFLICT`: the version that it has now.",
    "Problem.maxExpiresAt": "With `HOLD_LIFETIME_EXCEEDED`: until when the hold can be kept at most.",
    "Problem.slotStart": "With `CAPACITY_IN_USE`: when the first stretch of time in the way begins.",
    "Problem.slotEnd": "With `CAPACITY_IN_USE`: when it ends.",
    "Problem.claimed": "With `CAPACITY_IN_USE`: how many units are claimed then.",
    "Fault.field": "The member, parameter or header, by its path.",
    "Fault.message": "What is wrong with it.",
    "Alternative.slotStart": "When it begins.",
    "Alternative.slotEnd": "When it ends.",
    "Alternative.resourceIds": "The resources that are free then.",
}


def meaning(shape: str, member: str) -> str:
    """What a member of a shape means. Raises KeyError for one that nobody has explained yet."""
    return MEMBERS.get(f"{shape}.{member}") or MEMBERS[member]
