"""The command line: `python -m service serve`, `migrate`, `cleanup`, `check`, `catalog`.

Modules that only some commands need are imported by these: the models of the catalog take a quarter of a start.
"""

import gc

# The objects of modules live as long as the process: the garbage collector would visit them in vain.
gc.disable()

import signal

# Ctrl-C during the imports ends the process without a traceback, as SIGTERM does.
if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from io import BytesIO, TextIOWrapper
from typing import BinaryIO

import click
import psycopg
from pydantic import ValidationError

from service import __version__
from service.database.failures import is_unable
from service.database.migrations import MigrationError
from service.embedded.privileges import EmbeddedServerError
from service.errors import HoldfastError
from service.observability.logging import configure_logging, error_name
from service.process.hosting import HostingError, open_database, run_on_database
from service.settings import Settings

gc.freeze()
gc.enable()

# The invariants are checked over the whole history, and no request waits for the result.
_CHECK_SECONDS = 3600
# A catalog with thousands of entries takes seconds at its first time, while only the bookings of its business wait.
_CATALOG_SECONDS = 60


@contextmanager
def _settings() -> Iterator[Settings]:
    """Reads the settings, and turns each error that the operator can fix into one line of text and exit status 2."""
    try:
        settings = Settings()
        configure_logging(settings.log_level)
        yield settings
    except ValidationError as error:
        faults = error.errors(include_input=False)
        texts = (f"{str(fault['loc'][0]).upper()}: {fault['msg'].removeprefix('Value error, ')}" for fault in faults)
        raise _Stop("; ".join(texts)) from None
    except (EmbeddedServerError, HostingError, MigrationError) as error:
        raise _Stop(str(error)) from None
    except HoldfastError as error:
        raise _Stop(_trouble(error.__cause__) or error.detail) from None
    except BrokenPipeError:
        # The reader of the output has read enough. The work is done, and the exit status tells its result.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise _Stop(str(error)) from None
    except psycopg.Error as error:
        # Without the error's own message, which may quote stored data.
        refused = f"The database refused ({error_name(error)}): is it migrated, and may this role use it? Run migrate."
        raise _Stop(_trouble(error) or refused) from None


def _trouble(error: BaseException | None) -> str | None:
    """Returns the message for a server that can't work; None for any other error."""
    if error and is_unable(error):
        return f"The database cannot work ({error_name(error)}, {type(error).__name__}): see its log."
    return None


class _Stop(click.ClickException):
    exit_code = 2


@click.group()
@click.version_option(__version__, message="holdfast %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Holds a scarce slot for a while and then confirms it."""
    # None for a stream that is closed: click can't read it, and writes nothing without an error.
    if sys.stdin is None:
        sys.stdin = TextIOWrapper(BytesIO())
    if sys.stdout is None and context.invoked_subcommand != "serve":
        raise _Stop("The standard output is closed: redirect it, to /dev/null if the result is not needed.")


@main.command()
def serve() -> None:
    """Serve HTTP; without DATABASE_URL, on an embedded PostgreSQL.

    Everything is set by the environment: HOST, PORT, DATABASE_URL and the others are in README.md, under Running it.
    """
    with _settings() as settings:
        from service.process.serving import serve as serve_http

        serve_http(settings)


@main.command()
def migrate() -> None:
    """Bring the database to the schema of this version."""
    with _settings() as settings, open_database(settings, create=True) as database:
        click.echo("\n".join(database.migrate()) or "nothing to do")


@main.command()
def cleanup() -> None:
    """Purge once: mark expired holds, delete old reservations, and erase guests' data after its retention."""
    from service.booking.cleanup import Cleanup

    with _settings() as settings, open_database(settings) as opened:
        retention = timedelta(hours=settings.idempotency_window_hours)
        report = run_on_database(opened.url, lambda database: Cleanup(database, retention=retention).run())
        click.echo(report.model_dump_json())


@main.command()
def check() -> None:
    """Check the invariants, the time zones and the slugs of businesses; exit status 1 if one is wrong."""
    from service.booking import health

    with _settings() as settings:
        with open_database(settings) as opened:
            found = run_on_database(opened.url, health.check, statement_seconds=_CHECK_SECONDS)
        for invariant, count in found.violations.items():
            click.echo(f"{invariant}: {count}")
        for timezone, businesses in found.unknown_timezones.items():
            click.echo(f"unknown_timezone {timezone}: {businesses}")
        for slug, business_id in found.stray_slugs:
            click.echo(f"stray_slug {slug}: {business_id}")
        for partition in found.partitions_down:
            click.echo(f"partition_down: {partition}")
    wrong = (found.unknown_timezones, found.stray_slugs, found.partitions_down)
    sys.exit(1 if any(found.violations.values()) or any(wrong) else 0)


@main.group()
def catalog() -> None:
    """Keep the catalog of a business in a YAML file."""


@catalog.command()
@click.argument("file", type=click.File("rb"))
def apply(file: BinaryIO) -> None:
    """Make the catalog of a business equal to FILE (- is the standard input).

    Prints a line for each change. Entries that are not in FILE are removed from the catalog.
    """
    from service.booking import catalog_file
    from service.booking.catalog import Catalog

    try:
        with _settings() as settings:
            wanted = catalog_file.parse(file.read())
            with open_database(settings) as opened:
                changes = run_on_database(
                    opened.url,
                    lambda database: catalog_file.apply(Catalog(database), wanted),
                    statement_seconds=_CATALOG_SECONDS,
                )
            click.echo("\n".join(changes) or "nothing to do")
    except catalog_file.CatalogFileError as error:
        raise _Stop(str(error)) from None


@catalog.command()
@click.argument("business_id")
def export(business_id: str) -> None:
    """Print the catalog of a business, in the form that `apply` takes."""
    from service.booking import catalog_file
    from service.booking.catalog import Catalog

    with _settings() as settings, open_database(settings) as opened:
        content = run_on_database(opened.url, lambda database: Catalog(database).document(business_id))
        click.echo(catalog_file.to_yaml(content), nl=False)


def run() -> None:
    """Runs the command of the command line. SIGINT, SIGTERM and SIGHUP end it by an exception: by default they would
    leave an embedded database that it has started running, or, as Ctrl-C, exit with the status of a violation."""
    sys.unraisablehook = _signal_again
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        main(prog_name="python -m service")
    except OSError as error:
        # The usage or an error can't be written, as on a full disk. Exit status 1 would report a violation.
        with suppress(OSError):
            click.echo(f"Error: {error}", err=True)
        sys.exit(_Stop.exit_code)


def _signal_again(lost: "sys.UnraisableHookArgs") -> None:
    """Sends SIGTERM a moment after an exit that a signal began in a callback of a weak reference or of the garbage
    collector, as imports have many: an exception there is only reported, and the process would go on."""
    if isinstance(lost.exc_value, SystemExit):
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGTERM))
        signal.setitimer(signal.ITIMER_REAL, 0.001)
    else:
        sys.__unraisablehook__(lost)


if __name__ == "__main__":
    run()
