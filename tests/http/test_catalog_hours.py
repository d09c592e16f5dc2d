"""Opening hours and closures of the catalog."""

from typing import Any

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import slot
from tests.http.conftest import ADMIN
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

SALON = "/api/catalog/businesses/salon"
HOURS = f"{SALON}/opening-hours"
AWAY = f"{SALON}/closures/away"

NINE_TO_FIVE = {"weekday": 1, "opens": "09:00", "closes": "17:00"}


async def test_hours_are_put_read_and_removed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """They are replaced as a whole, and returned in order."""
    assert refusal(await client.get(HOURS, headers=ADMIN)) == (404, "BUSINESS_NOT_FOUND")
    database.make_resource("anna")
    assert (await client.get(HOURS, headers=ADMIN)).json() == {"items": []}
    night = {"weekday": 6, "opens": "20:00", "closes": "24:00"}
    anna = {**NINE_TO_FIVE, "resourceId": "anna"}
    response = await client.put(HOURS, json=[anna, night, NINE_TO_FIVE], headers=ADMIN)
    assert response.status_code == 200
    items = [{**NINE_TO_FIVE, "resourceId": None}, {**night, "resourceId": None}, anna]
    assert response.json() == {"items": items, "closedByOwnHours": [{"resourceId": "anna", "weekdays": [6]}]}
    assert (await client.get(HOURS, headers=ADMIN)).json() == {"items": items}
    response = await client.put(HOURS, json=[NINE_TO_FIVE], headers=ADMIN)
    assert response.json() == {"items": [{**NINE_TO_FIVE, "resourceId": None}], "closedByOwnHours": []}
    assert (await client.delete(HOURS, headers=ADMIN)).status_code == 204
    assert (await client.delete(HOURS, headers=ADMIN)).status_code == 204
    assert (await client.get(HOURS, headers=ADMIN)).json() == {"items": []}


async def test_own_hours_name_the_weekdays_that_they_close(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Those on which the business is open and the resource has no hours; always open, that is every other day. The
    answer may be sent back."""
    for resource_id in ("anna", "ben", "cleo"):
        database.make_resource(resource_id)
    business = [{**NINE_TO_FIVE, "weekday": weekday} for weekday in (1, 1, 2, 6)]
    anna = {**NINE_TO_FIVE, "weekday": 6, "resourceId": "anna"}
    ben = [{**NINE_TO_FIVE, "weekday": weekday, "resourceId": "ben"} for weekday in (1, 2, 6, 7)]
    response = await client.put(HOURS, json=[*business, anna, *ben], headers=ADMIN)
    assert response.json()["closedByOwnHours"] == [{"resourceId": "anna", "weekdays": [1, 2]}]
    again = await client.put(HOURS, json=response.json(), headers=ADMIN)
    assert (again.status_code, again.json()) == (200, response.json())
    response = await client.put(HOURS, json=[anna, *ben], headers=ADMIN)
    assert response.json()["closedByOwnHours"] == [
        {"resourceId": "anna", "weekdays": [1, 2, 3, 4, 5, 7]},
        {"resourceId": "ben", "weekdays": [3, 4, 5]},
    ]
    await client.delete(f"{SALON}/resources/anna", headers=ADMIN)
    response = await client.put(HOURS, json=ben, headers=ADMIN)
    assert response.json()["closedByOwnHours"] == [{"resourceId": "ben", "weekdays": [3, 4, 5]}]


async def test_guests_book_within_the_opening_hours(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The hours are in the business's time zone: Berlin is one or two hours ahead of UTC."""
    database.make_service()
    await client.put(HOURS, json=[NINE_TO_FIVE], headers=ADMIN)
    inside = await client.post("/api/booking/reserve", json=slot(9))
    outside = await client.post("/api/booking/reserve", json=slot(20))
    assert inside.status_code == 201
    assert (outside.status_code, outside.json()["reason"]) == (422, "closed")
    await client.put(AWAY, json={"from": at(11).isoformat(), "to": at(12).isoformat()}, headers=ADMIN)
    closed = await client.post("/api/booking/reserve", json=slot(11.5))
    assert (closed.status_code, closed.json()["reason"]) == (422, "closed")


@pytest.mark.parametrize(
    ("entry", "fields"),
    [
        ({"weekday": 0}, ["2.weekday"]),
        ({"weekday": 8}, ["2.weekday"]),
        ({"weekday": "1"}, ["2.weekday"]),
        ({"opens": "9:00"}, ["2.opens"]),
        ({"opens": "24:00"}, ["2.opens"]),
        ({"opens": "09:60"}, ["2.opens"]),
        ({"closes": "24:01"}, ["2.closes"]),
        ({"closes": "17:00:00"}, ["2.closes"]),
        ({"closes": "09:00"}, ["2.closes"]),
        ({"closes": "08:30"}, ["2.closes"]),
        ({"closes": 17}, ["2.closes"]),
        ({"resourceId": "-"}, ["2.resourceId"]),
        ({"resourceId": "nobody"}, ["2.resourceId"]),
        ({"until": "17:00"}, ["2.until"]),
        ({"weekday": None, "opens": None}, ["2.weekday", "2.opens"]),
    ],
)
async def test_faulty_hours_name_their_field(
    client: httpx2.AsyncClient, database: TestDatabase, entry: dict[str, Any], fields: list[str]
) -> None:
    """The field has the entry's place in the list, and no entry is stored."""
    database.make_business()
    response = await client.put(HOURS, json=[NINE_TO_FIVE, NINE_TO_FIVE, NINE_TO_FIVE | entry], headers=ADMIN)
    assert faulty_fields(response) == fields
    assert (await client.get(HOURS, headers=ADMIN)).json() == {"items": []}


async def test_hours_are_a_list_of_bounded_length(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Other JSON values, and lists of more than 500 entries, are refused."""
    database.make_business()
    assert (await client.put(HOURS, json=[NINE_TO_FIVE] * 500, headers=ADMIN)).status_code == 200
    assert faulty_fields(await client.put(HOURS, json=[NINE_TO_FIVE] * 501, headers=ADMIN)) == [""]
    for body in (NINE_TO_FIVE, 7, "always", [[NINE_TO_FIVE]]):
        assert refusal(await client.put(HOURS, json=body, headers=ADMIN)) == (400, "VALIDATION_FAILED")


async def test_a_closure_comes_and_goes(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """PUT answers 201 for a new one and 200 for a replaced one, DELETE 204; GET returns what was put."""
    closure = {"from": "2030-12-24T12:00:00+01:00", "to": "2030-12-27T00:00:00+01:00", "reason": "Christmas"}
    assert refusal(await client.put(AWAY, json=closure, headers=ADMIN)) == (404, "BUSINESS_NOT_FOUND")
    database.make_resource("anna")
    response = await client.put(AWAY, json=closure, headers=ADMIN)
    assert response.status_code == 201
    assert response.json() == {
        "businessId": "salon",
        "closureId": "away",
        "from": "2030-12-24T11:00:00.000Z",
        "to": "2030-12-26T23:00:00.000Z",
        "date": None,
        "until": None,
        "resourceId": None,
        "reason": "Christmas",
        "affectedAppointments": {"count": 0, "items": []},
    }
    del closure["reason"]
    response = await client.put(AWAY, json={**closure, "resourceId": "anna"}, headers=ADMIN)
    assert (response.status_code, response.json()["resourceId"], response.json()["reason"]) == (200, "anna", None)
    read = (await client.get(AWAY, headers=ADMIN)).json()
    assert read | {"affectedAppointments": {"count": 0, "items": []}} == response.json()
    assert (await client.get(f"{SALON}/closures", headers=ADMIN)).json() == {"items": [read]}
    database.put_closure("party", at(10), at(12))
    assert (await client.delete(AWAY, headers=ADMIN)).status_code == 204
    [left] = (await client.get(f"{SALON}/closures", headers=ADMIN)).json()["items"]
    assert left["closureId"] == "party"
    assert refusal(await client.delete(AWAY, headers=ADMIN)) == (404, "CLOSURE_NOT_FOUND")
    assert refusal(await client.get(AWAY, headers=ADMIN)) == (404, "CLOSURE_NOT_FOUND")


async def test_a_closure_by_local_dates(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Both dates are closed in the time zone of the business, and what GET gives can be put again."""
    database.make_service()
    database.make_resource("anna")
    day = at(0).date().isoformat()
    response = await client.put(AWAY, json={"date": day, "until": day}, headers=ADMIN)
    assert response.status_code == 201
    read = (await client.get(AWAY, headers=ADMIN)).json()
    assert (read["date"], read["until"], read["from"], read["to"]) == (day, None, None, None)
    again = await client.put(AWAY, json=response.json(), headers=ADMIN)
    assert (again.status_code, again.json()) == (200, response.json())
    closed = await client.post("/api/booking/reserve", json=slot(10))
    assert (closed.status_code, closed.json()["reason"]) == (422, "closed")
    assert (await client.post("/api/booking/reserve", json=slot(34))).status_code == 201
    database.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus'")
    refused = await client.put(AWAY, json={"date": day}, headers=ADMIN)
    assert refusal(refused) == (422, "BUSINESS_MISCONFIGURED")


@pytest.mark.parametrize(
    ("closure", "field"),
    [
        ({}, "from"),
        ({"reason": "Christmas"}, "from"),
        ({"from": "2030-12-24T12:00:00Z"}, "to"),
        ({"to": "2030-12-24T12:00:00Z"}, "from"),
        ({"until": "2030-12-24"}, "from"),
        ({"from": "2030-12-24T12:00:00Z", "to": "2030-12-25T12:00:00Z", "until": "2030-12-24"}, "until"),
        ({"date": "2030-12-24", "from": "2030-12-24T12:00:00Z"}, "date"),
        ({"date": "2030-12-24", "to": "2030-12-24T12:00:00Z"}, "date"),
        ({"date": "2030-12-24", "until": "2030-12-23"}, "until"),
        ({"date": "2030-12-24T12:00:00Z"}, "date"),
        ({"date": "2030-02-30"}, "date"),
    ],
)
async def test_a_closure_has_either_instants_or_dates(
    client: httpx2.AsyncClient, database: TestDatabase, closure: dict[str, str], field: str
) -> None:
    """The refusal names the member that is missing, or that stands beside the wrong one."""
    database.make_business()
    assert faulty_fields(await client.put(AWAY, json=closure, headers=ADMIN)) == [field]


async def test_closures_are_listed_by_their_start(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Their ids do not matter for the order."""
    database.make_business()
    for closure_id, hour in (("b", 12), ("c", 10), ("a", 14)):
        database.put_closure(closure_id, at(hour), at(hour + 1))
    items = (await client.get(f"{SALON}/closures", headers=ADMIN)).json()["items"]
    assert [closure["closureId"] for closure in items] == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("from", "2030-12-24"),
        ("from", "2030-12-24T12:00:00"),
        ("to", "2030-12-24T12:00:00+01:00"),
        ("to", "2030-12-24T11:59:59+01:00"),
        ("to", None),
        ("resourceId", "nobody"),
        ("reason", "\x00"),
        ("from_", "2030-12-24T12:00:00.000Z"),
    ],
)
async def test_a_faulty_closure_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, member: str, value: Any
) -> None:
    """The answer is a 400 with the field."""
    database.make_business()
    closure = {"from": "2030-12-24T12:00:00+01:00", "to": "2030-12-27T00:00:00+01:00", member: value}
    assert faulty_fields(await client.put(AWAY, json=closure, headers=ADMIN)) == [member]
