"""Cancellation tokens."""

from uuid import uuid4

import pytest
from pydantic import SecretStr

from service.booking.tokens import CancellationTokens

TOKENS = CancellationTokens(SecretStr("new, old"))
APPOINTMENT = uuid4()
TOKEN = TOKENS.make("salon", APPOINTMENT)


def test_a_token_is_always_the_same() -> None:
    """A replayed commit shows it again, though it is stored nowhere."""
    assert TOKENS.make("salon", APPOINTMENT) == TOKEN
    assert TOKENS.verify(TOKEN, "salon", APPOINTMENT)


def test_a_token_is_of_one_appointment_of_one_business() -> None:
    """It opens nothing else."""
    assert not TOKENS.verify(TOKEN, "clinic", APPOINTMENT)
    assert not TOKENS.verify(TOKEN, "salon", uuid4())


def test_an_older_secret_still_verifies_and_a_dropped_one_does_not() -> None:
    """So that a secret can be changed without breaking the links in guests' mailboxes."""
    old = CancellationTokens(SecretStr("old")).make("salon", APPOINTMENT)
    dropped = CancellationTokens(SecretStr("dropped")).make("salon", APPOINTMENT)
    assert TOKENS.verify(old, "salon", APPOINTMENT)
    assert not TOKENS.verify(dropped, "salon", APPOINTMENT)
    assert TOKENS.make("salon", APPOINTMENT) != old


@pytest.mark.parametrize("token", ["", "v1.", "v2" + TOKEN[2:], TOKEN[:-1], TOKEN + "=", "\u00e4\u0000"])
def test_what_is_malformed_does_not_verify(token: str) -> None:
    """Nor does it raise."""
    assert not TOKENS.verify(token, "salon", APPOINTMENT)
