"""Admits a request to its endpoint: limits, access, body and query, in the order of precedence of service.errors."""

from collections.abc import Coroutine
from typing import Any

from starlette.types import ASGIApp

from service.errors import HoldfastError, Refused
from service.http.authentication import Authentication
from service.http.body import query_parameters, read_body, read_query
from service.http.call import Call
from service.http.clients import Clients
from service.http.endpoint import Endpoint
from service.http.limits import RequestLimiter


class Dispatcher:
    """Checks requests. Without a `limiter` they are not counted; without `clients` they are not told apart."""

    def __init__(self, authentication: Authentication, clients: Clients | None, limiter: RequestLimiter | None) -> None:
        self._authentication = authentication
        self._clients = clients
        self._limiter = limiter

    async def admit(self, endpoint: Endpoint, call: Call) -> Coroutine[Any, Any, ASGIApp]:
        """Returns the call of the handler, not yet begun. Raises `HoldfastError`."""
        if self._clients:
            call.client = self._clients.name(call)
        limiter = self._limiter if endpoint.limited else None
        client_counted = limiter is not None and await limiter.count_suspect(call)
        try:
            await self._read(endpoint, call)
        except HoldfastError:
            if limiter and not client_counted:
                await limiter.count(call, anonymous=True)
            raise
        if limiter:
            await limiter.count(call, client_counted=client_counted)
        return endpoint.handler(**endpoint.arguments(call))

    async def _read(self, endpoint: Endpoint, call: Call) -> None:
        call.principal = await self._authentication.principal(call, endpoint.access)
        if call.principal:
            # Before the body is read: a caller without access is not told what is wrong with it.
            named = dict(query_parameters(call)).get("businessId")
            _keep_to_business(call, call.path.get("businessId"), named)
            if call.principal.kind not in endpoint.access.roles:
                raise HoldfastError("FORBIDDEN")
        if endpoint.body:
            call.body = await read_body(call, endpoint.body)
        if endpoint.query:
            call.query = read_query(call, endpoint.query)
        _keep_to_business(call, getattr(call.body, "business_id", None))


def _keep_to_business(call: Call, *named: str | None) -> None:
    """Refuses a key at other businesses than its own: for its holder they don't exist. Raises `Refused`."""
    own = call.principal.business_id if call.principal else None
    if own and any(name not in (None, own) for name in named):
        raise Refused("BUSINESS_NOT_FOUND")
