"""Races many clients for one slot and counts overbooked units, unsold units and false refusals of a design.

Run as a program, prints the result of each design of tests/concurrency/designs, measured on an embedded server:

python -m tests.concurrency.race
"""

import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Barrier
from typing import Final, Self
from uuid import uuid4

import psycopg

from service.database.migrations import migrate
from service.embedded.server import EmbeddedServer
from service.observability.logging import configure_logging
from tests.concurrency.designs import BAD, OURS, Design
from tests.database import TestDatabase, at

CLIENTS: Final = 50
ROUNDS: Final = 20

# The SQLSTATEs of a transaction that PostgreSQL aborts because of a concurrent one.
_ABORTED: Final = ("40001", "40P01")

# A trigger that makes each transaction wait between its decision and its INSERT. The wait changes no design: an INSERT
# may wait at any time for a page, a processor or a disk.
_GATE = """
CREATE SCHEMA racing;
CREATE FUNCTION racing.pass_the_gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(0, 0);
  RETURN NEW;
END
$$;
CREATE TRIGGER gate BEFORE INSERT ON booking.reservations FOR EACH ROW EXECUTE FUNCTION racing.pass_the_gate();
"""


@dataclass(frozen=True)
class Tally:
    """Counts the faults of one round, or of several.

    above_capacity: units granted beyond the capacity.
    unsold: units left over although clients were refused.
    false_refusals: refused clients for whom there was room at the end, and therefore at every moment before it.
    errors: clients whose transaction was aborted.
    """

    above_capacity: int = 0
    unsold: int = 0
    false_refusals: int = 0
    errors: int = 0

    @classmethod
    def of_round(cls, capacity: int, answers: list[str]) -> Self:
        """Counts the faults in the answers to the clients of one round."""
        granted, errors = answers.count("granted"), answers.count("aborted")
        turned_away = answers.count("refused") + errors
        wrongly = granted < capacity and turned_away > 0
        return cls(
            above_capacity=max(0, granted - capacity),
            unsold=capacity - granted if wrongly else 0,
            false_refusals=turned_away if wrongly else 0,
            errors=errors,
        )

    @classmethod
    def total(cls, tallies: Iterable[Self]) -> Self:
        """Sums tallies over rounds."""
        each = list(tallies)
        return cls(*(sum(getattr(tally, field.name) for tally in each) for field in fields(cls)))


class Race:
    """Keeps a thread and a connection for each client, and starts all clients of a round at once."""

    def __init__(
        self, database: TestDatabase, connections: list[psycopg.Connection], threads: ThreadPoolExecutor
    ) -> None:
        self._database = database
        self._connections = connections
        self._threads = threads
        self._start = Barrier(len(connections))
        self._slots = 0
        self._has_gate = False

    def rounds(
        self, design: Design, *, capacity: int | None = None, rounds: int = ROUNDS, gate: bool = False
    ) -> Iterator[Tally]:
        """Races for one unused slot per round, and yields the tally of each round until the caller stops iterating.

        With a gate, no client writes before all have decided: the worst interleaving, in every round. Without it, the
        interleaving is left to the scheduler.
        """
        capacity = capacity or design.capacity
        service_id = self._database.make_service(f"{design.name}-{capacity}", capacity=capacity)
        for _ in range(rounds):
            with self._gate() if gate else nullcontext():
                answers = [
                    self._threads.submit(self._attempt, *client)
                    for client in self._prepare_transactions(design, service_id)
                ]
                if gate:
                    self._database.wait_until_blocked(len(answers))
            yield self._judge(capacity, service_id, [answer.result() for answer in answers])

    def _prepare_transactions(
        self, design: Design, service_id: str
    ) -> list[tuple[psycopg.ClientCursor[tuple[object]], bytes]]:
        """Prepares the cursor and the bound transaction of each client, so that the start finds all of Python's work
        done."""
        self._slots += 1
        slot = {
            "business_id": "salon",
            "service_id": service_id,
            "slot_start": at(self._slots).isoformat(),
            "slot_end": at(self._slots + 1).isoformat(),
        }
        # The client binds the parameters, because only then can several statements travel in one message: the whole
        # transaction is one round trip, and the clients compete in the database instead of for Python's interpreter
        # lock.
        cursors = [psycopg.ClientCursor(connection) for connection in self._connections]
        script = design.script()
        return [(cursor, cursor.mogrify(script, {**slot, "operation_id": uuid4()}).encode()) for cursor in cursors]

    def _attempt(self, cursor: psycopg.ClientCursor[tuple[object]], script: bytes) -> str:
        self._start.wait()
        try:
            cursor.execute(script)
        except psycopg.Error as error:
            cursor.connection.rollback()
            if error.sqlstate in _ABORTED:
                return "aborted"
            raise
        answer = "refused"
        while True:
            if cursor.description:
                answer = "granted" if cursor.rowcount else "refused"
            if not cursor.nextset():
                return answer

    @contextmanager
    def _gate(self) -> Iterator[None]:
        if not self._has_gate:
            self._database.rows(_GATE)
            self._has_gate = True
        self._database.rows("SELECT pg_advisory_lock(0, 0)")
        try:
            yield
        finally:
            self._database.rows("SELECT pg_advisory_unlock(0, 0)")

    def _judge(self, capacity: int, service_id: str, answers: list[str]) -> Tally:
        stored = self._database.value(
            "SELECT count(*) FROM booking.reservations WHERE service_id = %s AND slot_start = %s",
            service_id,
            at(self._slots),
        )
        granted = answers.count("granted")
        assert stored == granted, f"{granted} clients were granted the slot, and {stored} holds are stored"
        return Tally.of_round(capacity, answers)


@contextmanager
def racing(database: TestDatabase, url: str | None = None) -> Iterator[Race]:
    """Connects the clients, by default as superusers, because the bad designs write to tables directly."""
    with ExitStack() as stack:
        connections = [
            stack.enter_context(psycopg.connect(url or database.admin_url, autocommit=True)) for _ in range(CLIENTS)
        ]
        yield Race(database, connections, stack.enter_context(ThreadPoolExecutor(CLIENTS)))


def table(results: Iterable[tuple[Design, Tally]]) -> str:
    """Formats the results as a Markdown table."""
    lines = ["| design | capacity | granted above capacity | left unsold | false refusals |", "|---|---|---|---|---|"]
    for design, tally in results:
        cells = (design.title, design.capacity, tally.above_capacity, tally.unsold, tally.false_refusals)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measures all designs on an embedded server with its default settings, and prints the table."""
    configure_logging("warning")
    with tempfile.TemporaryDirectory(prefix="holdfast-race-") as folder, EmbeddedServer(Path(folder)) as server:
        migrate(server.url())
        database = TestDatabase(server.url())
        with racing(database) as race:
            results = [(design, Tally.total(race.rounds(design))) for design in (*BAD, OURS)]
        version = database.value("SHOW server_version")
        database.close()
    sys.stdout.write(f"PostgreSQL {version}, {CLIENTS} clients, {ROUNDS} rounds\n\n{table(results)}\n")


if __name__ == "__main__":
    main()
