"""Reserve, commit, look, extend, release and capacity as a frontend meets them."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import commit, reserve, slot, timestamp
from tests.http.conftest import ADMIN
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio


async def test_reserve_and_commit(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The main job: a hold with its time to live, and then an appointment with everything the guest said."""
    database.make_service()
    reservation = await reserve(client)
    assert {key: reservation[key] for key in ("status", "version", "quantity", "ttlClamped", "resourceId")} == {
        "status": "held",
        "version": 1,
        "quantity": 1,
        "ttlClamped": False,
        "resourceId": None,
    }
    assert reservation["slotStart"] == timestamp(at(10))
    assert 890 < reservation["expiresInSeconds"] <= 900

    guest = {"guestName": "Ada", "guestPhone": "+49 30 1234567", "notes": "by the window", "metadata": {"price": 40}}
    response = await commit(client, reservation["reservationId"], **guest)
    assert response.status_code == 201
    appointment = response.json()
    assert {key: appointment[key] for key in guest} == {**guest, "guestPhone": "+49301234567"}
    assert appointment["guestEmail"] == "guest@example.com"
    assert (appointment["status"], appointment["version"], appointment["source"]) == ("confirmed", 1, "online")
    assert appointment["cancellationToken"].startswith("v1.")

    response = await client.get(f"/api/booking/reservations/{reservation['reservationId']}")
    assert (response.json()["status"], response.json()["expiresInSeconds"]) == ("committed", 0)
    assert "guest" not in response.text


async def test_the_id_of_a_hold_is_all_random(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Whoever knows it may commit: when it was made must not help to guess it."""
    database.make_service(capacity=3)
    ids = [UUID((await reserve(client))["reservationId"]) for _ in range(3)]
    assert [reservation_id.version for reservation_id in ids] == [4] * 3


async def test_what_was_made_says_where_it_is(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A hold, and the appointment that comes of it; only that has a tag, because a hold is another at each look."""
    database.make_service()
    held = await client.post("/api/booking/reserve", json=slot())
    assert held.headers["location"] == f"/api/booking/reservations/{held.json()['reservationId']}"
    assert "etag" not in held.headers
    found = await client.get(held.headers["location"])
    assert found.json()["reservationId"] == held.json()["reservationId"]
    first, again = [await commit(client, held.json()["reservationId"]) for _ in range(2)]
    assert first.headers["location"] == f"/api/booking/appointments/{first.json()['appointmentId']}"
    assert (first.headers["etag"], again.headers["etag"]) == ('"1"', '"1"')
    assert "location" not in again.headers
    assert (await client.get(first.headers["location"], headers=ADMIN)).headers["etag"] == '"1"'


async def test_a_taken_slot_is_a_409_with_alternatives(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The refusal that every frontend has to show."""
    database.make_service()
    await reserve(client)
    response = await client.post("/api/booking/reserve", json=slot())
    assert response.status_code == 409
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem == {
        "type": "/docs#SLOT_UNAVAILABLE",
        "title": "Slot unavailable",
        "status": 409,
        "detail": "The selected time slot is no longer available",
        "code": "SLOT_UNAVAILABLE",
        "requestId": response.headers["x-request-id"],
        "alternatives": problem["alternatives"],
    }
    assert problem["alternatives"][0]["slotStart"] in (timestamp(at(9)), timestamp(at(11)))
    for alternative in problem["alternatives"]:
        assert alternative.keys() == {"slotStart", "slotEnd", "resourceIds"}
        assert alternative["slotStart"] != timestamp(at(10))
    assert 1 <= len(problem["alternatives"]) <= 5


@pytest.mark.parametrize("place", ["body", "header", "both"])
async def test_the_same_key_is_one_hold(client: httpx2.AsyncClient, database: TestDatabase, place: str) -> None:
    """A retry gets the first result again, marked as such, wherever the key came."""
    database.make_service()
    body = slot(idempotencyKey="k") if place != "header" else slot()
    headers = {"Idempotency-Key": "k"} if place != "body" else {}
    first = await client.post("/api/booking/reserve", json=body, headers=headers)
    second = await client.post("/api/booking/reserve", json=body, headers=headers)
    assert (first.status_code, second.status_code) == (201, 200)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json()["reservationId"] == first.json()["reservationId"]


async def test_a_key_is_compared_by_meaning(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The same instant in another time zone is the same request; another quantity is another one."""
    database.make_service(capacity=5)
    await reserve(client, idempotencyKey="k")
    elsewhere = at(10).astimezone(tz=None).isoformat()
    response = await client.post("/api/booking/reserve", json=slot(idempotencyKey="k", slotStart=elsewhere))
    assert response.status_code == 200
    response = await client.post("/api/booking/reserve", json=slot(idempotencyKey="k", quantity=2))
    assert refusal(response) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_keys_that_differ_are_refused(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A header and a body that name different attempts can't both be right."""
    database.make_service()
    response = await client.post(
        "/api/booking/reserve", json=slot(idempotencyKey="a"), headers={"Idempotency-Key": "b"}
    )
    assert refusal(response) == (400, "IDEMPOTENCY_KEY_MISMATCH")


async def test_a_long_ttl_is_clamped_and_says_so(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A caller that asks for more than the service allows can see what it got."""
    database.make_service(max_hold_ttl_minutes=20)
    reservation = await reserve(client, ttlMinutes=600)
    assert reservation["ttlClamped"] is True
    assert 1190 < reservation["expiresInSeconds"] <= 1200


async def test_a_fraction_of_a_minute_is_a_ttl(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Holds may be shorter than a minute."""
    database.make_service()
    assert (await reserve(client, ttlMinutes=0.5))["expiresInSeconds"] == 30


async def test_a_second_commit_replays_the_first(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The reservation is its own key: the same appointment and token, and later guest fields are ignored."""
    database.make_service()
    reservation = await reserve(client)
    first = await commit(client, reservation["reservationId"])
    second = await commit(client, reservation["reservationId"], guestName="Somebody else")
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == first.json()
    assert second.headers["idempotency-replayed"] == "true"


async def test_a_second_commit_replays_the_first_whatever_its_guest(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """A phone number that is none is a fault of a first commit, which leaves the hold alone; a later one ignores it."""
    database.make_service()
    reservation = await reserve(client)
    refused = await commit(client, reservation["reservationId"], guestPhone="123")
    assert faulty_fields(refused) == ["guestPhone"]
    first = await commit(client, reservation["reservationId"])
    second = await commit(client, reservation["reservationId"], guestPhone="123")
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == first.json()


async def test_more_windows_at_once_than_a_call_decides_are_all_answered(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Windows that overlap without being equal are decided one after the other, and what one call leaves goes first in
    the next."""
    database.make_service(capacity=40)
    responses = await asyncio.gather(
        *(client.post("/api/booking/reserve", json=slot(10 + minute / 60)) for minute in range(41))
    )
    assert sorted(response.status_code for response in responses) == [201] * 40 + [409]
    assert database.value("SELECT count(*) FROM booking.reservations") == 40


async def test_an_expired_hold_is_gone(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """410, though no purge ever ran; and with rebook its slot is booked if it is still free."""
    database.make_service()
    reservation = await reserve(client)
    database.move_clock(timedelta(minutes=15))
    response = await commit(client, reservation["reservationId"])
    assert refusal(response) == (410, "RESERVATION_EXPIRED")
    response = await commit(client, reservation["reservationId"], ifExpired="rebook")
    assert response.status_code == 201
    response = await client.get(f"/api/booking/reservations/{reservation['reservationId']}")
    assert response.json()["status"] == "expired"


async def test_rebook_does_not_take_what_is_taken(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Paid too late, and somebody else was faster: told so, and the other's hold is not touched."""
    database.make_service()
    late = await reserve(client)
    database.move_clock(timedelta(minutes=15))
    rival = await reserve(client)
    response = await commit(client, late["reservationId"], ifExpired="rebook")
    assert refusal(response) == (409, "SLOT_UNAVAILABLE")
    assert timestamp(at(10)) not in [alternative["slotStart"] for alternative in response.json()["alternatives"]]
    assert response.json()["alternatives"]
    assert (await commit(client, rival["reservationId"])).status_code == 201


async def test_extend(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Later, within the hold's lifetime, and under the version that the caller saw."""
    database.make_service()
    reservation = await reserve(client)
    address = f"/api/booking/reservations/{reservation['reservationId']}/extend"
    response = await client.post(address, json={"ttlMinutes": 30, "expectedVersion": 1})
    assert (response.status_code, response.json()["version"]) == (200, 2)
    response = await client.post(address, json={"ttlMinutes": 30, "expectedVersion": 1})
    assert (response.status_code, response.json()["code"], response.json()["currentVersion"]) == (
        409,
        "VERSION_CONFLICT",
        2,
    )
    database.move_clock(timedelta(minutes=25))
    await client.post(address, json={"ttlMinutes": 60})
    database.move_clock(timedelta(minutes=50))
    response = await client.post(address, json={"ttlMinutes": 60})
    assert refusal(response) == (409, "HOLD_LIFETIME_EXCEEDED")
    assert response.json()["maxExpiresAt"].endswith("Z")


async def test_release(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """204, also when repeated; the slot is free; what became an appointment can't be released."""
    database.make_service()
    reservation = await reserve(client)
    address = f"/api/booking/reservations/{reservation['reservationId']}"
    assert [(await client.delete(address)).status_code for _ in range(2)] == [204, 204]
    response = await commit(client, reservation["reservationId"])
    assert refusal(response) == (410, "RESERVATION_RELEASED")

    again = await reserve(client)
    await commit(client, again["reservationId"])
    response = await client.delete(f"/api/booking/reservations/{again['reservationId']}")
    assert refusal(response) == (409, "RESERVATION_COMMITTED")


@pytest.mark.parametrize("reservation_id", [str(uuid4()), "no-uuid", "%00"])
async def test_an_unknown_reservation_is_a_404(
    client: httpx2.AsyncClient, database: TestDatabase, reservation_id: str
) -> None:
    """Whatever the call, and whatever stands in the place of the id."""
    database.make_service()
    address = f"/api/booking/reservations/{reservation_id}"
    for response in (
        await client.get(address),
        await client.delete(address),
        await client.post(address + "/extend", json={"ttlMinutes": 1}),
    ):
        assert refusal(response) == (404, "RESERVATION_NOT_FOUND")
    assert (await commit(client, str(uuid4()))).status_code == 404


async def test_another_business_does_not_have_it(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Where the caller names a business, only that one is looked in."""
    database.make_service()
    database.make_service(business_id="clinic")
    reservation = await reserve(client)
    response = await commit(client, reservation["reservationId"], businessId="clinic")
    assert response.status_code == 404
    address = f"/api/booking/reservations/{reservation['reservationId']}"
    assert (await client.get(address, params={"businessId": "clinic"})).status_code == 404
    assert (await client.get(address, params={"businessId": "salon"})).status_code == 200


@pytest.mark.parametrize(
    ("settings", "hour", "reason"),
    [
        ({"booking_enabled": False}, 10, "not_online"),
        ({}, -24 * 365, "past"),
        ({"min_notice_minutes": 366 * 24 * 60}, 10, "too_soon"),
        ({"max_advance_days": 1}, 10, "too_far_ahead"),
        ({"max_duration_minutes": 60}, 10, "too_long"),
    ],
)
async def test_a_slot_that_is_not_bookable(
    client: httpx2.AsyncClient, database: TestDatabase, settings: dict[str, Any], hour: float, reason: str
) -> None:
    """422, with a reason that a frontend can put into words."""
    database.make_service(**settings)
    response = await client.post("/api/booking/reserve", json=slot(hour, slotEnd=at(hour + 2).isoformat()))
    assert refusal(response) == (422, "SLOT_NOT_BOOKABLE")
    assert response.json()["reason"] == reason


@pytest.mark.parametrize("member", ["businessId", "serviceId"])
async def test_an_unknown_service_is_a_404(client: httpx2.AsyncClient, database: TestDatabase, member: str) -> None:
    """An unknown business is not told apart from an unknown service."""
    database.make_service()
    response = await client.post("/api/booking/reserve", json={**slot(), member: "nobody"})
    assert refusal(response) == (404, "SERVICE_NOT_FOUND")


async def test_capacity(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Held and booked at the fullest instant."""
    database.make_service(capacity=4)
    await reserve(client)
    await commit(client, (await reserve(client))["reservationId"])
    query = {
        "businessId": "salon",
        "serviceId": "cut",
        "slotStart": at(10).isoformat(),
        "slotEnd": at(11).isoformat(),
    }
    response = await client.get("/api/booking/capacity", params=query)
    assert response.json() == {"capacity": 4, "held": 1, "booked": 1, "available": 2}
    response = await client.get("/api/booking/capacity", params={**query, "serviceId": "nothing"})
    assert response.status_code == 404
