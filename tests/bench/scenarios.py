"""The kinds of load, each as HTTP requests and as the same demand for the yardstick in pgbench.

Each measurement has services of its own, so that none meets the claims of another. Every request has an idempotency
key of its own, over HTTP and in pgbench.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from tests.bench.load import get, post_json
from tests.database import MONDAY, TestDatabase, at

_HEALTH: Final = get("/health/live")
# Placeholders of the parts in which bodies differ, as long as these: all bodies have the same length.
_BUSINESS: Final = "B" * len("000")
_HOUR: Final = "H" * len("2026-01-01T00")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of load, of which either every request is granted or every one is refused.

    wanted_ratio: how many times the rate of one call for each request group commit must reach.
    """

    name: str
    businesses: int = 1
    first_business: int = 0
    one_slot: bool = False
    capacity: int = 1
    granted: bool = True
    wanted_ratio: float | None = None

    @property
    def status(self) -> int:
        """The status that every answer must have."""
        return 201 if self.granted else 409

    def prepare(self, database: TestDatabase, service_id: str) -> None:
        """Makes the services of one measurement, and sells their first slot out if every request must be refused."""
        with database.admin.transaction():
            for number in range(self.first_business, self.first_business + self.businesses):
                business_id = f"bench-{number:03}"
                database.make_service(service_id, business_id=business_id, capacity=self.capacity)
                if not self.granted:
                    assert database.reserve(0, business_id=business_id, service_id=service_id).name == "done"

    def prepare_yardstick(self, database: TestDatabase) -> None:
        """Does the same for the yardstick."""
        database.rows(
            "CALL yardstick.prepare(%s, %s, %s, %s, %s)",
            self.first_business,
            self.businesses,
            self.capacity,
            at(0),
            not self.granted,
        )

    def requests(self, service_id: str) -> Iterator[bytes]:
        """Yields requests without end, for each business in turn: for the same slot, or for hour after hour.

        A request is formatted from parts made beforehand, which takes less than a microsecond.
        """
        request = post_json(
            "/api/booking/reserve",
            f"Idempotency-Key: {service_id}-%d\r\n",
            f'{{"businessId":"bench-{_BUSINESS}","serviceId":"{service_id}","slotStart":"{_HOUR}:00:00Z"}}',
        )
        template = request.replace(_BUSINESS.encode(), b"%b").replace(_HOUR.encode(), b"%b")
        businesses = [b"%03d" % (self.first_business + number) for number in range(self.businesses)]
        keys = itertools.count()
        for hour in itertools.repeat(next(_hours())) if self.one_slot else _hours():
            for business in businesses:
                yield template % (next(keys), business, hour)


def _hours() -> Iterator[bytes]:
    """Yields the hours from the first slot on, as they begin in ISO 8601."""
    for day in itertools.count():
        date = (MONDAY + timedelta(days=day)).date().isoformat().encode()
        for hour in range(24):
            yield b"%bT%02d" % (date, hour)


def health_requests() -> Iterator[bytes]:
    """Yields requests that need neither a body nor the database."""
    return itertools.repeat(_HEALTH)


SPREAD = (
    Scenario("spread over slots", wanted_ratio=1.8),
    Scenario("spread over businesses", businesses=100),
)
SCENARIOS = (
    *SPREAD,
    Scenario("sold-out slot", one_slot=True, granted=False, wanted_ratio=3.0),
    Scenario("huge slot", one_slot=True, capacity=10_000_000),
)

# Measured at the same time: a stampede at one business, and the callers of others.
STAMPEDE = Scenario("stampede", one_slot=True, granted=False)
OTHERS = Scenario("others", businesses=20, first_business=1)
