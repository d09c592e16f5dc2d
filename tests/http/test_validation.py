"""Validation: no request causes a 500, and each fault names its field."""

import gzip
import json
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from service.http.endpoint import MAX_BODY_BYTES
from tests.database import TestDatabase, at
from tests.http.booking_calls import change, create, reserve, slot, timestamp
from tests.http.conftest import ADMIN, CRON
from tests.http.describing import Json, check, served_document
from tests.http.refusals import faulty_fields, refusal

pytestmark = pytest.mark.anyio

RESERVE = slot()
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
        ("slotStart", "1899-12-31T23:59:59Z"),
        ("slotStart", "3000-01-01T00:00:00Z"),
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
    """The answer is a 400 with the field."""
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
    """The answer is a 400 with the field, without a query of the database."""
    del database
    response = await client.post("/api/booking/commit", json={**COMMIT, member: value})
    assert faulty_fields(response) == [member]


async def test_a_guest_must_be_reachable(client: httpx2.AsyncClient) -> None:
    """A guest needs an e-mail address or a phone number; the fault names the address, which most forms ask for."""
    response = await client.post("/api/booking/commit", json={"reservationId": str(uuid4())})
    assert response.status_code == 400
    fault = {"code": "required_without", "parameters": {"fields": ["guestPhone"]}}
    message = "is required without guestPhone"
    assert response.json()["errors"] == [{"field": "guestEmail", **fault, "message": message}]


async def test_a_slot_does_not_end_before_it_starts(client: httpx2.AsyncClient) -> None:
    """Its end must be after its start; other faults of the request are listed with this one."""
    body = {**RESERVE, "slotEnd": RESERVE["slotStart"], "quantity": 0}
    response = await client.post("/api/booking/reserve", json=body)
    fault = {"code": "not_after", "parameters": {"field": "slotStart"}, "message": "must be after slotStart"}
    assert {"field": "slotEnd", **fault} in response.json()["errors"]
    assert set(faulty_fields(response)) == {"slotEnd", "quantity"}


@pytest.mark.parametrize("value", ["a b", "", 5, None])
async def test_an_invalid_id_gets_the_same_message_in_body_query_and_path(
    client: httpx2.AsyncClient, value: Any
) -> None:
    """The message names the allowed characters, because a pattern is hard to read."""
    message = "must be 1 to 64 of A-Za-z0-9_.:-, the first a letter or digit"
    in_path = await client.get("/api/catalog/businesses/a%20b", headers=ADMIN)
    in_query = await client.get("/api/booking/stream", params={"businessId": "a b", "serviceId": "cut"})
    in_body = await client.post("/api/booking/reserve", json={**RESERVE, "businessId": value})
    for response in (in_path, in_query, in_body):
        fault = {"code": "invalid_id", "parameters": {}, "message": message}
        assert response.json()["errors"] == [{"field": "businessId", **fault}]


@pytest.mark.parametrize(
    "unreadable",
    [
        "2027-01-04T10:00:60Z",
        "2027-01-04T10:00:00",
        "2027-01-04T25:00:00Z",
        "2027-01-04Tten",
        "04.01.2027 10:00:00Z",
        "ten",
        10,
        None,
    ],
)
async def test_an_invalid_instant_gets_an_example(client: httpx2.AsyncClient, unreadable: Any) -> None:
    """A leap second is invalid as well, because Python's datetime has none."""
    response = await client.post("/api/booking/reserve", json={**RESERVE, "slotStart": unreadable})
    message = "must be an ISO 8601 instant with an offset, like 2026-11-21T09:00:00+01:00"
    fault = {"code": "invalid_instant", "parameters": {}, "message": message}
    assert response.json()["errors"] == [{"field": "slotStart", **fault}]


@pytest.mark.parametrize("email", ["Eve <eve@example.com>", '"Eve" <eve@example.com>', "<eve@example.com>"])
async def test_an_email_address_comes_without_a_name(client: httpx2.AsyncClient, email: str) -> None:
    """A display name would be dropped silently."""
    response = await client.post("/api/booking/commit", json={**COMMIT, "guestEmail": email})
    fault = {"code": "email_with_name", "parameters": {}, "message": "must be the address alone, like ada@example.com"}
    assert response.json()["errors"] == [{"field": "guestEmail", **fault}]


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
async def test_a_body_that_is_no_json_object_is_a_400(client: httpx2.AsyncClient, address: str, body: bytes) -> None:
    """Broken, deeply nested and non-object bodies are refused without a crash."""
    response = await client.post(address, content=body, headers={"Content-Type": "application/json"})
    assert refusal(response) == (400, "VALIDATION_FAILED")


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 4000, "1" + "0" * 400])
async def test_huge_numbers_in_metadata_are_refused_or_stored(
    client: httpx2.AsyncClient, database: TestDatabase, number: str
) -> None:
    """JSON allows numbers that PostgreSQL cannot store."""
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
    """The service reads JSON in UTF-8 only."""
    headers = {"Content-Type": content_type} if content_type else {}
    response = await client.post("/api/booking/reserve", content=json.dumps(RESERVE).encode(), headers=headers)
    assert refusal(response) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "deflate", "br", "zstd"])
async def test_a_compressed_body_is_a_415(client: httpx2.AsyncClient, database: TestDatabase, coding: str) -> None:
    """It is no JSON as it comes. A coding that is none, and that clients add by mistake, is ignored, and so is any that
    a proxy has undone."""
    database.make_service()

    async def send(content: bytes, coding: str) -> httpx2.Response:
        headers = {"Content-Type": "application/json", "Content-Encoding": coding}
        return await client.post("/api/booking/reserve", content=content, headers=headers)

    sent = json.dumps(RESERVE).encode()
    assert refusal(await send(gzip.compress(sent), coding)) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert faulty_fields(await send(json.dumps({**RESERVE, "quantity": 0}).encode(), coding)) == ["quantity"]
    assert (await send(sent, "utf-8")).status_code == 201


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; profile=x",
        "application/json; charset=utf-8",
        'APPLICATION/JSON;charset="UTF-8"',
        "application/json;",
        "application/json" + ";" * 30_000,
        # The continuations of RFC 2231 apply to mail only.
        "application/json; charset*=%00''utf-8",
        f"application/json; charset*{'1' * 5000}=utf-8",
    ],
)
async def test_json_may_name_its_charset(client: httpx2.AsyncClient, database: TestDatabase, content_type: str) -> None:
    """Many clients send one."""
    database.make_service()
    response = await client.post(
        "/api/booking/reserve", content=json.dumps(RESERVE).encode(), headers={"Content-Type": content_type}
    )
    assert response.status_code == 201


async def test_a_large_body_is_a_413(client: httpx2.AsyncClient) -> None:
    """The service stops reading at the limit."""
    headers = {"Content-Type": "application/json"}
    for blanks, code in ((MAX_BODY_BYTES - 2, "VALIDATION_FAILED"), (MAX_BODY_BYTES - 1, "PAYLOAD_TOO_LARGE")):
        body = b"{" + b" " * blanks + b"}"
        response = await client.post("/api/booking/reserve", content=body, headers=headers)
        assert response.json()["code"] == code


async def test_unknown_paths_and_methods_are_problems(client: httpx2.AsyncClient) -> None:
    """404 and 405 have the shape of all problems, and 405 names the allowed methods."""
    response = await client.get("/api/nothing")
    assert refusal(response) == (404, "NOT_FOUND")
    response = await client.put("/api/booking/reserve", json={})
    assert refusal(response) == (405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == "POST"
    response = await client.patch("/api/booking/reservations/x")
    assert set(response.headers["allow"].split(", ")) == {"DELETE", "GET", "HEAD"}


@pytest.mark.parametrize(
    "address",
    ["/health/live/", "/docs/", "/api/booking/reserve/", "/api/v1/public/salon/book/", "/api/v1/public/salon/book%0A"],
)
async def test_a_trailing_slash_or_newline_makes_a_different_url(client: httpx2.AsyncClient, address: str) -> None:
    """A redirect would follow the client's Host header, and has no body that a program can read."""
    for method in ("GET", "POST"):
        response = await client.request(method, address, headers={"Host": "evil.example"})
        assert response.status_code == 404
        problem = response.json()
        assert (problem["error"] if "public" in address else problem)["code"] == "NOT_FOUND"
        assert "location" not in response.headers


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"slotStart": "2027-01-01T10:00:00 01:00"}, "slotStart"),
        ({"slotEnd": ""}, "slotEnd"),
        ({"slotStart": "1899-12-31T23:59:59Z"}, "slotStart"),
        ({"slotEnd": "3000-01-01T00:00:00Z"}, "slotEnd"),
        ({"slotStart": "2027-01-01T10:00:00Z", "slotEnd": "2028-02-01T10:00:00Z"}, "slotEnd"),
        ({"slotEnd": at(10).isoformat()}, "slotEnd"),
        ({"unknown": "1"}, "unknown"),
        ({"serviceId": ""}, "serviceId"),
    ],
)
async def test_a_faulty_query_names_its_field(client: httpx2.AsyncClient, query: dict[str, str], field: str) -> None:
    """An unencoded plus is the most common fault."""
    right = {"businessId": "salon", "serviceId": "cut", "slotStart": at(10).isoformat(), "slotEnd": at(11).isoformat()}
    response = await client.get("/api/booking/capacity", params={**right, **query})
    assert response.status_code == 400
    assert faulty_fields(response) == [field]


@pytest.mark.parametrize("second", ["serviceId=shave", "serviceId=cut", "service%49d=cut", "serviceId="])
async def test_a_parameter_is_sent_once(client: httpx2.AsyncClient, database: TestDatabase, second: str) -> None:
    """A list of two is no list of one: the answer would be that to another question. Proxies may read the first."""
    database.make_service()
    right = f"businessId=salon&serviceId=cut&from={timestamp(at(0))}&limit=1"
    assert (await client.get(f"/api/booking/availability?{right}")).status_code == 200
    response = await client.get(f"/api/booking/availability?{right}&{second}")
    assert response.status_code == 400
    assert [(fault["field"], fault["code"]) for fault in response.json()["errors"]] == [("serviceId", "sent_twice")]


async def test_an_idempotency_key_header_is_validated(client: httpx2.AsyncClient) -> None:
    """The rules are those for the key in a body."""
    response = await client.post("/api/booking/reserve", json=RESERVE, headers={"Idempotency-Key": "k" * 256})
    assert response.status_code == 400
    assert faulty_fields(response) == ["Idempotency-Key"]


@pytest.mark.parametrize("fraction", [".5Z", ".000001Z", ".250+00:00", ".0000001Z", ",000000001+00:00"])
async def test_a_slot_has_no_fraction_of_a_second(
    client: httpx2.AsyncClient, database: TestDatabase, fraction: str
) -> None:
    """Wherever a slot is asked for. A fraction of zero, as answers have it, is none."""
    database.make_service()
    seconds = [f"{at(hour):%Y-%m-%dT%H:%M:%S}" for hour in (10, 10.5)]
    start, end = (second + fraction for second in seconds)
    appointment = await create(client, 9)
    for response, fields in (
        (await client.post("/api/booking/reserve", json=slot(slotStart=start)), ["slotStart"]),
        (await client.post("/api/booking/reserve", json=slot(slotStart=start, slotEnd=end)), ["slotStart", "slotEnd"]),
        (await client.post("/api/bookings", json=slot(slotEnd=end, guestEmail="ada@example.com")), ["slotEnd"]),
        (
            await client.get("/api/booking/capacity", params=slot(slotStart=start, slotEnd=end)),
            ["slotStart", "slotEnd"],
        ),
        (await change(client, appointment, {"expectedVersion": 1, "slotStart": start}), ["slotStart"]),
    ):
        assert faulty_fields(response) == fields
    held = await reserve(client, slotStart=f"{seconds[0]}.000Z", slotEnd=f"{seconds[1]}.0000000Z")
    assert [held["slotStart"], held["slotEnd"]] == [f"{second}.000Z" for second in seconds]


async def test_an_underscore_gets_past_caches_and_is_ignored(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """Every GET takes the parameter `_`; no other unknown parameter, and no other method, does."""
    database.make_service()
    for path, methods in (await served_document())["paths"].items():
        address = path.replace("{", "").replace("}", "")
        if "get" in methods and not path.startswith("/api/booking/stream"):
            plain, busted = [await client.get(address, params=query, headers=ADMIN) for query in ({}, {"_": "17"})]
            assert (busted.status_code, fields_of(busted)) == (plain.status_code, fields_of(plain)), path
    known = {"businessId": "salon", "serviceId": "cut", "from": "2027-01-11T00:00:00Z"}
    assert (await client.get("/api/booking/availability", params={**known, "_": ""})).status_code == 200
    assert faulty_fields(await client.get("/api/booking/availability", params={**known, "__": ""})) == ["__"]
    held = await reserve(client)
    address = f"/api/booking/reservations/{held['reservationId']}"
    assert faulty_fields(await client.delete(address, params={"_": "17"})) == ["_"]


async def test_calls_without_parameters_refuse_them(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A parameter that a call of the API does not have is a fault, like an unknown member: it may be meant to change
    what the call does, as `dryRun` of another call."""
    database.make_service()
    address = "/api/catalog/businesses/salon/services/cut"
    former = (await client.get(address, headers=ADMIN)).json()
    for method, body in (("PUT", former | {"name": "Shave"}), ("DELETE", None)):
        response = await client.request(method, address, params={"dryRun": "true"}, json=body, headers=ADMIN)
        assert refusal(response) == (400, "VALIDATION_FAILED")
        assert [fault["code"] for fault in response.json()["errors"]] == ["unknown_member"]
        assert faulty_fields(response) == ["dryRun"]
    assert (await client.get(address, headers=ADMIN)).json() == former
    widget = await client.post("/api/v1/public/salon/book?lang=de", json={})
    assert (widget.status_code, widget.json()["success"]) == (400, False)


@pytest.mark.parametrize(
    "address", ["/", "/docs", "/openapi.json", "/health/live", "/health/ready", "/metrics", "/book/salon", "/calendar"]
)
async def test_pages_and_probes_ignore_parameters(client: httpx2.AsyncClient, address: str) -> None:
    """Campaigns, monitors and caches add their own."""
    plain, tracked = [await client.get(address + query) for query in ("", "?utm_source=mail&v=1")]
    assert plain.status_code == tracked.status_code < 400


@pytest.mark.parametrize("address", ["/cron/cleanup-reservations", "/api/cron/cleanup-reservations"])
async def test_schedulers_may_send_parameters(client: httpx2.AsyncClient, address: str) -> None:
    """A purge is the same with them, and one that is refused is missed late."""
    for method in ("GET", "POST"):
        response = await client.request(method, address, params={"job": "17"}, headers=CRON)
        assert response.status_code == 200


def fields_of(response: httpx2.Response) -> list[str]:
    """Returns the fields that an answer calls faulty, if any."""
    is_json = "json" in response.headers.get("content-type", "")
    body = response.json() if is_json else {}
    return [fault["field"] for fault in body.get("errors", ())] if isinstance(body, dict) else []


@pytest.mark.parametrize(
    ("member", "value", "code", "parameters", "message"),
    [
        ("quantity", 0, "too_small", {"min": 1}, "must be at least 1"),
        ("quantity", 2**40, "too_large", {"max": 10_000_000}, "must be at most 10000000"),
        ("quantity", "1", "wrong_type", {"expected": "integer"}, "must be of the type integer"),
        ("ttlMinutes", 0, "not_above", {"limit": 0}, "must be more than 0"),
        ("ttlMinutes", 10_081, "too_large", {"max": 10_080}, "must be at most 10080"),
        ("ttlMinutes", True, "wrong_type", {"expected": "number"}, "must be of the type number"),
        ("colour", "red", "unknown_member", {}, "is not a member of this request"),
        (
            *("slotEnd", "3050-01-01T10:00:00Z", "year_out_of_range", {"min": 1900, "max": 3001}),
            "must lie in the years 1900 to 3001, for an instant in UTC",
        ),
        (
            *("slotStart", "9999-12-31T23:59:59-14:00", "year_out_of_range", {"min": 1900, "max": 2999}),
            "must lie in the years 1900 to 2999, for an instant in UTC",
        ),
    ],
)
async def test_a_fault_can_be_translated(
    client: httpx2.AsyncClient, member: str, value: Any, code: str, parameters: Json, message: str
) -> None:
    """A page translates the code and inserts the parameters; the message is the same in English."""
    response = await client.post("/api/booking/reserve", json={**RESERVE, member: value})
    check(await served_document(), response)
    fault = {"field": member, "code": code, "parameters": parameters, "message": message}
    assert response.json()["errors"] == [fault]


async def test_faults_of_each_kind_can_be_translated(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Of members, choices, text, lists and broken JSON, and those that the database finds."""
    document = await served_document()
    database.make_service(resource_ids=["anna"])

    async def faults(method: str, path: str, body: Any) -> dict[str, Json]:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = ADMIN | {"Content-Type": "application/json"}
        response = await client.request(method, path, content=content, headers=headers)
        check(document, response)
        return {fault["field"]: {fault["code"]: fault["parameters"]} for fault in response.json()["errors"]}

    committed = {"reservationId": "1", "ifExpired": "ignore", "notes": "n" * 2001, "metadata": {"a": "\u0000"}}
    assert await faults("POST", "/api/booking/commit", committed) == {
        "reservationId": {"invalid_uuid": {}},
        "ifExpired": {"not_allowed": {"allowed": ["rebook"]}},
        "notes": {"too_long": {"max": 2000}},
        "metadata": {"nul_character": {}},
    }
    service = {"durationMinutes": 60, "resourceIds": ["anna"] * 501, "startTimes": [], "bookingEnabled": 1}
    assert await faults("PUT", "/api/catalog/businesses/salon/services/cut", service) == {
        "name": {"required": {}},
        "resourceIds": {"too_many": {"max": 500}},
        "startTimes": {"too_few": {"min": 1}},
        "bookingEnabled": {"wrong_type": {"expected": "boolean"}},
    }
    assert list(await faults("POST", "/api/booking/reserve", b"{")) == [""]
    assert await faults("POST", "/api/booking/reserve", []) == {"": {"wrong_type": {"expected": "object"}}}
    assert await faults("POST", "/api/booking/reserve", slot(quantity=2)) == {
        "quantity": {"too_many_for_a_resource": {"max": 1}}
    }
    form = {"serviceId": "cut", "startTime": RESERVE["slotStart"], "firstName": "Ada", "email": "ada"}
    response = await client.post("/api/v1/public/salon/book", json=form)
    [fault] = response.json()["error"]["errors"]
    assert (fault["field"], fault["code"]) == ("email", "invalid_email")
    assert fault["message"].endswith(fault["parameters"]["reason"])


async def test_a_request_with_very_many_faults_gets_the_first_ones(client: httpx2.AsyncClient) -> None:
    """Each has its name; all of 7,000 would be 400 KB."""
    unknown = {f"m{number}": 1 for number in range(6000)}
    for path in ("/api/booking/reserve", "/api/v1/public/salon/book"):
        response = await client.post(path, json=unknown)
        problem = response.json()
        problem = problem.get("error", problem)
        assert len(problem["errors"]) == 20
        assert problem["errorCount"] > 6000
        assert problem["errors"][-1]["field"] == f"m{19 - problem['errorCount'] + 6000}"
        assert len(response.content) < 5000
