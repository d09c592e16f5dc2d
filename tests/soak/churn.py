"""The holds that expire unused, at a steady pace: each takes another slot, and its slot is taken again later."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from tests.bench.load import Measurement, generate, post_json
from tests.database import TestDatabase, at

BUSINESSES: Final = 50
SERVICE: Final = "churn"
# Slots of a business: so many that a slot is free again when its turn comes.
_HOURS: Final = 24 * 28
# Three seconds.
_TTL_MINUTES: Final = 0.05
_CONNECTIONS: Final = 16
_GRANTED: Final = 201


@dataclass(frozen=True, slots=True)
class Churn:
    """The requests from a number on."""

    first: int = 0

    @classmethod
    def prepared(cls, database: TestDatabase) -> "Churn":
        """Makes the businesses, with a service for one guest at a time."""
        with database.admin.transaction():
            for number in range(BUSINESSES):
                database.make_service(SERVICE, business_id=f"churn-{number:02}", capacity=1)
        return cls()

    def send(self, port: int, seconds: float, per_second: float) -> Measurement:
        """Sends requests for a while."""
        return generate(port, self._requests(), connections=_CONNECTIONS, seconds=seconds, per_second=per_second)

    def after(self, sent: Measurement) -> "Churn":
        """Returns the requests that follow. Raises `AssertionError` if one that was sent was not granted."""
        assert set(sent.statuses) <= {_GRANTED}, sent.statuses
        return replace(self, first=self.first + sent.statuses.total())

    def _requests(self) -> Iterator[bytes]:
        for number in itertools.count(self.first):
            hour, business = divmod(number, BUSINESSES)
            start = at(hour % _HOURS)
            yield post_json(
                "/api/booking/reserve",
                f"Idempotency-Key: churn-{number}\r\n",
                f'{{"businessId":"churn-{business:02}","serviceId":"{SERVICE}","slotStart":"{start.isoformat()}",'
                f'"slotEnd":"{(start + timedelta(hours=1)).isoformat()}","ttlMinutes":{_TTL_MINUTES}}}',
            )
