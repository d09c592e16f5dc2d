"""The feed of changes in random schedules, in simulated time, through the real client. A failure names its seed."""

import os
from collections import Counter
from collections.abc import Callable
from typing import Any, Final
from unittest.mock import patch

import pytest
from redis.asyncio import Redis

from service.background import end
from service.sharing import feed as feed_module
from service.sharing import watchers as watchers_module
from service.sharing.feed import Feed
from service.sharing.watchers import Change, Event, Watcher, Watchers
from tests.simulation.feed_schedule import FeedSchedule
from tests.simulation.loop import first_failure

# More of them: FEED_SCHEDULES=5000 make test TESTS=tests/simulation
SCHEDULES: Final = int(os.environ.get("FEED_SCHEDULES", "56"))
# The branches of the feed that few schedules reach.
RARE: Final = {
    "not appended",
    "too many unsent",
    "entry gone",
    "run over",
    "unreadable entry",
    "backlog full",
    "resumed with events",
    "resumed with too many events",
    "resumed from before the memory",
    "stopped with unsent changes",
}


def test_every_schedule_keeps_the_rules() -> None:
    """Each browser sees each change of what it watches, or loads again after it; the changes of a process come in their
    order; caches forget before; and nothing is left or grows. The rare branches are reached."""
    reached: Counter[str] = Counter()

    def run(seed: int) -> None:
        schedule = FeedSchedule(seed)
        schedule.run()
        reached.update(schedule.reached)

    failed = first_failure(run, range(SCHEDULES))
    assert failed is None, f"FeedSchedule({failed[0]}).run() fails: {failed[1]!r}"
    assert +reached >= Counter(RARE)


@pytest.mark.parametrize("seed", [5, 7])
def test_a_seed_repeats_its_schedule(seed: int) -> None:
    """To the last event, its id and its instant."""
    schedules = [FeedSchedule(seed), FeedSchedule(seed)]
    for schedule in schedules:
        schedule.run()
    assert schedules[0].lines == schedules[1].lines != []


ADD: Final = feed_module._add
EXECUTE: Final = feed_module._execute
PUBLISH_GAP: Final = Feed._publish_gap
PUBLISH_OWN: Final = Feed._publish_own
SINCE: Final = Feed._since


def owe_nothing(self: Feed, changes: list[Change]) -> None:
    """Appends no gap after changes that were not appended."""
    PUBLISH_OWN(self, changes)
    self._owes_gap = False


async def entry_is_there(pipeline: Any) -> list[Any]:
    """Claims that the entry after which a reader reads is still there."""
    answers = await EXECUTE(pipeline)
    if len(answers) > 2:
        answers[1] = True
    return answers


async def run_is_the_same(pipeline: Any) -> list[Any]:
    """Claims that the same run of Redis answers."""
    return [*(await EXECUTE(pipeline))[:-1], "run"]


def gap_is_for_later(self: Feed, event_id: str) -> None:
    """Sends no resync to those who watch when a gap is found."""
    with patch.object(self._watchers, "send"):
        PUBLISH_GAP(self, event_id)


def resume_anywhere(self: Feed, last_event_id: str | None, business_id: str, service_id: str | None) -> list[Event]:
    """Resumes from an unknown id without a resync."""
    ids = [self._before, *(event.id for event in self._events)]
    return SINCE(self, last_event_id, business_id, service_id) if last_event_id in ids else []


def resume_after_the_next(
    self: Feed, last_event_id: str | None, business_id: str, service_id: str | None
) -> list[Event]:
    """Resumes from the event after the right one."""
    missed = SINCE(self, last_event_id, business_id, service_id)
    return missed[1:] if missed and missed[0].change else missed


def take_with_room(self: Watcher, event: Event) -> None:
    """Queues an event also after another one was dropped."""
    if len(self._events) >= watchers_module.BACKLOG:
        self.end()
    else:
        self._events.append(event)
        self._woken.set()


async def stop_at_once(self: Feed) -> None:
    """Stops without sending the unsent changes."""
    await end(self._tasks)
    self._watchers.end()


def send_to_all(self: Watchers, event: Event) -> None:
    """Sends events to the watchers of all businesses."""
    for watcher in list(self._all()):
        watcher.add(event)


async def add_backwards(changes: list[Change], after_gap: bool, redis: Redis) -> None:
    """Appends the latest change first."""
    await ADD(changes[::-1], after_gap, redis)


BROKEN: Final[dict[str, Callable[[], Any]]] = {
    "no gap follows a failed append": lambda: patch.object(Feed, "_publish_own", owe_nothing),
    "a lost entry is not noticed": lambda: patch.object(feed_module, "_execute", entry_is_there),
    "another run is not noticed": lambda: patch.object(feed_module, "_execute", run_is_the_same),
    "a gap sends no resync": lambda: patch.object(Feed, "_publish_gap", gap_is_for_later),
    "an unknown id needs no resync": lambda: patch.object(Feed, "_since", resume_anywhere),
    "a resumption is off by one": lambda: patch.object(Feed, "_since", resume_after_the_next),
    "an event follows a dropped one": lambda: patch.object(Watcher, "add", take_with_room),
    "the last changes are not sent": lambda: patch.object(Feed, "stop", stop_at_once),
    "events go to all businesses": lambda: patch.object(Watchers, "send", send_to_all),
    "the latest change goes first": lambda: patch.object(feed_module, "_add", add_backwards),
    "unsent changes have no bound": lambda: patch.object(feed_module, "len", lambda _: 0, create=True),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_feed_breaks_a_rule(name: str) -> None:
    """The rules find what each variant breaks, within the schedules of a test."""
    with BROKEN[name]():
        assert first_failure(lambda seed: FeedSchedule(seed).run(), range(SCHEDULES))
