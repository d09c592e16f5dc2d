"""Reports the pages of other origins that may not call: a browser shows the reason to its user only."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog
from cachetools import TTLCache

# The most origins that are remembered and logged in that time, because a client can make up any number of them.
_LOGGED: Final = 50
_SECONDS: Final = 3600.0
# The form in which browsers write origins. Any other text comes from no page, and is not logged.
_ORIGIN: Final = re.compile(rb"null|[a-z][a-z0-9+.-]*://([A-Za-z0-9._:\[\]-]{1,260})")
_HINT: Final = "Pages of this origin can't call this service from a browser. If they should, add it to CORS_ORIGINS."

log = structlog.get_logger(__name__)


class RefusedOrigins:
    """Logs each origin once in an hour, the first fifty of them."""

    def __init__(self, allowed: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._allowed = allowed
        self._logged: TTLCache[bytes, None] = TTLCache(_LOGGED, _SECONDS, clock)

    def note(self, headers: Mapping[bytes, bytes]) -> None:
        """Logs the origin of a request, unless it may call, is that of this service, or was logged."""
        origin = headers.get(b"origin")
        if origin is None or origin in self._logged or len(self._logged) == _LOGGED:
            return
        parts = _ORIGIN.fullmatch(origin)
        is_own = parts is not None and parts[1] is not None and parts[1] == headers.get(b"host")
        if parts is None or is_own or not {"*", origin.decode()}.isdisjoint(self._allowed):
            return
        self._logged[origin] = None
        log.warning("origin_refused", origin=origin.decode(), hint=_HINT)
