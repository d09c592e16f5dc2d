"""The settings of the service, from the environment. The names are a contract with those who run it."""

import re
from importlib import import_module
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

# As a browser writes it: a path, or a slash at the end, would never be equal to what it sends.
Origin = Annotated[str, Field(pattern=r"^(\*|https?://[a-z0-9.\-\[\]:]+)$")]

# So many requests in a second, a minute or an hour.
RATE: Final = r"^([1-9][0-9]{0,8})/(second|minute|hour)$"
_REDIS_URL: Final = re.compile(r"(rediss?://[^/?#\s]|unix:///)")


class Settings(BaseSettings):
    """Read once, at the start. An empty value counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    # Whose pages may call from a browser; in the environment a comma-separated list. `*` is everybody's.
    cors_origins: Annotated[tuple[Origin, ...], NoDecode] = ()
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
    rate_limit: Annotated[str, Field(pattern=RATE)] = "6000/minute"
    # Live holds of one client in one business, by its address. Off with the limits of requests.
    max_live_holds_per_client: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    # Whose X-Forwarded-For is believed; in the environment a comma-separated list.
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()

    # How many requests one call to the database carries at most. 1 switches group commit off, for comparison.
    max_batch: Annotated[int, Field(ge=1, le=1000)] = 128

    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"
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

    @field_validator("cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _listed(cls, entries: object) -> object:
        return tuple(filter(None, map(str.strip, entries.split(",")))) if isinstance(entries, str) else entries

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
                import_module("service.tracing")
            except ImportError:
                raise ValueError("needs the packages of the extra `otel`: pip install 'holdfast[otel]'") from None
        return endpoint
