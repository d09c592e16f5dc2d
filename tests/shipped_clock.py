"""The clock that the service ships, in the place of the movable clock of the tests."""

from service.database.migrations import sql_folder
from tests.database import TestDatabase, at


def restore_clock(database: TestDatabase) -> None:
    """Puts the shipped definition of booking.now() back, as the runbook does, for tests of what depends on it."""
    database.rows((sql_folder() / "functions" / "rules" / "now.sql").read_text())
    assert database.value("SELECT booking.now() < %s", at(0))
