"""What the service really answers, compared with what its document and its docs page say."""

import html
import re
import shlex
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from service.database.connections import Database
from service.demo import make_demo_catalog
from tests.database import TestDatabase, at
from tests.http.conftest import ADMIN, CRON
from tests.http.describing import Json, answers, check, operation_of, served_document

pytestmark = pytest.mark.anyio

Call = Callable[..., Coroutine[Any, Any, Json]]

CATALOG = "/api/catalog/businesses"
RESERVE = "/api/booking/reserve"
COMMIT = "/api/booking/commit"
HOLDS = "/api/booking/reservations"
CUT = f"{CATALOG}/salon/services/cut"
SALON = {"name": "Salon", "slug": "salon", "country": "DE"}
SETTINGS = {"name": "Cut", "durationMinutes": 60, "maxSimultaneousBookings": 2}

# What follows from how a call is declared, not from what it does: see test_openapi.py. And what nobody can
# provoke without breaking something.
GENERAL = {"VALIDATION_FAILED", "UNAUTHORIZED", "PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"}
NOT_PROVOKED = {"OVERLOADED", "DATABASE_UNAVAILABLE"}


async def test_the_service_gives_just_those_answers_that_the_document_tells_of(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The promise of the whole document: every status, header and member, and which calls meet which codes."""
    document = await served_document()
    met = set()

    async def call(method: str, path: str, status: int, body: Any = None, **more: Any) -> Json:
        response = await client.request(method, path, json=body, **more)
        assert response.status_code == status, response.text
        met.add((operation_of(document, response)["operationId"], response.status_code, check(document, response)))
        return response.json() if "json" in response.headers.get("content-type", "") else {}

    await use_the_catalog(call)
    held = await reserve(call)
    await use_a_hold(call, held)
    await lower_the_capacity(call)
    await let_a_hold_expire(call, database)
    await operate(call)
    await clear_the_catalog(call)
    told = {(name, status, code) for name, status, code in answers(document) if code not in GENERAL | NOT_PROVOKED}
    # The clock of the tests is not the one that was shipped, and reservation health says so.
    assert met == told - {("reservationHealth", 200, None)}


async def use_the_catalog(call: Call) -> None:
    """Puts and reads, and is refused what the catalog refuses."""
    await call("PUT", f"{CATALOG}/salon", 201, SALON, headers=ADMIN)
    await call("PUT", f"{CATALOG}/salon", 200, SALON, headers=ADMIN)
    await call("PUT", f"{CATALOG}/other", 409, SALON, headers=ADMIN)
    await call("PUT", CUT, 201, SETTINGS, headers=ADMIN)
    await call("PUT", CUT, 200, SETTINGS, headers=ADMIN)
    await call("PUT", f"{CATALOG}/nobody/services/cut", 404, SETTINGS, headers=ADMIN)
    for path in (f"{CATALOG}/nobody", f"{CATALOG}/nobody/services", f"{CATALOG}/salon/services/perm"):
        await call("GET", path, 404, headers=ADMIN)
    await call("DELETE", f"{CATALOG}/nobody", 404, headers=ADMIN)
    await call("DELETE", f"{CATALOG}/salon/services/perm", 404, headers=ADMIN)
    for path in (CATALOG, f"{CATALOG}/salon", f"{CATALOG}/salon/services", CUT):
        await call("GET", path, 200, headers=ADMIN)


async def reserve(call: Call) -> Json:
    """Reserves and replays, and is refused everything that reserve refuses; returns the hold."""
    key = {"Idempotency-Key": "a"}
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
    """Looks, extends and commits one hold, and releases another."""
    own = f"{HOLDS}/{held['reservationId']}"
    query = {name: held[name] for name in ("businessId", "serviceId", "slotStart", "slotEnd")}
    await call("GET", "/api/booking/capacity", 200, params=query)
    await call("GET", "/api/booking/capacity", 404, params={**query, "serviceId": "perm"})
    await call("GET", own, 200)
    await call("POST", f"{own}/extend", 200, {"ttlMinutes": 30})
    await call("POST", f"{own}/extend", 409, {"ttlMinutes": 30, "expectedVersion": 1})
    await call("POST", COMMIT, 409, guest(held, expectedVersion=1))
    await call("POST", COMMIT, 201, guest(held))
    await call("POST", COMMIT, 200, guest(held))
    await call("POST", f"{own}/extend", 409, {"ttlMinutes": 30})
    await call("DELETE", own, 409)

    released = await call("POST", RESERVE, 201, slot(12))
    own = f"{HOLDS}/{released['reservationId']}"
    await call("DELETE", own, 204)
    await call("POST", f"{own}/extend", 410, {"ttlMinutes": 1})
    await call("POST", COMMIT, 410, guest(released))

    unknown = str(uuid4())
    await call("GET", f"{HOLDS}/{unknown}", 404)
    await call("POST", f"{HOLDS}/{unknown}/extend", 404, {"ttlMinutes": 1})
    await call("POST", COMMIT, 404, guest({"reservationId": unknown}))
    await call("DELETE", f"{HOLDS}/{unknown}", 404)


async def lower_the_capacity(call: Call) -> None:
    """Below what is claimed."""
    await call("POST", RESERVE, 201, slot(9))
    await call("PUT", CUT, 409, {**SETTINGS, "maxSimultaneousBookings": 1}, headers=ADMIN)


async def let_a_hold_expire(call: Call, database: TestDatabase) -> None:
    """After it was extended as far as it goes; somebody else takes its room."""
    await call("PUT", CUT, 200, {**SETTINGS, "maxHoldLifetimeMinutes": 60}, headers=ADMIN)
    expiring = await call("POST", RESERVE, 201, slot(14))
    database.move_clock(timedelta(minutes=10))
    await call("POST", f"{HOLDS}/{expiring['reservationId']}/extend", 409, {"ttlMinutes": 60})
    database.move_clock(timedelta(minutes=10))
    await call("POST", COMMIT, 410, guest(expiring))
    await call("POST", f"{HOLDS}/{expiring['reservationId']}/extend", 410, {"ttlMinutes": 1})
    await call("POST", RESERVE, 201, slot(14, quantity=2))
    await call("POST", COMMIT, 409, guest(expiring, ifExpired="rebook"))


async def operate(call: Call) -> None:
    """What probes, the scheduler and readers call."""
    for path in ("/cron/cleanup-reservations", "/api/cron/cleanup-reservations"):
        await call("GET", path, 200, headers=CRON)
        await call("POST", path, 200, headers=CRON)
    for path in ("/health/live", "/health/ready", "/openapi.json", "/docs", "/docs/style.css"):
        await call("GET", path, 200)
    await call("GET", "/health/reservations", 503)


async def clear_the_catalog(call: Call) -> None:
    """A business with services stays, a service with bookings is archived."""
    await call("DELETE", f"{CATALOG}/salon", 409, headers=ADMIN)
    await call("DELETE", CUT, 204, headers=ADMIN)
    await call("PUT", f"{CATALOG}/other", 201, {**SALON, "slug": None}, headers=ADMIN)
    await call("DELETE", f"{CATALOG}/other", 204, headers=ADMIN)


def slot(hour: float, **members: Any) -> Json:
    """A body for reserve."""
    return {"businessId": "salon", "serviceId": "cut", "slotStart": at(hour).isoformat(), **members}


def guest(held: Json, **members: Any) -> Json:
    """A body for commit."""
    return {"reservationId": held["reservationId"], "guestEmail": "ada@example.com", **members}


async def test_every_example_on_the_docs_page_works_against_the_demo_catalog(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """People paste the lines into their shell before they read anything."""
    demo = Database(database.url, connections=1)
    await demo.open()
    await make_demo_catalog(demo)
    await demo.close()
    document = await served_document()
    page = (await client.get("/docs")).text
    lines = [html.unescape(line) for line in re.findall(r"<pre><code>(curl .*?)</code></pre>", page, re.DOTALL)]
    sample = document["paths"][HOLDS + "/{reservationId}"]["get"]["parameters"][0]["example"]

    refused = []
    for number, line in enumerate(lines):
        if sample in line:
            held = await client.post(RESERVE, json=slot(20 + 24 * number, serviceId="haircut"))
            line = line.replace(sample, held.json()["reservationId"])
        response = await send(client, line)
        check(document, response)
        if response.is_error:
            refused.append((response.request.method, response.request.url.path))
    assert len(lines) > len(document["paths"])
    # A business that has services stays. And the clock of the tests is not the one that was shipped.
    assert refused == [("GET", "/health/reservations"), ("DELETE", f"{CATALOG}/salon")]


async def send(client: httpx2.AsyncClient, line: str) -> httpx2.Response:
    """Does what curl would."""
    line = line.replace("\\\n", "").replace("$ADMIN_TOKEN", "admin").replace("$CRON_SECRET", "cron")
    options = iter(shlex.split(line.removeprefix("curl -i ")))
    method, headers, content, url = "GET", {}, None, ""
    for word in options:
        if word == "-X":
            method = next(options)
        elif word == "-H":
            name, _, value = next(options).partition(": ")
            headers[name] = value
        elif word == "-d":
            content = next(options)
        else:
            url = word.removeprefix("$HOLDFAST")
    return await client.request(method, url, headers=headers, content=content)
