"""Names, e-mail addresses and phone numbers as people have them, in every call that takes one."""

from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import APPOINTMENTS, change, create, reserve, slot, timestamp
from tests.http.conftest import ADMIN
from tests.http.describing import Json
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

SALON = "/api/catalog/businesses/salon"
WAYS_IN = ["commit", "book", "create", "change"]


async def send(client: httpx2.AsyncClient, way: str, **guest: Any) -> httpx2.Response:
    """Sends a guest in one of the calls that take one."""
    if way == "commit":
        body = {"reservationId": (await reserve(client))["reservationId"], "guestEmail": "a@example.com", **guest}
        return await client.post("/api/booking/commit", json=body)
    if way == "book":
        return await client.post("/api/bookings", json=slot(**{"guestEmail": "a@example.com", **guest}))
    if way == "create":
        return await client.post(APPOINTMENTS, json=slot(**guest), headers=ADMIN)
    return await change(client, await create(client), {"expectedVersion": 1, **guest})


async def stored(client: httpx2.AsyncClient, database: TestDatabase, way: str, **guest: Any) -> Json:
    """Sends a guest, and returns what the answer and the database have of it."""
    database.make_service()
    database.rows("UPDATE booking.businesses SET country = 'DE'")
    response = await send(client, way, **guest)
    assert response.status_code in (200, 201), response.text
    answered: Json = {name: response.json()[name] for name in ("guestName", "guestEmail", "guestPhone")}
    [row] = database.rows("SELECT guest_name, guest_email, guest_phone FROM booking.appointments")
    assert tuple(answered.values()) == tuple(row)
    return answered


@pytest.mark.parametrize("way", WAYS_IN)
async def test_a_guest_is_stored_in_one_form(client: httpx2.AsyncClient, database: TestDatabase, way: str) -> None:
    """Whichever call it comes in, with all that a paste brings."""
    guest = await stored(
        client,
        database,
        way,
        guestName=" \u200bAda \u0645\u06cc\u200c\u062e\u00a0",
        guestEmail="\u202aWard3@Klinik.LOCAL\u202c",
        guestPhone="tel:030%C2%A01234567",
    )
    assert guest == {
        "guestName": "Ada \u0645\u06cc\u200c\u062e",
        "guestEmail": "Ward3@klinik.local",
        "guestPhone": "+49301234567",
    }


@pytest.mark.parametrize("way", WAYS_IN)
@pytest.mark.parametrize(
    "name", ["", "   ", "\u200b", "\u200d\u200c", "\ufeff", "\u2060", "\u00ad", "\u200f", "\u3164"]
)
async def test_an_invisible_name_is_refused(
    client: httpx2.AsyncClient, database: TestDatabase, way: str, name: str
) -> None:
    """The business could not call the guest."""
    database.make_service()
    assert faulty_fields(await send(client, way, guestName=name)) == ["guestName"]


@pytest.mark.parametrize("way", ["create", "change"])
@pytest.mark.parametrize("email", ["kim@host.test", "a@intranet"])
async def test_an_address_of_an_internal_network_is_stored(
    client: httpx2.AsyncClient, database: TestDatabase, way: str, email: str
) -> None:
    """Nothing is sent to it from here."""
    assert (await stored(client, database, way, guestEmail=email))["guestEmail"] == email


@pytest.mark.parametrize("way", WAYS_IN)
@pytest.mark.parametrize(
    "link",
    [
        "mailto:Kim@host.test",
        " MailTo:%20Kim%40HOST.test\u200b ",
        "mailto:Kim@host.test?subject=Your%20visit&cc=eve@host.test",
    ],
)
async def test_a_mail_link_is_read_as_its_address(
    client: httpx2.AsyncClient, database: TestDatabase, way: str, link: str
) -> None:
    """Browsers copy the address of a link with its scheme."""
    assert (await stored(client, database, way, guestEmail=link))["guestEmail"] == "Kim@host.test"


@pytest.mark.parametrize(
    "link", ["mailto:", "mailto:?subject=x", "mailto:kim@host.test,eve@host.test", "mailto:mailto:kim@host.test"]
)
async def test_a_mail_link_to_no_single_address_is_refused(
    client: httpx2.AsyncClient, database: TestDatabase, link: str
) -> None:
    """The guest has one address."""
    database.make_service()
    response = await send(client, "book", guestEmail=link)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (400, "invalid_email")


async def test_a_guest_without_a_name_stays_possible(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Null is no name, which is not the same as a blank one."""
    database.make_service()
    named = await create(client, guestName="Ada")
    assert (await change(client, named, {"expectedVersion": 1, "guestName": None})).json()["guestName"] is None


async def test_a_replay_may_be_written_in_another_way(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """What is trimmed is no part of the request."""
    database.make_service()
    keyed: Json = {"idempotencyKey": "k", "guestPhone": "+49 30 1234567"}
    first = await client.post("/api/bookings", json=slot(guestName="Ada", guestEmail="a@b.test", **keyed))
    second = await client.post("/api/bookings", json=slot(guestName=" Ada ", guestEmail=" a@B.test", **keyed))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json()


@pytest.mark.parametrize(
    "query",
    [
        {"guestEmail": "Ward3@KLINIK.local"},
        {"guestEmail": "\u00a0Ward3@klinik.local\u200b"},
        {"guestEmail": "mailto:ward3@klinik.local"},
        {"guestPhone": "+49301234567"},
        {"guestPhone": "tel:+49-30-1234567"},
        {"guestPhone": "tel:030%201234567"},
        {"guestPhone": "0049 (0)30\u202f1234567"},
        {"guestPhone": "\u202a030 1234567\u202c"},
    ],
)
async def test_a_guest_is_found_as_written(client: httpx2.AsyncClient, database: TestDatabase, query: Json) -> None:
    """The list reads an address or a number as the calls do that store it."""
    database.make_service(capacity=2)
    database.rows("UPDATE booking.businesses SET country = 'DE'")
    ada = await create(client, guestEmail="Ward3@klinik.local", guestPhone="030 1234567")
    await create(client, guestEmail="kim@host.test", guestPhone="030 7654321")
    response = await client.get(APPOINTMENTS, params={"businessId": "salon", **query}, headers=ADMIN)
    assert response.status_code == 200, response.text
    assert [item["appointmentId"] for item in response.json()["items"]] == [ada["appointmentId"]]


@pytest.mark.parametrize("phone", [" 49301234567", "tel: 49301234567", "\u202a 49301234567"])
async def test_a_plus_that_became_a_blank_is_refused(
    client: httpx2.AsyncClient, database: TestDatabase, phone: str
) -> None:
    """Without its plus a number would be one of the business's country."""
    database.make_service()
    query = {"businessId": "salon", "guestPhone": phone}
    assert faulty_fields(await client.get(APPOINTMENTS, params=query, headers=ADMIN)) == ["guestPhone"]


PUTS: list[tuple[str, Json]] = [
    (SALON, {}),
    (f"{SALON}/resources/anna", {}),
    (f"{SALON}/services/cut", {"durationMinutes": 60}),
    (f"{SALON}/special-hours/easter", {"date": "2027-03-28", "hours": []}),
]


@pytest.mark.parametrize(("url", "settings"), PUTS)
async def test_names_of_the_catalog_are_trimmed(
    client: httpx2.AsyncClient, database: TestDatabase, url: str, settings: Json
) -> None:
    """And refused where nothing is left to see."""
    database.make_service()
    response = await client.put(url, json={"name": " Caf\u00e9\u00a0", **settings}, headers=ADMIN)
    assert response.status_code in (200, 201), response.text
    assert (await client.get(url, headers=ADMIN)).json()["name"] == "Caf\u00e9"
    for name in ("", "   ", "\u200b", "\u200d"):
        assert faulty_fields(await client.put(url, json={"name": name, **settings}, headers=ADMIN)) == ["name"]
    assert (await client.get(url, headers=ADMIN)).json()["name"] == "Caf\u00e9"


async def test_names_of_keys_are_trimmed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A key is known by its name when it is to be revoked."""
    database.make_service()
    blank = await client.post(f"{SALON}/keys", json={"name": "\u2060 ", "role": "staff"}, headers=ADMIN)
    assert faulty_fields(blank) == ["name"]
    await client.post(f"{SALON}/keys", json={"name": " Till ", "role": "staff"}, headers=ADMIN)
    keys = (await client.get(f"{SALON}/keys", headers=ADMIN)).json()["items"]
    assert [key["name"] for key in keys] == ["Till"]


async def test_the_widget_stores_a_guest_in_the_same_form(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Its members have other names."""
    database.make_service()
    settings = {"name": "Salon Rosa", "slug": "rosa", "country": "DE"}
    await client.put(SALON, json=settings, headers=ADMIN)
    body = {"serviceId": "cut", "startTime": timestamp(at(10)), "firstName": " Kim ", "lastName": ""}
    contact = {"email": " a@INTRANET ", "phone": "tel:030-1234567"}
    data = (await client.post("/api/v1/public/rosa/book", json={**body, **contact})).json()["data"]
    assert (data["guestName"], data["guestEmail"], data["guestPhone"]) == ("Kim", "a@intranet", "+49301234567")


async def test_without_a_country_a_number_needs_its_country_code(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """After 00, as it is dialled from most countries, or after a plus."""
    database.make_service(capacity=5)
    database.rows("UPDATE booking.businesses SET country = NULL")
    for phone in ("030 1234567", "tel:030-1234567"):
        refused = await client.post(APPOINTMENTS, json=slot(guestPhone=phone), headers=ADMIN)
        assert faulty_fields(refused) == ["guestPhone"]
        assert "country's code" in refused.json()["errors"][0]["message"]
    for phone in ("0049 30 1234567", "+49 (0)30 1234567", "tel:30-1234567;phone-context=+49"):
        assert (await create(client, guestPhone=phone))["guestPhone"] == "+49301234567"


@pytest.mark.parametrize("phone", ["030 1234567", "123", "+123"])
async def test_a_phone_number_does_not_tell_whether_a_business_exists(
    client: httpx2.AsyncClient, database: TestDatabase, phone: str
) -> None:
    """How a number is read depends on the country of the business, so the service and the hold are looked for first."""
    database.make_business()
    for path, body, code in (
        ("/api/bookings", slot(serviceId="unknown"), "SERVICE_NOT_FOUND"),
        ("/api/booking/commit", {"reservationId": str(uuid4()), "businessId": "salon"}, "RESERVATION_NOT_FOUND"),
    ):
        for business_id in ("salon", "nobody"):
            answer = await client.post(path, json={**body, "businessId": business_id, "guestPhone": phone})
            assert refusal(answer) == (404, code)


async def test_a_number_is_read_by_the_country_that_the_business_has_now(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Also where a number was read by the former country just before."""
    database.make_service(capacity=2)
    settings = {"name": "Salon", "timezone": "UTC"}

    async def number() -> object:
        assert (await client.put(SALON, json=settings, headers=ADMIN)).status_code == 200
        booked = await client.post(APPOINTMENTS, json=slot(guestPhone="02 9374 4000"), headers=ADMIN)
        return booked.json()["guestPhone"] if booked.status_code == 201 else faulty_fields(booked)

    settings["country"] = "DE"
    assert await number() == "+49293744000"
    settings["country"] = "AU"
    assert await number() == "+61293744000"
    del settings["country"]
    assert await number() == ["guestPhone"]
