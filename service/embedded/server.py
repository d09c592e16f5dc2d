"""The embedded server: PostgreSQL as a child process, for machines without a server.

Three failures are handled: if postgres dies, a supervisor thread restarts it on the same port; if the service dies, the
next start stops its orphaned postgres; if the service is started twice, a lock on the data folder admits one of them.
"""

import os
import random
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Self

import psycopg
import structlog

from service.embedded.cluster import HOST, INSTALLATIONS, Cluster, find_programs, lock_folder, superuser_password
from service.embedded.postmaster import (
    ENDINGS,
    POLL_SECONDS,
    Postmaster,
    recorded_postmaster,
    remove_foreign_pid_file,
    running_postmaster,
    stop_orphan,
)
from service.embedded.privileges import EmbeddedServerError, choose_account

log = structlog.get_logger(__name__)

# Below the range of client ports (from 32768 on Linux): otherwise a client that reconnects while postgres is down could
# be assigned this port as its own and connect to itself.
PORTS = range(20_000, 30_000)
# A start fails if another program took the port, or while backends of a killed postmaster still hold its shared memory.
# Both are temporary; the second ends with their queries.
START_DELAYS_SECONDS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
# The supervisor retries without limit, because a full disk may be emptied.
FIRST_DELAY_SECONDS = 0.05
LAST_DELAY_SECONDS = 2.0
# After this uptime a start counts as successful, and the delay is reset.
SETTLED_SECONDS = 10.0
# Long enough to replay max_wal_size after a crash.
READY_SECONDS = 60.0

SETTINGS = {
    "listen_addresses": HOST,
    # No socket: its path is limited to 107 characters, and a data folder's path may be longer.
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "min_wal_size": "128MB",
    "max_wal_size": "1GB",
    # The queries are short: compiling one takes longer than running it.
    "jit": "off",
    "logging_collector": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


class EmbeddedServer:
    """A PostgreSQL server that this process starts, supervises and stops; a context manager.

    Stores everything in `data_dir`, with a cluster for each `major` version, 16 or 18. `settings` override `SETTINGS`.
    """

    def __init__(self, data_dir: Path, *, major: int = 18, settings: Mapping[str, str] = {}) -> None:
        self._cluster = Cluster(data_dir.resolve(), major)
        self._settings = {**SETTINGS, **settings}
        self._port = 0
        self._lock: int | None = None
        self._child: Popen[bytes] | None = None
        self._supervisor: threading.Thread | None = None
        self._stopping = threading.Event()
        # Held while restarting postgres and while deciding to stop it, so that no restart follows a stop.
        self._guard = threading.Lock()

    def start(self) -> None:
        """Starts the server and its supervisor; returns when it accepts connections. Raises `EmbeddedServerError`."""
        programs = find_programs(self._cluster.major)
        self._lock = lock_folder(self._cluster.data_dir)
        try:
            self._stopping.clear()
            self._prepare(programs)
            self._launch()
            supervisor = threading.Thread(target=self._supervise, name="embedded-postgres", daemon=True)
            supervisor.start()
        except BaseException:  # also that of a signal
            self.stop()
            raise
        self._supervisor = supervisor

    def stop(self) -> None:
        """Stops the server, if it runs, and unlocks the folder. Open transactions are rolled back."""
        with self._guard:
            self._stopping.set()
            child, self._child = self._child, None
        if child:
            _end(child)
        elif self._lock is not None:
            # A signal may have interrupted the launch before the process was known.
            stop_orphan(self._cluster.folder)
        if self._supervisor:
            self._supervisor.join()
            self._supervisor = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def has_data(self) -> bool:
        """Returns whether the cluster exists. Raises `EmbeddedServerError` if this user may not read the folder."""
        with _readable(self._cluster.data_dir):
            return self._cluster.folder.exists()

    def url(self) -> str:
        """Returns the superuser's URL, password included; valid once the server has started."""
        return self._cluster.url(self._port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _prepare(self, programs: Path) -> None:
        cluster = self._cluster
        for major in INSTALLATIONS:
            stop_orphan(Cluster(cluster.data_dir, major).folder)
        self._program = programs / "postgres"
        self._account = choose_account(self._program, cluster.data_dir)
        superuser_password(cluster.data_dir)  # raises if it is lost, before anything is created
        cluster.log.touch(mode=0o600)
        if not cluster.folder.exists():
            cluster.create(programs, self._account)
        self._account.take_ownership(cluster.folder)
        remove_foreign_pid_file(cluster.folder)

    def _launch(self) -> None:
        for delay in START_DELAYS_SECONDS:
            time.sleep(delay)
            self._port = _free_port()
            self._child = self._spawn()
            if self._becomes_ready(self._child):
                return
        raise EmbeddedServerError(f"PostgreSQL doesn't start. {self._cluster.log_tail()}")

    def _spawn(self) -> Popen[bytes]:
        arguments = ["-D", str(self._cluster.folder)]
        for name, value in {**self._settings, "port": str(self._port)}.items():
            arguments += ["-c", f"{name}={value}"]
        with self._cluster.log.open("ab") as output:
            return self._account.spawn(self._program, arguments, output)

    def _becomes_ready(self, child: Popen[bytes]) -> bool:
        """Waits until the server accepts connections; returns False if it ended instead."""
        ready = Postmaster(child.pid, self._port, ready=True)
        deadline = time.monotonic() + READY_SECONDS
        while child.poll() is None:
            if recorded_postmaster(self._cluster.folder) == ready:
                _check_login(self.url())
                return True
            if time.monotonic() > deadline:
                tail = self._cluster.log_tail()
                raise EmbeddedServerError(f"PostgreSQL isn't ready after {READY_SECONDS:.0f} s. {tail}")
            time.sleep(POLL_SECONDS)
        return False

    def _supervise(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while child := self._child:
            since = time.monotonic()
            status = child.wait()
            if time.monotonic() - since > SETTLED_SECONDS:
                delay = FIRST_DELAY_SECONDS
            if self._stopping.wait(delay):
                return
            delay = min(2 * delay, LAST_DELAY_SECONDS)
            self._restart(status)

    def _restart(self, status: int) -> None:
        with self._guard:
            if self._stopping.is_set():
                return
            if status > 0:  # it was not killed, but gave up: for lack of space, its port, or a part of its data
                reason = f"it ended with status {status}: see the end of {self._cluster.log}"
                log.error("embedded_postgres_cannot_restart", reason=reason)
            try:
                self._child = child = self._spawn()
            except OSError as error:
                log.error("embedded_postgres_cannot_restart", reason=str(error))
                return
            if status <= 0:
                log.warning("embedded_postgres_restarted", exit_status=status, postgres_pid=child.pid, port=self._port)


def find_running(data_dir: Path) -> str | None:
    """Returns the superuser's URL of the server that any process runs on a data folder, or None. Raises
    `EmbeddedServerError` if this user may not read the folder."""
    with _readable(data_dir):
        for major in INSTALLATIONS:
            cluster = Cluster(data_dir.resolve(), major)
            if found := running_postmaster(cluster.folder):
                return cluster.url(found.port)
    return None


@contextmanager
def _readable(data_dir: Path) -> Iterator[None]:
    """Turns a `PermissionError` into an `EmbeddedServerError` with a remedy."""
    try:
        yield
    except PermissionError as error:
        raise EmbeddedServerError(
            f"{data_dir.resolve()} can't be read by this user ({error}). "
            "Run this as the user who runs the service, or choose another DATA_DIR, or set DATABASE_URL."
        ) from error


def _end(child: Popen[bytes]) -> None:
    for number, seconds in ENDINGS:
        child.send_signal(number)
        with suppress(TimeoutExpired):
            child.wait(seconds)
            return


def _free_port() -> int:
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise EmbeddedServerError(f"No port from {PORTS[0]} to {PORTS[-1]} is free on {HOST}.")


def _check_login(url: str) -> None:
    try:
        psycopg.connect(url, connect_timeout=10).close()
    except psycopg.OperationalError as error:
        raise EmbeddedServerError(
            f"PostgreSQL is running but refuses our login: {error}. "
            "Is postgres.password the one that this data folder was made with?"
        ) from error
