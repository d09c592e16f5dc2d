"""Clients that send requests without reading the answers, or open connections without end: each is bounded, and others
are served."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from service.http import connections, protocol, streamed
from service.http.protocol import MAX_AHEAD, MAX_AHEAD_BYTES, BoundedProtocol
from service.http.turns import REQUESTS_OF_TURN, Turns
from service.observability.logging import flush
from service.observability.metrics import REGISTRY
from service.process import app
from tests.database import TestDatabase, at
from tests.faults.raw_connections import HEAD, PATIENCE_SECONDS, RESERVE, Listener, service

__all__ = ["service"]

pytestmark = pytest.mark.anyio

FEEDS = (
    b"GET /api/catalog/businesses/salon/calendar-feeds HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer admin\r\n\r\n"
)
OPENAPI = b"GET /openapi.json HTTP/1.1\r\nHost: test\r\n\r\n"


def reserve(key: str = "", hour: int = 10) -> bytes:
    """Writes a reserve; a long key makes it a large one."""
    slot = {"businessId": "salon", "serviceId": "cut", "slotStart": at(hour).isoformat(), "resourceId": key or None}
    body = json.dumps(slot).encode()
    return RESERVE + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def test_requests_ahead_of_their_answers_are_bounded(service: Listener) -> None:
    """Those within the bound are answered; a client sends the others again, on another connection."""
    connection = await service.connect()
    await connection.send((HEAD + b"\r\n") * 1000)
    answers = [await connection.answer() for _ in range(1 + MAX_AHEAD)]
    assert {answer.status for answer in answers} == {200}
    assert [answer.headers.get("connection") for answer in answers] == [None] * MAX_AHEAD + ["close"]
    assert await connection.ended()


async def test_bytes_ahead_of_their_answers_are_bounded(service: Listener, database: TestDatabase) -> None:
    """A large request behind another one that waits is ignored, even if it is not complete."""
    connection = await service.connect()
    large = reserve("x" * (MAX_AHEAD_BYTES // 2))
    with database.locked():
        await connection.send(reserve())
        await asyncio.to_thread(database.wait_until_blocked)
        await connection.send(reserve(hour=11) + large + large[:-1])
        await service.until(lambda connections: connections and connections[0]._refused)
    assert [(await connection.answer()).status for _ in range(3)] == [201, 201, 400]
    assert await connection.ended()


async def test_a_refusal_is_never_the_answer_to_the_request_before(service: Listener, database: TestDatabase) -> None:
    """Bytes that are no HTTP, behind a request that is under way, close the connection after its answer."""
    connection = await service.connect()
    with database.locked():
        await connection.send(reserve())
        await asyncio.to_thread(database.wait_until_blocked)
        await connection.send(b"HELO\r\n\r\n")
        await service.until(lambda connections: connections and connections[0]._refused)
    assert (await connection.answer()).status == 201
    assert await connection.ended()


async def test_an_answer_must_be_taken_in_time(service: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection of a client that reads nothing is closed, and so is that of one which asked for its end."""
    monkeypatch.setattr(protocol, "ANSWER_SECONDS", 0.3)
    paused: list[FlowControl] = []
    pause = FlowControl.pause_writing

    def note(flow: FlowControl) -> None:
        paused.append(flow)
        pause(flow)

    monkeypatch.setattr(FlowControl, "pause_writing", note)
    for request in (OPENAPI, OPENAPI[:-2] + b"Connection: close\r\n\r\n"):
        connection = await service.connect(narrow=True)
        await connection.send(request)
        await service.until(lambda connections: paused and not connections)
        paused.clear()


async def test_answers_that_are_not_read_are_bounded_together(
    service: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one address that leaves more than that unread, the largest are dropped at once."""
    document = len(await _read(service, OPENAPI))
    monkeypatch.setattr(connections, "MAX_UNSENT_BYTES", document)
    for _ in range(3):
        connection = await service.connect(narrow=True)
        await connection.send(OPENAPI)
        await service.until(lambda open_: open_ and all(each.flow.write_paused for each in open_))
        await service.until(lambda open_: len(open_) == 1)
    assert len(await _read(service, HEAD + b"\r\n")) > 0


async def _read(service: Listener, request: bytes) -> bytes:
    """Returns the body of the answer to a request, on a connection of its own."""
    connection = await service.connect()
    await connection.send(request)
    answer = await connection.answer()
    connection.close()
    await service.until(lambda open_: all(each.flow.write_paused for each in open_))
    return answer.body


async def test_no_request_begins_before_the_last_answer_is_taken(service: Listener, database: TestDatabase) -> None:
    """So a client that reads nothing costs one answer. Once it reads, the next request is answered."""
    connection = await service.connect(narrow=True)
    await connection.send(OPENAPI + reserve())
    await service.until(lambda connections: connections and connections[0]._waits_for_client)
    assert database.rows("SELECT FROM booking.reservations") == []
    assert (await connection.answer()).status == 200
    assert (await connection.answer()).status == 201


@pytest.mark.parametrize("leave", [False, True], ids=["requests", "ends of connections"])
async def test_a_request_begins_between_those_of_another_client(
    service: Listener, monkeypatch: pytest.MonkeyPatch, leave: bool
) -> None:
    """One client uses all of its connections at the same moment, and the request of the other one comes last."""
    monkeypatch.setattr(protocol, "REQUEST_ARRIVAL_SECONDS", PATIENCE_SECONDS)
    greedy = [await service.connect() for _ in range(100)]
    other = await service.connect(address="127.0.0.2")
    await service.until(lambda connections: len(connections) == 101)
    began: list[str] = []
    begin = Turns.begin

    def note(turns: Turns, client: Callable[[], str], start: Callable[[], None]) -> bool:
        name = client()

        def start_noted() -> None:
            began.append(name)
            start()

        return begin(turns, lambda: name, start_noted)

    monkeypatch.setattr(Turns, "begin", note)
    for connection in greedy:
        if leave:
            connection.finish()
        else:
            await connection.send(HEAD + b"\r\n")
    await other.send(HEAD + b"\r\n")
    assert (await other.answer()).status == 200
    assert began.index("127.0.0.2") <= 2 * REQUESTS_OF_TURN
    await service.until(lambda _: len(began) == 101)
    if not leave:
        assert {(await connection.answer()).status for connection in greedy} == {200}


async def test_a_client_that_left_has_its_waiting_request_dropped(
    service: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not begun, and is none of the requests that a graceful stop waits for."""
    answered: list[object] = []
    begin = BoundedProtocol._begin

    def leave_before(protocol: BoundedProtocol, cycle: Any, app: Any) -> None:
        protocol.connection_lost(None)
        begin(protocol, cycle, app)
        answered.extend(protocol.tasks)

    monkeypatch.setattr(BoundedProtocol, "_begin", leave_before)
    connection = await service.connect()
    await connection.send(HEAD + b"\r\n")
    assert await connection.ended()
    assert answered == []


async def test_a_client_that_leaves_ends_its_stream_despite_requests_behind_it(service: Listener) -> None:
    """Uvicorn tells the last request of a connection only that the client has gone."""
    connection = await service.connect()
    stream = b"GET /api/booking/stream?businessId=salon&serviceId=cut HTTP/1.1\r\nHost: test\r\n\r\n"
    await connection.send(stream + HEAD + b"\r\n")
    await service.until(lambda _: REGISTRY.get_sample_value("holdfast_stream_clients") == 1)
    await service.hang_up()
    await service.until(lambda _: REGISTRY.get_sample_value("holdfast_stream_clients") == 0)


async def test_a_client_that_reads_no_feed_is_gone_and_no_error(
    capfd: pytest.CaptureFixture[str], service: Listener, database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line of its request is all that the log has. The log goes to the stderr of its start."""
    monkeypatch.setattr(streamed, "STALL_SECONDS", 0.1)
    database.make_service(capacity=100)
    for _ in range(50):
        database.book(10, notes="x" * 1900)
    owner = await service.connect()
    await owner.send(FEEDS)
    path = json.loads((await owner.answer()).body)["items"][0]["path"]
    owner.close()
    connection = await service.connect(narrow=True)
    capfd.readouterr()
    await connection.send(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
    await service.until(lambda connections: any(each.flow.write_paused for each in connections))
    await service.until(lambda connections: all(each.transport.is_closing() for each in connections))
    await service.hang_up()
    flush()
    assert {json.loads(line)["event"] for line in capfd.readouterr().err.splitlines()} == {"request"}


@pytest.fixture
def few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves an address two connections, and one more for probes."""
    monkeypatch.setattr(app, "CONNECTIONS_OF_ADDRESS", 2)
    monkeypatch.setattr(protocol, "SPARE_CONNECTIONS", 1)


@pytest.mark.usefixtures("few_connections")
async def test_the_connections_of_an_address_are_bounded(service: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more answers probes, and refuses everything else; further ones are closed at once."""
    monkeypatch.setattr(protocol, "REQUEST_ARRIVAL_SECONDS", PATIENCE_SECONDS)  # they send nothing for a while
    first, second = [await service.connect() for _ in range(2)]
    for request, status in ((OPENAPI, 503), (HEAD + b"\r\n", 200)):
        above = await service.connect()
        await service.until(lambda connections: len(connections) == 3)
        assert await (await service.connect()).ended()
        await above.send(request)
        answer = await above.answer()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        if status == 503:
            assert (answer.problem["code"], answer.headers["retry-after"]) == ("OVERLOADED", "5")
            above.close()
        assert await above.ended()
        await service.until(lambda connections: len(connections) == 2)
    await first.send(OPENAPI)
    assert (await first.answer()).status == 200
    second.close()
    await service.until(lambda connections: len(connections) == 1)
    third = await service.connect()
    await third.send(OPENAPI)
    assert (await third.answer()).status == 200
