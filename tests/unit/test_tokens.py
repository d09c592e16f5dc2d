"""Cancellation tokens and the keys of calendar feeds."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from service.booking.tokens import CalendarKeys, CancellationTokens, ClientNames
from service.http.call import Call
from service.http.clients import Holders

TOKENS = CancellationTokens(SecretStr("new, old"))
APPOINTMENT = UUID("7645efae-f845-46c9-af3d-37456e00aa87")
TOKEN = TOKENS.make("salon", APPOINTMENT)
KEYS = CalendarKeys(SecretStr("new, old"))
KEY = KEYS.make("salon", None, "1")


def test_a_token_is_always_the_same() -> None:
    """A replayed commit returns the token again, although it is not stored."""
    assert TOKENS.make("salon", APPOINTMENT) == TOKEN
    assert TOKENS.verify(TOKEN, "salon", APPOINTMENT)


def test_a_token_belongs_to_one_appointment_of_one_business() -> None:
    """It verifies for no other pair of ids."""
    assert not TOKENS.verify(TOKEN, "clinic", APPOINTMENT)
    assert not TOKENS.verify(TOKEN, "salon", uuid4())


def test_an_older_secret_still_verifies_and_a_dropped_one_does_not() -> None:
    """A secret can be rotated without breaking the links in guests' mail."""
    old = CancellationTokens(SecretStr("old")).make("salon", APPOINTMENT)
    dropped = CancellationTokens(SecretStr("dropped")).make("salon", APPOINTMENT)
    assert TOKENS.verify(old, "salon", APPOINTMENT)
    assert not TOKENS.verify(dropped, "salon", APPOINTMENT)
    assert TOKENS.make("salon", APPOINTMENT) != old


@pytest.mark.parametrize("token", ["", "v1.", "v2" + TOKEN[2:], TOKEN[:-1], TOKEN + "=", "\u00e4\u0000"])
def test_a_malformed_token_does_not_verify(token: str) -> None:
    """It raises no exception."""
    assert not TOKENS.verify(token, "salon", APPOINTMENT)


def test_a_calendar_key_belongs_to_one_feed_of_one_generation() -> None:
    """The key of a resource does not open the feed of the business, nor the other way round."""
    assert KEYS.verify(KEY, "salon", None, "1")
    assert KEYS.make("salon", None, "1") == KEY
    assert not KEYS.verify(KEY, "clinic", None, "1")
    assert not KEYS.verify(KEY, "salon", "rosa", "1")
    assert not KEYS.verify(KEY, "salon", None, "2")
    assert KEYS.verify(KEYS.make("salon", None, "2"), "salon", None, "2")
    rosa_key = KEYS.make("salon", "rosa", "1")
    assert KEYS.verify(rosa_key, "salon", "rosa", "1")
    assert not KEYS.verify(rosa_key, "salon", None, "1")
    assert not KEYS.verify(rosa_key, "salon", "ivo", "1")


def test_an_older_secret_still_opens_a_calendar() -> None:
    """Otherwise every rotation would break all subscriptions."""
    old = CalendarKeys(SecretStr("old")).make("salon", None, "1")
    dropped = CalendarKeys(SecretStr("dropped")).make("salon", None, "1")
    assert old != KEY
    assert KEYS.verify(old, "salon", None, "1")
    assert not KEYS.verify(dropped, "salon", None, "1")


def test_a_signature_is_valid_for_its_purpose_only() -> None:
    """The purpose is signed, so equal names do not matter."""
    assert CalendarKeys(SecretStr("new")).make("salon", str(APPOINTMENT), "1") != TOKEN
    assert not KEYS.verify(TOKEN, "salon", str(APPOINTMENT), "1")
    assert not TOKENS.verify(KEYS.make("salon", str(APPOINTMENT), "1"), "salon", APPOINTMENT)


def test_the_boundaries_of_the_signed_names_are_signed() -> None:
    """Feed 1 of generation 1 differs from the whole business of generation 11."""
    assert not KEYS.verify(KEYS.make("salon", "1", "1"), "salon", None, "11")


@pytest.mark.parametrize("key", ["", "v1.", "v2" + KEY[2:], KEY[:-1], KEY + "=", "\u00e4\u0000"])
def test_a_malformed_calendar_key_does_not_verify(key: str) -> None:
    """It raises no exception."""
    assert not KEYS.verify(key, "salon", None, "1")


def test_an_id_of_a_client_has_another_name_than_an_address() -> None:
    """A client that sends the network of another one as its id has none of that one's holds."""
    names, network = ClientNames(SecretStr("secret")), "2001:db8:0:1::/64"
    receive: Any = None
    call = Call({"headers_by_name": {b"x-client-id": network.encode()}}, receive, {}, client="another")
    assert Holders(names, None, None).holder(call).client_id_hmac != names.make(network)
