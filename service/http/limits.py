"""How many requests one client may make, and how many all of a business's callers together."""

import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from starlette.requests import Request

from service.booking.keys import Principal
from service.errors import HoldfastError
from service.http.clients import Clients
from service.http.endpoints import Access, Authenticate
from service.observability.metrics import RATE_LIMITED
from service.sharing.limits import Limit, Rate, RequestLimits

# So many clients may use up their own limit at one business. A ticket drop has thousands of honest ones, and what is
# too much for the moment the queue refuses: this keeps one tenant from taking all there is, all day long.
BUSINESS_FACTOR: Final = 100
# For how long it is remembered whom a token stands for. Here that decides about limits, and about nothing else.
_REMEMBERED_SECONDS: Final = 10.0
_REMEMBERED: Final = 4096


class RequestLimiter:
    """Counts requests by client and by business. Who shows a key of the business is not counted as a client, unless
    somebody at the same address has just shown what is no key."""

    def __init__(
        self,
        limits: RequestLimits,
        rate: Rate,
        clients: Clients,
        authenticate: Authenticate,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._of_client = rate
        self._of_business = rate.times(BUSINESS_FACTOR)
        self._clients = clients
        self._authenticate = authenticate
        self._clock = clock
        # By the hash of what was shown, or the client that showed something wrong: until when, and whose it is.
        self._remembered: OrderedDict[str, tuple[float, Principal | None]] = OrderedDict()

    async def count_suspect(self, request: Request) -> bool:
        """Counts a request of a client that has lately shown a wrong token, before the next one is looked up. Returns
        whether it did. Raises `HoldfastError` (RATE_LIMITED)."""
        client = self._clients.name(request)
        until, _ = self._remembered.get(client, (0.0, None))
        if self._clock() >= until:
            return False
        await self._count(request, [Limit("client", client, self._of_client)])
        return True

    async def count(
        self, request: Request, principal: Principal | None, business_id: str | None, *, client_counted: bool = False
    ) -> None:
        """Counts a request, and leaves for its answer how things stand. Raises `HoldfastError` (RATE_LIMITED)."""
        client = self._clients.name(request)
        if principal is None and not client_counted:
            principal = await self._holder(request, client)
        if principal:
            business_id = business_id or principal.business_id
        limits = []
        if not client_counted and (principal is None or principal.business_id not in (None, business_id)):
            limits.append(Limit("client", client, self._of_client))
        if business_id is None and "slug" in request.path_params:
            # The same business by another name, and `~` is in no id.
            business_id = f"~{request.path_params['slug']}"
        if business_id:
            limits.append(Limit("business", f"business:{business_id}", self._of_business))
        if limits:
            await self._count(request, limits)

    async def _count(self, request: Request, limits: list[Limit]) -> None:
        verdict = await self._limits.hit(limits)
        told = {
            "ratelimit-limit": verdict.limit.rate.count,
            "ratelimit-remaining": verdict.remaining,
            "ratelimit-reset": verdict.reset_seconds,
        }
        if not verdict.granted:
            told["retry-after"] = verdict.retry_after_seconds
        request.scope["limit_headers"] = [(name.encode(), str(value).encode()) for name, value in told.items()]
        if not verdict.granted:
            RATE_LIMITED.labels(verdict.limit.name).inc()
            raise HoldfastError("RATE_LIMITED")

    async def _holder(self, request: Request, client: str) -> Principal | None:
        """Whose token was shown where none is needed. A client that shows wrong ones is not looked up for each."""
        shown = request.headers.get("authorization")
        if shown is None:
            return None
        token, now = sha256(shown.encode()).hexdigest(), self._clock()
        for known in (token, client):
            until, principal = self._remembered.get(known, (0.0, None))
            if now < until:
                return principal
        try:
            principal = await self._authenticate(request, Access.READONLY)
        except HoldfastError:
            principal = None
        self._remembered[token if principal else client] = (now + _REMEMBERED_SECONDS, principal)
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return principal
