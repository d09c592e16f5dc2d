"""Which database a role works on: the one that DATABASE_URL names, or an embedded server of its own."""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from pydantic import SecretStr

from service.database.migrations import migrate
from service.embedded.server import EmbeddedServer, find_running
from service.settings import Settings

_SECRETS: Final = ("admin_token", "cron_secret", "token_secret")
_DATABASE: Final = "holdfast"
_LOGIN: Final = "holdfast"
# The embedded server has nobody else to call the cron endpoint.
_CLEANUP_INTERVAL_SECONDS: Final = 60.0


class HostingError(Exception):
    """The service can't be started as it is set up; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class HostedDatabase:
    """A database: the URL that the service works under, and the one under which the schema is changed.

    An embedded one has its schema already; `applied` names what was applied for that just now.
    """

    url: str
    migration_url: str
    embedded: bool
    applied: tuple[str, ...] = ()


@contextmanager
def hosted(settings: Settings) -> Iterator[HostedDatabase]:
    """The database to serve from. An embedded server is started, kept up, and stopped at the end.

    Raises `EmbeddedServerError`, also if another service has the data folder, and `MigrationError`.
    """
    if settings.database_url is not None:
        yield _given(settings, settings.database_url.get_secret_value())
    else:
        with EmbeddedServer(settings.data_dir) as server:
            yield _prepared(server.url())


@contextmanager
def reachable(settings: Settings) -> Iterator[HostedDatabase]:
    """The database for a command beside a service: its embedded server, if that runs, is used and left alone."""
    running = None if settings.database_url else find_running(settings.data_dir)
    if running:
        yield _prepared(running)
    else:
        with hosted(settings) as database:
            yield database


@contextmanager
def existing(settings: Settings) -> Iterator[HostedDatabase]:
    """As `reachable`, for a command that has nothing to do on a database that it would have to make first.

    Raises `HostingError` if there is none: that all is well with it would be true, and about nothing.
    """
    if settings.database_url is None and not EmbeddedServer(settings.data_dir).has_data():
        raise HostingError(
            f"There is no data in {settings.data_dir.resolve()}: set DATABASE_URL, "
            "or DATA_DIR to the folder of the service, or run this where the service was started."
        )
    with reachable(settings) as database:
        yield database


def migrated(database: HostedDatabase) -> tuple[str, ...]:
    """Brings a database to the schema of this version, and returns the names of what was applied."""
    return database.applied if database.embedded else tuple(migrate(database.migration_url))


def completed(settings: Settings, database: HostedDatabase) -> tuple[Settings, list[str]]:
    """The settings with all that the service needs, and the names of the secrets that were made just now.

    With the embedded server, secrets that are not set are made at the first start and kept in its data
    folder. Raises `HostingError` for those that are not set otherwise.
    """
    missing = [name for name in _SECRETS if getattr(settings, name) is None]
    if missing and not database.embedded:
        names = ", ".join(name.upper() for name in missing)
        raise HostingError(f"Set {names}: with a DATABASE_URL of your own they are not generated.")
    kept = _kept_secrets(settings.data_dir) if missing else {}
    made = [name for name in missing if name not in kept]
    if made:
        kept |= {name: secrets.token_urlsafe(32) for name in made}
        _keep_secrets(settings.data_dir, kept)
    values: dict[str, object] = {name: SecretStr(kept[name]) for name in missing}
    if settings.cleanup_interval_seconds is None:
        values["cleanup_interval_seconds"] = _CLEANUP_INTERVAL_SECONDS if database.embedded else 0.0
    return settings.model_copy(update={**values, "database_url": SecretStr(database.url)}), made


def _given(settings: Settings, url: str) -> HostedDatabase:
    migration_url = settings.migration_database_url
    return HostedDatabase(url, migration_url.get_secret_value() if migration_url else url, embedded=False)


def _prepared(superuser_url: str) -> HostedDatabase:
    """Makes the database, its schema and the login of the service on an embedded server, as far as they are missing."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [_DATABASE]).fetchall():
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_DATABASE)))
    parts = urlsplit(superuser_url)
    migration_url = parts._replace(path=f"/{_DATABASE}").geturl()
    applied = tuple(migrate(migration_url))
    password = _login_password(parts.password or "")
    with psycopg.connect(migration_url, autocommit=True) as connection:
        create_login(connection, _LOGIN, password)
    url = parts._replace(netloc=f"{_LOGIN}:{password}@{parts.hostname}:{parts.port}", path=f"/{_DATABASE}").geturl()
    return HostedDatabase(url, migration_url, embedded=True, applied=applied)


def create_login(connection: psycopg.Connection, name: str, password: str) -> None:
    """Makes a role that can log in and do what the service may do, and nothing else."""
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchall():
        return
    connection.execute(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE holdfast_service").format(sql.Identifier(name), password)
    )


def _login_password(superuser_password: str) -> str:
    """Follows from the superuser's, so that there is nothing more to keep."""
    return hmac.digest(superuser_password.encode(), b"login of the service", hashlib.sha256).hex()


def _kept_secrets(data_dir: Path) -> dict[str, str]:
    path = data_dir / "secrets.json"
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return kept


def _keep_secrets(data_dir: Path, values: dict[str, str]) -> None:
    """Readable by their owner only, and whole or not at all."""
    draft = data_dir / "secrets.json.new"
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(values, file)
    draft.rename(data_dir / "secrets.json")
