"""The order of precedence of the codes: a request with two faults gets the one that stands first in the table."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from service.errors import PROBLEMS
from tests.database import TestDatabase, at
from tests.http.booking_calls import slot
from tests.http.conftest import ADMIN, running
from tests.http.keys import bearer, make_key

pytestmark = pytest.mark.anyio

Send = Callable[[httpx2.AsyncClient, TestDatabase], Coroutine[Any, Any, httpx2.Response]]

RESERVE = "/api/booking/reserve"
CUT = "/api/catalog/businesses/salon/services/cut"
HUGE = b"[" * 100_000


async def unauthorized(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    return await client.put(CUT, content=HUGE)


async def other_business(client: httpx2.AsyncClient, database: TestDatabase) -> httpx2.Response:
    database.make_business("clinic")
    key = await make_key(client, "readonly", "clinic")
    return await client.put(CUT, json={}, headers=bearer(key["key"]))


async def forbidden(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    key = await make_key(client, "readonly")
    return await client.put(CUT, content=HUGE, headers=bearer(key["key"]))


async def too_large(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    return await client.put(CUT, content=HUGE, headers=ADMIN | {"Content-Type": "text/plain"})


async def wrong_type(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    return await client.put(CUT, content=b"{", headers=ADMIN | {"Content-Type": "text/plain"})


async def invalid(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    body = slot(quantity=0, idempotencyKey="a")
    return await client.post(RESERVE, json=body, headers={"Idempotency-Key": "b"})


async def two_keys(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    body = slot(serviceId="perm", idempotencyKey="a")
    return await client.post(RESERVE, json=body, headers={"Idempotency-Key": "b"})


async def reused_key(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    await client.post(RESERVE, json=slot(idempotencyKey="a"))
    return await client.post(RESERVE, json=slot(serviceId="perm", idempotencyKey="a"))


async def no_service(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    return await client.post(RESERVE, json=slot(serviceId="perm", resourceId="chair"))


async def no_resource(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    return await client.post(RESERVE, json=slot(-24 * 60, resourceId="chair"))


async def not_bookable(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    await client.post(RESERVE, json=slot())
    await client.put(CUT, json={"name": "Cut", "durationMinutes": 60, "minNoticeMinutes": 500_000}, headers=ADMIN)
    return await client.post(RESERVE, json=slot())


async def released(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    held = (await client.post(RESERVE, json=slot())).json()
    own = f"/api/booking/reservations/{held['reservationId']}"
    await client.delete(own)
    return await client.post(f"{own}/extend", json={"ttlMinutes": 1, "expectedVersion": 7})


async def expired(client: httpx2.AsyncClient, database: TestDatabase) -> httpx2.Response:
    held = (await client.post(RESERVE, json=slot())).json()
    database.move_clock(timedelta(hours=1))
    return await client.post(
        f"/api/booking/reservations/{held['reservationId']}/extend", json={"ttlMinutes": 1, "expectedVersion": 7}
    )


async def hold_conflict(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    held = (await client.post(RESERVE, json=slot())).json()
    own = f"/api/booking/reservations/{held['reservationId']}"
    return await client.post(f"{own}/extend", json={"ttlMinutes": 10_080, "expectedVersion": 7})


async def appointment_conflict(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    booked = (await client.post("/api/bookings", json=slot(guestEmail="ada@example.com"))).json()
    own = f"/api/booking/appointments/{booked['appointmentId']}"
    await client.post(f"{own}/cancel", headers=ADMIN)
    return await client.patch(own, json={"expectedVersion": 1, "status": "completed"}, headers=ADMIN)


async def ended(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    booked = (await client.post("/api/bookings", json=slot(guestEmail="ada@example.com"))).json()
    own = f"/api/booking/appointments/{booked['appointmentId']}"
    await client.post(f"{own}/cancel", headers=ADMIN)
    await client.post(RESERVE, json=slot(12))
    return await client.patch(own, json={"expectedVersion": 2, "slotStart": at(12).isoformat()}, headers=ADMIN)


async def not_started(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    booked = (await client.post("/api/bookings", json=slot(guestEmail="ada@example.com"))).json()
    own = f"/api/booking/appointments/{booked['appointmentId']}"
    return await client.patch(own, json={"expectedVersion": 7, "status": "no_show"}, headers=ADMIN)


async def late_move(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    booked = (await client.post("/api/bookings", json=slot(guestEmail="ada@example.com"))).json()
    terms = {"rescheduleWindowMinutes": 500_000, "bookingEnabled": False}
    await client.put(CUT, json={"name": "Cut", "durationMinutes": 60, **terms}, headers=ADMIN)
    own = f"/api/booking/appointments/{booked['appointmentId']}/reschedule"
    body = {"slotStart": at(12).isoformat(), "resourceId": "chair"}
    return await client.post(own, json=body, headers={"Guest-Token": booked["cancellationToken"]})


async def late_move_of_another_version(client: httpx2.AsyncClient, database: TestDatabase) -> httpx2.Response:
    own = (await late_move(client, database)).request
    own_token = {"Guest-Token": own.headers["guest-token"], "If-Match": '"7"'}
    return await client.post(own.url, json={"slotStart": at(12).isoformat()}, headers=own_token)


async def closed_and_taken(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    booked = (await client.post("/api/bookings", json=slot(guestEmail="ada@example.com"))).json()
    await client.post(RESERVE, json=slot(12))
    await client.put(CUT, json={"name": "Cut", "durationMinutes": 60, "bookingEnabled": False}, headers=ADMIN)
    own = f"/api/booking/appointments/{booked['appointmentId']}/reschedule"
    token = {"Guest-Token": booked["cancellationToken"]}
    return await client.post(own, json={"slotStart": at(12).isoformat()}, headers=token)


async def at_the_limit_and_taken(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    once = {"name": "Cut", "durationMinutes": 60, "maxUpcomingPerGuest": 1}
    await client.put(CUT, json=once, headers=ADMIN)
    await client.post("/api/bookings", json=slot(guestEmail="ada@example.com"))
    return await client.post("/api/bookings", json=slot(guestEmail="ada@example.com"))


async def not_bookable_and_at_the_limit(client: httpx2.AsyncClient, database: TestDatabase) -> httpx2.Response:
    await at_the_limit_and_taken(client, database)
    return await client.post("/api/bookings", json=slot(-24 * 60, guestEmail="ada@example.com"))


async def ended_and_no_resource(client: httpx2.AsyncClient, _: TestDatabase) -> httpx2.Response:
    booked = (await client.post("/api/bookings", json=slot(guestEmail="ada@example.com"))).json()
    own = f"/api/booking/appointments/{booked['appointmentId']}"
    await client.post(f"{own}/cancel", headers=ADMIN)
    return await client.patch(own, json={"expectedVersion": 2, "resourceId": "chair"}, headers=ADMIN)


def forget_the_time_zone(database: TestDatabase) -> None:
    """Leaves the business with a time zone that the server does not know, as after a move to an older server."""
    database.make_service(starts_on_grid=True)
    database.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus'")


async def misconfigured_and_no_service(client: httpx2.AsyncClient, database: TestDatabase) -> httpx2.Response:
    forget_the_time_zone(database)
    return await client.post(RESERVE, json=slot(serviceId="perm"))


async def misconfigured_and_no_resource(client: httpx2.AsyncClient, database: TestDatabase) -> httpx2.Response:
    forget_the_time_zone(database)
    return await client.post(RESERVE, json=slot(resourceId="chair"))


async def misconfigured_list_and_no_service(client: httpx2.AsyncClient, database: TestDatabase) -> httpx2.Response:
    forget_the_time_zone(database)
    query = {"businessId": "salon", "serviceId": "perm", "from": "2027-01-11T00:00:00Z"}
    return await client.get("/api/booking/availability", params=query)


async def misconfigured_list_and_no_resource(client: httpx2.AsyncClient, database: TestDatabase) -> httpx2.Response:
    forget_the_time_zone(database)
    query = {"businessId": "salon", "serviceId": "cut", "from": "2027-01-11", "to": "2027-01-12", "resourceId": "chair"}
    return await client.get("/api/booking/availability/days", params=query)


@pytest.mark.parametrize(
    ("send", "first", "second"),
    [
        (unauthorized, "UNAUTHORIZED", "PAYLOAD_TOO_LARGE"),
        (other_business, "BUSINESS_NOT_FOUND", "FORBIDDEN"),
        (forbidden, "FORBIDDEN", "PAYLOAD_TOO_LARGE"),
        (too_large, "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"),
        (wrong_type, "UNSUPPORTED_MEDIA_TYPE", "VALIDATION_FAILED"),
        (invalid, "VALIDATION_FAILED", "IDEMPOTENCY_KEY_MISMATCH"),
        (two_keys, "IDEMPOTENCY_KEY_MISMATCH", "SERVICE_NOT_FOUND"),
        (reused_key, "IDEMPOTENCY_KEY_REUSED", "SERVICE_NOT_FOUND"),
        (no_service, "SERVICE_NOT_FOUND", "RESOURCE_NOT_FOUND"),
        (no_resource, "RESOURCE_NOT_FOUND", "SLOT_NOT_BOOKABLE"),
        (not_bookable, "SLOT_NOT_BOOKABLE", "SLOT_UNAVAILABLE"),
        (released, "RESERVATION_RELEASED", "VERSION_CONFLICT"),
        (expired, "RESERVATION_EXPIRED", "VERSION_CONFLICT"),
        (hold_conflict, "VERSION_CONFLICT", "HOLD_LIFETIME_EXCEEDED"),
        (appointment_conflict, "VERSION_CONFLICT", "APPOINTMENT_ENDED"),
        (ended, "APPOINTMENT_ENDED", "SLOT_UNAVAILABLE"),
        (late_move, "RESCHEDULE_WINDOW_CLOSED", "RESOURCE_NOT_FOUND"),
        (late_move, "RESCHEDULE_WINDOW_CLOSED", "SLOT_NOT_BOOKABLE"),
        (late_move_of_another_version, "VERSION_CONFLICT", "RESCHEDULE_WINDOW_CLOSED"),
        (closed_and_taken, "SLOT_NOT_BOOKABLE", "SLOT_UNAVAILABLE"),
        (at_the_limit_and_taken, "GUEST_LIMIT_REACHED", "SLOT_UNAVAILABLE"),
        (not_bookable_and_at_the_limit, "SLOT_NOT_BOOKABLE", "GUEST_LIMIT_REACHED"),
        (ended_and_no_resource, "APPOINTMENT_ENDED", "RESOURCE_NOT_FOUND"),
        (not_started, "VERSION_CONFLICT", "APPOINTMENT_NOT_STARTED"),
        (misconfigured_and_no_service, "SERVICE_NOT_FOUND", "BUSINESS_MISCONFIGURED"),
        (misconfigured_and_no_resource, "BUSINESS_MISCONFIGURED", "RESOURCE_NOT_FOUND"),
        (misconfigured_list_and_no_service, "SERVICE_NOT_FOUND", "BUSINESS_MISCONFIGURED"),
        (misconfigured_list_and_no_resource, "BUSINESS_MISCONFIGURED", "RESOURCE_NOT_FOUND"),
    ],
)
async def test_a_request_with_two_faults_gets_the_first_code(
    send: Send, first: str, second: str, client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The table, which the page of the codes shows, has them in this order."""
    database.make_service(capacity=1)
    response = await send(client, database)
    assert response.json()["code"] == first
    assert list(PROBLEMS).index(first) < list(PROBLEMS).index(second)


async def test_a_business_and_a_guests_token_are_looked_up_behind_the_body(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Their codes stand before VALIDATION_FAILED, for the access by a key; the document names this exception."""
    database.make_service()
    booked = (await client.post("/api/bookings", json=slot(guestEmail="ada@example.com"))).json()
    cancel = f"/api/booking/appointments/{booked['appointmentId']}/cancel"
    service = {"name": "Cut", "durationMinutes": 60}
    for fault, codes in (({}, ["BUSINESS_NOT_FOUND", "FORBIDDEN"]), ({"more": 1}, ["VALIDATION_FAILED"] * 2)):
        of_nobody = await client.put(CUT.replace("salon", "nobody"), json=service | fault, headers=ADMIN)
        of_another = await client.post(cancel, json=fault, headers={"Guest-Token": "x"})
        assert [answer.json()["code"] for answer in (of_nobody, of_another)] == codes


async def test_a_request_beyond_the_limit_is_rate_limited_whatever_else_is_wrong(database: TestDatabase) -> None:
    """So a flood of malformed requests, or of requests with wrong tokens, is limited too."""
    async with running(database, rate_limit="2/hour") as client:
        answers = [await client.put(CUT, content=HUGE) for _ in range(3)]
        assert [answer.json()["code"] for answer in answers] == ["UNAUTHORIZED", "UNAUTHORIZED", "RATE_LIMITED"]
    order = list(PROBLEMS)
    assert order.index("METHOD_NOT_ALLOWED") < order.index("RATE_LIMITED") < order.index("UNAUTHORIZED")
