"""Tokens that need no account: a guest's to cancel an appointment, and the keys of calendar feeds.

A token is an HMAC over its version, its purpose and the ids of what it opens. The database holds none that could be
stolen, and a token can be shown again at any time.
"""

import base64
import hashlib
import hmac
from uuid import UUID

from pydantic import SecretStr


class _Signer:
    """Signs and verifies under the secrets of TOKEN_SECRET: the first signs, all verify."""

    def __init__(self, secrets: SecretStr) -> None:
        self._keys = [secret.strip().encode() for secret in secrets.get_secret_value().split(",") if secret.strip()]

    def _make(self, *parts: str) -> str:
        return _sign(self._keys[0], parts)

    def _verify(self, token: str, *parts: str) -> bool:
        """Compares in constant time. A malformed token does not verify."""
        given = token.encode()
        return any(hmac.compare_digest(given, _sign(key, parts).encode()) for key in self._keys)


class CancellationTokens(_Signer):
    """The tokens by which guests cancel."""

    def make(self, business_id: str, appointment_id: UUID) -> str:
        """Returns the token of an appointment, always the same under the same secret."""
        return self._make("cancel", business_id, str(appointment_id))

    def verify(self, token: str, business_id: str, appointment_id: UUID) -> bool:
        """Returns whether the token is this appointment's, in constant time."""
        return self._verify(token, "cancel", business_id, str(appointment_id))


class CalendarKeys(_Signer):
    """The keys by which calendar programs read a feed: of one resource, or of the whole business where that is None.

    Raising the business's `generation` invalidates all earlier keys.
    """

    def make(self, business_id: str, resource_id: str | None, generation: int) -> str:
        """Returns the key of a feed, always the same under the same secret and generation."""
        return self._make("calendar", business_id, resource_id or "", str(generation))

    def verify(self, key: str, business_id: str, resource_id: str | None, generation: int) -> bool:
        """Returns whether the key is this feed's, in constant time."""
        return self._verify(key, "calendar", business_id, resource_id or "", str(generation))


class ClientNames(_Signer):
    """The names by which clients are counted, so that no address is stored."""

    def make(self, address: str) -> str:
        """Returns the name of a client, always the same under the same secret."""
        return self._make("client", address)


def _sign(key: bytes, parts: tuple[str, ...]) -> str:
    message = "\x1f".join(("v1", *parts))
    digest = hmac.digest(key, message.encode(), hashlib.sha256)
    return "v1." + base64.urlsafe_b64encode(digest).decode().rstrip("=")
