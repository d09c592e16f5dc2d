"""The requests that are counted together, and the limit that an answer shows."""

from typing import Any

import pytest

from service.errors import HoldfastError
from service.http import limits
from service.http.call import Call
from service.http.limits import RequestLimiter
from service.observability.metrics import REGISTRY
from service.sharing.limits import Rate, RequestLimits
from service.sharing.store import Store

pytestmark = pytest.mark.anyio


def make_limiter(count: int) -> RequestLimiter:
    """Makes a limiter that counts in this process. No test sends a token."""
    authentication: Any = None
    return RequestLimiter(RequestLimits(Store(None)), Rate(count, 3600), authentication)


def call_of(client: str, business_id: str) -> Call:
    """Returns a call of a client that names a business."""
    receive: Any = None
    return Call({"headers_by_name": {}}, receive, {"businessId": business_id}, client=client)


def shown(call: Call) -> dict[str, int]:
    """Returns the state of the limit that the answer of a call shows."""
    return {name.decode(): int(value) for name, value in call.scope["limit_headers"]}


@pytest.mark.parametrize(("length", "is_counted"), [(64, True), (65, False)])
async def test_a_name_that_is_too_long_for_an_id_has_no_counter(length: int, is_counted: bool) -> None:
    """A client could fill the memory with such names."""
    call = call_of("ada", "x" * length)
    await make_limiter(1).count(call, client_counted=True)
    assert ("limit_headers" in call.scope) == is_counted


@pytest.mark.parametrize(("factor", "expected"), [(2, (3, 2)), (1, (3, 1))], ids=["client", "business"])
async def test_an_answer_shows_the_limit_with_the_least_left(
    monkeypatch: pytest.MonkeyPatch, factor: int, expected: tuple[int, int]
) -> None:
    """The request counts as its client's first, and then as its business's, which another client has used too."""
    monkeypatch.setattr(limits, "BUSINESS_FACTOR", factor)
    limiter, call = make_limiter(3), call_of("ada", "salon")
    await limiter.count(call_of("bob", "salon"), client_counted=True)
    await limiter.count(call, anonymous=True)
    await limiter.count(call, client_counted=True)
    assert (shown(call)["ratelimit-limit"], shown(call)["ratelimit-remaining"]) == expected


async def test_a_refusal_shows_the_limit_that_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the limit of the client has as little left. It is counted by the kind of the limit."""
    monkeypatch.setattr(limits, "BUSINESS_FACTOR", 1)
    limiter, call = make_limiter(1), call_of("ada", "salon")
    await limiter.count(call_of("bob", "salon"), client_counted=True)
    await limiter.count(call, anonymous=True)
    sample = ("holdfast_rate_limited_total", {"limit": "business"})
    before = REGISTRY.get_sample_value(*sample) or 0
    with pytest.raises(HoldfastError, match="RATE_LIMITED"):
        await limiter.count(call, client_counted=True)
    assert shown(call)["retry-after"] > 0
    assert REGISTRY.get_sample_value(*sample) == before + 1


async def test_a_request_that_was_refused_early_does_not_count_for_a_business(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its client may not be allowed to name that business."""
    monkeypatch.setattr(limits, "BUSINESS_FACTOR", 1)
    limiter = make_limiter(1)
    for client in ("ada", "bob"):
        await limiter.count(call_of(client, "salon"), anonymous=True)
    await limiter.count(call_of("eve", "salon"), client_counted=True)
