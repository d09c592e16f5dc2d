"""Calls of the booking API, as tests make them, and the parts of their requests and answers."""

from datetime import datetime
from typing import Any, Final

import httpx2

from tests.database import at
from tests.http.conftest import ADMIN
from tests.http.describing import Json

APPOINTMENTS: Final = "/api/booking/appointments"


def timestamp(instant: datetime) -> str:
    """Formats an instant as answers do."""
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# The query of a list of appointments: the Monday of the tests.
MONDAY: Final = {"businessId": "salon", "from": timestamp(at(0)), "to": timestamp(at(24))}


def slot(hour: float = 10, **members: Any) -> Json:
    """Returns a body that asks for a slot of the salon's "cut", for a hold or for an appointment."""
    return {"businessId": "salon", "serviceId": "cut", "slotStart": at(hour).isoformat(), **members}


async def reserve(client: httpx2.AsyncClient, hour: float = 10, **members: Any) -> Json:
    """Holds a slot, and returns the reservation."""
    response = await client.post("/api/booking/reserve", json=slot(hour, **members))
    assert response.status_code == 201, response.text
    reservation: Json = response.json()
    return reservation


async def commit(client: httpx2.AsyncClient, reservation_id: str, **members: Any) -> httpx2.Response:
    """Commits a hold for a guest with an e-mail address."""
    body = {"reservationId": reservation_id, "guestEmail": "guest@example.com", **members}
    return await client.post("/api/booking/commit", json=body)


async def create(client: httpx2.AsyncClient, hour: float = 10, **members: Any) -> Json:
    """Creates an appointment with the administrator's key, and returns it without its token, as reads show it."""
    response = await client.post(APPOINTMENTS, json=slot(hour, **members), headers=ADMIN)
    assert response.status_code == 201, response.text
    appointment: Json = response.json()
    del appointment["cancellationToken"]
    return appointment


async def book(client: httpx2.AsyncClient, hour: float = 10, **members: Any) -> Json:
    """Books in one call as a guest does, and returns the appointment with its cancellation token."""
    body = slot(hour, guestEmail="ada@example.com", **members)
    response = await client.post("/api/bookings", json=body)
    assert response.status_code == 201, response.text
    appointment: Json = response.json()
    return appointment


async def change(
    client: httpx2.AsyncClient, appointment: Json, body: Json, if_match: str | None = None
) -> httpx2.Response:
    """Changes an appointment with the administrator's key."""
    headers = ADMIN | ({"If-Match": if_match} if if_match is not None else {})
    return await client.patch(f"{APPOINTMENTS}/{appointment['appointmentId']}", json=body, headers=headers)


async def cancel(
    client: httpx2.AsyncClient, appointment: Json, headers: dict[str, str] | None = None, **members: Any
) -> httpx2.Response:
    """Cancels an appointment; without `headers`, the request carries no key."""
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}/cancel"
    return await client.post(address, json=members, headers=headers or {})


async def reschedule(
    client: httpx2.AsyncClient, appointment: Json, hour: float, headers: dict[str, str] | None = None, **members: Any
) -> httpx2.Response:
    """Moves an appointment to an hour on the Monday of the tests, by default as its guest by the token."""
    address = f"{APPOINTMENTS}/{appointment['appointmentId']}/reschedule"
    body = {"slotStart": at(hour).isoformat(), **members}
    return await client.post(address, json=body, headers=by_token(appointment) if headers is None else headers)


def by_token(appointment: Json) -> dict[str, str]:
    """Returns the header by which a guest reads, moves and cancels an appointment."""
    return {"Guest-Token": appointment["cancellationToken"]}


async def read(client: httpx2.AsyncClient, appointment: Json) -> Json:
    """Returns the present state of an appointment."""
    response = await client.get(f"{APPOINTMENTS}/{appointment['appointmentId']}", headers=ADMIN)
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


async def list_day(client: httpx2.AsyncClient, **query: Any) -> Json:
    """Returns the first page of appointments, by default of the Monday of the tests."""
    response = await client.get(APPOINTMENTS, params={**MONDAY, **query}, headers=ADMIN)
    assert response.status_code == 200, response.text
    page: Json = response.json()
    return page


async def audit_trail(client: httpx2.AsyncClient, appointment: Json) -> list[Json]:
    """Returns the audit trail of an appointment."""
    response = await client.get(f"{APPOINTMENTS}/{appointment['appointmentId']}/audit", headers=ADMIN)
    assert response.status_code == 200, response.text
    items: list[Json] = response.json()["items"]
    return items
