"""Clients that disconnect while their request is waiting."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from service.booking.alternatives import Alternatives
from service.booking.requests import RequestedSlot, Reserve, written
from service.booking.verbs import Verbs
from service.http import application, disconnect
from service.http.disconnect import Disconnects
from service.process.app import create_app
from tests.connections import open_database, running_group_commit
from tests.database import TestDatabase, at
from tests.http.booking_calls import slot
from tests.http.conftest import make_settings

pytestmark = pytest.mark.anyio

Message = MutableMapping[str, Any]


def scope_of_reserve(*headers: tuple[bytes, bytes]) -> Message:
    """Returns the ASGI scope of a reserve with these further headers."""
    return {
        "type": "http",
        "method": "POST",
        "path": "/api/booking/reserve",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), *headers],
    }


async def test_a_request_of_a_disconnected_client_is_dropped(database: TestDatabase) -> None:
    """It is removed from the queue, makes no hold and gets no answer."""
    database.make_service(capacity=5)
    app = create_app(make_settings(database.url))
    disconnected = asyncio.Event()
    sent: list[Message] = []

    async def call(disconnects: bool) -> None:
        messages: list[Message] = [{"type": "http.request", "body": json.dumps(slot()).encode()}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await (disconnected.wait() if disconnects else asyncio.Event().wait())
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if disconnects:
                sent.append(message)

        await app(scope_of_reserve(), receive, send)

    async with app.router.lifespan_context(app):
        with database.locked():
            # The first request waits for the lock, so the second waits in the queue behind it.
            first = asyncio.create_task(call(disconnects=False))
            await asyncio.to_thread(database.wait_until_blocked)
            second = asyncio.create_task(call(disconnects=True))
            await asyncio.sleep(0)
            disconnected.set()
            await second
        await first
    assert sent == []
    assert database.value("SELECT count(*) FROM booking.reservations") == 1


async def test_a_change_for_a_disconnected_client_is_announced(database: TestDatabase) -> None:
    """The request was already sent to the database and occupied a slot, so browsers must be notified."""
    database.make_service(capacity=5)
    announced = asyncio.Event()
    request = Reserve(RequestedSlot("cut", at(10), at(11), 1, None), None)
    async with (
        open_database(database.url, connections=4) as connections,
        running_group_commit(connections) as group_commit,
    ):
        verbs = Verbs(group_commit, Alternatives(connections), lambda *_, **__: announced.set())
        with database.locked():
            leaving = asyncio.create_task(verbs.run("salon", request, written(request), bytes))
            await asyncio.to_thread(database.wait_until_blocked)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        await asyncio.wait_for(announced.wait(), 10)
    assert database.value("SELECT count(*) FROM booking.reservations") == 1


async def test_a_body_that_is_cut_off_is_not_logged_as_a_defect(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client disconnected while it sent the body, so there is no answer, and the status is none of the service."""
    capture = LogCapture()
    monkeypatch.setattr(application, "log", structlog.wrap_logger(None, processors=[capture]))
    app = create_app(make_settings(database.url))
    messages: list[Message] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b'{"bus', "more_body": True},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope_of_reserve((b"content-length", b"100")), receive, send)
    assert sent == []
    assert [(line["event"], line["status"]) for line in capture.entries] == [("request", 499)]


class Client:
    """A client that may leave, and whether its connection was watched."""

    def __init__(self) -> None:
        self.is_watched = asyncio.Event()
        self.left = asyncio.Event()

    async def receive(self) -> Message:
        """Waits until the client has left."""
        self.is_watched.set()
        await self.left.wait()
        return {"type": "http.disconnect"}


async def test_a_connection_is_watched_as_long_as_a_slow_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """No task goes on after the answer, when the connection may have its next request."""
    monkeypatch.setattr(disconnect, "_PATIENCE_SECONDS", 0.01)
    disconnects, client, tasks = Disconnects(), Client(), asyncio.all_tasks()

    async def answer_at_once() -> None:
        """Lets no other task run, however busy the machine is."""

    for request, is_watched in ((answer_at_once(), False), (client.is_watched.wait(), True)):
        await disconnects.unless_gone(client.receive, request)
        await asyncio.sleep(0.03)
        assert client.is_watched.is_set() == is_watched
        assert asyncio.all_tasks() == tasks


async def test_a_request_that_is_cancelled_as_its_client_leaves_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its task must end, as when the service stops at that moment."""
    monkeypatch.setattr(disconnect, "_PATIENCE_SECONDS", 0.01)
    client = Client()
    request = asyncio.create_task(Disconnects().unless_gone(client.receive, asyncio.sleep(60)))
    await client.is_watched.wait()
    client.left.set()
    request.cancel()
    await asyncio.wait([request])
    assert request.cancelled()
