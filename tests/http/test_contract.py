"""The answers of the service, compared with its document."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.conftest import ADMIN, CRON
from tests.http.describing import (
    PAGES,
    PROBLEM,
    TO_READ,
    Json,
    answers,
    check,
    example_request,
    operation_of,
    served_document,
)

pytestmark = pytest.mark.anyio

Call = Callable[..., Coroutine[Any, Any, Json]]

CATALOG = "/api/catalog/businesses"
RESERVE = "/api/booking/reserve"
COMMIT = "/api/booking/commit"
HOLDS = "/api/booking/reservations"
APPOINTMENTS = "/api/booking/appointments"
CUT = f"{CATALOG}/salon/services/cut"
SALON = {"name": "Salon", "slug": "salon", "country": "DE"}
SETTINGS = {"name": "Cut", "durationMinutes": 60, "maxSimultaneousBookings": 2}

# Codes that follow from the declaration of a call: see test_openapi.py. And codes that need an outage, or very many
# requests: see test_limits.py and tests/faults.
GENERAL = {"VALIDATION_FAILED", "UNAUTHORIZED", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"}
NOT_PROVOKED = {
    "RATE_LIMITED",
    "TOO_MANY_HOLDS",
    "TOO_MANY_BOOKINGS",
    "LIMIT_REACHED",
    "OVERLOADED",
    "DATABASE_UNAVAILABLE",
}


async def test_the_service_gives_exactly_the_answers_of_the_document(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Compares every status, header, member and code with the document."""
    document = await served_document()
    met = set()

    async def call(method: str, path: str, status: int, body: Any = None, **more: Any) -> Json:
        response = await client.request(method, path, json=body, **more)
        assert response.status_code == status, response.text
        met.add(
            (operation_of(document, response.request)["operationId"], response.status_code, check(document, response))
        )
        return response.json() if "json" in response.headers.get("content-type", "") else {}

    await use_the_catalog(call)
    await use_resources_and_hours(call)
    await take_seats_away(call)
    held = await reserve(call)
    await use_a_hold(call, held)
    await lower_the_capacity(call)
    await let_a_hold_expire(call, database)
    await book_at_once(call)
    await read_the_public_catalogue(call)
    await book_from_a_widget(call)
    await reach_the_limit_of_a_guest(call)
    await use_appointments(call, database)
    await lose_the_time_zone(call, database)
    await subscribe_to_calendars(call)
    await operate(call)
    await use_keys(call)
    await be_turned_away(call, document)
    await clear_the_catalog(call)
    told = {(name, status, code) for name, status, code in answers(document) if code not in GENERAL | NOT_PROVOKED}
    # Reservation health reports the altered clock of the tests. And a stream never ends.
    assert met == told - {("reservationHealth", 200, None), ("watchChanges", 200, None)}


async def use_the_catalog(call: Call) -> None:
    """Puts and reads, and provokes the refusals of the catalog."""
    await call("PUT", f"{CATALOG}/salon", 201, SALON, headers=ADMIN)
    await call("PUT", f"{CATALOG}/salon", 200, SALON, headers=ADMIN)
    await call("PUT", f"{CATALOG}/other", 409, SALON, headers=ADMIN)
    await call("PUT", CUT, 201, SETTINGS, headers=ADMIN)
    await call("PUT", CUT, 200, SETTINGS, headers=ADMIN)
    await call("PUT", f"{CATALOG}/nobody/services/cut", 404, SETTINGS, headers=ADMIN)
    for path in ("nobody", "nobody/services", "nobody/archived", "salon/services/perm"):
        await call("GET", f"{CATALOG}/{path}", 404, headers=ADMIN)
    await call("DELETE", f"{CATALOG}/nobody", 404, headers=ADMIN)
    await call("DELETE", f"{CATALOG}/salon/services/perm", 404, headers=ADMIN)
    for path in (CATALOG, f"{CATALOG}/salon", f"{CATALOG}/salon/services", f"{CATALOG}/salon/archived", CUT):
        await call("GET", path, 200, headers=ADMIN)
    document = await call("GET", f"{CATALOG}/salon/document", 200, headers=ADMIN)
    await call("GET", f"{CATALOG}/nobody/document", 404, headers=ADMIN)
    await call("PUT", f"{CATALOG}/salon/document", 200, document, headers=ADMIN)
    await call("PUT", f"{CATALOG}/other/document", 409, {**document, "businessId": "other"}, headers=ADMIN)


async def use_resources_and_hours(call: Call) -> None:
    """Puts, reads and deletes; afterwards the salon has none."""
    hours = f"{CATALOG}/salon/opening-hours"
    bodies: dict[str, Any] = {
        f"{CATALOG}/salon/resources/anna": {"name": "Anna", "kind": "staff"},
        f"{CATALOG}/salon/special-hours/easter": {"date": "2027-03-28", "hours": []},
        f"{CATALOG}/salon/closures/away": {"from": at(10).isoformat(), "to": at(12).isoformat()},
    }
    for path, body in bodies.items():
        await call("PUT", path, 201, body, headers=ADMIN)
        await call("PUT", path, 200, body, headers=ADMIN)
        await call("PUT", path.replace("salon", "nobody"), 404, body, headers=ADMIN)
        for address in (path, path.rpartition("/")[0]):
            await call("GET", address, 200, headers=ADMIN)
            await call("GET", address.replace("salon", "nobody"), 404, headers=ADMIN)
        await call("DELETE", path, 204, headers=ADMIN)
        for method in ("GET", "DELETE"):
            await call(method, path, 404, headers=ADMIN)
    await call("PUT", hours, 200, [{"weekday": 1, "opens": "09:00", "closes": "17:00"}], headers=ADMIN)
    await call("GET", hours, 200, headers=ADMIN)
    await call("DELETE", hours, 204, headers=ADMIN)
    await call("PUT", hours.replace("salon", "nobody"), 404, [], headers=ADMIN)
    for method in ("GET", "DELETE"):
        await call(method, hours.replace("salon", "nobody"), 404, headers=ADMIN)


async def take_seats_away(call: Call) -> None:
    """Claims the seats of a room, and provokes the refusals to make it smaller and to remove it."""
    room, talk = f"{CATALOG}/salon/resources/room", f"{CATALOG}/salon/services/talk"
    await call("PUT", room, 201, {"name": "Room", "seats": 2}, headers=ADMIN)
    settings = {"name": "Talk", "durationMinutes": 60}
    await call("PUT", talk, 201, {**settings, "maxSimultaneousBookings": 2}, headers=ADMIN)
    await call("POST", RESERVE, 201, slot(9, serviceId="talk", quantity=2))
    await call("PUT", talk, 200, {**settings, "resourceIds": ["room"]}, headers=ADMIN)
    await call("PUT", room, 409, {"name": "Room"}, headers=ADMIN)
    await call("DELETE", room, 409, headers=ADMIN)


async def reserve(call: Call) -> Json:
    """Reserves and replays, and provokes every refusal of reserve; returns the hold."""
    key = {"Idempotency-Key": "a"}
    client = {"X-Client-Id": "a client's own secret"}
    await call("GET", f"{HOLDS}/own", 200, params={"businessId": "salon"}, headers=client)
    await call("GET", f"{HOLDS}/own", 404, params={"businessId": "nobody"}, headers=client)
    held = await call("POST", RESERVE, 201, slot(9), headers=key)
    await call("POST", RESERVE, 200, slot(9), headers=key)
    await call("POST", RESERVE, 422, slot(10), headers=key)
    await call("POST", RESERVE, 400, slot(10, idempotencyKey="b"), headers=key)
    await call("POST", RESERVE, 404, slot(10, serviceId="perm"))
    await call("POST", RESERVE, 404, slot(10, resourceId="chair"))
    await call("POST", RESERVE, 409, slot(10, quantity=3))
    await call("POST", RESERVE, 422, slot(-24 * 60))
    return held


async def use_a_hold(call: Call, held: Json) -> None:
    """Reads, extends and commits one hold, and releases another."""
    own = f"{HOLDS}/{held['reservationId']}"
    query = {name: held[name] for name in ("businessId", "serviceId", "slotStart", "slotEnd")}
    await call("GET", "/api/booking/capacity", 200, params=query)
    await call("GET", "/api/booking/stream", 404, params={"businessId": "salon", "serviceId": "perm"})
    await call("GET", "/api/booking/stream", 404, params={"businessId": "nobody"})
    await call("GET", "/api/booking/capacity", 404, params={**query, "serviceId": "perm"})
    listing = {"businessId": "salon", "serviceId": "cut", "from": at(8).isoformat(), "to": at(12).isoformat()}
    await call("GET", "/api/booking/availability", 200, params=listing)
    await call("GET", "/api/booking/availability", 404, params={**listing, "serviceId": "perm"})
    await call("GET", "/api/booking/availability", 404, params={**listing, "resourceId": "chair"})
    dates = {"businessId": "salon", "serviceId": "cut", "from": "2027-01-11", "to": "2027-01-12"}
    await call("GET", "/api/booking/availability/days", 200, params=dates)
    await call("GET", "/api/booking/availability/days", 404, params={**dates, "serviceId": "perm"})
    await call("GET", "/api/booking/availability/days", 404, params={**dates, "resourceId": "chair"})
    for path, query in (("", listing), ("/days", dates)):
        await call("GET", f"/api/booking/availability{path}", 403, params={**query, "appointmentId": str(uuid4())})
    await call("GET", own, 200)
    await call("GET", HOLDS, 200, headers=ADMIN, params={"businessId": "salon"})
    await call("GET", HOLDS, 404, headers=ADMIN, params={"businessId": "nobody"})
    await call("POST", f"{own}/extend", 200, {"ttlMinutes": 30})
    await call("POST", f"{own}/extend", 409, {"ttlMinutes": 30, "expectedVersion": 1})
    await call("POST", COMMIT, 409, guest(held, expectedVersion=1))
    await call("POST", COMMIT, 201, guest(held))
    await call("POST", COMMIT, 200, guest(held))
    await call("POST", f"{own}/extend", 409, {"ttlMinutes": 30})
    await call("DELETE", own, 409)
    await call("POST", f"{own}/release", 409)

    released = await call("POST", RESERVE, 201, slot(12))
    own = f"{HOLDS}/{released['reservationId']}"
    await call("DELETE", own, 204)
    await call("POST", f"{own}/release", 204)
    await call("POST", f"{own}/extend", 410, {"ttlMinutes": 1})
    await call("POST", COMMIT, 410, guest(released))

    unknown = str(uuid4())
    await call("GET", f"{HOLDS}/{unknown}", 404)
    await call("POST", f"{HOLDS}/{unknown}/extend", 404, {"ttlMinutes": 1})
    await call("POST", COMMIT, 404, guest({"reservationId": unknown}))
    await call("DELETE", f"{HOLDS}/{unknown}", 404)
    await call("POST", f"{HOLDS}/{unknown}/release", 404)


async def lower_the_capacity(call: Call) -> None:
    """Puts a capacity below the claims."""
    await call("POST", RESERVE, 201, slot(9))
    await call("PUT", CUT, 409, {**SETTINGS, "maxSimultaneousBookings": 1}, headers=ADMIN)
    document = await call("GET", f"{CATALOG}/salon/document", 200, headers=ADMIN)
    document["services"]["cut"]["maxSimultaneousBookings"] = 1
    await call("PUT", f"{CATALOG}/salon/document", 409, document, headers=ADMIN)


async def let_a_hold_expire(call: Call, database: TestDatabase) -> None:
    """Extends a hold to its limit, lets it expire, and takes its room."""
    await call("PUT", CUT, 200, {**SETTINGS, "maxHoldLifetimeMinutes": 60}, headers=ADMIN)
    expiring = await call("POST", RESERVE, 201, slot(14))
    database.move_clock(timedelta(minutes=10))
    await call("POST", f"{HOLDS}/{expiring['reservationId']}/extend", 409, {"ttlMinutes": 60})
    database.move_clock(timedelta(minutes=10))
    await call("POST", COMMIT, 410, guest(expiring))
    await call("POST", f"{HOLDS}/{expiring['reservationId']}/extend", 410, {"ttlMinutes": 1})
    await call("POST", RESERVE, 201, slot(14, quantity=2))
    await call("POST", COMMIT, 409, guest(expiring, ifExpired="rebook"))


async def book_at_once(call: Call) -> None:
    """Books as a guest and on behalf of the business, and provokes the refusals."""
    for path, headers, key in (("/api/bookings", {}, "c"), (APPOINTMENTS, ADMIN, "d")):
        attempt, elsewhere = headers | {"Idempotency-Key": key}, {"serviceId": "perm"}
        await call("POST", path, 201, booking(16), headers=attempt)
        await call("POST", path, 200, booking(16), headers=attempt)
        await call("POST", path, 422, booking(17), headers=attempt)
        await call("POST", path, 400, booking(17, idempotencyKey="e"), headers=attempt)
        await call("POST", path, 404, booking(17, **elsewhere), headers=headers)
        await call("POST", path, 404, booking(17, resourceId="chair"), headers=headers)
        await call("POST", path, 409, booking(17, quantity=3), headers=headers)
    await call("POST", "/api/bookings", 422, booking(-24 * 60))
    await call("POST", APPOINTMENTS, 201, booking(-24 * 60), headers=ADMIN)


async def read_the_public_catalogue(call: Call) -> None:
    """Reads it, reads it again with its tag, and another one that does not exist."""
    path = "/api/v1/public/salon"
    await call("GET", path, 200)
    await call("GET", path, 304, headers={"If-None-Match": "*"})
    await call("GET", "/api/v1/public/nobody", 404)


async def reach_the_limit_of_a_guest(call: Call) -> None:
    """Books twice for a guest who may have one appointment, in each public way."""
    limited, once = f"{CATALOG}/salon/services/once", {"serviceId": "once"}
    await call("PUT", limited, 201, {"name": "Once", "durationMinutes": 60, "maxUpcomingPerGuest": 1}, headers=ADMIN)
    held = await call("POST", RESERVE, 201, slot(9, **once))
    await call("POST", "/api/bookings", 201, booking(10, **once))
    await call("POST", "/api/bookings", 409, booking(11, **once))
    await call("POST", COMMIT, 409, guest(held))
    form = {"firstName": "Ada", "email": "ada@example.com", "startTime": at(11).isoformat()}
    await call("POST", "/api/v1/public/salon/book", 409, form | once)


async def book_from_a_widget(call: Call) -> None:
    """Books in the format of a widget."""
    path, key = "/api/v1/public/salon/book", {"Idempotency-Key": "f"}
    names = {"firstName": "Ada", "lastName": "Example", "email": "ada@example.com"}

    def form(hour: float, **members: Any) -> Json:
        return {"serviceId": "cut", "startTime": at(hour).isoformat(), **names, **members}

    await call("POST", path, 201, form(18), headers=key)
    await call("POST", path, 200, form(18), headers=key)
    await call("POST", path, 422, form(19), headers=key)
    await call("POST", path.replace("salon", "nobody"), 404, form(19))
    await call("POST", path, 404, form(19, serviceId="perm"))
    await call("POST", path, 404, form(19, staffId="chair"))
    await call("POST", path, 201, form(18))
    await call("POST", path, 400, form(18))
    await call("POST", path, 422, form(-24 * 60))


async def use_appointments(call: Call, database: TestDatabase) -> None:
    """Reads, changes, moves, cancels and erases one, and ends another."""
    booked = await call("POST", "/api/bookings", 201, booking(20))
    own, unknown = f"{APPOINTMENTS}/{booked['appointmentId']}", f"{APPOINTMENTS}/{uuid4()}"
    day = {"businessId": "salon", "from": at(0).isoformat(), "to": at(24).isoformat()}
    await call("GET", APPOINTMENTS, 200, headers=ADMIN, params=day)
    await call("GET", APPOINTMENTS, 404, headers=ADMIN, params=day | {"businessId": "nobody"})
    for address, status in ((own, 200), (unknown, 404)):
        await call("GET", address, status, headers=ADMIN)
        await call("GET", f"{address}/audit", status, headers=ADMIN)
        await call("PATCH", address, status, {"expectedVersion": 1, "notes": "window"}, headers=ADMIN)
    await call("PATCH", own, 409, {"expectedVersion": 1}, headers=ADMIN)
    await call("PATCH", own, 412, {}, headers=ADMIN | {"If-Match": '"1"'})
    await call("PATCH", own, 404, {"expectedVersion": 2, "resourceId": "chair"}, headers=ADMIN)
    await call("PATCH", own, 404, {"expectedVersion": 2, "serviceId": "perm"}, headers=ADMIN)
    await call("PATCH", own, 409, {"expectedVersion": 2, "slotStart": at(18).isoformat()}, headers=ADMIN)

    token = {"cancellationToken": booked["cancellationToken"]}
    guest = {"Guest-Token": booked["cancellationToken"]}
    await move_as_guest(call, own, guest)
    await call("PUT", CUT, 200, {**SETTINGS, "cancellationWindowMinutes": 365 * 24 * 60}, headers=ADMIN)
    await call("POST", f"{own}/reschedule", 409, {"slotStart": at(22).isoformat()}, headers=guest)
    await call("POST", f"{own}/cancel", 409, token)
    await call("POST", f"{own}/cancel", 403, headers={"Guest-Token": "v1.x"})
    await call("PUT", CUT, 200, SETTINGS, headers=ADMIN)
    await call("POST", f"{own}/cancel", 409, {"expectedVersion": 1}, headers=ADMIN)
    await call("POST", f"{own}/cancel", 412, headers=ADMIN | {"If-Match": '"1"'})
    await call("POST", f"{own}/cancel", 200, token)
    await call("POST", f"{unknown}/cancel", 404, token)
    await call("POST", f"{own}/reschedule", 409, {"slotStart": at(21).isoformat()}, headers=guest)
    await call("PATCH", own, 409, {"expectedVersion": 4, "status": "confirmed"}, headers=ADMIN)
    await call("DELETE", f"{own}/guest", 412, headers=ADMIN | {"If-Match": '"1"'})
    await call("DELETE", f"{own}/guest", 204, headers=ADMIN)
    await call("DELETE", f"{unknown}/guest", 404, headers=ADMIN)
    for business_id, status in (("salon", 200), ("nobody", 404)):
        person = {"businessId": business_id, "guestEmail": "ada@example.com"}
        await call("POST", "/api/booking/guests/erase", status, person, headers=ADMIN)

    over = await call("POST", APPOINTMENTS, 201, booking(20), headers=ADMIN)
    own = f"{APPOINTMENTS}/{over['appointmentId']}"
    await call("PATCH", own, 409, {"expectedVersion": 1, "status": "completed"}, headers=ADMIN)
    now = database.value("SELECT booking.now()")
    database.freeze_clock(at(20))
    await call("PATCH", own, 200, {"expectedVersion": 1, "status": "completed"}, headers=ADMIN)
    await call("POST", f"{own}/cancel", 409, {}, headers=ADMIN)
    database.freeze_clock(now)


async def move_as_guest(call: Call, own: str, guest: dict[str, str]) -> None:
    """Reads and moves an appointment by its token, and provokes the refusals of a move."""
    unknown, later = f"{APPOINTMENTS}/{uuid4()}", {"slotStart": at(21).isoformat()}
    for headers, status in ((guest, 200), ({"Guest-Token": "v1.x"}, 403)):
        await call("GET", own, status, headers=headers)
        await call("POST", f"{own}/reschedule", status, {**later, "expectedVersion": 2}, headers=headers)
    await call("POST", f"{own}/reschedule", 409, {**later, "expectedVersion": 2}, headers=guest)
    await call("POST", f"{own}/reschedule", 412, later, headers=guest | {"If-Match": '"2"'})
    await call("POST", f"{own}/reschedule", 404, {**later, "resourceId": "chair"}, headers=guest)
    await call("POST", f"{own}/reschedule", 409, {"slotStart": at(18).isoformat()}, headers=guest)
    await call("POST", f"{own}/reschedule", 422, {"slotStart": at(-24 * 60).isoformat()}, headers=guest)
    await call("POST", f"{unknown}/reschedule", 404, later, headers=guest)


async def lose_the_time_zone(call: Call, database: TestDatabase) -> None:
    """Meets every call that needs the local time of a business whose time zone the server does not know."""
    database.put_service(
        "night", duration_days=1, duration_minutes=None, min_duration_minutes=None, max_duration_minutes=None
    )
    stay = {"serviceId": "night"}
    booked = await call("POST", APPOINTMENTS, 201, booking(20, **stay), headers=ADMIN)
    database.rows("UPDATE booking.businesses SET timezone = 'Mars/Olympus' WHERE business_id = 'salon'")
    await call("PUT", f"{CATALOG}/salon/closures/away", 422, {"date": "2027-01-11"}, headers=ADMIN)
    document = await call("GET", f"{CATALOG}/salon/document", 200, headers=ADMIN)
    document["closures"]["away"] = {"date": "2027-01-11"}
    await call("PUT", f"{CATALOG}/salon/document", 422, document, headers=ADMIN)
    await call("POST", RESERVE, 422, slot(20, **stay))
    await call("POST", "/api/bookings", 422, booking(20, **stay))
    await call("POST", APPOINTMENTS, 422, booking(20, **stay), headers=ADMIN)
    form = {"serviceId": "night", "startTime": at(20).isoformat(), "firstName": "Ada", "lastName": "Example"}
    await call("POST", "/api/v1/public/salon/book", 422, {**form, "email": "ada@example.com"})
    moved = {"expectedVersion": 1, "slotStart": at(44).isoformat()}
    await call("PATCH", f"{APPOINTMENTS}/{booked['appointmentId']}", 422, moved, headers=ADMIN)
    await call("POST", f"{APPOINTMENTS}/{booked['appointmentId']}/reschedule", 422, moved, headers=ADMIN)
    listing = {"businessId": "salon", "serviceId": "night"}
    await call("GET", "/api/booking/availability", 422, params={**listing, "from": at(8).isoformat()})
    await call(
        "GET", "/api/booking/availability/days", 422, params={**listing, "from": "2027-01-11", "to": "2027-01-12"}
    )
    await call("PUT", f"{CATALOG}/salon", 200, SALON, headers=ADMIN)


async def subscribe_to_calendars(call: Call) -> None:
    """Lists and reads the feeds, then replaces their keys."""
    await call("PUT", f"{CATALOG}/salon/resources/desk", 201, {"name": "Desk", "kind": "desk"}, headers=ADMIN)
    feeds = f"{CATALOG}/salon/calendar-feeds"
    paths = [item["path"] for item in (await call("GET", feeds, 200, headers=ADMIN))["items"]]
    for path in paths:
        await call("GET", path, 200)
    await call("POST", f"{feeds}/rotate", 200, headers=ADMIN)
    for path in paths:
        await call("GET", path, 403)
    await call("GET", f"{CATALOG}/nobody/calendar-feeds", 404, headers=ADMIN)
    await call("POST", f"{CATALOG}/nobody/calendar-feeds/rotate", 404, headers=ADMIN)


async def operate(call: Call) -> None:
    """Calls what probes, the scheduler and readers call."""
    for path in ("/cron/cleanup-reservations", "/api/cron/cleanup-reservations"):
        await call("GET", path, 200, headers=CRON)
        await call("POST", path, 200, headers=CRON)
    await call("GET", "/api/operations/overview", 200, headers=ADMIN)
    await call("GET", "/", 307)
    await call("GET", "/book/salon/", 307)
    for path in (*TO_READ, "/docs/docs.css", *PAGES):
        await call("GET", path, 200)
    for path in PAGES:
        await call("GET", path, 304, headers={"If-None-Match": "*"})
    await call("GET", "/docs/nothing.js", 404)
    await call("GET", "/docs/deploy/nothing.md", 404)
    await call("GET", "/static/nothing.js", 404)
    await call("GET", "/static/book/nothing.js", 404)
    await call("GET", "/health/reservations", 503)


async def use_keys(call: Call) -> None:
    """Creates, lists and revokes keys."""
    keys, desk = f"{CATALOG}/salon/keys", {"name": "Desk", "role": "staff"}
    made = await call("POST", keys, 201, desk, headers=ADMIN)
    await call("GET", keys, 200, headers=ADMIN)
    await call("GET", f"{CATALOG}/salon/own-key", 200, headers={"Authorization": f"Bearer {made['key']}"})
    await call("DELETE", f"{keys}/{made['keyId']}", 204, headers=ADMIN)
    await call("DELETE", f"{keys}/{made['keyId'][::-1]}", 404, headers=ADMIN)
    await call("POST", f"{CATALOG}/nobody/keys", 404, desk, headers=ADMIN)
    await call("GET", f"{CATALOG}/nobody/keys", 404, headers=ADMIN)


async def be_turned_away(call: Call, document: Json) -> None:
    """Calls with a key of too low a role, and with one of another business."""
    await call("PUT", f"{CATALOG}/stranger", 201, {**SALON, "slug": None}, headers=ADMIN)
    turned_away = {"FORBIDDEN": (403, "salon", "readonly"), "BUSINESS_NOT_FOUND": (404, "stranger", "owner")}
    for code, (status, business_id, role) in turned_away.items():
        made = await call("POST", f"{CATALOG}/{business_id}/keys", 201, {"name": "Key", "role": role}, headers=ADMIN)
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                told = operation["responses"].get(str(status), {}).get("content", {}).get(PROBLEM, {"examples": {}})
                if code == "FORBIDDEN" and {"READONLY_KEY": []} in operation["security"]:
                    continue  # only a guest's wrong token gets it
                if operation["security"] and code in told["examples"]:
                    request = example_request(document, method, path, {}, {"businessId": "salon"})
                    headers = dict(request.headers) | {"Authorization": f"Bearer {made['key']}"}
                    await call(method.upper(), str(request.url), status, headers=headers, content=request.content)


async def clear_the_catalog(call: Call) -> None:
    """Deletes what can be deleted; a service with bookings is archived."""
    await call("DELETE", f"{CATALOG}/salon", 409, headers=ADMIN)
    await call("DELETE", CUT, 204, headers=ADMIN)
    await call("PUT", f"{CATALOG}/other", 201, {**SALON, "slug": None}, headers=ADMIN)
    await call("DELETE", f"{CATALOG}/other", 204, headers=ADMIN)


def slot(hour: float, **members: Any) -> Json:
    """Returns a body for reserve."""
    return {"businessId": "salon", "serviceId": "cut", "slotStart": at(hour).isoformat(), **members}


def booking(hour: float, **members: Any) -> Json:
    """Returns a body for a booking without a hold."""
    return slot(hour, guestEmail="ada@example.com", **members)


def guest(held: Json, **members: Any) -> Json:
    """Returns a body for commit."""
    return {"reservationId": held["reservationId"], "guestEmail": "ada@example.com", **members}
