"""What the members of requests and answers mean, for those who read the OpenAPI document.

A name means the same wherever it stands; where a shape says it more exactly, it comes as `Shape.member`.
"""

from typing import Final

_ONLY_IF: Final = "Only if this is still its version; else `VERSION_CONFLICT`, and nothing changes."
_PHONE: Final = (
    "The guest's phone number, kept as E.164, like `+49301234567`. Written without a country's code it is taken for "
    "one of the business's country."
)
_SPARES: Final = "Spares a look-up, where you know the business."

MEMBERS: Final[dict[str, str]] = {
    # Slots and holds.
    "businessId": "The business, by its id in the catalog.",
    "serviceId": "The service, by its id within the business.",
    "resourceId": "The resource that is taken; `null` where the service has none.",
    "slotStart": "When the slot begins.",
    "slotEnd": "When the slot ends. That instant is not part of it.",
    "quantity": "How many units of the service's capacity.",
    "reservationId": "The hold. Whoever has this id can commit or release it: show it to its holder only.",
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
        "How long to hold the slot, fractions allowed. Anything above the service's maximum is cut to that "
        "(`ttlClamped`); the default is the service's `holdTtlMinutes`."
    ),
    "ExtendBody.ttlMinutes": "How long to keep the hold from now on. Above the service's maximum it is cut to that.",
    "Reservation.status": "`held`, or how it ended. An ended hold never changes again.",
    "Reservation.version": "Rises by 1 with every change of the hold.",
    "expiresAt": "When the hold ends by itself. From that instant on it can't be committed.",
    "expiresInSeconds": "Seconds until `expiresAt`; 0 when it has ended. Count down from this, not by your clock.",
    "ttlClamped": "Whether the time asked for was cut to the service's maximum.",
    "CommitBody.businessId": _SPARES,
    "OfBusiness.businessId": _SPARES,
    "CommitBody.ifExpired": (
        "`rebook` books the slot of an expired hold anew if it is still free: for a payment that came late."
    ),
    # Guests and appointments.
    "guestName": "The guest's name.",
    "guestEmail": "The guest's e-mail address.",
    "guestPhone": _PHONE,
    "CommitBody.guestEmail": "This or `guestPhone` is required.",
    "CommitBody.guestPhone": f"{_PHONE} This or `guestEmail` is required.",
    "notes": "Free text for the business.",
    "metadata": "Whatever your own system needs, up to 4096 bytes as JSON. Kept as it is.",
    "appointmentId": "The appointment.",
    "Appointment.version": "Rises by 1 with every change of the appointment.",
    "source": "Where it was made: `online` for a committed hold.",
    "createdAt": "When it was made.",
    "updatedAt": "When it was last changed.",
    "cancellationToken": "Lets the guest cancel without an account. Only for the guest.",
    "Appointment.status": "`confirmed`, or what became of it. Only a confirmed one takes room.",
    "BookedAppointment.status": "`confirmed`, or what became of it.",
    "Appointment.reservationId": (
        "The hold that it was made from; `null` where there was none, in lists, and for those who may only read: "
        "with it, one can cancel."
    ),
    "BookedAppointment.reservationId": "The hold that it was made from; `null` where it was booked without one.",
    "BookedAppointment.version": "Rises by 1 with every change of the appointment.",
    "cancellationReason": "Why it was cancelled. Present only if a reason was given.",
    "BookingBody.slotEnd": "When the slot ends. Left out, it is as long as the service.",
    "BookingBody.resourceId": "One resource of the service. Left out, any free one.",
    "BookingBody.ttlMinutes": "Has no effect: there is no hold. Accepted so that a body for `reserve` works here too.",
    "BookingBody.guestEmail": "This or `guestPhone` is required.",
    "BookingBody.guestPhone": f"{_PHONE} This or `guestEmail` is required.",
    "idempotencyKey": (
        "Your name for this attempt: sent again with the same key, the request has no second effect. "
        "It may come as the `Idempotency-Key` header instead."
    ),
    "AppointmentBody.slotEnd": "When the slot ends. Left out, it is as long as the service.",
    "AppointmentBody.resourceId": "One resource of the service. Left out, any free one.",
    "AppointmentBody.source": "Where it was made, in your own words.",
    "ChangeBody.slotStart": "When the slot begins from now on. Alone, it keeps the duration.",
    "ChangeBody.slotEnd": "When the slot ends from now on.",
    "ChangeBody.resourceId": "The resource that it moves to; `null` for any free one.",
    "ChangeBody.status": "`completed`, `no_show` or `cancelled`. That is final.",
    "ChangeBody.metadata": "Replaces what was there.",
    "ChangeBody.expectedVersion": "The version that you have read. Required, here or as `If-Match`.",
    "CancelBody.cancellationToken": "The guest's token. Without it, a key of the business is required.",
    "CancelBody.reason": "Why, for the business. The audit trail records that a reason was given, but not its text.",
    "AppointmentsQuery.from": "Appointments that start at this instant or later,",
    "AppointmentsQuery.to": "and before this one.",
    "AppointmentsQuery.resourceId": "Only those of this resource.",
    "AppointmentsQuery.status": "Only those with this status.",
    "limit": "How many to a page, 500 at most.",
    "cursor": "`nextCursor` of the page before.",
    "nextCursor": "Asks for the next page; `null` on the last one.",
    "AppointmentPage.items": "The appointments, by start.",
    "AuditTrail.items": "The changes, by version.",
    "at": "When it happened.",
    "actor": "Who did it.",
    "kind": "`guest`, `admin`, or the role of the key: `owner`, `staff`.",
    "id": "The key that was used; `null` for guests and the administrator.",
    "action": "`created`, `changed`, `rescheduled`, `cancelled`, `completed`, `no_show` or `erased`.",
    "AuditEntry.version": "The version that it made.",
    "changes": "The fields that changed, with their values `before` and `after`; personal ones by name only.",
    "AuditEntry.requestId": "The request that did it, as in the service's log.",
    # The widget.
    "path.slug": "The public name of the business.",
    "path.appointmentId": "The appointment, by its id.",
    "staffId": "One resource of the service. Left out, any free one.",
    "startTime": "When the slot begins.",
    "firstName": "The guest's first name.",
    "lastName": "The guest's last name.",
    "email": "The guest's e-mail address.",
    "phone": _PHONE,
    "locationId": "Kept in `metadata` as it is.",
    "success": "Whether it worked.",
    "data": "The appointment.",
    "error": "What was wrong.",
    "WidgetError.code": "What it is: branch on this. `TIME_CONFLICT` where the slot is taken; else as in `Problem`.",
    "WidgetError.message": "For the person who reads it.",
    "WidgetError.errors": "With `VALIDATION_FAILED`: each fault.",
    "WidgetError.reason": "With `SLOT_NOT_BOOKABLE`: why.",
    "WidgetRefusal.alternatives": "With `TIME_CONFLICT`: slots to take instead.",
    # The room in a slot.
    "capacity": "Units that the service has.",
    "held": "Units on hold, at the fullest instant of the slot.",
    "booked": "Units booked, at that instant.",
    "available": "Units left. It may have changed by the time you read it: only `reserve` decides.",
    # The slots that can be booked.
    "slots": "The slots, by their start.",
    "AvailabilityQuery.from": "The first instant at which a slot may start.",
    "AvailabilityQuery.to": "The slots start before this, at most 62 days after `from`.",
    "AvailabilityQuery.quantity": "How many units are wanted. Slots with less room are not listed.",
    "AvailabilityQuery.resourceId": "Only the slots in which this one is free.",
    "Slot.available": "How many units are left then. That may have changed since: only `reserve` decides.",
    "Slot.resourceIds": "The resources that are free then; none where the service has none.",
    # Health and the purge.
    "ReservationHealth.status": "`degraded` needs a look within the hour, `critical` at once.",
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
    "country": "An ISO 3166 code of two letters, like `DE`.",
    "maxSimultaneousBookings": "The capacity: how many units may overlap at one instant.",
    "durationMinutes": "How long a slot is, where a caller does not say.",
    "maxDurationMinutes": "How long a slot may be at most.",
    "holdTtlMinutes": "How long a slot is held, where a caller does not say.",
    "maxHoldTtlMinutes": "How long one request may hold a slot.",
    "maxHoldLifetimeMinutes": "How long a hold can live, however often it is extended.",
    "slotStepMinutes": "How far apart listed slots begin.",
    "ServiceSettings.maxSimultaneousBookings": (
        "The capacity: how many units may overlap at one instant. Left out, it is the number of `resourceIds`, or 1."
    ),
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
    "cancellationWindowMinutes": "How long before the start guests must cancel; after that only staff can.",
    "bookingEnabled": "Whether the public may reserve it.",
    "ServiceSettings.resourceIds": (
        "The pool: each booking takes one of these resources, whichever is free. Left out, the service has none."
    ),
    "Service.resourceIds": "The pool: each booking takes one of these resources.",
    "weekday": "1 for Monday, to 7 for Sunday.",
    "opens": "When it opens, like `09:00`.",
    "closes": "When it closes, like `17:30`; `24:00` is the end of the day. A night is two entries.",
    "closureId": "The closure, by its id within the business.",
    "path.resourceId": "The resource, by its id within the business.",
    "Resource.resourceId": "The resource, by its id within the business.",
    "WeeklyHours.items": "All of them: the business's own first, then resource by resource.",
    "Closures.items": "All of them, by their beginning.",
    **{
        f"{shape}{suffix}.{member}": text
        for suffix in ("", "Settings")
        for shape, member, text in (
            ("Resource", "kind", "What sort of resource it is, in your own words: `staff`, `suite`, `room`."),
            ("OpeningHours", "resourceId", "The one resource that this is about; `null` for the whole business."),
            ("Closure", "resourceId", "The one resource that this is about; `null` for the whole business."),
            ("Closure", "from", "When it begins."),
            ("Closure", "to", "When it ends. At that instant it is open again."),
            ("Closure", "reason", "Why, for the business's own people."),
        )
    },
    # Keys.
    "keyId": "Names the key in lists and logs. Not a secret.",
    "key": "What to send as `Authorization: Bearer …`. It is shown only here, and never again.",
    "role": (
        "`readonly` reads; `staff` also makes, changes and cancels appointments; `owner` also changes the catalog, "
        "makes keys and erases guests."
    ),
    "KeyBody.name": "What people call it: who or what uses this key.",
    "ApiKeys.items": "All of them, the oldest first.",
    "revokedAt": "When it was revoked; `null` if it was not.",
    # Calendar feeds.
    "CalendarFeeds.items": "The feed of the business first, then those of its resources by id.",
    "CalendarFeedPath.resourceId": "Whose calendar it is; `null` for that of the whole business.",
    "CalendarFeedPath.path": "The path of the feed on this service, with its key. A secret.",
    "FeedQuery.key": "The secret of this feed, as `calendar-feeds` told it.",
    # Problems.
    "Problem.type": "Where the code is explained: its place on the docs page.",
    "Problem.title": "A short name.",
    "Problem.status": "The HTTP status, repeated.",
    "Problem.detail": "One sentence for people.",
    "Problem.code": "What to branch on. Never on `title` or `detail`, whose wording may change.",
    "Problem.requestId": "Names this request in the service's log; the same as the `X-Request-Id` header.",
    "Problem.errors": "With `VALIDATION_FAILED`: each fault of the request.",
    "Problem.alternatives": "With `SLOT_UNAVAILABLE`: at most five other slots. May be empty.",
    "Problem.reason": "With `SLOT_NOT_BOOKABLE`: why.",
    "Problem.currentVersion": "With `VERSION_CONFLICT`: the version that it has now.",
    "Problem.appointmentStatus": "With `APPOINTMENT_ENDED`: how it ended.",
    "Problem.cancellableUntil": "With `CANCELLATION_WINDOW_CLOSED`: until when guests could cancel it.",
    "Problem.maxExpiresAt": "With `HOLD_LIFETIME_EXCEEDED`: until when the hold can be kept at most.",
    "Problem.slotStart": "With `CAPACITY_IN_USE`: when the first stretch of time in the way begins.",
    "Problem.slotEnd": "With `CAPACITY_IN_USE`: when it ends.",
    "Problem.claimed": "With `CAPACITY_IN_USE`: how many units are claimed then.",
    "Fault.field": "The member, parameter or header, by its path.",
    "Fault.message": "What is wrong with it.",
    "Alternative.resourceIds": "The resources that are free then; none where the service has none.",
}


def meaning(shape: str, member: str) -> str:
    """What a member of a shape means. Raises KeyError for one that nobody has explained yet."""
    return MEMBERS.get(f"{shape}.{member}") or MEMBERS[member]
