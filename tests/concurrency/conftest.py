"""Fixtures of the concurrency tests."""

from collections.abc import Iterator

import pytest

from tests.concurrency.rivals import Rivals
from tests.database import TestDatabase


@pytest.fixture
def rivals(database: TestDatabase) -> Iterator[Rivals]:
    """Returns the concurrent clients of the test's database, and disconnects them at the end."""
    rivals = Rivals(database)
    yield rivals
    rivals.close()
