"""The notes about the uses of keys."""

import asyncio

import pytest

from service.booking import keys
from service.booking.keys import Keys
from service.database.connections import Database
from service.errors import DatabaseDown

pytestmark = pytest.mark.anyio


class FailingDatabase(Database):
    """Fails once, and records what it is asked to note."""

    def __init__(self) -> None:
        self.noted: asyncio.Queue[tuple[object, ...]] = asyncio.Queue()

    async def fetch(self, name: str, *parameters: object) -> list[tuple[object, ...]]:  # noqa: ARG002 — one statement
        """Fails at the first call."""
        self.noted.put_nowait(parameters)
        if self.noted.qsize() == 1:
            raise DatabaseDown
        return []


async def test_uses_during_an_outage_are_noted_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner looks there for keys that can be revoked."""
    monkeypatch.setattr(keys, "_NOTED_SECONDS", 0)
    database = FailingDatabase()
    used = Keys(database, database)
    used._used.add(("salon", "1"))
    noting = asyncio.create_task(used.keep_uses())
    async with asyncio.timeout(10):
        while database.noted.qsize() < 2:  # noqa: ASYNC110 — a queue that is only read at the end
            await asyncio.sleep(0)
    noting.cancel()
    assert [database.noted.get_nowait() for _ in range(2)] == [(["salon"], ["1"])] * 2
