"""Concurrent clients, each with a connection of its own, and the requests that they send."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import uuid4

import anyio
import anyio.to_thread
import httpx2

from tests.database import TestDatabase, at

# A guest whose data must be in no log and no metric, and the words of it that a test looks for there.
PERSONAL: Final[dict[str, Any]] = {
    "guestName": "Ada Quillfeather",
    "guestEmail": "quillfeather@example.com",
    "guestPhone": "+49 30 7654321",
    "notes": "allergic to quince",
    "metadata": {"crm": "client-of-quince"},
}
PERSONAL_WORDS: Final = ("Quillfeather", "quillfeather", "quince", "7654321")


def slot(hour: float = 10, **members: Any) -> dict[str, Any]:
    """Returns the body of a reserve for one hour on the Monday of the tests, or the query for the capacity in it."""
    return {
        "businessId": "salon",
        "serviceId": "cut",
        "slotStart": at(hour).isoformat(),
        "slotEnd": at(hour + 1).isoformat(),
        **members,
    }


def guest(reservation_id: str, **members: Any) -> dict[str, Any]:
    """Returns the body of a commit."""
    return {"reservationId": reservation_id, "guestEmail": "guest@example.com", **members}


def commits(client: httpx2.AsyncClient, bodies: Iterable[dict[str, Any]]) -> list[httpx2.Request]:
    """Makes a commit for each of the bodies."""
    return [client.build_request("POST", "/api/booking/commit", json=body) for body in bodies]


def reserves(client: httpx2.AsyncClient, count: int, hour: float = 10, **members: Any) -> list[httpx2.Request]:
    """Makes a number of requests for one slot."""
    return [client.build_request("POST", "/api/booking/reserve", json=slot(hour, **members)) for _ in range(count)]


async def race(client: httpx2.AsyncClient, requests: Sequence[httpx2.Request]) -> list[httpx2.Response]:
    """Starts all requests at the same moment, and returns their answers in the order of the requests."""
    start = anyio.Event()
    answers: dict[int, httpx2.Response] = {}

    async def run(number: int, request: httpx2.Request) -> None:
        await start.wait()
        answers[number] = await client.send(request)

    async with anyio.create_task_group() as runners:
        for number, request in enumerate(requests):
            runners.start_soon(run, number, request)
        start.set()
    return [answers[number] for number in range(len(requests))]


async def race_behind_lock(
    client: httpx2.AsyncClient,
    requests: Sequence[httpx2.Request],
    database: TestDatabase,
    *,
    meanwhile: Callable[[], None] | None = None,
) -> list[httpx2.Response]:
    """Runs a race in which all requests have been sent before the first is decided.

    The lock of the business is held until then, and the service waits for it; `meanwhile` runs just before its release.
    """
    unsent = len(requests)
    all_sent = anyio.Event()

    async def trace(event: str, _: dict[str, Any]) -> None:
        nonlocal unsent
        unsent -= event == "http11.send_request_body.complete"
        if not unsent:
            all_sent.set()

    for request in requests:
        request.extensions["trace"] = trace
    answers: list[httpx2.Response] = []

    async def run() -> None:
        answers.extend(await race(client, requests))

    async with anyio.create_task_group() as tasks:
        with database.locked():
            tasks.start_soon(run)
            await all_sent.wait()
            await anyio.to_thread.run_sync(database.wait_until_blocked)
            if meanwhile:
                meanwhile()
    return answers


def statuses(answers: Sequence[httpx2.Response]) -> dict[int, int]:
    """Counts the answers by status."""
    return dict(Counter(answer.status_code for answer in answers))


class Clients:
    """Clients who each reserve under new keys, one after the other, and repeat a key until it is answered."""

    def __init__(self, client: httpx2.AsyncClient, request: dict[str, Any]) -> None:
        self._client = client
        self._request = request
        self._progress = anyio.Condition()
        self.acknowledged: dict[str, str] = {}
        self.unexpected: list[httpx2.Response] = []
        self._stopped = False

    @asynccontextmanager
    async def running(self, count: int, *, retry: bool) -> AsyncIterator[None]:
        """Runs this number of clients until the end of the block; without `retry`, each ends with its connection."""
        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(self._run, retry)
            yield
            self._stopped = True

    async def _run(self, retry: bool) -> None:
        while not self._stopped:
            key = uuid4().hex
            answer = await self._reserve(key)
            while answer is None:
                if not retry:
                    return
                answer = await self._reserve(key)
            if answer.status_code in (200, 201):
                self.acknowledged[key] = answer.json()["reservationId"]
            else:
                self.unexpected.append(answer)
            async with self._progress:
                self._progress.notify_all()

    async def acknowledge(self, count: int) -> None:
        """Waits until this number of further requests has been granted."""
        enough = len(self.acknowledged) + count
        with anyio.fail_after(60):
            async with self._progress:
                while len(self.acknowledged) < enough:
                    await self._progress.wait()

    async def _reserve(self, key: str) -> httpx2.Response | None:
        """Returns the answer, or None if the request is to be repeated: after a broken connection or a 503."""
        try:
            answer = await self._client.post("/api/booking/reserve", json={**self._request, "idempotencyKey": key})
        except httpx2.TransportError:
            await anyio.sleep(0.01)
            return None
        return None if answer.status_code == 503 and answer.headers["retry-after"] else answer
