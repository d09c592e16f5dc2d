"""Access control: every call of the application with every kind of credential, compared with the table on the docs
page.

No call is named here, so a new call is tested without a change of this module.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import httpx2
import pytest
from pydantic import SecretStr

from service.booking.tokens import CancellationTokens
from service.http.endpoint import Access
from service.process.hosting import make_demo_catalog
from tests.connections import open_database
from tests.database import TestDatabase, at
from tests.http.booking_calls import timestamp
from tests.http.conftest import ADMIN, CRON
from tests.http.describing import Json, example_answer, example_ids, example_request, served_document
from tests.http.keys import BUSINESSES, bearer, make_key

pytestmark = pytest.mark.anyio

# The columns of the table that admit each credential.
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
# An Authorization header is checked even where the body may have a token, so only requests without one count as a
# guest's.
WITHOUT_HEADER: Final = {"none", "guest"}

# Calls that need no credential, or carry their own in the URL or the body. A call declared without access is public
# too: this list detects it.
PUBLIC: Final = {
    "/api/booking/reserve",
    "/api/booking/commit",
    "/api/booking/reservations/own",
    "/api/booking/reservations/{reservationId}",
    "/api/booking/reservations/{reservationId}/extend",
    "/api/booking/reservations/{reservationId}/release",
    "/api/booking/capacity",
    "/api/booking/availability",
    "/api/booking/availability/days",
    "/api/booking/stream",
    "/api/bookings",
    "/api/v1/public/{slug}",
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
    "/docs/businesses",
    "/docs/embedding",
    "/docs/errors",
    "/docs/{asset}",
    "/docs/deploy/{guide}",
    "/book/{business}",
    "/book/{business}/",
    "/calendar",
    "/ops",
    "/static/{asset}",
    "/static/{page}/{asset}",
}

Row = tuple[str, str]


@dataclass
class Site:
    """The application with the demo catalog, the ids of its objects, and a header for each credential."""

    client: httpx2.AsyncClient
    document: Json
    headers: dict[str, dict[str, str]]
    # Ids that exist, by the ids that the examples have.
    real: dict[str, str]

    async def rows(self) -> AsyncIterator[tuple[Row, dict[str, bool]]]:
        """Yields the rows of the table, deletions last, so that the earlier calls find their objects.

        The keys of the calendar feeds are read for each row, because the call before may have rotated them.
        """
        table = access_table(self.document)
        for row, columns in sorted(table.items(), key=lambda entry: entry[0][0] == "delete"):
            feeds = (await self.client.get(f"{BUSINESSES}/salon/calendar-feeds", headers=ADMIN)).json()
            keys = {feed["resourceId"]: feed["path"].rpartition("=")[2] for feed in feeds["items"]}
            for feed in example_answer(self.document, f"{BUSINESSES}/{{businessId}}/calendar-feeds")["items"]:
                self.real[feed["path"].rpartition("=")[2]] = keys.get(feed["resourceId"], "none")
            yield row, columns

    async def call(self, row: Row, credential: str) -> httpx2.Response:
        """Sends the example of a call with a credential."""
        members = {"businessId": "salon", "cancellationToken": None}
        request = example_request(self.document, *row, self.real, members)
        request.headers.update(self.headers[credential])
        if row[1] == "/api/booking/stream":
            request.method = "HEAD"  # a GET of the stream does not end
        return await self.client.send(request)


@pytest.fixture
async def site(client: httpx2.AsyncClient, database: TestDatabase) -> Site:
    """Sets up two holds, one of them committed, and a spare key in the salon."""
    async with open_database(database.url) as demo:
        await make_demo_catalog(demo)
    headers = {"none": {}, "guest": {}, "garbage": bearer("hf~garbage"), "admin": ADMIN, "cron": CRON}
    for role in ("readonly", "staff", "owner"):
        headers[role] = bearer((await make_key(client, role))["key"])
    headers["stranger"] = bearer((await make_key(client, "owner", "clinic"))["key"])
    revoked, spare = await make_key(client), await make_key(client)
    headers["revoked"] = bearer(revoked["key"])
    await client.delete(f"{BUSINESSES}/salon/keys/{revoked['keyId']}", headers=ADMIN)

    document = await served_document()
    service = {"businessId": "salon", "serviceId": "styling-class"}
    listing = await client.get("/api/booking/availability", params={**service, "from": timestamp(at(0)), "limit": 1})
    slot = service | {"slotStart": listing.json()["slots"][0]["slotStart"]}
    holds = [(await client.post("/api/booking/reserve", json=slot)).json()["reservationId"] for _ in range(2)]
    guest = {"reservationId": holds[0], "guestEmail": "ada@example.com"}
    appointment = (await client.post("/api/booking/commit", json=guest)).json()
    ids = example_ids(document)
    real = {
        ids["reservationId"]: holds[1],
        ids["keyId"]: spare["keyId"],
        ids["appointmentId"]: appointment["appointmentId"],
    }
    tokens = CancellationTokens(SecretStr("token"))
    headers["guest"] = {"Guest-Token": tokens.make("salon", UUID(appointment["appointmentId"]))}
    return Site(client, document, headers, real)


def access_table(document: Json) -> dict[Row, dict[str, bool]]:
    """Returns for each call which kinds of callers the document lets through."""
    schemes: dict[str, Json | None] = {
        "Public": None,
        "Guest's token": {"GUEST_TOKEN": []},
        "Readonly": {"READONLY_KEY": []},
        "Staff": {"STAFF_KEY": []},
        "Owner": {"OWNER_KEY": []},
        "Admin": {"ADMIN_TOKEN": []},
        "Cron": {"CRON_SECRET": []},
    }
    return {
        (method, path): {
            caller: not operation["security"] or scheme in operation["security"] for caller, scheme in schemes.items()
        }
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def code_or_none(response: httpx2.Response) -> str | None:
    """Returns the code of a refusal; None for an answer of the booking widget and for one that is not a JSON object."""
    if "json" not in response.headers.get("content-type", "") or not isinstance(response.json(), dict):
        return None
    code: str | None = response.json().get("code")
    return code


def is_admitted(response: httpx2.Response) -> bool:
    """Returns whether the credential was accepted, whatever the outcome of the request was."""
    return response.status_code not in (401, 403) and code_or_none(response) != "BUSINESS_NOT_FOUND"


async def test_the_document_names_the_access_of_every_call() -> None:
    """Beside the schemes, in one word: the lowest role that may call."""
    for path, methods in (await served_document())["paths"].items():
        for method, operation in methods.items():
            columns = access_table({"paths": {path: {method: operation}}})[method, path]
            lowest = next(name for name, allowed in columns.items() if allowed)
            names = {"Guest's token": "guest", "Admin": "cron" if columns["Cron"] else "admin"}
            assert operation["x-access"] == names.get(lowest, lowest.lower())


async def test_no_call_has_wider_access_than_intended() -> None:
    """The public calls are exactly the listed ones; readonly keys change nothing, and staff keys do not change the
    catalog."""
    table = access_table(await served_document())
    assert {path for (_, path), columns in table.items() if columns["Public"]} == PUBLIC
    for (method, path), columns in table.items():
        if method != "get" and path not in PUBLIC:
            assert not columns["Readonly"], (method, path)
            assert not (columns["Staff"] and path.startswith("/api/catalog")), (method, path)


async def test_each_credential_is_admitted_exactly_where_the_table_says_so(site: Site) -> None:
    """Owners choose the roles of their keys by this table."""
    wrong, passed = [], set()
    async for row, columns in site.rows():
        for credential, own in COLUMNS.items():
            response = await site.call(row, credential)
            promised = any(columns[column] for column in own)
            passed |= {column for column in own if columns[column]}
            if credential == "stranger" and not promised:
                # Where the request names no business, what it asks for is not there for this key.
                matches = response.status_code in (401, 403, 404)
            else:
                matches = is_admitted(response) == promised
            if not matches:
                wrong.append((*row, credential, response.status_code, response.text[:200]))
    assert wrong == []
    assert passed == set.union(*COLUMNS.values())


async def test_a_token_opens_nothing_beyond_its_role(site: Site) -> None:
    """An insufficient role is a 403 and an invalid token a 401, because only the first is solved by another role."""
    wrong = []
    async for row, columns in site.rows():
        for credential in set(COLUMNS) - WITHOUT_HEADER - {"stranger"}:
            if not any(columns[column] for column in COLUMNS[credential]):
                is_key = credential in ("readonly", "staff", "owner")
                response = await site.call(row, credential)
                refusal = (403, "FORBIDDEN") if is_key else (401, "UNAUTHORIZED")
                if (response.status_code, code_or_none(response)) != refusal:
                    wrong.append((*row, credential, response.status_code, response.text[:200]))
    assert wrong == []


async def test_a_key_never_reaches_another_business(site: Site) -> None:
    """Wherever a request names a business, an owner's key of another one gets BUSINESS_NOT_FOUND."""
    tried = []
    async for row, columns in site.rows():
        if not columns["Public"] and not columns["Cron"] and names_a_business(site.document, row):
            response = await site.call(row, "stranger")
            tried.append((*row, response.status_code, code_or_none(response)))
    assert len(tried) > 5
    assert [attempt for attempt in tried if attempt[2:] != (404, "BUSINESS_NOT_FOUND")] == []


def names_a_business(document: Json, row: Row) -> bool:
    """Returns whether a call has a businessId in its path, its query or its body."""
    method, path = row
    operation = document["paths"][path][method]
    names = {parameter["name"] for parameter in operation["parameters"]}
    for content in operation.get("requestBody", {"content": {}})["content"].values():
        shape = content["schema"].get("$ref", "").rpartition("/")[2]
        names |= document["components"]["schemas"].get(shape, {}).get("properties", {}).keys()
    return "businessId" in names


async def test_the_administrator_may_call_everything() -> None:
    """The administrator's token never has to be exchanged for another one."""
    closed = [
        row
        for row, columns in access_table(await served_document()).items()
        if not (columns["Public"] or columns["Admin"])
    ]
    assert closed == []


async def test_head_is_guarded_as_get_is(site: Site) -> None:
    """The status of a HEAD request reveals whether the object exists."""
    statuses = {}
    for credential, headers in site.headers.items():
        statuses[credential] = (await site.client.head(f"{BUSINESSES}/salon", headers=headers)).status_code
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


def test_each_role_includes_the_ones_below_it() -> None:
    """The public and the scheduler are no roles; the administrator may do what the scheduler may."""
    assert Access.READONLY.roles == ("readonly", "staff", "owner", "admin")
    assert Access.STAFF.roles == ("staff", "owner", "admin")
    assert Access.OWNER.roles == ("owner", "admin")
    assert Access.ADMIN.roles == Access.CRON.roles == ("admin",)
    assert Access.PUBLIC.roles == ()
