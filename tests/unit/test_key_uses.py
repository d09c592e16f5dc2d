"""The notes about the uses of keys."""

import asyncio
from typing import cast

import psycopg
import pytest

from service.booking import keys
from service.booking.keys import Keys
from service.database.connections import Database
from service.errors import DatabaseDown

pytestmark = pytest.mark.anyio


class FailingDatabase(Database):
    """Fails once, with an error, while another key is used, and records what it is asked to note."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.keys = Keys(self, self)
        self.noted: asyncio.Queue[list[tuple[str, str]]] = asyncio.Queue()

    async def fetch(self, _: str, *parameters: object) -> list[tuple[object, ...]]:
        """Fails at the first call."""
        self.noted.put_nowait(sorted(zip(*cast(tuple[list[str], list[str]], parameters), strict=True)))
        if self.noted.qsize() == 1:
            self.keys._used.add(("clinic", "2"))
            raise self._error
        return []


@pytest.mark.parametrize(
    "error", [DatabaseDown(), psycopg.errors.InternalError("cache lookup failed")], ids=["outage", "defect"]
)
async def test_uses_that_could_not_be_noted_are_noted_later(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """An owner looks there for keys that can be revoked."""
    monkeypatch.setattr(keys, "_NOTED_SECONDS", 0)
    database = FailingDatabase(error)
    database.keys._used.add(("salon", "1"))
    noting = asyncio.create_task(database.keys.keep_uses())
    async with asyncio.timeout(10):
        while database.noted.qsize() < 2:  # noqa: ASYNC110 — a queue that is only read at the end
            await asyncio.sleep(0)
    noting.cancel()
    noted = [database.noted.get_nowait() for _ in range(2)]
    assert noted == [[("salon", "1")], [("clinic", "2"), ("salon", "1")]]
