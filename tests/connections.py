"""The service's connection pool and its group commit, each open for the length of a block."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from service.database.connections import Database
from service.database.group_commit import GroupCommit


@asynccontextmanager
async def open_database(url: str, *, connections: int = 1, **options: Any) -> AsyncIterator[Database]:
    """Opens a pool of connections to a database, and closes it at the end."""
    database = Database(url, connections=connections, **options)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def running_group_commit(
    database: Database, *, lanes: int = 1, max_batch: int = 128
) -> AsyncIterator[GroupCommit]:
    """Runs a group commit over a pool, and stops it at the end."""
    group_commit = GroupCommit(database, max_batch=max_batch, lanes=lanes)
    group_commit.start()
    try:
        yield group_commit
    finally:
        await group_commit.stop()
