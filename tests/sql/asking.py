"""Asking the verbs, in short."""

from collections.abc import Iterable
from typing import Any

from tests.database import Outcome, reserve_request


def names(outcomes: Iterable[Outcome]) -> list[str]:
    """What became of each request."""
    return [outcome.name for outcome in outcomes]


def keyed_request(key: str, fingerprint: str = "this", hour: float = 10, **request: Any) -> dict[str, Any]:
    """A request to reserve with an idempotency key. The fingerprint stands for what was asked."""
    return reserve_request(hour, idempotency_key=key, fingerprint=fingerprint, **request)
