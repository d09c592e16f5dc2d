"""The watchers of calendars: the events for each of them, and how many there may be."""

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import Iterable
from itertools import chain
from typing import Annotated, Final, NamedTuple

from pydantic import StringConstraints

from service.errors import Overloaded
from service.naming import ID_PATTERN
from service.observability.metrics import STREAM_CLIENTS

# Per process. Each costs a connection and some kilobytes. Beyond that, browsers can still poll.
WATCHERS: Final = 500
# Per client: a browser has at most six over HTTP/1.1, and a whole office or school may share an address. No client uses
# up all that there are.
WATCHERS_OF_CLIENT: Final = 100
# Unsent events per watcher. A watcher that is further behind is better off loading again.
BACKLOG: Final = 100
_TOO_MANY: Final = "Too many browsers are watching already; please poll instead"

# The patterns count where a change is read from Redis.
_Id = Annotated[str, StringConstraints(pattern=f"^{ID_PATTERN}$")]


class Change(NamedTuple):
    """A slot of a service that has more or less room now; without a slot, any slot of the service.

    With a resource, the change concerns all services of the business that may share it; without a service, all of them.
    """

    business_id: _Id
    service_id: _Id | None = None
    resource_id: _Id | None = None
    slot_start: str | None = None
    slot_end: str | None = None

    def concerns(self, service_id: str | None) -> bool:
        """Returns whether watchers of this service of the business, or of all with None, may need the change."""
        return service_id is None or self.resource_id is not None or self.service_id in (None, service_id)


class Event(NamedTuple):
    """An event for watchers: a change, or without one the request to load again."""

    id: str
    change: Change | None = None


class Watcher:
    """One browser, which watches a business, or one service of it."""

    def __init__(
        self, watchers: "Watchers", business_id: str, service_id: str | None, client: str | None, first: Iterable[Event]
    ) -> None:
        self.business_id = business_id
        self.service_id = service_id
        self.client = client
        self._watchers = watchers
        self._events = deque(first)
        self._woken = asyncio.Event()
        self._ended = False

    def add(self, event: Event) -> None:
        """Queues an event. A watcher with a full queue is ended: its browser reconnects and resumes.

        An ended watcher takes no event, even if its queue has room again: the browser would resume after that event,
        and would never get the one that had no room.
        """
        if len(self._events) >= BACKLOG:
            self.end()
        elif not self._ended:
            self._events.append(event)
            self._woken.set()

    def end(self) -> None:
        """Ends it after the events that are queued."""
        self._ended = True
        self._woken.set()

    def close(self) -> None:
        self.end()
        self._watchers.remove(self)

    async def next_event(self) -> Event | None:
        """Waits for its next event; returns None when it is ended."""
        while not self._events and not self._ended:
            self._woken.clear()
            await self._woken.wait()
        return self._events.popleft() if self._events else None


class Watchers:
    def __init__(self) -> None:
        self._of_business: defaultdict[str, set[Watcher]] = defaultdict(set)
        self._last_left_at = -math.inf
        self._ended = False

    def add(self, business_id: str, service_id: str | None, client: str | None, first: Iterable[Event]) -> Watcher:
        """Adds a watcher whose first events are given. Raises `Overloaded`. After `end` it ends with those events."""
        watchers = list(self._all())
        if client is not None and sum(watcher.client == client for watcher in watchers) >= WATCHERS_OF_CLIENT:
            raise Overloaded(_TOO_MANY)
        # A business may have as many as there is room left: one alone gets half of the room at most.
        if len(self._of_business.get(business_id, ())) >= WATCHERS - len(watchers):
            raise Overloaded(_TOO_MANY)
        watcher = Watcher(self, business_id, service_id, client, first)
        if self._ended:
            watcher.end()
        self._of_business[business_id].add(watcher)
        STREAM_CLIENTS.inc()
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """Removes a watcher, unless it was removed already."""
        of_business = self._of_business.get(watcher.business_id, set())
        if watcher in of_business:
            of_business.remove(watcher)
            if not of_business:
                del self._of_business[watcher.business_id]
            self._last_left_at = time.monotonic()
            STREAM_CLIENTS.dec()

    def any_within(self, seconds: float) -> bool:
        """Returns whether there is a watcher, or was one within the last `seconds`."""
        return bool(self._of_business) or time.monotonic() - self._last_left_at < seconds

    def send(self, event: Event) -> None:
        """Queues an event for the watchers that its change concerns; without a change, for all."""
        change = event.change
        for watcher in list(self._of_business.get(change.business_id, ()) if change else self._all()):
            if change is None or change.concerns(watcher.service_id):
                watcher.add(event)

    def end(self) -> None:
        """Ends all watchers, those that are added later too. Each connection that ends with the service calls it, so
        only the first call looks at the watchers."""
        if not self._ended:
            self._ended = True
            for watcher in self._all():
                watcher.end()

    def _all(self) -> Iterable[Watcher]:
        return chain.from_iterable(self._of_business.values())
