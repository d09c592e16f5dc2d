"""The start and the end of a command."""

import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest
from click.testing import CliRunner

from service import __main__ as command_line
from service.database.connections import STATEMENT_SECONDS
from service.errors import Overloaded
from tests.serving import REPOSITORY, begin_with, environment

# Adds a command that gets a signal while Python runs a callback, whose exceptions are only reported.
_SIGNALLED: Final = """
import signal, sys, threading, weakref
from service.__main__ import main, run

class Subject:
    pass

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

@main.command()
def in_weak_reference():
    subject = Subject()
    reference = weakref.ref(subject, lambda _: signal.raise_signal(signal.SIGTERM))
    del subject
    threading.Event().wait(20)

@main.command()
def in_finalizer():
    Finalized()
    threading.Event().wait(20)

run()
"""


@pytest.mark.parametrize("callback", ["in-weak-reference", "in-finalizer"])
def test_a_signal_within_a_callback_ends_a_command(callback: str) -> None:
    """Imports have such callbacks, so that one is likely in a start."""
    words = [sys.executable, "-c", _SIGNALLED, callback]
    ended = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (143, "")


def test_ctrl_c_during_the_imports_shows_no_traceback(tmp_path: Path) -> None:
    """They take most of the start."""
    (tmp_path / "click.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    words = [sys.executable, "-m", "service", "check"]
    with begin_with(signal.SIG_DFL, signal.SIGINT):
        started = subprocess.Popen(
            words, env=environment({"PYTHONPATH": tmp_path}), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
        )
    _, error = started.communicate(timeout=60)
    assert (started.returncode, error) == (-signal.SIGINT, "")


def test_other_errors_of_callbacks_are_reported() -> None:
    """They are defects."""
    script = _SIGNALLED.replace("signal.raise_signal(signal.SIGTERM)", "1 / 0").replace("wait(20)", "wait(0)")
    words = [sys.executable, "-c", script, "in-finalizer"]
    ended = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0
    assert "ZeroDivisionError" in ended.stderr


def test_the_statements_of_a_check_are_not_limited_like_those_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the whole history."""
    limits: list[float] = []

    def run_on_database(*_: object, statement_seconds: float = STATEMENT_SECONDS) -> None:
        limits.append(statement_seconds)
        raise Overloaded

    monkeypatch.setattr(command_line, "configure_logging", lambda _: None)
    monkeypatch.setattr(command_line, "open_database", lambda _: nullcontext(SimpleNamespace(url="")))
    monkeypatch.setattr(command_line, "run_on_database", run_on_database)
    ended = CliRunner().invoke(command_line.main, ["check"])
    assert (ended.exit_code, len(limits)) == (2, 1), ended.output
    assert limits[0] >= 60


def run_in_shell(words: str, **settings: object) -> tuple[int, str]:
    """Runs a command with the redirections of a shell, and returns its exit status and what it wrote to stderr."""
    ended = subprocess.run(
        ["sh", "-c", f'"$0" -m service {words}', sys.executable],
        env=environment(settings),
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("catalog apply - <&-", "The file is empty"),
        ("check >&-", "The standard output is closed: redirect it, to /dev/null if the result is not needed."),
        ("--version >/dev/full", "[Errno 28] No space left on device"),
    ],
)
def test_a_stream_that_can_not_be_used_is_an_error_of_one_line(words: str, error: str) -> None:
    """No traceback, and a result that is lost is no success."""
    assert run_in_shell(words) == (2, f"Error: {error}\n")


@pytest.mark.parametrize("words", ["check", "catalog apply /nowhere"])
def test_an_error_that_can_not_be_written_is_no_violation(words: str) -> None:
    """A full disk under the log of a scheduler takes neither the report of `check` nor the error."""
    assert run_in_shell(f"{words} >/dev/full 2>&1", PORT="none") == (2, "")
