"""The supervisor of the workers."""

import signal
import socket
from collections.abc import Iterator

import pytest
import uvicorn

from service.process.serving import _Workers


@pytest.fixture
def workers() -> Iterator[_Workers]:
    """Returns a supervisor without workers, whose handlers of signals end with the test."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    former = [signal.getsignal(number) for number in numbers]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield _Workers(uvicorn.Config("none:app"), [listening])
    for number, handler in zip(numbers, former, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_the_port_is_closed_with_the_signal(workers: _Workers, sent: signal.Signals) -> None:
    """Ctrl-C reaches the workers at the same time: nobody would serve what the kernel accepts from then on."""
    workers.keep_subprocess_alive()
    signal.raise_signal(sent)
    assert workers.sockets[0].fileno() == -1
    assert workers.signal_queue == [sent]


def test_a_worker_that_starts_gets_the_port(workers: _Workers) -> None:
    """The signal is handled once it has started."""
    signal.raise_signal(signal.SIGTERM)
    assert workers.sockets[0].fileno() != -1
    workers.handle_signals()
    assert workers.should_exit.is_set()
