"""Cancellation tokens: what lets a guest cancel without an account.

A token is an HMAC over its version, its purpose, the business and the appointment. There is nothing in the
database to steal, and a replayed commit can show the same token again.
"""

import base64
import hashlib
import hmac
from uuid import UUID

from pydantic import SecretStr


class CancellationTokens:
    """Makes and verifies tokens under the secrets of TOKEN_SECRET: the first signs, all verify."""

    def __init__(self, secrets: SecretStr) -> None:
        self._keys = [secret.strip().encode() for secret in secrets.get_secret_value().split(",") if secret.strip()]

    def make(self, business_id: str, appointment_id: UUID) -> str:
        """The token of an appointment, always the same under the same secret."""
        return _sign(self._keys[0], business_id, appointment_id)

    def verify(self, token: str, business_id: str, appointment_id: UUID) -> bool:
        """Whether the token is this appointment's, in constant time. Whatever is malformed is not."""
        given = token.encode()
        return any(hmac.compare_digest(given, _sign(key, business_id, appointment_id).encode()) for key in self._keys)


def _sign(key: bytes, business_id: str, appointment_id: UUID) -> str:
    message = "\x1f".join(("v1", "cancel", business_id, str(appointment_id)))
    digest = hmac.digest(key, message.encode(), hashlib.sha256)
    return "v1." + base64.urlsafe_b64encode(digest).decode().rstrip("=")
