"""Changes of an appointment: versions, moves, resources and status."""

from typing import Any

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import APPOINTMENTS, audit_trail, cancel, change, create, read, slot, timestamp
from tests.http.conftest import ADMIN
from tests.http.describing import Json
from tests.http.keys import bearer, make_key
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio


async def test_a_change_raises_the_version_by_one(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Members that are left out stay as they are; null clears an optional member."""
    database.make_service()
    guest: Json = {"guestName": "Ada", "guestEmail": "ada@example.com", "notes": "window", "metadata": {"price": 40}}
    appointment = await create(client, **guest)
    response = await change(client, appointment, {"expectedVersion": 1, "guestName": None, "guestPhone": "030 1234567"})
    assert (response.status_code, response.headers["etag"]) == (200, '"2"')
    changed = response.json()
    assert changed == {
        **appointment,
        "guestName": None,
        "guestPhone": "+49301234567",
        "version": 2,
        "updatedAt": changed["updatedAt"],
    }
    assert await read(client, appointment) == changed
    cleared = {"guestEmail": None, "guestPhone": None, "notes": None}
    changed = (await change(client, appointment, {"expectedVersion": 2, **cleared, "metadata": {}})).json()
    assert changed == {**appointment, **cleared, "guestName": None, "metadata": {}, "version": 3} | {
        "updatedAt": changed["updatedAt"]
    }


async def test_a_change_without_effect_keeps_the_version(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The audit trail gets no entry either."""
    database.make_service()
    appointment = await create(client, guestName="Ada")
    for body in ({}, {"guestName": "Ada"}, {"slotStart": timestamp(at(10))}, {"status": "confirmed"}):
        response = await change(client, appointment, {"expectedVersion": 1, **body})
        assert (response.status_code, response.json()) == (200, appointment)
    assert len(await audit_trail(client, appointment)) == 1


async def test_a_stale_version_is_a_409_with_the_current_one(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Of two people who edit the same version, the second learns of the first one's change."""
    database.make_service()
    appointment = await create(client)
    assert (await change(client, appointment, {"expectedVersion": 1, "notes": "first"})).status_code == 200
    response = await change(client, appointment, {"expectedVersion": 1, "notes": "second"})
    assert refusal(response) == (409, "VERSION_CONFLICT")
    assert (response.json()["status"], response.json()["currentVersion"]) == (409, 2)
    assert refusal(await change(client, appointment, {"expectedVersion": 3, "notes": "x"})) == (409, "VERSION_CONFLICT")
    assert (await read(client, appointment))["notes"] == "first"


@pytest.mark.parametrize("if_match", ['"1"', 'W/"1"', ' "1" ', "*"])
async def test_the_version_may_come_as_if_match(
    client: httpx2.AsyncClient, database: TestDatabase, if_match: str
) -> None:
    """A strong or a weak ETag is accepted, and * matches every version."""
    database.make_service()
    appointment = await create(client)
    response = await change(client, appointment, {"notes": "window"}, if_match)
    assert (response.status_code, response.json()["version"]) == (200, 2)


@pytest.mark.parametrize("if_match", ['"5"', 'W/"5"'])
async def test_a_stale_if_match_is_a_412(client: httpx2.AsyncClient, database: TestDatabase, if_match: str) -> None:
    """HTTP asks for this status; the body is that of the 409."""
    database.make_service()
    appointment = await create(client)
    response = await change(client, appointment, {"notes": "window"}, if_match)
    assert refusal(response) == (412, "VERSION_CONFLICT")
    assert (response.json()["status"], response.json()["currentVersion"]) == (412, 1)
    assert (await read(client, appointment))["version"] == 1


@pytest.mark.parametrize("if_match", ["", "1", '"0"', '"-1"', '"one"', '"1', '"1", "2"', "W/1", '"99999999999"', "* *"])
async def test_a_malformed_if_match_is_a_400(client: httpx2.AsyncClient, database: TestDatabase, if_match: str) -> None:
    """The header is never ignored, because its sender relies on the comparison."""
    database.make_service()
    appointment = await create(client)
    assert faulty_fields(await change(client, appointment, {"notes": "window"}, if_match)) == ["If-Match"]


async def test_a_change_needs_one_version(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Without a version a change could overwrite another one unseen, and If-Match and expectedVersion must not
    contradict each other."""
    database.make_service()
    appointment = await create(client)
    assert faulty_fields(await change(client, appointment, {"notes": "window"})) == ["expectedVersion"]
    both = {"expectedVersion": 2, "notes": "window"}
    assert faulty_fields(await change(client, appointment, both, '"1"')) == ["expectedVersion"]
    response = await change(client, appointment, {**both, "expectedVersion": 1}, '"1"')
    assert (response.status_code, response.json()["version"]) == (200, 2)


async def test_any_version_leaves_the_decision_to_the_body(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """`If-Match: *` is met by any version (RFC 9110, 13.1.1), so a conflict is that of the body, a 409."""
    database.make_service()
    appointment = await create(client)
    for version, answer in ((2, 409), (1, 200)):
        body = {"expectedVersion": version, "notes": "window"}
        assert (await change(client, appointment, body, "*")).status_code == answer
    assert (await change(client, appointment, {"notes": "door"}, "*")).json()["version"] == 3


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("slotStart", None),
        ("slotEnd", None),
        ("quantity", None),
        ("status", None),
        ("metadata", None),
        ("status", "held"),
        ("slotStart", "2027-01-01T10:00:00"),
        ("slotStart", "9999-12-31T23:30:00Z"),
        ("slotStart", "0001-01-01T00:00:00Z"),
        ("quantity", 0),
        ("expectedVersion", "1"),
        ("guestEmail", "ada"),
        ("guestPhone", "call me"),
        ("guestPhone", "030"),
        ("guestName", "\u0000"),
        ("serviceId", None),
        ("serviceId", "a b"),
        ("version", 2),
        ("cancellationReason", "x"),
        ("unknown", 1),
    ],
)
async def test_a_faulty_change_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, member: str, value: Any
) -> None:
    """The answer is a 400 with the field. Slot, quantity, status and service cannot be cleared."""
    database.make_service()
    appointment = await create(client)
    assert faulty_fields(await change(client, appointment, {"expectedVersion": 1, member: value})) == [member]
    assert await read(client, appointment) == appointment


async def test_a_slot_that_is_moved_keeps_its_length(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The new slot may overlap the old one, which is free at once; both ends may be moved."""
    database.make_service()
    appointment = await create(client, slotEnd=timestamp(at(12)))
    moved = await change(client, appointment, {"expectedVersion": 1, "slotStart": timestamp(at(11))})
    assert (moved.json()["slotStart"], moved.json()["slotEnd"]) == (timestamp(at(11)), timestamp(at(13)))
    await create(client, 10)
    both = {"slotStart": timestamp(at(12)), "slotEnd": timestamp(at(12.5))}
    moved = await change(client, appointment, {"expectedVersion": 2, **both})
    assert {name: moved.json()[name] for name in both} == both
    shorter = await change(client, appointment, {"expectedVersion": 3, "slotEnd": timestamp(at(12.25))})
    assert shorter.json()["slotStart"] == timestamp(at(12))
    for ends in (at(12), at(11)):
        response = await change(client, appointment, {"expectedVersion": 4, "slotEnd": timestamp(ends)})
        assert faulty_fields(response) == ["slotEnd"]
    assert [entry["action"] for entry in await audit_trail(client, appointment)] == ["created", *["rescheduled"] * 3]


async def test_a_move_to_an_occupied_slot_is_refused_with_alternatives(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The appointment keeps its slot, and the detail is worded for the business."""
    database.make_service()
    appointment = await create(client, 10)
    await create(client, 12)
    response = await change(client, appointment, {"expectedVersion": 1, "slotStart": timestamp(at(12))})
    assert refusal(response) == (409, "SLOT_UNAVAILABLE")
    assert response.json()["detail"] == "No available capacity for the new time slot"
    starts = [alternative["slotStart"] for alternative in response.json()["alternatives"]]
    assert 1 <= len(starts) <= 5
    assert timestamp(at(12)) not in starts
    assert await read(client, appointment) == appointment


@pytest.mark.parametrize("resource_ids", [[], ["anna"]])
async def test_alternatives_to_a_move_may_overlap_the_appointment_itself(
    client: httpx2.AsyncClient, database: TestDatabase, resource_ids: list[str]
) -> None:
    """Its own claim does not count: between two other appointments, the nearest alternative is half an hour later."""
    database.make_service(resource_ids=resource_ids, slot_step_minutes=30)
    appointment = await create(client, 10)
    for hour in (8.5, 11.5):
        await create(client, hour)
    response = await change(client, appointment, {"expectedVersion": 1, "slotStart": timestamp(at(11))})
    assert refusal(response) == (409, "SLOT_UNAVAILABLE")
    starts = [alternative["slotStart"] for alternative in response.json()["alternatives"]]
    assert starts[:2] == [timestamp(at(10.5)), timestamp(at(10))]


async def test_a_quantity_grows_within_the_capacity(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The appointment's own claim is not counted against it."""
    database.make_service(capacity=4)
    appointment = await create(client, quantity=3)
    grown = await change(client, appointment, {"expectedVersion": 1, "quantity": 4})
    assert (grown.status_code, grown.json()["quantity"]) == (200, 4)
    response = await change(client, appointment, {"expectedVersion": 2, "quantity": 5})
    assert refusal(response) == (409, "SLOT_UNAVAILABLE")


async def test_a_party_too_large_for_its_table_can_get_a_larger_one(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The fault names the seats of the table and says how to get another one. No table has more than the largest."""
    database.make_resource("small", seats=2)
    database.make_resource("large", seats=6)
    database.make_service(resource_ids=["small", "large"], capacity=8)
    appointment = await create(client, quantity=2)
    assert appointment["resourceId"] == "small"
    response = await change(client, appointment, {"expectedVersion": 1, "quantity": 5})
    assert faulty_fields(response) == ["quantity"]
    [fault] = response.json()["errors"]
    assert fault["parameters"] == {"max": 2}
    assert fault["message"] == "must be at most 2, the seats of the resource, or of the largest if resourceId is null"
    response = await change(client, appointment, {"expectedVersion": 1, "quantity": 5, "resourceId": None})
    assert (response.status_code, response.json()["resourceId"]) == (200, "large")
    beyond = {"expectedVersion": 2, "quantity": 7, "resourceId": None}
    [fault] = (await change(client, appointment, beyond)).json()["errors"]
    assert fault["parameters"] == {"max": 6}


async def test_an_appointment_is_moved_to_another_resource(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A change names a free resource of the service, or null for any free one; an occupied one and one of another
    service are refused."""
    database.make_service(resource_ids=["maria", "rosa"])
    database.make_resource("otto")
    appointment = await create(client, resourceId="rosa")
    response = await change(client, appointment, {"expectedVersion": 1, "resourceId": "maria"})
    assert response.json()["resourceId"] == "maria"
    await create(client, resourceId="rosa")
    response = await change(client, appointment, {"expectedVersion": 2, "resourceId": "rosa"})
    assert refusal(response) == (409, "SLOT_UNAVAILABLE")
    response = await change(client, appointment, {"expectedVersion": 2, "resourceId": "otto"})
    assert refusal(response) == (404, "RESOURCE_NOT_FOUND")
    assert faulty_fields(await change(client, appointment, {"expectedVersion": 2, "quantity": 2})) == ["quantity"]

    later = await create(client, 12, resourceId="maria")
    to_ten = {"expectedVersion": 1, "slotStart": timestamp(at(13)), "resourceId": None}
    assert (await change(client, later, to_ten)).json()["resourceId"] in ("maria", "rosa")


@pytest.mark.parametrize("leaves", ["the business", "the service"])
async def test_a_move_gives_no_new_work_to_a_resource_that_left(
    client: httpx2.AsyncClient, database: TestDatabase, leaves: str
) -> None:
    """Another one of the pool gets it, or the move is refused; the slot as it was stays with the one who left."""
    database.make_service(resource_ids=["anna", "zoe"])
    appointment, other = await create(client, resourceId="anna"), await create(client, 40, resourceId="zoe")
    if leaves == "the business":
        catalog = "/api/catalog/businesses/salon/resources/anna"
        assert (await client.delete(catalog, headers=ADMIN)).status_code == 204
    else:
        assert database.put_service(resource_ids=["zoe"], capacity=1).name == "done"
    noted = await change(client, appointment, {"expectedVersion": 1, "notes": "window"})
    assert (noted.status_code, noted.json()["resourceId"]) == (200, "anna")
    refused = await change(client, appointment, {"expectedVersion": 2, "slotStart": timestamp(at(40))})
    assert refusal(refused) == (409, "SLOT_UNAVAILABLE")
    await cancel(client, other, ADMIN)
    moved = await change(client, appointment, {"expectedVersion": 2, "slotStart": timestamp(at(40))})
    assert (moved.status_code, moved.json()["resourceId"]) == (200, "zoe")


@pytest.mark.parametrize("status", ["completed", "no_show"])
async def test_a_status_of_the_end_can_be_set_from_the_start_on_and_taken_back(
    client: httpx2.AsyncClient, database: TestDatabase, status: str
) -> None:
    """Before the start the refusal names it. Each change is a version, and frees or takes the room."""
    database.make_service()
    appointment = await create(client)
    early = await change(client, appointment, {"expectedVersion": 1, "status": status})
    assert refusal(early) == (409, "APPOINTMENT_NOT_STARTED")
    assert early.json()["slotStart"] == timestamp(at(10))
    assert refusal(await client.post("/api/booking/reserve", json=slot())) == (409, "SLOT_UNAVAILABLE")
    database.freeze_clock(at(10))
    for version, then in enumerate((status, "confirmed", status), start=1):
        changed = await change(client, appointment, {"expectedVersion": version, "status": then})
        assert (changed.status_code, changed.json()["status"], changed.json()["version"]) == (200, then, version + 1)
    other = await create(client)
    response = await change(client, appointment, {"expectedVersion": 4, "status": "confirmed"})
    assert refusal(response) == (409, "SLOT_UNAVAILABLE")
    assert response.json()["detail"] == "The selected time slot is no longer available"
    await cancel(client, other, ADMIN)
    assert (await change(client, appointment, {"expectedVersion": 4, "status": "confirmed"})).status_code == 200
    actions = [entry["action"] for entry in await audit_trail(client, appointment)]
    assert actions == ["created", status, "confirmed", status, "confirmed"]


@pytest.mark.parametrize("status", ["completed", "no_show", "cancelled"])
async def test_an_ended_appointment_keeps_its_slot_and_status(
    client: httpx2.AsyncClient, database: TestDatabase, status: str
) -> None:
    """Its notes can still be changed, and its room is free."""
    database.make_service()
    appointment = await create(client)
    database.freeze_clock(at(10))
    ended = await change(client, appointment, {"expectedVersion": 1, "status": status})
    assert (ended.status_code, ended.json()["status"]) == (200, status)
    other = "confirmed" if status == "cancelled" else "cancelled"
    for body in ({"slotStart": timestamp(at(12))}, {"status": other}, {"quantity": 2}):
        response = await change(client, appointment, {"expectedVersion": 2, **body})
        assert refusal(response) == (409, "APPOINTMENT_ENDED")
        assert response.json()["appointmentStatus"] == status
    response = await change(client, appointment, {"expectedVersion": 2, "notes": "left an umbrella"})
    assert (response.status_code, response.json()["version"]) == (200, 3)
    await create(client)
    assert [entry["action"] for entry in await audit_trail(client, appointment)] == ["created", status, "changed"]


async def test_only_staff_change(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Requests without a key and readonly keys are refused."""
    database.make_service()
    appointment = await create(client)
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}"
    body = {"expectedVersion": 1, "notes": "window"}
    readonly, staff = await make_key(client, "readonly"), await make_key(client, "staff")
    assert refusal(await client.patch(address, json=body)) == (401, "UNAUTHORIZED")
    assert refusal(await client.patch(address, json=body, headers=bearer(readonly["key"]))) == (403, "FORBIDDEN")
    assert (await client.patch(address, json=body, headers=bearer(staff["key"]))).status_code == 200


async def test_the_service_of_an_appointment_is_changed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The guest, the id and the trail stay; the length, the resource and the room are those of the new service."""
    database.make_service(resource_ids=["anna"])
    database.make_service("perm", duration_minutes=120, resource_ids=["anna", "bert"])
    appointment = await create(client, guestName="Ada")
    response = await change(client, appointment, {"expectedVersion": 1, "serviceId": "perm"})
    assert (response.status_code, response.headers["etag"]) == (200, '"2"')
    changed = response.json()
    new = {"serviceId": "perm", "slotEnd": timestamp(at(12)), "version": 2, "updatedAt": changed["updatedAt"]}
    assert changed == {**appointment, **new}
    assert await read(client, appointment) == changed
    entry = (await audit_trail(client, appointment))[1]
    assert entry["changes"]["serviceId"] == {"before": "cut", "after": "perm"}
    assert (await client.post("/api/booking/reserve", json=slot(10))).status_code == 409
    await create(client, 10, serviceId="perm")


async def test_a_service_that_has_no_room_is_refused(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """With alternatives in that service; an unknown one is a 404, and null is a fault of the request."""
    database.make_service()
    database.make_service("perm", duration_minutes=60)
    await create(client, 10, serviceId="perm")
    appointment = await create(client)
    response = await change(client, appointment, {"expectedVersion": 1, "serviceId": "perm"})
    assert refusal(response) == (409, "SLOT_UNAVAILABLE")
    starts = [alternative["slotStart"] for alternative in response.json()["alternatives"]]
    assert timestamp(at(11)) in starts
    assert timestamp(at(10)) not in starts
    response = await change(client, appointment, {"expectedVersion": 1, "serviceId": "nothing"})
    assert refusal(response) == (404, "SERVICE_NOT_FOUND")
    assert faulty_fields(await change(client, appointment, {"expectedVersion": 1, "serviceId": None})) == ["serviceId"]
    assert await read(client, appointment) == appointment
