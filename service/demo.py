"""A small catalog to try things with: a salon, a clinic, and a kennel whose tiers of suites are services."""

from typing import Any, Final

from service.booking.catalog import BusinessSettings, Catalog, ServiceSettings
from service.database.connections import Database

_DAY_MINUTES: Final = 24 * 60

_CATALOG: Final[dict[str, dict[str, Any]]] = {
    "salon": {
        "business": {"name": "Salon Rosa", "slug": "salon-rosa", "timezone": "Europe/Berlin", "country": "DE"},
        "services": {
            "haircut": {"name": "Haircut", "durationMinutes": 45, "slotStepMinutes": 15, "bufferAfterMinutes": 5},
            "styling-class": {"name": "Styling class", "durationMinutes": 120, "maxSimultaneousBookings": 8},
        },
    },
    "clinic": {
        "business": {
            "name": "Harbour Clinic",
            "slug": "harbour-clinic",
            "timezone": "America/New_York",
            "country": "US",
        },
        "services": {
            "checkup": {
                "name": "Check-up",
                "durationMinutes": 30,
                "maxSimultaneousBookings": 3,
                "minNoticeMinutes": 5,
            },
            "vaccination": {"name": "Vaccination", "durationMinutes": 10, "maxSimultaneousBookings": 5},
        },
    },
    "kennel": {
        "business": {"name": "Happy Tails", "slug": "happy-tails", "timezone": "Australia/Sydney", "country": "AU"},
        "services": {
            tier: {
                "name": name,
                "durationMinutes": _DAY_MINUTES,
                "maxDurationMinutes": 28 * _DAY_MINUTES,
                "maxSimultaneousBookings": suites,
            }
            for tier, name, suites in (("standard", "Standard suites", 10), ("deluxe", "Deluxe suites", 4))
        },
    },
}


async def make_demo_catalog(database: Database) -> None:
    """Fills an empty catalog; leaves any other alone."""
    catalog = Catalog(database)
    if await catalog.businesses():
        return
    for business_id, demo in _CATALOG.items():
        await catalog.put_business(business_id, BusinessSettings.model_validate(demo["business"]))
        for service_id, settings in demo["services"].items():
            await catalog.put_service(business_id, service_id, ServiceSettings.model_validate(settings))
