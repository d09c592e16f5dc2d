"""`holdfast serve`: the database, then the workers; at the end the workers, then the database."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Final, NoReturn

import click
import structlog
import uvicorn
from starlette.applications import Starlette
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from service.database.connections import Database
from service.http.protocol import BoundedProtocol
from service.observability.logging import configure_logging, error_fields
from service.observability.metrics import forget_process
from service.process.demo import make_demo_catalog
from service.process.hosting import HostedDatabase, completed, hosted, migrated
from service.process.listening import listen, url
from service.settings import SECRET_CHARACTERS, Settings

# What is in flight when SIGTERM comes has this long to be answered: a look-up and a call, both at their slowest.
_GRACE_SECONDS = 25
_LONGER: Final = f"at least {SECRET_CHARACTERS} characters: make one with `openssl rand -hex 32`"

log = structlog.get_logger(__name__)


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or Ctrl-C, and lets what is in flight finish."""
    # Uvicorn hands its signal on when it has stopped; it must not end this process before the database's turn.
    signal.signal(signal.SIGTERM, _exit)
    with hosted(settings) as database, listen(settings.host, settings.port) as listening:
        # First what may be missing: a service that can't start must not migrate either. And it has its port before it
        # makes secrets, which are shown only once.
        complete, made = completed(settings, database)
        migrated(database)
        for name in complete.short_secrets():
            log.warning("secret_too_short", setting=name, hint=_LONGER)
        if database.embedded:
            _show(complete, made)
            asyncio.run(_first_start(database))
            click.echo(f"Serving on {url(listening)} — try /docs", err=True)
        _hand_to_workers(complete)
        config = uvicorn.Config(
            "service.process.serving:make_app",
            factory=True,
            http=BoundedProtocol,
            workers=complete.workers,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        if complete.workers > 1:
            _serve_by_workers(config, listening)
        else:
            _serve_alone(config, listening)


def make_app() -> Starlette:
    """The application of one process. If it can't be made, the next process could not make it either: so all end."""
    try:
        settings = Settings()
        configure_logging(settings.log_level)
        # Here, because that may be what fails.
        from service.process.app import create_app

        return create_app(settings)
    except Exception as error:
        log.error("start_failed", **error_fields(error))
        sys.exit(STARTUP_FAILURE)


def _serve_alone(config: uvicorn.Config, listening: socket.socket) -> None:
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):
        server.run([listening])
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def _serve_by_workers(config: uvicorn.Config, listening: socket.socket) -> None:
    """What each worker counts is in a folder that is new at each start, and so holds nothing of an earlier service."""
    with TemporaryDirectory(prefix="holdfast-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        workers = _Workers(config, [listening])
        workers.run()
    if any(process.exitcode == STARTUP_FAILURE for process in workers.processes):
        sys.exit(STARTUP_FAILURE)


class _Workers(Multiprocess):
    """Uvicorn's supervisor, which tells of workers that ended, and leaves nobody waiting at its port in the end."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self._known: set[int] = set()

    def keep_subprocess_alive(self) -> None:
        """Is called twice a second."""
        self._known |= self._pids()
        former = list(self.processes)
        super().keep_subprocess_alive()
        for process in former:
            if process not in self.processes:
                log.warning("worker_replaced", pid=process.pid, exit_status=process.exitcode)
        # The gauges of a worker that has ended are no longer true.
        for pid in self._known - self._pids():
            forget_process(pid)
        self._known = self._pids()

    def terminate_all(self) -> None:
        """Is called once, at the end."""
        # The workers close theirs, but a port is open as long as anybody has it: the kernel would go on taking
        # connections, and nobody would ever answer them.
        for listening in self.sockets:
            listening.close()
        super().terminate_all()

    def _pids(self) -> set[int]:
        return {process.pid for process in self.processes if process.pid}


def _exit(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


async def _first_start(database: HostedDatabase) -> None:
    connections = Database(database.url, connections=1)
    await connections.open()
    try:
        await make_demo_catalog(connections)
    finally:
        await connections.close()


def _hand_to_workers(settings: Settings) -> None:
    """Workers are processes of their own, and read their settings from the environment."""
    for name in ("database_url", "admin_token", "cron_secret", "token_secret"):
        os.environ[name.upper()] = getattr(settings, name).get_secret_value()
    os.environ["CLEANUP_INTERVAL_SECONDS"] = str(settings.cleanup_interval_seconds)


def _show(settings: Settings, made: list[str]) -> None:
    """Says where the data is, and shows, once, the secrets that were made."""
    click.echo(f"PostgreSQL is embedded and keeps its data in {settings.data_dir.resolve()}", err=True)
    if made:
        click.echo("These secrets were generated, are kept in secrets.json there, and are not shown again:", err=True)
    for name in made:
        click.echo(f"  export {name.upper()}={getattr(settings, name).get_secret_value()}", err=True)
