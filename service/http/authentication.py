"""Finds the principal of a bearer token."""

import secrets

from pydantic import SecretStr

from service.booking.keys import Keys, Principal
from service.errors import HoldfastError
from service.http.call import Call
from service.http.endpoint import Access

_ADMIN = Principal("admin", None, None)


class Authentication:
    """Knows the administrator's token and the scheduler's secret, and looks the keys of businesses up."""

    def __init__(self, admin_token: SecretStr, cron_secret: SecretStr, keys: Keys) -> None:
        self._admin_token = admin_token.get_secret_value().encode()
        self._cron_secret = cron_secret.get_secret_value().encode()
        self._keys = keys

    async def principal(self, call: Call, access: Access) -> Principal | None:
        """Returns the principal; None for the scheduler. Raises `HoldfastError` (UNAUTHORIZED)."""
        scheme, _, token = (call.header(b"authorization") or "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        # In constant time, so that the time tells nothing about how much of a token was right.
        if access is Access.CRON and secrets.compare_digest(token.encode(), self._cron_secret):
            return None
        if secrets.compare_digest(token.encode(), self._admin_token):
            return _ADMIN
        principal = await self._keys.authenticate(token)
        if principal is None:
            raise HoldfastError("UNAUTHORIZED")
        return principal
