"""The examples of the OpenAPI document: recorded from real answers, up to date, and of use against the demo catalog."""

import base64
import json
import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from uuid import NAMESPACE_URL, uuid5

import httpx2
import pytest

import service.http
from service.booking import health
from service.http.openapi import EXAMPLE_DAY, recorded_examples
from service.process.hosting import make_demo_catalog
from tests.connections import open_database
from tests.database import TestDatabase
from tests.http.conftest import ADMIN, CRON, running
from tests.http.describing import (
    PAGES,
    PROBLEM,
    TO_READ,
    Json,
    check,
    example_bodies,
    example_body,
    example_ids,
    example_request,
    operation_of,
    served_document,
)

pytestmark = pytest.mark.anyio

FILE = Path(next(iter(service.http.__path__))) / "examples.json"
CATALOG = "/api/catalog/businesses"
SALON = f"{CATALOG}/salon"
APPOINTMENTS = "/api/booking/appointments"
# In the place of what differs in each run.
RESERVATION_ID = "c3a1f0de-7f5b-4a56-9d3e-2b8f4b6f9a10"
APPOINTMENT_ID = "019d2f6e-3c41-7b90-8e57-6a0d4c2f1b38"
KEY_ID = "3f9a6b20c1d84e75"
STAND_INS = {
    "reservationId": RESERVATION_ID,
    "appointmentId": APPOINTMENT_ID,
    "keyId": KEY_ID,
    "holdId": "8d3f5a1e-2c47-4b8e-a6d0-5f7b9c1e3a24",
    "key": "~".join(("hf", "salon", KEY_ID, "Yk3Vb0pT5wq8eRz1uXn6cJm4hLs7dFa2gKo9iQxBtMy")),
    "cancellationToken": ".".join(("v1", "qX0c2l1mTn8Yx4rTqk0b6wq0iS3mJrV5bE9aZ7dHfUo")),
}


class Recorder:
    """Sends requests, and keeps the first of each operation and the first answer of each status. A token is sent with
    those calls only that need one, unless the `sender` of the request is a guest."""

    def __init__(self, client: httpx2.AsyncClient, document: Json) -> None:
        self.client = client
        self.recorded: dict[str, Json] = {}
        self._document = document
        self._stand_ins: dict[str, str] = {}

    async def call(
        self, method: str, path: str, status: int, body: Any = None, sender: str | None = None, **more: Any
    ) -> Json:
        """Sends a request that is answered with `status`, and returns the answer. A body that depends on who sends it
        is one of several examples."""
        request = self.client.build_request(method, path, json=body, **more)
        operation = operation_of(self._document, request)
        token = token_for(operation, sender)
        request.headers.update({**token, "X-Request-Id": "example", **more.get("headers", {})})
        response = await self.client.send(request)
        assert response.status_code == status, (method, path, response.text)
        check(self._document, response)
        answer: Json = response.json() if "json" in response.headers.get("content-type", "") else {}
        self._note_stand_ins(answer)
        example = self.recorded.setdefault(operation["operationId"], self._request(operation, response.request, body))
        if sender:
            example.pop("body", None)
            example.setdefault("bodies", {}).setdefault(sender, self._stable(body))
        if answer and "paths" not in answer:
            example["answers"].setdefault(str(status), self._stable(answer))
        return answer

    def _request(self, operation: Json, request: httpx2.Request, body: Any) -> Json:
        [template] = [path for path, methods in self._document["paths"].items() if operation in methods.values()]
        match = re.fullmatch(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+?)", template), request.url.path)
        assert match
        query = {
            name: int(value) if value.isdigit() else value for name, value in parse_qsl(request.url.query.decode())
        }
        parts = {"path": match.groupdict(), "query": query, "body": body}
        return {**{name: self._stable(part) for name, part in parts.items() if part}, "answers": {}}

    def _note_stand_ins(self, answer: Any) -> None:
        for name, value in members(answer):
            if name in STAND_INS and isinstance(value, str):
                self._stand_ins[value] = STAND_INS[name]
            if name == "path" and "?key=" in value:
                address, _, key = value.partition("?key=")
                self._stand_ins[key] = feed_key(address)

    def _stable(self, value: Any) -> Any:
        text = json.dumps(value)
        # The longer first: a key contains its id.
        for real in sorted(self._stand_ins, key=len, reverse=True):
            text = text.replace(real, self._stand_ins[real])
        return json.loads(re.sub(r'"durationMs": \d+', '"durationMs": 19', text))


def members(value: Any) -> Iterator[tuple[str, Any]]:
    """Yields the names and values of all members in JSON."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield name, member
            yield from members(member)
    for item in value if isinstance(value, list) else ():
        yield from members(item)


def feed_key(address: str) -> str:
    """Returns the stand-in for the key of a feed, which is random: another one for each address."""
    return f"v1.{base64.urlsafe_b64encode(sha256(address.encode()).digest()).decode().rstrip('=')}"


def token_for(operation: Json, sender: str | None) -> dict[str, str]:
    """Returns the header of the token that an example is sent with. The public and guests have none."""
    if not operation["security"] or sender == "guest":
        return {}
    return CRON if "cron" in operation["tags"] else ADMIN


def instant(hours: float) -> str:
    """Returns an instant on the day of the examples."""
    return (EXAMPLE_DAY + timedelta(hours=hours)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def test_the_examples_are_what_the_service_answers(
    database: TestDatabase, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make examples` records them anew."""
    database.freeze_clock(EXAMPLE_DAY - timedelta(days=21, hours=-9, minutes=-17))
    recorder = Recorder(client, await served_document())
    await put_the_catalog(recorder)
    await look_at_the_business(recorder)
    token = await hold_and_commit(recorder)
    await book_without_a_hold(recorder)
    await keep_the_calendar(recorder, token)
    await act_as_owner(recorder)
    await operate(recorder, database, monkeypatch)
    await clear_the_catalog(recorder)
    # A stream never ends: see test_stream.py.
    slots = {"serviceIds": ["haircut"], "from": instant(8 + 10 / 60), "to": instant(9.75 + 5 / 60)}
    event = {"event": "changed", "id": "1796896020431-0", "data": slots}
    recorder.recorded["watchChanges"] = {"query": {"businessId": "salon"}, "answers": {"200": event}}
    if os.environ.get("RECORD_EXAMPLES"):
        FILE.write_text(json.dumps(recorder.recorded, indent=1, ensure_ascii=False) + "\n")
    assert recorded_examples() == recorder.recorded, "make examples"
    operations = [operation for methods in recorder._document["paths"].values() for operation in methods.values()]
    assert {operation["operationId"] for operation in operations} == set(recorder.recorded)


async def put_the_catalog(recorder: Recorder) -> None:
    """A salon with two stylists, a haircut and a class."""
    salon: Json = {"name": "Salon Rosa", "slug": "salon-rosa", "timezone": "Europe/Berlin", "country": "DE"}
    salon |= {"description": "Hair and styling in Mitte.", "metadata": {"logo": "rosa.svg"}}
    haircut: Json = {"name": "Haircut", "durationMinutes": 45, "slotStepMinutes": 15, "bufferAfterMinutes": 5}
    haircut |= {"description": "Wash, cut and dry.", "metadata": {"price": "40.00"}}
    closure = {"from": instant(7 * 24), "to": instant(8 * 24), "reason": "Stocktaking"}
    christmas = {"date": "2026-12-24", "until": "2026-12-26", "hours": [], "name": "Christmas"}
    await recorder.call("PUT", SALON, 201, salon)
    await recorder.call("DELETE", SALON, 204)
    for path, body in (
        (SALON, salon),
        (f"{SALON}/resources/rosa", {"name": "Rosa", "kind": "staff", "description": "Speaks Italian."}),
        (f"{SALON}/services/haircut", haircut),
        (f"{SALON}/special-hours/christmas", christmas),
        (f"{SALON}/closures/stocktaking", closure),
    ):
        await recorder.call("PUT", path, 201, body)
        await recorder.call("PUT", path, 200, body)
        await recorder.call("GET", path, 200)
        await recorder.call("GET", path.rpartition("/")[0], 200)
    await recorder.call("PUT", f"{SALON}/resources/maria", 201, {"name": "Maria", "kind": "staff"})
    styling = {"name": "Styling class", "durationMinutes": 120, "maxSimultaneousBookings": 8}
    await recorder.call("PUT", f"{SALON}/services/styling-class", 201, styling)
    hours = [
        {"weekday": 1, "opens": "09:00", "closes": "13:00"},
        {"weekday": 1, "opens": "14:00", "closes": "18:30"},
        {"weekday": 6, "opens": "10:00", "closes": "24:00"},
        {"weekday": 1, "opens": "09:00", "closes": "18:30", "resourceId": "maria"},
        {"weekday": 6, "opens": "10:00", "closes": "16:00", "resourceId": "maria"},
    ]
    await recorder.call("PUT", f"{SALON}/opening-hours", 200, hours)
    await recorder.call("GET", f"{SALON}/opening-hours", 200)
    document = await recorder.call("GET", f"{SALON}/document", 200)
    document["closures"]["holidays"] = {"date": "2027-08-02", "until": "2027-08-14"}
    await recorder.call("PUT", f"{SALON}/document", 200, document)
    await recorder.call("DELETE", f"{SALON}/opening-hours", 204)


async def look_at_the_business(recorder: Recorder) -> None:
    """A frontend reads the public catalogue, and later reads it again. Meanwhile there is a service with resources."""
    colouring, pool = f"{SALON}/services/colouring", {"resourceIds": ["maria", "rosa"]}
    await recorder.client.put(colouring, json={"name": "Colouring", "durationMinutes": 120, **pool}, headers=ADMIN)
    await recorder.call("GET", "/api/v1/public/salon-rosa", 200)
    await recorder.call("GET", "/api/v1/public/salon-rosa", 304, headers={"If-None-Match": "*"})
    await recorder.client.delete(colouring, headers=ADMIN)


async def hold_and_commit(recorder: Recorder) -> str:
    """A guest holds a slot, looks, extends and commits; another hold is released. Returns the guest's token."""
    service = {"businessId": "salon", "serviceId": "haircut"}
    await recorder.call(
        "GET", "/api/booking/availability", 200, params={**service, "from": instant(9), "to": instant(10)}
    )
    dates = {"from": instant(0)[:10], "to": instant(24)[:10]}
    await recorder.call("GET", "/api/booking/availability/days", 200, params={**service, **dates})
    shown = {**service, "slotStart": instant(9), "slotEnd": instant(9.75)}
    slot = {**shown, "idempotencyKey": "9f1b6c52-5f6e-4f0a-8a53-0c1f7f5f7e11"}
    client = {"X-Client-Id": "2c6f4f0e-8f0b-4a55-9a3c-2f6a3d1b7e90"}
    held = await recorder.call("POST", "/api/booking/reserve", 201, slot, headers=client)
    await recorder.call("POST", "/api/booking/reserve", 200, slot, headers=client)
    of_salon: Json = {"params": {"businessId": "salon"}}
    day = {"businessId": "salon", "from": instant(0), "to": instant(24)}
    await recorder.call("GET", "/api/booking/reservations", 200, params=day)
    await recorder.call("GET", "/api/booking/reservations/own", 200, headers=client, **of_salon)
    own = f"/api/booking/reservations/{held['reservationId']}"
    await recorder.call("GET", own, 200, **of_salon)
    await recorder.call("POST", f"{own}/extend", 200, {"ttlMinutes": 30, "expectedVersion": 1}, **of_salon)
    guest = {"guestName": "Ada Example", "guestEmail": "ada@example.com", "metadata": {"location": "Mitte"}}
    commit = {"reservationId": held["reservationId"], **guest}
    committed = await recorder.call("POST", "/api/booking/commit", 201, commit)
    await recorder.call("POST", "/api/booking/commit", 200, commit)
    class_slot = {"businessId": "salon", "serviceId": "styling-class", "slotStart": instant(9)}
    released = await recorder.call("POST", "/api/booking/reserve", 201, {**class_slot, "quantity": 2})
    await recorder.call("GET", "/api/booking/capacity", 200, params={**class_slot, "slotEnd": instant(11)})
    own = f"/api/booking/reservations/{released['reservationId']}"
    await recorder.call("DELETE", own, 204, **of_salon)
    await recorder.call("POST", f"{own}/release", 204, **of_salon)
    token: str = committed["cancellationToken"]
    return token


async def book_without_a_hold(recorder: Recorder) -> None:
    """In one call, from a widget, and by phone."""
    slot = {"businessId": "salon", "serviceId": "haircut", "slotStart": instant(12), "slotEnd": instant(12.75)}
    guest = {"guestName": "Ada Example", "guestEmail": "ada@example.com"}
    at_once = {**slot, **guest, "idempotencyKey": "0d5a3f3e-7a54-4c0b-9b53-6a4f1c3c8d20"}
    form = {"firstName": "Ada", "lastName": "Example", "email": "ada@example.com"}
    widget = {"serviceId": "haircut", "startTime": instant(13), "slotEnd": instant(13.75), **form}
    by_phone = {
        **slot,
        "slotStart": instant(14),
        "slotEnd": instant(14.75),
        "guestName": "Ada Example",
        "guestPhone": "030 1234567",
    }
    for path, body in (
        ("/api/bookings", at_once),
        ("/api/v1/public/salon-rosa/book", widget),
        (APPOINTMENTS, {**by_phone, "source": "phone"}),
    ):
        attempt = {"Idempotency-Key": body.get("idempotencyKey", str(uuid5(NAMESPACE_URL, path)))}
        await recorder.call("POST", path, 201, body, headers=attempt)
        await recorder.call("POST", path, 200, body, headers=attempt)


async def keep_the_calendar(recorder: Recorder, token: str) -> None:
    """Staff read, move, cancel and erase an appointment; its guest cancels it too."""
    day = {"businessId": "salon", "from": instant(0), "to": instant(12), "limit": 100}
    [booked] = (await recorder.call("GET", APPOINTMENTS, 200, params=day))["items"]
    own = f"{APPOINTMENTS}/{booked['appointmentId']}"
    of_salon: Json = {"params": {"businessId": "salon"}}
    await recorder.call("GET", own, 200, **of_salon)
    moved = {"expectedVersion": 1, "slotStart": instant(11)}
    await recorder.call("PATCH", own, 200, moved, **of_salon)
    later = {"slotStart": instant(16), "slotEnd": instant(16.75)}
    await recorder.call("POST", f"{own}/reschedule", 200, later, **of_salon)
    await recorder.call("GET", f"{own}/audit", 200, **of_salon)
    await recorder.call("POST", f"{own}/cancel", 200, {"reason": "Ill"}, "staff", **of_salon)
    by_guest = {"cancellationToken": token, "reason": "Ill"}
    await recorder.call("POST", f"{own}/cancel", 200, by_guest, "guest", **of_salon)
    await recorder.call("DELETE", f"{own}/guest", 204, **of_salon)
    person = {"businessId": "salon", "guestEmail": "ada@example.com"}
    await recorder.call("POST", "/api/booking/guests/erase", 200, person)


async def act_as_owner(recorder: Recorder) -> None:
    """Makes, lists and revokes a key; subscribes to the calendars."""
    made = await recorder.call("POST", f"{SALON}/keys", 201, {"name": "Front desk", "role": "staff"})
    await recorder.call("GET", f"{SALON}/keys", 200)
    await recorder.call("GET", f"{SALON}/own-key", 200)
    await recorder.call("DELETE", f"{SALON}/keys/{made['keyId']}", 204)
    feeds = (await recorder.call("GET", f"{SALON}/calendar-feeds", 200))["items"]
    for feed in feeds:
        await recorder.call("GET", feed["path"], 200)
    await recorder.call("POST", f"{SALON}/calendar-feeds/rotate", 200)


async def operate(recorder: Recorder, database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes, the purge, and the pages. The clock of the tests counts as altered; so health is critical at first."""
    for path in ("/cron/cleanup-reservations", "/api/cron/cleanup-reservations"):
        for method in ("GET", "POST"):
            await recorder.call(method, path, 200)
    await recorder.call("GET", "/api/operations/overview", 200, params={"hours": 2})
    await recorder.call("GET", "/health/reservations", 503)
    [definition] = database.rows("SELECT * FROM booking.clock_definition()")
    monkeypatch.setattr(health, "_CLOCK", definition)
    former = recorder.client
    async with running(database) as other:
        recorder.client = other
        await recorder.call("GET", "/health/reservations", 200)
    recorder.client = former
    await recorder.call("GET", "/", 307)
    await recorder.call("GET", "/book/salon-rosa/", 307)
    for path in (*TO_READ, *PAGES):
        await recorder.call("GET", path, 200)


async def clear_the_catalog(recorder: Recorder) -> None:
    """Deletes what can be deleted."""
    for path in ("services/haircut", "resources/rosa", "special-hours/christmas", "closures/stocktaking"):
        await recorder.call("DELETE", f"{SALON}/{path}", 204)
    await recorder.call("GET", f"{SALON}/archived", 200)


async def test_every_example_works_against_the_demo_catalog(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Readers copy an example, or send it from the viewer, before they read anything."""
    async with open_database(database.url) as demo:
        await make_demo_catalog(demo)
    document = await served_document()
    refused = []
    sent = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path.endswith("/stream"):
                continue  # it never ends: see test_stream.py
            for sender in example_bodies(operation):
                sent += 1
                real = await make_what_exists(client, document, f"{path} {operation.get('requestBody')}", sent)
                request = example_request(document, method, path, real, {}, sender)
                request.headers.update(token_for(operation, sender))
                response = await client.send(request)
                check(document, response)
                if response.is_error:
                    refused.append((method, path))
    # A business that has services stays; the keys of the feeds were rotated by an example before; and the clock of the
    # tests is not the one that was shipped.
    assert sorted(refused) == [
        ("delete", f"{CATALOG}/{{businessId}}"),
        ("get", "/api/booking/calendar/{businessId}.ics"),
        ("get", "/api/booking/calendar/{businessId}/{resourceId}.ics"),
        ("get", "/health/reservations"),
    ]


async def make_what_exists(client: httpx2.AsyncClient, document: Json, needs: str, number: int) -> dict[str, str]:
    """Makes the objects that an example names and the demo catalog lacks, and returns their ids by those of the
    example."""
    slot = {"businessId": "salon", "serviceId": "haircut"}
    # From Monday to Saturday, when the salon is open.
    slot["slotStart"] = instant_of(document, timedelta(weeks=1 + number // 6, days=number % 6))
    makers = {
        "reservationId": ("/api/booking/reserve", slot),
        "appointmentId": ("/api/bookings", {**slot, "guestEmail": "ada@example.com"}),
        "keyId": (f"{SALON}/keys", {"name": "Desk", "role": "staff"}),
    }
    real = {}
    for name, example in example_ids(document).items():
        if name in makers and (f"{{{name}}}" in needs or example in needs):
            path, body = makers[name]
            made = (await client.post(path, json=body, headers=ADMIN)).json()
            real[example] = made[name]
            if token := made.get("cancellationToken"):
                real[STAND_INS["cancellationToken"]] = token
    return real


def instant_of(document: Json, later: timedelta) -> str:
    """Returns the start of the example's slot, some time later."""
    start: str = example_body(document, "/api/booking/reserve")["slotStart"]
    return (datetime.fromisoformat(start) + later).isoformat()


async def test_refusals_are_no_examples_of_success() -> None:
    """A recorded answer is never a problem."""
    for example in recorded_examples().values():
        assert not any(PROBLEM in str(answer) for answer in example["answers"].values())
