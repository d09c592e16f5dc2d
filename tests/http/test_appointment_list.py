"""The list of a business's appointments: its order, pages and filters."""

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.booking_calls import APPOINTMENTS, MONDAY, cancel, commit, create, list_day, reserve, timestamp
from tests.http.conftest import ADMIN
from tests.http.keys import bearer, make_key
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio


async def test_a_committed_appointment_is_listed_at_once(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A business sees each appointment as soon as the guest's commit is acknowledged."""
    database.make_service(capacity=20)
    for number in range(1, 6):
        held = await reserve(client)
        committed = (await commit(client, held["reservationId"])).json()
        items = (await list_day(client))["items"]
        assert len(items) == number
        assert committed["appointmentId"] in [item["appointmentId"] for item in items]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_the_list_is_read_page_by_page(client: httpx2.AsyncClient, database: TestDatabase, limit: int) -> None:
    """Each appointment is listed once, in order of its start, also where several share one; an insertion between two
    pages changes neither."""
    database.make_service(capacity=5)
    for hour in (12, 9, 9, 10, 9, 10, 9):
        database.book(hour)
    database.book(24)
    database.book(-1)
    expected = database.rows(
        "SELECT appointment_id::text FROM booking.appointments WHERE slot_start >= %s AND slot_start < %s "
        "ORDER BY slot_start, appointment_id",
        at(0),
        at(24),
    )
    seen, cursor, pages = [], None, 0
    while True:
        page = await list_day(client, limit=limit, **({"cursor": cursor} if cursor else {}))
        seen += [item["appointmentId"] for item in page["items"]]
        cursor, pages = page["nextCursor"], pages + 1
        if pages == 1:
            database.book(6)
        if cursor is None:
            break
    assert [(appointment_id,) for appointment_id in seen] == expected
    assert pages == -(-7 // limit)


async def test_the_range_of_a_list_is_half_open(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """An appointment that starts at `to` belongs to the next range only."""
    database.make_service()
    database.book(10)
    assert len((await list_day(client, **{"from": timestamp(at(10)), "to": timestamp(at(11))}))["items"]) == 1
    assert (await list_day(client, to=timestamp(at(10))))["items"] == []
    assert (await list_day(client, **{"from": timestamp(at(10.01))}))["items"] == []


async def test_the_list_is_filtered_by_resource_and_status(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Without a filter, cancelled appointments are listed too."""
    database.make_service(resource_ids=["rosa", "maria"])
    rosas = await create(client, 10, resourceId="rosa")
    marias = await create(client, 10, resourceId="maria")
    gone = await create(client, 12, resourceId="rosa")
    await cancel(client, gone, ADMIN)

    async def ids(**query: str) -> list[str]:
        return [item["appointmentId"] for item in (await list_day(client, **query))["items"]]

    rosa, maria, cancelled = (item["appointmentId"] for item in (rosas, marias, gone))
    assert set(await ids()) == {rosa, maria, cancelled}
    assert await ids(resourceId="maria") == [maria]
    assert set(await ids(resourceId="rosa")) == {rosa, cancelled}
    assert await ids(resourceId="rosa", status="confirmed") == [rosa]
    assert await ids(status="cancelled") == [cancelled]
    assert await ids(status="no_show") == []
    assert await ids(resourceId="nobody") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"to": timestamp(at(0))}, "to"),
        ({"to": timestamp(at(-1))}, "to"),
        ({"from": "2027-01-01"}, "from"),
        ({"status": "held"}, "status"),
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "!"}, "cursor"),
        ({"cursor": "\u00e4"}, "cursor"),
        ({"cursor": "MjAyNy0wMS0wMVQxMDowMDowMA"}, "cursor"),
        ({"cursor": "MjAyNy0wMS0wMVQxMDowMDowMCAwMDAwMDAwMC0wMDAwLTAwMDAtMDAwMC0wMDAwMDAwMDAwMDA"}, "cursor"),
        ({"cursor": "c" * 201}, "cursor"),
        ({"page": "2"}, "page"),
        ({"overlapping": "perhaps"}, "overlapping"),
        ({"updatedSince": "2027-01-01"}, "updatedSince"),
        ({"serviceId": "a b"}, "serviceId"),
        ({"guestEmail": "ada"}, "guestEmail"),
        ({"guestEmail": "Ada <ada@example.com>"}, "guestEmail"),
        ({"guestPhone": "call me"}, "guestPhone"),
        ({"guestPhone": "030"}, "guestPhone"),
        ({"guestPhone": " 49301234567"}, "guestPhone"),
    ],
)
async def test_a_faulty_list_query_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, query: dict[str, str], field: str
) -> None:
    """A truncated cursor is a fault too: of the last three cursors, the first lacks the id, the second the offset."""
    database.make_service()
    assert faulty_fields(await client.get(APPOINTMENTS, params={**MONDAY, **query}, headers=ADMIN)) == [field]


async def test_the_list_of_an_unknown_business_is_a_404(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """It differs from an empty list, so that an administrator notices a misspelt id."""
    database.make_service()
    for guest in ({}, {"guestPhone": "030 1234567"}):
        unknown = await client.get(APPOINTMENTS, params={**MONDAY, **guest, "businessId": "nobody"}, headers=ADMIN)
        assert refusal(unknown) == (404, "BUSINESS_NOT_FOUND")
    assert (await list_day(client)) == {"items": [], "nextCursor": None}


async def test_the_list_needs_a_key_of_the_business(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The list holds guests' personal data."""
    database.make_service()
    database.make_business("clinic")
    readonly, stranger = await make_key(client, "readonly"), await make_key(client, "owner", "clinic")
    assert refusal(await client.get(APPOINTMENTS, params=MONDAY)) == (401, "UNAUTHORIZED")
    response = await client.get(APPOINTMENTS, params=MONDAY, headers=bearer(stranger["key"]))
    assert refusal(response) == (404, "BUSINESS_NOT_FOUND")
    assert (await client.get(APPOINTMENTS, params=MONDAY, headers=bearer(readonly["key"]))).status_code == 200
