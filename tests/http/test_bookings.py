"""Bookings in one call, without a hold."""

from typing import Any

import httpx2
import pytest

from service.booking import guests
from tests.database import TestDatabase, at
from tests.http.booking_calls import audit_trail, read, reserve, slot, timestamp
from tests.http.conftest import ADMIN
from tests.http.describing import Json
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

BOOKINGS = "/api/bookings"


def booking(hour: float = 10, **members: Any) -> Json:
    """Returns a body for POST /api/bookings."""
    return slot(hour, guestEmail="ada@example.com", **members)


async def test_a_slot_is_booked_at_once(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The appointment is confirmed, has all of the guest's data and the guest as its creator; no hold is made."""
    database.make_service()
    guest: Json = {"guestName": "Ada", "guestPhone": "030 1234567", "notes": "by the window", "metadata": {"price": 40}}
    response = await client.post(BOOKINGS, json=booking(**guest))
    assert response.status_code == 201
    booked = response.json()
    assert {name: booked[name] for name in guest} == {**guest, "guestPhone": "+49301234567"}
    assert (booked["status"], booked["version"], booked["source"]) == ("confirmed", 1, "online")
    assert (booked["slotStart"], booked["slotEnd"], booked["reservationId"]) == (
        timestamp(at(10)),
        timestamp(at(11)),
        None,
    )
    token = booked.pop("cancellationToken")
    assert token.startswith("v1.")
    assert await read(client, booked) == booked
    [entry] = await audit_trail(client, booked)
    assert (entry["actor"], entry["action"]) == ({"kind": "guest", "id": None, "name": None}, "created")
    assert database.value("SELECT count(*) FROM booking.reservations") == 0


@pytest.mark.parametrize("taken_by", ["hold", "booking"])
async def test_a_taken_slot_is_a_409_with_alternatives(
    client: httpx2.AsyncClient, database: TestDatabase, taken_by: str
) -> None:
    """A hold and an appointment both occupy the slot; the alternatives can be booked."""
    database.make_service()
    if taken_by == "hold":
        await reserve(client)
    else:
        await client.post(BOOKINGS, json=booking())
    response = await client.post(BOOKINGS, json=booking())
    assert refusal(response) == (409, "SLOT_UNAVAILABLE")
    assert response.json()["detail"] == "The selected time slot is no longer available"
    alternatives = response.json()["alternatives"]
    assert 1 <= len(alternatives) <= 5
    for alternative in alternatives:
        assert alternative.keys() == {"slotStart", "slotEnd", "resourceIds"}
        body = {**booking(), "slotStart": alternative["slotStart"], "slotEnd": alternative["slotEnd"]}
        assert (await client.post(BOOKINGS, json=body)).status_code == 201


async def test_without_a_resource_any_free_one_is_assigned(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The slot is refused once all resources are occupied; a named resource is never replaced by another."""
    database.make_service(resource_ids=["rosa", "maria", "otto"])
    first = (await client.post(BOOKINGS, json=booking(resourceId="maria"))).json()
    others = [(await client.post(BOOKINGS, json=booking())).json()["resourceId"] for _ in range(2)]
    assert first["resourceId"] == "maria"
    assert sorted(others) == ["otto", "rosa"]
    assert refusal(await client.post(BOOKINGS, json=booking())) == (409, "SLOT_UNAVAILABLE")
    response = await client.post(BOOKINGS, json=booking(12, resourceId="nobody"))
    assert refusal(response) == (404, "RESOURCE_NOT_FOUND")
    assert faulty_fields(await client.post(BOOKINGS, json=booking(12, quantity=2))) == ["quantity"]


@pytest.mark.parametrize("place", ["body", "header", "both"])
async def test_the_same_key_is_one_booking(client: httpx2.AsyncClient, database: TestDatabase, place: str) -> None:
    """A retry returns the first result, whether the key is in the header, in the body or in both; another request under
    the key is refused."""
    database.make_service(capacity=5)
    body = booking(idempotencyKey="k") if place != "header" else booking()
    headers = {"Idempotency-Key": "k"} if place != "body" else {}
    first = await client.post(BOOKINGS, json=body, headers=headers)
    second = await client.post(BOOKINGS, json=body, headers=headers)
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json() == first.json()
    other = await client.post(BOOKINGS, json={**body, "guestEmail": "eve@example.com"}, headers=headers)
    assert refusal(other) == (422, "IDEMPOTENCY_KEY_REUSED")
    differs = await client.post(BOOKINGS, json=booking(idempotencyKey="a"), headers={"Idempotency-Key": "b"})
    assert refusal(differs) == (400, "IDEMPOTENCY_KEY_MISMATCH")


async def test_a_new_country_of_a_business_counts_at_once(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Also where no browser watches the business, though the country is kept for a minute."""
    database.make_service(capacity=5)
    for country, stored in (("DE", "+49123456789"), ("FR", "+33123456789")):
        settings = {"name": "Salon", "country": country}
        assert (await client.put("/api/catalog/businesses/salon", json=settings, headers=ADMIN)).status_code == 200
        booked = await client.post(BOOKINGS, json={**slot(), "guestPhone": "01 23 45 67 89"})
        assert booked.json()["guestPhone"] == stored


@pytest.fixture
def no_cached_country(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the application look the country of a business up for each number."""
    monkeypatch.setattr(guests, "REMEMBERED_SECONDS", 0.0)


@pytest.mark.usefixtures("no_cached_country")
@pytest.mark.parametrize("path", [BOOKINGS, "/api/booking/appointments"])
async def test_a_replay_comes_before_a_fault_of_its_guest(
    client: httpx2.AsyncClient, database: TestDatabase, path: str
) -> None:
    """The phone number was valid in the business's country, which has changed since: the same request returns its first
    result, another one under the key is refused for the key, and a new one for the number."""
    database.make_service(capacity=5)
    body = {**slot(), "guestPhone": "030 12345678", "idempotencyKey": "k"}
    first = await client.post(path, json=body, headers=ADMIN)
    assert (first.status_code, first.json()["guestPhone"]) == (201, "+493012345678")
    database.rows("UPDATE booking.businesses SET country = 'US'")
    again = await client.post(path, json=body, headers=ADMIN)
    assert (again.status_code, again.json()) == (200, first.json())
    other = await client.post(path, json={**body, "notes": "quiet"}, headers=ADMIN)
    assert refusal(other) == (422, "IDEMPOTENCY_KEY_REUSED")
    new = await client.post(path, json={**body, "idempotencyKey": "l"}, headers=ADMIN)
    assert (refusal(new), faulty_fields(new)) == ((400, "VALIDATION_FAILED"), ["guestPhone"])
    assert database.value("SELECT count(*) FROM booking.appointments") == 1


async def test_holds_and_bookings_have_separate_keys(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A key names an attempt of one kind."""
    database.make_service(capacity=2)
    await reserve(client, idempotencyKey="k")
    assert (await client.post(BOOKINGS, json=booking(idempotencyKey="k"))).status_code == 201


async def test_a_refusal_does_not_use_up_its_key(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The same request with the same key succeeds once there is room."""
    database.make_service()
    held = await reserve(client)
    body = booking(idempotencyKey="k")
    assert refusal(await client.post(BOOKINGS, json=body)) == (409, "SLOT_UNAVAILABLE")
    await client.delete(f"/api/booking/reservations/{held['reservationId']}")
    assert (await client.post(BOOKINGS, json=body)).status_code == 201


@pytest.mark.parametrize(
    ("settings", "hour", "reason"),
    [
        ({"booking_enabled": False}, 10, "not_online"),
        ({}, -24 * 365, "past"),
        ({"min_notice_minutes": 366 * 24 * 60}, 10, "too_soon"),
        ({"max_advance_days": 1}, 10, "too_far_ahead"),
        ({"duration_minutes": 30, "max_duration_minutes": 30}, 10, "too_long"),
        ({}, 5, "closed"),
    ],
)
async def test_the_rules_for_guests_apply(
    client: httpx2.AsyncClient, database: TestDatabase, settings: Json, hour: float, reason: str
) -> None:
    """The answer is a 422 with a reason that a frontend can translate."""
    database.make_service(**settings)
    database.put_hours([(weekday, "08:00", "22:00") for weekday in range(1, 8)])
    response = await client.post(BOOKINGS, json=booking(hour, slotEnd=timestamp(at(hour + 1))))
    assert refusal(response) == (422, "SLOT_NOT_BOOKABLE")
    assert response.json()["reason"] == reason


@pytest.mark.parametrize(
    ("members", "faulty"),
    [
        ({"guestEmail": None}, "guestEmail"),
        ({"guestEmail": None, "guestPhone": "030"}, "guestPhone"),
        ({"guestEmail": "ada"}, "guestEmail"),
        ({"source": "widget"}, "source"),
        ({"ttlMinutes": 0}, "ttlMinutes"),
        ({"reservationId": None}, "reservationId"),
    ],
)
async def test_a_faulty_booking_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, members: Json, faulty: str
) -> None:
    """A guest needs an e-mail address or a phone number, and cannot set the source of the booking."""
    database.make_service()
    assert faulty_fields(await client.post(BOOKINGS, json={**booking(), **members})) == [faulty]


async def test_a_booking_returns_its_location_and_etag(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A replay has the present ETag, which matches its body, and no Location."""
    database.make_service()
    first = await client.post(BOOKINGS, json=booking(idempotencyKey="k"))
    address = f"/api/booking/appointments/{first.json()['appointmentId']}"
    assert (first.headers["location"], first.headers["etag"]) == (address, '"1"')
    notes = {"expectedVersion": 1, "notes": "window"}
    assert (await client.patch(address, json=notes, headers=ADMIN)).status_code == 200
    replay = await client.post(BOOKINGS, json=booking(idempotencyKey="k"))
    assert (replay.status_code, replay.headers["etag"], replay.json()["version"]) == (200, '"2"', 2)
    assert "location" not in replay.headers


@pytest.mark.parametrize("member", ["businessId", "serviceId"])
async def test_an_unknown_service_is_a_404(client: httpx2.AsyncClient, database: TestDatabase, member: str) -> None:
    """An unknown business and an unknown service get the same answer, also where the phone number is faulty."""
    database.make_service()
    for phone in (None, "+49 30 1234567"):
        response = await client.post(BOOKINGS, json={**booking(guestPhone=phone), member: "nobody"})
        assert refusal(response) == (404, "SERVICE_NOT_FOUND")
