"""A small catalog to try things with: a salon, a clinic, a kennel whose tiers of suites are services, two courts."""

from typing import Any, Final

from service.booking import catalog_file
from service.booking.catalog import Catalog
from service.booking.catalog_file import CatalogFile
from service.database.connections import Database

_DAY_MINUTES: Final = 24 * 60

_SALON: Final[dict[str, Any]] = {
    "businessId": "salon",
    "name": "Salon Rosa",
    "slug": "salon-rosa",
    "timezone": "Europe/Berlin",
    "country": "DE",
    "resources": {"rosa": {"name": "Rosa", "kind": "staff"}, "maria": {"name": "Maria", "kind": "staff"}},
    "services": {
        "haircut": {"name": "Haircut", "durationMinutes": 45, "slotStepMinutes": 15, "bufferAfterMinutes": 5},
        "colouring": {"name": "Colouring", "durationMinutes": 90, "resourceIds": ["rosa", "maria"]},
        "styling-class": {"name": "Styling class", "durationMinutes": 120, "maxSimultaneousBookings": 8},
    },
}

_CLINIC: Final[dict[str, Any]] = {
    "businessId": "clinic",
    "name": "Harbour Clinic",
    "slug": "harbour-clinic",
    "timezone": "America/New_York",
    "country": "US",
    "services": {
        "checkup": {"name": "Check-up", "durationMinutes": 30, "maxSimultaneousBookings": 3, "minNoticeMinutes": 5},
        "vaccination": {"name": "Vaccination", "durationMinutes": 10, "maxSimultaneousBookings": 5},
    },
}

_SUITES: Final = {"standard": 10, "deluxe": 4}
_KENNEL: Final[dict[str, Any]] = {
    "businessId": "kennel",
    "name": "Happy Tails",
    "slug": "happy-tails",
    "timezone": "Australia/Sydney",
    "country": "AU",
    "resources": {
        f"{tier}-{number}": {"name": f"{tier.capitalize()} suite {number}", "kind": "suite"}
        for tier, suites in _SUITES.items()
        for number in range(1, suites + 1)
    },
    "services": {
        tier: {
            "name": f"{tier.capitalize()} suites",
            "durationMinutes": _DAY_MINUTES,
            "maxDurationMinutes": 28 * _DAY_MINUTES,
            "resourceIds": [f"{tier}-{number}" for number in range(1, suites + 1)],
        }
        for tier, suites in _SUITES.items()
    },
}

_COURTS: Final[dict[str, Any]] = {
    "businessId": "court",
    "name": "Riverside Tennis",
    "slug": "riverside-tennis",
    "timezone": "Europe/London",
    "country": "GB",
    "resources": {"grass": {"name": "Grass court", "kind": "court"}, "clay": {"name": "Clay court", "kind": "court"}},
    "services": {
        "tennis": {
            "name": "An hour of tennis",
            "durationMinutes": 60,
            "slotStepMinutes": 30,
            "resourceIds": ["grass", "clay"],
        },
    },
    "openingHours": [
        *({"weekday": weekday, "opens": "07:00", "closes": "22:00"} for weekday in range(1, 6)),
        *({"weekday": weekday, "opens": "09:00", "closes": "18:00"} for weekday in (6, 7)),
        # Grass is rested on Mondays: where a resource has hours of its own, it is closed on the other days.
        *({"weekday": weekday, "opens": "10:00", "closes": "20:00", "resourceId": "grass"} for weekday in range(2, 8)),
    ],
}


async def make_demo_catalog(database: Database) -> None:
    """Fills an empty catalog; leaves any other alone."""
    if await Catalog(database).businesses():
        return
    for content in (_SALON, _CLINIC, _KENNEL, _COURTS):
        await catalog_file.apply(database, CatalogFile.model_validate(content))
