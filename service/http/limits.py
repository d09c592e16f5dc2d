"""Limits the requests of one client, of one network, and of all callers of a business together."""

from hashlib import sha256
from typing import Final

from cachetools import TTLCache

from service.booking.keys import Principal
from service.errors import HoldfastError
from service.http.authentication import Authentication
from service.http.call import Call
from service.http.endpoint import Access
from service.observability.metrics import RATE_LIMITED
from service.sharing.limits import Limit, Rate, RequestLimits

# How many clients may use up their own limit at one business. A ticket drop has thousands of honest ones, whose peaks
# the queue refuses: this limit keeps one business from taking all there is, all day long.
BUSINESS_FACTOR: Final = 100
# An id of a business has 64 characters at most: a longer one is that of no business.
_LONGEST_NAME: Final = 64
# How many clients may use up their own limit in one network: the addresses that are given to an organisation, or to the
# customers of a provider in one place, which are many clients to one of their size.
NETWORK_FACTOR: Final = 16
# How long the principal of a token is cached. Here it decides about limits, and about nothing else.
_CACHED_SECONDS: Final = 10.0
_CACHED: Final = 4096


class RequestLimiter:
    """Counts requests by client, by network and by business.

    The holder of a key is not counted as a client at calls that name the key's own business, unless the same client has
    just sent a wrong token. A slug, or the id of a hold, may be another business's: their calls count.
    """

    def __init__(self, limits: RequestLimits, rate: Rate, authentication: Authentication) -> None:
        self._limits = limits
        self._client_rate = rate
        self._network_rate = Rate(rate.count * NETWORK_FACTOR, rate.seconds)
        self._business_rate = Rate(rate.count * BUSINESS_FACTOR, rate.seconds)
        self._authentication = authentication
        # The principal by the hash of its token; None by the name of a client that sent a wrong token.
        self._principals: TTLCache[str, Principal | None] = TTLCache(_CACHED, _CACHED_SECONDS)

    async def count_suspect(self, call: Call) -> bool:
        """Counts a request of a client that has just sent a wrong token, before its next token is looked up. Returns
        whether it was counted. Raises `HoldfastError` (RATE_LIMITED)."""
        assert call.client is not None
        if call.client not in self._principals:
            return False
        await self._count(call, self._of_client(call, call.client))
        return True

    async def count(self, call: Call, *, client_counted: bool = False, anonymous: bool = False) -> None:
        """Counts a request, and leaves the state of the limit for the headers of its answer. An `anonymous` request was
        refused before its principal and business were known. Raises `HoldfastError` (RATE_LIMITED)."""
        assert call.client is not None
        principal, business_id = (None, None) if anonymous else (call.principal, call.business_id)
        if principal is None and not client_counted:
            principal = await self._holder(call, call.client)
        limits = []
        if not client_counted and (principal is None or principal.business_id not in (None, business_id)):
            limits = self._of_client(call, call.client)
        # Otherwise a client could make counters of any length, here and in Redis.
        if business_id and len(business_id) <= _LONGEST_NAME:
            limits.append(Limit("business", f"business:{business_id}", self._business_rate))
        if limits:
            await self._count(call, limits)

    def _of_client(self, call: Call, client: str) -> list[Limit]:
        limits = [Limit("client", client, self._client_rate)]
        if call.network:
            limits.append(Limit("network", call.network, self._network_rate))
        return limits

    async def _count(self, call: Call, limits: list[Limit]) -> None:
        verdict = await self._limits.hit(limits)
        headers = [
            (b"ratelimit-limit", b"%d" % verdict.limit.rate.count),
            (b"ratelimit-remaining", b"%d" % verdict.remaining),
            (b"ratelimit-reset", b"%d" % verdict.reset_seconds),
        ]
        # A request that is counted twice, as its client's and as its business's, shows the limit with the least left.
        before = call.scope.setdefault("limit_headers", headers)
        if not verdict.granted or verdict.remaining < int(before[1][1]):
            call.scope["limit_headers"] = headers
        if not verdict.granted:
            headers.append((b"retry-after", b"%d" % verdict.retry_after_seconds))
            RATE_LIMITED.labels(verdict.limit.name).inc()
            raise HoldfastError("RATE_LIMITED")

    async def _holder(self, call: Call, client: str) -> Principal | None:
        """Returns the principal of a token that was sent where none is needed. A wrong one makes the client suspect."""
        authorization = call.header(b"authorization")
        if authorization is None:
            return None
        token = sha256(authorization.encode()).hexdigest()
        if known := self._principals.get(token):
            return known
        try:
            principal = await self._authentication.principal(call, Access.READONLY)
        except HoldfastError:
            principal = None
        self._principals[token if principal else client] = principal
        return principal
