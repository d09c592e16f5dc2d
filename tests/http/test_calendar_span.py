"""Calendar feeds: their time zone, the appointments that they cover, and feeds that show only when there is one."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx2
import pytest
from icalendar import Calendar
from starlette.requests import ClientDisconnect
from starlette.types import Message

from service.booking import calendar as feeds
from service.errors import DatabaseDown
from service.http import streamed
from service.http.streamed import StreamedAnswer
from tests.appointments import insert_appointment
from tests.database import TestDatabase, at
from tests.http.conftest import ADMIN

pytestmark = pytest.mark.anyio

SALON = "/api/catalog/businesses/salon"


async def feed(client: httpx2.AsyncClient, resource_id: str | None = None, **query: str) -> httpx2.Response:
    """Reads a feed of the salon."""
    listed = (await client.get(f"{SALON}/calendar-feeds", headers=ADMIN)).json()["items"]
    [path] = [item["path"] for item in listed if item["resourceId"] == resource_id]
    response = await client.get("&".join([path, *(f"{name}={value}" for name, value in query.items())]))
    assert response.status_code == 200
    return response


async def calendar(client: httpx2.AsyncClient, resource_id: str | None = None, **query: str) -> Any:
    """Parses a feed as a calendar program does."""
    parsed = Calendar.from_ical((await feed(client, resource_id, **query)).content)
    assert isinstance(parsed, Calendar)
    assert [component for component in parsed.walk() if component.errors] == []
    return parsed


async def starts(client: httpx2.AsyncClient, resource_id: str | None = None, **query: str) -> list[datetime]:
    """Returns the starts of the events of a feed."""
    return [event.decoded("DTSTART") for event in (await calendar(client, resource_id, **query)).events]


def set_past(database: TestDatabase, days: int) -> None:
    """Sets how many days of the past the salon's feeds have."""
    database.rows("UPDATE booking.businesses SET feed_past_days = %s", days)


def insert_many(database: TestDatabase, count: int, resource_ids: tuple[str | None, ...] = (None,)) -> None:
    """Inserts appointments of an hour each, one after the other from the Monday of the tests on."""
    for place, resource_id in enumerate(resource_ids):
        database.rows(
            """
            WITH made AS (
              INSERT INTO booking.appointments (business_id, appointment_id, service_id, resource_id, slot_start,
                slot_end, occupied, quantity, status, version, guest_name, metadata, source, created_at, updated_at)
              SELECT 'salon', gen_random_uuid(), 'cut', %s, start, start + interval '1 hour',
                tstzrange(start, start + interval '1 hour'), 1, 'confirmed', 1, 'Ada', '{}', 'online', now(), now()
              FROM generate_series(0, %s - 1) AS n, LATERAL (SELECT %s + make_interval(hours => n)) AS s (start)
              RETURNING *)
            INSERT INTO booking.audit_logs
              (business_id, audit_id, appointment_id, version, action, actor_kind, changes, at)
            SELECT 'salon', gen_random_uuid(), appointment_id, 1, 'created', 'guest', '{}', now() FROM made
            """,
            *(resource_id, count, at(0) + place * timedelta(hours=count)),
        )
    database.recount()


# The time zone.


@pytest.mark.parametrize(
    ("timezone", "tzid"),
    [
        *((name, name) for name in ("UTC", "Asia/Tokyo", "Europe/Berlin", "America/Santiago", "Africa/Casablanca")),
        ("Mars/Olympus", "UTC"),
    ],
)
@pytest.mark.parametrize("resource_id", [None, "rosa"])
async def test_a_feed_without_appointments_has_a_time_zone(
    client: httpx2.AsyncClient, database: TestDatabase, timezone: str, tzid: str, resource_id: str | None
) -> None:
    """RFC 5545 demands at least one component of a calendar, and programs refuse a feed without one."""
    database.make_resource("rosa")
    database.rows("UPDATE booking.businesses SET timezone = %s", timezone)
    parsed = await calendar(client, resource_id)
    [component] = parsed.subcomponents
    assert (component.name, component["TZID"]) == ("VTIMEZONE", tzid)
    assert {observance.name for observance in component.subcomponents} <= {"STANDARD", "DAYLIGHT"}
    assert component.subcomponents


async def test_the_time_zone_covers_what_the_feed_has(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """It begins before the first appointment and has the changes of the clock until the last one."""
    database.make_service()
    set_past(database, 30)
    for years in range(8):
        insert_appointment(database, at(10) + timedelta(days=365 * years + 90))
    database.book(10, 5)
    database.freeze_clock(at(14) + timedelta(days=30))
    parsed = await calendar(client)
    onsets, phases = parsed.timezones[0].get_transitions()
    assert len(parsed.events) == 9
    for event in parsed.events:
        instant = event.decoded("DTSTART").astimezone(UTC)
        known = [phase for onset, phase in zip(onsets, phases, strict=True) if onset <= instant.replace(tzinfo=None)]
        assert known[-1][0] == instant.astimezone(ZoneInfo("Europe/Berlin")).utcoffset(), instant


async def test_events_are_instants_across_changes_of_the_clock(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Both passes of a repeated hour are told apart, because starts and ends are in UTC."""
    database.make_service(capacity=9)
    instants = [
        *(datetime(2027, 3, 28, 0, 30, tzinfo=UTC), datetime(2027, 3, 28, 1, tzinfo=UTC)),
        *(datetime(2027, 10, 31, hour, 30, tzinfo=UTC) for hour in (0, 1)),
    ]
    for instant in instants:
        insert_appointment(database, instant)
    database.freeze_clock(instants[0])
    assert await starts(client) == instants
    assert b"DTSTART:20271031T013000Z" in (await feed(client)).content


# The appointments.


async def test_all_upcoming_appointments_are_in_a_feed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """There is no bound in days."""
    database.make_service()
    wanted = [at(10), at(10) + timedelta(days=2_000), datetime(2999, 12, 30, tzinfo=UTC)]
    for start in wanted:
        insert_appointment(database, start)
    set_past(database, 0)
    database.freeze_clock(at(0))
    assert await starts(client) == wanted


@pytest.mark.parametrize("days", [0, 1, 400, 3660])
async def test_a_feed_has_as_much_of_the_past_as_the_business_says(
    client: httpx2.AsyncClient, database: TestDatabase, days: int
) -> None:
    """An appointment leaves the feed when its end is that long ago: until then it is under way, or recent."""
    database.make_service()
    database.book(10, 3)
    if days != 400:
        set_past(database, days)
    database.freeze_clock(at(13) + timedelta(days=days, seconds=-1))
    assert await starts(client) == [at(10)]
    database.freeze_clock(at(13) + timedelta(days=days))
    assert await starts(client) == []


async def test_the_setting_is_put_with_the_business(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """It is 400 days where it is left out, and bounds the feed at once."""
    database.make_service()
    insert_appointment(database, at(10))
    database.freeze_clock(at(11) + timedelta(days=10))
    for settings, days, count in (({"feedPastDays": 9}, 9, 0), ({"feedPastDays": 11}, 11, 1), ({}, 400, 1)):
        response = await client.put(SALON, json={"name": "Salon", **settings}, headers=ADMIN)
        assert (response.status_code, response.json()["feedPastDays"]) == (200, days)
        assert len(await starts(client)) == count


@pytest.mark.parametrize("page_rows", [1, 2, 7, 500])
async def test_pages_neither_miss_nor_repeat_an_appointment(
    client: httpx2.AsyncClient, database: TestDatabase, monkeypatch: pytest.MonkeyPatch, page_rows: int
) -> None:
    """Equal starts are ordered by id; pages of appointments that are in no feed do not end it."""
    monkeypatch.setattr(feeds, "PAGE_ROWS", page_rows)
    database.make_resource("rosa", seats=99)
    database.make_service(capacity=99, resource_ids=["rosa"])
    expected = {str(insert_appointment(database, at(10), quantity=count + 1)) for count in range(5)}
    for _ in range(3):
        insert_appointment(database, at(11), status="cancelled")
        insert_appointment(database, at(12), status="no_show")
    expected.add(str(insert_appointment(database, at(13), status="completed")))
    rosa = str(insert_appointment(database, at(14), resource_id="rosa"))
    names = [event["UID"].partition("@")[0] for event in (await calendar(client)).events]
    assert len(names) == len(set(names))
    assert set(names) == {*expected, rosa}
    assert [event["UID"] for event in (await calendar(client, "rosa")).events] == [f"{rosa}@salon"]


async def test_thousands_of_appointments_are_in_a_feed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """There is no bound in appointments; the feed is sent in parts and has no length."""
    database.make_resource("rosa")
    database.make_service(resource_ids=["rosa"])
    insert_many(database, 1_500, (None, "rosa"))
    response = await feed(client)
    assert "content-length" not in response.headers
    assert response.content.count(b"BEGIN:VEVENT\r\n") == response.content.count(b"\r\nEND:VEVENT\r\n") == 3_000
    assert response.content.endswith(b"\r\nEND:VCALENDAR\r\n")
    assert (await starts(client, "rosa"))[::1_499] == [at(1_500), at(2_999)]


# Busy.


async def test_a_busy_feed_shows_only_times(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Neither guests nor notes, services, resources and ids of people are in it."""
    database.make_resource("rosa", name="Rosa")
    database.make_service(name="Therapy", resource_ids=["rosa"])
    guest: dict[str, Any] = {"guest_name": "Ada Example", "guest_phone": "+4930123", "notes": "by the window"}
    appointment_id = insert_appointment(database, at(10), resource_id="rosa", version=2, **guest)
    for resource_id in (None, "rosa"):
        [event] = (await calendar(client, resource_id, busy="1")).events
        assert (event["SUMMARY"], event["UID"], event["SEQUENCE"]) == ("busy", f"{appointment_id}@salon", 1)
        assert (event.decoded("DTSTART"), event.decoded("DTEND"), event["STATUS"]) == (at(10), at(11), "CONFIRMED")
        members = {"UID", "SEQUENCE", "SUMMARY", "DTSTART", "DTEND", "DTSTAMP", "LAST-MODIFIED", "STATUS"}
        assert set(event) == members
    content = (await feed(client, busy="1")).text
    assert not any(word in content for word in ("Ada", "ada@", "+4930", "window", "rosa", "Rosa", "Therapy"))
    assert "Therapy" in (await feed(client, busy="0")).text


# The answer.


async def sent(answer: StreamedAnswer, method: str = "GET", *, is_gone: bool = False) -> list[Message]:
    """Returns the messages of an answer."""
    messages = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> Message:
        if not is_gone:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    await answer({"type": "http", "method": method}, receive, send)
    return messages


async def parts(count: int, error: Exception | None = None) -> AsyncGenerator[bytes, None]:
    """Yields parts and then raises an error."""
    for _ in range(count):
        await asyncio.sleep(0)
        yield b"x"
    if error:
        raise error


async def test_an_answer_in_parts_is_complete_or_seen_to_be_cut_off() -> None:
    """The last message says that the body is complete; without it the server closes the connection."""
    complete = await sent(StreamedAnswer(parts(2), "text/plain"))
    assert [message.get("more_body", False) for message in complete[1:]] == [True, True, False]
    cut_off = await sent(StreamedAnswer(parts(2, DatabaseDown()), "text/plain"))
    assert [message.get("more_body") for message in cut_off[1:]] == [True, True]
    head = await sent(StreamedAnswer(parts(2), "text/plain"), "HEAD")
    assert [message.get("body") for message in head] == [None, b""]


async def test_parts_end_when_the_client_is_gone() -> None:
    """No page is read for a client that has disconnected."""
    with pytest.raises(ClientDisconnect):
        await sent(StreamedAnswer(parts(1_000_000_000), "text/plain"), is_gone=True)


async def test_the_wait_for_a_part_ends_when_the_client_leaves() -> None:
    """A stream of changes may have none for hours. What it holds is given back before the answer has ended."""
    is_closed = False

    async def silent() -> AsyncGenerator[bytes, None]:
        nonlocal is_closed
        try:
            yield b"x"
            await asyncio.Event().wait()
        finally:
            is_closed = True

    with pytest.raises(ClientDisconnect):
        await sent(await StreamedAnswer(silent(), "text/plain").begun(), is_gone=True)
    assert is_closed


async def test_a_client_that_does_not_read_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep a page in memory for as long as its connection lives."""
    monkeypatch.setattr(streamed, "STALL_SECONDS", 0.01)

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def receive() -> Message:
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    with pytest.raises(ClientDisconnect):
        await StreamedAnswer(parts(1), "text/plain")({"type": "http", "method": "GET"}, receive, send)
