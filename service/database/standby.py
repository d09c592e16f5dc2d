"""Reads on a standby, which takes them off the primary.

A standby replays the primary's write-ahead log, some time later. A read of a business goes to the standby only if this
process knows of no change of the business that the standby may lack: so whoever books, and loads again because of the
stream of changes, sees what has changed. Changes of other processes are known by the feed, if there is a Redis. Without
one, a read may miss what another process changed within `MOST_LAG_SECONDS`.

No verb, no credential and no look-up before a change is read here: deploy/scaling.md lists the reads.
"""

import asyncio
import math
import time
from collections import deque
from typing import Final

import psycopg
import structlog

from service.database.connections import Database, Rows
from service.errors import Unavailable
from service.observability.metrics import STANDBY_LAG_SECONDS, STANDBY_READS

# A standby that lags by more gets no reads.
MOST_LAG_SECONDS: Final = 5.0
# How often its position is read: for so long after a change, reads of the business go to the primary at least.
MEASURE_SECONDS: Final = 0.5
# Businesses whose changes are remembered one by one, until the standby has them.
_BUSINESSES: Final = 10_000

log = structlog.get_logger(__name__)


class StandbyReads:
    """Runs reads whose first parameter is a business, on the standby where it is known to have its changes."""

    def __init__(self, primary: Database, standby: Database) -> None:
        self._primary = primary
        self._standby = standby
        # Positions in the primary's log, each with an instant up to which all changes are before it. With an older one,
        # the standby would lag by too much.
        self._positions: deque[tuple[float, int]] = deque(maxlen=int(MOST_LAG_SECONDS / MEASURE_SECONDS) + 1)
        # The standby has all changes up to this instant, by our monotonic clock.
        self._complete_until = -math.inf
        # When a change of a business, or of any, became known.
        self._changed_at: dict[str, float] = {}
        self._all_changed_at = -math.inf
        self._warned = False

    async def fetch(self, name: str, *parameters: object) -> Rows:
        """Runs a named statement like `Database.fetch`. What the standby does not answer, the primary does."""
        if self._has_changes_of(str(parameters[0])):
            try:
                rows = await self._standby.attempt(name, *parameters)
            except (psycopg.Error, Unavailable):
                # It has gone, is busy, or had to end the read to go on replaying: not used until it is measured again.
                self._complete_until = -math.inf
            else:
                STANDBY_READS.labels("standby").inc()
                return rows
        STANDBY_READS.labels("primary").inc()
        return await self._primary.fetch(name, *parameters)

    def forget(self, business_id: str | None) -> None:
        """Notes a change of a business, or of any with None: the standby may not have it yet."""
        if business_id is None or len(self._changed_at) >= _BUSINESSES:
            self._changed_at.clear()
            self._all_changed_at = time.monotonic()
        else:
            self._changed_at[business_id] = time.monotonic()

    async def keep_measuring(self) -> None:
        """Measures the lag of the standby for ever."""
        STANDBY_LAG_SECONDS.set(math.inf)  # one that is gone does not answer for seconds
        while True:
            try:
                await self._measure()
            except (psycopg.Error, Unavailable):
                self._complete_until = -math.inf
            STANDBY_LAG_SECONDS.set(time.monotonic() - self._complete_until)
            await asyncio.sleep(MEASURE_SECONDS)

    async def _measure(self) -> None:
        # The instant first: what was committed until then is before the position that is read after it.
        now = time.monotonic()
        [(_, written)] = await self._primary.attempt("log_position")
        self._positions.append((now, written))
        [(is_standby, replayed)] = await self._standby.attempt("log_position")
        if not is_standby or self._primary.nodes.exist:
            # It is no standby of the primary, or of several nodes: their logs are not comparable.
            self._complete_until = -math.inf
            if not self._warned:
                self._warned = True
                log.warning("no_standby", hint="STANDBY_DATABASE_URL names no standby of DATABASE_URL, and is not used")
            return
        while self._positions and self._positions[0][1] <= replayed:
            self._complete_until, _ = self._positions.popleft()
        known = self._changed_at.items()
        self._changed_at = {business_id: at for business_id, at in known if at >= self._complete_until}

    def _has_changes_of(self, business_id: str) -> bool:
        changed_at = max(self._changed_at.get(business_id, -math.inf), self._all_changed_at)
        return changed_at < self._complete_until and time.monotonic() - self._complete_until <= MOST_LAG_SECONDS
