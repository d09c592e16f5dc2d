"""One schedule of the feed of changes: processes, browsers and faults by a seed, and what has to hold in each."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace
from typing import Any, Final, NamedTuple
from unittest.mock import patch
from uuid import UUID

from redis.asyncio.connection import Connection as RedisConnection

from service.background import end
from service.sharing import feed as feed_module
from service.sharing import store as store_module
from service.sharing import watchers as watchers_module
from service.sharing.feed import Feed
from service.sharing.watchers import Event, Watcher
from tests.simulation.feed_faults import FeedFaults
from tests.simulation.feed_processes import BUSINESSES, STREAM, Announced, Browser, Journal, Process
from tests.simulation.loop import SimulatedLoop, simulate
from tests.simulation.network import CALM_SECONDS, Link
from tests.simulation.redis import SimulatedRedis
from tests.simulation.schedule import SILENT

_NODE_ENTRIES: Final = 4
_BLOCK_SECONDS: Final = 0.8
_WATCH_SECONDS: Final = 0.4
# After the last fault a read may wait for its timeout, then the breaker closes, and reader and sender end their pauses.
_HEALED_SECONDS: Final = _BLOCK_SECONDS + 2 * _WATCH_SECONDS + 0.8


class Theme(NamedTuple):
    """What a schedule is about. Others vary at random."""

    # Kinds of faults; without any, all.
    faults: tuple[str, ...] = ()
    has_faults: bool = True
    # Within all bounds and without slow readers, browsers load again only if they must.
    is_roomy: bool = False
    has_slow_browsers: bool = False
    # Browsers that leave may load again, which hides what was lost before. So do changes without a slot.
    is_quiet: bool = True


_THEMES: Final = (
    Theme(has_faults=False, is_roomy=True, is_quiet=False),
    Theme(has_faults=False, has_slow_browsers=True),
    Theme(("replaced Redis",), is_roomy=True),
    Theme(("flushed Redis", "trimmed stream", "failed Redis"), is_roomy=True),
    Theme(("process ended after an outage",), is_roomy=True),
    Theme(is_quiet=False),
    Theme(),
    Theme(is_quiet=False, has_slow_browsers=True),
)


class FeedSchedule:
    """Runs one schedule. A broken rule is an AssertionError."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._random = random.Random(f"feed {seed}")
        choose = self._random.choice
        self._theme = _THEMES[seed % len(_THEMES)]
        self._bounds: dict[str, Any] = {"_READ": choose([1, 1, 500])}
        if not self._theme.is_roomy:
            self._bounds |= {
                "_REMEMBERED": choose([6, 20, 5_000]),
                "_UNSENT": choose([3, 1_000, 1_000]),
                "_RESUME_SECONDS": choose([0.0, 60.0, 60.0]),
                "BACKLOG": choose([2, 8, 100]),
            }
        if self._theme.has_slow_browsers:
            self._bounds["BACKLOG"] = 2
        self._processes: list[Process] = []

    @property
    def reached(self) -> Counter[str]:
        """The rare branches that it has reached."""
        return self._journal.reached

    @property
    def lines(self) -> list[str]:
        """What has happened."""
        return self._journal.lines

    def run(self) -> None:
        """Runs it in simulated time, and checks the rules while it runs and at its end."""
        with simulated_feed(self._random, self._bounds):
            loop = simulate(self._seed, self._main)
        assert not loop.failures, loop.failures

    async def _main(self, loop: SimulatedLoop) -> None:
        self._redis = SimulatedRedis(loop, self._random, _NODE_ENTRIES)
        self._journal = Journal(self._random, self._redis)
        for port in range(1, self._random.choice([2, 2, 3]) + 1):
            # One process is farther away from Redis than the others.
            link = Link(loop, self._random, self._redis, CALM_SECONDS * (3 if port == 2 else 1))
            loop.listeners[port] = link.connect
            self._processes.append(Process(self._journal, link, port))
        if not self._theme.has_faults:
            await asyncio.sleep(1)
        try:
            with count_reached(self._journal):
                await self._watch_and_check()
        finally:
            # A broken rule leaves them running.
            for process in self._processes:
                await process.kill()

    async def _watch_and_check(self) -> None:
        slowness = 0.8 if self._theme.has_slow_browsers else 0.0
        browsers = [
            Browser(self._journal, self._processes, slowness, is_restless=not self._theme.is_quiet) for _ in range(5)
        ]
        watching = [asyncio.create_task(browser.run()) for browser in browsers]
        announcing = asyncio.create_task(self._announce_often())
        if self._theme.has_faults:
            faults = FeedFaults(self._journal, self._redis, self._processes, browsers, self._restart)
            counts = self._random.choice([[2], [3], [1, 1]])
            await asyncio.gather(*(faults.cause(count, self._theme.faults) for count in counts))
        else:
            await asyncio.sleep(2)
        await end([announcing])
        with suppress(asyncio.CancelledError):
            announcing.result()
        for browser in browsers:
            browser.is_calm = True
        await asyncio.sleep(_HEALED_SECONDS)
        for task in watching:
            # Raises what a browser has found.
            assert not task.done(), task.result()
        for browser in browsers:
            self._check_that_nothing_was_lost(browser)
        await self._check_that_changes_arrive(browsers)
        await end(watching)
        for browser in browsers:
            await browser.disconnect()
        self._check_caches_and_bounds()
        await self._check_the_end()

    def _restart(self, process: Process) -> None:
        self._processes[self._processes.index(process)] = Process(self._journal, process.link, process.port)

    async def _announce_often(self) -> None:
        choose = self._random.choice
        without_slot = 0.0 if self._theme.is_quiet else choose([0.0, 0.2])
        while True:
            await asyncio.sleep(choose([self._random.uniform(0, 0.02), self._random.uniform(0, 0.4)]))
            for _ in range(choose([1, 1, 6])):
                if running := [process for process in self._processes if process.is_running]:
                    self._journal.announce(choose(running), choose(BUSINESSES), without_slot=without_slot)

    # The rules.

    def _check_that_nothing_was_lost(self, browser: Browser) -> None:
        """Checks that the browser has seen each change since it first loaded, or has loaded after it."""
        assert browser.loaded_at is not None, "a browser cannot connect"
        for change in self._journal.announced:
            if change.concerns(browser) and change.at > browser.loaded_at and change.number not in browser.seen:
                assert self._is_excused(change), f"{change} was lost silently"

    def _is_excused(self, change: Announced) -> bool:
        """Returns whether a process has taken the change with it."""
        return change.process.ended_owing and change.number not in self._journal.appended()

    async def _check_that_changes_arrive(self, browsers: list[Browser]) -> None:
        """Checks that each process announces to all browsers, after the faults."""
        loads = sum(browser.loads for browser in browsers)
        first = len(self._journal.announced)
        for process in self._processes:
            for business_id in BUSINESSES:
                self._journal.announce(process, business_id, without_slot=0.0)
                await asyncio.sleep(0.1)
        for change, browser in itertools.product(self._journal.announced[first:], browsers):
            assert not change.concerns(browser) or change.number in browser.seen, f"{change} does not arrive"
        needed = loads
        if self._theme.is_roomy and not self._theme.has_faults:
            needed = len(browsers) + self.reached["resumed from before the memory"]
            pairs = itertools.product(self._journal.announced, browsers)
            needed += sum(change.concerns(browser) and not change.has_slot for change, browser in pairs)
        assert loads <= needed, f"browsers load {loads} times instead of {needed}"
        assert sum(browser.loads for browser in browsers) == loads, "browsers load again without need"

    def _check_caches_and_bounds(self) -> None:
        """Checks that caches forgot the business of each change, and that nothing has grown beyond its bound."""
        for process, change in itertools.product(self._processes, self._journal.announced):
            if process.started_at < change.at and not self._is_excused(change):
                forgot_at = process.answers.forgot_at(change.business_id)
                assert forgot_at > change.at, f"a cache has not forgotten the business of {change}"
                if not change.has_slot:
                    forgot_at = process.settings.forgot_at(change.business_id)
                    assert forgot_at > change.at, f"the cache of settings has not forgotten the business of {change}"
        for process in self._processes:
            assert len(process.feed._events) <= feed_module._REMEMBERED, "the memory exceeds its bound"
            assert not process.feed._unsent, "changes are left unsent"
            assert not process.feed._watchers._of_business, "watchers are left"
            assert len(process.link.connections) <= store_module._TURNS + 2, "too many connections are open"
        length = len(self._redis.streams[STREAM])
        assert length < feed_module._REMEMBERED + _NODE_ENTRIES, "the stream exceeds its bound"

    async def _check_the_end(self) -> None:
        """Checks that processes leave nothing behind."""
        for process in self._processes:
            await process.stop()
        await asyncio.sleep(0.1)
        assert not self._redis.sessions, "sessions are left"
        assert asyncio.all_tasks() == {asyncio.current_task()}, "tasks are left"


@contextmanager
def simulated_feed(randomness: random.Random, bounds: dict[str, Any]) -> Iterator[None]:
    """Makes the feed and its store read the clock of the running loop, wait for less long, and keep other bounds."""
    clock = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
    numbers = itertools.count()

    def by_number(item: Any) -> int:
        """Hashes independently of the address, so that sets have the same order in each run."""
        number: int = vars(item).setdefault("simulated_number", next(numbers))
        return number

    with ExitStack() as patches:
        for of, name, value in (
            (store_module, "time", clock),
            (watchers_module, "time", clock),
            (store_module, "log", SILENT),
            (store_module, "WATCH_SECONDS", _WATCH_SECONDS),
            (feed_module, "WATCH_SECONDS", _WATCH_SECONDS),
            (feed_module, "_BLOCK_SECONDS", _BLOCK_SECONDS),
            # Fewer ticks of idle reads.
            (store_module, "_TICK_SECONDS", store_module.TIMEOUT_SECONDS / 2),
            (feed_module, "uuid4", lambda: UUID(int=randomness.getrandbits(128), version=4)),
            (Watcher, "__hash__", by_number),
            (RedisConnection, "__hash__", by_number),
            *((module, *bound) for module in (feed_module, watchers_module) for bound in bounds.items()),
        ):
            if hasattr(of, name):
                patches.enter_context(patch.object(of, name, value))
        yield


@contextmanager
def count_reached(journal: Journal) -> Iterator[None]:
    """Counts in the journal how often rare branches of the feed are reached."""
    reached = journal.reached
    publish_own, since, add = Feed._publish_own, Feed._since, Watcher.add
    execute, change = feed_module._execute, feed_module._change

    def counted_publish_own(feed: Feed, changes: list[Any]) -> None:
        reached["too many unsent" if len(feed._unsent) >= feed_module._UNSENT else "not appended"] += 1
        publish_own(feed, changes)

    def counted_since(feed: Feed, last_event_id: str | None, business_id: str, service_id: str | None) -> list[Event]:
        missed = since(feed, last_event_id, business_id, service_id)
        known = {feed._before, *(event.id for event in feed._events)}
        if missed:
            name = "resumed with events" if missed[0].change else "resumed with too many events"
            reached[name if last_event_id in known else "resumed from before the memory"] += 1
        return missed

    def counted_add(watcher: Watcher, event: Event) -> None:
        reached["backlog full"] += len(watcher._events) >= watchers_module.BACKLOG
        add(watcher, event)

    async def counted_execute(pipeline: Any) -> list[Any]:
        is_read = len(pipeline) > 1
        answers = await execute(pipeline)
        reached["entry gone"] += is_read and not answers[1]
        reached["run over"] += is_read and bool(answers[1]) and answers[-1] not in runs
        runs.add(answers[-1])
        return answers

    def counted_change(fields: dict[str, str]) -> Any:
        found = change(fields)
        reached["unreadable entry"] += found is None and "gap" not in fields
        return found

    runs: set[str | None] = set()
    with (
        patch.object(Feed, "_publish_own", counted_publish_own),
        patch.object(Feed, "_since", counted_since),
        patch.object(Watcher, "add", counted_add),
        patch.object(feed_module, "_execute", counted_execute),
        patch.object(feed_module, "_change", counted_change),
    ):
        yield
