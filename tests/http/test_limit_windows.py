"""The windows of the limits: what is left of a limit, and when the next request is granted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.settings import Settings
from service.sharing.limits import Limit, Rate, RequestLimits
from service.sharing.store import Store
from tests.manual_clock import ManualClock

pytestmark = pytest.mark.anyio


async def test_by_default_a_burst_of_a_thousand_goes_through() -> None:
    """A school class behind one address or a ticket drop in an office is legitimate."""
    limiter = RequestLimits(Store(None), ManualClock())
    limit = Limit("client", "somebody", Rate.parse(Settings().rate_limit))
    assert all([(await limiter.hit([limit])).granted for _ in range(1000)])


@given(
    st.integers(1, 20),
    st.sampled_from([1, 60, 3600]),
    st.lists(st.tuples(st.floats(0, 1.5), st.integers(1, 30)), max_size=20),
)
async def test_the_verdict_about_a_limit_is_true(count: int, seconds: int, bursts: list[tuple[float, int]]) -> None:
    """The remaining requests are granted, and no more; after Retry-After the next one is, whatever happened before."""
    clock = ManualClock()
    limiter = RequestLimits(Store(None), clock)
    limit = Limit("client", "somebody", Rate(count, seconds))
    for pause, burst in bursts:
        clock.now += pause * seconds
        for _ in range(burst):
            verdict = await limiter.hit([limit])
        left = verdict.remaining
        assert [(await limiter.hit([limit])).granted for _ in range(left + 1)] == [True] * left + [False]
        refused = await limiter.hit([limit])
        assert 1 <= refused.retry_after_seconds <= refused.reset_seconds
        clock.now += refused.retry_after_seconds
        assert (await limiter.hit([limit])).granted
    clock.now += 2 * seconds
    assert (await limiter.hit([limit])).remaining == count - 1


async def test_a_caller_cannot_make_twice_the_limit_around_the_turn_of_a_window() -> None:
    """The seconds before the turn and those after it are within one minute."""
    clock = ManualClock()
    limiter = RequestLimits(Store(None), clock)
    limit = Limit("client", "somebody", Rate(100, 60))
    clock.now += 59.9
    granted = [(await limiter.hit([limit])).granted for _ in range(200)].count(True)
    clock.now += 0.2
    granted += [(await limiter.hit([limit])).granted for _ in range(200)].count(True)
    assert granted == 100


async def test_a_request_refused_by_one_limit_counts_against_no_other() -> None:
    """A client beyond its own limit must not use up that of its business."""
    limiter = RequestLimits(Store(None), ManualClock())
    client, business = Limit("client", "c", Rate(1, 60)), Limit("business", "b", Rate(3, 60))
    verdicts = [(await limiter.hit([client, business])) for _ in range(5)]
    assert [verdict.granted for verdict in verdicts] == [True, False, False, False, False]
    assert verdicts[-1].limit is client
    assert (await limiter.hit([business])).remaining == 1


async def test_the_callers_counted_by_a_process_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses can be made up by the million. The most recent callers are kept."""
    monkeypatch.setattr("service.sharing.limits._CALLERS", 10)
    limiter = RequestLimits(Store(None), ManualClock())
    callers = [Limit("client", str(number), Rate(1, 60)) for number in range(30)]
    for caller in callers:
        await limiter.hit([caller])
    granted = [(await limiter.hit([caller])).granted for caller in callers[-10:]]
    assert granted == [False] * 10
    assert len(limiter._own) == 10


async def test_the_tightest_limit_is_reported_and_the_longest_wait() -> None:
    """The limit with the least left, if the request is granted; else the limit with the longest wait."""
    limiter = RequestLimits(Store(None), ManualClock())
    client, business = Limit("client", "c", Rate(2, 60)), Limit("business", "b", Rate(3, 3600))
    verdicts = [limiter.count([client, business]) for _ in range(2)]
    assert [(verdict.limit, verdict.remaining, verdict.reset_seconds) for verdict in verdicts] == [
        (client, 1, 120),
        (client, 0, 120),
    ]
    limiter.count([business])
    refused = limiter.count([client, business])
    assert (refused.granted, refused.limit, refused.remaining) == (False, business, 0)
    assert refused.retry_after_seconds > 3600
    assert limiter.count([client]).retry_after_seconds > 60
