"""Clients that send too slowly, too much, or something other than HTTP: each is answered or disconnected, and others
are served."""

import asyncio
import json
import time

import pytest

from service.http.protocol import MAX_HEADERS, MAX_REST_BYTES
from tests.acceptance.conftest import Serve
from tests.database import TestDatabase, at
from tests.faults.raw_connections import ARRIVAL_SECONDS, HEAD, RESERVE, Listener, service

__all__ = ["service"]

pytestmark = pytest.mark.anyio

# uvicorn's own timeout between an answer and the next request.
UVICORN_SECONDS = 5


async def test_a_header_of_100_kb_is_refused(serve: Serve) -> None:
    """This is the real service, which serves other connections; the answer arrives although the client is still
    sending."""
    listener = Listener(serve().port)
    connection = await listener.connect()
    await connection.send(HEAD + b"Cookie: " + b"c" * 100_000 + b"\r\n\r\n")
    refused = await connection.answer()
    assert (refused.status, refused.problem["code"]) == (431, "HEADERS_TOO_LARGE")
    assert refused.headers["connection"] == "close"
    assert refused.headers["x-request-id"] == refused.problem["requestId"]
    assert await connection.ended()
    usual = await listener.connect()
    await usual.send(HEAD + b"Cookie: " + b"c" * 30_000 + b"\r\n\r\n")
    assert (await usual.answer()).status == 200
    await listener.hang_up()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: test\r\n\r\n",
        HEAD + b"".join(b"X-%d: a\r\n" % number for number in range(MAX_HEADERS)) + b"\r\n",
        HEAD + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
        HEAD + b"X: never-ending" * 10_000,
        b"GET /" + b"never-ending" * 10_000,
    ],
    ids=["address", "number", "one", "never ends", "address never ends"],
)
async def test_a_head_that_is_too_large_is_refused(service: Listener, request_: bytes) -> None:
    """The limits apply to the URL, to the number of headers and to their size, also before the head is complete."""
    connection = await service.connect()
    await connection.send(request_)
    refused = await connection.answer()
    assert (refused.status, refused.problem["code"]) == (431, "HEADERS_TOO_LARGE")
    await service.hang_up()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"HELO\r\n\r\n",
        b"GET x y z\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\nHost: test\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\n\r\n",
        HEAD + b"Host: test\r\n\r\n",
    ],
    ids=["bytes", "greeting", "words", "0.9", "2.0", "no host", "two hosts"],
)
async def test_a_request_that_is_not_http_is_a_400(service: Listener, garbage: bytes) -> None:
    """The answer is a problem. Of two hosts, a proxy and the service might follow different ones."""
    connection = await service.connect()
    await connection.send(garbage)
    refused = await connection.answer()
    assert (refused.status, refused.problem["code"]) == (400, "MALFORMED_REQUEST")
    await service.hang_up()


async def test_http_1_0_needs_no_host(service: Listener) -> None:
    """Load balancers probe with it."""
    connection = await service.connect()
    await connection.send(b"GET /health/live HTTP/1.0\r\n\r\n")
    assert (await connection.answer()).status == 200


@pytest.mark.parametrize(
    "start", [b"GET /hea", HEAD, RESERVE + b"Content-Length: 100\r\n\r\n{"], ids=["address", "headers", "body"]
)
async def test_a_trickling_request_times_out(service: Listener, start: bytes) -> None:
    """Single bytes do not extend the timeout, and an incomplete reserve makes no hold."""
    connection = await service.connect()
    await connection.send(start)
    answer = asyncio.create_task(connection.answer())
    while not answer.done():
        await connection.send(b" " if start.startswith(RESERVE) else b"a")
        await asyncio.wait([answer], timeout=0.01)
    timed_out = await answer
    assert (timed_out.status, timed_out.problem["code"]) == (408, "REQUEST_TIMEOUT")
    assert await connection.ended()


@pytest.mark.parametrize("answered", [False, True], ids=["at first", "after an answer"])
async def test_a_connection_without_a_request_is_closed(service: Listener, answered: bool) -> None:
    """It gets no 408: browsers open connections in advance, and would take it for the answer to their next request."""
    connection = await service.connect()
    if answered:
        await connection.send(HEAD + b"\r\n")
        assert (await connection.answer()).status == 200
        # These bytes are no request, but they stop uvicorn's own timer.
        await connection.send(b"\r\n")
    began = time.monotonic()
    assert await connection.ended()
    assert time.monotonic() - began < UVICORN_SECONDS


async def test_a_connection_stays_open_for_the_next_request(service: Listener) -> None:
    """The timeout of a request ends with its arrival. uvicorn limits the pause until the next one."""
    connection = await service.connect()
    for _ in range(2):
        await connection.send(HEAD + b"\r\n")
        assert (await connection.answer()).status == 200
        await asyncio.sleep(2 * ARRIVAL_SECONDS)  # twice as long as a request may take to arrive


async def test_an_endless_body_is_refused_and_the_connection_closed(service: Listener) -> None:
    """The answer is a 413 at the limit, and further bytes do not keep the connection open."""
    connection = await service.connect()
    await connection.send(RESERVE + b"Content-Length: 10000000000\r\n\r\n" + b" " * 70_000)
    refused = await connection.answer()
    assert (refused.status, refused.problem["code"]) == (413, "PAYLOAD_TOO_LARGE")
    ended = asyncio.create_task(connection.ended())
    while not ended.done():
        await asyncio.gather(connection.send(b" "), return_exceptions=True)
        await asyncio.wait([ended], timeout=0.01)
    assert await ended


@pytest.mark.parametrize("length", [90_000, MAX_REST_BYTES], ids=["a little", "all that may follow"])
async def test_a_connection_is_closed_after_a_refusal_before_the_end_of_the_body(
    service: Listener, length: int
) -> None:
    """Whether the rest of the body arrives or not, the connection is neither kept open nor used for another request."""
    connection = await service.connect()
    await connection.send(RESERVE + b"Content-Length: %d\r\n\r\n" % length + b" " * 70_000)
    assert (await connection.answer()).status == 413
    await connection.send(b" " * (length - 70_000))
    assert await connection.ended()


async def test_trailers_are_ignored_and_limited(service: Listener, database: TestDatabase) -> None:
    """A few trailers are accepted and have no effect; more of them are refused, so that they cannot fill the memory."""
    database.make_service(capacity=1)
    body = json.dumps({"businessId": "salon", "serviceId": "cut", "slotStart": at(10).isoformat()}).encode()
    request = RESERVE + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n" % (len(body), body)
    connection = await service.connect()
    for status in (201, 409):
        await connection.send(request + b"Idempotency-Key: same\r\n\r\n")
        assert (await connection.answer()).status == status
    await connection.send(request + b"X-Trailer: aaaaaaaa\r\n" * (MAX_REST_BYTES // 20))
    refused = await connection.answer()
    assert (refused.status, refused.problem["code"]) == (413, "PAYLOAD_TOO_LARGE")
    assert await connection.ended()


async def test_an_offer_of_http2_with_a_body_is_refused(service: Listener) -> None:
    """Java's client offers HTTP/2 with every request over plain HTTP. The offer is ignored without a body; with one,
    which the parser would lose, the refusal names the header to omit."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
    connection = await service.connect()
    await connection.send(HEAD + offer + b"\r\n")
    assert (await connection.answer()).status == 200
    await connection.send(RESERVE + offer + b"Content-Length: 0\r\n\r\n")
    assert (await connection.answer()).problem["code"] == "VALIDATION_FAILED"
    await connection.send(RESERVE + offer + b"Content-Length: 2\r\n\r\n{}")
    refused = await connection.answer()
    assert (refused.status, refused.problem["code"]) == (400, "MALFORMED_REQUEST")
    assert "Upgrade" in refused.problem["detail"]


async def test_these_refusals_have_the_widgets_shape_at_its_url(service: Listener) -> None:
    """A widget parses no other shape."""
    connection = await service.connect()
    await connection.send(
        b"POST /api/v1/public/salon/book HTTP/1.1\r\nHost: test\r\nCookie: " + b"c" * 40_000 + b"\r\n\r\n"
    )
    refused = await connection.answer()
    assert refused.status == 431
    assert json.loads(refused.body)["error"]["code"] == "HEADERS_TOO_LARGE"


async def test_a_slow_answer_does_not_time_out_the_request(service: Listener, database: TestDatabase) -> None:
    """The timeout covers the arrival of a request and not its processing, also with further requests in the
    pipeline."""
    body = json.dumps({"businessId": "salon", "serviceId": "cut", "slotStart": at(10).isoformat()}).encode()
    request = RESERVE + b"Content-Length: %d\r\n\r\n" % len(body) + body
    connection = await service.connect()
    with database.locked():
        await connection.send(request)
        await asyncio.to_thread(database.wait_until_blocked)
        await connection.send(request + b"\r\n")
        await asyncio.sleep(3 * ARRIVAL_SECONDS)  # three times as long as a request may take to arrive
    assert [(await connection.answer()).status, (await connection.answer()).status] == [201, 409]
