"""The settings that the embedded database completes, and its secrets."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.process.hosting import HostedDatabase, HostingError, complete_settings
from service.settings import SECRETS, Settings

EMBEDDED = HostedDatabase("postgresql://holdfast:of-login@127.0.0.1:1/holdfast", ("postgresql:///",), embedded=True)
EXTERNAL = HostedDatabase("postgresql://holdfast:of-login@db/holdfast?sslmode=disable", ("",), embedded=False)


def settings(folder: Path, **given: str) -> Settings:
    """Returns settings with these secrets only."""
    none = dict.fromkeys(SECRETS)
    secrets = {name: SecretStr(value) for name, value in given.items()}
    return Settings(data_dir=folder).model_copy(update=none | secrets | {"cleanup_interval_seconds": None})


def test_missing_secrets_are_made_once_and_given_ones_are_not_stored(tmp_path: Path) -> None:
    """A secret that is given later has precedence, and a missing one is made then."""
    complete, generated = complete_settings(settings(tmp_path, admin_token="given"), EMBEDDED)
    stored = json.loads((tmp_path / "secrets.json").read_text())
    assert {*generated} == stored.keys() == {*SECRETS} - {"admin_token"}
    assert {len(secret) for secret in stored.values()} == {43}
    assert len({*stored.values()}) == len(stored)
    values = {name: getattr(complete, name).get_secret_value() for name in SECRETS}
    assert values == stored | {"admin_token": "given"}
    again, generated = complete_settings(settings(tmp_path, cron_secret="other"), EMBEDDED)
    assert generated == ["admin_token"]
    assert json.loads((tmp_path / "secrets.json").read_text()).keys() == {*SECRETS}
    assert again.token_secret == complete.token_secret
    assert again.cron_secret == SecretStr("other")
    assert complete_settings(settings(tmp_path), EMBEDDED)[1] == []


def test_an_external_database_has_no_generated_secrets(tmp_path: Path) -> None:
    """The error names those that are missing, in the form of the environment."""
    with pytest.raises(HostingError, match=r"^Set CRON_SECRET, TOKEN_SECRET: "):
        complete_settings(settings(tmp_path, admin_token="given"), EXTERNAL)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(("database", "seconds"), [(EMBEDDED, 60.0), (EXTERNAL, 0.0)])
def test_only_the_embedded_database_is_purged_without_a_scheduler(
    tmp_path: Path, database: HostedDatabase, seconds: float
) -> None:
    """Unless the setting says otherwise. The URL is that of the service's role."""
    given = settings(tmp_path, **dict.fromkeys(SECRETS, "given"))
    complete, _ = complete_settings(given, database)
    assert complete.cleanup_interval_seconds == seconds
    assert complete.database_url == SecretStr(database.url)
    for interval in (0.0, 5.0):
        chosen = given.model_copy(update={"cleanup_interval_seconds": interval})
        assert complete_settings(chosen, database)[0].cleanup_interval_seconds == interval


def test_the_address_for_the_log_has_no_password() -> None:
    """And no options."""
    assert EXTERNAL.address == "host=db dbname=holdfast user=holdfast"
    assert EMBEDDED.address == "host=127.0.0.1 port=1 dbname=holdfast user=holdfast"
