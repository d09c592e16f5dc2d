"""Tokens that need no account: each is an HMAC over its version, its purpose and the ids of what it opens. The database
holds none that could be stolen, and a token can be shown again at any time."""

import base64
import hashlib
import hmac
from typing import ClassVar
from uuid import UUID

from pydantic import SecretStr


class _Signer:
    """Signs and verifies tokens of one purpose under the secrets of TOKEN_SECRET: the first signs, all verify."""

    purpose: ClassVar[str]

    def __init__(self, secrets: SecretStr) -> None:
        self._keys = [secret.strip().encode() for secret in secrets.get_secret_value().split(",") if secret.strip()]

    def make(self, *opens: str | UUID | None) -> str:
        """Returns the token of what it opens, always the same under the same secret."""
        return self._sign(self._keys[0], opens)

    def verify(self, token: str, *opens: str | UUID | None) -> bool:
        """Returns whether a token opens this, in constant time. A malformed one does not."""
        return any(hmac.compare_digest(token.encode(), self._sign(key, opens).encode()) for key in self._keys)

    def _sign(self, key: bytes, opens: tuple[str | UUID | None, ...]) -> str:
        parts = ["" if part is None else str(part) for part in opens]
        digest = hmac.digest(key, "\x1f".join(["v1", self.purpose, *parts]).encode(), hashlib.sha256)
        return "v1." + base64.urlsafe_b64encode(digest).decode().rstrip("=")


class CancellationTokens(_Signer):
    """The tokens by which guests cancel, each of a business and an appointment."""

    purpose = "cancel"


class CalendarKeys(_Signer):
    """The keys by which calendar programs read a feed, each of a business, a resource or None, and a generation.

    A generation is a random text: another one invalidates all earlier keys of the feed.
    """

    purpose = "calendar"


class ClientNames(_Signer):
    """The names by which the addresses of clients are counted, so that none is stored."""

    purpose = "client"
