"""Appointments as a business creates and reads them."""

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import (
    APPOINTMENTS,
    MONDAY,
    audit_trail,
    book,
    cancel,
    change,
    commit,
    create,
    list_day,
    read,
    reserve,
    slot,
    timestamp,
)
from tests.http.conftest import ADMIN
from tests.http.describing import Json
from tests.http.keys import BUSINESSES, bearer, make_key
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio


async def test_an_appointment_is_created_without_a_hold(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A guest's name alone is enough; every other member is stored as sent, and the slot is occupied."""
    database.make_service()
    guest: Json = {"guestName": "Ada", "guestPhone": "030 1234567", "notes": "by the window", "metadata": {"price": 40}}
    appointment = await create(client, **guest, source="phone")
    assert {name: appointment[name] for name in guest} == {**guest, "guestPhone": "+49301234567"}
    assert (appointment["status"], appointment["version"], appointment["source"]) == ("confirmed", 1, "phone")
    assert (appointment["slotStart"], appointment["slotEnd"]) == (timestamp(at(10)), timestamp(at(11)))
    assert (appointment["reservationId"], appointment["guestEmail"]) == (None, None)
    response = await client.post(APPOINTMENTS, json=slot(10.5), headers=ADMIN)
    assert refusal(response) == (409, "SLOT_UNAVAILABLE")
    assert response.json()["detail"] == "The selected time slot is no longer available"
    assert (await create(client, 11))["source"] == "manual"


async def test_the_rules_for_guests_do_not_bind_the_business(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Staff may record an appointment in the past, at short notice or for a closed service; only room is still
    required."""
    database.make_service(booking_enabled=False, min_notice_minutes=365 * 24 * 60, max_duration_minutes=60)
    database.put_hours([(2, "09:00", "10:00")])
    await create(client, 10)
    await create(client, -24 * 60)
    await create(client, 12, slotEnd=timestamp(at(15)))
    assert refusal(await client.post(APPOINTMENTS, json=slot(14), headers=ADMIN)) == (409, "SLOT_UNAVAILABLE")


@pytest.mark.parametrize("place", ["body", "header", "both"])
async def test_the_same_key_creates_one_appointment(
    client: httpx2.AsyncClient, database: TestDatabase, place: str
) -> None:
    """A retry returns the first result with Idempotency-Replayed, whether the key is in the header, in the body or in
    both."""
    database.make_service(capacity=5)
    body = slot(idempotencyKey="k") if place != "header" else slot()
    headers = ADMIN | ({"Idempotency-Key": "k"} if place != "body" else {})
    first = await client.post(APPOINTMENTS, json=body, headers=headers)
    second = await client.post(APPOINTMENTS, json=body, headers=headers)
    assert (first.status_code, second.status_code) == (201, 200)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json() == first.json()
    other = await client.post(APPOINTMENTS, json={**body, "notes": "another"}, headers=headers)
    assert refusal(other) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert database.value("SELECT count(*) FROM booking.appointments") == 1


async def test_two_different_idempotency_keys_are_refused(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A request cannot name two attempts, one in the header and another in the body."""
    database.make_service()
    response = await client.post(APPOINTMENTS, json=slot(idempotencyKey="a"), headers=ADMIN | {"Idempotency-Key": "b"})
    assert refusal(response) == (400, "IDEMPOTENCY_KEY_MISMATCH")


async def test_after_a_cancellation_a_new_key_books_the_slot_again(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The old key still returns the old appointment, in its present state."""
    database.make_service()
    first = await create(client, idempotencyKey="a")
    await cancel(client, first, ADMIN)
    second = await create(client, idempotencyKey="b")
    assert second["appointmentId"] != first["appointmentId"]
    replay = await client.post(APPOINTMENTS, json=slot(idempotencyKey="a"), headers=ADMIN)
    assert (replay.status_code, replay.json()["status"]) == (200, "cancelled")
    assert replay.json()["appointmentId"] == first["appointmentId"]


async def test_only_staff_create(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The audit trail names the key that created the appointment."""
    database.make_service(capacity=5)
    staff, readonly = await make_key(client, "staff"), await make_key(client, "readonly")
    assert refusal(await client.post(APPOINTMENTS, json=slot())) == (401, "UNAUTHORIZED")
    response = await client.post(APPOINTMENTS, json=slot(), headers=bearer(readonly["key"]))
    assert refusal(response) == (403, "FORBIDDEN")
    response = await client.post(APPOINTMENTS, json=slot(), headers=bearer(staff["key"]))
    assert response.status_code == 201
    [entry] = await audit_trail(client, response.json())
    assert entry["actor"] == {"kind": "staff", "id": staff["keyId"], "name": "The staff's"}


async def test_a_creation_returns_its_location_and_etag(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The ETag is enough for the next change, without reading the appointment again; a replay has the present ETag and
    no Location."""
    database.make_service()
    headers = ADMIN | {"Idempotency-Key": "k"}
    created = await client.post(APPOINTMENTS, json=slot(), headers=headers)
    assert created.headers["location"] == f"{APPOINTMENTS}/{created.json()['appointmentId']}"
    changed = await change(client, created.json(), {"notes": "window"}, created.headers["etag"])
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    replay = await client.post(APPOINTMENTS, json=slot(), headers=headers)
    assert (replay.status_code, replay.headers["etag"]) == (200, '"2"')
    assert "location" not in replay.headers


@pytest.mark.parametrize("slot_start", ["1900-01-01T00:00:00Z", "2999-12-31T23:59:59Z"])
async def test_the_first_and_the_last_slot_can_be_shown(
    client: httpx2.AsyncClient, database: TestDatabase, slot_start: str
) -> None:
    """With the longest terms and slot, in the answer, in the list and in the feed; its end can be sent back."""
    minutes = ("duration_minutes", "min_duration_minutes", "max_duration_minutes", "slot_step_minutes")
    by_days: Json = {**dict.fromkeys(minutes), "duration_days": 366}
    database.make_service(**by_days, cancellation_window_minutes=527_040)
    created = await client.post(APPOINTMENTS, json=slot(slotStart=slot_start), headers=ADMIN)
    assert created.status_code == 201, created.text
    times = {"businessId": "salon", "from": "0001-01-01T00:00:00Z", "to": "9998-12-31T00:00:00Z"}
    listed = await client.get(APPOINTMENTS, params=times, headers=ADMIN)
    assert [entry["slotEnd"] for entry in listed.json()["items"]] == [created.json()["slotEnd"]]
    feeds = await client.get("/api/catalog/businesses/salon/calendar-feeds", headers=ADMIN)
    assert (await client.get(feeds.json()["items"][0]["path"])).status_code == 200
    end = created.json()["slotEnd"]
    capacity = {"businessId": "salon", "serviceId": "cut", "slotStart": slot_start, "slotEnd": end}
    assert (await client.get("/api/booking/capacity", params=capacity)).status_code == 200
    changed = await change(client, created.json(), {"expectedVersion": 1, "slotEnd": end, "notes": "window"})
    assert (changed.status_code, changed.json().get("slotEnd")) == (200, end)


@pytest.mark.parametrize(
    ("members", "faulty"),
    [
        ({"slotEnd": timestamp(at(10))}, "slotEnd"),
        ({"slotEnd": timestamp(at(10, day=31))}, "slotEnd"),
        ({"slotStart": "9999-12-31T23:30:00Z"}, "slotStart"),
        ({"slotStart": "0001-01-01T00:00:00Z"}, "slotStart"),
        ({"slotStart": "9998-12-31T23:30:00Z"}, "slotStart"),
        ({"source": ""}, "source"),
        ({"source": "a b"}, "source"),
        ({"ttlMinutes": 5}, "ttlMinutes"),
        ({"manual": False}, "manual"),
        ({"guestPhone": "030"}, "guestPhone"),
        ({"guestPhone": "+49 30 1234567 ext. 5"}, "guestPhone"),
        ({"quantity": 0}, "quantity"),
    ],
)
async def test_a_faulty_creation_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, members: Json, faulty: str
) -> None:
    """The answer is a 400 with the field, and no appointment is created."""
    database.make_service()
    response = await client.post(APPOINTMENTS, json=slot(**members), headers=ADMIN)
    assert faulty_fields(response) == [faulty]
    assert database.value("SELECT count(*) FROM booking.appointments") == 0


async def test_a_resource_belongs_to_the_service_and_is_booked_singly(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """A resource outside the service's pool is a 404 and a quantity of two is a fault; without a name, each free
    resource is assigned in turn."""
    database.make_service(resource_ids=["rosa", "maria"])
    database.make_resource("otto")
    for unknown in ("nobody", "otto"):
        response = await client.post(APPOINTMENTS, json=slot(resourceId=unknown), headers=ADMIN)
        assert refusal(response) == (404, "RESOURCE_NOT_FOUND")
    assert faulty_fields(await client.post(APPOINTMENTS, json=slot(quantity=2), headers=ADMIN)) == ["quantity"]
    assert (await create(client, resourceId="rosa"))["resourceId"] == "rosa"
    assert (await create(client))["resourceId"] == "maria"
    response = await client.post(APPOINTMENTS, json=slot(), headers=ADMIN)
    assert refusal(response) == (409, "SLOT_UNAVAILABLE")
    assert response.json()["alternatives"][0]["resourceIds"]


@pytest.mark.parametrize("member", ["businessId", "serviceId"])
async def test_an_unknown_service_is_a_404(client: httpx2.AsyncClient, database: TestDatabase, member: str) -> None:
    """An unknown business and an unknown service get the same answer."""
    database.make_service()
    response = await client.post(APPOINTMENTS, json={**slot(), member: "nobody"}, headers=ADMIN)
    assert refusal(response) == (404, "SERVICE_NOT_FOUND")


async def test_one_appointment_is_read_with_its_version(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The ETag of an answer is what If-Match expects."""
    database.make_service()
    appointment = await create(client, guestName="Ada")
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}"
    response = await client.get(address, headers=ADMIN)
    assert (response.status_code, response.headers["etag"]) == (200, '"1"')
    assert response.json() == appointment
    changed = await change(client, appointment, {"notes": "window"}, response.headers["etag"])
    assert changed.headers["etag"] == '"2"'
    assert (await client.get(address, headers=ADMIN)).headers["etag"] == '"2"'
    assert refusal(await client.get(address)) == (401, "UNAUTHORIZED")


async def test_only_the_guest_receives_the_cancellation_token(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Commits, one-call and manual bookings return it, replays included. No other answer does, so those who only read
    cannot cancel in the guest's name."""
    database.make_service()
    held = await reserve(client, 9)
    committed = (await commit(client, held["reservationId"])).json()
    again = await commit(client, held["reservationId"])
    assert again.json()["cancellationToken"] == committed["cancellationToken"]
    booked = await book(client, 10, idempotencyKey="k")
    replay = await client.post("/api/bookings", json=slot(10, guestEmail="ada@example.com", idempotencyKey="k"))
    assert replay.json()["cancellationToken"] == booked["cancellationToken"]
    by_phone = [
        await client.post(APPOINTMENTS, json=slot(12, guestName="Ada", idempotencyKey="p"), headers=ADMIN)
        for _ in range(2)
    ]
    assert [response.status_code for response in by_phone] == [201, 200]
    [phone_token] = {response.json()["cancellationToken"] for response in by_phone}
    assert (await cancel(client, by_phone[0].json(), cancellationToken=phone_token)).status_code == 200

    token = booked["cancellationToken"]
    address = f"{APPOINTMENTS}/{booked['appointmentId']}"
    changed = await change(client, booked, {"expectedVersion": 1, "notes": "window"})
    cancelled = await cancel(client, booked, cancellationToken=token)
    assert (changed.status_code, cancelled.status_code) == (200, 200)
    texts = [changed.text, cancelled.text, (await client.get(address, headers=ADMIN)).text]
    texts += [str(await list_day(client)), str(await audit_trail(client, booked))]
    texts += [(await client.get(f"/api/booking/reservations/{held['reservationId']}")).text]
    for text in texts:
        assert "cancellationToken" not in text
        assert token not in text


async def test_only_callers_that_may_cancel_see_the_id_of_the_hold(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """A second commit with the id returns the cancellation token. So lists, answers to readonly keys and answers to a
    guest's cancellation leave the id out."""
    database.make_service()
    held = await reserve(client)
    booked = (await commit(client, held["reservationId"])).json()
    address = f"{APPOINTMENTS}/{booked['appointmentId']}"
    hold_ids = {}
    for role in ("staff", "readonly"):
        key = bearer((await make_key(client, role))["key"])
        hold_ids[role] = (await client.get(address, headers=key)).json()["reservationId"]
    assert hold_ids == {"staff": held["reservationId"], "readonly": None}
    assert [item["reservationId"] for item in (await list_day(client))["items"]] == [None]
    cancelled = await cancel(client, booked, cancellationToken=booked["cancellationToken"])
    assert cancelled.json()["reservationId"] is None


async def test_a_readonly_key_never_sees_the_id_of_a_hold(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The id is in no list and no audit trail, because a second commit with it returns the cancellation token."""
    database.make_service()
    held = (await client.post("/api/booking/reserve", json=slot(10))).json()["reservationId"]
    body = {"reservationId": held, "guestEmail": "ada@example.com"}
    appointment = (await client.post("/api/booking/commit", json=body)).json()
    key = await client.post(f"{BUSINESSES}/salon/keys", json={"name": "screen", "role": "readonly"}, headers=ADMIN)
    readonly = {"Authorization": f"Bearer {key.json()['key']}"}
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}"
    assert (await client.get(address, headers=ADMIN)).json()["reservationId"] == held
    for response in (
        await client.get(address, headers=readonly),
        await client.get(f"{address}/audit", headers=readonly),
        await client.get(APPOINTMENTS, params=MONDAY, headers=readonly),
        await client.get(APPOINTMENTS, params=MONDAY, headers=ADMIN),
    ):
        assert response.status_code == 200
        assert held not in response.text


@pytest.mark.parametrize(
    "appointment_id", ["7645efae-f845-46c9-af3d-37456e00aa87", "no-uuid", "%00", "00000000-0000-0000-0000-00000000000g"]
)
async def test_an_unknown_appointment_is_a_404(
    client: httpx2.AsyncClient, database: TestDatabase, appointment_id: str
) -> None:
    """Every call refuses an unknown or malformed id, with or without a business in the query."""
    database.make_service()
    address = f"{APPOINTMENTS}/{appointment_id}"
    for query in ({}, {"businessId": "salon"}, {"businessId": "nobody"}):
        for response in (
            await client.get(address, headers=ADMIN, params=query),
            await client.get(address + "/audit", headers=ADMIN, params=query),
            await client.patch(address, headers=ADMIN, params=query, json={"expectedVersion": 1}),
            await client.post(address + "/cancel", headers=ADMIN, params=query, json={}),
            await client.delete(address + "/guest", headers=ADMIN, params=query),
        ):
            assert refusal(response) == (404, "APPOINTMENT_NOT_FOUND")


async def test_a_named_business_makes_the_lookup_unnecessary(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Without a business the service looks up the appointment's; with one it searches that business only, and another's
    appointment is not found."""
    database.make_service()
    database.make_business("clinic")
    appointment = database.book(10).id
    address = f"{APPOINTMENTS}/{appointment}"
    assert (await client.get(address, headers=ADMIN, params={"businessId": "clinic"})).status_code == 404
    assert (await client.get(address, headers=ADMIN)).json()["businessId"] == "salon"

    database.rows(
        "CREATE OR REPLACE FUNCTION booking.business_of_appointment(p_appointment_id uuid) RETURNS text "
        "LANGUAGE plpgsql AS $$ BEGIN RAISE 'looked up'; END $$"
    )
    unknown_to_this_process = f"{APPOINTMENTS}/{database.book(12).id}"
    response = await client.get(unknown_to_this_process, headers=ADMIN, params={"businessId": "salon"})
    assert response.status_code == 200


async def test_another_businesss_key_finds_no_appointment(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The answer is a 404 and not a 403, which would reveal that the appointment exists; and nothing is changed."""
    database.make_service()
    database.make_business("clinic")
    own, stranger = await make_key(client, "owner"), bearer((await make_key(client, "owner", "clinic"))["key"])
    appointment = await create(client)
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}"
    for query, code in (({}, "APPOINTMENT_NOT_FOUND"), ({"businessId": "salon"}, "BUSINESS_NOT_FOUND")):
        for response in (
            await client.get(address, headers=stranger, params=query),
            await client.get(address + "/audit", headers=stranger, params=query),
            await client.patch(address, headers=stranger, params=query, json={"expectedVersion": 1, "notes": "x"}),
            await client.post(address + "/cancel", headers=stranger, params=query, json={}),
            await client.delete(address + "/guest", headers=stranger, params=query),
        ):
            assert refusal(response) == (404, code)
    assert refusal(await client.post(APPOINTMENTS, json=slot(12), headers=stranger)) == (404, "BUSINESS_NOT_FOUND")
    assert await read(client, appointment) == appointment
    assert (await client.get(address, headers=bearer(own["key"]))).status_code == 200
