"""The tests, and their helpers, whose failed assertions show the values as those of the tests do."""

from pathlib import Path

import pytest

pytest.register_assert_rewrite(*(f"tests.{path.stem}" for path in Path(__file__).parent.iterdir()))
