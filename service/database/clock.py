"""The server's clock, as a process knows it without asking each time: deadlines are instants of that clock."""

import math
import time
from datetime import UTC, datetime, timedelta
from typing import Final

# How long the server's clock is assumed to run like our monotonic one before it is read again.
_VALID_SECONDS: Final = 10.0


class ServerClock:
    """The last reading of the server's clock, and of our monotonic clock at that moment: that one is never set."""

    def __init__(self) -> None:
        self._server_time = datetime.now(UTC)
        self._set_at = time.monotonic()
        self._stale_at = -math.inf

    @property
    def is_stale(self) -> bool:
        """Whether the server's clock has to be read."""
        return time.monotonic() >= self._stale_at

    def set(self, server_time: datetime) -> None:
        """Records a reading that was just made."""
        self._server_time = server_time
        self._set_at = time.monotonic()
        self._stale_at = self._set_at + _VALID_SECONDS

    def doubt(self) -> None:
        """Marks the reading as stale, after it seemed wrong."""
        self._stale_at = -math.inf

    def in_seconds(self, seconds: float) -> datetime:
        """Returns the server's time `seconds` from now."""
        return self._server_time + timedelta(seconds=time.monotonic() - self._set_at + seconds)
