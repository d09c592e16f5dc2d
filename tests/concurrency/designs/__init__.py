"""Designs for holding a slot: four that are often recommended and are wrong, and that of this project.

Each design is a file with one transaction that tries to hold one unit of a slot, with psycopg's parameters. Its last
statement that returns rows returns one row if the slot was granted.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Design:
    """A design: its file, its title in the table of results, and the capacity of the slot that it is measured with."""

    file: str
    title: str
    capacity: int

    @property
    def name(self) -> str:
        """Returns the name of the file without its suffix."""
        return self.file.removesuffix(".sql")

    def script(self) -> bytes:
        """Reads the transaction."""
        return (Path(__file__).parent / self.file).read_bytes()


COUNT_AND_INSERT: Final = Design("count_and_insert.sql", "count-and-insert in one CTE, READ COMMITTED", 5)
LOCK_INSIDE: Final = Design(
    "lock_inside_the_statement.sql", "the same, with `FOR UPDATE` on the service row inside the CTE", 5
)
LOCK_OVERLAPPING: Final = Design(
    "lock_overlapping_rows.sql", "REPEATABLE READ, `SELECT … FOR UPDATE SKIP LOCKED` on overlapping rows, insert", 1
)
SERIALIZABLE: Final = Design(
    "serializable_advisory_lock.sql", "SERIALIZABLE with an advisory lock taken inside the transaction", 5
)
OURS: Final = Design("lock_then_decide.sql", "lock in its own statement, then the CTE, READ COMMITTED", 5)

BAD: Final = (COUNT_AND_INSERT, LOCK_INSIDE, LOCK_OVERLAPPING, SERIALIZABLE)
