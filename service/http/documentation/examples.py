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
_RESERVATION_ID: Final = "c3a1f0de-7f5b-4a56-9d3e-2b8f4b6f9a10"

# By the names in the templates of the paths.
PATH: Final = {"reservationId": _RESERVATION_ID, "businessId": "salon", "serviceId": "haircut"}

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
    "appointmentId": "019d2f6e-3c41-7b90-8e57-6a0d4c2f1b38",
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
    "cancellationToken": "v1.qX0c2l1mTn8Yx4rTqk0b6wq0iS3mJrV5bE9aZ7dHfUo",
}

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
    answers={201: _APPOINTMENT, 200: _APPOINTMENT},
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
}

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
    },
    answers={200: _SERVICE, 201: _SERVICE},
)
GET_SERVICE: Final = Examples(answers={200: _SERVICE})
