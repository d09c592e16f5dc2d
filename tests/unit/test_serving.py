"""The supervisor of the workers."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from multiprocessing import get_context
from threading import Timer

import pytest
import uvicorn
from structlog.testing import capture_logs
from uvicorn.supervisors.multiprocess import Process

from service.process import serving
from service.process.serving import STOP_SECONDS, _Workers, server_config
from service.settings import Settings
from tests.serving import begin_with


@pytest.fixture
def workers() -> Iterator[_Workers]:
    """Returns a supervisor without workers. Those that it gets, and its handlers of signals, end with the test."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    former = [signal.getsignal(number) for number in numbers]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        supervisor = _Workers(uvicorn.Config("none:app"), [listening])
        supervisor.processes_num = 0
        yield supervisor
    for process in supervisor.processes:
        process.kill()
        process.join()
    for number, handler in zip(numbers, former, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_supervisor_and_closes_the_port(workers: _Workers, sent: signal.Signals) -> None:
    """The workers have closed theirs: nobody would serve what the kernel accepts from then on."""
    signal.raise_signal(sent)
    workers.run()
    assert workers.sockets[0].fileno() == -1


def test_a_signal_ends_the_wait_for_a_worker_that_is_starting(workers: _Workers) -> None:
    """A worker that does not answer yet would be waited for, killed and replaced."""
    starting = Process(workers.config, [])
    starting.process = get_context("spawn").Process(target=time.sleep, args=(60,))
    starting.start()
    workers.processes.append(starting)
    Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM]).start()
    workers.keep_subprocess_alive()
    assert workers.processes == [starting]
    assert starting.process.is_alive()


def test_a_frozen_worker_is_killed_after_the_time_for_a_stop(
    workers: _Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be waited for without limit. Here it ignores SIGTERM. The log names it."""
    monkeypatch.setattr(serving, "STOP_SECONDS", 0.5)
    for action in (signal.SIG_DFL, signal.SIG_IGN):
        worker = Process(workers.config, [])
        worker.process = get_context("spawn").Process(target=time.sleep, args=(60,))
        with begin_with(action, signal.SIGTERM):
            worker.start()
        workers.processes.append(worker)
    workers.terminate_all()
    with capture_logs() as lines:
        workers.join_all()
    assert [worker.exitcode for worker in workers.processes] == [-signal.SIGTERM, -signal.SIGKILL]
    assert lines == [{"event": "worker_killed", "log_level": "warning", "worker_pid": workers.processes[1].pid}]


def test_requests_that_do_not_end_are_waited_for_with_a_limit() -> None:
    """By default uvicorn waits for them without one, and what stops the service kills it after its own limit."""
    limit = server_config(Settings()).timeout_graceful_shutdown
    assert limit is not None
    assert 0 < limit < STOP_SECONDS
