"""Requests of the verbs, outcomes and errors in short form."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.database import Outcome, book_request, reserve_request

GUEST: dict[str, Any] = {
    "guest_name": "Ada Lovelace",
    "guest_email": "ada@example.com",
    "guest_phone": "+4930123456",
    "notes": "by the window",
}
# The builder of a request for each verb that claims a slot.
MAKE_REQUEST = {"reserve": reserve_request, "book": book_request}


def names(outcomes: Iterable[Outcome]) -> list[str]:
    """Returns the name of each outcome."""
    return [outcome.name for outcome in outcomes]


def keyed_request(key: str, fingerprint: str = "this", hour: float = 10, **request: Any) -> dict[str, Any]:
    """Builds a request to reserve with an idempotency key; the fingerprint stands for the contents of the request."""
    return reserve_request(hour, idempotency_key=key, fingerprint=fingerprint, **request)


def keyed_booking(key: str, fingerprint: str = "this", hour: float = 10, **request: Any) -> dict[str, Any]:
    """Builds a request to book with an idempotency key; the fingerprint stands for the contents of the request."""
    return book_request(hour, idempotency_key=key, fingerprint=fingerprint, **request)


# The builder of a request with a key for each of these verbs.
MAKE_KEYED_REQUEST = {"reserve": keyed_request, "book": keyed_booking}


def granted_resources(outcomes: Iterable[Outcome]) -> list[str | None]:
    """Returns the resources of the requests that were granted."""
    return [outcome.body["resource_id"] for outcome in outcomes if outcome.name in ("done", "replayed")]


@contextmanager
def raises_sqlstate(expected: str) -> Iterator[None]:
    """Checks that the block raises an error of PostgreSQL with a given SQLSTATE."""
    with pytest.raises(psycopg.Error) as raised:
        yield
    assert raised.value.sqlstate == expected
