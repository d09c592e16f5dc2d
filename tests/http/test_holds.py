"""Holds as a frontend uses them: reserve, commit, read, extend, release, and capacity."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import APPOINTMENTS, commit, reserve, slot, timestamp
from tests.http.conftest import ADMIN, CRON
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio


async def test_reserve_and_commit(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A hold has a time to live, and its commit makes an appointment with all of the guest's data."""
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


async def test_the_id_of_a_hold_is_random(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The id authorises the commit, so it must not be guessable from the time at which it was made."""
    database.make_service(capacity=3)
    ids = [UUID((await reserve(client))["reservationId"]) for _ in range(3)]
    assert [reservation_id.version for reservation_id in ids] == [4] * 3


async def test_a_hold_and_its_appointment_have_a_location(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Only the appointment has an ETag, because the representation of a hold changes every second."""
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
    """The problem has the code SLOT_UNAVAILABLE, and the nearest free slots."""
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
    """A retry returns the first result with Idempotency-Replayed, whether the key is in the header, in the body or in
    both."""
    database.make_service()
    body = slot(idempotencyKey="k") if place != "header" else slot()
    headers = {"Idempotency-Key": "k"} if place != "body" else {}
    first = await client.post("/api/booking/reserve", json=body, headers=headers)
    second = await client.post("/api/booking/reserve", json=body, headers=headers)
    assert (first.status_code, second.status_code) == (201, 200)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json()["reservationId"] == first.json()["reservationId"]


async def test_requests_under_one_key_are_compared_by_value(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The same instant in another time zone is the same request; another quantity is a different one."""
    database.make_service(capacity=5)
    await reserve(client, idempotencyKey="k")
    elsewhere = at(10).astimezone(tz=None).isoformat()
    response = await client.post("/api/booking/reserve", json=slot(idempotencyKey="k", slotStart=elsewhere))
    assert response.status_code == 200
    response = await client.post("/api/booking/reserve", json=slot(idempotencyKey="k", quantity=2))
    assert refusal(response) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_an_instant_may_have_small_letters(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """RFC 3339 allows t and z for T and Z, in a body and in a query."""
    database.make_service()
    await reserve(client, idempotencyKey="k", slotEnd=timestamp(at(11)))
    small: dict[str, Any] = {"slotStart": timestamp(at(10)).lower(), "slotEnd": timestamp(at(11)).lower()}
    assert all("t" in instant and instant.endswith("z") for instant in small.values())
    response = await client.post("/api/booking/reserve", json=slot(idempotencyKey="k", **small))
    assert response.status_code == 200
    query = {"businessId": "salon", "serviceId": "cut", "from": small["slotStart"], "to": small["slotEnd"]}
    assert (await client.get("/api/booking/availability", params=query)).json() == {"slots": [], "nextFrom": None}


@pytest.mark.parametrize("path", ["/api/booking/reserve", "/api/bookings", APPOINTMENTS, "/api/v1/public/salon/book"])
async def test_a_key_is_bound_to_the_client_that_sent_it(
    client: httpx2.AsyncClient, database: TestDatabase, path: str
) -> None:
    """A replay would show the booking to another client. Without X-Client-Id, a key belongs to the request alone."""
    database.make_service(capacity=5)
    settings = {"name": "Salon", "slug": "salon"}
    assert (await client.put("/api/catalog/businesses/salon", json=settings, headers=ADMIN)).status_code == 200
    guest: dict[str, Any] = {"guestEmail": "ada@example.com"} if path != "/api/booking/reserve" else {}
    names = {"firstName": "Ada", "lastName": "Example", "email": "ada@example.com"}
    body = {"serviceId": "cut", "startTime": at(10).isoformat(), **names} if "public" in path else slot(**guest)

    async def send(key: str, client_id: str | None) -> httpx2.Response:
        own = {} if client_id is None else {"X-Client-Id": client_id}
        return await client.post(path, json=body, headers={**ADMIN, "Idempotency-Key": key, **own})

    assert [(await send("bound", "ada")).status_code for _ in range(2)] == [201, 200]
    assert [(await send("free", None)).status_code for _ in range(2)] == [201, 200]
    for key, client_id in (("bound", "eve"), ("bound", None), ("free", "eve")):
        refused = await send(key, client_id)
        assert (refused.status_code, "IDEMPOTENCY_KEY_REUSED" in refused.text) == (422, True)


async def test_two_different_idempotency_keys_are_refused(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A request cannot name two attempts, one in the header and another in the body."""
    database.make_service()
    response = await client.post(
        "/api/booking/reserve", json=slot(idempotencyKey="a"), headers={"Idempotency-Key": "b"}
    )
    assert refusal(response) == (400, "IDEMPOTENCY_KEY_MISMATCH")


async def test_a_long_ttl_is_clamped_and_marked(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The answer shows a caller that the service's maximum was applied."""
    database.make_service(max_hold_ttl_minutes=20)
    reservation = await reserve(client, ttlMinutes=600)
    assert reservation["ttlClamped"] is True
    assert 1190 < reservation["expiresInSeconds"] <= 1200


async def test_a_fraction_of_a_minute_is_a_ttl(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A hold may be shorter than a minute."""
    database.make_service()
    assert (await reserve(client, ttlMinutes=0.5))["expiresInSeconds"] == 30


async def test_a_second_commit_replays_the_first(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The id of the hold is its idempotency key: the same request gets the same appointment and token."""
    database.make_service()
    reservation = await reserve(client)
    guest = {"guestName": "Ada", "guestPhone": "030 1234567", "notes": "by the window", "metadata": {"price": 40}}
    first, second = [await commit(client, reservation["reservationId"], **guest) for _ in range(2)]
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == first.json()
    assert second.headers["idempotency-replayed"] == "true"


async def test_the_id_of_a_hold_does_not_reveal_the_guest(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A commit with other guest data, or after the purge of the hold, gets the appointment's id and status only; one
    with the client id of the hold gets all of it."""
    database.make_service()
    own = {"X-Client-Id": str(uuid4())}
    held = (await client.post("/api/booking/reserve", json=slot(), headers=own)).json()
    body = {"reservationId": held["reservationId"], "guestEmail": "ada@example.com", "notes": "by the window"}
    first = (await client.post("/api/booking/commit", json=body)).json()
    eve = {"reservationId": held["reservationId"], "guestEmail": "eve@example.com"}
    known = {"appointmentId": first["appointmentId"], "status": "confirmed"}
    other = {"X-Client-Id": str(uuid4())}
    for headers, shown in (({}, known), (other, known), (own, first)):
        again = await client.post("/api/booking/commit", json=eve, headers=headers)
        assert (again.status_code, again.headers["idempotency-replayed"], again.json()) == (200, "true", shown)
    database.move_clock(timedelta(hours=25))
    assert (await client.post("/cron/cleanup-reservations", headers=CRON)).json()["deleted"] == 1
    for headers in ({}, own):
        assert (await client.post("/api/booking/commit", json=body, headers=headers)).json() == known


async def test_a_replayed_commit_ignores_a_faulty_phone_number(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """In a first commit an invalid phone number is a fault, which leaves the hold as it is."""
    database.make_service()
    reservation = await reserve(client)
    refused = await commit(client, reservation["reservationId"], guestPhone="123")
    assert faulty_fields(refused) == ["guestPhone"]
    first = await commit(client, reservation["reservationId"])
    second = await commit(client, reservation["reservationId"], guestPhone="123")
    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json()["appointmentId"] == first.json()["appointmentId"]


async def test_more_overlapping_windows_than_one_call_decides_are_all_answered(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Windows that overlap without being equal are decided one after the other, and those that one call leaves come
    first in the next."""
    database.make_service(capacity=40)
    responses = await asyncio.gather(
        *(client.post("/api/booking/reserve", json=slot(10 + minute / 60)) for minute in range(41))
    )
    assert sorted(response.status_code for response in responses) == [201] * 40 + [409]
    assert database.value("SELECT count(*) FROM booking.reservations") == 40


async def test_an_expired_hold_is_gone(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A commit gets a 410 without a purge in between; with `rebook` the slot is booked if it is still free."""
    database.make_service()
    reservation = await reserve(client)
    database.move_clock(timedelta(minutes=15))
    response = await commit(client, reservation["reservationId"])
    assert refusal(response) == (410, "RESERVATION_EXPIRED")
    response = await commit(client, reservation["reservationId"], ifExpired="rebook")
    assert response.status_code == 201
    response = await client.get(f"/api/booking/reservations/{reservation['reservationId']}")
    assert response.json()["status"] == "expired"


async def test_rebook_does_not_take_an_occupied_slot(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """If another caller holds the slot by then, the rebooking is refused and that hold is unaffected."""
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
    """A hold is extended within its maximum lifetime, and under the version that the caller read."""
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
    """The answer is 204, also when repeated, and the slot is free; a committed hold cannot be released."""
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


@pytest.mark.parametrize("content", [{}, {"content-type": "text/plain;charset=UTF-8"}, {"content-type": "image/png"}])
async def test_a_page_that_closes_releases_its_hold(
    client: httpx2.AsyncClient, database: TestDatabase, content: dict[str, str]
) -> None:
    """`navigator.sendBeacon` sends a POST whose content type a page can't set freely; the rules are those of DELETE."""
    database.make_service()
    held = await reserve(client)
    address = f"/api/booking/reservations/{held['reservationId']}/release"
    assert [(await client.post(address, headers=content)).status_code for _ in range(2)] == [204, 204]
    assert refusal(await commit(client, held["reservationId"])) == (410, "RESERVATION_RELEASED")

    again = await reserve(client)
    address = f"/api/booking/reservations/{again['reservationId']}/release"
    elsewhere = await client.post(address, headers=content, params={"businessId": "another"})
    assert refusal(elsewhere) == (404, "RESERVATION_NOT_FOUND")
    await commit(client, again["reservationId"])
    assert refusal(await client.post(address, headers=content)) == (409, "RESERVATION_COMMITTED")


@pytest.mark.parametrize("reservation_id", [pytest.param(str(uuid4()), id="uuid"), "no-uuid", "%00"])
async def test_an_unknown_reservation_is_a_404(
    client: httpx2.AsyncClient, database: TestDatabase, reservation_id: str
) -> None:
    """Every call refuses an unknown or malformed id."""
    database.make_service()
    address = f"/api/booking/reservations/{reservation_id}"
    for response in (
        await client.get(address),
        await client.delete(address),
        await client.post(address + "/release"),
        await client.post(address + "/extend", json={"ttlMinutes": 1}),
    ):
        assert refusal(response) == (404, "RESERVATION_NOT_FOUND")
    assert (await commit(client, str(uuid4()))).status_code == 404


async def test_a_hold_of_another_business_is_not_found(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A request that names a business searches that business only."""
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
    """The answer is a 422 with a reason that a frontend can translate."""
    database.make_service(**settings)
    response = await client.post("/api/booking/reserve", json=slot(hour, slotEnd=at(hour + 2).isoformat()))
    assert refusal(response) == (422, "SLOT_NOT_BOOKABLE")
    assert response.json()["reason"] == reason


@pytest.mark.parametrize("member", ["businessId", "serviceId"])
async def test_an_unknown_service_is_a_404(client: httpx2.AsyncClient, database: TestDatabase, member: str) -> None:
    """An unknown business and an unknown service get the same answer."""
    database.make_service()
    response = await client.post("/api/booking/reserve", json={**slot(), member: "nobody"})
    assert refusal(response) == (404, "SERVICE_NOT_FOUND")


async def test_capacity(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The numbers of held and booked places are those of the fullest instant of the slot."""
    database.make_service(capacity=4)
    await reserve(client)
    await commit(client, (await reserve(client))["reservationId"])
    query = slot(10, slotEnd=at(11).isoformat())
    response = await client.get("/api/booking/capacity", params=query)
    assert response.json() == {"capacity": 4, "held": 1, "booked": 1, "available": 2}
    response = await client.get("/api/booking/capacity", params={**query, "serviceId": "nothing"})
    assert response.status_code == 404
