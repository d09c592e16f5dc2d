"""Businesses and services of the catalog."""

from typing import Any

import httpx2
import pytest

from tests.database import TestDatabase
from tests.http.booking_calls import slot
from tests.http.conftest import ADMIN, CRON
from tests.http.describing import check, served_document
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

SALON = {"name": "Rosa", "slug": "rosa", "timezone": "Europe/Berlin", "country": "DE"}
BUSINESSES = "/api/catalog/businesses"


async def test_a_business_and_a_service_come_and_go(client: httpx2.AsyncClient) -> None:
    """PUT answers 201 for a new one and 200 for a replaced one, DELETE 204; GET returns what was put."""
    assert (await client.put(f"{BUSINESSES}/rosa", json=SALON, headers=ADMIN)).status_code == 201
    response = await client.put(f"{BUSINESSES}/rosa", json={**SALON, "name": "Rosa & Co"}, headers=ADMIN)
    assert (response.status_code, response.json()["name"]) == (200, "Rosa & Co")
    assert (await client.get(f"{BUSINESSES}/rosa", headers=ADMIN)).json() == response.json()

    cut = {"name": "Cut", "durationMinutes": 45, "bufferAfterMinutes": 5}
    address = f"{BUSINESSES}/rosa/services/cut"
    response = await client.put(address, json=cut, headers=ADMIN)
    assert response.status_code == 201
    assert response.json() == (await client.get(address, headers=ADMIN)).json()
    assert response.json() == {
        "businessId": "rosa",
        "serviceId": "cut",
        "name": "Cut",
        "maxSimultaneousBookings": None,
        "durationMinutes": 45,
        "minDurationMinutes": None,
        "maxDurationMinutes": None,
        "durationDays": None,
        "minDurationDays": None,
        "maxDurationDays": None,
        "startTimes": None,
        "endTime": None,
        "slotStepMinutes": None,
        "startsOnGrid": False,
        "hoursApply": None,
        "holdTtlMinutes": 15,
        "maxHoldTtlMinutes": None,
        "maxHoldLifetimeMinutes": None,
        "bufferBeforeMinutes": 0,
        "bufferAfterMinutes": 5,
        "minNoticeMinutes": 0,
        "maxAdvanceDays": 365,
        "cancellationWindowMinutes": 0,
        "rescheduleWindowMinutes": None,
        "maxUpcomingPerGuest": None,
        "bookingEnabled": True,
        "resourceSharing": "exclusive",
        "resourceIds": [],
        "archivedResourceIds": [],
        "description": None,
        "metadata": None,
    }
    listed = (await client.get(f"{BUSINESSES}/rosa/services", headers=ADMIN)).json()
    assert listed == {"items": [response.json()]}
    assert (await client.delete(f"{BUSINESSES}/rosa", headers=ADMIN)).json()["code"] == "BUSINESS_IN_USE"
    assert (await client.delete(address, headers=ADMIN)).status_code == 204
    assert (await client.delete(address, headers=ADMIN)).json()["code"] == "SERVICE_NOT_FOUND"
    assert (await client.delete(f"{BUSINESSES}/rosa", headers=ADMIN)).status_code == 204
    assert (await client.get(BUSINESSES, headers=ADMIN)).json() == {"items": []}


async def test_a_slug_belongs_to_one_business(client: httpx2.AsyncClient) -> None:
    """A business whose slug is refused is not created."""
    await client.put(f"{BUSINESSES}/one", json=SALON, headers=ADMIN)
    response = await client.put(f"{BUSINESSES}/two", json=SALON, headers=ADMIN)
    assert refusal(response) == (409, "SLUG_TAKEN")
    assert (await client.get(f"{BUSINESSES}/two", headers=ADMIN)).status_code == 404


async def test_capacity_in_use_names_the_first_slot(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A capacity cannot be lowered below the claims of the future."""
    database.make_service(capacity=2)
    for hour in (12, 12, 10, 10, 9):
        database.reserve(hour)
    response = await client.put(
        f"{BUSINESSES}/salon/services/cut", json={"name": "Cut", "durationMinutes": 60}, headers=ADMIN
    )
    problem = response.json()
    assert (response.status_code, problem["code"], problem["claimed"]) == (409, "CAPACITY_IN_USE", 2)
    assert "T10:00" in problem["slotStart"]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("timezone", "Mars/Olympus"),
        ("country", "de"),
        ("country", "ZZ"),
        ("country", "UK"),
        ("feedPastDays", -1),
        ("feedPastDays", 3661),
        ("feedPastDays", 1.5),
        ("feedPastDays", None),
        ("guestRetentionDays", 0),
        ("guestRetentionDays", 36_501),
        ("guestRetentionDays", "30"),
        ("slug", "Not A Slug"),
        ("name", ""),
        ("name", "\u0000"),
    ],
)
async def test_a_faulty_business_names_its_field(client: httpx2.AsyncClient, member: str, value: Any) -> None:
    """The answer is a 400 with the field."""
    response = await client.put(f"{BUSINESSES}/rosa", json={**SALON, member: value}, headers=ADMIN)
    assert faulty_fields(response) == [member]


@pytest.mark.parametrize(
    ("settings", "faulty"),
    [
        ({"durationMinutes": 0}, ["durationMinutes"]),
        ({}, ["durationMinutes"]),
        ({"durationMinutes": None}, ["durationMinutes"]),
        ({"durationMinutes": 60, "durationDays": 1}, ["durationDays"]),
        ({"durationDays": 367}, ["durationDays"]),
        ({"durationMinutes": 60, "maxDurationMinutes": 30}, ["maxDurationMinutes"]),
        ({"durationMinutes": 60, "minDurationMinutes": 61}, ["minDurationMinutes"]),
        ({"durationMinutes": 60, "minDurationDays": 1}, ["minDurationDays"]),
        ({"durationMinutes": 60, "maxDurationDays": 1}, ["maxDurationDays"]),
        ({"durationMinutes": 60, "endTime": "11:00"}, ["endTime"]),
        ({"durationDays": 2, "maxDurationDays": 1}, ["maxDurationDays"]),
        ({"durationDays": 2, "minDurationDays": 3}, ["minDurationDays"]),
        ({"durationDays": 2, "minDurationMinutes": 60}, ["minDurationMinutes"]),
        ({"durationDays": 2, "maxDurationMinutes": 60}, ["maxDurationMinutes"]),
        ({"durationDays": 1, "endTime": "24:01"}, ["endTime"]),
        ({"durationMinutes": 60, "startTimes": []}, ["startTimes"]),
        ({"durationMinutes": 60, "startTimes": ["9:00"]}, ["startTimes.0"]),
        ({"durationMinutes": 60, "startTimes": ["09:00", "09:00"]}, ["startTimes"]),
        ({"durationMinutes": 60, "hoursApply": "never"}, ["hoursApply"]),
        ({"durationMinutes": 60, "resourceSharing": None}, ["resourceSharing"]),
        ({"durationMinutes": 60, "startsOnGrid": "yes"}, ["startsOnGrid"]),
        ({"durationMinutes": 60, "maxSimultaneousBookings": 0}, ["maxSimultaneousBookings"]),
        ({"durationMinutes": 60, "rescheduleWindowMinutes": -1}, ["rescheduleWindowMinutes"]),
        ({"durationMinutes": 60, "maxUpcomingPerGuest": 0}, ["maxUpcomingPerGuest"]),
        ({"durationMinutes": 60, "holdTtlMinutes": 30, "maxHoldTtlMinutes": 20}, ["maxHoldTtlMinutes"]),
        ({"durationMinutes": 60, "maxHoldTtlMinutes": 30, "maxHoldLifetimeMinutes": 20}, ["maxHoldLifetimeMinutes"]),
        ({"durationMinutes": 60, "maxHoldLifetimeMinutes": 20}, ["maxHoldLifetimeMinutes"]),
        ({"durationMinutes": 60, "maxAdvanceDays": 3661}, ["maxAdvanceDays"]),
        ({"durationMinutes": "60"}, ["durationMinutes"]),
        ({"duration_minutes": 60}, ["duration_minutes"]),
    ],
)
async def test_contradictory_settings_are_refused(
    client: httpx2.AsyncClient, database: TestDatabase, settings: dict[str, Any], faulty: list[str]
) -> None:
    """The refusal names the field to change."""
    database.make_business()
    response = await client.put(f"{BUSINESSES}/salon/services/cut", json={"name": "Cut", **settings}, headers=ADMIN)
    assert faulty_fields(response) == faulty


@pytest.mark.parametrize("ttl", [15, 60, 90])
async def test_a_hold_can_live_as_long_as_one_request_may_hold(
    client: httpx2.AsyncClient, database: TestDatabase, ttl: int
) -> None:
    """By default an hour, or the usual time if that is longer: the settings and the database compute it alike."""
    database.make_service(hold_ttl_minutes=ttl, max_hold_ttl_minutes=None, max_hold_lifetime_minutes=None)
    longest = database.value("SELECT booking.max_hold_ttl_minutes(s) FROM booking.services s")
    settings = {"name": "Cut", "durationMinutes": 60, "holdTtlMinutes": ttl}
    statuses = [
        (await client.put(f"{BUSINESSES}/salon/services/cut", json=settings | lifetime, headers=ADMIN)).status_code
        for lifetime in ({"maxHoldLifetimeMinutes": longest - 1}, {"maxHoldLifetimeMinutes": longest})
    ]
    assert statuses == [400, 200]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", BUSINESSES),
        ("PUT", f"{BUSINESSES}/salon"),
        ("GET", f"{BUSINESSES}/salon"),
        ("DELETE", f"{BUSINESSES}/salon"),
        ("GET", f"{BUSINESSES}/salon/services"),
        ("PUT", f"{BUSINESSES}/salon/services/cut"),
        ("GET", f"{BUSINESSES}/salon/services/cut"),
        ("DELETE", f"{BUSINESSES}/salon/services/cut"),
    ],
)
@pytest.mark.parametrize("headers", [{}, CRON, {"Authorization": "Bearer "}])
async def test_the_catalog_needs_the_administrators_token(
    client: httpx2.AsyncClient, method: str, path: str, headers: dict[str, str]
) -> None:
    """The scheduler's secret does not replace it."""
    response = await client.request(method, path, headers=headers)
    assert refusal(response) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize("business_id", ["-", "caf%C3%A9", "b" * 65, "%00"])
async def test_ids_in_paths_are_validated(client: httpx2.AsyncClient, business_id: str) -> None:
    """The rules are those for ids in a body."""
    for method, body in (("PUT", SALON), ("GET", None), ("DELETE", None)):
        response = await client.request(method, f"{BUSINESSES}/{business_id}", json=body, headers=ADMIN)
        assert faulty_fields(response) == ["businessId"]


async def test_a_service_needs_its_business(client: httpx2.AsyncClient) -> None:
    """An unknown business is a 404."""
    response = await client.put(
        f"{BUSINESSES}/nobody/services/cut", json={"name": "Cut", "durationMinutes": 60}, headers=ADMIN
    )
    assert refusal(response) == (404, "BUSINESS_NOT_FOUND")


@pytest.mark.parametrize("entry", ["services/cut", "resources/anna", "special-hours/xmas", "closures/away"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_entry_of_an_unknown_business_is_none_of_a_known_one(
    client: httpx2.AsyncClient, entry: str, method: str
) -> None:
    """The refusal names the business, as that of a list and of a PUT."""
    response = await client.request(method, f"{BUSINESSES}/nobody/{entry}", headers=ADMIN)
    assert refusal(response) == (404, "BUSINESS_NOT_FOUND")


async def test_an_unknown_time_zone_is_repaired_by_a_put(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The server may have forgotten a zone. It is read as it is, refused when put, and replaced by a known one."""
    database.make_business()
    night = {"name": "Night", "durationDays": 1}
    assert (await client.put(f"{BUSINESSES}/salon/services/cut", json=night, headers=ADMIN)).status_code == 201
    database.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus'")
    stored = (await client.get(f"{BUSINESSES}/salon", headers=ADMIN)).json()
    assert stored["timezone"] == "Mars/Olympus"
    assert faulty_fields(await client.put(f"{BUSINESSES}/salon", json=stored, headers=ADMIN)) == ["timezone"]
    refused = await client.post("/api/booking/reserve", json=slot())
    assert refusal(refused) == (422, "BUSINESS_MISCONFIGURED")
    repaired = await client.put(f"{BUSINESSES}/salon", json=stored | {"timezone": "Europe/Berlin"}, headers=ADMIN)
    assert repaired.status_code == 200
    assert (await client.post("/api/booking/reserve", json=slot())).status_code == 201


@pytest.mark.new_database
async def test_an_entry_beyond_the_limit_is_refused_as_the_document_says(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Of each kind that has a limit. Here the limits are 0."""
    await client.put(f"{BUSINESSES}/rosa", json=SALON, headers=ADMIN)
    database.rows(
        "CREATE OR REPLACE FUNCTION booking.over_limit(p_kind text, p_count bigint) RETURNS booking.outcome "
        """LANGUAGE sql IMMUTABLE AS $$ SELECT ROW(NULL, 'limit_reached', '{"limit": 0}'::jsonb)::booking.outcome $$"""
    )
    document = await served_document()
    entries: dict[str, Any] = {
        "services/cut": {"name": "Cut", "durationMinutes": 45},
        "resources/rosa": {"name": "Rosa"},
        "opening-hours": [{"weekday": 1, "opens": "09:00", "closes": "17:00"}],
        "special-hours/easter": {"date": "2027-03-28", "hours": []},
        "closures/easter": {"date": "2027-03-28"},
    }
    for path, settings in entries.items():
        refused = await client.put(f"{BUSINESSES}/rosa/{path}", json=settings, headers=ADMIN)
        assert (path, refused.status_code, check(document, refused)) == (path, 409, "LIMIT_REACHED")
