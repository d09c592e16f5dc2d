"""Calendar feeds: what a calendar program reads, and who can read it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from icalendar import Calendar
from pydantic import SecretStr

from service.booking.tokens import CalendarKeys
from tests.appointments import change_appointment, insert_appointment
from tests.database import TestDatabase, at
from tests.http.conftest import ADMIN
from tests.serving import SECRETS, ServiceProcess, wait_until

pytestmark = pytest.mark.anyio

FEEDS = "/api/catalog/businesses/salon/calendar-feeds"
FEED = "/api/booking/calendar/salon.ics"
OF_ROSA = "/api/booking/calendar/salon/rosa.ics"


async def paths(client: httpx2.AsyncClient) -> dict[str | None, str]:
    """Where the feeds of the salon are, by their resources."""
    response = await client.get(FEEDS, headers=ADMIN)
    assert response.status_code == 200
    return {item["resourceId"]: item["path"] for item in response.json()["items"]}


async def calendar(client: httpx2.AsyncClient, resource_id: str | None = None) -> Any:
    """A feed as a calendar program understands it."""
    response = await client.get((await paths(client))[resource_id])
    assert response.status_code == 200
    understood = Calendar.from_ical(response.content)
    assert isinstance(understood, Calendar)
    assert understood.errors == []
    return understood


async def only_event(client: httpx2.AsyncClient) -> Any:
    """The one event in the feed of the salon."""
    [event] = (await calendar(client)).events
    return event


def make_salon(database: TestDatabase) -> None:
    """A salon where Rosa cuts hair."""
    database.make_resource("rosa", name="Rosa")
    database.make_service(name="Haircut", resource_ids=["rosa"])
    database.rows("UPDATE booking.businesses SET name = 'Salon Rosa'")


async def test_an_appointment_is_an_event(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """With all that whoever stands in the salon wants to know, at the same instant wherever they are."""
    make_salon(database)
    changed_at = datetime(2031, 1, 1, 12, 30, 15, tzinfo=UTC)
    appointment_id = insert_appointment(
        database,
        at(10),
        resource_id="rosa",
        version=3,
        guest_name="Ada Example",
        guest_phone="+49301234567",
        notes="by the window",
        updated_at=changed_at,
    )
    event = await only_event(client)
    assert event["UID"] == f"{appointment_id}@salon"
    assert (event.decoded("DTSTART"), event.decoded("DTEND")) == (at(10), at(11))
    assert (event.decoded("DTSTAMP"), event.decoded("LAST-MODIFIED")) == (changed_at, changed_at)
    assert event["SEQUENCE"] == 2
    assert event["STATUS"] == "CONFIRMED"
    assert event["SUMMARY"] == "Haircut \u2013 Ada Example"
    assert event["LOCATION"] == "Rosa"
    assert event["DESCRIPTION"] == "ada@example.com\n+49301234567\nby the window"


async def test_what_is_not_known_is_left_out(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """No empty places, and no dash before nobody; several places are told."""
    database.make_service(name="Class", capacity=5)
    insert_appointment(database, at(10), quantity=2, guest_email=None)
    event = await only_event(client)
    assert event["SUMMARY"] == "Class \u00d7 2"
    assert "LOCATION" not in event
    assert "DESCRIPTION" not in event


async def test_the_calendar_has_a_name_and_is_read_again(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Programs show the name, and some ask but once a day if they are not told otherwise."""
    make_salon(database)
    whole, of_rosa = await calendar(client), await calendar(client, "rosa")
    assert whole["X-WR-CALNAME"] == "Salon Rosa"
    assert of_rosa["X-WR-CALNAME"] == "Rosa \u2013 Salon Rosa"
    assert whole["VERSION"] == "2.0"
    assert whole["REFRESH-INTERVAL"].params["VALUE"] == "DURATION"
    assert whole.decoded("REFRESH-INTERVAL") == timedelta(minutes=15)
    assert whole["X-PUBLISHED-TTL"] == "PT15M"


async def test_a_change_is_seen_and_a_cancelled_appointment_is_gone(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The event keeps its identity and rises in sequence, so that a program replaces it and makes no second one."""
    make_salon(database)
    appointment_id = insert_appointment(database, at(10), resource_id="rosa")
    before = await only_event(client)
    assert (before["UID"], before["SEQUENCE"]) == (f"{appointment_id}@salon", 0)
    change_appointment(database, appointment_id, version=2, hour=12)
    after = await only_event(client)
    assert (after["UID"], after["SEQUENCE"], after.decoded("DTSTART")) == (before["UID"], 1, at(12))
    assert after.decoded("LAST-MODIFIED") > before.decoded("LAST-MODIFIED")
    change_appointment(database, appointment_id, version=3, hour=12, status="cancelled")
    assert (await calendar(client)).events == []


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('a, b; c: d\\ "e" ^n', None),
        ("\U0001f487\u200d\u2640\ufe0f " * 40, None),
        ("\u0430\u0434\u0430 " * 60, None),
        ("Ada\r\nEND:VEVENT\r\nBEGIN:VEVENT", "Ada END:VEVENT BEGIN:VEVENT"),
        ("Ada\nATTENDEE:mailto:x@example.com", "Ada ATTENDEE:mailto:x@example.com"),
        ("Ada\rX:1\x0bX:2\x0cX:3\x85X:4\u2028X:5\u2029X:6", "Ada X:1 X:2 X:3 X:4 X:5 X:6"),
        ("Ada\x07\x1b[31m\x7f", "Ada[31m"),
        ("\\nAda\\,", None),
    ],
)
async def test_a_guests_name_stays_a_name_whatever_is_in_it(
    client: httpx2.AsyncClient, database: TestDatabase, written: str, read: str | None
) -> None:
    """What a guest writes must not become lines of the calendar, and must arrive as it was written."""
    make_salon(database)
    insert_appointment(database, at(10), resource_id="rosa", guest_name=written.strip(), notes=written.strip())
    event = await only_event(client)
    assert event["SUMMARY"] == f"Haircut \u2013 {read or written.strip()}"
    assert event["DESCRIPTION"].replace("\n", " ") == f"ada@example.com {read or written.strip()}"
    assert "ATTENDEE" not in event


async def test_lines_are_folded_and_end_as_the_standard_says(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """At most 75 bytes, never cut within a character, and CRLF: programs refuse the whole calendar otherwise."""
    make_salon(database)
    insert_appointment(database, at(10), resource_id="rosa", notes="\u00fcber\U0001f487 " * 300)
    content = (await client.get((await paths(client))[None])).content
    lines = content.split(b"\r\n")
    assert max(map(len, lines)) <= 75
    assert not any(b"\n" in line or b"\r" in line for line in lines)
    for line in lines:
        line.decode()


async def test_a_resources_calendar_has_its_own_appointments(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """And that of the business has everybody's."""
    make_salon(database)
    database.make_resource("ivo", name="Ivo")
    of_rosa = insert_appointment(database, at(10), resource_id="rosa")
    of_ivo = insert_appointment(database, at(11), resource_id="ivo")
    assert [event["UID"] for event in (await calendar(client, "rosa")).events] == [f"{of_rosa}@salon"]
    assert [event["UID"] for event in (await calendar(client, "ivo")).events] == [f"{of_ivo}@salon"]
    assert {event["UID"] for event in (await calendar(client)).events} == {f"{of_rosa}@salon", f"{of_ivo}@salon"}


async def test_a_feed_is_served_as_a_calendar_that_nobody_keeps(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """It is full of personal data; and so is what tells its address."""
    make_salon(database)
    for path in (await paths(client)).values():
        response = await client.get(path)
        assert response.headers["content-type"] == "text/calendar; charset=utf-8"
        assert response.headers["cache-control"] == "no-store"
        assert (await client.head(path)).status_code == 200
    assert (await client.get(FEEDS, headers=ADMIN)).headers["cache-control"] == "no-store"


async def test_feeds_are_told_by_their_resources(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The business's own first, whatever characters the ids have."""
    database.make_resource("rosa:2.ics")
    told = await paths(client)
    assert [(resource, urlsplit(path).path) for resource, path in told.items()] == [
        (None, FEED),
        ("rosa:2.ics", "/api/booking/calendar/salon/rosa:2.ics.ics"),
    ]
    for path in told.values():
        assert (await client.get(path)).status_code == 200


async def test_every_wrong_address_is_refused_in_the_same_way(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Without the key of this very feed nobody learns which businesses and resources there are."""
    make_salon(database)
    database.make_resource("ivo", business_id="clinic")
    told = await paths(client)
    key, of_rosa = (told[name].partition("?key=")[2] for name in (None, "rosa"))
    gone = CalendarKeys(SecretStr("token")).make("nobody", None, 1)
    bodies = []
    for path in (
        FEED,
        f"{FEED}?key=",
        f"{FEED}?key={key[:-1]}",
        f"{FEED}?key={of_rosa}",
        f"{FEED}?key=%FF%00",
        f"{OF_ROSA}?key={key}",
        f"/api/booking/calendar/clinic.ics?key={key}",
        f"/api/booking/calendar/salon/ivo.ics?key={of_rosa}",
        f"/api/booking/calendar/nobody.ics?key={gone}",
        "/api/booking/calendar/nobody.ics",
    ):
        response = await client.get(path)
        assert response.status_code == 403, path
        bodies.append({name: value for name, value in response.json().items() if name != "requestId"})
    assert bodies[0]["code"] == "FORBIDDEN"
    assert all(body == bodies[0] for body in bodies)


async def test_an_older_secret_still_opens_a_feed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """TOKEN_SECRET is changed by putting a new one before it, and calendars go on being read."""
    make_salon(database)
    key = CalendarKeys(SecretStr("an older token")).make("salon", None, 1)
    assert f"{FEED}?key={key}" != (await paths(client))[None]
    assert (await client.get(FEED, params={"key": key})).status_code == 200


async def test_rotating_ends_all_former_keys_of_a_business(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """When a phone was lost or somebody left; it is the only way, because the keys are stored nowhere."""
    make_salon(database)
    database.make_business("clinic")
    before = await paths(client)
    [of_clinic] = (await client.get(FEEDS.replace("salon", "clinic"), headers=ADMIN)).json()["items"]
    response = await client.post(f"{FEEDS}/rotate", headers=ADMIN)
    assert response.status_code == 200
    after = {item["resourceId"]: item["path"] for item in response.json()["items"]}
    assert after == await paths(client)
    assert after.keys() == before.keys()
    for resource_id in before:
        assert (await client.get(before[resource_id])).status_code == 403
        assert (await client.get(after[resource_id])).status_code == 200
    assert (await client.get(of_clinic["path"])).status_code == 200


async def test_only_an_owner_is_told_where_the_feeds_are(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Whoever knows an address reads the contact data of all guests, without any other key."""
    make_salon(database)
    keys = {}
    for role in ("readonly", "staff", "owner"):
        made = await client.post("/api/catalog/businesses/salon/keys", json={"name": role, "role": role}, headers=ADMIN)
        keys[role] = {"Authorization": f"Bearer {made.json()['key']}"}
    for method, path in (("GET", FEEDS), ("POST", f"{FEEDS}/rotate")):
        told = [(await client.request(method, path, headers=keys[role])).status_code for role in keys]
        assert told == [403, 403, 200]
        assert (await client.request(method, path)).status_code == 401
        of_nobody = await client.request(method, path.replace("salon", "nobody"), headers=ADMIN)
        assert of_nobody.json()["code"] == "BUSINESS_NOT_FOUND"


@pytest.mark.parametrize("log_level", ["info", "debug"])
async def test_the_log_never_has_the_key_of_a_feed(database: TestDatabase, tmp_path: Path, log_level: str) -> None:
    """It stands in the address, which is where careless logs take it from."""
    make_salon(database)
    key = CalendarKeys(SecretStr(SECRETS["TOKEN_SECRET"])).make("salon", None, 1)
    settings: dict[str, Any] = {**SECRETS, "DATABASE_URL": database.url, "LOG_LEVEL": log_level}
    with ServiceProcess(tmp_path / "log", **settings) as service:
        async with service.client() as client:
            told = [
                (await client.get(path, params={"key": key})).status_code
                for path in (FEED, OF_ROSA, f"{FEED}/nowhere", "/api/booking/calendar/salon rosa.ics")
            ]
        assert told == [200, 403, 404, 400]
        wait_until(lambda: len(service.events("request")) >= len(told), "a line for each request")
        routes = [line["route"] for line in service.events("request") if "calendar" in json.dumps(line)]
        assert "/api/booking/calendar/{businessId}.ics" in routes
        assert key not in service.log()
        assert key.removeprefix("v1.") not in service.log()
