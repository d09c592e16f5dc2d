"""What the service says about itself: one structured line for each request and for what is worth a look at night.

No line holds personal data or a credential: requests are named by their route's template, not by their
path, and errors by their SQLSTATE, because a message may quote what a caller sent.
"""

import logging
import sys
import traceback
from contextvars import ContextVar
from typing import Final

import structlog

# What is noted about the request at hand. One dict from its first step to its last, in whichever task each is done.
_NOTES: Final[ContextVar[dict[str, object] | None]] = ContextVar("notes", default=None)


def begin_notes() -> dict[str, object]:
    """What will be noted about the request that begins here."""
    notes: dict[str, object] = {}
    _NOTES.set(notes)
    return notes


def note(**facts: object) -> None:
    """Adds facts to the line of the request at hand, if there is one. Nothing personal, and no credential."""
    if (notes := _NOTES.get()) is not None:
        notes.update(facts)


def where(error: BaseException) -> dict[str, object]:
    """Kind and place of an error, without its message: that may quote what a caller sent."""
    return {
        "error": type(error).__name__,
        "sqlstate": getattr(error, "sqlstate", None),
        "traceback": "".join(traceback.format_tb(error.__traceback__)),
    }


def configure_logging(level: str) -> None:
    """Writes JSON lines to stderr, ours and those of the libraries."""
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*processors, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING if level != "debug" else logging.INFO)
