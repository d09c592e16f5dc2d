"""Public calls name a business by its slug as well as by its id."""

import asyncio
from typing import Any

import httpx2
import pytest

from service.database.connections import Database
from service.http.application import Application
from tests.database import TestDatabase, at
from tests.http.booking_calls import slot, timestamp
from tests.http.browser import Browser, post
from tests.http.conftest import ADMIN, client_of, running_app
from tests.http.describing import make_app
from tests.http.refusals import refusal

pytestmark = pytest.mark.anyio

SLUG: dict[str, Any] = {"businessId": "salon-rosa"}
GUEST: dict[str, Any] = {"guestEmail": "ada@example.com"}
OF_CUT = {"serviceId": "cut"}


async def put_slug(client: httpx2.AsyncClient, business_id: str, slug: str | None) -> int:
    """Puts a business with a slug, and returns the status."""
    body = {"name": business_id, "slug": slug, "timezone": "Europe/Berlin"}
    return (await client.put(f"/api/catalog/businesses/{business_id}", json=body, headers=ADMIN)).status_code


@pytest.fixture
async def salon(client: httpx2.AsyncClient, database: TestDatabase) -> httpx2.AsyncClient:
    """Makes a salon with a slug."""
    database.make_service(capacity=10)
    await put_slug(client, "salon", "salon-rosa")
    return client


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("availability", {**OF_CUT, "from": timestamp(at(0)), "to": timestamp(at(24))}),
        ("availability/days", {**OF_CUT, "from": at(0).date().isoformat(), "to": at(24).date().isoformat()}),
        ("capacity", {**OF_CUT, "slotStart": timestamp(at(10)), "slotEnd": timestamp(at(11))}),
    ],
)
async def test_a_read_by_slug_equals_the_one_by_id(salon: httpx2.AsyncClient, path: str, query: Any) -> None:
    """Whichever is asked first."""
    answers = [
        await salon.get(f"/api/booking/{path}", params={"businessId": name, **query})
        for name in ("salon-rosa", "salon", "salon-rosa")
    ]
    assert [answer.status_code for answer in answers] == [200] * 3, answers[0].text
    assert len({answer.content for answer in answers}) == 1
    assert any(answers[0].json().values())


@pytest.mark.parametrize(("path", "guest"), [("/api/booking/reserve", {}), ("/api/bookings", GUEST)])
@pytest.mark.parametrize("names", [("salon-rosa", "salon"), ("salon", "salon-rosa")])
async def test_a_key_by_slug_and_by_id_is_one_attempt(
    salon: httpx2.AsyncClient, path: str, guest: Any, names: tuple[str, str]
) -> None:
    """The request is the same. Answers have the id."""
    first, again = [
        await salon.post(path, json=slot(businessId=name, idempotencyKey="key of the attempt", **guest))
        for name in names
    ]
    assert (first.status_code, again.status_code) == (201, 200), (first.text, again.text)
    assert first.json()["businessId"] == again.json()["businessId"] == "salon"
    assert first.headers["location"].rpartition("/")[2] in again.text


async def test_a_hold_is_found_by_slug(salon: httpx2.AsyncClient) -> None:
    """By the calls that take the business to spare a look-up."""
    hold = (await salon.post("/api/booking/reserve", json=slot(**SLUG))).json()
    address = f"/api/booking/reservations/{hold['reservationId']}"
    assert (await salon.get(address, params=SLUG)).status_code == 200
    assert (await salon.post(f"{address}/extend", params=SLUG, json={"ttlMinutes": 30})).status_code == 200
    commit = {"reservationId": hold["reservationId"], **GUEST, **SLUG}
    booked = await salon.post("/api/booking/commit", json=commit)
    assert booked.status_code == 201
    cancel = f"/api/booking/appointments/{booked.json()['appointmentId']}/cancel"
    token = {"cancellationToken": booked.json()["cancellationToken"]}
    assert (await salon.post(cancel, params=SLUG, json=token)).status_code == 200
    hold = (await salon.post("/api/booking/reserve", json=slot(**SLUG))).json()
    assert (await salon.delete(f"/api/booking/reservations/{hold['reservationId']}", params=SLUG)).status_code == 204


async def test_a_path_takes_the_id_too(salon: httpx2.AsyncClient) -> None:
    """The public catalogue and the widget's call know a business by either name, and so do calendar feeds."""
    assert (await salon.get("/api/v1/public/salon")).content == (await salon.get("/api/v1/public/salon-rosa")).content
    form = {"serviceId": "cut", "startTime": timestamp(at(10)), "firstName": "Ada", "email": "ada@example.com"}
    booked = [await salon.post(f"/api/v1/public/{name}/book", json=form) for name in ("salon", "salon-rosa")]
    assert {(answer.status_code, answer.json()["data"]["businessId"]) for answer in booked} == {(201, "salon")}
    feeds = await salon.get("/api/catalog/businesses/salon/calendar-feeds", headers=ADMIN)
    path = feeds.json()["items"][0]["path"]
    assert (await salon.get(path.replace("salon.ics", "salon-rosa.ics"))).status_code == 200


async def test_a_stream_by_slug_has_the_changes_of_the_business(database: TestDatabase) -> None:
    """A change that names the business by its id reaches it."""
    database.make_service(capacity=10)
    async with running_app(database) as app:
        await post(
            app, "/api/catalog/businesses/salon", {"name": "S", "slug": "salon-rosa", "timezone": "UTC"}, method="PUT"
        )
        async with Browser(app, **SLUG) as browser:
            await post(app, "/api/booking/reserve", slot())
            assert (await browser.next_event())[0] == "changed"


async def test_no_stream_is_opened_by_a_name_that_cannot_be_looked_up() -> None:
    """It opens without a database by an id that was found before; as one, a slug would be silence for ever."""
    app = make_app()
    async with app.router.lifespan_context(app), client_of(app) as client, asyncio.timeout(30):
        answer = await client.get("/api/booking/stream", params=SLUG)
    assert refusal(answer) == (503, "DATABASE_UNAVAILABLE")


async def test_a_slug_that_moves_books_at_its_new_business_at_once(
    salon: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Nothing about a slug is kept. Without a business it is unknown."""
    database.make_service(capacity=10, business_id="barber")
    for owner, former in (("salon", "barber"), ("barber", "salon"), ("salon", "barber")):
        assert await put_slug(salon, former, None) == 200
        if owner == "barber":
            assert refusal(await salon.post("/api/booking/reserve", json=slot(**SLUG))) == (404, "SERVICE_NOT_FOUND")
        assert await put_slug(salon, owner, "salon-rosa") == 200
        held = await salon.post("/api/booking/reserve", json=slot(**SLUG))
        assert held.json()["businessId"] == owner


async def test_the_id_of_a_deleted_business_may_become_a_slug(
    salon: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """It books nowhere, and at its new business as soon as it has one, also in a process that knew it as an id."""
    assert await put_slug(salon, "barber", None) == 201
    assert (await salon.get("/api/v1/public/barber")).status_code == 200
    assert (await salon.delete("/api/catalog/businesses/barber", headers=ADMIN)).status_code == 204
    refused = await salon.post("/api/booking/reserve", json=slot(businessId="barber"))
    assert refusal(refused) == (404, "SERVICE_NOT_FOUND")
    assert database.value("SELECT count(*) FROM booking.reservations") == 0
    assert await put_slug(salon, "salon", "barber") == 200
    held = await salon.post("/api/booking/reserve", json=slot(businessId="barber"))
    assert held.json()["businessId"] == "salon"


async def test_a_slug_equal_to_another_id_is_refused(salon: httpx2.AsyncClient) -> None:
    """And the id of a new business that is another's slug."""
    assert await put_slug(salon, "barber", "salon") == 409
    assert await put_slug(salon, "salon-rosa", None) == 409
    assert await put_slug(salon, "salon", "salon") == 200


async def test_calls_with_a_key_take_the_id_only(salon: httpx2.AsyncClient) -> None:
    """The owner's programs know it."""
    answer = await salon.post("/api/booking/appointments", json=slot(**SLUG), headers=ADMIN)
    assert refusal(answer) == (404, "SERVICE_NOT_FOUND")


async def test_limits_count_a_slug_as_its_business(database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of the business and that of the client are the same by either name, and each request counts once."""
    monkeypatch.setattr("service.http.limits.BUSINESS_FACTOR", 2)
    database.make_service(capacity=10)

    async def look(app: Application, name: str, address: str) -> tuple[int, str]:
        query = {"slotStart": timestamp(at(10)), "slotEnd": timestamp(at(11)), "businessId": name, **OF_CUT}
        async with client_of(app, address) as client:
            answer = await client.get("/api/booking/capacity", params=query)
        return answer.status_code, answer.headers["ratelimit-remaining"]

    async with running_app(database, rate_limit="4/hour") as app:
        database.rows("INSERT INTO booking.slugs VALUES ('salon-rosa', 'salon')")
        names = ("salon", "salon-rosa", "salon", "salon-rosa", "salon-rosa", "salon")
        of_one = [await look(app, name, "192.0.2.1") for name in names]
        assert of_one == [(200, "3"), (200, "2"), (200, "1"), (200, "0"), (429, "0"), (429, "0")]
        of_other = [await look(app, name, "192.0.2.2") for name in ("salon-rosa", "salon", "salon-rosa", "salon")]
        assert of_other == [(200, "3"), (200, "2"), (200, "1"), (200, "0")]
        # Eight of the business, by both names.
        assert (await look(app, "salon-rosa", "192.0.2.3"))[0] == 429
        # A name of no business is counted for its client.
        assert [(await look(app, "nobody", "192.0.2.4"))[1] for _ in range(2)] == ["3", "2"]


async def test_a_client_beyond_its_limit_costs_no_look_up(database: TestDatabase) -> None:
    """The database is not asked for the business of a slug."""
    database.make_service()
    database.rows("INSERT INTO booking.slugs VALUES ('salon-rosa', 'salon')")
    async with running_app(database, rate_limit="1/hour") as app, client_of(app) as client:
        assert (await client.get("/api/v1/public/salon-rosa")).status_code == 200
        database.rows("ALTER FUNCTION booking.businesses_named RENAME TO gone")
        assert refusal(await client.get("/api/v1/public/salon-rosa")) == (429, "RATE_LIMITED")


async def test_a_call_by_id_looks_no_name_up(salon: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the first one of a process, and one that is refused for lack of room. A name of no business takes one
    look-up, after its verb."""
    fetched: list[str] = []
    fetch = Database.fetch

    async def counting(database: Any, query: str, *parameters: Any) -> Any:
        fetched.append(query)
        return await fetch(database, query, *parameters)

    monkeypatch.setattr(Database, "fetch", counting)
    for quantity, status in ((10, 201), (10, 409)):
        assert (await salon.post("/api/booking/reserve", json=slot(quantity=quantity))).status_code == status
    query = {"slotStart": timestamp(at(10)), "slotEnd": timestamp(at(11)), **OF_CUT}
    assert (await salon.get("/api/booking/capacity", params={"businessId": "salon", **query})).status_code == 200
    assert (await salon.get("/api/v1/public/salon")).status_code == 200
    assert "businesses_named" not in fetched
    assert (await salon.get("/api/booking/capacity", params={"businessId": "nobody", **query})).status_code == 404
    assert fetched[-2:] == ["capacity", "businesses_named"]


async def test_a_token_by_slug_is_that_of_the_business(salon: httpx2.AsyncClient) -> None:
    """Though it is signed for the id, and the slug was not met before."""
    booked = (await salon.post("/api/bookings", json=slot(**GUEST))).json()
    cancel = f"/api/booking/appointments/{booked['appointmentId']}/cancel"
    token = {"cancellationToken": booked["cancellationToken"]}
    assert (await salon.post(cancel, params=SLUG, json=token)).status_code == 200


async def test_a_phone_number_by_slug_is_of_the_country_of_the_business(salon: httpx2.AsyncClient) -> None:
    """No business has the slug for its id, so that at first the number has no country."""
    guest = {**GUEST, "guestPhone": "030 1234567"}
    settings = {"name": "S", "slug": "salon-rosa", "timezone": "Europe/Berlin", "country": "DE"}
    assert (await salon.put("/api/catalog/businesses/salon", json=settings, headers=ADMIN)).status_code == 200
    booked = await salon.post("/api/bookings", json=slot(businessId="salon-rosa", **guest))
    assert (booked.status_code, booked.json()["guestPhone"]) == (201, "+49301234567")


async def test_many_requests_by_slug_share_look_ups(salon: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd that comes at once costs a few statements."""
    look_ups: list[list[str]] = []
    fetch = Database.fetch

    async def counting(database: Any, query: str, *parameters: Any) -> Any:
        if query == "businesses_named":
            look_ups.append(parameters[0])
        return await fetch(database, query, *parameters)

    monkeypatch.setattr(Database, "fetch", counting)
    answers = await asyncio.gather(*(salon.post("/api/booking/reserve", json=slot(**SLUG)) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {201}
    assert len(look_ups) <= 2
