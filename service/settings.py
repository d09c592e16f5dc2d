"""The settings of the service, from the environment. The names are a contract with those who run it."""

import re
from collections.abc import Callable
from importlib import import_module
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

# So many requests in a second, a minute or an hour.
_RATE: Final = re.compile(r"[1-9][0-9]{0,8}/(second|minute|hour)")
# As a browser writes it: a path, or a slash at the end, would never be equal to what it sends.
_ORIGIN: Final = re.compile(r"\*|https?://[a-z0-9.\-\[\]:]+")
_REDIS_URL: Final = re.compile(r"(rediss?://[^/?#\s]|unix:///)")
_LOG_LEVELS: Final = ("debug", "info", "warning", "error")

# A shorter secret can be guessed; and whoever has a token that was made with it can try without asking the service.
SECRET_CHARACTERS: Final = 16


class Settings(BaseSettings):
    """Read once, at the start. An empty value counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    # Whose pages may call from a browser; in the environment a comma-separated list. `*` is everybody's.
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    workers: Annotated[int, Field(ge=1, le=256)] = 1

    # Both may hold a password. Unset, an embedded server is started that keeps its data in data_dir.
    database_url: SecretStr | None = None
    migration_database_url: SecretStr | None = None
    data_dir: Path = Path(".data")

    admin_token: SecretStr | None = None
    cron_secret: SecretStr | None = None
    # A comma-separated list: the first signs, all verify.
    token_secret: SecretStr | None = None

    # 0 is off: then something else has to call the cron endpoint. Unset: a minute if embedded, else off.
    # At most four minutes, because reservation health calls the purge late after five.
    cleanup_interval_seconds: Annotated[float, Field(ge=0, le=240)] | None = None
    # How long an ended reservation answers for its idempotency key.
    idempotency_window_hours: Annotated[float, Field(gt=0)] = 24

    # Carries what processes share and may lose. May hold a password.
    redis_url: SecretStr | None = None

    rate_limit_enabled: bool = True
    # Requests of one client, by its address: a number and second, minute or hour.
    rate_limit: str = "6000/minute"
    # Live holds of one client in one business, by its address. Off with the limits of requests.
    max_live_holds_per_client: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    # Whose X-Forwarded-For is believed; in the environment a comma-separated list.
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()

    # How many requests one call to the database carries at most. 1 switches group commit off, for comparison.
    max_batch: Annotated[int, Field(ge=1, le=1000)] = 128

    log_level: str = "info"
    # OpenTelemetry's own, and read by it; here it says whether there are traces at all.
    otel_exporter_otlp_endpoint: str | None = None

    @field_validator("database_url", "migration_database_url")
    @classmethod
    def _is_url(cls, url: SecretStr | None) -> SecretStr | None:
        """Found out here, because the driver's own message would quote it, password included."""
        try:
            conninfo_to_dict(url.get_secret_value() if url else "")
        except psycopg.ProgrammingError:
            raise ValueError("is not a PostgreSQL URL: postgresql://user:password@host:port/database") from None
        return url

    @field_validator("redis_url")
    @classmethod
    def _is_redis_url(cls, url: SecretStr | None) -> SecretStr | None:
        """Found out here for the same reason."""
        if url and not _REDIS_URL.match(url.get_secret_value()):
            raise ValueError("is not a Redis URL: redis://:password@host:port/0, rediss://… or unix:///path")
        return url

    @field_validator("migration_database_url")
    @classmethod
    def _is_beside_another(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        """Alone it would be left aside, and an embedded server started instead of the one that it names."""
        if url and info.data.get("database_url", url) is None:
            raise ValueError("needs DATABASE_URL beside it: the same database under the role of the service")
        return url

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _are_origins(cls, entries: object) -> object:
        return _listed(entries, _check_origin)

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _are_networks(cls, entries: object) -> object:
        return _listed(entries, _check_network)

    @field_validator("rate_limit")
    @classmethod
    def _is_rate(cls, rate: str) -> str:
        if not _RATE.fullmatch(rate):
            raise ValueError(f"{rate} is not a rate: a whole number and /second, /minute or /hour, like 6000/minute")
        return rate

    @field_validator("log_level")
    @classmethod
    def _is_log_level(cls, level: str) -> str:
        if level.lower() not in _LOG_LEVELS:
            raise ValueError(f"{level} is not a level: {', '.join(_LOG_LEVELS[:-1])} or {_LOG_LEVELS[-1]}")
        return level.lower()

    @field_validator("admin_token", "cron_secret", "token_secret")
    @classmethod
    def _not_blank(cls, secret: SecretStr | None) -> SecretStr | None:
        """Without the line end that files of secrets have; and never empty, however it is written."""
        if secret is None:
            return None
        text = secret.get_secret_value().strip()
        if not text.strip(","):
            raise ValueError("must not be blank")
        return SecretStr(text)

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _can_trace(cls, endpoint: str | None) -> str | None:
        """Found out here, because a worker could only fail to start."""
        if endpoint:
            try:
                import_module("service.observability.tracing")
            except ImportError:
                raise ValueError("needs the packages of the extra `otel`: pip install 'holdfast[otel]'") from None
        return endpoint

    def short_secrets(self) -> list[str]:
        """The names of the settings whose secret, or one of whose secrets, is short enough to be guessed."""
        entries = {
            "ADMIN_TOKEN": [_text(self.admin_token)],
            "CRON_SECRET": [_text(self.cron_secret)],
            "TOKEN_SECRET": [entry.strip() for entry in _text(self.token_secret).split(",")],
        }
        return [name for name, texts in entries.items() if any(0 < len(text) < SECRET_CHARACTERS for text in texts)]


def _text(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""


def _listed(entries: object, check: Callable[[str], None]) -> object:
    """A comma-separated list, as people write it: with spaces, and a comma too many. Each entry is checked."""
    listed = tuple(filter(None, map(str.strip, entries.split(",")))) if isinstance(entries, str) else entries
    for entry in listed if isinstance(listed, tuple) else ():
        check(entry)
    return listed


def _check_origin(entry: str) -> None:
    if not _ORIGIN.fullmatch(entry):
        raise ValueError(
            f"{entry} is not an origin: * or a list like https://book.example, http://localhost:5173, "
            "in lower case, with no path and no slash at the end"
        )


def _check_network(entry: str) -> None:
    try:
        ip_network(entry)
    except ValueError as error:
        raise ValueError(f"{error}: write a list of addresses and networks like 10.0.0.0/8, ::1") from None
