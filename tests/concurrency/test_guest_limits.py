"""The limit of a guest's upcoming appointments, when requests of one guest race."""

from collections.abc import Callable

import pytest

from tests.concurrency.rivals import Rivals
from tests.database import Outcome, TestDatabase


@pytest.mark.parametrize("verb", ["book", "commit"])
def test_ten_requests_of_one_guest_at_once_get_as_many_as_allowed(
    database: TestDatabase, rivals: Rivals, verb: str
) -> None:
    """Each waits for the lock of the business in a call of its own, and sees what those before it booked."""
    database.make_service(capacity=20, max_upcoming_per_guest=2)
    holds = [database.reserve(10).id for _ in range(10)]

    def request(hold: str) -> Callable[[TestDatabase], Outcome]:
        return lambda own: own.book(10) if verb == "book" else own.commit(hold)

    with database.locked() as lock:
        calls = [rivals.queue(request(hold)) for hold in holds]
        lock.commit()
        outcomes = [call.result() for call in calls]
    assert [outcome.name for outcome in outcomes] == ["done"] * 2 + ["guest_limit_reached"] * 8
    assert database.value("SELECT count(*) FROM booking.appointments") == 2
    held = {"book": 10, "commit": 8}[verb]
    assert database.value("SELECT count(*) FROM booking.reservations WHERE status = 'held'") == held
