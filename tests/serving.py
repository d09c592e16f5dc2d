"""The service as operators run it: `python -m service serve`, a process of its own on a free port."""

import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final, Self

import httpx2

from service.settings import Settings
from tests.processes import children

REPOSITORY: Final = Path(__file__).parents[1]
_PRODUCTION: Final = Path(__file__).parent / "production"

# The secrets of every service that a test starts without its own.
ADMIN_TOKEN: Final = "admin-token-of-the-tests"
CRON_SECRET: Final = "cron-secret-of-the-tests"
TOKEN_SECRET: Final = "token-secret-of-the-tests"
SECRETS: Final = {"ADMIN_TOKEN": ADMIN_TOKEN, "CRON_SECRET": CRON_SECRET, "TOKEN_SECRET": TOKEN_SECRET}

# Below the ports of the embedded servers and the ephemeral ports. Each worker of pytest-xdist has its own: another one
# could take a port between its choice and the start of its server.
_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Not 10080, which browsers refuse (https://fetch.spec.whatwg.org/#port-blocking).
_PORTS: Final = [port for port in range(10_000 + _WORKER % 16, 20_000, 16) if port != 10_080]
# In the order in which they are handed out: none again before all others were, because a server binds its port seconds
# later, and leaves it while it is restarted.
_NEXT_PORTS: Final = cycle(random.sample(_PORTS, len(_PORTS)))
_READY_SECONDS: Final = 60.0
# Far less than KEEP_ALIVE_SECONDS, after which the service closes an idle connection: a request sent on it at that
# moment would fail. The rest is for a client that reads an answer late, or sends late, because the machine is busy.
_CLIENT_IDLE_SECONDS: Final = 1.0
# For all clients. Each would load the system's certificates otherwise, which takes 20 ms, and none uses TLS.
NO_CERTIFICATES: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# A state in /proc/net/tcp, where a connection that was not yet accepted has no inode.
_ESTABLISHED: Final = "01"
# Longer than the grace period of requests in flight and the shutdown of the embedded server together.
_STOP_SECONDS: Final = 60.0


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Returns the environment with these settings of the service, and without those set around the tests."""
    kept = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_PRODUCTION), kept.get("PYTHONPATH")]))
    return kept | {name: str(value) for name, value in settings.items()}


def run_command(*words: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Runs a command of the service to its end, and returns its exit status and output."""
    return subprocess.run(
        [sys.executable, "-m", "service", *words],
        # Not the usual port: a test of another worker may use it, and that would be the fault which is named.
        env=environment({"PORT": free_port()} | settings),
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=_READY_SECONDS,
        check=False,
    )


def error_of(*words: str, **settings: object) -> str:
    """Runs a command that fails, and returns the line in which it names what its operator has to change."""
    ended = run_command(*words, **settings)
    assert (ended.returncode, ended.stdout) == (2, ""), ended
    [line] = ended.stderr.splitlines()
    return line


def wait_until(condition: Callable[[], object], what: str, *, seconds: float = 30.0) -> None:
    """Returns when a condition holds; fails after `seconds`, naming what was expected."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, f"waited in vain for {what}"
        time.sleep(0.01)


@contextmanager
def begin_with(action: signal.Handlers, number: signal.Signals) -> Iterator[None]:
    """Lets the processes that are started in the block begin with this action of a signal: under `nohup make test` they
    would ignore SIGHUP, like the tests, and in the background of a script SIGINT."""
    former = signal.signal(number, action)
    try:
        yield
    finally:
        signal.signal(number, former)


class ServiceProcess:
    """A running service. As a context manager it is ready in its block, and stopped at its end."""

    def __init__(self, log: Path, **settings: object) -> None:
        self._log = log
        self._terminated = False
        self._expected_status = 0
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", "serve"],
                env=environment({"PORT": self.port, **settings}),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        self.terminate()
        status = self.wait()
        assert error is not None or status == self._expected_status, f"exit status {status}; {self._last_words()}"

    def wait_until_ready(self) -> None:
        """Returns when /health/ready answers 200."""
        wait_until(self._is_ready, "the service to be ready", seconds=_READY_SECONDS)

    def terminate(self) -> None:
        """Sends SIGTERM, once."""
        if not self._terminated:
            self._terminated = True
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL. Does nothing if the process has ended."""
        if self.process.poll() is None:
            self.process.kill()
            self._terminated = True
            self._expected_status = self.process.wait()

    def wait(self) -> int:
        """Waits for the end, and returns the exit status."""
        try:
            return self.process.wait(_STOP_SECONDS)
        finally:
            self.kill()

    def client(self, *, connections: int = 10, **headers: str) -> httpx2.AsyncClient:
        """Makes a client that keeps up to `connections` connections open."""
        limits = httpx2.Limits(
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=_CLIENT_IDLE_SECONDS,
        )
        return httpx2.AsyncClient(
            base_url=self.url, limits=limits, timeout=30, headers=headers, trust_env=False, verify=NO_CERTIFICATES
        )

    def log(self) -> str:
        """Returns the output of the service and its workers up to now."""
        return self._log.read_text(encoding="utf-8")

    def events(self, name: str) -> list[dict[str, Any]]:
        """Returns the lines of the log with this event."""
        complete, _, _ = self.log().rpartition("\n")
        lines = (json.loads(line) for line in complete.splitlines() if line.startswith("{"))
        return [line for line in lines if line["event"] == name]

    def worker_pids(self) -> set[int]:
        """Returns the pids of the workers, where there are several. Reads /proc, so it works on Linux only."""
        return children(self.process.pid, "spawn_main")

    def connections_read(self) -> int:
        """Returns the number of connections that workers accepted and read empty. Works on Linux only."""
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(
            local.endswith(f":{self.port:04X}")
            and state == _ESTABLISHED
            and queues.endswith(":00000000")
            and inode != "0"
            for _, local, _, state, queues, _, _, _, _, inode, *_ in lines
        )

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"it ended; {self._last_words()}"
        try:
            answer = httpx2.get(f"{self.url}/health/ready", timeout=30, trust_env=False, verify=NO_CERTIFICATES)
        except httpx2.TransportError:
            return False
        return answer.status_code == 200

    def _last_words(self) -> str:
        return "\n".join(["the end of its log:", *self.log().splitlines()[-20:]])


def free_port() -> int:
    """Returns a port on which no process listens, and which no recent call has returned."""
    for port in islice(_NEXT_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port from {_PORTS[0]} to {_PORTS[-1]} is free")
