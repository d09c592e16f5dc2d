"""The booking widget's call, whose answers all have a shape of their own."""

import json
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import audit_trail, cancel, read, timestamp
from tests.http.conftest import ADMIN, client_of
from tests.http.describing import Json, make_app

pytestmark = pytest.mark.anyio

BOOK = "/api/v1/public/salon-rosa/book"


@pytest.fixture
async def salon(client: httpx2.AsyncClient, database: TestDatabase) -> TestDatabase:
    """Makes a salon with a slug, a service for one guest at a time, and two resources."""
    database.make_service()
    database.make_resource("rosa")
    database.make_resource("maria")
    settings = {"name": "Salon Rosa", "slug": "salon-rosa", "timezone": "Europe/Berlin", "country": "DE"}
    response = await client.put("/api/catalog/businesses/salon", json=settings, headers=ADMIN)
    assert response.status_code == 200
    return database


def form(hour: float = 10, **members: Any) -> Json:
    """Returns the body that a widget sends."""
    names = {"firstName": "Ada", "lastName": "Lovelace", "email": "ada@example.com"}
    return {"serviceId": "cut", "startTime": timestamp(at(hour)), **names, **members}


def error_of(response: httpx2.Response, status: int, code: str) -> Json:
    """Returns the error of an answer, after a check of the shape that all errors of this URL have."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body["success"] is False
    assert "data" not in body
    error: Json = body["error"]
    assert (error["code"], type(error["message"])) == (code, str)
    assert error["message"]
    assert response.headers["x-request-id"]
    return error


async def test_a_widget_books(client: httpx2.AsyncClient, salon: TestDatabase) -> None:
    """The answer is a 201; the names are joined, the phone number is international and the location is kept in the
    metadata."""
    body = form(phone="030 1234567", notes="by the window", locationId="mitte")
    response = await client.post(BOOK, json=body)
    assert (response.status_code, response.headers["content-type"]) == (201, "application/json")
    answer = response.json()
    assert answer.keys() == {"success", "data"}
    assert answer["success"] is True
    data = answer["data"]
    expected = {
        "businessId": "salon",
        "serviceId": "cut",
        "resourceId": None,
        "slotStart": timestamp(at(10)),
        "slotEnd": timestamp(at(11)),
        "status": "confirmed",
        "guestName": "Ada Lovelace",
        "guestEmail": "ada@example.com",
        "guestPhone": "+49301234567",
        "notes": "by the window",
        "metadata": {"locationId": "mitte"},
        "source": "widget",
        "quantity": 1,
    }
    assert {name: data[name] for name in expected} == expected
    [entry] = await audit_trail(client, data)
    assert entry["actor"] == {"kind": "guest", "id": None, "name": None}
    assert (await cancel(client, data, cancellationToken=data["cancellationToken"])).status_code == 200
    assert (await read(client, data))["status"] == "cancelled"
    assert salon.value("SELECT count(*) FROM booking.reservations") == 0


async def test_optional_members_may_be_null(client: httpx2.AsyncClient, salon: TestDatabase) -> None:
    """A null is stored like a missing member."""
    nothing: Json = {"staffId": None, "phone": None, "notes": None, "locationId": None}
    data = (await client.post(BOOK, json=form(**nothing))).json()["data"]
    assert (data["metadata"], data["guestPhone"], data["notes"]) == ({}, None, None)
    assert salon.value("SELECT metadata FROM booking.appointments") == {}


@pytest.mark.parametrize("last", [{}, *({"lastName": name} for name in (None, "", "  ", "\u200b", "\u200d"))])
async def test_a_guest_may_have_one_name(client: httpx2.AsyncClient, salon: TestDatabase, last: Json) -> None:
    """Many people have no last name, and many forms have one field for both."""
    body = {name: value for name, value in form(firstName=" Madonna ").items() if name != "lastName"} | last
    response = await client.post(BOOK, json=body)
    assert (response.status_code, response.json()["data"]["guestName"]) == (201, "Madonna")
    assert salon.value("SELECT guest_name FROM booking.appointments") == "Madonna"


async def test_blanks_around_both_names_are_removed(client: httpx2.AsyncClient, salon: TestDatabase) -> None:
    """Two names of the greatest length fit into a guest's name."""
    data = (await client.post(BOOK, json=form(firstName=" Ada\u00a0", lastName="\tvan Dyk\n"))).json()["data"]
    assert data["guestName"] == "Ada van Dyk"
    longest = await client.post(BOOK, json=form(12, firstName="n" * 99, lastName="m" * 99))
    assert longest.json()["data"]["guestName"] == "n" * 99 + " " + "m" * 99
    assert salon.value("SELECT count(*) FROM booking.appointments") == 2


async def test_a_taken_slot_is_a_time_conflict(client: httpx2.AsyncClient, salon: TestDatabase) -> None:
    """The answer is a 400 with the code that widgets know, and with alternatives that can be booked."""
    await client.post(BOOK, json=form())
    response = await client.post(BOOK, json=form(10.5))
    error = error_of(response, 400, "TIME_CONFLICT")
    assert error == {"code": "TIME_CONFLICT", "message": "This time slot is no longer available"}
    assert response.json().keys() == {"success", "error", "alternatives"}
    alternatives = response.json()["alternatives"]
    assert 1 <= len(alternatives) <= 5
    for alternative in alternatives:
        response = await client.post(BOOK, json=form(startTime=alternative["slotStart"]))
        assert response.status_code == 201
        assert response.json()["data"]["slotEnd"] == alternative["slotEnd"]
    assert salon.value("SELECT count(*) FROM booking.appointments") == 1 + len(alternatives)


async def test_a_time_conflict_may_have_no_alternatives(client: httpx2.AsyncClient, salon: TestDatabase) -> None:
    """The list is present even then, because widgets loop over it."""
    salon.put_service(max_advance_days=40)
    salon.put_closure("rest", at(11), at(24 * 60))
    salon.put_closure("before", at(-24 * 60), at(9))
    salon.book(9, 2)
    response = await client.post(BOOK, json=form(9.5))
    error_of(response, 400, "TIME_CONFLICT")
    assert response.json()["alternatives"] == []


async def test_a_widget_books_a_resource(client: httpx2.AsyncClient, salon: TestDatabase) -> None:
    """A named resource is assigned if it is free; without a name, any free one is."""
    salon.put_service(resource_ids=["rosa", "maria"])
    assert (await client.post(BOOK, json=form(staffId="rosa"))).json()["data"]["resourceId"] == "rosa"
    error_of(await client.post(BOOK, json=form(staffId="rosa")), 400, "TIME_CONFLICT")
    assert (await client.post(BOOK, json=form())).json()["data"]["resourceId"] == "maria"
    error_of(await client.post(BOOK, json=form()), 400, "TIME_CONFLICT")
    error_of(await client.post(BOOK, json=form(staffId="nobody")), 404, "RESOURCE_NOT_FOUND")


async def test_a_key_makes_one_booking(client: httpx2.AsyncClient, salon: TestDatabase) -> None:
    """The key is a header. A replay is marked, and another request under the key is refused."""
    key = {"Idempotency-Key": "k"}
    first = await client.post(BOOK, json=form(), headers=key)
    second = await client.post(BOOK, json=form(), headers=key)
    assert (first.status_code, second.status_code) == (201, 200)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json() == first.json()
    error_of(await client.post(BOOK, json=form(12), headers=key), 422, "IDEMPOTENCY_KEY_REUSED")
    error = error_of(await client.post(BOOK, json=form(14), headers={"Idempotency-Key": ""}), 400, "VALIDATION_FAILED")
    assert [fault["field"] for fault in error["errors"]] == ["Idempotency-Key"]
    assert salon.value("SELECT count(*) FROM booking.appointments") == 1


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("serviceId", None),
        ("serviceId", "a b"),
        ("staffId", ""),
        ("startTime", "2027-01-01T10:00:00"),
        ("startTime", None),
        ("slotEnd", "2027-01-01T10:00:00"),
        # The ids of a test are without its dates: workers that start around midnight would collect different tests.
        pytest.param("slotEnd", timestamp(at(10)), id="slotEnd-start"),
        pytest.param("slotEnd", timestamp(at(9)), id="slotEnd-earlier"),
        ("firstName", ""),
        ("firstName", "n" * 100),
        ("firstName", "  "),
        ("firstName", "\u200b"),
        ("firstName", None),
        ("lastName", "n" * 100),
        ("lastName", 5),
        ("lastName", "\u0000"),
        ("email", "ada"),
        ("email", None),
        ("phone", "call me"),
        ("phone", "030"),
        ("phone", "+49 30 1234567 8901234567890"),
        ("notes", "n" * 2001),
        ("locationId", 5),
        ("locationId", "\u0000"),
        ("quantity", 2),
        ("idempotencyKey", "k"),
    ],
)
async def test_a_faulty_form_names_its_field(
    client: httpx2.AsyncClient, salon: TestDatabase, member: str, value: Any
) -> None:
    """The fault has the form's name of the field."""
    response = await client.post(BOOK, json=form(**{member: value}))
    error = error_of(response, 400, "VALIDATION_FAILED")
    assert [fault["field"] for fault in error["errors"]] == [member]
    assert all(fault["message"] for fault in error["errors"])
    assert salon.value("SELECT count(*) FROM booking.appointments") == 0


@pytest.mark.parametrize("member", ["serviceId", "startTime", "firstName", "email"])
async def test_an_incomplete_form_names_the_missing_field(
    client: httpx2.AsyncClient, salon: TestDatabase, member: str
) -> None:
    """The answer is a 400 and no appointment is made."""
    body = form()
    del body[member]
    error = error_of(await client.post(BOOK, json=body), 400, "VALIDATION_FAILED")
    assert [fault["field"] for fault in error["errors"]] == [member]
    assert salon.value("SELECT count(*) FROM booking.appointments") == 0


@pytest.mark.parametrize("slug", ["nobody", "Salon", "SALON-ROSA", "salon_rosa", "s" * 65, "%00", "%C3%A4", "..%2F"])
async def test_an_unknown_slug_is_a_404(client: httpx2.AsyncClient, salon: TestDatabase, slug: str) -> None:
    """Malformed slugs are unknown ones."""
    response = await client.post(f"/api/v1/public/{slug}/book", json=form())
    error_of(response, 404, "NOT_FOUND" if "%2F" in slug else "BUSINESS_NOT_FOUND")
    assert salon.value("SELECT count(*) FROM booking.appointments") == 0


async def test_a_widget_gets_the_slot_that_it_showed(client: httpx2.AsyncClient, salon: TestDatabase) -> None:
    """With `slotEnd` the slot has the length that was shown, whatever it is now, or is refused."""
    salon.put_service(duration_minutes=60, min_duration_minutes=45, max_duration_minutes=None)
    shown = await client.post(BOOK, json=form(slotEnd=timestamp(at(10.75))))
    assert (shown.status_code, shown.json()["data"]["slotEnd"]) == (201, timestamp(at(10.75)))
    for end, reason in ((12.5, "too_short"), (13.25, "too_long")):
        error = error_of(await client.post(BOOK, json=form(12, slotEnd=timestamp(at(end)))), 422, "SLOT_NOT_BOOKABLE")
        assert error["reason"] == reason


async def test_an_unknown_service_is_a_404(client: httpx2.AsyncClient, salon: TestDatabase) -> None:
    """A service of another business is unknown here."""
    salon.make_service("perm", business_id="clinic")
    error_of(await client.post(BOOK, json=form(serviceId="perm")), 404, "SERVICE_NOT_FOUND")


@pytest.mark.parametrize(
    ("settings", "hour", "reason"),
    [({"booking_enabled": False}, 10, "not_online"), ({}, -24 * 365, "past"), ({}, 3, "closed")],
)
async def test_a_slot_that_is_not_bookable_says_why(
    client: httpx2.AsyncClient, salon: TestDatabase, settings: Json, hour: float, reason: str
) -> None:
    """The answer is a 422 with the reason beside the message."""
    salon.put_service(**settings)
    salon.put_hours([(weekday, "09:00", "20:00") for weekday in range(1, 8)])
    error = error_of(await client.post(BOOK, json=form(hour)), 422, "SLOT_NOT_BOOKABLE")
    assert error["reason"] == reason


async def test_requests_without_a_form_get_the_widgets_shape(client: httpx2.AsyncClient, salon: TestDatabase) -> None:
    """This covers large bodies, other media types, broken JSON, other methods and URLs below the widget's."""
    as_json = {"Content-Type": "application/json"}
    text = json.dumps(form()).encode()
    error_of(await client.post(BOOK, content=b" " * 70_000 + text, headers=as_json), 413, "PAYLOAD_TOO_LARGE")
    error_of(
        await client.post(BOOK, content=text, headers={"Content-Type": "text/plain"}), 415, "UNSUPPORTED_MEDIA_TYPE"
    )
    for broken in (b"", b"[]", b"{", b"null", b"\xff", b"[" * 5000):
        error_of(await client.post(BOOK, content=broken, headers=as_json), 400, "VALIDATION_FAILED")
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        response = await client.request(method, BOOK)
        error_of(response, 405, "METHOD_NOT_ALLOWED")
        assert response.headers["allow"] == "POST"
    error_of(await client.post("/api/v1/public/salon-rosa/", json=form()), 404, "NOT_FOUND")
    error_of(await client.post("/api/v1/public/salon-rosa/book/it", json=form()), 404, "NOT_FOUND")
    assert salon.value("SELECT count(*) FROM booking.appointments") == 0


async def test_without_a_database_the_answer_is_a_503() -> None:
    """The answer has Retry-After, and the widget's shape."""
    app = make_app()
    async with app.router.lifespan_context(app), client_of(app) as client:
        response = await client.post(BOOK, json=form())
    error_of(response, 503, "DATABASE_UNAVAILABLE")
    assert int(response.headers["retry-after"]) >= 1


async def test_a_defect_has_the_widgets_shape(client: httpx2.AsyncClient, salon: TestDatabase) -> None:
    """A widget can show an error that no request is meant to cause."""
    salon.rows(
        "CREATE OR REPLACE FUNCTION booking.businesses_named(p_names text[]) "
        "RETURNS TABLE (name text, business_id text) LANGUAGE plpgsql "
        "AS $$ BEGIN RAISE 'a defect' USING ERRCODE = 'XX000'; END $$"
    )
    response = await client.post(BOOK, json=form(), headers={"X-Request-Id": uuid4().hex})
    assert response.json()["success"] is False
    assert response.json()["error"]["code"] in ("INTERNAL_ERROR", "DATABASE_UNAVAILABLE")
    assert "defect" not in response.json()["error"]["message"].replace("A defect of the service", "")
