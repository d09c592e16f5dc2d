"""The real service, as the acceptance tests have it."""

from tests.acceptance.conftest import serve

__all__ = ["serve"]
