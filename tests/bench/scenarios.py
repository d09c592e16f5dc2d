"""What is measured: four kinds of load, each as HTTP requests and as a script of pgbench that asks for the same.

Each measurement has services of its own, so that none meets what another one booked. No request has an
idempotency key, over HTTP or in pgbench.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from tests.bench.load import post
from tests.database import TestDatabase, at

_RESERVE = """
\\set n :n + 1
\\set request :n * {clients} + :client_id
\\set business :request % {businesses}
\\set slot :request / {businesses} * {step}
SELECT outcome FROM booking.execute(
  ARRAY['bench-' || :business],
  ARRAY[jsonb_build_object('reserve', jsonb_build_array(jsonb_build_object(
    'operation_id', gen_random_uuid(), 'service_id', '{service_id}', 'quantity', 1,
    'slot_start', timestamptz '{start}' + :slot * interval '1 hour')))],
  'infinity')
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of load. `granted` is whether every request is, or every one refused."""

    name: str
    businesses: int = 1
    first_business: int = 0
    one_slot: bool = False
    capacity: int = 1
    granted: bool = True
    # What group commit has to gain over one call for each request.
    wanted_ratio: float | None = None

    @property
    def status(self) -> int:
        """What every request has to be answered with."""
        return 201 if self.granted else 409

    def prepare(self, database: TestDatabase, service_id: str) -> None:
        """Makes the services of one measurement, and sells out what has to be."""
        with database.admin.transaction():
            for number in range(self.first_business, self.first_business + self.businesses):
                business_id = f"bench-{number}"
                database.make_service(service_id, business_id=business_id, capacity=self.capacity)
                if not self.granted:
                    assert database.reserve(0, business_id=business_id, service_id=service_id).name == "done"

    def requests(self, service_id: str) -> Iterator[bytes]:
        """Requests without end: for each business in turn, and there for hour after hour, or always the same one."""
        for number in itertools.count():
            hours = 0 if self.one_slot else number // self.businesses
            body = (
                f'{{"businessId":"bench-{self.first_business + number % self.businesses}","serviceId":"{service_id}",'
                f'"slotStart":"{(at(0) + timedelta(hours=hours)).isoformat()}"}}'
            )
            yield post("/api/booking/reserve", body.encode())

    def script(self, service_id: str, *, clients: int) -> str:
        """The same for pgbench, which calls the function for one request without anything in between."""
        return _RESERVE.format(
            clients=clients,
            businesses=self.businesses,
            step=0 if self.one_slot else 1,
            service_id=service_id,
            start=at(0).isoformat(),
        )


SCENARIOS = (
    Scenario("spread over slots", wanted_ratio=1.8),
    Scenario("spread over businesses", businesses=100),
    Scenario("sold-out slot", one_slot=True, granted=False, wanted_ratio=3.0),
    Scenario("huge slot", one_slot=True, capacity=10_000_000),
)

# Measured beside each other: one business that everybody wants something of, and the others.
STAMPEDE = Scenario("stampede", one_slot=True, granted=False)
OTHERS = Scenario("others", businesses=20, first_business=1)
