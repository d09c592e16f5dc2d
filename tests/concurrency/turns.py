"""Calls that queue up for the lock of one business and get it in a given order."""

from collections.abc import Callable
from typing import Any

from tests.concurrency.rivals import Rivals
from tests.database import TestDatabase


def in_turn(
    rivals: Rivals, calls: list[Callable[[TestDatabase], Any]], meanwhile: Callable[[], object] = lambda: None
) -> list[Any]:
    """Makes calls that each ask for the lock while the one before still has it, and get it one after the other.

    Each call is a transaction that ends only when the next call waits. `meanwhile` happens when the first has
    done its work and nobody else has begun. The purge does not wait: it is refused, and comes back for its turn.
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
    """Says how many holds it marked as expired, or that it was not its turn."""
    expired, _, busy = client.purge()
    return "busy" if busy else f"{expired} expired"
