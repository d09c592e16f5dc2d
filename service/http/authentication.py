"""Whom a bearer token stands for, and whether that is enough."""

import secrets

from pydantic import SecretStr
from starlette.requests import Request

from service.booking.keys import Keys, Principal
from service.errors import HoldfastError
from service.http.endpoints import Access


class Authentication:
    """Knows the administrator's token and the scheduler's secret, and asks for the keys of businesses."""

    def __init__(self, admin_token: SecretStr, cron_secret: SecretStr, keys: Keys) -> None:
        self._admin_token = admin_token
        self._cron_secret = cron_secret
        self._keys = keys

    async def principal(self, request: Request, access: Access) -> Principal | None:
        """Who calls; None where nobody in particular has to. Raises UNAUTHORIZED for a token that is none."""
        if access is Access.PUBLIC or (access is Access.GUEST and "authorization" not in request.headers):
            return None
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        if access is Access.CRON and _equal(token, self._cron_secret):
            return None
        if _equal(token, self._admin_token):
            return Principal("admin", None, None)
        principal = await self._keys.authenticate(token)
        if principal is None:
            raise HoldfastError("UNAUTHORIZED")
        return principal


def _equal(token: str, secret: SecretStr) -> bool:
    """In constant time: how long it takes must not tell how much of it was right."""
    return secrets.compare_digest(token.encode(), secret.get_secret_value().encode())
