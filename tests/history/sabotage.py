"""Broken variants of the functions in sql/ and of PostgreSQL: negative controls, each of which the checker must find.

A checker that lets them pass proves nothing about the service as it is.
"""

from dataclasses import dataclass
from typing import Final

import psycopg


@dataclass(frozen=True, slots=True)
class Sabotage:
    """Functions with the parts of their definitions that are replaced, statements, and the invariants that this breaks.

    With `needs_faults` it breaks them only where the nemesis is at work.
    """

    replaced: tuple[tuple[str, str, str], ...]
    breaks: frozenset[str]
    statements: tuple[str, ...] = ()
    needs_faults: bool = False

    def apply(self, url: str) -> None:
        """Replaces the functions in a database, and runs the statements."""
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in self.statements:
                connection.execute(statement.encode())
            for function, old, new in self.replaced:
                found = connection.execute("SELECT pg_get_functiondef(%s::regproc)", [f"booking.{function}"])
                [(definition,)] = found.fetchall()
                assert old in definition, f"{function} has no {old!r}"
                connection.execute(definition.replace(old, new).encode())


SABOTAGES: Final = {
    "no lock": Sabotage(
        (
            ("lock_businesses", " FOR NO KEY UPDATE SKIP LOCKED", ""),
            ("lock_businesses", " FOR NO KEY UPDATE", ""),
            # The counts of a decision stay uncommitted for so long that another call surely decides without them.
            (
                "decide",
                "IF v_expired_places IS NOT NULL",
                "PERFORM pg_sleep(0.005);\n  IF v_expired_places IS NOT NULL",
            ),
        ),
        frozenset({"no overbooking", "no double-booking"}),
    ),
    "no expiry": Sabotage(
        (("commit_holds", "<> 'held' OR (hold.r).expires_at <= p_now", "<> 'held'"),),
        frozenset({"expiry is final"}),
    ),
    "no version": Sabotage(
        (("judge_changes", "(old.a).version <> (c.details ->> 'expected_version')::integer", "false"),),
        frozenset({"no lost update"}),
    ),
    "no free room": Sabotage(
        (("expired_quantity", "coalesce(sum(held.quantity), 0)", "0 * coalesce(sum(held.quantity), 0)"),),
        frozenset({"no false refusal"}),
    ),
    # A commit is acknowledged before its log is written: a PostgreSQL that is killed loses the latest ones.
    "no durability": Sabotage(
        (),
        frozenset({"nothing acknowledged is lost", "a live hold can be committed"}),
        (
            "ALTER SYSTEM SET synchronous_commit = off",
            "ALTER SYSTEM SET wal_writer_delay = '10s'",
            "ALTER SYSTEM SET wal_writer_flush_after = '1GB'",
            "SELECT pg_reload_conf()",
        ),
        needs_faults=True,
    ),
}
