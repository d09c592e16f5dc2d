"""Answers that are compressed on request."""

import gzip

import httpx2
import pytest

from service.http.compression import LEAST_BYTES, Body
from tests.database import TestDatabase, at
from tests.http.booking_calls import APPOINTMENTS, change, create, timestamp
from tests.http.conftest import ADMIN

pytestmark = pytest.mark.anyio

PLAIN = {"Accept-Encoding": "identity"}
GZIP = {"Accept-Encoding": "gzip, deflate, br"}
LISTING = f"/api/booking/availability?businessId=salon&serviceId=cut&from={timestamp(at(0))}"


async def raw(
    client: httpx2.AsyncClient, path: str, method: str = "GET", **headers: str
) -> tuple[httpx2.Response, bytes]:
    """Returns an answer, and its body as it was sent."""
    async with client.stream(method, path, headers=headers) as answer:
        return answer, b"".join([part async for part in answer.aiter_raw()])


@pytest.mark.parametrize(
    "path",
    [pytest.param(LISTING, id="listing"), "/openapi.json", "/docs/errors", "/docs/swagger-ui-bundle.js"],
)
async def test_a_long_answer_is_compressed_for_who_accepts_it(
    client: httpx2.AsyncClient, database: TestDatabase, path: str
) -> None:
    """The content is the same, HEAD has the same headers, and caches keep the two forms apart."""
    database.make_service()
    answer, body = await raw(client, path, **GZIP)
    plain, plain_body = await raw(client, path, **PLAIN)
    assert answer.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(body) == plain_body
    for one, sent in ((answer, body), (plain, plain_body)):
        assert one.headers["vary"] == "Accept-Encoding"
        assert int(one.headers["content-length"]) == len(sent)
    assert len(body) < len(plain_body) / 2
    head, _ = await raw(client, path, "HEAD", **GZIP)
    same = ("content-encoding", "content-length", "content-type", "vary")
    assert [head.headers[name] for name in same] == [answer.headers[name] for name in same]


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [
        ("gzip", True),
        ("GZIP;q=0.5", True),
        ("br, gzip ; q=1.0", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, br", False),
        ("br", False),
        ("*", False),
        ("x-gzip-like", False),
        ("", False),
        (",;,q=;gzip=1", False),
    ],
)
async def test_the_header_decides(client: httpx2.AsyncClient, accepted: str, is_compressed: bool) -> None:
    """A weight of 0 refuses a form."""
    answer, _ = await raw(client, "/docs/errors", **{"Accept-Encoding": accepted})
    assert ("content-encoding" in answer.headers) == is_compressed


async def test_short_answers_are_not_compressed(client: httpx2.AsyncClient) -> None:
    """They fit into a packet."""
    for path in ("/health/live", "/nowhere"):
        answer, _ = await raw(client, path, **GZIP)
        assert "content-encoding" not in answer.headers


async def test_answers_that_are_sent_in_parts_are_not_compressed(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """A part of a calendar feed or of an audit trail must not wait for more, however long the whole is."""
    database.make_service()
    appointment = await create(client, notes="x" * LEAST_BYTES)
    for version in range(1, 9):
        await change(
            client, appointment, {"expectedVersion": version, "notes": f"version {version} " + "x" * LEAST_BYTES}
        )
    feeds = (await client.get("/api/catalog/businesses/salon/calendar-feeds", headers=ADMIN)).json()["items"]
    for path in (feeds[0]["path"], f"{APPOINTMENTS}/{appointment['appointmentId']}/audit"):
        answer, body = await raw(client, path, **GZIP | ADMIN)
        assert answer.status_code == 200
        assert len(body) > LEAST_BYTES
        assert "content-encoding" not in answer.headers


async def test_the_tag_of_a_compressed_answer_is_weak(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """A change is accepted with it as with the strong one, and a conditional read finds nothing new by either."""
    database.make_service(capacity=5)
    slot = {"businessId": "salon", "serviceId": "cut", "slotStart": timestamp(at(10)), "notes": "x" * LEAST_BYTES}
    made = await client.post("/api/booking/appointments", json=slot, headers=ADMIN | PLAIN)
    path = made.headers["location"]
    assert made.headers["etag"] == '"1"'
    read = await client.get(path, headers=ADMIN | GZIP)
    assert (read.headers["content-encoding"], read.headers["etag"]) == ("gzip", 'W/"1"')
    changed = await client.patch(path, json={"notes": "y"}, headers=ADMIN | {"If-Match": read.headers["etag"]})
    assert changed.status_code == 200
    settings = {"name": "Salon", "slug": "salon", "timezone": "UTC", "description": "x" * LEAST_BYTES}
    await client.put("/api/catalog/businesses/salon", json=settings, headers=ADMIN)
    for accepted in (GZIP, PLAIN):
        known = await client.get("/api/v1/public/salon", headers=accepted)
        tag = known.headers["etag"]
        assert tag.startswith("W/")
        for again in (GZIP, PLAIN):
            unchanged = await client.get("/api/v1/public/salon", headers=again | {"If-None-Match": tag})
            assert (unchanged.status_code, unchanged.headers["etag"], unchanged.content) == (304, tag, b"")
            assert unchanged.headers["vary"] == "Accept-Encoding"


async def test_a_body_of_many_answers_is_compressed_once() -> None:
    """Whether in the loop or, a long one, in a thread."""
    for length in (LEAST_BYTES, 500_000):
        body = Body(b"x" * length)
        first = await body.compressed()
        assert gzip.decompress(first) == body.plain
        assert await body.compressed() is first
