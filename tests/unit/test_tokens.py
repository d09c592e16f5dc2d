"""Cancellation tokens and the keys of calendar feeds."""

from uuid import uuid4

import pytest
from pydantic import SecretStr

from service.booking.tokens import CalendarKeys, CancellationTokens

TOKENS = CancellationTokens(SecretStr("new, old"))
APPOINTMENT = uuid4()
TOKEN = TOKENS.make("salon", APPOINTMENT)
KEYS = CalendarKeys(SecretStr("new, old"))
KEY = KEYS.make("salon", None, 1)


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


def test_a_calendar_key_is_of_one_feed_of_one_generation() -> None:
    """That of a resource does not open the whole business, nor the other way round."""
    assert KEYS.verify(KEY, "salon", None, 1)
    assert KEYS.make("salon", None, 1) == KEY
    assert not KEYS.verify(KEY, "clinic", None, 1)
    assert not KEYS.verify(KEY, "salon", "rosa", 1)
    assert not KEYS.verify(KEY, "salon", None, 2)
    assert KEYS.verify(KEYS.make("salon", None, 2), "salon", None, 2)
    of_rosa = KEYS.make("salon", "rosa", 1)
    assert KEYS.verify(of_rosa, "salon", "rosa", 1)
    assert not KEYS.verify(of_rosa, "salon", None, 1)
    assert not KEYS.verify(of_rosa, "salon", "ivo", 1)


def test_an_older_secret_still_opens_a_calendar() -> None:
    """Or every change of it would have to be told to every calendar program."""
    old = CalendarKeys(SecretStr("old")).make("salon", None, 1)
    dropped = CalendarKeys(SecretStr("dropped")).make("salon", None, 1)
    assert old != KEY
    assert KEYS.verify(old, "salon", None, 1)
    assert not KEYS.verify(dropped, "salon", None, 1)


def test_what_was_made_for_one_purpose_opens_nothing_else() -> None:
    """Even where what it names is written the same."""
    assert CalendarKeys(SecretStr("new")).make("salon", str(APPOINTMENT), 1) != TOKEN
    assert not KEYS.verify(TOKEN, "salon", str(APPOINTMENT), 1)
    assert not TOKENS.verify(KEYS.make("salon", str(APPOINTMENT), 1), "salon", APPOINTMENT)


def test_where_one_name_ends_and_the_next_begins_is_signed_too() -> None:
    """Feed 1 of generation 1 is not the whole business of generation 11."""
    assert not KEYS.verify(KEYS.make("salon", "1", 1), "salon", None, 11)


@pytest.mark.parametrize("key", ["", "v1.", "v2" + KEY[2:], KEY[:-1], KEY + "=", "\u00e4\u0000"])
def test_a_malformed_calendar_key_does_not_verify(key: str) -> None:
    """Nor does it raise."""
    assert not KEYS.verify(key, "salon", None, 1)
