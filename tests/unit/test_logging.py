"""The log where its lines can't be written or are not read, and where tests capture them."""

import asyncio
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest
import structlog
from structlog.testing import capture_logs

from service.observability import logging as logging_module
from service.observability.logging import LineLogger, configure_logging


class Broken(io.StringIO):
    """A stream that refuses everything while it has an error."""

    error: OSError | None = None

    def write(self, text: str) -> int:
        """Writes a text."""
        if self.error:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC, errno.EIO])
def test_a_line_that_can_not_be_written_is_lost_and_raises_nothing(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The reader of the pipe has gone, the disk is full, or the terminal is closed; later lines are written again."""
    stream, logger = Broken(), LineLogger()
    monkeypatch.setattr(sys, "stderr", stream)
    stream.error = OSError(number, "refused")
    logger.warning(b"lost\n")
    stream.error = None
    logger.warning(b"written\n")
    assert stream.getvalue() == "written\n"


def test_a_line_without_stderr_raises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was started with it closed (`2>&-`) has none."""
    monkeypatch.setattr(sys, "stderr", None)
    LineLogger().warning(b"lost\n")


@contextmanager
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """Makes a pipe the stderr, and returns its end for a reader. Not a fixture, of which pytest restores the stderr."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, encoding="utf-8") as reader, os.fdopen(write_end, "w", encoding="utf-8") as writer:
        monkeypatch.setattr(sys, "stderr", writer)
        yield reader


def lines(count: int) -> list[bytes]:
    """Returns numbered lines of the usual length."""
    return [f"{number:>300}\n".encode() for number in range(count)]


def test_a_reader_that_has_stopped_loses_lines_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of those that did not fit into the pipe. Once it reads on, it gets the others."""
    monkeypatch.setattr(logging_module, "_MOST_LINES", 300)
    logger = LineLogger()
    with piped(monkeypatch) as reader:
        for line in lines(1000):
            logger.warning(line)
        received = [int(reader.readline()) for _ in range(100)]
        while received[-1] != 999:
            logger.flush()
            received.append(int(reader.readline()))
    assert received[:100] == [*range(100)]
    assert received == sorted(set(received))
    assert received[-300:] == [*range(700, 1000)]
    assert len(received) < 600


@pytest.mark.anyio
async def test_a_reader_that_is_late_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the rest without another line."""
    logger = LineLogger()
    with piped(monkeypatch) as reader:
        for line in lines(1000):
            logger.info(line)
        received = await asyncio.to_thread(lambda: [reader.readline() for _ in range(1000)])
    assert [line.encode() for line in received] == lines(1000)


def test_a_logger_is_captured_after_the_log_was_configured_anew() -> None:
    """It keeps the configuration of its first line, and each application in this process configures the log."""
    configure_logging("warning")
    logger = structlog.get_logger()
    logger.warning("first")
    configure_logging("warning")
    with capture_logs() as lines:
        logger.warning("second")
    assert [line["event"] for line in lines] == ["second"]
