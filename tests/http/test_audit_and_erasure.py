"""The audit trail of an appointment, and the erasure of its guest's data."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from service.booking.appointments import AUDIT_ROWS
from service.booking.cleanup import Cleanup
from tests.connections import open_database
from tests.database import TestDatabase, at
from tests.http.booking_calls import APPOINTMENTS, audit_trail, book, cancel, change, create, read, slot, timestamp
from tests.http.conftest import ADMIN, CRON
from tests.http.describing import Json
from tests.http.keys import BUSINESSES, bearer, make_key
from tests.http.refusals import refusal

ERASE = "/api/booking/guests/erase"

pytestmark = pytest.mark.anyio


async def test_the_audit_trail_records_changes_without_personal_data(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """An entry has actor, time, request id and the members before and after; for the guest's data, notes and reasons it
    has only the names of the members."""
    database.make_service()
    response = await client.post(
        APPOINTMENTS,
        json=slot(guestName="Ada", guestEmail="ada@example.com", notes="secret", metadata={"price": 40}),
        headers=ADMIN | {"X-Request-Id": "first"},
    )
    appointment = response.json()
    await change(client, appointment, {"expectedVersion": 1, "slotStart": timestamp(at(12)), "guestName": "Byron"})
    await cancel(client, appointment, ADMIN, reason="secret")
    created, moved, cancelled = await audit_trail(client, appointment)
    assert (created["action"], created["version"], created["requestId"]) == ("created", 1, "first")
    assert created["actor"] == {"kind": "admin", "id": None, "name": None}
    assert created["at"] == appointment["createdAt"]
    assert created["changes"]["slotStart"] == {"before": None, "after": timestamp(at(10))}
    assert created["changes"]["guestName"] == created["changes"]["notes"] == created["changes"]["metadata"] == {}
    assert (moved["action"], moved["version"]) == ("rescheduled", 2)
    assert moved["changes"].keys() == {"slotStart", "slotEnd", "guestName"}
    assert moved["changes"]["slotEnd"] == {"before": timestamp(at(11)), "after": timestamp(at(13))}
    assert cancelled["changes"] == {
        "status": {"before": "confirmed", "after": "cancelled"},
        "cancellationReason": {},
    }
    for personal in ("Ada", "Byron", "ada@example.com", "secret", "40"):
        assert personal not in str([entry["changes"] for entry in (created, moved, cancelled)])


@pytest.mark.parametrize("versions", [1, AUDIT_ROWS, AUDIT_ROWS + 1, 2 * AUDIT_ROWS, 1000])
async def test_a_long_audit_trail_is_written_while_it_is_sent(
    client: httpx2.AsyncClient, database: TestDatabase, versions: int
) -> None:
    """A guest may move an appointment any number of times. Other requests must not wait while staff read that."""
    database.make_service()
    appointment = await create(client)
    database.rows(
        """
        WITH made AS (
          INSERT INTO booking.audit_logs
            (business_id, audit_id, appointment_id, version, action, actor_kind, changes, at)
          SELECT business_id, gen_random_uuid(), appointment_id, n, 'rescheduled', 'guest', '{}', at
          FROM booking.audit_logs CROSS JOIN generate_series(2, %s) AS n
        )
        UPDATE booking.appointments SET version = %s
        """,
        versions,
        versions,
    )
    response = await client.get(f"{APPOINTMENTS}/{appointment['appointmentId']}/audit", headers=ADMIN)
    assert [entry["version"] for entry in response.json()["items"]] == list(range(1, versions + 1))
    assert "content-length" not in response.headers


async def test_instants_of_old_audit_rows_are_returned_in_utc(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Old rows hold them in PostgreSQL's text format, or in the time zone of the session that wrote them."""
    database.make_service()
    appointment = await create(client)
    changes = '{"slot_start": {"before": "2027-01-04T10:00:00.5+01:00", "after": null}, "quantity": {"after": 1}}'
    database.rows("UPDATE booking.audit_logs SET changes = %s", changes)
    [entry] = await audit_trail(client, appointment)
    assert entry["changes"] == {
        "slotStart": {"before": "2027-01-04T09:00:00.500Z", "after": None},
        "quantity": {"after": 1},
    }


async def test_a_guests_data_can_be_erased(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """No row keeps personal data; the appointment, its claim and its audit trail stay. A repeated erasure changes
    nothing."""
    database.make_service()
    guest: Json = {"guestName": "Ada", "guestPhone": "+49301234567", "notes": "secret", "metadata": {"price": 40}}
    booked = await book(client, **guest)
    address = f"{APPOINTMENTS}/{booked['appointmentId']}"
    for _ in range(2):
        response = await client.delete(address + "/guest", headers=ADMIN)
        assert (response.status_code, response.content) == (204, b"")
    erased = await read(client, booked)
    assert {name: erased[name] for name in ("guestName", "guestEmail", "guestPhone", "notes", "metadata")} == {
        "guestName": None,
        "guestEmail": None,
        "guestPhone": None,
        "notes": None,
        "metadata": {},
    }
    assert (erased["status"], erased["version"], erased["slotStart"]) == ("confirmed", 2, booked["slotStart"])
    assert [entry["action"] for entry in await audit_trail(client, booked)] == ["created", "erased"]
    stored = database.value("SELECT string_agg(a::text, '') FROM booking.appointments a")
    stored += database.value("SELECT string_agg(l::text, '') FROM booking.audit_logs l")
    for personal in ("Ada", "ada@example.com", "1234567", "secret", "price"):
        assert personal not in stored
    assert refusal(await client.post(APPOINTMENTS, json=slot(), headers=ADMIN)) == (409, "SLOT_UNAVAILABLE")


async def test_an_erasure_may_name_its_version(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """An erasure cannot be undone, so a caller with a stale version is refused."""
    database.make_service()
    appointment = await create(client, guestName="Ada")
    await change(client, appointment, {"expectedVersion": 1, "notes": "window"})
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}/guest"
    stale = await client.delete(address, headers=ADMIN | {"If-Match": '"1"'})
    assert refusal(stale) == (412, "VERSION_CONFLICT")
    assert (await read(client, appointment))["guestName"] == "Ada"
    assert (await client.delete(address, headers=ADMIN | {"If-Match": '"2"'})).status_code == 204
    assert (await read(client, appointment))["guestName"] is None


async def test_the_reason_of_a_cancellation_is_erased_too(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A reason may be personal data, such as an illness."""
    database.make_service()
    appointment = await create(client)
    await cancel(client, appointment, ADMIN, reason="a weak heart")
    response = await client.delete(f"{APPOINTMENTS}/{appointment['appointmentId']}/guest", headers=ADMIN)
    assert response.status_code == 204
    erased = await read(client, appointment)
    assert erased["status"] == "cancelled"
    assert erased.get("cancellationReason") is None


async def test_only_the_owner_erases(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """An erasure cannot be undone, so it needs an owner's key."""
    database.make_service()
    appointment = await create(client, guestName="Ada")
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}/guest"
    staff, owner = await make_key(client, "staff"), await make_key(client, "owner")
    assert refusal(await client.delete(address)) == (401, "UNAUTHORIZED")
    assert refusal(await client.delete(address, headers=bearer(staff["key"]))) == (403, "FORBIDDEN")
    assert (await read(client, appointment))["guestName"] == "Ada"
    assert (await client.delete(address, headers=bearer(owner["key"]))).status_code == 204


async def erase_person(client: httpx2.AsyncClient, **person: str) -> int:
    """Erases one person with the owner's key, and returns the number of appointments."""
    owner = await make_key(client, "owner")
    response = await client.post(ERASE, json={"businessId": "salon", **person}, headers=bearer(owner["key"]))
    assert response.status_code == 200, response.text
    assert response.json().keys() == {"erased"}
    erased: int = response.json()["erased"]
    return erased


async def test_one_person_is_erased_from_all_appointments(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """More of them than a step takes; the address and the number are normalised as those of bookings."""
    database.make_service(capacity=50)
    number = 45
    for _ in range(number):
        mine = await create(client, guestName="Ada", guestEmail="ada@EXAMPLE.com", notes="a weak heart")
    other = await create(client, 11, guestName="Byron", guestPhone="030 1234567")
    assert await erase_person(client, guestEmail="ada@Example.COM") == number
    assert await erase_person(client, guestEmail="ada@example.com") == 0
    stored = database.value("SELECT string_agg(a::text, '') FROM booking.appointments a")
    assert [text for text in ("Ada", "ada@", "heart") if text in stored] == []
    last = (await audit_trail(client, mine))[-1]
    assert (last["action"], last["actor"]["kind"], last["changes"]) == (
        "erased",
        "owner",
        {"guestName": {}, "guestEmail": {}, "notes": {}},
    )
    assert (await read(client, other))["guestName"] == "Byron"
    assert await erase_person(client, guestPhone="+49 (30) 123-4567") == 1
    assert (await read(client, other))["guestName"] is None


async def test_a_person_is_named_in_one_way(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """An address and a number together could mean either or both."""
    database.make_service()
    email, phone = {"guestEmail": "ada@example.com"}, {"guestPhone": "+49301234567"}
    for person, field in (({}, "guestEmail"), (email | phone, "guestPhone"), ({"guestPhone": "12"}, "guestPhone")):
        response = await client.post(ERASE, json={"businessId": "salon", **person}, headers=ADMIN)
        assert refusal(response) == (400, "VALIDATION_FAILED")
        assert [error["field"] for error in response.json()["errors"]] == [field]
    for person in (email, phone, {"guestPhone": "030 1234567"}):
        unknown = await client.post(ERASE, json={"businessId": "nobody", **person}, headers=ADMIN)
        assert refusal(unknown) == (404, "BUSINESS_NOT_FOUND")


async def test_only_the_owner_erases_a_person(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Staff may not, and for the owner of another business this one does not exist."""
    database.make_service()
    database.make_business("clinic")
    appointment = await create(client, guestEmail="ada@example.com")
    person = {"businessId": "salon", "guestEmail": "ada@example.com"}
    staff, stranger = await make_key(client, "staff"), await make_key(client, "owner", "clinic")
    assert refusal(await client.post(ERASE, json=person)) == (401, "UNAUTHORIZED")
    assert refusal(await client.post(ERASE, json=person, headers=bearer(staff["key"]))) == (403, "FORBIDDEN")
    elsewhere = await client.post(ERASE, json=person, headers=bearer(stranger["key"]))
    assert refusal(elsewhere) == (404, "BUSINESS_NOT_FOUND")
    assert (await read(client, appointment))["guestEmail"] == "ada@example.com"


async def test_the_purge_erases_guests_after_the_retention(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """More appointments than a step takes; the report counts them."""
    database.make_service(capacity=50)
    settings = {"name": "Salon", "timezone": "Europe/Berlin", "country": "DE", "guestRetentionDays": 30}
    put = await client.put(f"{BUSINESSES}/salon", json=settings, headers=ADMIN)
    assert (put.status_code, put.json()["guestRetentionDays"]) == (200, 30)
    number = 12
    for _ in range(number):
        appointment = await create(client, guestName="Ada")
    database.freeze_clock(at(11 + 30 * 24))
    reports = [(await client.post("/cron/cleanup-reservations", headers=CRON)).json() for _ in range(2)]
    assert [(report["erased"], report["remaining"]) for report in reports] == [(number, 0), (0, 0)]
    assert database.rows("SELECT erased FROM booking.maintenance_runs ORDER BY finished_at, 1 DESC") == [
        (number,),
        (0,),
    ]
    assert (await read(client, appointment))["guestName"] is None
    last = (await audit_trail(client, appointment))[-1]
    assert (last["action"], last["actor"]) == ("erased", {"kind": "system", "id": None, "name": None})


async def test_an_erasure_by_the_purge_is_announced(database: TestDatabase) -> None:
    """A calendar shows the guests."""
    database.make_service(capacity=5)
    database.book(-24 * 60, manual=True)
    database.rows("UPDATE booking.businesses SET guest_retention_days = 1")
    database.move_clock(timedelta(hours=24))
    announced: list[tuple[str, Json]] = []

    def announce(business_id: str, body: Any, *, moved: bool) -> None:  # noqa: ARG001 — no claim moves
        announced.append((business_id, body))

    async with open_database(database.url) as connections:
        await Cleanup(connections, retention=timedelta(days=1), announce=announce).run()
    assert announced == [("salon", {})]
