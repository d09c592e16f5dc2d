"""What the tests of this folder share."""

from collections.abc import Iterator

import pytest

from tests.concurrency.rivals import Rivals
from tests.database import TestDatabase


@pytest.fixture
def rivals(database: TestDatabase) -> Iterator[Rivals]:
    """The other clients of the test's database."""
    rivals = Rivals(database)
    yield rivals
    rivals.close()
