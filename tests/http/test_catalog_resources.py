"""Resources of the catalog, and the pools of services."""

from typing import Any

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import slot, timestamp
from tests.http.conftest import ADMIN
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

SALON = "/api/catalog/businesses/salon"
ANNA = f"{SALON}/resources/anna"
CUT = f"{SALON}/services/cut"


async def test_a_resource_comes_and_goes(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """PUT answers 201 for a new one and 200 for a replaced one, DELETE 204; GET returns what was put."""
    assert refusal(await client.put(ANNA, json={"name": "Anna"}, headers=ADMIN)) == (404, "BUSINESS_NOT_FOUND")
    database.make_business()
    response = await client.put(ANNA, json={"name": "Anna"}, headers=ADMIN)
    assert response.status_code == 201
    assert response.json() == {
        "businessId": "salon",
        "resourceId": "anna",
        "name": "Anna",
        "kind": "resource",
        "bookingEnabled": True,
        "seats": 1,
        "description": None,
        "metadata": None,
    }
    response = await client.put(ANNA, json={"name": "Anna", "kind": "staff", "bookingEnabled": False}, headers=ADMIN)
    assert (response.status_code, response.json()["kind"], response.json()["bookingEnabled"]) == (200, "staff", False)
    assert (await client.get(ANNA, headers=ADMIN)).json() == response.json()
    assert (await client.get(f"{SALON}/resources", headers=ADMIN)).json() == {"items": [response.json()]}
    assert refusal(await client.delete(SALON, headers=ADMIN)) == (409, "BUSINESS_IN_USE")
    assert (await client.delete(ANNA, headers=ADMIN)).status_code == 204
    assert refusal(await client.delete(ANNA, headers=ADMIN)) == (404, "RESOURCE_NOT_FOUND")
    assert refusal(await client.get(ANNA, headers=ADMIN)) == (404, "RESOURCE_NOT_FOUND")
    assert (await client.get(f"{SALON}/resources", headers=ADMIN)).json() == {"items": []}


async def test_what_is_archived_keeps_its_name(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """For appointments, which have ids only. What is put again is in the catalog, and no longer archived."""
    database.make_service(resource_ids=["anna"], name="Haircut")
    database.make_service("perm")
    database.make_resource("bert")
    database.book(resource_id="anna")
    for path in (f"{SALON}/services/perm", f"{SALON}/resources/bert", ANNA, CUT):
        assert (await client.delete(path, headers=ADMIN)).status_code == 204
    archived = await client.get(f"{SALON}/archived", headers=ADMIN)
    assert archived.json() == {"services": {"cut": "Haircut"}, "resources": {"anna": "anna"}}
    await client.put(ANNA, json={"name": "Anna"}, headers=ADMIN)
    archived = await client.get(f"{SALON}/archived", headers=ADMIN)
    assert archived.json() == {"services": {"cut": "Haircut"}, "resources": {}}


@pytest.mark.parametrize(
    ("member", "value"), [("name", ""), ("kind", "two words"), ("bookingEnabled", "yes"), ("capacity", 2), ("seats", 0)]
)
async def test_a_faulty_resource_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, member: str, value: Any
) -> None:
    """The answer is a 400 with the field."""
    database.make_business()
    response = await client.put(ANNA, json={"name": "Anna", member: value}, headers=ADMIN)
    assert faulty_fields(response) == [member]


async def test_a_service_has_the_capacity_of_its_pool(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A smaller capacity can be set, a larger one is refused. The pool is returned in order of its ids."""
    for resource_id in ("anna", "ben", "eve"):
        database.make_resource(resource_id)
    settings = {"name": "Cut", "durationMinutes": 60, "resourceIds": ["eve", "anna", "ben"]}
    response = await client.put(CUT, json=settings, headers=ADMIN)
    assert response.status_code == 201
    assert (response.json()["resourceIds"], response.json()["maxSimultaneousBookings"]) == (
        ["anna", "ben", "eve"],
        None,
    )
    assert (await client.get(CUT, headers=ADMIN)).json() == response.json()
    response = await client.put(CUT, json=settings | {"maxSimultaneousBookings": 4}, headers=ADMIN)
    assert faulty_fields(response) == ["maxSimultaneousBookings"]
    for given, capacity in ((None, 3), (2, 2)):
        await client.put(CUT, json=settings | {"maxSimultaneousBookings": given}, headers=ADMIN)
        window = {"slotStart": timestamp(at(10)), "slotEnd": timestamp(at(11))}
        query = {"businessId": "salon", "serviceId": "cut", **window}
        assert (await client.get("/api/booking/capacity", params=query)).json()["capacity"] == capacity


async def test_bookings_use_the_pool_of_the_service(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A deleted resource is never assigned again."""
    for resource_id in ("anna", "ben"):
        database.make_resource(resource_id)
    settings = {"name": "Cut", "durationMinutes": 60, "resourceIds": ["anna", "ben"]}
    await client.put(CUT, json=settings, headers=ADMIN)
    held = [(await client.post("/api/booking/reserve", json=slot())).json() for _ in range(3)]
    assert {hold.get("resourceId") for hold in held[:2]} == {"anna", "ben"}
    assert held[2]["code"] == "SLOT_UNAVAILABLE"
    assert (await client.delete(ANNA, headers=ADMIN)).status_code == 204
    assert (await client.get(CUT, headers=ADMIN)).json()["resourceIds"] == ["ben"]
    assert (await client.post("/api/booking/reserve", json=slot(12))).json()["resourceId"] == "ben"
    assert (await client.post("/api/booking/reserve", json=slot(12))).status_code == 409


@pytest.mark.parametrize(
    ("resource_ids", "field"),
    [
        (["anna", "nobody"], "resourceIds"),
        (["anna", "anna"], "resourceIds"),
        (["anna", "-"], "resourceIds.1"),
        ("anna", "resourceIds"),
        (["anna"] * 501, "resourceIds"),
    ],
)
async def test_a_faulty_pool_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, resource_ids: Any, field: str
) -> None:
    """This includes resources that only the database knows to be missing."""
    database.make_resource("anna")
    settings = {"name": "Cut", "durationMinutes": 60, "resourceIds": resource_ids}
    response = await client.put(CUT, json=settings, headers=ADMIN)
    assert faulty_fields(response) == [field]
    assert refusal(await client.get(CUT, headers=ADMIN)) == (404, "SERVICE_NOT_FOUND")


@pytest.mark.parametrize("path", ["resources/-", "resources/%00", "special-hours/-", "closures/-"])
async def test_ids_in_paths_are_validated(client: httpx2.AsyncClient, path: str) -> None:
    """The rules are those for ids in a body."""
    response = await client.get(f"{SALON}/{path}", headers=ADMIN)
    assert refusal(response) == (400, "VALIDATION_FAILED")
    assert response.json()["errors"][0]["field"] in ("resourceId", "specialHoursId", "closureId")


@pytest.mark.parametrize(
    "path",
    [
        *("resources", "resources/anna", "opening-hours"),
        *("special-hours", "special-hours/easter", "closures", "closures/away"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_resources_and_hours_need_a_key(client: httpx2.AsyncClient, method: str, path: str) -> None:
    """Reads need a key as writes do."""
    response = await client.request(method, f"{SALON}/{path}")
    assert response.status_code == 401 or (response.status_code == 405 and method not in response.headers["allow"])
