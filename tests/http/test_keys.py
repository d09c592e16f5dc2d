"""Keys of a business: shown once, stored as a hash, and invalid as soon as they are revoked."""

import asyncio
import io
from typing import Any

import httpx2
import pytest
import structlog
from pydantic import BaseModel
from starlette.types import Message

from service.booking import keys
from service.booking.keys import Principal
from service.http.call import Call
from tests.database import TestDatabase
from tests.http.conftest import ADMIN, running
from tests.http.describing import check, served_document
from tests.http.keys import BUSINESSES, bearer, make_key
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

KEYS = f"{BUSINESSES}/salon/keys"


async def test_a_key_is_made_used_listed_and_revoked(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A revoked key is refused from the next request on; a second revocation changes nothing."""
    database.make_business()
    owner, staff = await make_key(client), await make_key(client, "staff")
    assert owner.keys() == {"keyId", "key", "role"}
    own = bearer(owner["key"])
    listed = (await client.get(KEYS, headers=own)).json()["items"]
    assert [(key["keyId"], key["name"], key["role"], key["revokedAt"]) for key in listed] == [
        (owner["keyId"], "The owner's", "owner", None),
        (staff["keyId"], "The staff's", "staff", None),
    ]
    address = f"{BUSINESSES}/salon"
    assert (await client.get(address, headers=bearer(staff["key"]))).status_code == 200
    for _ in range(2):
        assert (await client.delete(f"{KEYS}/{staff['keyId']}", headers=own)).status_code == 204
        assert (await client.get(address, headers=bearer(staff["key"]))).json()["code"] == "UNAUTHORIZED"
    assert (await client.get(KEYS, headers=own)).json()["items"][1]["revokedAt"].endswith("Z")
    assert (await client.delete(f"{KEYS}/{owner['keyId']}", headers=own)).status_code == 204
    assert (await client.get(KEYS, headers=own)).status_code == 401


@pytest.mark.parametrize("role", ["readonly", "staff", "owner"])
async def test_a_key_knows_its_role(client: httpx2.AsyncClient, database: TestDatabase, role: str) -> None:
    """A page offers what its key may do; a key of another business is refused there."""
    database.make_business()
    key = await make_key(client, role)
    own = await client.get(f"{BUSINESSES}/salon/own-key", headers=bearer(key["key"]))
    assert own.json() == {"keyId": key["keyId"], "role": role}
    other = await client.get(f"{BUSINESSES}/clinic/own-key", headers=bearer(key["key"]))
    assert refusal(other) == (404, "BUSINESS_NOT_FOUND")
    admin = await client.get(f"{BUSINESSES}/salon/own-key", headers=ADMIN)
    assert admin.json() == {"keyId": None, "role": "admin"}


async def test_a_key_is_listed_with_its_maker(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A key that leaked may have made others, which its revocation leaves valid."""
    database.make_business()
    owner = await make_key(client)
    made = await client.post(KEYS, json={"name": "Made", "role": "owner"}, headers=bearer(owner["key"]))
    await client.delete(f"{KEYS}/{owner['keyId']}", headers=ADMIN)
    listed = (await client.get(KEYS, headers=bearer(made.json()["key"]))).json()["items"]
    assert [key["createdBy"] for key in listed] == [None, owner["keyId"]]


async def test_the_use_of_a_key_is_noted_beside_the_requests(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A valid key shows when it was last used; a wrong one does not count as a use."""
    monkeypatch.setattr(keys, "_NOTED_SECONDS", 0.05)
    database.make_business()
    async with running(database) as client:
        used, unused = await make_key(client), await make_key(client, "staff")
        await client.get(f"{BUSINESSES}/salon", headers=bearer(unused["key"][:-1] + "-"))
        for _ in range(200):
            await client.get(f"{BUSINESSES}/salon", headers=bearer(used["key"]))
            first, second = (await client.get(KEYS, headers=ADMIN)).json()["items"]
            if first["lastUsedAt"]:
                break
            await asyncio.sleep(0.05)
        assert first["lastUsedAt"].endswith("Z")
        assert second["lastUsedAt"] is None


async def test_a_key_beyond_the_limit_is_refused(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """The refusal has the limit, and its shape is that of the document."""
    database.make_business()
    database.rows(
        "INSERT INTO booking.api_keys (business_id, key_id, name, role, sha256, created_at) "
        "SELECT 'salon', 'k' || n, 'Desk', 'staff', sha256('x'), now() FROM generate_series(1, 200) AS n"
    )
    refused = await client.post(KEYS, json={"name": "Desk", "role": "staff"}, headers=ADMIN)
    assert check(await served_document(), refused) == "LIMIT_REACHED"
    assert (refused.status_code, refused.json()["limit"]) == (409, 200)


async def test_a_key_is_shown_once_and_stored_as_a_hash(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Neither the database nor a cache between the service and the caller holds a usable key."""
    database.make_business()
    response = await client.post(KEYS, json={"name": "Desk", "role": "owner"}, headers=ADMIN)
    assert response.headers["cache-control"] == "no-store"
    secret = response.json()["key"].rpartition("~")[2]
    assert len(secret) == 43
    assert secret not in (await client.get(KEYS, headers=ADMIN)).text
    assert secret not in database.value("SELECT string_agg(k::text, '') FROM booking.api_keys k")


async def test_keys_with_the_same_name_and_role_differ(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Name and role do not identify a key."""
    database.make_business()
    keys = [await make_key(client) for _ in range(5)]
    assert len({key["key"] for key in keys}) == len({key["keyId"] for key in keys}) == 5


async def test_an_invalid_key_is_a_401(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Each part of a key is compared, so a change of any of them invalidates it."""
    database.make_business()
    database.make_business("clinic")
    key = (await make_key(client))["key"]
    other = (await make_key(client))["key"]
    _, business_id, key_id, secret = key.split("~")
    flipped = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    tokens = [
        "",
        "~~~",
        "hf~salon",
        key[:-1],
        key + "A",
        key.upper(),
        key.replace("hf", "hg"),
        "~".join(("hf", business_id, key_id, flipped)),
        "~".join(("hf", business_id, other.split("~")[2], secret)),
        "~".join(("hf", "clinic", key_id, secret)),
        "~".join(("hf", "nobody", key_id, secret)),
        "~".join(("hf", "salon%00", key_id, secret)),
        key + "\u00e4",
        "hf~" + "a" * 10_000,
    ]
    headers = [[(b"Authorization", f"Bearer {token}".encode())] for token in tokens]
    headers += [[(b"Authorization", f"{scheme}{key}".encode())] for scheme in ("", "Basic ", "Bearer\t", "Bearer ~")]
    for given in headers:
        response = await client.get(KEYS, headers=given)
        assert refusal(response) == (401, "UNAUTHORIZED"), given
        assert response.headers["www-authenticate"] == "Bearer"
    assert (await client.get(KEYS, headers={"Authorization": f"bearer  {key}"})).status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "Desk"}, "role"),
        ({"name": "Desk", "role": "admin"}, "role"),
        ({"name": "", "role": "staff"}, "name"),
        ({"name": "\u0000", "role": "staff"}, "name"),
        ({"name": "Desk", "role": "staff", "key": "mine"}, "key"),
    ],
)
async def test_a_faulty_key_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, body: dict[str, Any], field: str
) -> None:
    """The answer is a 400 and no key is made. No key has the administrator's role."""
    database.make_business()
    response = await client.post(KEYS, json=body, headers=ADMIN)
    assert faulty_fields(response) == [field]
    assert (await client.get(KEYS, headers=ADMIN)).json() == {"items": []}


async def test_an_unknown_business_or_key_is_a_404(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A malformed id is a 400."""
    body = {"name": "Desk", "role": "staff"}
    for response in (
        await client.post(KEYS, json=body, headers=ADMIN),
        await client.get(KEYS, headers=ADMIN),
        await client.delete(f"{KEYS}/k1", headers=ADMIN),
    ):
        assert refusal(response) == (404, "BUSINESS_NOT_FOUND")
    database.make_business()
    response = await client.delete(f"{KEYS}/k1", headers=ADMIN)
    assert refusal(response) == (404, "KEY_NOT_FOUND")
    assert (await client.delete(f"{KEYS}/-", headers=ADMIN)).status_code == 400


async def test_access_is_checked_before_the_body_is_read(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """401, 403 and 404 come before 400, 413 and 415."""
    database.make_business()
    database.make_business("clinic")
    readonly, stranger = await make_key(client, "readonly"), await make_key(client, business_id="clinic")
    cases = {401: {}, 403: bearer(readonly["key"]), 404: bearer(stranger["key"]), 413: ADMIN}
    for status, headers in cases.items():
        given = headers | {"Content-Type": "application/json"}
        assert (await client.post(KEYS, headers=given, content=b"[" * 100_000)).status_code == status


async def test_another_businesss_key_cannot_find_out_which_businesses_exist(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """An existing business and an unknown one get the same answer, except for the request id."""
    database.make_business()
    database.make_business("clinic")
    key = bearer((await make_key(client, business_id="clinic"))["key"])
    problems = []
    for business_id in ("salon", "nobody", "no-one:else"):
        response = await client.get(f"{BUSINESSES}/{business_id}", headers=key | {"X-Request-Id": "same"})
        problems.append((response.status_code, response.json()))
    assert problems[0] == problems[1] == problems[2]
    assert problems[0][1]["code"] == "BUSINESS_NOT_FOUND"


async def test_no_key_is_ever_in_a_log_or_a_refusal(
    client: httpx2.AsyncClient, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds for accepted and refused requests, and for a defect of the service itself."""
    # The service's processors with another output: its own logger keeps the stderr of its first use.
    lines = io.BytesIO()
    log = structlog.wrap_logger(structlog.BytesLogger(lines), processors=structlog.get_config()["processors"])
    monkeypatch.setattr("service.http.application.log", log)
    database.make_business()
    owner, readonly = await make_key(client), await make_key(client, "readonly")
    spoilt = owner["key"][:-1] + "~"
    answers = [
        await client.post(KEYS, json={"name": "", "role": "staff"}, headers=bearer(owner["key"])),
        await client.get(f"{BUSINESSES}/clinic", headers=bearer(owner["key"])),
        await client.get(KEYS, headers=bearer(readonly["key"])),
        await client.get(KEYS, headers=bearer(spoilt)),
    ]
    database.rows("ALTER FUNCTION booking.live_key RENAME TO lost_key")
    answers.append(await client.get(KEYS, headers=bearer(owner["key"])))
    database.rows("ALTER FUNCTION booking.lost_key RENAME TO live_key")
    assert [answer.status_code for answer in answers] == [400, 404, 403, 401, 500]
    logged = lines.getvalue().decode()
    assert logged.count('"event":"request"') == 7
    assert logged.count('"event":"defect"') == 1
    for text in (logged, *(answer.text for answer in answers)):
        assert "hf~" not in text
        for key in (owner, readonly):
            assert key["key"].rpartition("~")[2][:-1] not in text


class Named(BaseModel):
    """A body or a query with an optional business."""

    business_id: str | None = None


@pytest.mark.parametrize(
    ("path", "query", "body", "wanted"),
    [
        ({"businessId": "salon"}, None, None, "salon"),
        ({}, Named(business_id="salon"), None, "salon"),
        ({}, None, Named(business_id="salon"), "salon"),
        ({}, Named(), Named(), "clinic"),
        ({}, None, None, "clinic"),
    ],
)
def test_a_call_is_about_the_named_business_or_else_that_of_its_key(
    path: dict[str, str], query: Named | None, body: Named | None, wanted: str
) -> None:
    """A caller with a key need not name its business."""
    call = Call({"headers_by_name": {}}, unread, path)
    call.query, call.body, call.principal = query, body, Principal("staff", "clinic", "k1")
    assert call.business_id == wanted
    if wanted == "clinic":
        for principal in (Principal("admin", None, None), None):
            call.principal = principal
            assert call.business_id is None


async def unread() -> Message:
    """Is never called."""
    raise AssertionError
