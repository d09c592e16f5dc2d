"""A client finds its holds again by its secret id, and learns when it may hold more."""

from collections.abc import AsyncIterator
from uuid import uuid4

import httpx2
import pytest
from starlette.applications import Starlette

from tests.database import TestDatabase
from tests.http.booking_calls import slot
from tests.http.conftest import client_of, running_app
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

OWN = "/api/booking/reservations/own"
SALON = {"businessId": "salon"}
HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"


@pytest.fixture(params=[True, False], ids=["limited", "unlimited"])
async def app(database: TestDatabase, request: pytest.FixtureRequest) -> AsyncIterator[Starlette]:
    """Runs the application with a limit of two live holds for each client, and without limits."""
    database.make_service(capacity=100)
    async with running_app(database, max_live_holds_per_client=2, rate_limit_enabled=request.param) as app:
        yield app


async def reserve(app: Starlette, client_id: str | None, address: str = HERE, **members: object) -> httpx2.Response:
    """Holds one of a hundred places."""
    headers = {"X-Client-Id": client_id} if client_id else {}
    async with client_of(app, address) as client:
        return await client.post("/api/booking/reserve", json=slot() | members, headers=headers)


async def own(app: Starlette, client_id: str | None, address: str = HERE, business: str = "salon") -> httpx2.Response:
    """Asks for the holds of a client."""
    headers = {"X-Client-Id": client_id} if client_id else {}
    async with client_of(app, address) as client:
        return await client.get(OWN, params={"businessId": business}, headers=headers)


async def test_a_client_finds_its_holds_again(app: Starlette, database: TestDatabase) -> None:
    """After a reload, from another address as well, by the slug too, and only its own that are live."""
    database.rows("INSERT INTO booking.slugs VALUES ('salon-rosa', 'salon')")
    me, other = str(uuid4()), str(uuid4())
    later, sooner = [(await reserve(app, me, ttlMinutes=minutes)).json() for minutes in (20, 10)]
    await reserve(app, other, ELSEWHERE)
    await reserve(app, None, ELSEWHERE)
    for business in ("salon", "salon-rosa"):
        items = (await own(app, me, ELSEWHERE, business)).json()["items"]
        assert [item["reservationId"] for item in items] == [sooner["reservationId"], later["reservationId"]]
    assert items[0].keys() == sooner.keys()
    async with client_of(app, HERE) as client:
        await client.delete(f"/api/booking/reservations/{sooner['reservationId']}")
    assert len((await own(app, me)).json()["items"]) == 1
    assert (await own(app, str(uuid4()))).json() == {"items": []}
    assert refusal(await own(app, me, business="nobody")) == (404, "BUSINESS_NOT_FOUND")


@pytest.mark.parametrize("client_id", [None, "guest 7", "fifteen chars ."])
async def test_an_id_that_can_be_guessed_is_no_credential(app: Starlette, client_id: str | None) -> None:
    """The id of a hold is a secret, and the list has it. Not even to the client itself, at its address."""
    await reserve(app, client_id)
    assert faulty_fields(await own(app, client_id)) == ["X-Client-Id"]


@pytest.mark.parametrize("app", [True], indirect=True, ids=["limited"])
async def test_a_client_with_too_many_holds_learns_when_the_first_ends(app: Starlette) -> None:
    """Retry-After is for a page that waits with its guest."""
    for minutes in (20, 10):
        assert (await reserve(app, None, ttlMinutes=minutes)).status_code == 201
    refused = await reserve(app, None)
    assert refusal(refused) == (429, "TOO_MANY_HOLDS")
    assert 590 < int(refused.headers["retry-after"]) <= 600
