"""The list of appointments by what overlaps, by change and by guest."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import APPOINTMENTS, MONDAY, book, cancel, change, create, list_day, timestamp
from tests.http.conftest import ADMIN
from tests.http.describing import Json
from tests.http.refusals import faulty_fields

pytestmark = pytest.mark.anyio


async def found(client: httpx2.AsyncClient, **query: Any) -> list[str]:
    """Returns the ids of a list of the salon without a range, page by page."""
    ids: list[str] = []
    cursor: Json = {}
    for _ in range(10):
        parameters = {"businessId": "salon", "limit": 2, **query, **cursor}
        response = await client.get(APPOINTMENTS, params=parameters, headers=ADMIN)
        assert response.status_code == 200, response.text
        page = response.json()
        ids += [item["appointmentId"] for item in page["items"]]
        if page["nextCursor"] is None:
            return ids
        cursor = {"cursor": page["nextCursor"]}
    raise AssertionError("The list has no last page.")


async def test_what_overlaps_a_range_can_be_listed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Also what began before it, but not what ends at its start or begins at its end."""
    database.make_service(capacity=5)
    stay, before, within, after = [
        (await create(client, hour, slotEnd=timestamp(at(end))))["appointmentId"]
        for hour, end in ((-72, 30), (-1, 0), (10, 11), (24, 25))
    ]
    assert [item["appointmentId"] for item in (await list_day(client))["items"]] == [within]
    day = {"from": timestamp(at(0)), "to": timestamp(at(24))}
    assert await found(client, **day, overlapping="true") == [stay, within]
    assert await found(client, **day, overlapping="true", limit=1) == [stay, within]
    assert await found(client, **day, overlapping="false") == [within]
    assert {before, after}.isdisjoint(await found(client, **day, overlapping="true"))


async def test_what_changed_since_an_instant_can_be_listed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """By change, from the instant itself on: a copy is kept up to date by the latest `updatedAt` that it has."""
    database.make_service(capacity=5)
    start = database.freeze_clock()
    first, second, third = [(await create(client, hour)) for hour in (12, 10, 11)]
    database.move_clock(timedelta(milliseconds=1))
    cancelled = (await cancel(client, first, ADMIN)).json()
    database.move_clock(timedelta(milliseconds=1))
    changed = (await change(client, second, {"expectedVersion": 1, "notes": "window"})).json()
    by_change = [appointment["appointmentId"] for appointment in (third, first, second)]
    assert await found(client, updatedSince=timestamp(start)) == by_change
    assert await found(client, updatedSince=cancelled["updatedAt"]) == by_change[1:]
    assert await found(client, updatedSince=changed["updatedAt"]) == by_change[2:]
    assert await found(client, updatedSince=timestamp(start), status="cancelled") == [first["appointmentId"]]
    in_range = {"from": timestamp(at(11)), "to": timestamp(at(13))}
    assert await found(client, updatedSince=timestamp(start), **in_range) == by_change[:2]
    assert await found(client, updatedSince=timestamp(start), **{"from": in_range["from"]}) == by_change[:2]
    assert await found(client, updatedSince=timestamp(start), to=in_range["from"]) == by_change[2:]
    assert await found(client, updatedSince=timestamp(start + timedelta(days=1))) == []


async def test_a_change_between_two_pages_is_not_missed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The appointment moves to the end of the list, so it may be listed twice, the second time as it is now."""
    database.make_service(capacity=5)
    database.freeze_clock()
    made = []
    for hour in (10, 11, 12):
        database.move_clock(timedelta(seconds=1))
        made.append(await create(client, hour))
    query = {"businessId": "salon", "updatedSince": made[0]["updatedAt"], "limit": 2}
    first = (await client.get(APPOINTMENTS, params=query, headers=ADMIN)).json()
    database.move_clock(timedelta(seconds=1))
    await change(client, made[0], {"expectedVersion": 1, "notes": "window"})
    second = (await client.get(APPOINTMENTS, params=query | {"cursor": first["nextCursor"]}, headers=ADMIN)).json()
    listed = [(item["appointmentId"], item["version"]) for item in first["items"] + second["items"]]
    order = ((made[0], 1), (made[1], 1), (made[2], 1), (made[0], 2))
    assert listed == [(appointment["appointmentId"], version) for appointment, version in order]


async def test_a_cursor_leads_on_in_its_own_list_only(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """In a list by another order, or with other filters, the page after it would lack entries: it is refused."""
    database.make_service(capacity=5)
    made = [await create(client, hour) for hour in (12, 11, 10)]
    page = await list_day(client, limit=1)
    assert len((await list_day(client, cursor=page["nextCursor"]))["items"]) == 2
    other_lists: list[Json] = [
        {"updatedSince": made[0]["updatedAt"]},
        {"status": "confirmed"},
        {"to": timestamp(at(13))},
    ]
    for other in other_lists:
        query = {**MONDAY, **other, "cursor": page["nextCursor"]}
        response = await client.get(APPOINTMENTS, params=query, headers=ADMIN)
        assert faulty_fields(response) == ["cursor"]
        assert response.json()["errors"][0]["message"].endswith("start again without it")
    of_holds = await client.get(
        "/api/booking/reservations", params={"businessId": "salon", "cursor": page["nextCursor"]}, headers=ADMIN
    )
    assert faulty_fields(of_holds) == ["cursor"]


async def test_the_appointments_of_a_guest_can_be_listed(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """By an e-mail address or a phone number as the guest writes them, whatever the date."""
    database.make_service(capacity=5)
    ada, later = (await book(client), await book(client, 400 * 24 + 10))
    kim = await create(client, 10, guestEmail="kim@example.com", guestPhone="030 1234567")
    both = [ada["appointmentId"], later["appointmentId"]]
    assert await found(client, guestEmail="ada@example.com") == both
    assert await found(client, guestEmail="ada@EXAMPLE.com") == both
    assert await found(client, guestEmail="ada@example.com", **{"from": timestamp(at(24))}) == both[1:]
    assert await found(client, guestEmail="kim@example.com", guestPhone="030 1234567") == [kim["appointmentId"]]
    for phone in ("+49301234567", "030 123 45 67", "0049 30 1234567"):
        assert await found(client, guestPhone=phone) == [kim["appointmentId"]]
    assert await found(client, guestEmail="ada@example.com", guestPhone="030 1234567") == []
    assert await found(client, guestEmail="nobody@example.com") == []


async def test_the_list_is_filtered_by_service(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Together with a range, or with a guest."""
    database.make_service(capacity=5)
    database.make_service("perm", capacity=5)
    cut, perm = await book(client), await book(client, serviceId="perm")
    assert [item["appointmentId"] for item in (await list_day(client, serviceId="perm"))["items"]] == [
        perm["appointmentId"]
    ]
    assert await found(client, guestEmail="ada@example.com", serviceId="cut") == [cut["appointmentId"]]
    assert (await list_day(client, serviceId="nothing"))["items"] == []


@pytest.mark.parametrize(
    ("left_out", "query", "fields"),
    [
        ("from", {}, ["from"]),
        ("to", {}, ["to"]),
        ("from", {"serviceId": "cut", "status": "confirmed", "resourceId": "rosa"}, ["from"]),
        ("to", {"overlapping": "true"}, ["to"]),
    ],
)
async def test_a_list_has_a_range_or_names_a_guest_or_an_instant(
    client: httpx2.AsyncClient, database: TestDatabase, left_out: str, query: Json, fields: list[str]
) -> None:
    """All other lists would have no end."""
    database.make_service()
    parameters = {name: value for name, value in {**MONDAY, **query}.items() if name != left_out}
    assert faulty_fields(await client.get(APPOINTMENTS, params=parameters, headers=ADMIN)) == fields
