"""The log: one JSON line for each request, and for each event that operators should see.

No line holds personal data or a credential. Requests are named by their route's template, not by their path, and errors
by their SQLSTATE or class, because a message may quote what a caller sent.
"""

import asyncio
import atexit
import io
import logging
import os
import select
import sys
import traceback
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import structlog

# How long lines of the levels below warning are collected before they are written: a write for each costs more than the
# line itself. After kill -9 the lines of this time are missing.
_COLLECT_SECONDS: Final = 0.05
# Lines of one write. They fit into a page, as a rule: a pipe that takes anything takes as much.
_LINES_AT_ONCE: Final = 8
# How soon a reader that has not kept up is asked again, how many lines are kept for it, and how long at the end.
_RETRY_SECONDS: Final = 0.005
_MOST_LINES: Final = 10_000
_LAST_SECONDS: Final = 1.0

# The line of uvicorn that is left out. The application has logged the reason why an answer ended early: a client that
# has gone, a refusal or a defect.
_EXPLAINED: Final = "ASGI callable returned without completing response."

_JSON: Final = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z

# The facts noted about the current request: one dict for all tasks that handle it.
_NOTES: Final[ContextVar[dict[str, object] | None]] = ContextVar("notes", default=None)


def begin_notes() -> dict[str, object]:
    """Returns the notes of the request that begins here, which fill as it is handled."""
    notes: dict[str, object] = {}
    _NOTES.set(notes)
    return notes


def note(**facts: object) -> None:
    """Adds facts to the line of the current request, if there is one. Nothing personal, and no credential."""
    if (notes := _NOTES.get()) is not None:
        notes.update(facts)


def error_name(error: BaseException) -> str:
    """Returns the kind of an error, without its text."""
    return getattr(error, "sqlstate", None) or type(error).__name__


def error_fields(error: BaseException) -> dict[str, object]:
    """Returns the kind and place of an error for a log line, without its text."""
    return {
        "error": type(error).__name__,
        "sqlstate": getattr(error, "sqlstate", None),
        "traceback": "".join(traceback.format_tb(error.__traceback__)),
    }


class LineLogger:
    """Writes lines to stderr: those of a warning or worse at once, the others collected.

    Without its reader, or on a full disk, the log loses lines, and so it does, the oldest first, while its reader has
    stopped. What logs them must go on: a request, a probe of the database, the supervisor of the embedded server.
    """

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        # The loop that will write what is collected.
        self._loop: asyncio.AbstractEventLoop | None = None

    def collect(self, line: bytes) -> None:
        """Writes a line soon; outside of an event loop, at once."""
        self._lines.append(line)
        if not self._flush_in(_COLLECT_SECONDS):
            self.flush()

    def write(self, line: bytes) -> None:
        """Writes a line at once, after those that were collected before it."""
        self._lines.append(line)
        self.flush()

    def flush(self, wait_seconds: float = 0.0) -> None:
        """Writes what is collected, as far as its reader takes it within a time."""
        lines, self._lines = self._lines, []
        # A process that was started without stderr has none.
        with suppress(OSError):
            for first in range(0, len(lines) if sys.stderr else 0, _LINES_AT_ONCE):
                if not _takes_lines(wait_seconds):
                    self._lines = lines[first:][-_MOST_LINES:]
                    self._flush_in(_RETRY_SECONDS)
                    return
                sys.stderr.write(b"".join(lines[first : first + _LINES_AT_ONCE]).decode())
                sys.stderr.flush()

    debug = info = collect
    warning = error = critical = write

    def _flush_in(self, seconds: float) -> bool:
        """Lets the running event loop flush, unless it will; returns whether there is one."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        if loop is not self._loop:
            self._loop = loop
            loop.call_later(seconds, self._flush_collected)
        return True

    def _flush_collected(self) -> None:
        self._loop = None
        self.flush()


def _takes_lines(wait_seconds: float) -> bool:
    """Returns whether stderr takes a page of text without a wait. A pipe with a reader that has stopped does not."""
    try:
        return bool(select.select([], [sys.stderr], [], wait_seconds)[1])
    except io.UnsupportedOperation:
        return True  # it is no file


_LINES: Final = LineLogger()
flush = _LINES.flush
atexit.register(flush, _LAST_SECONDS)


def _render(_logger: object, level: str, event: Any) -> bytes:
    """Renders a line: the fields of the event, its level, its time and the process."""
    event["level"] = level
    event["timestamp"] = datetime.now(UTC)
    event["pid"] = os.getpid()
    return orjson.dumps(event, default=str, option=_JSON)


# One list for good: a logger keeps the list of its first line, also if the log is configured anew, and tests replace
# what is in it.
_PROCESSORS: Final[list[structlog.typing.Processor]] = [_render]


def configure_logging(level: str) -> None:
    """Writes JSON lines to stderr, ours and those of the libraries."""
    structlog.configure(
        processors=_PROCESSORS,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=lambda *_: _LINES,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                lambda *line: _render(*line).decode().rstrip(),
            ]
        )
    )
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != _EXPLAINED)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING if level != "debug" else logging.INFO)
    # The driver warns of every connection that it loses or can't make; the circuit breaker logs the outage, once.
    logging.getLogger("psycopg").setLevel(logging.ERROR if level != "debug" else logging.INFO)
