"""The log where its lines can't be written, and where tests capture them."""

import errno
import io
import sys

import pytest
import structlog
from structlog.testing import capture_logs

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


def test_a_logger_is_captured_after_the_log_was_configured_anew() -> None:
    """It keeps the configuration of its first line, and each application in this process configures the log."""
    configure_logging("warning")
    logger = structlog.get_logger()
    logger.warning("first")
    configure_logging("warning")
    with capture_logs() as lines:
        logger.warning("second")
    assert [line["event"] for line in lines] == ["second"]
