"""Calls that queue for the lock of one business and get it in a given order."""

from collections.abc import Callable
from typing import Any

from tests.concurrency.rivals import Rivals
from tests.database import TestDatabase


def in_turn(
    rivals: Rivals, calls: list[Callable[[TestDatabase], Any]], meanwhile: Callable[[], object] = lambda: None
) -> list[Any]:
    """Makes each call while the one before still holds the lock, so that they get it one after the other.

    Each call runs in a transaction that is committed only when the next call waits. `meanwhile` runs when the first
    call has done its work and no other has begun. The purge never waits for the lock: it is refused once, and called
    again in its turn.
    """
    results: list[Any] = []
    holder: TestDatabase | None = None
    for call in calls:
        client = rivals.connect()
        client.rows("BEGIN")
        if holder is None:
            results.append(call(client))
            meanwhile()
        elif call is purge:
            assert call(client) == "busy"
            holder.rows("COMMIT")
            results.append(call(client))
        else:
            waiting = rivals.queue(call, client)
            holder.rows("COMMIT")
            results.append(waiting.result())
        holder = client
    if holder:
        holder.rows("COMMIT")
    return results


def purge(client: TestDatabase) -> str:
    """Purges the salon and returns how many holds were marked as expired, or "busy" if its lock was taken."""
    expired, _, busy = client.purge()
    return "busy" if busy else f"{expired} expired"
