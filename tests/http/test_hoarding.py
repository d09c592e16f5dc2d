"""The limits of what a client holds and books, by address and by the client id that a frontend sends."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import httpx2
import pytest
from starlette.applications import Starlette

from tests.database import TestDatabase, at
from tests.http.booking_calls import APPOINTMENTS, commit, slot
from tests.http.conftest import ADMIN, client_of, running_app
from tests.http.refusals import refusal

pytestmark = pytest.mark.anyio

CAP = 2
DAILY = 4


@pytest.fixture
async def app(database: TestDatabase) -> AsyncIterator[Starlette]:
    """Runs the application with a limit of two live holds, and of four bookings on a day, for each client.

    The clock stands still at noon: bookings are counted by days in UTC, and none may end during a test.
    """
    database.freeze_clock(at(12, day=-1))
    database.make_service(capacity=100)
    async with running_app(database, max_live_holds_per_client=CAP, max_daily_bookings_per_client=DAILY) as app:
        yield app


@pytest.fixture
async def client(app: Starlette) -> AsyncIterator[httpx2.AsyncClient]:
    """Makes a client of the application."""
    async with client_of(app, "127.0.0.1") as client:
        yield client


async def reserve(client: httpx2.AsyncClient, **headers: str) -> httpx2.Response:
    """Holds one of a hundred places."""
    return await client.post("/api/booking/reserve", json=slot(), headers=headers)


async def test_holds_beyond_the_limit_are_refused(client: httpx2.AsyncClient) -> None:
    """The answer is a 429 with Retry-After; a released hold makes room for a new one."""
    held = [await reserve(client) for _ in range(CAP)]
    refused = await reserve(client)
    assert [answer.status_code for answer in held] == [201] * CAP
    assert refusal(refused) == (429, "TOO_MANY_HOLDS")
    assert int(refused.headers["retry-after"]) > 0
    await client.delete(f"/api/booking/reservations/{held[0].json()['reservationId']}")
    assert (await reserve(client)).status_code == 201


async def test_a_hold_of_many_places_counts_as_many(client: httpx2.AsyncClient) -> None:
    """The limit is one of places, in whatever number of holds."""
    refused = await client.post("/api/booking/reserve", json=slot(quantity=CAP + 1))
    assert refusal(refused) == (429, "TOO_MANY_HOLDS")
    assert (await client.post("/api/booking/reserve", json=slot(quantity=CAP))).status_code == 201
    assert refusal(await reserve(client)) == (429, "TOO_MANY_HOLDS")


async def test_a_hold_that_is_booked_again_counts_for_the_day(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Holds of a moment, one after the other, and their rebooks are no way around the limit."""
    holds = []
    for _ in range(DAILY + 1):
        held = (await client.post("/api/booking/reserve", json=slot(ttlMinutes=1))).json()
        holds.append(held["reservationId"])
        database.move_clock(timedelta(minutes=1))
    answers = [await commit(client, hold, ifExpired="rebook") for hold in holds]
    assert [answer.status_code for answer in answers[:-1]] == [201] * DAILY
    assert refusal(answers[-1]) == (410, "RESERVATION_EXPIRED")


@pytest.mark.parametrize("path", ["/api/bookings", "/api/v1/public/salon/book"])
async def test_bookings_beyond_the_limit_of_a_day_are_refused(client: httpx2.AsyncClient, path: str) -> None:
    """Committed holds count, and staff may book on."""
    settings = {"name": "Salon", "slug": "salon"}
    assert (await client.put("/api/catalog/businesses/salon", json=settings, headers=ADMIN)).status_code == 200
    form = {"serviceId": "cut", "startTime": at(10).isoformat(), "firstName": "Ada", "email": "ada@example.com"}
    body = form if "public" in path else slot(guestEmail="ada@example.com")
    held = (await client.post("/api/booking/reserve", json=slot(quantity=CAP))).json()
    assert (await commit(client, held["reservationId"])).status_code == 201
    answers = [await client.post(path, json=body) for _ in range(DAILY - CAP + 1)]
    assert [answer.status_code for answer in answers] == [201] * (DAILY - CAP) + [429]
    assert "TOO_MANY_BOOKINGS" in answers[-1].text
    assert int(answers[-1].headers["retry-after"]) > 60
    assert refusal(await reserve(client)) == (429, "TOO_MANY_BOOKINGS")
    assert (await client.post(APPOINTMENTS, json=slot(), headers=ADMIN)).status_code == 201


async def test_a_new_client_id_does_not_raise_the_limit(client: httpx2.AsyncClient) -> None:
    """X-Client-Id is counted in addition to the address, never instead of it."""
    answers = [await reserve(client, **{"X-Client-Id": f"guest {number}"}) for number in range(CAP + 1)]
    assert [answer.status_code for answer in answers] == [201] * CAP + [429]


async def test_an_invalid_client_id_is_refused(client: httpx2.AsyncClient) -> None:
    """The answer is a 400 that names the header."""
    refused = await reserve(client, **{"X-Client-Id": "x" * 256})
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["field"] == "X-Client-Id"


async def test_a_retry_gets_its_hold_beyond_the_limit(client: httpx2.AsyncClient) -> None:
    """The limit applies to new holds only."""
    first = await reserve(client, **{"Idempotency-Key": "first"})
    for _ in range(CAP):
        await reserve(client)
    again = await reserve(client, **{"Idempotency-Key": "first"})
    assert again.status_code == 200
    assert again.json()["reservationId"] == first.json()["reservationId"]


@pytest.mark.parametrize("secret", ["X-Client-Id", "Idempotency-Key"])
async def test_a_retry_may_have_another_address(app: Starlette, secret: str) -> None:
    """A phone changes its network; the request is the same, and one of its names is a secret."""
    headers = {"X-Client-Id": "guest 7", "Idempotency-Key": "same", secret: str(uuid4())}
    answers = []
    for number in (1, 2):
        async with client_of(app, f"192.0.2.{number}") as client:
            answers.append(await reserve(client, **headers))
    assert [answer.status_code for answer in answers] == [201, 200]
    assert len({answer.json()["reservationId"] for answer in answers}) == 1


@pytest.mark.parametrize("headers", [{}, {"X-Client-Id": "guest 7"}], ids=["no id", "guessable id"])
async def test_a_guessed_key_does_not_hand_over_the_hold(app: Starlette, headers: dict[str, str]) -> None:
    """A key and an id that are too short to be secrets are valid at the address that sent them only."""
    headers["Idempotency-Key"] = "attempt-1"
    async with client_of(app, "192.0.2.1") as guest, client_of(app, "192.0.2.2") as other:
        held = await reserve(guest, **headers)
        assert refusal(await reserve(other, **headers)) == (422, "IDEMPOTENCY_KEY_REUSED")
        assert (await reserve(guest, **headers)).json()["reservationId"] == held.json()["reservationId"]


async def test_a_retry_with_a_key_of_the_business_may_have_another_address(app: Starlette) -> None:
    """No guest may use a key of staff, so it is bound to no address."""
    answers = []
    for number in (1, 2):
        async with client_of(app, f"192.0.2.{number}") as desk:
            headers = {**ADMIN, "Idempotency-Key": "attempt-1"}
            answers.append(await desk.post(APPOINTMENTS, json=slot(), headers=headers))
    assert [answer.status_code for answer in answers] == [201, 200]


@pytest.mark.parametrize(("client_id", "expected"), [("guest 7", 201), ("5b0ad0c4e1f94f55", 429)])
async def test_a_guessable_id_does_not_use_up_the_limit_of_another_client(
    app: Starlette, client_id: str, expected: int
) -> None:
    """An id is counted across addresses only if it is long enough to be a secret of its client."""
    async with client_of(app, "192.0.2.1") as other, client_of(app, "192.0.2.2") as guest:
        for _ in range(CAP):
            assert (await reserve(other, **{"X-Client-Id": client_id})).status_code == 201
        assert (await reserve(guest, **{"X-Client-Id": client_id})).status_code == expected


async def test_no_address_is_stored(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The database has only HMACs, which cannot be reversed without the secret."""
    await reserve(client, **{"X-Client-Id": "guest 7"})
    [(address, client_id)] = database.rows("SELECT client_address_hmac, client_id_hmac FROM booking.reservations")
    assert address.startswith("v1.")
    assert client_id.startswith("v1.")
    assert address != client_id
    assert "127.0.0.1" not in address
    assert "guest" not in client_id
