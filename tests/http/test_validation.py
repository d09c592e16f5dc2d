"""Nothing that a caller can send gives a 500, and a fault is named by its field."""

import json
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.database import TestDatabase, at
from tests.http.conftest import ADMIN
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

RESERVE = {"businessId": "salon", "serviceId": "cut", "slotStart": at(10).isoformat()}
COMMIT = {"reservationId": str(uuid4()), "guestEmail": "guest@example.com"}


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("businessId", ""),
        ("businessId", "-salon"),
        ("businessId", "s" * 65),
        ("businessId", "salon\n"),
        ("businessId", None),
        ("businessId", 5),
        ("serviceId", "caf\u00e9"),
        ("slotStart", "2027-01-01T10:00:00"),
        ("slotStart", "2027-01-01"),
        ("slotStart", "1790000000"),
        ("slotStart", 1790000000),
        ("slotStart", "2027-02-30T10:00:00Z"),
        ("slotStart", "0001-01-01T00:00:00+14:00"),
        ("slotStart", "9999-12-31T23:59:59-14:00"),
        ("slotStart", "9999-01-01T00:00:00Z"),
        ("slotEnd", "tomorrow"),
        ("ttlMinutes", 0),
        ("ttlMinutes", -1),
        ("ttlMinutes", 10081),
        ("ttlMinutes", "15"),
        ("ttlMinutes", True),
        ("quantity", 0),
        ("quantity", 1.5),
        ("quantity", "1"),
        ("quantity", 2**40),
        ("idempotencyKey", ""),
        ("idempotencyKey", "k" * 256),
        ("idempotencyKey", "schl\u00fcssel"),
        ("idempotencyKey", "a\tb"),
        ("resourceId", "a b"),
        ("unknown", 1),
    ],
)
async def test_a_faulty_reserve_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, member: str, value: Any
) -> None:
    """400 and the field, whatever was wrong with it."""
    database.make_service()
    response = await client.post("/api/booking/reserve", json={**RESERVE, member: value})
    assert faulty_fields(response) == [member]


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("reservationId", "1"),
        ("guestName", "\u0000"),
        ("guestName", ""),
        ("guestName", "n" * 201),
        ("guestEmail", "guest"),
        ("guestEmail", "guest@" + "d" * 250 + ".com"),
        ("guestPhone", "call me"),
        ("notes", "n" * 2001),
        ("notes", "a\u0000b"),
        ("metadata", []),
        ("metadata", {"key": "a\u0000b"}),
        ("metadata", {"ke\u0000y": 1}),
        ("metadata", {"key": ["x" * 5000]}),
        ("expectedVersion", 0),
        ("expectedVersion", 2**31),
        ("ifExpired", "ignore"),
    ],
)
async def test_a_faulty_commit_names_its_field(
    client: httpx2.AsyncClient, database: TestDatabase, member: str, value: Any
) -> None:
    """400 and the field, before anything is asked of the database."""
    del database
    response = await client.post("/api/booking/commit", json={**COMMIT, member: value})
    assert faulty_fields(response) == [member]


async def test_a_guest_must_be_reachable(client: httpx2.AsyncClient) -> None:
    """An e-mail address or a phone number; the address is what most forms ask for, so the fault is shown there."""
    response = await client.post("/api/booking/commit", json={"reservationId": str(uuid4())})
    assert response.status_code == 400
    assert response.json()["errors"] == [{"field": "guestEmail", "message": "guestEmail or guestPhone is required"}]


async def test_a_slot_does_not_end_before_it_starts(client: httpx2.AsyncClient) -> None:
    """Nor at the same instant; and whatever else is wrong is told with it."""
    body = {**RESERVE, "slotEnd": RESERVE["slotStart"], "quantity": 0}
    response = await client.post("/api/booking/reserve", json=body)
    assert {"field": "slotEnd", "message": "slotEnd must be after slotStart"} in response.json()["errors"]
    assert set(faulty_fields(response)) == {"slotEnd", "quantity"}


@pytest.mark.parametrize("value", ["a b", "", 5, None])
async def test_an_id_is_told_to_be_none_in_the_same_words_wherever_it_stands(
    client: httpx2.AsyncClient, value: Any
) -> None:
    """In a body, in a query, in a path: a pattern would say less to most who read it."""
    words = "must be 1 to 64 of A-Za-z0-9_.:-, the first a letter or digit"
    in_path = await client.get("/api/catalog/businesses/a%20b", headers=ADMIN)
    in_query = await client.get("/api/booking/stream", params={"businessId": "a b", "serviceId": "cut"})
    in_body = await client.post("/api/booking/reserve", json={**RESERVE, "businessId": value})
    for response in (in_path, in_query, in_body):
        assert response.json()["errors"] == [{"field": "businessId", "message": words}]


@pytest.mark.parametrize(
    "unreadable",
    ["2027-01-04T10:00:60Z", "2027-01-04T10:00:00", "2027-01-04T25:00:00Z", "2027-01-04Tten", "ten", 10, None],
)
async def test_what_is_no_instant_is_told_how_one_is_written(client: httpx2.AsyncClient, unreadable: Any) -> None:
    """A leap second is none: no clock that is asked here has it."""
    response = await client.post("/api/booking/reserve", json={**RESERVE, "slotStart": unreadable})
    words = "must be an ISO 8601 instant with an offset, like 2026-11-21T09:00:00+01:00"
    assert response.json()["errors"] == [{"field": "slotStart", "message": words}]


@pytest.mark.parametrize("email", ["Eve <eve@example.com>", '"Eve" <eve@example.com>', "<eve@example.com>"])
async def test_an_email_address_comes_without_a_name(client: httpx2.AsyncClient, email: str) -> None:
    """The name would be dropped, and nobody would notice."""
    response = await client.post("/api/booking/commit", json={**COMMIT, "guestEmail": email})
    words = "must be the address alone, like ada@example.com"
    assert response.json()["errors"] == [{"field": "guestEmail", "message": words}]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'"text"',
        b"\xff\xfe",
        b'{"businessId": "\\ud800"}',
        b"[" * 5000,
        b'{"metadata": ' + b'{"a":' * 3000 + b"1" + b"}" * 3001,
        b'{"reservationId": "x", "metadata": {"n": 1e999}}',
        b'{"reservationId": "x", "metadata": {"n": ' + b"9" * 6000 + b"}}",
        b'{"metadata": {"n": NaN}}',
    ],
)
@pytest.mark.parametrize("address", ["/api/booking/reserve", "/api/booking/commit"])
async def test_what_is_not_a_json_object_is_a_400(client: httpx2.AsyncClient, address: str, body: bytes) -> None:
    """Broken, deep, endless or not an object: refused, not a crash."""
    response = await client.post(address, content=body, headers={"Content-Type": "application/json"})
    assert refusal(response) == (400, "VALIDATION_FAILED")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 4000, "1" + "0" * 400])
async def test_endless_numbers_in_metadata_are_refused_or_kept(
    client: httpx2.AsyncClient, database: TestDatabase, number: str
) -> None:
    """What JSON can write and PostgreSQL can't hold is a fault of the request."""
    database.make_service()
    hold = database.reserve(10)
    body = json.dumps({**COMMIT, "reservationId": hold.id, "metadata": {"n": 0}}).replace('"n": 0', f'"n": {number}')
    response = await client.post(
        "/api/booking/commit", content=body.encode(), headers={"Content-Type": "application/json"}
    )
    assert response.status_code in (201, 400), response.text


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "application/json; Charset = latin-1",
        "application/json; charset=utf-8; charset=latin-1",
        "application/jsonp",
        "application/json, text/plain",
        ";" * 30_000,
        '";' * 15_000,
    ],
)
async def test_other_media_types_are_a_415(client: httpx2.AsyncClient, content_type: str | None) -> None:
    """JSON in UTF-8 is all that is read."""
    headers = {"Content-Type": content_type} if content_type else {}
    response = await client.post("/api/booking/reserve", content=json.dumps(RESERVE).encode(), headers=headers)
    assert refusal(response) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; profile=x",
        "application/json; charset=utf-8",
        'APPLICATION/JSON;charset="UTF-8"',
        "application/json;",
        "application/json" + ";" * 30_000,
        # What RFC 2231 has for mail means nothing here.
        "application/json; charset*=%00''utf-8",
        f"application/json; charset*{'1' * 5000}=utf-8",
    ],
)
async def test_json_may_name_its_charset(client: httpx2.AsyncClient, database: TestDatabase, content_type: str) -> None:
    """Many clients do."""
    database.make_service()
    response = await client.post(
        "/api/booking/reserve", content=json.dumps(RESERVE).encode(), headers={"Content-Type": content_type}
    )
    assert response.status_code == 201


async def test_a_large_body_is_a_413(client: httpx2.AsyncClient) -> None:
    """It is not read to its end."""
    body = json.dumps({**RESERVE, "idempotencyKey": "k" * 70_000}).encode()
    response = await client.post("/api/booking/reserve", content=body, headers={"Content-Type": "application/json"})
    assert refusal(response) == (413, "PAYLOAD_TOO_LARGE")


async def test_what_is_not_there_and_what_is_not_allowed(client: httpx2.AsyncClient) -> None:
    """404 and 405 are problems like any other, and 405 says what is allowed."""
    response = await client.get("/api/nothing")
    assert refusal(response) == (404, "NOT_FOUND")
    response = await client.put("/api/booking/reserve", json={})
    assert refusal(response) == (405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == "POST"
    response = await client.patch("/api/booking/reservations/x")
    assert set(response.headers["allow"].split(", ")) == {"DELETE", "GET", "HEAD"}


@pytest.mark.parametrize("address", ["/health/live/", "/docs/", "/api/booking/reserve/", "/api/v1/public/salon/book/"])
async def test_an_address_with_a_slash_too_many_is_another_one(client: httpx2.AsyncClient, address: str) -> None:
    """A redirection would lead to wherever the Host header says, and has no body that a program could read."""
    for method in ("GET", "POST"):
        response = await client.request(method, address, headers={"Host": "evil.example"})
        assert response.status_code == 404
        told = response.json()
        assert (told["error"] if "public" in address else told)["code"] == "NOT_FOUND"
        assert "location" not in response.headers


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"slotStart": "2027-01-01T10:00:00 01:00"}, "slotStart"),
        ({"slotEnd": ""}, "slotEnd"),
        ({"slotStart": "1899-12-31T23:59:59Z"}, "slotStart"),
        ({"slotEnd": "3000-01-01T00:00:00Z"}, "slotEnd"),
        ({"slotStart": "2027-01-01T10:00:00Z", "slotEnd": "2027-02-01T10:00:00Z"}, "slotEnd"),
        ({"slotEnd": at(10).isoformat()}, "slotEnd"),
        ({"unknown": "1"}, "unknown"),
        ({"serviceId": ""}, "serviceId"),
    ],
)
async def test_a_faulty_query_names_its_field(client: httpx2.AsyncClient, query: dict[str, str], field: str) -> None:
    """A plus that was not encoded is the usual one."""
    right = {"businessId": "salon", "serviceId": "cut", "slotStart": at(10).isoformat(), "slotEnd": at(11).isoformat()}
    response = await client.get("/api/booking/capacity", params={**right, **query})
    assert response.status_code == 400
    assert faulty_fields(response) == [field]


async def test_an_idempotency_key_header_is_validated(client: httpx2.AsyncClient) -> None:
    """As it would be in the body."""
    response = await client.post("/api/booking/reserve", json=RESERVE, headers={"Idempotency-Key": "k" * 256})
    assert response.status_code == 400
    assert faulty_fields(response) == ["Idempotency-Key"]
