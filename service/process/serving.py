"""`python -m service serve`: starts the database, then the workers; stops them in the reverse order."""

import errno
import gc
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from multiprocessing import parent_process
from threading import Thread
from typing import Final

import click
import structlog
import uvicorn
from starlette.applications import Starlette
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from service import __version__
from service.booking.health import unknown_timezones
from service.database.connections import TRANSACTION_SECONDS
from service.errors import Unavailable
from service.http.protocol import BoundedProtocol
from service.observability.logging import configure_logging, error_fields
from service.observability.metrics import forget_process
from service.process.hosting import HostingError, complete_settings, host_database, make_demo_catalog, run_on_database
from service.process.metrics_folder import metrics_folder
from service.settings import SECRET_CHARACTERS, SECRETS, Settings

# After SIGTERM, requests in progress may take this long: the sum of the slowest look-up and the slowest batch.
_GRACE_SECONDS = 25
# After SIGTERM, a worker may take this long: for the requests in progress, and then to close its connections. The time
# limits in deploy/ are longer.
STOP_SECONDS: Final = _GRACE_SECONDS + 2 * TRANSACTION_SECONDS
# Connections that the kernel queues until a worker accepts them: enough for a burst, and for the time of a restart.
_BACKLOG = 2048
# The receive buffer of a connection: enough for a request. Left to itself, the kernel would let it grow to 6 MB.
_RECEIVE_BUFFER_BYTES = 64 * 1024
# The send buffer, which keeps an answer until the client takes it. For a client on the same machine that reads nothing,
# it would grow to 2.6 MB, and copying half a megabyte takes longer than everything else that is done for the request.
_SEND_BUFFER_BYTES = 256 * 1024
_SECRET_HINT: Final = f"at least {SECRET_CHARACTERS} characters: make one with `openssl rand -hex 32`"

log = structlog.get_logger(__name__)


def serve(settings: Settings) -> None:
    """Serves until SIGTERM, SIGHUP or Ctrl-C, then finishes the requests in progress. Exits with `STARTUP_FAILURE` if a
    worker can't start. Raises `HostingError`, `EmbeddedServerError` or `MigrationError`."""
    # Uvicorn raises its signal again after it has stopped. The default handler would end the process at once, before
    # the database is stopped.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    # A terminal that is closed sends SIGHUP. By default it ends this process at once, and leaves the embedded database
    # running. `nohup` has the process ignore it.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    with host_database(settings) as database, _listen(settings.host, settings.port) as listening:
        # Completed first, so that a service with missing settings does not migrate; and the port is bound before the
        # secrets are generated, because they are shown only once.
        complete, generated = complete_settings(settings, database)
        database.migrate()
        _warn_of_unknown_timezones(database.url)
        for name in complete.short_secrets():
            log.warning("secret_too_short", setting=name, hint=_SECRET_HINT)
        if database.embedded:
            _print_secrets(complete, generated)
            run_on_database(database.url, make_demo_catalog)
            page = "/book/salon-rosa" if complete.pages_enabled else "/docs"  # of the demo catalog
            _tell(f"Serving on {_url(listening)} — try {page}")
        _export_settings(complete)
        log.info(
            "starting",
            version=__version__,
            address=_url(listening),
            workers=complete.workers,
            database=database.address,
            embedded=database.embedded,
        )
        config = server_config(complete)
        try:
            started = _run_workers(config, listening) if complete.workers > 1 else _run_alone(config, listening)
        finally:
            log.info("stopped")
        if not started:
            sys.exit(STARTUP_FAILURE)


def server_config(settings: Settings) -> uvicorn.Config:
    """Returns the configuration of the server in every process."""
    return uvicorn.Config(
        "service.process.serving:make_app",
        factory=True,
        http=BoundedProtocol,
        workers=settings.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


def _warn_of_unknown_timezones(url: str) -> None:
    """Logs the time zones of businesses that the database server does not know, as after an upgrade of its data."""
    with suppress(Unavailable):  # the workers wait for a database that does not answer yet
        if unknown := run_on_database(url, unknown_timezones):
            log.warning("unknown_timezones", timezones=sorted(unknown), businesses=sum(unknown.values()))


def make_app() -> Starlette:
    """Creates the application of one process, with the settings of the environment.

    Exits with `STARTUP_FAILURE` on any error: the supervisor then ends instead of starting another process in vain.
    """
    gc.disable()
    # A terminal sends SIGHUP to the workers too. The supervisor stops them; by default they would end at once.
    if parent_process():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        settings = Settings()
        configure_logging(settings.log_level)
        # Imported here, because the import itself may fail.
        from service.process.app import create_app

        app = create_app(settings)
    except Exception as error:
        log.error("start_failed", **error_fields(error))
        sys.exit(STARTUP_FAILURE)
    _settle_memory()
    return app


def _settle_memory() -> None:
    """Exempts the objects of start-up from garbage collection, and collects only where objects pile up.

    Modules, models and routes live as long as the process: visiting them took 5 % of a worker's time under load. The
    garbage among them is half a megabyte, and stays: to look for it would take a tenth of the start. Requests and
    connections leave no reference cycles, so little is found: a collection for each 1,000 new objects took 4 % of a
    worker's time, and stopped it for up to 20 ms. More than 10,000 exist only as hundreds of connections are made: 5
    collections in 60,000 requests of up to 390 connections, of 8 ms at most.
    """
    gc.freeze()
    gc.set_threshold(10_000, 5, 1_000)
    gc.enable()


def _listen(host: str, port: int) -> socket.socket:
    """Listens on a TCP socket. Port 0 selects a free port; host `::` also accepts IPv4. Raises `HostingError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise HostingError(f"Port {port} of {host} is taken: choose another PORT.") from None
        reason = str(error.strerror).partition(" (while")[0]
        raise HostingError(f"Port {port} of {host} can't be had: {reason}. Choose another HOST or PORT.") from None
    # The accepted connections inherit it.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    return listening


def _url(listening: socket.socket) -> str:
    host, port, *_ = listening.getsockname()
    return f"http://[{host}]:{port}" if listening.family == socket.AF_INET6 else f"http://{host}:{port}"


def _run_alone(config: uvicorn.Config, listening: socket.socket) -> bool:
    server = uvicorn.Server(config)
    server.run([listening])
    return server.started


def _run_workers(config: uvicorn.Config, listening: socket.socket) -> bool:
    with metrics_folder() as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        workers = _Workers(config, [listening])
        workers.run()
    return all(process.exitcode != STARTUP_FAILURE for process in workers.processes)


class _Workers(Multiprocess):
    """Uvicorn's supervisor."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        hangup = signal.getsignal(signal.SIGHUP)
        super().__init__(config, sockets)
        signal.signal(signal.SIGHUP, hangup)  # uvicorn would replace the workers
        for stop in (signal.SIGTERM, signal.SIGINT):
            signal.signal(stop, self._stop)
        self._known: set[int] = set()

    def keep_subprocess_alive(self) -> None:
        """Replaces the workers that ended, logs them, and drops their gauges; called twice a second."""
        self._known |= self._pids()
        former = list(self.processes)
        super().keep_subprocess_alive()
        for process in former:
            if process not in self.processes:
                log.warning("worker_replaced", worker_pid=process.pid, exit_status=process.exitcode)
        for pid in self._known - self._pids():
            forget_process(pid)
        self._known = self._pids()

    def terminate_all(self) -> None:
        """Stops the workers, and closes the port: once the workers have, the kernel would accept connections that are
        never served."""
        for listening in self.sockets:
            listening.close()
        super().terminate_all()

    def join_all(self) -> None:
        """Waits for the workers, and kills those that don't end: a frozen one would be waited for without limit."""
        give_up_at = time.monotonic() + STOP_SECONDS
        for worker in self.processes:
            worker.process.join(max(0.0, give_up_at - time.monotonic()))
            if worker.exitcode is None:
                log.warning("worker_killed", worker_pid=worker.pid)
                worker.kill()
        super().join_all()

    def _stop(self, *_: object) -> None:
        """Ends the supervisor's waits at once: for its next look at the workers, and for the answers of those that are
        starting, or have ended because the signal reached them too."""
        # By a thread, because this one may hold the lock of the event.
        Thread(target=self.should_exit.set, daemon=True).start()
        for process in self.processes:
            with suppress(OSError):  # closed, because it is being replaced
                process.child_conn.send(True)

    def _pids(self) -> set[int]:
        return {process.pid for process in self.processes if process.pid}


def _export_settings(settings: Settings) -> None:
    """Writes the completed settings to the environment, from which the worker processes read theirs."""
    for name in ("database_url", *SECRETS):
        os.environ[name.upper()] = getattr(settings, name).get_secret_value()
    os.environ["CLEANUP_INTERVAL_SECONDS"] = str(settings.cleanup_interval_seconds)


def _print_secrets(settings: Settings, generated: list[str]) -> None:
    _tell(f"PostgreSQL is embedded and keeps its data in {settings.data_dir.resolve()}")
    if generated:
        _tell("These secrets were generated, are kept in secrets.json there, and are not shown again:")
    for name in generated:
        _tell(f"  export {name.upper()}={getattr(settings, name).get_secret_value()}")


def _tell(line: str) -> None:
    """Prints a line for the person who starts the service, which goes on without a reader, as the log does."""
    with suppress(OSError):
        click.echo(line, err=True)
