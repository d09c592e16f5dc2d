"""The cost of a call, counted inside the server: statements, and rows and blocks read, by index."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from tests.database import TestDatabase

# Statements that run once for each written row and belong to no verb: PostgreSQL's own check of a foreign key, and a
# function in SQL that computes a value and reads no table.
PER_ROW = ("FOR KEY SHARE OF x", '"audit_changes"')
# Functions in PL/pgSQL that read no table: they compute which requests of a window fit, the row of a changed
# appointment, or why it can't be changed.
COMPUTING = ("take", "with_changes", "change_refusal")
_NOT_NEW = "rows and plans of earlier tests would be measured too: mark the test with new_database"


def statements_of(database: TestDatabase, call: Callable[[], object]) -> int:
    """Counts the statements that the verbs run in a call on the superuser's connection.

    Each function is set to plan its statements at every execution, and each planning is logged.
    """
    assert database.is_new, _NOT_NEW
    for (function,) in database.rows(
        "SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang "
        "WHERE p.pronamespace = 'booking'::regnamespace AND l.lanname = 'plpgsql'"
    ):
        database.rows(f"ALTER FUNCTION {function} SET plan_cache_mode = force_custom_plan")
    planned: list[str] = []

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        statement = (diagnostic.context or "").partition("\n")[0]
        caller = re.search(r"^PL/pgSQL function (?:booking\.)?(\w+)\(", diagnostic.context or "", re.MULTILINE)
        is_computing = caller is not None and caller[1] in COMPUTING
        is_per_row = is_computing or any(name in statement for name in PER_ROW)
        if diagnostic.message_primary == "PLANNER STATISTICS" and not is_per_row:
            planned.append(statement)

    database.rows("SET client_min_messages = log")
    database.rows("SET log_planner_stats = on")
    database.admin.add_notice_handler(note)
    try:
        call()
    finally:
        database.admin.remove_notice_handler(note)
        database.rows("SET log_planner_stats = off")
        database.rows("RESET client_min_messages")
    return len(planned)


def compiled_in(database: TestDatabase, call: Callable[[], object]) -> list[str]:
    """Returns the statements of a call on the superuser's connection that PostgreSQL would compile, if it can.

    PostgreSQL decides on compilation by the estimated cost when it plans a statement. The plan contains that decision
    and is logged here; statements that were planned before are planned again.
    """
    assert database.is_new, _NOT_NEW
    compiled: list[str] = []

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        flags = re.search(r":jitFlags (\d+)", diagnostic.message_detail or "")
        if flags and flags[1] != "0":
            compiled.append((diagnostic.context or "").partition("\n")[0])

    database.rows("DISCARD PLANS")
    with database.admin.transaction():
        for setting in ("jit = on", "debug_print_plan = on", "client_min_messages = log"):
            database.rows(f"SET LOCAL {setting}")
        database.admin.add_notice_handler(note)
        try:
            call()
        finally:
            database.admin.remove_notice_handler(note)
    return compiled


@contextmanager
def rows_returned_by(database: TestDatabase, function: str) -> Iterator[list[int]]:
    """Gives the numbers of rows that the calls of a function of the schema return within the block."""
    [(parameters, names, result)] = database.rows(
        "SELECT pg_get_function_arguments(p.oid), p.proargnames[:p.pronargs], pg_get_function_result(p.oid) "
        "FROM pg_proc p WHERE p.pronamespace = 'booking'::regnamespace AND p.proname = %s",
        function,
    )
    numbers: list[int] = []

    def note(diagnostic: psycopg.errors.Diagnostic) -> None:
        numbers.append(int(diagnostic.message_primary or ""))

    with rolled_back(database):
        database.rows(f"ALTER FUNCTION booking.{function} RENAME TO measured_function")
        body = f"""
            DECLARE number bigint;
            BEGIN
              RETURN QUERY SELECT * FROM booking.measured_function({", ".join(names)});
              GET DIAGNOSTICS number = ROW_COUNT;
              RAISE NOTICE '%', number;
            END
        """  # noqa: S608
        database.rows(
            f"CREATE FUNCTION booking.{function}({parameters}) RETURNS {result} LANGUAGE plpgsql STABLE "
            f"AS $_${body.replace('%', '%%')}$_$"
        )
        database.admin.add_notice_handler(note)
        try:
            yield numbers
        finally:
            database.admin.remove_notice_handler(note)


@dataclass(frozen=True)
class Reads:
    """The tables and indexes that one transaction read, and how much of them."""

    rows: int
    blocks: int
    indexes: frozenset[str]
    whole_tables: frozenset[str]


@contextmanager
def rolled_back(database: TestDatabase) -> Iterator[None]:
    """Rolls back the block, so that a call can be measured twice in the same state."""
    with database.admin.transaction(force_rollback=True):
        yield


def reads_of(database: TestDatabase, call: Callable[[], object]) -> Reads:
    """Measures what a call on the superuser's connection reads, and rolls it back.

    The call runs twice and is counted the second time, because the first one fills the caches of the session.
    """
    assert database.is_new, _NOT_NEW
    with rolled_back(database):
        call()
    with rolled_back(database):
        before = _counters(database)
        call()
        after = _counters(database)
    read = {name: [new - old for new, old in zip(after[name], before[name], strict=True)] for name in after}
    scanned = {name for name, (_, scans, _, _) in read.items() if scans}
    return Reads(
        rows=sum(rows for _, _, rows, _ in read.values()),
        blocks=sum(blocks for *_, blocks in read.values()),
        indexes=frozenset(name for name in scanned if after[name][0]),
        whole_tables=frozenset(name for name in scanned if not after[name][0]),
    )


def _counters(database: TestDatabase) -> dict[str, tuple[int, int, int, int]]:
    """Reads, for each table and index, whether it is an index, and this transaction's scans, rows and blocks."""
    rows = database.rows(
        "SELECT c.relname, (c.relkind = 'i')::integer, pg_stat_get_xact_numscans(c.oid), "
        "pg_stat_get_xact_tuples_returned(c.oid), pg_stat_get_xact_blocks_fetched(c.oid) "
        "FROM pg_class c WHERE c.relnamespace = 'booking'::regnamespace AND c.relkind IN ('r', 'i')"
    )
    return {name: tuple(numbers) for name, *numbers in rows}
