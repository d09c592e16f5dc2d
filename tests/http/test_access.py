"""Who may call what: every call of the application with every kind of credential, against the table on the docs page.

Nothing here knows the calls by name. Whoever adds one has it tried here.
"""

import html
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import httpx2
import pytest
from pydantic import SecretStr

from service.booking.tokens import CancellationTokens
from service.demo import make_demo_catalog
from service.http.documentation import examples
from service.http.endpoints import Access
from tests.connections import open_database
from tests.database import TestDatabase
from tests.http.conftest import ADMIN, CRON
from tests.http.describing import Json, example_request, served_document
from tests.http.keys import BUSINESSES, bearer, make_key

pytestmark = pytest.mark.anyio

# The columns of the table by which each credential is let through. A guest's token is sent in the body.
COLUMNS: Final = {
    "none": {"Public"},
    "guest": {"Public", "Guest's token"},
    "garbage": {"Public"},
    "revoked": {"Public"},
    "readonly": {"Public", "Readonly"},
    "staff": {"Public", "Staff"},
    "owner": {"Public", "Owner"},
    "stranger": {"Public"},
    "admin": {"Public", "Admin"},
    "cron": {"Public", "Cron"},
}
# A token that is given is looked at also where a guest needs none: only without a header one comes through as a guest.
WITHOUT_HEADER: Final = {"none", "guest"}

# What needs no credential, or has its own in the address or the body. A call whose access was forgotten is public too:
# here it is found out.
PUBLIC: Final = {
    "/api/booking/reserve",
    "/api/booking/commit",
    "/api/booking/reservations/{reservationId}",
    "/api/booking/reservations/{reservationId}/extend",
    "/api/booking/capacity",
    "/api/booking/availability",
    "/api/booking/stream",
    "/api/bookings",
    "/api/v1/public/{slug}/book",
    "/api/booking/calendar/{businessId}.ics",
    "/api/booking/calendar/{businessId}/{resourceId}.ics",
    "/health/live",
    "/health/ready",
    "/health/reservations",
    "/metrics",
    "/",
    "/openapi.json",
    "/docs",
    "/docs/style.css",
}

Row = tuple[str, str]


@dataclass
class House:
    """The application with the demo catalog, what is in it, and a header for each credential."""

    client: httpx2.AsyncClient
    document: Json
    headers: dict[str, dict[str, str]]
    # What exists, by what the examples call it.
    real: dict[str, str]
    guests_token: str

    async def rows(self) -> AsyncIterator[tuple[Row, dict[str, bool]]]:
        """The rows of the table; those that delete come last, so that until then there is something to reach.

        What opens a calendar is looked up for each, because the one before may have changed it.
        """
        table = await served_table(self.client)
        for row, columns in sorted(table.items(), key=lambda entry: entry[0][0] == "delete"):
            feeds = (await self.client.get(f"{BUSINESSES}/salon/calendar-feeds", headers=ADMIN)).json()
            keys = {feed["resourceId"]: feed["path"].rpartition("=")[2] for feed in feeds["items"]}
            for feed in examples.CALENDAR_FEEDS.answers[200]["items"]:
                self.real[feed["path"].rpartition("=")[2]] = keys.get(feed["resourceId"], "none")
            yield row, columns

    async def call(self, row: Row, who: str) -> httpx2.Response:
        """Sends the example of a call with a credential."""
        token = self.guests_token if who == "guest" else None
        members = {"businessId": "salon", "cancellationToken": token}
        request = example_request(self.document, *row, self.real, members)
        request.headers.update(self.headers[who])
        if row[1] == "/api/booking/stream":
            request.method = "HEAD"  # which ends
        return await self.client.send(request)


@pytest.fixture
async def house(client: httpx2.AsyncClient, database: TestDatabase) -> House:
    """With one hold, one appointment and one more key in the salon."""
    async with open_database(database.url) as demo:
        await make_demo_catalog(demo)
    headers = {"none": {}, "guest": {}, "garbage": bearer("hf~garbage"), "admin": ADMIN, "cron": CRON}
    for role in ("readonly", "staff", "owner"):
        headers[role] = bearer((await make_key(client, role))["key"])
    headers["stranger"] = bearer((await make_key(client, "owner", "clinic"))["key"])
    revoked, spare = await make_key(client), await make_key(client)
    headers["revoked"] = bearer(revoked["key"])
    await client.delete(f"{BUSINESSES}/salon/keys/{revoked['keyId']}", headers=ADMIN)

    slot = {"businessId": "salon", "serviceId": "styling-class", "slotStart": examples.SLOT_START}
    holds = [(await client.post("/api/booking/reserve", json=slot)).json()["reservationId"] for _ in range(2)]
    guest = {"reservationId": holds[0], "guestEmail": "ada@example.com"}
    appointment = (await client.post("/api/booking/commit", json=guest)).json()
    real = {
        examples.PATH["reservationId"]: holds[1],
        examples.PATH["keyId"]: spare["keyId"],
        examples.PATH["appointmentId"]: appointment["appointmentId"],
    }
    tokens = CancellationTokens(SecretStr("token"))
    token = tokens.make("salon", UUID(appointment["appointmentId"]))
    return House(client, await served_document(), headers, real, token)


async def served_table(client: httpx2.AsyncClient) -> dict[Row, dict[str, bool]]:
    """The table on the docs page: by method and path, what it says in each column."""
    text = (await client.get("/docs")).text
    [section] = re.findall(r'<section id="access">(.*?)</section>', text, re.DOTALL)
    [head, *rows] = re.findall(r"<tr>(.*?)</tr>", section)
    columns = [html.unescape(column) for column in re.findall(r'<th scope="col">(.*?)</th>', head)][1:]
    table = {}
    for row in rows:
        [method], [path] = re.findall(r">([A-Z]+)</span>", row), re.findall(r"<code>(.*?)</code>", row)
        cells = re.findall(r"<td[^>]*>(yes|no)</td>", row)
        table[method.lower(), path] = dict(zip(columns, (cell == "yes" for cell in cells), strict=True))
    return table


def code_of(response: httpx2.Response) -> str | None:
    """The code of a refusal; the booking widget has a shape of its own, and no answer has to be JSON."""
    if "json" not in response.headers.get("content-type", "") or not isinstance(response.json(), dict):
        return None
    code: str | None = response.json().get("code")
    return code


def let_through(response: httpx2.Response) -> bool:
    """Whether the caller was let through, whatever became of the request then."""
    return response.status_code not in (401, 403) and code_of(response) != "BUSINESS_NOT_FOUND"


async def test_the_table_has_every_call(client: httpx2.AsyncClient) -> None:
    """And a column for everybody who can call."""
    table = await served_table(client)
    paths = (await served_document())["paths"]
    assert set(table) == {(method, path) for path, methods in paths.items() for method in methods}
    for columns in table.values():
        assert set(columns) == set.union(*COLUMNS.values())


async def test_nothing_is_open_by_mistake(client: httpx2.AsyncClient) -> None:
    """The public may call what it is meant to; whoever may only read changes nothing, and staff not the catalog."""
    table = await served_table(client)
    assert {path for (_, path), columns in table.items() if columns["Public"]} == PUBLIC
    for (method, path), columns in table.items():
        if method != "get" and path not in PUBLIC:
            assert not columns["Readonly"], (method, path)
            assert not (columns["Staff"] and path.startswith("/api/catalog")), (method, path)


async def test_everybody_is_let_through_just_where_the_table_says_so(house: House) -> None:
    """The table is a promise to those who hand out keys."""
    wrong, passed = [], set()
    async for row, columns in house.rows():
        for who, own in COLUMNS.items():
            response = await house.call(row, who)
            promised = any(columns[column] for column in own)
            passed |= {column for column in own if columns[column]}
            if who == "stranger" and not promised:
                # Where the request names no business, what it asks for is not there for this key.
                kept = response.status_code in (401, 403, 404)
            else:
                kept = let_through(response) == promised
            if not kept:
                wrong.append((*row, who, response.status_code, response.text[:200]))
    assert wrong == []
    assert passed == set.union(*COLUMNS.values())


async def test_a_token_opens_nothing_beyond_its_role(house: House) -> None:
    """Too small a role is a 403, and a token that is none is a 401: only the one is cured by another role."""
    wrong = []
    async for row, columns in house.rows():
        for who in set(COLUMNS) - WITHOUT_HEADER - {"stranger"}:
            if not any(columns[column] for column in COLUMNS[who]):
                of_role = who in ("readonly", "staff", "owner")
                response = await house.call(row, who)
                refusal = (403, "FORBIDDEN") if of_role else (401, "UNAUTHORIZED")
                if (response.status_code, code_of(response)) != refusal:
                    wrong.append((*row, who, response.status_code, response.text[:200]))
    assert wrong == []


async def test_a_key_never_reaches_another_business(house: House) -> None:
    """Wherever a request names a business, an owner's key of another one is told that there is none."""
    tried = []
    async for row, columns in house.rows():
        if not columns["Public"] and not columns["Cron"] and names_a_business(house.document, row):
            response = await house.call(row, "stranger")
            tried.append((*row, response.status_code, code_of(response)))
    assert len(tried) > 5
    assert [attempt for attempt in tried if attempt[2:] != (404, "BUSINESS_NOT_FOUND")] == []


def names_a_business(document: Json, row: Row) -> bool:
    """Whether a call has a businessId in its path, its query or its body."""
    method, path = row
    operation = document["paths"][path][method]
    names = {parameter["name"] for parameter in operation["parameters"]}
    for content in operation.get("requestBody", {"content": {}})["content"].values():
        shape = content["schema"].get("$ref", "").rpartition("/")[2]
        names |= document["components"]["schemas"].get(shape, {}).get("properties", {}).keys()
    return "businessId" in names


async def test_the_administrator_may_call_everything(client: httpx2.AsyncClient) -> None:
    """Whoever has that token is not to be sent for another one."""
    closed = [
        row for row, columns in (await served_table(client)).items() if not (columns["Public"] or columns["Admin"])
    ]
    assert closed == []


async def test_head_is_guarded_as_get_is(house: House) -> None:
    """It tells less, but whether something is there it tells too."""
    statuses = {}
    for who, headers in house.headers.items():
        statuses[who] = (await house.client.head(f"{BUSINESSES}/salon", headers=headers)).status_code
    assert statuses == {
        "none": 401,
        "guest": 401,
        "garbage": 401,
        "revoked": 401,
        "readonly": 200,
        "staff": 200,
        "owner": 200,
        "stranger": 404,
        "admin": 200,
        "cron": 401,
    }


def test_each_role_may_do_what_the_ones_below_it_may() -> None:
    """And neither the public nor the scheduler is a role; what the scheduler may, the administrator may."""
    assert Access.READONLY.roles == ("readonly", "staff", "owner", "admin")
    assert Access.STAFF.roles == Access.GUEST.roles == ("staff", "owner", "admin")
    assert Access.OWNER.roles == ("owner", "admin")
    assert Access.ADMIN.roles == Access.CRON.roles == ("admin",)
    assert Access.PUBLIC.roles == ()
