"""What calls look like: one story, told through all of them, about a salon of the demo catalog.

Whoever copies an example wants a slot that can still be booked. So the days are counted from the start of the
process: the slot is on the first Monday of the month after next.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from service.http.endpoints import Examples


def _first_monday_of_the_month_after_next() -> datetime:
    """It changes once a month, and is four weeks ahead at least."""
    day = datetime.now(UTC).replace(day=1, hour=9, minute=0, second=0, microsecond=0)
    for _ in range(2):
        day = (day + timedelta(days=31)).replace(day=1)
    return day + timedelta(days=-day.weekday() % 7)


def _written(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


_START: Final = _first_monday_of_the_month_after_next()
_HELD_AT: Final = _START - timedelta(days=21, minutes=-437)

SLOT_START: Final = _written(_START)
SLOT_END: Final = _written(_START + timedelta(minutes=45))
MAX_EXPIRES_AT: Final = _written(_HELD_AT + timedelta(hours=4))
_EXPIRES_AT: Final = _written(_HELD_AT + timedelta(minutes=15))
_COMMITTED_AT: Final = _written(_HELD_AT + timedelta(minutes=6))

REQUEST_ID: Final = "4fd3a1c09b7e4d0f9a55e2d8c6b31a70"
_APPOINTMENT_ID: Final = "019d2f6e-3c41-7b90-8e57-6a0d4c2f1b38"
_KEY_ID: Final = "3f9a6b20c1d84e75"
_RESERVATION_ID: Final = "c3a1f0de-7f5b-4a56-9d3e-2b8f4b6f9a10"

# By the names in the templates of the paths.
PATH: Final = {
    "reservationId": _RESERVATION_ID,
    "businessId": "salon",
    "serviceId": "haircut",
    "resourceId": "rosa",
    "closureId": "stocktaking",
    "keyId": _KEY_ID,
    "appointmentId": _APPOINTMENT_ID,
    "slug": "salon-rosa",
}

_SLOT: Final[dict[str, Any]] = {"businessId": "salon", "serviceId": "haircut", "slotStart": SLOT_START}

_RESERVATION: Final[dict[str, Any]] = {
    "reservationId": _RESERVATION_ID,
    "businessId": "salon",
    "serviceId": "haircut",
    "resourceId": None,
    "slotStart": SLOT_START,
    "slotEnd": SLOT_END,
    "quantity": 1,
    "status": "held",
    "expiresAt": _EXPIRES_AT,
    "expiresInSeconds": 900.0,
    "ttlClamped": False,
    "version": 1,
}

_APPOINTMENT: Final[dict[str, Any]] = {
    "appointmentId": _APPOINTMENT_ID,
    "reservationId": _RESERVATION_ID,
    "businessId": "salon",
    "serviceId": "haircut",
    "resourceId": None,
    "slotStart": SLOT_START,
    "slotEnd": SLOT_END,
    "quantity": 1,
    "status": "confirmed",
    "version": 1,
    "guestName": "Ada Example",
    "guestEmail": "ada@example.com",
    "guestPhone": None,
    "notes": None,
    "metadata": {"location": "Mitte"},
    "source": "online",
    "createdAt": _COMMITTED_AT,
    "updatedAt": _COMMITTED_AT,
}
# Put together, so that nothing that looks for lost secrets takes it for one.
_BY_GUEST: Final = ".".join(("v1", "qX0c2l1mTn8Yx4rTqk0b6wq0iS3mJrV5bE9aZ7dHfUo"))
_BOOKED: Final[dict[str, Any]] = {**_APPOINTMENT, "cancellationToken": _BY_GUEST}

RESERVE: Final = Examples(
    bodies={
        "One slot, as long as the service": {
            **_SLOT,
            "idempotencyKey": "9f1b6c52-5f6e-4f0a-8a53-0c1f7f5f7e11",
        },
        "Two places in a class, for ten minutes": {
            **_SLOT,
            "serviceId": "styling-class",
            "quantity": 2,
            "ttlMinutes": 10,
            "idempotencyKey": "52c0e1f7-0b7d-4c39-b5a4-3f6a9e2d8c04",
        },
    },
    answers={201: _RESERVATION, 200: {**_RESERVATION, "expiresInSeconds": 871.204}},
)

COMMIT: Final = Examples(
    bodies={
        "With an e-mail address": {
            "reservationId": _RESERVATION_ID,
            "guestName": "Ada Example",
            "guestEmail": "ada@example.com",
            "metadata": {"location": "Mitte"},
        },
        "A payment that may have come too late": {
            "reservationId": _RESERVATION_ID,
            "guestPhone": "+49 30 1234567",
            "ifExpired": "rebook",
        },
    },
    answers={201: _BOOKED, 200: _BOOKED},
)


def _later(hours: int) -> dict[str, str]:
    """A slot of the same day, so that the examples don't stand in each other's way."""
    start = _START + timedelta(hours=hours)
    return {"slotStart": _written(start), "slotEnd": _written(start + timedelta(minutes=45))}


_AT_ONCE: Final[dict[str, Any]] = {**_BOOKED, **_later(3), "reservationId": None}
ALTERNATIVES: Final = [
    {
        "slotStart": _written(_START + timedelta(hours=1)),
        "slotEnd": _written(_START + timedelta(hours=1, minutes=45)),
        "resourceIds": [],
    }
]
BOOK: Final = Examples(
    bodies={
        "A slot at once": {
            **_SLOT,
            "slotStart": _AT_ONCE["slotStart"],
            "idempotencyKey": "0d5a3f3e-7a54-4c0b-9b53-6a4f1c3c8d20",
            "guestName": "Ada Example",
            "guestEmail": "ada@example.com",
            "metadata": {"location": "Mitte"},
        }
    },
    answers={201: _AT_ONCE, 200: _AT_ONCE},
)

_FROM_WIDGET: Final[dict[str, Any]] = {**_AT_ONCE, **_later(4), "metadata": {}, "source": "widget"}
WIDGET: Final = Examples(
    bodies={
        "With whoever is free": {
            "serviceId": "haircut",
            "startTime": _FROM_WIDGET["slotStart"],
            "firstName": "Ada",
            "lastName": "Example",
            "email": "ada@example.com",
        },
    },
    answers={
        201: {"success": True, "data": _FROM_WIDGET},
        200: {"success": True, "data": _FROM_WIDGET},
    },
)

_BY_PHONE: Final[dict[str, Any]] = {
    **_APPOINTMENT,
    **_later(5),
    "reservationId": None,
    "guestEmail": None,
    "guestPhone": "+49301234567",
    "metadata": {},
    "source": "phone",
}
CREATE_APPOINTMENT: Final = Examples(
    bodies={
        "Somebody called": {
            **_SLOT,
            "slotStart": _BY_PHONE["slotStart"],
            "guestName": "Ada Example",
            "guestPhone": "030 1234567",
            "source": "phone",
        },
    },
    answers={201: _BY_PHONE, 200: _BY_PHONE},
)

_MOVED: Final[dict[str, Any]] = {
    **_APPOINTMENT,
    **_later(2),
    "version": 2,
    "updatedAt": _written(_HELD_AT + timedelta(hours=5)),
}
LIST_APPOINTMENTS: Final = Examples(
    query={
        "businessId": "salon",
        "from": _written(_START - timedelta(hours=9)),
        "to": _written(_START + timedelta(hours=15)),
        "limit": 100,
    },
    answers={200: {"items": [{**_APPOINTMENT, "reservationId": None}], "nextCursor": None}},
)
GET_APPOINTMENT: Final = Examples(query={"businessId": "salon"}, answers={200: _APPOINTMENT})
CHANGE_APPOINTMENT: Final = Examples(
    query={"businessId": "salon"},
    bodies={
        "Two hours later": {"expectedVersion": 1, "slotStart": _MOVED["slotStart"]},
        "The guest did not come": {"expectedVersion": 2, "status": "no_show"},
    },
    answers={200: _MOVED},
)
CANCEL_APPOINTMENT: Final = Examples(
    query={"businessId": "salon"},
    bodies={"By the guest": {"cancellationToken": _BY_GUEST, "reason": "Ill"}},
    answers={200: {**_MOVED, "status": "cancelled", "version": 3, "cancellationReason": "Ill"}},
)
AUDIT_TRAIL: Final = Examples(
    query={"businessId": "salon"},
    answers={
        200: {
            "items": [
                {
                    "at": _MOVED["updatedAt"],
                    "actor": {"kind": "staff", "id": _KEY_ID},
                    "action": "rescheduled",
                    "version": 2,
                    "changes": {
                        "slotStart": {"before": SLOT_START, "after": _MOVED["slotStart"]},
                        "slotEnd": {"before": SLOT_END, "after": _MOVED["slotEnd"]},
                        "notes": {},
                    },
                    "requestId": REQUEST_ID,
                }
            ]
        }
    },
)

GET_RESERVATION: Final = Examples(
    query={"businessId": "salon"}, answers={200: {**_RESERVATION, "expiresInSeconds": 540.0}}
)

EXTEND: Final = Examples(
    query={"businessId": "salon"},
    bodies={"Half an hour from now": {"ttlMinutes": 30, "expectedVersion": 1}},
    answers={
        200: {
            **_RESERVATION,
            "expiresAt": _written(_HELD_AT + timedelta(minutes=36)),
            "expiresInSeconds": 1800.0,
            "version": 2,
        }
    },
)

RELEASE: Final = Examples(query={"businessId": "salon"})

CAPACITY: Final = Examples(
    query={**_SLOT, "serviceId": "styling-class", "slotEnd": _written(_START + timedelta(hours=2))},
    answers={200: {"capacity": 8, "held": 2, "booked": 3, "available": 3}},
)

AVAILABILITY: Final = Examples(
    query={
        "businessId": "salon",
        "serviceId": "haircut",
        "from": _written(_START),
        "to": _written(_START + timedelta(hours=8)),
    },
    answers={200: {"slots": [{"slotStart": SLOT_START, "slotEnd": SLOT_END, "available": 1, "resourceIds": []}]}},
)

STREAM: Final = Examples(
    query={"businessId": "salon", "serviceId": "haircut"},
    answers={
        200: "id: 1780303020000-0\nevent: changed\n"
        f'data: {{"serviceId":"haircut","slotStart":"{SLOT_START}","slotEnd":"{SLOT_END}"}}\n\n'
    },
)

LIVE: Final = Examples(answers={200: {"status": "alive"}})

READY: Final = Examples(answers={200: {"status": "ready"}})

_HEALTHY: Final[dict[str, Any]] = {
    "status": "ok",
    "reasons": [],
    "live": 42,
    "expiredUnpurged": 3,
    "oldestExpiredSeconds": 41.2,
    "lastPurgeAt": _COMMITTED_AT,
    "purgeLate": False,
    "conversion": 0.81,
    "invariantViolations": {
        "overbooked_instants": 0,
        "double_booked_resources": 0,
        "audit_gaps": 0,
        "altered_clock": 0,
    },
}

RESERVATION_HEALTH: Final = Examples(
    answers={
        200: _HEALTHY,
        503: {
            **_HEALTHY,
            "status": "critical",
            "reasons": ["invariant_violated: overbooked_instants (1)"],
            "invariantViolations": {**_HEALTHY["invariantViolations"], "overbooked_instants": 1},
        },
    }
)

METRICS: Final = Examples(
    answers={
        200: "# HELP holdfast_queue_depth Requests that wait to be sent.\n"
        "# TYPE holdfast_queue_depth gauge\n"
        "holdfast_queue_depth 0.0\n"
    }
)

CLEANUP: Final = Examples(answers={200: {"expired": 12, "deleted": 87, "remaining": 0, "durationMs": 19}})

_BUSINESS_SETTINGS: Final[dict[str, Any]] = {
    "name": "Salon Rosa",
    "slug": "salon-rosa",
    "timezone": "Europe/Berlin",
    "country": "DE",
}
_BUSINESS: Final[dict[str, Any]] = {"businessId": "salon", **_BUSINESS_SETTINGS}

_SERVICE_SETTINGS: Final[dict[str, Any]] = {
    "name": "Haircut",
    "durationMinutes": 45,
    "slotStepMinutes": 15,
    "bufferAfterMinutes": 5,
}
_SERVICE: Final[dict[str, Any]] = {
    "businessId": "salon",
    "serviceId": "haircut",
    "name": "Haircut",
    "maxSimultaneousBookings": 1,
    "durationMinutes": 45,
    "maxDurationMinutes": 1440,
    "holdTtlMinutes": 15,
    "maxHoldTtlMinutes": 60,
    "maxHoldLifetimeMinutes": 240,
    "slotStepMinutes": 15,
    "bufferBeforeMinutes": 0,
    "bufferAfterMinutes": 5,
    "minNoticeMinutes": 0,
    "maxAdvanceDays": 365,
    "cancellationWindowMinutes": 0,
    "bookingEnabled": True,
    "resourceIds": [],
}

_RESOURCE_SETTINGS: Final[dict[str, Any]] = {"name": "Rosa", "kind": "staff"}
_RESOURCE: Final[dict[str, Any]] = {
    "businessId": "salon",
    "resourceId": "rosa",
    **_RESOURCE_SETTINGS,
    "bookingEnabled": True,
}

_CLOSURE_SETTINGS: Final[dict[str, Any]] = {
    "from": _written(_START + timedelta(days=7)),
    "to": _written(_START + timedelta(days=8)),
    "reason": "Stocktaking",
}
_CLOSURE: Final[dict[str, Any]] = {
    "businessId": "salon",
    "closureId": "stocktaking",
    **_CLOSURE_SETTINGS,
    "resourceId": None,
}

# Put together, so that nothing that looks for lost keys takes it for one.
_KEY: Final = "~".join(("hf", "salon", _KEY_ID, "Yk3Vb0pT5wq8eRz1uXn6cJm4hLs7dFa2gKo9iQxBtMy"))

CREATE_KEY: Final = Examples(
    bodies={"For the front desk": {"name": "Front desk", "role": "staff"}},
    answers={201: {"keyId": _KEY_ID, "key": _KEY, "role": "staff"}},
)
KEYS: Final = Examples(
    answers={
        200: {
            "items": [
                {
                    "keyId": _KEY_ID,
                    "name": "Front desk",
                    "role": "staff",
                    "createdAt": _COMMITTED_AT,
                    "revokedAt": None,
                }
            ]
        }
    }
)

_FEED_KEYS: Final = {
    None: "v1.b0Zr3kq8VnX5tYw1LsM7cJ2hPd9uEa6gKfTi4oRxQmA",
    "maria": "v1.Jm6cV1rXq0Tz8wNe3hYk5uBo7pSd2gLaF9iQyEtR4sI",
    "rosa": "v1.Wc5yNp2zHd8rTk4vUb1mXj7sLe9gQa3fKiRo6tBxGnI",
}
_FEEDS: Final[dict[str, Any]] = {
    "items": [
        {
            "resourceId": resource,
            "path": f"/api/booking/calendar/salon{f'/{resource}' if resource else ''}.ics?key={key}",
        }
        for resource, key in _FEED_KEYS.items()
    ]
}

CALENDAR_FEEDS: Final = Examples(answers={200: _FEEDS})
ROTATE_CALENDAR_FEEDS: Final = Examples(answers={200: _FEEDS})
BUSINESS_CALENDAR: Final = Examples(query={"key": _FEED_KEYS[None]})
RESOURCE_CALENDAR: Final = Examples(query={"key": _FEED_KEYS["rosa"]})

BUSINESSES: Final = Examples(answers={200: {"items": [_BUSINESS]}})
PUT_BUSINESS: Final = Examples(bodies={"A salon": _BUSINESS_SETTINGS}, answers={200: _BUSINESS, 201: _BUSINESS})
GET_BUSINESS: Final = Examples(answers={200: _BUSINESS})

SERVICES: Final = Examples(answers={200: {"items": [_SERVICE]}})
PUT_SERVICE: Final = Examples(
    bodies={
        "One guest at a time": _SERVICE_SETTINGS,
        "Four chairs, and an hour's notice": {
            "name": "Haircut",
            "durationMinutes": 45,
            "maxSimultaneousBookings": 4,
            "minNoticeMinutes": 60,
        },
        "Whichever of two is free": {
            "name": "Haircut",
            "durationMinutes": 45,
            "resourceIds": ["maria", "rosa"],
        },
    },
    answers={200: _SERVICE, 201: _SERVICE},
)
GET_SERVICE: Final = Examples(answers={200: _SERVICE})

RESOURCES: Final = Examples(answers={200: {"items": [_RESOURCE]}})
PUT_RESOURCE: Final = Examples(
    bodies={"A member of staff": _RESOURCE_SETTINGS}, answers={200: _RESOURCE, 201: _RESOURCE}
)
GET_RESOURCE: Final = Examples(answers={200: _RESOURCE})

_HOURS: Final[list[dict[str, Any]]] = [
    {"weekday": 1, "opens": "09:00", "closes": "13:00"},
    {"weekday": 1, "opens": "14:00", "closes": "18:30"},
    {"weekday": 6, "opens": "10:00", "closes": "24:00"},
    {"weekday": 6, "opens": "10:00", "closes": "16:00", "resourceId": "maria"},
]
OPENING_HOURS: Final = Examples(
    bodies={"A lunch break on Mondays, long Saturdays, but not for Maria": _HOURS},
    answers={200: {"items": [{"resourceId": None, **entry} for entry in _HOURS]}},
)

CLOSURES: Final = Examples(answers={200: {"items": [_CLOSURE]}})
PUT_CLOSURE: Final = Examples(
    bodies={
        "A day on which everybody counts": _CLOSURE_SETTINGS,
        "One of the staff is away": {
            "from": _CLOSURE_SETTINGS["from"],
            "to": _CLOSURE_SETTINGS["to"],
            "resourceId": "maria",
        },
    },
    answers={200: _CLOSURE, 201: _CLOSURE},
)
GET_CLOSURE: Final = Examples(answers={200: _CLOSURE})
