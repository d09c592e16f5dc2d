"""The clock that the service ships, in the place of the movable clock of the tests."""

from service.database.migrations import sql_folder
from tests.database import TestDatabase, at


def restore_clock(database: TestDatabase) -> None:
    """Puts the shipped definition of booking.now() back, for tests of what depends on it."""
    shipped = (sql_folder() / "functions" / "rules" / "now.sql").read_text()
    database.rows(shipped.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    assert database.value("SELECT booking.now() < %s", at(0))
