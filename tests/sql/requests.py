"""Short forms for requests of the verbs and for their outcomes."""

from collections.abc import Iterable
from typing import Any

from tests.database import Outcome, reserve_request

GUEST: dict[str, Any] = {
    "guest_name": "Ada Lovelace",
    "guest_email": "ada@example.com",
    "guest_phone": "+4930123456",
    "notes": "by the window",
}


def names(outcomes: Iterable[Outcome]) -> list[str]:
    """Returns the name of each outcome."""
    return [outcome.name for outcome in outcomes]


def keyed_request(key: str, fingerprint: str = "this", hour: float = 10, **request: Any) -> dict[str, Any]:
    """Builds a request to reserve with an idempotency key; the fingerprint stands for the contents of the request."""
    return reserve_request(hour, idempotency_key=key, fingerprint=fingerprint, **request)


def granted_resources(outcomes: Iterable[Outcome]) -> list[str | None]:
    """Returns the resources of the requests that were granted."""
    return [outcome.body["resource_id"] for outcome in outcomes if outcome.name in ("done", "replayed")]
