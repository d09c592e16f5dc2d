"""Settings, and what must never be printed of them."""

import pytest
from pydantic import ValidationError

from service.settings import Settings


@pytest.mark.parametrize("name", ["ADMIN_TOKEN", "CRON_SECRET", "TOKEN_SECRET"])
@pytest.mark.parametrize("blank", [" ", ",", ",,", "\n"])
def test_secrets_are_not_blank(monkeypatch: pytest.MonkeyPatch, name: str, blank: str) -> None:
    """A service that signs with nothing must not start."""
    monkeypatch.setenv(name, blank)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_a_line_end_is_no_part_of_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of secrets end with one, and no header can carry it."""
    monkeypatch.setenv("ADMIN_TOKEN", "secret\n")
    token = Settings().admin_token
    assert token is not None
    assert token.get_secret_value() == "secret"


@pytest.mark.parametrize("name", ["DATABASE_URL", "MIGRATION_DATABASE_URL"])
def test_a_faulty_url_is_not_quoted(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It has a password in it."""
    monkeypatch.setenv(name, "postgres//user:s3cret@127.0.0.1/db")
    with pytest.raises(ValidationError) as raised:
        Settings()
    faults = raised.value.errors(include_input=False)
    assert "postgresql://user:password@host" in faults[0]["msg"]
    assert "s3cret" not in str(faults)


def test_empty_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose files and charts write it."""
    monkeypatch.setenv("DATABASE_URL", "")
    assert Settings().database_url is None
