"""The names by which requests are counted: none is as long as a caller can write it."""

from collections.abc import Sequence

import httpx2
import pytest

from service.sharing.limits import Limit, RequestLimits, Verdict
from tests.database import TestDatabase

pytestmark = pytest.mark.anyio

LONG = "x" * 30_000
LONGEST_CALLER = 100


@pytest.fixture
def callers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records the callers that are counted."""
    counted: list[str] = []
    count = RequestLimits.count

    def recording(limits: RequestLimits, limited: Sequence[Limit]) -> Verdict:
        counted.extend(limit.caller for limit in limited)
        return count(limits, limited)

    monkeypatch.setattr(RequestLimits, "count", recording)
    return counted


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", f"/api/v1/public/{LONG}/book", 400),
        ("GET", f"/api/v1/public/{LONG}", 404),
        ("GET", f"/api/booking/calendar/{LONG}.ics", 400),
        ("GET", f"/api/booking/availability?businessId={LONG}", 400),
        ("GET", f"/api/booking/stream?businessId={LONG}&serviceId={LONG}", 400),
        ("POST", "/api/booking/reserve", 400),
        ("GET", f"/api/catalog/businesses/{LONG}", 401),
    ],
)
async def test_a_long_name_becomes_no_counter(
    client: httpx2.AsyncClient, callers: list[str], method: str, path: str, status: int
) -> None:
    """It is the name of no business: the request is counted for its client, and refused."""
    body = {"businessId": LONG} if method == "POST" else None
    headers = {"Authorization": f"Bearer {LONG}", "X-Client-Id": LONG, "X-Forwarded-For": LONG}
    answer = await client.request(method, path, headers=headers, json=body)
    assert answer.status_code == status
    assert callers
    assert max(map(len, callers)) < LONGEST_CALLER


async def test_a_name_is_counted_as_long_as_it_may_be(
    client: httpx2.AsyncClient, callers: list[str], database: TestDatabase
) -> None:
    """All requests about a business share one counter."""
    database.make_service(business_id="b" * 64)
    await client.get(f"/api/booking/calendar/{'b' * 64}.ics")
    assert {caller for caller in callers if caller.startswith("business:")} == {f"business:{'b' * 64}"}
