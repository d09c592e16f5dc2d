"""When a call that failed for a passing reason is made again, and the message of a command for a server in trouble."""

import psycopg
import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from service import __main__ as command_line
from service.database.failures import logged, pauses, translated
from service.errors import DatabaseDown


def test_pauses_double_and_differ() -> None:
    """Before the second to the fifth attempt; up to half longer by chance, so that calls don't meet again."""
    many = [[*pauses()] for _ in range(50)]
    for taken in many:
        assert [0.1 <= pause / 2**number <= 0.15 for number, pause in enumerate(taken)] == [True] * 4
    assert len({tuple(taken) for taken in many}) == 50


@pytest.mark.parametrize("is_translated", [True, False])
@pytest.mark.parametrize(
    ("error", "named"),
    [
        (psycopg.errors.DiskFull("could not extend file"), "53100, DiskFull"),
        (psycopg.errors.ReadOnlySqlTransaction("cannot execute UPDATE"), "25006, ReadOnlySqlTransaction"),
    ],
)
def test_a_database_that_can_not_write_is_named(
    monkeypatch: pytest.MonkeyPatch, is_translated: bool, error: psycopg.Error, named: str
) -> None:
    """A command does not say that the database gives no answer, nor that it was not migrated."""

    def fail(*_: object) -> None:
        raise (translated(error) if is_translated else error) from error

    monkeypatch.setattr(command_line, "configure_logging", lambda _: None)
    monkeypatch.setattr(command_line, "open_database", fail)
    ended = CliRunner().invoke(command_line.main, ["cleanup"])
    assert ended.exit_code == 2
    assert ended.output == f"Error: The database cannot work ({named}): see its log.\n"


def caused(error: Exception, *, by: Exception) -> Exception:
    """Returns an error with its cause."""
    error.__cause__ = by
    return error


def test_a_task_goes_on_after_an_error_and_logs_its_code() -> None:
    """Operators find the SQLSTATE in the runbook. The breaker logs an outage once, for all tasks, and none of a
    database that answers and can't write."""
    for error, codes in (
        (psycopg.errors.InsufficientPrivilege("for ada"), ["42501"]),
        (KeyError("ada"), ["KeyError"]),
        (DatabaseDown(), []),
        (caused(DatabaseDown(), by=psycopg.errors.ReadOnlySqlTransaction()), ["25006"]),
        (caused(DatabaseDown(), by=psycopg.errors.AdminShutdown()), []),
    ):
        with capture_logs() as lines, logged("purge_failed"):
            raise error
        # Another test may have configured the log without lines of the level debug.
        warnings = [line for line in lines if line["log_level"] != "debug"]
        assert warnings == [{"event": "purge_failed", "log_level": "warning", "error": code} for code in codes]
