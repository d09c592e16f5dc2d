"""Calendar feeds: their content, and their keys."""

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
ROSA_FEED = "/api/booking/calendar/salon/rosa.ics"


async def feed_paths(client: httpx2.AsyncClient) -> dict[str | None, str]:
    """Returns the paths of the salon's feeds, by resource."""
    response = await client.get(FEEDS, headers=ADMIN)
    assert response.status_code == 200
    return {item["resourceId"]: item["path"] for item in response.json()["items"]}


async def calendar(client: httpx2.AsyncClient, resource_id: str | None = None) -> Any:
    """Parses a feed as a calendar program does."""
    response = await client.get((await feed_paths(client))[resource_id])
    assert response.status_code == 200
    parsed = Calendar.from_ical(response.content)
    assert isinstance(parsed, Calendar)
    assert parsed.errors == []
    return parsed


async def only_event(client: httpx2.AsyncClient) -> Any:
    """Returns the one event in the feed of the salon."""
    [event] = (await calendar(client)).events
    return event


def make_salon(database: TestDatabase) -> None:
    """Makes a salon in which Rosa cuts hair."""
    database.make_resource("rosa", name="Rosa")
    database.make_service(name="Haircut", resource_ids=["rosa"])
    database.rows("UPDATE booking.businesses SET name = 'Salon Rosa'")


def generation(database: TestDatabase) -> str:
    """Returns the generation of the feed of the salon."""
    text: str = database.value("SELECT calendar_generation FROM booking.businesses WHERE business_id = 'salon'")
    return text


async def test_an_appointment_is_an_event(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The event has the guest's data and the resource; its instants do not depend on a time zone."""
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


async def test_an_event_leaves_out_missing_data(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """There is no empty property and no dash before a missing name; a quantity above one is shown."""
    database.make_service(name="Class", capacity=5)
    insert_appointment(database, at(10), quantity=2, guest_email=None)
    event = await only_event(client)
    assert event["SUMMARY"] == "Class \u00d7 2"
    assert "LOCATION" not in event
    assert "DESCRIPTION" not in event


async def test_a_feed_has_a_name_and_a_refresh_interval(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Programs show the name, and some refresh only once a day without an interval."""
    make_salon(database)
    business_feed, rosa_feed = await calendar(client), await calendar(client, "rosa")
    assert business_feed["X-WR-CALNAME"] == "Salon Rosa"
    assert rosa_feed["X-WR-CALNAME"] == "Rosa \u2013 Salon Rosa"
    assert business_feed["VERSION"] == "2.0"
    assert business_feed["REFRESH-INTERVAL"].params["VALUE"] == "DURATION"
    assert business_feed.decoded("REFRESH-INTERVAL") == timedelta(minutes=15)
    assert business_feed["X-PUBLISHED-TTL"] == "PT15M"


async def test_the_name_of_a_feed_is_escaped(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A property that the standard does not name is a TEXT (RFC 5545, section 3.8.8.2)."""
    make_salon(database)
    database.rows("UPDATE booking.businesses SET name = %s", "Cut, Wash; Go \\New")
    feed = (await client.get((await feed_paths(client))[None])).text
    assert "\r\nX-WR-CALNAME:Cut\\, Wash\\; Go \\\\New\r\n" in feed


async def test_a_change_updates_the_event_and_a_cancellation_removes_it(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The event keeps its UID and its sequence rises, so that a program replaces it and adds no second one."""
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
        ("Ada\tLovelace", None),
        ("\\Nora C:\\New", None),
    ],
)
async def test_a_guests_name_cannot_inject_calendar_lines(
    client: httpx2.AsyncClient, database: TestDatabase, written: str, read: str | None
) -> None:
    """Line breaks and control characters are replaced or removed; all other text arrives as it was written."""
    make_salon(database)
    insert_appointment(database, at(10), resource_id="rosa", guest_name=written.strip(), notes=written.strip())
    event = await only_event(client)
    assert event["SUMMARY"] == f"Haircut \u2013 {read or written.strip()}"
    assert event["DESCRIPTION"].replace("\n", " ") == f"ada@example.com {read or written.strip()}"
    assert "ATTENDEE" not in event


async def test_lines_are_folded_and_end_as_the_standard_says(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Lines have at most 75 bytes, are never cut within a character and end with CRLF; programs reject the whole
    calendar otherwise."""
    make_salon(database)
    insert_appointment(database, at(10), resource_id="rosa", notes="\u00fcber\U0001f487 " * 300)
    content = (await client.get((await feed_paths(client))[None])).content
    lines = content.split(b"\r\n")
    assert max(map(len, lines)) <= 75
    assert not any(b"\n" in line or b"\r" in line for line in lines)
    for line in lines:
        line.decode()


async def test_a_resources_calendar_has_its_own_appointments(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The feed of the business has the appointments of all resources."""
    make_salon(database)
    database.make_resource("ivo", name="Ivo")
    rosa_appointment = insert_appointment(database, at(10), resource_id="rosa")
    ivo_appointment = insert_appointment(database, at(11), resource_id="ivo")
    assert [event["UID"] for event in (await calendar(client, "rosa")).events] == [f"{rosa_appointment}@salon"]
    assert [event["UID"] for event in (await calendar(client, "ivo")).events] == [f"{ivo_appointment}@salon"]
    assert {event["UID"] for event in (await calendar(client)).events} == {
        f"{rosa_appointment}@salon",
        f"{ivo_appointment}@salon",
    }


async def test_a_feed_is_a_calendar_that_caches_do_not_store(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Feeds hold personal data, and the list of feeds holds their keys."""
    make_salon(database)
    for path in (await feed_paths(client)).values():
        response = await client.get(path)
        assert response.headers["content-type"] == "text/calendar; charset=utf-8"
        assert response.headers["cache-control"] == "no-store"
        assert (await client.head(path)).status_code == 200
    assert (await client.get(FEEDS, headers=ADMIN)).headers["cache-control"] == "no-store"


async def test_feeds_are_listed_by_resource(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The feed of the business comes first; ids may have any character that ids allow."""
    database.make_resource("rosa:2.ics")
    paths = await feed_paths(client)
    assert [(resource, urlsplit(path).path) for resource, path in paths.items()] == [
        (None, FEED),
        ("rosa:2.ics", "/api/booking/calendar/salon/rosa:2.ics.ics"),
    ]
    for path in paths.values():
        assert (await client.get(path)).status_code == 200


async def test_every_wrong_feed_url_gets_the_same_refusal(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Without the key of the feed a caller cannot find out which businesses and resources exist."""
    make_salon(database)
    database.make_resource("ivo", business_id="clinic")
    paths = await feed_paths(client)
    key, rosa_key = (paths[name].partition("?key=")[2] for name in (None, "rosa"))
    gone = CalendarKeys(SecretStr("token")).make("nobody", None, "1")
    bodies = []
    for path in (
        FEED,
        f"{FEED}?key=",
        f"{FEED}?key={key[:-1]}",
        f"{FEED}?key={rosa_key}",
        f"{FEED}?key=%FF%00",
        f"{ROSA_FEED}?key={key}",
        f"/api/booking/calendar/clinic.ics?key={key}",
        f"/api/booking/calendar/salon/ivo.ics?key={rosa_key}",
        f"/api/booking/calendar/nobody.ics?key={gone}",
        "/api/booking/calendar/nobody.ics",
    ):
        response = await client.get(path)
        assert response.status_code == 403, path
        bodies.append({name: value for name, value in response.json().items() if name != "requestId"})
    assert bodies[0]["code"] == "FORBIDDEN"
    assert all(body == bodies[0] for body in bodies)


async def test_an_older_secret_still_opens_a_feed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """TOKEN_SECRET is rotated by putting a new secret before the old one, and subscribed calendars keep working."""
    make_salon(database)
    key = CalendarKeys(SecretStr("an older token")).make("salon", None, generation(database))
    assert f"{FEED}?key={key}" != (await feed_paths(client))[None]
    assert (await client.get(FEED, params={"key": key})).status_code == 200


async def test_a_rotation_revokes_all_former_feed_keys_of_a_business(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """A lost phone or a former employee makes this necessary. One key cannot be revoked alone, because keys are not
    stored."""
    make_salon(database)
    database.make_business("clinic")
    before = await feed_paths(client)
    [clinic_feed] = (await client.get(FEEDS.replace("salon", "clinic"), headers=ADMIN)).json()["items"]
    response = await client.post(f"{FEEDS}/rotate", headers=ADMIN)
    assert response.status_code == 200
    after = {item["resourceId"]: item["path"] for item in response.json()["items"]}
    assert after == await feed_paths(client)
    assert after.keys() == before.keys()
    for resource_id in before:
        assert (await client.get(before[resource_id])).status_code == 403
        assert (await client.get(after[resource_id])).status_code == 200
    assert (await client.get(clinic_feed["path"])).status_code == 200


async def test_a_business_that_is_made_again_has_other_feeds(client: httpx2.AsyncClient) -> None:
    """A subscriber of the former business does not read the guests of its successor, rotated or not."""
    settings, rosa = {"name": "Salon"}, {"name": "Rosa", "kind": "staff"}
    salon = FEEDS.removesuffix("/calendar-feeds")
    former: list[str] = []
    for _ in range(2):
        assert (await client.put(salon, json=settings, headers=ADMIN)).status_code == 201
        assert (await client.put(f"{salon}/resources/rosa", json=rosa, headers=ADMIN)).status_code == 201
        assert [(await client.get(path)).status_code for path in former] == [403] * len(former)
        for _ in range(2):
            former += (await feed_paths(client)).values()
            await client.post(f"{FEEDS}/rotate", headers=ADMIN)
        assert (await client.delete(f"{salon}/resources/rosa", headers=ADMIN)).status_code == 204
        assert (await client.delete(salon, headers=ADMIN)).status_code == 204


async def test_only_an_owner_lists_and_rotates_the_feeds(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A feed's URL gives access to the contact data of all guests, without another key."""
    make_salon(database)
    keys = {}
    for role in ("readonly", "staff", "owner"):
        key = await client.post("/api/catalog/businesses/salon/keys", json={"name": role, "role": role}, headers=ADMIN)
        keys[role] = {"Authorization": f"Bearer {key.json()['key']}"}
    for method, path in (("GET", FEEDS), ("POST", f"{FEEDS}/rotate")):
        statuses = [(await client.request(method, path, headers=keys[role])).status_code for role in keys]
        assert statuses == [403, 403, 200]
        assert (await client.request(method, path)).status_code == 401
        unknown = await client.request(method, path.replace("salon", "nobody"), headers=ADMIN)
        assert unknown.json()["code"] == "BUSINESS_NOT_FOUND"


@pytest.mark.parametrize("log_level", ["info", "debug"])
async def test_the_log_never_has_the_key_of_a_feed(database: TestDatabase, tmp_path: Path, log_level: str) -> None:
    """The key is part of the URL, which access logs usually contain."""
    make_salon(database)
    key = CalendarKeys(SecretStr(SECRETS["TOKEN_SECRET"])).make("salon", None, generation(database))
    settings: dict[str, Any] = {**SECRETS, "DATABASE_URL": database.url, "LOG_LEVEL": log_level}
    with ServiceProcess(tmp_path / "log", **settings) as service:
        async with service.client() as client:
            statuses = [
                (await client.get(path, params={"key": key})).status_code
                for path in (FEED, ROSA_FEED, f"{FEED}/nowhere", "/api/booking/calendar/salon rosa.ics")
            ]
        assert statuses == [200, 403, 404, 400]
        wait_until(lambda: len(service.events("request")) >= len(statuses), "a line for each request")
        routes = [line["route"] for line in service.events("request") if "calendar" in json.dumps(line)]
        assert "/api/booking/calendar/{businessId}.ics" in routes
        assert key not in service.log()
        assert key.removeprefix("v1.") not in service.log()
