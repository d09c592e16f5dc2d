"""The businesses of the runs: few slots that many clients want, of each kind of service that can be booked."""

from dataclasses import dataclass
from typing import Any, Final

from tests.history.record import Offer, Town

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR

TOWN: Final = Town(
    offers={
        # People who can be in one place at a time, shared by services.
        "salon": {
            "cut": Offer(60, pool=("rosa", "maria", "john")),
            "colour": Offer(90, pool=("rosa", "maria"), before=10, after=20),
            "perm": Offer(30, pool=("rosa",)),
        },
        # Places without resources, classes that share a room, and nights.
        "studio": {
            "yoga": Offer(60, capacity=6),
            "spin": Offer(60, pool=("hall", "attic"), shares=True),
            "night": Offer(24 * 60, capacity=4),
        },
        # Tables that seat parties of different sizes.
        "bistro": {"table": Offer(90, pool=("window", "corner", "round"))},
    },
    seats={
        "salon": {"rosa": 1, "maria": 1, "john": 1},
        "studio": {"hall": 5, "attic": 3},
        "bistro": {"window": 2, "corner": 2, "round": 6},
    },
)

# The services of which the capacity is changed, and to what.
CAPACITIES: Final = {("studio", "yoga"): (4, 6, 9), ("salon", "cut"): (2, 3), ("studio", "night"): (3, 4)}


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot that clients ask for, in epoch seconds."""

    business: str
    service: str
    starts: float
    ends: float


def slots(day: float, now: float) -> list[Slot]:
    """Returns the slots of a run: in the days that follow `day`, a midnight in UTC, and some that have begun `now`."""
    found = []
    for business, offers in TOWN.offers.items():
        for service, offer in offers.items():
            if service == "night":
                nights = [(first, length) for first in range(2) for length in (1, 2)]
                found += [Slot(business, service, day + first * DAY, day + (first + n) * DAY) for first, n in nights]
                continue
            starts = [day + HOUR * hour for hour in (9, 9.5, 10)]
            found += [Slot(business, service, start, start + 60 * offer.minutes) for start in starts]
            found.append(Slot(business, service, starts[0], starts[0] + 2 * HOUR))
    began = now - now % HOUR - HOUR
    return [*found, Slot("salon", "cut", began, began + 2 * DAY), Slot("studio", "yoga", began, began + 2 * DAY)]


def settings_of(service: str, offer: Offer, capacity: int | None) -> dict[str, Any]:
    """Returns the body with which a service is put."""
    if service == "night":
        length: dict[str, Any] = {"durationDays": 1, "maxDurationDays": 3}
    else:
        length = {"durationMinutes": offer.minutes, "minDurationMinutes": 30, "maxDurationMinutes": 240}
        length |= {"slotStepMinutes": 30}
    return length | {
        "name": service,
        "maxSimultaneousBookings": capacity,
        "resourceIds": list(offer.pool),
        "resourceSharing": "session" if offer.shares else "exclusive",
        "bufferBeforeMinutes": offer.before,
        "bufferAfterMinutes": offer.after,
        "holdTtlMinutes": 1,
        "maxHoldTtlMinutes": 10,
        "maxHoldLifetimeMinutes": 30,
    }
