"""Group commits whose calls of the database fail in a chosen way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from service.database.group_commit import GroupCommit
from service.database.queue import Outcome
from tests.connections import open_database, running_group_commit
from tests.database import TestDatabase, reserve_request


@asynccontextmanager
async def running(
    url: str, *, lanes: int = 1, max_batch: int = 128, statement_seconds: float = 5
) -> AsyncIterator[GroupCommit]:
    """Runs a group commit over a pool of its own."""
    async with (
        open_database(url, connections=lanes + 4, statement_seconds=statement_seconds) as database,
        running_group_commit(database, lanes=lanes, max_batch=max_batch) as group_commit,
    ):
        yield group_commit


async def reserve(
    group_commit: GroupCommit, hour: float = 10, *, business_id: str = "salon", **request: Any
) -> Outcome:
    """Reserves through a group commit."""
    arguments = reserve_request(hour, **request)
    return await group_commit.submit("reserve", business_id, arguments["operation_id"], orjson.dumps(arguments))


def fail_first_calls(database: TestDatabase, count: int, sqlstate: str) -> None:
    """Makes the first `count` calls of booking.execute raise. They are counted by a sequence, which is not rolled
    back."""
    database.rows("CREATE SEQUENCE testing.calls")
    database.rows("GRANT USAGE ON SEQUENCE testing.calls TO PUBLIC")
    database.rows("ALTER FUNCTION booking.execute RENAME TO execute_unharmed")
    database.rows("GRANT EXECUTE ON FUNCTION booking.execute_unharmed TO PUBLIC")
    database.rows(f"""
        CREATE FUNCTION booking.execute(p_business_ids text[], p_batches jsonb[], p_deadline timestamptz)
        RETURNS SETOF booking.outcome LANGUAGE plpgsql AS $$
        BEGIN
          IF nextval('testing.calls') <= {count} THEN
            RAISE EXCEPTION 'planted' USING ERRCODE = '{sqlstate}';
          END IF;
          RETURN QUERY SELECT * FROM booking.execute_unharmed(p_business_ids, p_batches, p_deadline);
        END $$""")  # noqa: S608 — the values are the test's own


def count_calls(database: TestDatabase) -> int:
    """Returns the number of calls of booking.execute."""
    count: int = database.value("SELECT last_value FROM testing.calls")
    return count
