"""`holdfast serve`: the database, then the workers; at the end the workers, then the database."""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from tempfile import TemporaryDirectory
from types import FrameType
from typing import NoReturn

import click
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from service.database.connections import Database
from service.database.migrations import migrate
from service.demo import make_demo_catalog
from service.hosting import HostedDatabase, completed, hosted
from service.http.protocol import BoundedProtocol
from service.metrics import forget_process
from service.settings import Settings

# What is in flight when SIGTERM comes has this long to be answered: a look-up and a call, both at their slowest.
_GRACE_SECONDS = 25


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or Ctrl-C, and lets what is in flight finish."""
    # Uvicorn hands its signal on when it has stopped; it must not end this process before the database's turn.
    signal.signal(signal.SIGTERM, _exit)
    with hosted(settings) as database:
        # First what may be missing: a service that can't start must not migrate either.
        complete, made = completed(settings, database)
        migrate(database.migration_url)
        if database.embedded:
            _welcome(complete, made)
            asyncio.run(_first_start(database))
        _hand_to_workers(complete)
        config = uvicorn.Config(
            "service.app:create_app",
            factory=True,
            http=BoundedProtocol,
            host=complete.host,
            port=complete.port,
            workers=complete.workers,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        if complete.workers > 1:
            _serve_by_workers(config)
        else:
            _serve_alone(config)


def _serve_alone(config: uvicorn.Config) -> None:
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def _serve_by_workers(config: uvicorn.Config) -> None:
    """What each worker counts is in a folder that is new at each start, and so holds nothing of an earlier service."""
    with TemporaryDirectory(prefix="holdfast-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        _Workers(config, [config.bind_socket()]).run()


class _Workers(Multiprocess):
    """Uvicorn's supervisor, with an eye on the gauges: those of a worker that has ended are no longer true."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self._known: set[int] = set()

    def keep_subprocess_alive(self) -> None:
        """Is called twice a second."""
        self._known |= self._pids()
        super().keep_subprocess_alive()
        for pid in self._known - self._pids():
            forget_process(pid)
        self._known = self._pids()

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


def _welcome(settings: Settings, made: list[str]) -> None:
    """Shows, once, the secrets that were made."""
    click.echo(f"PostgreSQL is embedded and keeps its data in {settings.data_dir.resolve()}", err=True)
    if made:
        click.echo("These secrets were generated, are kept in secrets.json there, and are not shown again:", err=True)
    for name in made:
        click.echo(f"  export {name.upper()}={getattr(settings, name).get_secret_value()}", err=True)
    click.echo(f"Serving on http://{settings.host}:{settings.port} — try /docs", err=True)
