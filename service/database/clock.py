"""The clock of the server, as a process knows it without asking each time: deadlines are told by it."""

import math
import time
from datetime import UTC, datetime, timedelta
from typing import Final

# How long the server's clock is taken to go as ours does, before it is looked at again.
_VALID_SECONDS: Final = 10.0


class ServerClock:
    """What the server's clock said, and our monotonic one when it did: nobody sets that."""

    def __init__(self) -> None:
        self._server_time = datetime.now(UTC)
        self._set_at = time.monotonic()
        self._stale_at = -math.inf

    @property
    def is_stale(self) -> bool:
        """Whether the server has to be asked."""
        return time.monotonic() >= self._stale_at

    def set(self, server_time: datetime) -> None:
        """Takes what the server has just said."""
        self._server_time = server_time
        self._set_at = time.monotonic()
        self._stale_at = self._set_at + _VALID_SECONDS

    def doubt(self) -> None:
        """It seems to be wrong: the server is to be asked."""
        self._stale_at = -math.inf

    def in_seconds(self, seconds: float) -> datetime:
        """The instant in so many seconds."""
        return self._server_time + timedelta(seconds=time.monotonic() - self._set_at + seconds)
