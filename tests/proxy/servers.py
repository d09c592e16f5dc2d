"""PostgreSQL servers that a test starts, kills and starts again: a proxy with PL/Proxy, and the nodes behind it."""

import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg

from service.embedded.cluster import find_programs
from service.embedded.postmaster import recorded_postmaster
from service.embedded.privileges import choose_account
from tests.serving import free_port, wait_until

# Debian's package; there is no PL/Proxy for the embedded server.
PROXY_PROGRAMS: Final = Path("/usr/lib/postgresql/15/bin")
PLPROXY_IS_MISSING: Final = "PL/Proxy is missing: apt-get install postgresql-15-plproxy"
PLPROXY: Final = PROXY_PROGRAMS.parent / "lib" / "plproxy.so"
NODE_PROGRAMS: Final = find_programs(18)

# Nothing has to survive a power cut, and each server has a few connections for every connection of the service.
_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "fsync": "off",
    "full_page_writes": "off",
    "timezone": "Pacific/Apia",
    "datestyle": "SQL, DMY",
}
_PASSWORD: Final = "superuser"
_READY_SECONDS: Final = 60.0


class Server:
    """A cluster in a folder, made from the programs of any PostgreSQL, and its server, which keeps its port."""

    def __init__(self, programs: Path, folder: Path, settings: Mapping[str, str] = {}) -> None:
        folder.mkdir()
        self.folder = folder / "data"
        self.port = free_port()
        self._programs = programs
        self._log = folder / "log"
        self._account = choose_account(programs / "postgres", folder)
        self._settings = {**_SETTINGS, "port": str(self.port), **settings}
        self._superuser = f"postgres:{_PASSWORD}"
        self._child: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """Makes the cluster."""
        password = self._log.with_name("password")
        password.write_text(_PASSWORD)
        password.chmod(0o644)
        self._own(self._log.parent)
        self._run(
            "initdb",
            f"--pgdata={self.folder}",
            "--username=postgres",
            f"--pwfile={password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        )

    def copy_of(self, source_url: str) -> None:
        """Makes the cluster a streaming standby of another one, with its data of now and its superuser."""
        self._superuser = urlsplit(source_url).netloc.rpartition("@")[0]
        self._own(self._log.parent)
        self._run("pg_basebackup", f"--pgdata={self.folder}", f"--dbname={source_url}", "--checkpoint=fast", "-R")

    def start(self) -> None:
        """Starts the server, and returns when it accepts connections. The cluster may be one that a test unpacked."""
        self._own(self._log.parent)
        arguments = ["-D", str(self.folder)]
        for name, value in self._settings.items():
            arguments += ["-c", f"{name}={value}"]
        with self._log.open("ab") as output:
            self._child = self._account.spawn(self._programs / "postgres", arguments, output)
        give_up_at = time.monotonic() + _READY_SECONDS
        while not ((found := recorded_postmaster(self.folder)) and found.ready and found.pid == self._child.pid):
            assert self._child.poll() is None, self._log.read_text()
            assert time.monotonic() < give_up_at, self._log.read_text()
            time.sleep(0.01)

    def kill(self) -> None:
        """Kills the server and its backends with SIGKILL, as a machine that is switched off.

        Returns when all of them have ended: a server does not start while a backend has the shared memory of the last.
        """
        assert self._child
        backends = [os.pidfd_open(backend) for backend in _stopped(self._child)]
        for backend in backends:
            signal.pidfd_send_signal(backend, signal.SIGKILL)
        self._child.kill()
        self._child.wait()
        self._child = None
        for backend in backends:
            select.select([backend], [], [])
            os.close(backend)

    def freeze(self) -> None:
        """Stops the server and its backends: it keeps its connections, and answers nothing."""
        assert self._child
        for backend in _stopped(self._child):
            os.kill(backend, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets a frozen server go on."""
        assert self._child
        for process in (*_children(self._child.pid), self._child.pid):
            os.kill(process, signal.SIGCONT)

    def stop(self) -> None:
        """Stops the server, if it runs: connections are closed, transactions rolled back."""
        if self._child:
            self._child.send_signal(signal.SIGINT)
            self._child.wait()
            self._child = None

    def end_of_log(self) -> str:
        """Returns the position up to which a stopped server has written: that of the checkpoint by which it stopped."""
        command = [self._programs / "pg_controldata", self.folder]
        said = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        [position] = re.findall(r"Latest checkpoint location: +(\S+)", said)
        return str(position)

    def wait_for_replay(self, position: str) -> None:
        """Returns once the server, a standby, has replayed what is before a position of its primary."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            query = "SELECT FROM pg_is_in_recovery() WHERE pg_last_wal_replay_lsn() >= %s::pg_lsn"
            wait_until(lambda: connection.execute(query, [position]).rowcount, f"the replay to reach {position}")

    @property
    def is_running(self) -> bool:
        """Whether the server has not ended."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        """The process whose descendants are the server's."""
        assert self._child
        return self._child.pid

    def url(self, database: str = "postgres", login: str | None = None) -> str:
        """Returns the URL of a database on this server; without a login, of its superuser."""
        return f"postgresql://{login or self._superuser}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Runs a statement as superuser."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _run(self, program: str, *arguments: str) -> None:
        with self._log.open("ab") as output:
            status = self._account.spawn(self._programs / program, arguments, output).wait()
        assert status == 0, self._log.read_text()

    def _own(self, folder: Path) -> None:
        self._account.take_ownership(folder)


def plproxy_is_installed() -> bool:
    """Returns whether this machine has PL/Proxy."""
    return PLPROXY.exists() and shutil.which(str(PROXY_PROGRAMS / "postgres")) is not None


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _stopped(postmaster: subprocess.Popen[bytes]) -> list[int]:
    """Stops a postmaster, and returns its backends: while it runs, it starts new ones and buries those that end."""
    postmaster.send_signal(signal.SIGSTOP)
    # It takes notice after the call that sends the signal.
    os.waitid(os.P_PID, postmaster.pid, os.WSTOPPED | os.WNOWAIT)
    return _children(postmaster.pid)
