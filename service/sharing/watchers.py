"""Those who watch a calendar: what they are told, and how many there may be."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Final

from service.observability.metrics import STREAM_CLIENTS

# In one process. Each costs a connection and some kilobytes. Beyond that, browsers can still ask now and then.
WATCHERS: Final = 500
# Of one client: a browser has six at most over HTTP/1.1, and a whole office or school may share an address. Nobody uses
# up all that there are from one.
WATCHERS_OF_CLIENT: Final = 100
# Changes that one watcher may be behind: more than that, and it is cheaper for both to load again.
BACKLOG: Final = 100


@dataclass(frozen=True, slots=True)
class Change:
    """A slot of a service that has more or less room now; without a slot, any of them may.

    With a resource, so have other services of the business, if they share it; and without a service, all of them.
    """

    business_id: str
    service_id: str | None
    resource_id: str | None
    slot_start: str | None
    slot_end: str | None

    def concerns(self, service_id: str) -> bool:
        """Whether those who watch this service of the business are told."""
        return self.resource_id is not None or self.service_id in (None, service_id)


@dataclass(frozen=True, slots=True)
class Event:
    """What a watcher is told. Without a change: load again."""

    id: str
    change: Change | None = None


class TooManyWatchers(Exception):
    """This process has as many as it takes, in all, of this client or of this business."""


class Watcher:
    """One browser, which watches one service of one business."""

    def __init__(
        self, watchers: "Watchers", business_id: str, service_id: str, client: str | None, first: Iterable[Event]
    ) -> None:
        self.business_id = business_id
        self.service_id = service_id
        self.client = client
        self._watchers = watchers
        self._events = deque(first)
        self._news = asyncio.Event()
        self._ended = False

    def tell(self, event: Event) -> None:
        """Keeps an event for it. One that is too far behind is let go: it comes again, and is told where it was."""
        if len(self._events) >= BACKLOG:
            self.end()
        else:
            self._events.append(event)
            self._news.set()

    def end(self) -> None:
        """It is told nothing more than what is kept for it already."""
        self._ended = True
        self._news.set()

    def close(self) -> None:
        """It is gone."""
        self.end()
        self._watchers.remove(self)

    async def events(self) -> AsyncIterator[Event]:
        """What it is to be told, until it has ended."""
        while True:
            while self._events:
                yield self._events.popleft()
            if self._ended:
                return
            self._news.clear()
            await self._news.wait()


class Watchers:
    """All of one process."""

    def __init__(self) -> None:
        self._of_business: defaultdict[str, set[Watcher]] = defaultdict(set)
        self._of_client: Counter[str] = Counter()
        self._count = 0

    def add(self, business_id: str, service_id: str, client: str | None, first: Iterable[Event]) -> Watcher:
        """A new one, which is told some events first. Raises `TooManyWatchers`."""
        if not self._has_room(business_id, client):
            raise TooManyWatchers
        watcher = Watcher(self, business_id, service_id, client, first)
        self._of_business[business_id].add(watcher)
        if client is not None:
            self._of_client[client] += 1
        self._count += 1
        STREAM_CLIENTS.inc()
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """One that is gone. Doing it again changes nothing."""
        if watcher not in self._of_business.get(watcher.business_id, ()):
            return
        self._of_business[watcher.business_id].remove(watcher)
        if not self._of_business[watcher.business_id]:
            del self._of_business[watcher.business_id]
        if watcher.client is not None:
            self._of_client[watcher.client] -= 1
            if not self._of_client[watcher.client]:
                del self._of_client[watcher.client]
        self._count -= 1
        STREAM_CLIENTS.dec()

    def tell(self, event: Event) -> None:
        """Tells those whom a change concerns; without a change, all."""
        change = event.change
        if change is None:
            concerned = list(self._all())
        else:
            of_business = self._of_business.get(change.business_id, ())
            concerned = [watcher for watcher in of_business if change.concerns(watcher.service_id)]
        for watcher in concerned:
            watcher.tell(event)

    def end(self) -> None:
        """They are told nothing more."""
        for watcher in self._all():
            watcher.end()

    def _has_room(self, business_id: str, client: str | None) -> bool:
        """A business may have as many as there is room left for all: one alone has half of it at most."""
        if client is not None and self._of_client[client] >= WATCHERS_OF_CLIENT:
            return False
        return len(self._of_business.get(business_id, ())) < WATCHERS - self._count

    def _all(self) -> Iterable[Watcher]:
        return chain.from_iterable(self._of_business.values())
