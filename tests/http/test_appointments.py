"""Appointments as the business meets them: created, read, listed, changed, cancelled, erased, and their trail."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from pydantic import SecretStr

from service.booking.tokens import CancellationTokens
from tests.database import TestDatabase, at
from tests.http.conftest import ADMIN
from tests.http.test_holds import commit, reserve, slot
from tests.http.test_keys import bearer, make_key

pytestmark = pytest.mark.anyio

KEYS = "/api/catalog/businesses/salon/keys"

Json = dict[str, Any]

APPOINTMENTS = "/api/booking/appointments"


def written(instant: datetime) -> str:
    """An instant as answers have it."""
    return instant.isoformat().replace("+00:00", "Z")


async def create(client: httpx2.AsyncClient, hour: float = 10, **members: Any) -> Json:
    """Creates an appointment as the business does, and returns it."""
    response = await client.post(APPOINTMENTS, json=slot(hour, **members), headers=ADMIN)
    assert response.status_code == 201, response.text
    appointment: Json = response.json()
    return appointment


async def book(client: httpx2.AsyncClient, hour: float = 10, **members: Any) -> Json:
    """Books as a guest does, and returns the appointment with its token."""
    body = slot(hour, guestEmail="ada@example.com", **members)
    response = await client.post("/api/bookings", json=body)
    assert response.status_code == 201, response.text
    appointment: Json = response.json()
    return appointment


async def change(
    client: httpx2.AsyncClient, appointment: Json, body: Json, if_match: str | None = None
) -> httpx2.Response:
    """Changes an appointment as the business does."""
    headers = ADMIN | ({"If-Match": if_match} if if_match is not None else {})
    return await client.patch(f"{APPOINTMENTS}/{appointment['appointmentId']}", json=body, headers=headers)


async def cancel(
    client: httpx2.AsyncClient, appointment: Json, headers: dict[str, str] | None = None, **members: Any
) -> httpx2.Response:
    """Cancels an appointment, without a key if none is given."""
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}/cancel"
    return await client.post(address, json=members, headers=headers or {})


async def get(client: httpx2.AsyncClient, appointment: Json) -> Json:
    """An appointment as it is now."""
    response = await client.get(f"{APPOINTMENTS}/{appointment['appointmentId']}", headers=ADMIN)
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


async def list_all(client: httpx2.AsyncClient, **query: Any) -> Json:
    """The first page of the Monday of the tests, if the query does not say otherwise."""
    day = {"businessId": "salon", "from": written(at(0)), "to": written(at(24))}
    response = await client.get(APPOINTMENTS, params={**day, **query}, headers=ADMIN)
    assert response.status_code == 200, response.text
    page: Json = response.json()
    return page


async def trail(client: httpx2.AsyncClient, appointment: Json) -> list[Json]:
    """The audit trail of an appointment."""
    response = await client.get(f"{APPOINTMENTS}/{appointment['appointmentId']}/audit", headers=ADMIN)
    assert response.status_code == 200, response.text
    items: list[Json] = response.json()["items"]
    return items


def told(response: httpx2.Response) -> tuple[int, str]:
    """The status and the code of a refusal."""
    return response.status_code, response.json()["code"]


def fields(response: httpx2.Response) -> list[str]:
    """The fields that a validation problem names."""
    assert told(response) == (400, "VALIDATION_FAILED")
    return [fault["field"] for fault in response.json()["errors"]]


# Creation.


async def test_an_appointment_is_created_without_a_hold(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """With all that is known of its guest, who may be no more than a name; and the slot is taken."""
    database.make_service()
    guest: Json = {"guestName": "Ada", "guestPhone": "030 1234567", "notes": "by the window", "metadata": {"price": 40}}
    appointment = await create(client, **guest, source="phone")
    assert {name: appointment[name] for name in guest} == {**guest, "guestPhone": "+49301234567"}
    assert (appointment["status"], appointment["version"], appointment["source"]) == ("confirmed", 1, "phone")
    assert (appointment["slotStart"], appointment["slotEnd"]) == (written(at(10)), written(at(11)))
    assert (appointment["reservationId"], appointment["guestEmail"]) == (None, None)
    assert "cancellationToken" not in appointment
    response = await client.post(APPOINTMENTS, json=slot(10.5), headers=ADMIN)
    assert told(response) == (409, "SLOT_UNAVAILABLE")
    assert response.json()["detail"] == "The selected time slot is no longer available"
    assert (await create(client, 11))["source"] == "manual"


async def test_what_binds_the_public_does_not_bind_the_business(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The past, notice, a closed service: somebody walked in, and it has to be written down. Room binds everybody."""
    database.make_service(booking_enabled=False, min_notice_minutes=365 * 24 * 60, max_duration_minutes=60)
    database.put_hours([(2, "09:00", "10:00")])
    await create(client, 10)
    await create(client, -24 * 60)
    await create(client, 12, slotEnd=written(at(15)))
    assert told(await client.post(APPOINTMENTS, json=slot(14), headers=ADMIN)) == (409, "SLOT_UNAVAILABLE")


@pytest.mark.parametrize("place", ["body", "header", "both"])
async def test_the_same_key_creates_one_appointment(
    client: httpx2.AsyncClient, database: TestDatabase, place: str
) -> None:
    """A retry gets the first result again, marked as such, wherever the key came."""
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
    assert told(other) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert database.value("SELECT count(*) FROM booking.appointments") == 1


async def test_keys_that_differ_are_refused(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A header and a body that name different attempts can't both be right."""
    database.make_service()
    response = await client.post(APPOINTMENTS, json=slot(idempotencyKey="a"), headers=ADMIN | {"Idempotency-Key": "b"})
    assert told(response) == (400, "IDEMPOTENCY_KEY_MISMATCH")


async def test_after_a_cancellation_a_new_key_books_the_slot_again(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """And the old key still names the old attempt, as it is now."""
    database.make_service()
    first = await create(client, idempotencyKey="a")
    await cancel(client, first, ADMIN)
    second = await create(client, idempotencyKey="b")
    assert second["appointmentId"] != first["appointmentId"]
    replay = await client.post(APPOINTMENTS, json=slot(idempotencyKey="a"), headers=ADMIN)
    assert (replay.status_code, replay.json()["status"]) == (200, "cancelled")
    assert replay.json()["appointmentId"] == first["appointmentId"]


async def test_only_staff_create(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The trail names the key that did it."""
    database.make_service(capacity=5)
    staff, readonly = await make_key(client, "staff"), await make_key(client, "readonly")
    assert told(await client.post(APPOINTMENTS, json=slot())) == (401, "UNAUTHORIZED")
    response = await client.post(APPOINTMENTS, json=slot(), headers=bearer(readonly["key"]))
    assert told(response) == (403, "FORBIDDEN")
    response = await client.post(APPOINTMENTS, json=slot(), headers=bearer(staff["key"]))
    assert response.status_code == 201
    [entry] = await trail(client, response.json())
    assert entry["actor"] == {"kind": "staff", "id": staff["keyId"]}


async def test_what_is_created_is_told_with_its_place_and_its_version(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """What it takes to change it, without reading it again."""
    database.make_service()
    headers = ADMIN | {"Idempotency-Key": "k"}
    created = await client.post(APPOINTMENTS, json=slot(), headers=headers)
    assert created.headers["location"] == f"{APPOINTMENTS}/{created.json()['appointmentId']}"
    changed = await change(client, created.json(), {"notes": "window"}, created.headers["etag"])
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    replay = await client.post(APPOINTMENTS, json=slot(), headers=headers)
    assert (replay.status_code, replay.headers["etag"]) == (200, '"2"')
    assert "location" not in replay.headers


@pytest.mark.parametrize(
    ("members", "faulty"),
    [
        ({"slotEnd": written(at(10))}, "slotEnd"),
        ({"slotEnd": written(at(10, day=31))}, "slotEnd"),
        ({"slotStart": "9999-12-31T23:30:00Z"}, "slotStart"),
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
    """400 and the field, and nothing was made."""
    database.make_service()
    response = await client.post(APPOINTMENTS, json=slot(**members), headers=ADMIN)
    assert fields(response) == [faulty]
    assert database.value("SELECT count(*) FROM booking.appointments") == 0


async def test_a_resource_is_one_of_the_service_and_taken_one_at_a_time(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """An unknown one is a 404, two at once a fault; without a name any free one comes, then none."""
    database.make_service(resource_ids=["rosa", "maria"])
    database.make_resource("otto")
    for unknown in ("nobody", "otto"):
        response = await client.post(APPOINTMENTS, json=slot(resourceId=unknown), headers=ADMIN)
        assert told(response) == (404, "RESOURCE_NOT_FOUND")
    assert fields(await client.post(APPOINTMENTS, json=slot(quantity=2), headers=ADMIN)) == ["quantity"]
    assert (await create(client, resourceId="rosa"))["resourceId"] == "rosa"
    assert (await create(client))["resourceId"] == "maria"
    response = await client.post(APPOINTMENTS, json=slot(), headers=ADMIN)
    assert told(response) == (409, "SLOT_UNAVAILABLE")
    assert response.json()["alternatives"][0]["resourceIds"]


@pytest.mark.parametrize("member", ["businessId", "serviceId"])
async def test_an_unknown_service_is_a_404(client: httpx2.AsyncClient, database: TestDatabase, member: str) -> None:
    """An unknown business is not told apart from an unknown service."""
    database.make_service()
    response = await client.post(APPOINTMENTS, json={**slot(), member: "nobody"}, headers=ADMIN)
    assert told(response) == (404, "SERVICE_NOT_FOUND")


# Reading.


async def test_one_appointment_is_read_with_its_version(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The ETag is what If-Match wants."""
    database.make_service()
    appointment = await create(client, guestName="Ada")
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}"
    response = await client.get(address, headers=ADMIN)
    assert (response.status_code, response.headers["etag"]) == (200, '"1"')
    assert response.json() == appointment
    changed = await change(client, appointment, {"notes": "window"}, response.headers["etag"])
    assert changed.headers["etag"] == '"2"'
    assert (await client.get(address, headers=ADMIN)).headers["etag"] == '"2"'
    assert told(await client.get(address)) == (401, "UNAUTHORIZED")


async def test_the_token_is_told_to_the_guest_and_to_nobody_else(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """It is in the answers to commit and to one-call booking, replays included; who reads the calendar can't cancel
    in the guest's name."""
    database.make_service()
    held = await reserve(client, 9)
    committed = (await commit(client, held["reservationId"])).json()
    again = await commit(client, held["reservationId"])
    assert again.json()["cancellationToken"] == committed["cancellationToken"]
    booked = await book(client, 10, idempotencyKey="k")
    replay = await client.post("/api/bookings", json=slot(10, guestEmail="ada@example.com", idempotencyKey="k"))
    assert replay.json()["cancellationToken"] == booked["cancellationToken"]

    token = booked["cancellationToken"]
    address = f"{APPOINTMENTS}/{booked['appointmentId']}"
    changed = await change(client, booked, {"expectedVersion": 1, "notes": "window"})
    cancelled = await cancel(client, booked, cancellationToken=token)
    assert (changed.status_code, cancelled.status_code) == (200, 200)
    texts = [changed.text, cancelled.text, (await client.get(address, headers=ADMIN)).text]
    texts += [str(await list_all(client)), str(await trail(client, booked)), str(await create(client, 10))]
    texts += [(await client.get(f"/api/booking/reservations/{held['reservationId']}")).text]
    for text in texts:
        assert "cancellationToken" not in text
        assert token not in text


async def test_the_hold_of_an_appointment_is_named_only_to_those_who_may_cancel_it(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """With its id anybody can commit it again and be told the cancellation token: so no listing shows it, and neither
    a key that only reads nor a guest's own cancellation is told."""
    database.make_service()
    held = await reserve(client)
    booked = (await commit(client, held["reservationId"])).json()
    address = f"{APPOINTMENTS}/{booked['appointmentId']}"
    told_to = {}
    for role in ("staff", "readonly"):
        key = bearer((await make_key(client, role))["key"])
        told_to[role] = (await client.get(address, headers=key)).json()["reservationId"]
    assert told_to == {"staff": held["reservationId"], "readonly": None}
    assert [item["reservationId"] for item in (await list_all(client))["items"]] == [None]
    cancelled = await cancel(client, booked, cancellationToken=booked["cancellationToken"])
    assert cancelled.json()["reservationId"] is None


async def test_a_hold_is_named_to_nobody_who_may_only_read(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """With its id the hold can be committed again, and that tells the token that cancels: so it is in no list, in no
    trail, and in no answer to a readonly key."""
    database.make_service()
    held = (await client.post("/api/booking/reserve", json=slot(10))).json()["reservationId"]
    body = {"reservationId": held, "guestEmail": "ada@example.com"}
    appointment = (await client.post("/api/booking/commit", json=body)).json()
    key = await client.post(f"{KEYS}", json={"name": "screen", "role": "readonly"}, headers=ADMIN)
    readonly = {"Authorization": f"Bearer {key.json()['key']}"}
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}"
    assert (await client.get(address, headers=ADMIN)).json()["reservationId"] == held
    day = {"businessId": "salon", "from": written(at(0)), "to": written(at(24))}
    for response in (
        await client.get(address, headers=readonly),
        await client.get(f"{address}/audit", headers=readonly),
        await client.get(APPOINTMENTS, params=day, headers=readonly),
        await client.get(APPOINTMENTS, params=day, headers=ADMIN),
    ):
        assert response.status_code == 200
        assert held not in response.text


@pytest.mark.parametrize("appointment_id", [str(uuid4()), "no-uuid", "%00", "00000000-0000-0000-0000-00000000000g"])
async def test_an_unknown_appointment_is_a_404(
    client: httpx2.AsyncClient, database: TestDatabase, appointment_id: str
) -> None:
    """Whatever the call, and whatever stands in the place of the id."""
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
            assert told(response) == (404, "APPOINTMENT_NOT_FOUND")


async def test_a_business_that_is_named_spares_the_look_up(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Without one, all are looked through; with one, only that one is: even for what another one has."""
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


async def test_to_another_businesss_key_an_appointment_is_not_there(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """404, not 403: that it exists is nobody's business. And nothing was changed."""
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
            assert told(response) == (404, code)
    assert told(await client.post(APPOINTMENTS, json=slot(12), headers=stranger)) == (404, "BUSINESS_NOT_FOUND")
    assert await get(client, appointment) == appointment
    assert (await client.get(address, headers=bearer(own["key"]))).status_code == 200


# The calendar.


async def test_what_is_committed_is_in_the_calendar_at_once(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """There is no moment in which a business does not see what was promised to a guest."""
    database.make_service(capacity=20)
    for number in range(1, 6):
        held = await reserve(client)
        committed = (await commit(client, held["reservationId"])).json()
        items = (await list_all(client))["items"]
        assert len(items) == number
        assert committed["appointmentId"] in [item["appointmentId"] for item in items]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_the_calendar_is_walked_page_by_page(
    client: httpx2.AsyncClient, database: TestDatabase, limit: int
) -> None:
    """Everything is seen once, by start, also where many start at one instant; what comes meanwhile is no hindrance."""
    database.make_service(capacity=5)
    for hour in (12, 9, 9, 10, 9, 10, 9):
        database.book(hour)
    database.book(24)
    database.book(-1)
    expected = database.rows(
        "SELECT appointment_id::text FROM booking.appointments WHERE slot_start >= %s AND slot_start < %s "
        "ORDER BY slot_start, appointment_id",
        at(0),
        at(24),
    )
    seen, cursor, pages = [], None, 0
    while True:
        page = await list_all(client, limit=limit, **({"cursor": cursor} if cursor else {}))
        seen += [item["appointmentId"] for item in page["items"]]
        cursor, pages = page["nextCursor"], pages + 1
        if pages == 1:
            database.book(6)
        if cursor is None:
            break
    assert [(appointment_id,) for appointment_id in seen] == expected
    assert pages == -(-7 // limit)


async def test_the_calendar_is_half_open(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """What starts at `to` is on the next page of the diary, and on no two."""
    database.make_service()
    database.book(10)
    assert len((await list_all(client, **{"from": written(at(10)), "to": written(at(11))}))["items"]) == 1
    assert (await list_all(client, to=written(at(10))))["items"] == []
    assert (await list_all(client, **{"from": written(at(10.01))}))["items"] == []


async def test_the_calendar_can_be_filtered(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """By resource and by status; what is cancelled is in it too, until somebody asks for less."""
    database.make_service(resource_ids=["rosa", "maria"])
    rosas = await create(client, 10, resourceId="rosa")
    marias = await create(client, 10, resourceId="maria")
    gone = await create(client, 12, resourceId="rosa")
    await cancel(client, gone, ADMIN)

    async def ids(**query: str) -> list[str]:
        return [item["appointmentId"] for item in (await list_all(client, **query))["items"]]

    rosa, maria, cancelled = (item["appointmentId"] for item in (rosas, marias, gone))
    assert set(await ids()) == {rosa, maria, cancelled}
    assert await ids(resourceId="maria") == [maria]
    assert set(await ids(resourceId="rosa")) == {rosa, cancelled}
    assert await ids(resourceId="rosa", status="confirmed") == [rosa]
    assert await ids(status="cancelled") == [cancelled]
    assert await ids(status="no_show") == []
    assert await ids(resourceId="nobody") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"to": written(at(0))}, "to"),
        ({"to": written(at(-1))}, "to"),
        ({"from": "2027-01-01"}, "from"),
        ({"status": "held"}, "status"),
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "!"}, "cursor"),
        ({"cursor": "\u00e4"}, "cursor"),
        ({"cursor": "MjAyNy0wMS0wMVQxMDowMDowMA"}, "cursor"),
        ({"cursor": "MjAyNy0wMS0wMVQxMDowMDowMCAwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDA"}, "cursor"),
        ({"cursor": "c" * 201}, "cursor"),
        ({"page": "2"}, "page"),
    ],
)
async def test_a_faulty_question_to_the_calendar_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, query: dict[str, str], field: str
) -> None:
    """A cursor that was cut off too; the last one but two lacks its id, and the last one its offset."""
    database.make_service()
    day = {"businessId": "salon", "from": written(at(0)), "to": written(at(24))}
    assert fields(await client.get(APPOINTMENTS, params={**day, **query}, headers=ADMIN)) == [field]


async def test_an_unknown_business_has_no_calendar(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Which is not the same as an empty one: the administrator may have misspelt it."""
    database.make_service()
    day = {"from": written(at(0)), "to": written(at(24))}
    unknown = await client.get(APPOINTMENTS, params={"businessId": "nobody", **day}, headers=ADMIN)
    assert told(unknown) == (404, "BUSINESS_NOT_FOUND")
    assert (await list_all(client)) == {"items": [], "nextCursor": None}


async def test_the_calendar_needs_a_key_of_the_business(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """It is full of guests."""
    database.make_service()
    database.make_business("clinic")
    day = {"businessId": "salon", "from": written(at(0)), "to": written(at(24))}
    readonly, stranger = await make_key(client, "readonly"), await make_key(client, "owner", "clinic")
    assert told(await client.get(APPOINTMENTS, params=day)) == (401, "UNAUTHORIZED")
    response = await client.get(APPOINTMENTS, params=day, headers=bearer(stranger["key"]))
    assert told(response) == (404, "BUSINESS_NOT_FOUND")
    assert (await client.get(APPOINTMENTS, params=day, headers=bearer(readonly["key"]))).status_code == 200


# Changes.


async def test_a_change_raises_the_version_by_one(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """What is not named stays as it is; null clears what an appointment can do without."""
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
    assert await get(client, appointment) == changed
    cleared = {"guestEmail": None, "guestPhone": None, "notes": None}
    changed = (await change(client, appointment, {"expectedVersion": 2, **cleared, "metadata": {}})).json()
    assert changed == {**appointment, **cleared, "guestName": None, "metadata": {}, "version": 3} | {
        "updatedAt": changed["updatedAt"]
    }


async def test_a_change_of_nothing_changes_nothing(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The version neither, nor the trail."""
    database.make_service()
    appointment = await create(client, guestName="Ada")
    for body in ({}, {"guestName": "Ada"}, {"slotStart": written(at(10))}, {"status": "confirmed"}):
        response = await change(client, appointment, {"expectedVersion": 1, **body})
        assert (response.status_code, response.json()) == (200, appointment)
    assert len(await trail(client, appointment)) == 1


async def test_a_stale_version_is_a_409_that_tells_the_current_one(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The second of two people who edited the same page learns that the first was there."""
    database.make_service()
    appointment = await create(client)
    assert (await change(client, appointment, {"expectedVersion": 1, "notes": "first"})).status_code == 200
    response = await change(client, appointment, {"expectedVersion": 1, "notes": "second"})
    assert told(response) == (409, "VERSION_CONFLICT")
    assert (response.json()["status"], response.json()["currentVersion"]) == (409, 2)
    assert told(await change(client, appointment, {"expectedVersion": 3, "notes": "x"})) == (409, "VERSION_CONFLICT")
    assert (await get(client, appointment))["notes"] == "first"


@pytest.mark.parametrize("if_match", ['"1"', 'W/"1"', ' "1" ', "*"])
async def test_the_version_may_come_as_if_match(
    client: httpx2.AsyncClient, database: TestDatabase, if_match: str
) -> None:
    """As ETag told it, strong or weak; or any, for those who don't care."""
    database.make_service()
    appointment = await create(client)
    response = await change(client, appointment, {"notes": "window"}, if_match)
    assert (response.status_code, response.json()["version"]) == (200, 2)


@pytest.mark.parametrize("if_match", ['"5"', 'W/"5"'])
async def test_a_stale_if_match_is_a_412(client: httpx2.AsyncClient, database: TestDatabase, if_match: str) -> None:
    """As HTTP has it; in everything else it is told like the 409."""
    database.make_service()
    appointment = await create(client)
    response = await change(client, appointment, {"notes": "window"}, if_match)
    assert told(response) == (412, "VERSION_CONFLICT")
    assert (response.json()["status"], response.json()["currentVersion"]) == (412, 1)
    assert (await get(client, appointment))["version"] == 1


@pytest.mark.parametrize("if_match", ["", "1", '"0"', '"-1"', '"one"', '"1', '"1", "2"', "W/1", '"99999999999"', "* *"])
async def test_a_malformed_if_match_is_a_400(client: httpx2.AsyncClient, database: TestDatabase, if_match: str) -> None:
    """Whoever sends one means to be protected: it is not ignored."""
    database.make_service()
    appointment = await create(client)
    assert fields(await change(client, appointment, {"notes": "window"}, if_match)) == ["If-Match"]


async def test_a_change_needs_one_version(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Two that differ can't both have been read, and without one nobody knows what was."""
    database.make_service()
    appointment = await create(client)
    assert fields(await change(client, appointment, {"notes": "window"})) == ["expectedVersion"]
    both = {"expectedVersion": 2, "notes": "window"}
    assert fields(await change(client, appointment, both, '"1"')) == ["expectedVersion"]
    response = await change(client, appointment, {**both, "expectedVersion": 1}, '"1"')
    assert (response.status_code, response.json()["version"]) == (200, 2)


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
        ("quantity", 0),
        ("expectedVersion", "1"),
        ("guestEmail", "ada"),
        ("guestPhone", "call me"),
        ("guestPhone", "030"),
        ("guestName", "\u0000"),
        ("serviceId", "perm"),
        ("version", 2),
        ("cancellationReason", "x"),
        ("unknown", 1),
    ],
)
async def test_a_faulty_change_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, member: str, value: Any
) -> None:
    """400 and the field. An appointment can't do without a slot, a quantity and a status; its service is what it is."""
    database.make_service()
    appointment = await create(client)
    assert fields(await change(client, appointment, {"expectedVersion": 1, member: value})) == [member]
    assert await get(client, appointment) == appointment


async def test_a_slot_that_is_moved_keeps_its_length(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """It may overlap itself; its old place is free at once; both ends may be moved."""
    database.make_service()
    appointment = await create(client, slotEnd=written(at(12)))
    moved = await change(client, appointment, {"expectedVersion": 1, "slotStart": written(at(11))})
    assert (moved.json()["slotStart"], moved.json()["slotEnd"]) == (written(at(11)), written(at(13)))
    await create(client, 10)
    both = {"slotStart": written(at(12)), "slotEnd": written(at(12.5))}
    moved = await change(client, appointment, {"expectedVersion": 2, **both})
    assert {name: moved.json()[name] for name in both} == both
    shorter = await change(client, appointment, {"expectedVersion": 3, "slotEnd": written(at(12.25))})
    assert shorter.json()["slotStart"] == written(at(12))
    for ends in (at(12), at(11)):
        response = await change(client, appointment, {"expectedVersion": 4, "slotEnd": written(ends)})
        assert fields(response) == ["slotEnd"]
    assert [entry["action"] for entry in await trail(client, appointment)] == ["created", *["rescheduled"] * 3]


async def test_a_move_onto_what_is_taken_is_refused_with_alternatives(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """It stays where it was, and the business is told in words that it knows."""
    database.make_service()
    appointment = await create(client, 10)
    await create(client, 12)
    response = await change(client, appointment, {"expectedVersion": 1, "slotStart": written(at(12))})
    assert told(response) == (409, "SLOT_UNAVAILABLE")
    assert response.json()["detail"] == "No available capacity for the new time slot"
    starts = [alternative["slotStart"] for alternative in response.json()["alternatives"]]
    assert 1 <= len(starts) <= 5
    assert written(at(12)) not in starts
    assert await get(client, appointment) == appointment


@pytest.mark.parametrize("resource_ids", [[], ["anna"]])
async def test_what_is_offered_instead_of_a_move_may_overlap_what_is_moved(
    client: httpx2.AsyncClient, database: TestDatabase, resource_ids: list[str]
) -> None:
    """It will not be in its own way: between two others, half an hour later is the nearest that there is."""
    database.make_service(resource_ids=resource_ids, slot_step_minutes=30)
    appointment = await create(client, 10)
    for hour in (8.5, 11.5):
        await create(client, hour)
    response = await change(client, appointment, {"expectedVersion": 1, "slotStart": written(at(11))})
    assert told(response) == (409, "SLOT_UNAVAILABLE")
    starts = [alternative["slotStart"] for alternative in response.json()["alternatives"]]
    assert starts[:2] == [written(at(10.5)), written(at(10))]


async def test_an_appointment_grows_by_what_there_is_room_for(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Its own claim is not counted against it."""
    database.make_service(capacity=4)
    appointment = await create(client, quantity=3)
    grown = await change(client, appointment, {"expectedVersion": 1, "quantity": 4})
    assert (grown.status_code, grown.json()["quantity"]) == (200, 4)
    response = await change(client, appointment, {"expectedVersion": 2, "quantity": 5})
    assert told(response) == (409, "SLOT_UNAVAILABLE")


async def test_an_appointment_goes_to_another_resource(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """To the one that is named, or with null to any free one; not to a busy one, nor to one of another service."""
    database.make_service(resource_ids=["maria", "rosa"])
    database.make_resource("otto")
    appointment = await create(client, resourceId="rosa")
    response = await change(client, appointment, {"expectedVersion": 1, "resourceId": "maria"})
    assert response.json()["resourceId"] == "maria"
    await create(client, resourceId="rosa")
    response = await change(client, appointment, {"expectedVersion": 2, "resourceId": "rosa"})
    assert told(response) == (409, "SLOT_UNAVAILABLE")
    response = await change(client, appointment, {"expectedVersion": 2, "resourceId": "otto"})
    assert told(response) == (404, "RESOURCE_NOT_FOUND")
    assert fields(await change(client, appointment, {"expectedVersion": 2, "quantity": 2})) == ["quantity"]

    later = await create(client, 12, resourceId="maria")
    to_ten = {"expectedVersion": 1, "slotStart": written(at(13)), "resourceId": None}
    assert (await change(client, later, to_ten)).json()["resourceId"] in ("maria", "rosa")


@pytest.mark.parametrize("status", ["completed", "no_show", "cancelled"])
async def test_what_has_ended_keeps_its_slot_and_status(
    client: httpx2.AsyncClient, database: TestDatabase, status: str
) -> None:
    """Its notes can still be written; and its room is free."""
    database.make_service()
    appointment = await create(client)
    ended = await change(client, appointment, {"expectedVersion": 1, "status": status})
    assert (ended.status_code, ended.json()["status"]) == (200, status)
    for body in ({"slotStart": written(at(12))}, {"status": "confirmed"}, {"quantity": 2}):
        response = await change(client, appointment, {"expectedVersion": 2, **body})
        assert told(response) == (409, "APPOINTMENT_ENDED")
        assert response.json()["appointmentStatus"] == status
    response = await change(client, appointment, {"expectedVersion": 2, "notes": "left an umbrella"})
    assert (response.status_code, response.json()["version"]) == (200, 3)
    await create(client)
    assert [entry["action"] for entry in await trail(client, appointment)] == ["created", status, "changed"]


async def test_only_staff_change(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A guest can't, and neither can a key that only reads."""
    database.make_service()
    appointment = await create(client)
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}"
    body = {"expectedVersion": 1, "notes": "window"}
    readonly, staff = await make_key(client, "readonly"), await make_key(client, "staff")
    assert told(await client.patch(address, json=body)) == (401, "UNAUTHORIZED")
    assert told(await client.patch(address, json=body, headers=bearer(readonly["key"]))) == (403, "FORBIDDEN")
    assert (await client.patch(address, json=body, headers=bearer(staff["key"]))).status_code == 200


# Cancellation.


async def test_a_guest_cancels_by_the_token(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Softly: it stays, with its reason, and its room is free. Repeated, it answers the same."""
    database.make_service()
    booked = await book(client)
    first = await cancel(client, booked, cancellationToken=booked["cancellationToken"], reason="ill")
    assert (first.status_code, first.headers["etag"]) == (200, '"2"')
    assert (first.json()["status"], first.json()["cancellationReason"], first.json()["version"]) == (
        "cancelled",
        "ill",
        2,
    )
    second = await cancel(client, booked, cancellationToken=booked["cancellationToken"], reason="bored")
    assert (second.status_code, second.json()) == (200, first.json())
    assert (await get(client, booked))["cancellationReason"] == "ill"
    assert (await create(client))["status"] == "confirmed"
    assert [(entry["action"], entry["actor"]["kind"]) for entry in await trail(client, booked)] == [
        ("created", "guest"),
        ("cancelled", "guest"),
    ]


async def test_a_token_opens_one_appointment_only(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Another's, a malformed or a changed one is a 403; none at all, and no key, is a 401."""
    database.make_service()
    booked, other = await book(client, 10), await book(client, 12)
    token = booked["cancellationToken"]
    altered = token[:10] + ("A" if token[10] != "A" else "B") + token[11:]
    for wrong in (
        other["cancellationToken"],
        altered,
        token[:-1],
        token + "x",
        "",
        "v1.",
        "\u00e4",
        "\u0000",
        "x" * 200,
        "x" * 60_000,
    ):
        response = await cancel(client, booked, cancellationToken=wrong)
        assert told(response) == (403, "FORBIDDEN"), wrong
    for none in ({}, {"cancellationToken": None}):
        assert told(await cancel(client, booked, **none)) == (401, "UNAUTHORIZED")
    unknown = {"appointmentId": str(uuid4())}
    assert told(await cancel(client, unknown, cancellationToken=token)) == (404, "APPOINTMENT_NOT_FOUND")
    assert (await get(client, booked))["status"] == "confirmed"
    assert (await cancel(client, booked, cancellationToken=token)).status_code == 200


async def test_a_token_of_an_older_secret_still_cancels(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Secrets are changed without breaking the links that guests have in their mail."""
    database.make_service()
    booked = {"appointmentId": database.book(10).id}
    foreign, older = (
        CancellationTokens(SecretStr(secret)).make("salon", UUID(booked["appointmentId"]))
        for secret in ("another token", "an older token")
    )
    assert told(await cancel(client, booked, cancellationToken=foreign)) == (403, "FORBIDDEN")
    assert (await cancel(client, booked, cancellationToken=older)).status_code == 200


async def test_a_guest_is_held_to_the_cancellation_window(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Too late is a 409 that tells when it would have been possible; the business cancels at any time."""
    database.make_service(cancellation_window_minutes=120)
    booked = await book(client)
    database.freeze_clock(at(8) + timedelta(seconds=1))
    response = await cancel(client, booked, cancellationToken=booked["cancellationToken"])
    assert told(response) == (409, "CANCELLATION_WINDOW_CLOSED")
    assert response.json()["cancellableUntil"] == written(at(8))
    assert (await get(client, booked))["status"] == "confirmed"
    response = await cancel(client, booked, ADMIN)
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    # What is cancelled already is told so, whenever it is asked.
    response = await cancel(client, booked, cancellationToken=booked["cancellationToken"])
    assert response.status_code == 200


async def test_the_window_closes_just_after_its_last_instant(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """cancellableUntil is an instant at which it still can be cancelled."""
    database.make_service(cancellation_window_minutes=120)
    booked = await book(client)
    database.freeze_clock(at(8))
    assert (await cancel(client, booked, cancellationToken=booked["cancellationToken"])).status_code == 200


async def test_the_business_cancels_by_its_key(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Staff may, a key that only reads may not, and a wrong header is not overlooked because of a right token."""
    database.make_service()
    booked = await book(client)
    staff, readonly = await make_key(client, "staff"), await make_key(client, "readonly")
    token = booked["cancellationToken"]
    response = await cancel(client, booked, bearer("wrong"), cancellationToken=token)
    assert told(response) == (401, "UNAUTHORIZED")
    assert told(await cancel(client, booked, bearer(readonly["key"]))) == (403, "FORBIDDEN")
    response = await cancel(client, booked, bearer(staff["key"]), reason="Rosa is ill")
    assert (response.status_code, response.json()["cancellationReason"]) == (200, "Rosa is ill")
    assert (await trail(client, booked))[-1]["actor"] == {"kind": "staff", "id": staff["keyId"]}


async def test_a_cancellation_may_name_the_version_that_it_means(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Who cancels what has been moved in the meantime may not mean it."""
    database.make_service()
    appointment = await create(client)
    await change(client, appointment, {"expectedVersion": 1, "notes": "window"})
    response = await cancel(client, appointment, ADMIN, expectedVersion=1)
    assert told(response) == (409, "VERSION_CONFLICT")
    assert response.json()["currentVersion"] == 2
    assert (await cancel(client, appointment, ADMIN, expectedVersion=2)).status_code == 200


@pytest.mark.parametrize("by", ["staff", "guest"])
async def test_a_cancellation_may_name_its_version_as_if_match(
    client: httpx2.AsyncClient, database: TestDatabase, by: str
) -> None:
    """As a change does, and as its own ETag invites to; then what is stale is a 412."""
    database.make_service()
    booked = await book(client)
    await change(client, booked, {"expectedVersion": 1, "notes": "window"})
    token = {"cancellationToken": booked["cancellationToken"]} if by == "guest" else {}
    caller = ADMIN if by == "staff" else {}
    stale = await cancel(client, booked, caller | {"If-Match": '"1"'}, **token)
    assert told(stale) == (412, "VERSION_CONFLICT")
    assert stale.json()["currentVersion"] == 2
    assert fields(await cancel(client, booked, caller | {"If-Match": "2"}, **token)) == ["If-Match"]
    both = await cancel(client, booked, caller | {"If-Match": '"2"'}, expectedVersion=1, **token)
    assert fields(both) == ["expectedVersion"]
    cancelled = await cancel(client, booked, caller | {"If-Match": '"2"'}, **token)
    assert (cancelled.status_code, cancelled.headers["etag"]) == (200, '"3"')
    # What is done already is not refused because of its version.
    assert (await cancel(client, booked, caller | {"If-Match": '"2"'}, **token)).status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}])
async def test_a_cancellation_needs_no_body(
    client: httpx2.AsyncClient, database: TestDatabase, headers: dict[str, str]
) -> None:
    """Nothing in it is required. Without a token in it, the key of the business is what counts."""
    database.make_service()
    address = f"{APPOINTMENTS}/{(await create(client))['appointmentId']}/cancel"
    assert told(await client.post(address, headers=headers)) == (401, "UNAUTHORIZED")
    response = await client.post(address, headers=ADMIN | headers)
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")


async def test_a_change_without_a_body_changes_nothing(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Nothing in it is required either, but for the version, which may be a header; and a body is still JSON."""
    database.make_service()
    appointment = await create(client)
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}"
    assert fields(await client.patch(address, headers=ADMIN)) == ["expectedVersion"]
    unchanged = await client.patch(address, headers=ADMIN | {"If-Match": '"1"'})
    assert (unchanged.status_code, unchanged.json()) == (200, appointment)
    response = await client.patch(address, headers=ADMIN | {"If-Match": '"1"'}, content=b"{}")
    assert told(response) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_what_is_over_can_not_be_cancelled(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A guest who was there was there."""
    database.make_service()
    booked = await book(client)
    await change(client, booked, {"expectedVersion": 1, "status": "completed"})
    for response in (
        await cancel(client, booked, ADMIN),
        await cancel(client, booked, cancellationToken=booked["cancellationToken"]),
    ):
        assert told(response) == (409, "APPOINTMENT_ENDED")
        assert response.json()["appointmentStatus"] == "completed"


@pytest.mark.parametrize(
    ("member", "value"),
    [("cancellationToken", 5), ("expectedVersion", 0), ("reason", "r" * 2001), ("reason", "\u0000"), ("status", "x")],
)
async def test_a_faulty_cancellation_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, member: str, value: Any
) -> None:
    """400 and the field."""
    database.make_service()
    appointment = await create(client)
    assert fields(await cancel(client, appointment, ADMIN, **{member: value})) == [member]


# The trail, and erasure.


async def test_the_trail_tells_what_changed_and_names_no_guest(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Who, when, by which request, and the members before and after; the guest, notes and reasons by name only."""
    database.make_service()
    response = await client.post(
        APPOINTMENTS,
        json=slot(guestName="Ada", guestEmail="ada@example.com", notes="secret", metadata={"price": 40}),
        headers=ADMIN | {"X-Request-Id": "first"},
    )
    appointment = response.json()
    await change(client, appointment, {"expectedVersion": 1, "slotStart": written(at(12)), "guestName": "Byron"})
    await cancel(client, appointment, ADMIN, reason="secret")
    created, moved, cancelled = await trail(client, appointment)
    assert (created["action"], created["version"], created["requestId"]) == ("created", 1, "first")
    assert created["actor"] == {"kind": "admin", "id": None}
    assert created["at"] == appointment["createdAt"]
    assert created["changes"]["slotStart"] == {"before": None, "after": written(at(10))}
    assert created["changes"]["guestName"] == created["changes"]["notes"] == created["changes"]["metadata"] == {}
    assert (moved["action"], moved["version"]) == ("rescheduled", 2)
    assert moved["changes"].keys() == {"slotStart", "slotEnd", "guestName"}
    assert moved["changes"]["slotEnd"] == {"before": written(at(11)), "after": written(at(13))}
    assert cancelled["changes"] == {
        "status": {"before": "confirmed", "after": "cancelled"},
        "cancellationReason": {},
    }
    for personal in ("Ada", "Byron", "ada@example.com", "secret", "40"):
        assert personal not in str([entry["changes"] for entry in (created, moved, cancelled)])


async def test_the_instants_of_old_audit_rows_are_told_in_utc(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """However the database wrote them: in its own way, or in the time zone of somebody's session."""
    database.make_service()
    appointment = await create(client)
    changes = '{"slot_start": {"before": "2027-01-04T10:00:00.5+01:00", "after": null}, "quantity": {"after": 1}}'
    database.rows("UPDATE booking.audit_logs SET changes = %s", changes)
    [entry] = await trail(client, appointment)
    assert entry["changes"] == {
        "slotStart": {"before": "2027-01-04T09:00:00.500000Z", "after": None},
        "quantity": {"after": 1},
    }


async def test_a_guests_data_can_be_erased(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Nothing personal is left in any row; the appointment, its room and its trail stay. Repeated, nothing happens."""
    database.make_service()
    guest: Json = {"guestName": "Ada", "guestPhone": "+49301234567", "notes": "secret", "metadata": {"price": 40}}
    booked = await book(client, **guest)
    address = f"{APPOINTMENTS}/{booked['appointmentId']}"
    for _ in range(2):
        response = await client.delete(address + "/guest", headers=ADMIN)
        assert (response.status_code, response.content) == (204, b"")
    erased = await get(client, booked)
    assert {name: erased[name] for name in ("guestName", "guestEmail", "guestPhone", "notes", "metadata")} == {
        "guestName": None,
        "guestEmail": None,
        "guestPhone": None,
        "notes": None,
        "metadata": {},
    }
    assert (erased["status"], erased["version"], erased["slotStart"]) == ("confirmed", 2, booked["slotStart"])
    assert [entry["action"] for entry in await trail(client, booked)] == ["created", "erased"]
    stored = database.value("SELECT string_agg(a::text, '') FROM booking.appointments a")
    stored += database.value("SELECT string_agg(l::text, '') FROM booking.audit_logs l")
    for personal in ("Ada", "ada@example.com", "1234567", "secret", "price"):
        assert personal not in stored
    assert told(await client.post(APPOINTMENTS, json=slot(), headers=ADMIN)) == (409, "SLOT_UNAVAILABLE")


async def test_an_erasure_may_name_the_version_that_it_means(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """It can't be undone: whoever read an older version learns that somebody has written meanwhile."""
    database.make_service()
    appointment = await create(client, guestName="Ada")
    await change(client, appointment, {"expectedVersion": 1, "notes": "window"})
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}/guest"
    stale = await client.delete(address, headers=ADMIN | {"If-Match": '"1"'})
    assert told(stale) == (412, "VERSION_CONFLICT")
    assert (await get(client, appointment))["guestName"] == "Ada"
    assert (await client.delete(address, headers=ADMIN | {"If-Match": '"2"'})).status_code == 204
    assert (await get(client, appointment))["guestName"] is None


async def test_the_reason_of_a_cancellation_is_erased_too(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """An illness is as personal as a name."""
    database.make_service()
    appointment = await create(client)
    await cancel(client, appointment, ADMIN, reason="a weak heart")
    response = await client.delete(f"{APPOINTMENTS}/{appointment['appointmentId']}/guest", headers=ADMIN)
    assert response.status_code == 204
    erased = await get(client, appointment)
    assert erased["status"] == "cancelled"
    assert erased.get("cancellationReason") is None


async def test_only_the_owner_erases(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """It can't be undone."""
    database.make_service()
    appointment = await create(client, guestName="Ada")
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}/guest"
    staff, owner = await make_key(client, "staff"), await make_key(client, "owner")
    assert told(await client.delete(address)) == (401, "UNAUTHORIZED")
    assert told(await client.delete(address, headers=bearer(staff["key"]))) == (403, "FORBIDDEN")
    assert (await get(client, appointment))["guestName"] == "Ada"
    assert (await client.delete(address, headers=bearer(owner["key"]))).status_code == 204
