"""The catalog of a business as one document: read, put, tried, and refused as a whole."""

from typing import Any

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import create, reserve, timestamp
from tests.http.conftest import ADMIN
from tests.http.describing import Json, check, served_document
from tests.http.keys import bearer, make_key
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

SALON = "/api/catalog/businesses/salon"
DOCUMENT = f"{SALON}/document"
DAY = at(0).date().isoformat()


def document(**members: Any) -> Json:
    """Returns the document of a salon with two members of staff."""
    return {
        "businessId": "salon",
        "name": "Salon",
        "timezone": "Europe/Berlin",
        "metadata": {"from_": [1, 1.0, None, True], "businessId": "x"},
        "resources": {"anna": {"name": "Anna", "kind": "staff"}, "ben": {"name": "Ben", "seats": 2}},
        "services": {
            "cut": {"name": "Cut", "durationMinutes": 60, "resourceIds": ["anna", "ben"]},
            "stay": {"name": "Stay", "durationDays": 1, "startTimes": ["14:00"], "endTime": "11:00"},
        },
        "openingHours": [{"weekday": weekday, "opens": "08:00", "closes": "20:00"} for weekday in (2, 1)],
        "specialHours": {"eve": {"date": "2030-12-24", "hours": [{"opens": "09:00", "closes": "12:00"}]}},
        "closures": {
            "away": {"from": timestamp(at(10, day=7)), "to": timestamp(at(12, day=7)), "resourceId": "ben"},
            "summer": {"date": "2030-08-01", "until": "2030-08-14"},
        },
        **members,
    }


async def put(client: httpx2.AsyncClient, body: Json, **query: Any) -> Json:
    """Puts a document, and returns the answer."""
    response = await client.put(DOCUMENT, json=body, params=query, headers=ADMIN)
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


async def get(client: httpx2.AsyncClient) -> Json:
    """Returns the document of the salon."""
    response = await client.get(DOCUMENT, headers=ADMIN)
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


def texts(answer: Json) -> list[str]:
    """Returns the changes in short form."""
    return [" ".join(filter(None, (change["action"], change["member"], change["id"]))) for change in answer["changes"]]


async def test_a_business_is_made_and_read_as_one_document(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A PUT of what GET gave changes nothing; the single calls see the same catalog."""
    made = await put(client, document())
    assert made["warnings"] == []
    assert texts(made) == [
        "created business",
        "created resources anna",
        "created resources ben",
        "created services cut",
        "created services stay",
        "changed openingHours",
        "created specialHours eve",
        "created closures away",
        "created closures summer",
    ]
    read = await get(client)
    assert read["metadata"] == document()["metadata"]
    assert read["services"]["cut"]["bufferAfterMinutes"] == 0
    assert read["services"]["stay"]["slotStepMinutes"] is None
    summer = {"from": None, "to": None, "resourceId": None, "reason": None} | document()["closures"]["summer"]
    assert read["closures"]["summer"] == summer
    for body in (read, document()):
        assert await put(client, body) == {"changes": [], "warnings": []}
    assert await get(client) == read
    service = (await client.get(f"{SALON}/services/cut", headers=ADMIN)).json()
    assert read["services"]["cut"].items() <= service.items()
    assert database.value("SELECT count(*) FROM booking.closures") == 2


async def test_what_the_document_lacks_is_removed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """What was booked is archived, and back when the document has it again. Entries that did not change stay."""
    await put(client, document())
    await create(client, 10, resourceId="anna")
    changed = document(closures={}, openingHours=[], resources={"ben": {"name": "Benjamin", "seats": 2}})
    changed["services"]["cut"]["resourceIds"] = ["ben"]
    del changed["services"]["stay"]
    assert texts(await put(client, changed)) == [
        "changed resources ben",
        "removed services stay",
        "changed services cut",
        "changed openingHours",
        "removed closures away",
        "removed closures summer",
        "removed resources anna",
    ]
    assert database.rows("SELECT resource_id FROM booking.resources WHERE archived_at IS NULL") == [("ben",)]
    read = await get(client)
    assert read["resources"].keys() == {"ben"}
    assert await put(client, read) == {"changes": [], "warnings": []}


async def test_a_restored_resource_is_as_the_document_says(client: httpx2.AsyncClient) -> None:
    """Its hours, closures and pools of before are restored with it, and removed if the document lacks them."""
    full = document()
    full["openingHours"].append({"weekday": 1, "opens": "09:00", "closes": "10:00", "resourceId": "anna"})
    full["specialHours"]["trip"] = {"date": "2030-12-23", "hours": [], "resourceId": "anna"}
    days = [{"date": f"2030-11-0{day}", "hours": [], "resourceId": "anna"} for day in (1, 2)]
    full["specialHours"] |= {"x": days[0], "y": days[1]}
    full["closures"]["leave"] = {"date": "2030-09-01", "resourceId": "anna"}
    await put(client, full)
    assert (await client.delete(f"{SALON}/resources/anna", headers=ADMIN)).status_code == 204
    wanted = await get(client)
    assert wanted["services"]["cut"]["resourceIds"] == ["ben"]
    wanted["resources"]["anna"] = {**wanted["resources"]["ben"], "name": "Anna"}
    # Dates that these exchange: what was restored makes room first.
    wanted["specialHours"] |= {
        "x": {"name": None, "until": None, **days[1]},
        "y": {"name": None, "until": None, **days[0]},
    }
    tried = await put(client, wanted, dryRun="true")
    assert texts(tried) == [
        "created resources anna",
        "changed services cut",
        "changed openingHours",
        "removed specialHours trip",
        "changed specialHours x",
        "changed specialHours y",
        "removed closures leave",
    ]
    assert await put(client, wanted) == tried
    assert await get(client) == wanted
    assert await put(client, wanted) == {"changes": [], "warnings": []}


async def test_a_dry_run_lists_and_changes_nothing(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Neither the catalog nor its holds; the same document is then applied with the same answer."""
    await put(client, document())
    before = await get(client)
    changed = document(name="Salon Rosa", specialHours={})
    tried = await put(client, changed, dryRun="true")
    assert texts(tried) == ["changed business", "removed specialHours eve"]
    assert await get(client) == before
    assert await put(client, changed) == tried
    assert (await get(client))["name"] == "Salon Rosa"
    other = await client.put(
        DOCUMENT.replace("salon", "new"),
        json={**changed, "businessId": "new"},
        params={"dryRun": "true"},
        headers=ADMIN,
    )
    assert other.json()["changes"][0] == {"action": "created", "member": "business", "id": None}
    assert database.rows("SELECT business_id FROM booking.businesses") == [("salon",)]


async def test_a_document_warns(client: httpx2.AsyncClient) -> None:
    """Of staff whose own hours close them, and of appointments in the way, which stay."""
    await put(client, document())
    appointment = await create(client, 10, resourceId="anna")
    own = {"weekday": 2, "opens": "08:00", "closes": "12:00", "resourceId": "anna"}
    changed = document(openingHours=[*document()["openingHours"], own])
    changed["closures"] |= {"holiday": {"date": DAY}}
    changed["specialHours"] |= {"short": {"date": at(-24).date().isoformat(), "until": DAY, "hours": []}}
    tried = await put(client, changed, dryRun="true")
    closed, short, holiday = tried["warnings"]
    about = {"code": "closed_by_own_hours", "member": "openingHours", "id": None}
    assert closed == {**about, "resourceId": "anna", "weekdays": [1]}
    assert (short["code"], short["member"], short["id"]) == ("appointments_affected", "specialHours", "short")
    assert (holiday["code"], holiday["member"], holiday["id"]) == ("appointments_affected", "closures", "holiday")
    for warning in (short, holiday):
        [affected] = warning["affectedAppointments"]["items"]
        assert affected["appointmentId"] == appointment["appointmentId"]
    assert (await put(client, changed))["warnings"] == tried["warnings"]
    assert await put(client, changed) == {"changes": [], "warnings": []}


async def test_special_hours_of_one_night_do_not_warn_of_each_other(client: httpx2.AsyncClient) -> None:
    """A night is two entries. A booking within both is within the hours of the document, whichever is put first."""
    week = [{"weekday": 1, "opens": "18:00", "closes": "23:00"}]
    bar = document(timezone="UTC", openingHours=week, specialHours={})
    await put(client, bar)
    await create(client, 23, slotEnd=timestamp(at(25)))
    night = {"date": DAY, "hours": [{"opens": "18:00", "closes": "24:00"}]}
    morning = {"date": at(24).date().isoformat(), "hours": [{"opens": "00:00", "closes": "04:00"}]}
    for special in ({"a": night, "b": morning}, {"a": morning, "b": night}):
        assert (await put(client, bar | {"specialHours": special}))["warnings"] == []


async def test_other_services_take_the_places_of_those_that_the_document_lacks(client: httpx2.AsyncClient) -> None:
    """A business may have 1000: the former ones make room first."""
    cut = {"name": "Cut", "durationMinutes": 60}
    for prefix in ("spring", "autumn"):
        await put(client, document(services={f"{prefix}{place}": cut for place in range(501)}))
    assert len((await get(client))["services"]) == 501


async def test_special_hours_exchange_their_dates(client: httpx2.AsyncClient) -> None:
    """No date has two special hours of one owner, so the former ones make room first."""
    first, second = ({"date": "2030-12-24", "hours": []}, {"date": "2030-12-25", "hours": []})
    await put(client, document(specialHours={"a": first, "b": second}))
    exchanged = await put(client, document(specialHours={"a": second, "b": first}))
    assert texts(exchanged) == ["changed specialHours a", "changed specialHours b"]
    response = await client.put(DOCUMENT, json=document(specialHours={"a": first, "b": first}), headers=ADMIN)
    assert faulty_fields(response) == ["specialHours.a.date"]


async def test_seats_move_from_one_resource_to_another(client: httpx2.AsyncClient) -> None:
    """The claims are compared with the seats after the whole document, and a refusal names the resource with fewer."""

    def bistro(**seats: int) -> Json:
        rooms = {name: {"name": name, "seats": number} for name, number in seats.items()}
        return document(resources=rooms, services={"cut": cut | {"resourceIds": [*seats]}}, closures={})

    cut = {"name": "Cut", "durationMinutes": 60, "maxSimultaneousBookings": 4}
    await put(client, bistro())
    for _ in range(3):
        await reserve(client, 10)
    cut["maxSimultaneousBookings"] = None
    await put(client, bistro(hall=4))
    response = await client.put(DOCUMENT, json=bistro(hall=1, terrace=1), headers=ADMIN)
    assert refusal(response) == (409, "CAPACITY_IN_USE")
    moved = await put(client, bistro(hall=1, terrace=3))
    assert texts(moved) == ["changed resources hall", "created resources terrace", "changed services cut"]


async def test_a_refused_document_changes_nothing(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The refusal names the entry, by its place in the document."""
    await put(client, document())
    await reserve(client, 10, resourceId="ben", quantity=2)
    before = await get(client)
    smaller = document(name="Other", resources={"anna": {"name": "Anna"}, "ben": {"name": "Ben"}})
    response = await client.put(DOCUMENT, json=smaller, headers=ADMIN)
    assert refusal(response) == (409, "CAPACITY_IN_USE")
    problem = response.json()
    assert problem["detail"].startswith("resources.ben: ")
    assert (problem["claimed"], problem["slotStart"]) == (2, timestamp(at(10)))
    above = document()
    above["services"]["cut"]["maxSimultaneousBookings"] = 4
    response = await client.put(DOCUMENT, json=above, headers=ADMIN)
    assert faulty_fields(response) == ["services.cut.maxSimultaneousBookings"]
    for zone in ("Mars/Olympus", "Europe/Atlantis"):
        assert faulty_fields(await client.put(DOCUMENT, json=document(timezone=zone), headers=ADMIN)) == ["timezone"]
    assert faulty_fields(await client.put(DOCUMENT, json=document(country="XX"), headers=ADMIN)) == ["country"]
    await client.put("/api/catalog/businesses/other", json={"name": "Other", "slug": "rosa"}, headers=ADMIN)
    response = await client.put(DOCUMENT, json=document(slug="rosa"), headers=ADMIN)
    assert refusal(response) == (409, "SLUG_TAKEN")
    database.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus' WHERE business_id = 'salon'")
    lost = {**before, "timezone": "Mars/Olympus", "closures": {"summer": {"date": "2030-08-02"}}}
    response = await client.put(DOCUMENT, json=lost, headers=ADMIN)
    assert refusal(response) == (422, "BUSINESS_MISCONFIGURED")
    database.rows("UPDATE booking.businesses SET timezone = 'Europe/Berlin' WHERE business_id = 'salon'")
    assert await get(client) == before


@pytest.mark.parametrize(
    ("members", "fields"),
    [
        ({"businessId": "other"}, ["businessId"]),
        ({"name": ""}, ["name"]),
        ({"hours": []}, ["hours"]),
        ({"services": {"cut": {"name": "Cut"}}}, ["services.cut.durationMinutes"]),
        ({"services": {"a b": {"name": "Cut", "durationMinutes": 1}}}, ["services.a b"]),
        ({"services": {"cut": {"name": "Cut", "durationMinutes": 1, "serviceId": "cut"}}}, ["services.cut.serviceId"]),
        (
            {"services": {"cut": {"name": "C", "durationMinutes": 1, "resourceIds": ["eve"]}}},
            ["services.cut.resourceIds"],
        ),
        ({"closures": {"away": {"date": DAY, "resourceId": "eve"}}}, ["closures.away.resourceId"]),
        (
            {
                "openingHours": [{"weekday": 1, "opens": "09:00", "closes": "10:00", "resourceId": "eve"}],
                "specialHours": {"eve": {"date": DAY, "hours": [], "resourceId": "eve"}},
            },
            ["openingHours.0.resourceId", "specialHours.eve.resourceId"],
        ),
    ],
)
async def test_a_faulty_document_names_its_fields(
    client: httpx2.AsyncClient, database: TestDatabase, members: Json, fields: list[str]
) -> None:
    """By their path, also where two members contradict each other. Nothing is created."""
    response = await client.put(DOCUMENT, json=document(**members), headers=ADMIN)
    assert faulty_fields(response) == fields
    assert database.rows("SELECT * FROM booking.businesses") == []


async def test_the_business_of_a_document_may_be_left_out(client: httpx2.AsyncClient) -> None:
    """The path names it, also of a copy for another business."""
    unnamed = document()
    del unnamed["businessId"]
    made = await put(client, unnamed)
    assert len(made["changes"]) > 5
    assert (await put(client, document()))["changes"] == []
    response = await client.put(f"{DOCUMENT.replace('salon', 'copy')}", json=unnamed | {"slug": None}, headers=ADMIN)
    assert (response.status_code, response.json()["changes"]) == (200, made["changes"])


def plant_archived(database: TestDatabase, count: int) -> None:
    """Makes a business with archived resources, which count. To put as many takes longer than a request may take."""
    database.make_business()
    database.rows(
        "INSERT INTO booking.resources (business_id, resource_id, name, kind, booking_enabled, created_at, archived_at)"
        " SELECT 'salon', 'former-' || n, 'R', 'other', true, booking.now(), booking.now()"
        " FROM generate_series(1, %s) AS n",
        count,
    )


async def test_a_document_with_too_many_entries_is_refused(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The refusal names the first entry beyond the limit, and its shape is that of the OpenAPI document."""
    plant_archived(database, 1998)
    resources = {f"r{number}": {"name": "R"} for number in range(4)}
    refused = await client.put(DOCUMENT, json={"name": "S", "timezone": "UTC", "resources": resources}, headers=ADMIN)
    assert check(await served_document(), refused) == "LIMIT_REACHED"
    assert refused.json()["detail"].startswith("resources.r2: ")


async def test_a_business_beyond_a_limit_can_be_changed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """It may have its entries from before the limit: only those that a document adds are refused."""
    plant_archived(database, 2001)
    assert texts(await put(client, {"name": "S", "timezone": "UTC"})) == ["changed business"]


async def test_a_closure_that_is_removed_makes_room_for_another(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Of a business that has as many as it may have."""
    plant_archived(database, 1)
    database.rows(
        "INSERT INTO booking.closures (business_id, closure_id, resource_id, during)"
        " SELECT 'salon', 'c' || n, 'former-1', '[2030-01-01, 2030-01-02)' FROM generate_series(1, 9999) AS n"
    )
    for closure_id in ("first", "second"):
        await put(client, {"name": "S", "timezone": "UTC", "closures": {closure_id: {"date": "2030-01-01"}}})
    assert list((await get(client))["closures"]) == ["second"]


async def test_a_pool_names_resources_of_the_document_only(client: httpx2.AsyncClient) -> None:
    """Also where the service does not change: a resource that the document drops would leave the catalog.

    Archived ones stay in a pool that lost all of its resources.
    """
    await put(client, document())
    response = await client.put(
        DOCUMENT, json=document(resources={"anna": {"name": "Anna"}}, closures={}), headers=ADMIN
    )
    assert faulty_fields(response) == ["services.cut.resourceIds"]
    for resource_id in ("anna", "ben"):
        await client.delete(f"{SALON}/resources/{resource_id}", headers=ADMIN)
    read = await get(client)
    assert (read["resources"], read["services"]["cut"]["resourceIds"]) == ({}, ["anna", "ben"])
    assert await put(client, read) == {"changes": [], "warnings": []}


async def test_a_document_is_read_by_all_roles_and_put_by_owners(client: httpx2.AsyncClient) -> None:
    """Of their own business."""
    await put(client, document())
    await client.put("/api/catalog/businesses/clinic", json={"name": "Clinic"}, headers=ADMIN)
    keys = {role: bearer((await make_key(client, role))["key"]) for role in ("owner", "staff", "readonly")}
    stranger = bearer((await make_key(client, "owner", "clinic"))["key"])
    for role, headers in keys.items():
        assert (await client.get(DOCUMENT, headers=headers)).status_code == 200
        response = await client.put(DOCUMENT, json=document(), headers=headers)
        assert response.status_code == (200 if role == "owner" else 403)
    assert refusal(await client.get(DOCUMENT, headers=stranger)) == (404, "BUSINESS_NOT_FOUND")
    assert refusal(await client.put(DOCUMENT, json=document(), headers=stranger)) == (404, "BUSINESS_NOT_FOUND")
    assert refusal(await client.get(DOCUMENT)) == (401, "UNAUTHORIZED")
    nobody = DOCUMENT.replace("salon", "nobody")
    assert refusal(await client.get(nobody, headers=ADMIN)) == (404, "BUSINESS_NOT_FOUND")


async def test_a_large_catalog_fits(client: httpx2.AsyncClient) -> None:
    """Up to a mebibyte, where other calls take 64 KiB."""
    text = "x" * 4000
    services = {f"s{n}": {"name": "S", "durationMinutes": 60, "description": text} for n in range(40)}
    assert len((await put(client, document(services=services)))["changes"]) == 47
    huge = {f"s{n}": {"name": "S", "durationMinutes": 60, "description": text} for n in range(270)}
    response = await client.put(DOCUMENT, json=document(services=huge), headers=ADMIN)
    assert refusal(response) == (413, "PAYLOAD_TOO_LARGE")
