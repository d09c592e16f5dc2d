"""The settings of the service, from the environment. The names are a contract with those who run it."""

from pathlib import Path
from typing import Annotated

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Read once, at the start. An empty value counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
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

    # How many requests one call to the database carries at most. 1 switches group commit off, for comparison.
    max_batch: Annotated[int, Field(ge=1, le=1000)] = 128

    @field_validator("database_url", "migration_database_url")
    @classmethod
    def _is_url(cls, url: SecretStr | None) -> SecretStr | None:
        """Found out here, because the driver's own message would quote it, password included."""
        try:
            conninfo_to_dict(url.get_secret_value() if url else "")
        except psycopg.ProgrammingError:
            raise ValueError("is not a PostgreSQL URL: postgresql://user:password@host:port/database") from None
        return url

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

    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"
