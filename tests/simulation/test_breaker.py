"""The circuit breaker in random outages, in simulated time. A failure names its seed."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch

import psycopg
import pytest

from service.database import breaker as breaker_module
from service.database.breaker import GRACE_SECONDS, PROBE_SECONDS, CircuitBreaker
from service.errors import DatabaseDown
from tests.simulation.loop import SimulatedLoop, first_failure, simulate
from tests.simulation.schedule import SILENT

SEEDS: Final = range(40)
# How long a probe or a new connection takes at most, also if the database does not answer, and a request that joins a
# probe waits.
_CONNECT_SECONDS: Final = 0.02
_SILENT_SECONDS: Final = 5.0
_JOIN_SECONDS: Final = 0.5


def run(seed: int, main: Callable[[SimulatedLoop], Coroutine[Any, Any, None]]) -> None:
    """Runs a coroutine with breakers in simulated time."""
    clock = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    with patch.object(breaker_module, "time", clock), patch.object(breaker_module, "log", SILENT):
        loop = simulate(seed, main)
    assert not loop.failures, loop.failures


@dataclass
class SimulatedPool:
    """A pool of connections to a database that is up or down."""

    outage: "Outage"
    has_connection: bool = True

    async def probe(self) -> None:
        """Connects, besides the pool."""
        self.outage.probes.append(self.outage.loop.time())
        await asyncio.sleep(self.outage.random.uniform(0, _CONNECT_SECONDS))
        if not self.outage.is_up:
            raise psycopg.OperationalError("down")

    async def check(self) -> None:
        """Drops a broken connection, and connects again if the database is up."""
        await asyncio.sleep(self.outage.random.uniform(0, _CONNECT_SECONDS))
        self.has_connection = self.outage.is_up


class Outage:
    """One run: a database that goes down and comes back, and requests all the time. A broken rule is an
    AssertionError."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(f"outage {seed}")
        self._seed = seed
        self.is_up = True
        self._changed_at = 0.0
        self.probes: list[float] = []
        self.refused = 0

    def run(self) -> None:
        """Runs it in simulated time."""
        run(self._seed, self._main)

    async def _main(self, loop: SimulatedLoop) -> None:
        self.loop = loop
        self._breaker = breaker = CircuitBreaker()
        self._pools = [SimulatedPool(self), SimulatedPool(self)]
        for pool in self._pools:
            breaker.guard(pool)
        requests = [asyncio.create_task(self._requests()) for _ in range(3)]
        watch = asyncio.create_task(self._watch())
        for _ in range(4):
            # Long enough for a probe: the breaker does not see a shorter return.
            await asyncio.sleep(self.random.choice([1.5, 3]))
            self._turn(is_up=False)
            await asyncio.sleep(self.random.choice([0.2, GRACE_SECONDS - 0.2, 2, 7]))
            self._turn(is_up=True)
        await asyncio.sleep(3)
        assert not breaker.is_open, "it stays open although the database is back"
        assert all(pool.has_connection for pool in self._pools), "a pool does not connect again"
        for task in (*requests, watch):
            task.cancel()
        ended = await asyncio.gather(*requests, watch, return_exceptions=True)
        for error in ended:
            if isinstance(error, AssertionError):
                raise error
        await breaker.stop()
        assert self.probes == sorted(self.probes)

    def _turn(self, *, is_up: bool) -> None:
        self.is_up = is_up
        self._changed_at = self.loop.time()
        if not is_up:
            # The connections break; the next request on one of them notices.
            for pool in self._pools:
                pool.has_connection = False

    def _seconds_since_change(self) -> float:
        return self.loop.time() - self._changed_at

    async def _requests(self) -> None:
        while True:
            await asyncio.sleep(self.random.uniform(0, 0.3))
            if self._breaker.is_open:
                await self._request_while_open()
            elif not self.is_up:
                self._breaker.suspect()  # as a request on a broken connection does

    async def _request_while_open(self) -> None:
        began = self.loop.time()
        # Longer than a probe that began before.
        was_back = self.is_up and self._seconds_since_change() > 3 * _CONNECT_SECONDS
        try:
            await self._breaker.probed()
        except DatabaseDown:
            self.refused += 1
            assert not was_back, "a request is refused although the database was back before it"
        if was_back:
            assert self.loop.time() - began < 0.2, "a request waits although its probe has succeeded"
        assert self.loop.time() - began <= _JOIN_SECONDS + 0.01, "a request waits too long for a probe"

    async def _watch(self) -> None:
        was_open = False
        connected_at = 0.0
        while True:
            await asyncio.sleep(0.02)
            if any(pool.has_connection for pool in self._pools):
                connected_at = self.loop.time()
            if self._breaker.is_open and not was_open:
                since = self._seconds_since_change()
                assert not self.is_up or since < 2 * _CONNECT_SECONDS, "it opens although the database is up"
                without = self.loop.time() - connected_at
                assert without > GRACE_SECONDS - 0.03, f"it opens after {without:.2f} s without a connection"
            if was_open and not self._breaker.is_open:
                since = self._seconds_since_change()
                assert self.is_up or since < 2 * _CONNECT_SECONDS, "it closes although the database is down"
            was_open = self._breaker.is_open
            quiet = self.is_up and self._seconds_since_change() > 2 * PROBE_SECONDS + 1
            assert not (quiet and self.probes and self.loop.time() - self.probes[-1] < 0.1), "it probes without need"
            recent = [at for at in self.probes[-20:] if at > self.loop.time() - 1]
            assert len(recent) <= 12, "it probes too often"


def test_every_outage_keeps_the_rules() -> None:
    """The breaker opens only after the grace period, closes only when the database is back, and soon then, and no
    request waits long or is refused once the database is back."""
    failed = first_failure(lambda seed: Outage(seed).run(), SEEDS)
    assert failed is None, f"Outage({failed[0]}).run() fails: {failed[1]!r}"


def test_outages_refuse_requests() -> None:
    """Guards against runs in which the breaker never opens."""
    outages = [Outage(seed) for seed in range(5)]
    for outage in outages:
        outage.run()
    assert sum(outage.refused for outage in outages) > 5


async def no_wait(self: CircuitBreaker) -> None:
    """Refuses a request at once, instead of letting it wait for the next probe."""
    if self.is_open:
        raise DatabaseDown


BROKEN: Final[dict[str, Callable[[], Any]]] = {
    "it opens at once": lambda: patch.object(breaker_module, "GRACE_SECONDS", 0.0),
    "requests do not wait for a probe": lambda: patch.object(CircuitBreaker, "probed", no_wait),
    "it probes without a pause": lambda: patch.object(breaker_module, "_PAUSE_SECONDS", 0.0),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_breaker_breaks_a_rule(name: str) -> None:
    """The rules find what each variant breaks."""
    with BROKEN[name]():
        assert first_failure(lambda seed: Outage(seed).run(), SEEDS)


@dataclass
class DownPool:
    """A pool without a connection. The database refuses each, or does not answer."""

    answers: bool = True
    has_connection: bool = False
    error: Exception = field(default_factory=lambda: psycopg.OperationalError("down"))
    probes: list[float] = field(default_factory=list)
    checks: list[float] = field(default_factory=list)

    async def probe(self) -> None:
        """Fails to connect."""
        self.probes.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0 if self.answers else _SILENT_SECONDS)
        raise self.error

    async def check(self) -> None:
        """Takes a moment."""
        await asyncio.sleep(_CONNECT_SECONDS)
        self.checks.append(asyncio.get_running_loop().time())


async def opened(pool: DownPool) -> CircuitBreaker:
    """Returns a breaker that is open."""
    breaker = CircuitBreaker()
    breaker.guard(pool)
    breaker.suspect()
    while not breaker.is_open:  # noqa: ASYNC110 — it has no event
        await asyncio.sleep(0.01)
    return breaker


def test_a_request_waits_no_longer_for_a_probe_without_an_answer() -> None:
    """A server that is frozen keeps each probe for seconds."""

    async def main(loop: SimulatedLoop) -> None:
        breaker = await opened(DownPool(answers=False))
        for _ in range(20):
            began = loop.time()
            with pytest.raises(DatabaseDown):
                await breaker.probed()
            assert loop.time() - began <= _JOIN_SECONDS + 0.01
        await breaker.stop()

    run(0, main)


def test_a_request_makes_one_probe_come_sooner() -> None:
    """Later probes, which no request waits for, come at the usual interval."""

    async def main(loop: SimulatedLoop) -> None:
        pool = DownPool()
        breaker = await opened(pool)
        wanted_at = loop.time()
        assert wanted_at < GRACE_SECONDS + PROBE_SECONDS
        with pytest.raises(DatabaseDown):
            await breaker.probed()
        assert pool.probes[-1] - wanted_at < PROBE_SECONDS / 2
        await asyncio.sleep(10 * PROBE_SECONDS)
        since = [at for at in pool.probes if at > loop.time() - 10 * PROBE_SECONDS]
        assert 9 <= len(since) <= 11
        await breaker.stop()

    run(0, main)


def test_broken_connections_are_dropped_before_the_database_is_probed() -> None:
    """No request gets a connection that broke together with another one, in either pool."""

    async def main(_: SimulatedLoop) -> None:
        pools = DownPool(), DownPool()
        breaker = CircuitBreaker()
        for pool in pools:
            breaker.guard(pool)
        breaker.suspect()
        await asyncio.sleep(PROBE_SECONDS)
        assert all(pool.checks[0] <= pools[0].probes[0] for pool in pools)
        await breaker.stop()

    run(0, main)


def test_a_breaker_whose_probes_ended_by_a_defect_probes_for_the_next_request() -> None:
    """It would stay open for ever."""

    async def main(_: SimulatedLoop) -> None:
        pool = DownPool(error=ValueError("a defect"))
        breaker = CircuitBreaker()
        breaker.guard(pool)
        breaker._opened_at = 0.0
        breaker.suspect()
        await asyncio.sleep(10 * PROBE_SECONDS)
        before = len(pool.probes)
        with pytest.raises(DatabaseDown):
            await breaker.probed()
        assert len(pool.probes) > before
        await breaker.stop()

    run(0, main)


def test_a_breaker_that_was_stopped_probes_no_more() -> None:
    """The pools close their connections after it, and report those that fail meanwhile."""

    async def main(_: SimulatedLoop) -> None:
        pool = DownPool()
        breaker = await opened(pool)
        await breaker.stop()
        before = len(pool.probes)
        breaker.suspect()
        await asyncio.sleep(10 * PROBE_SECONDS)
        assert len(pool.probes) == before

    run(0, main)


def test_a_refused_connection_is_logged_once_a_minute_while_others_serve() -> None:
    """The pool tries to connect all the time, and a database at its limit refuses for hours."""

    async def main(loop: SimulatedLoop) -> None:
        breaker = CircuitBreaker()
        breaker.guard(DownPool(has_connection=True))
        with patch.object(breaker_module, "log") as log:
            while loop.time() < 600:
                breaker.suspect()
                await asyncio.sleep(0.1)
        assert not breaker.is_open
        log.error.assert_not_called()
        assert 9 <= log.warning.call_count <= 10
        await breaker.stop()

    run(0, main)
