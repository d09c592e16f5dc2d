"""Secrets must not appear in a log, a traceback or a debugger."""

import gc
import types
from collections.abc import Iterator

from pydantic import SecretStr

from service.process.app import create_app
from service.settings import Settings

PASSWORD = "opensesame"
SECRETS = {
    "database_url": f"postgresql://holdfast:{PASSWORD}@127.0.0.1:1/none",
    "migration_database_url": f"postgresql://owner:{PASSWORD}@127.0.0.1:1/none",
    "admin_token": f"admin-{PASSWORD}",
    "cron_secret": f"cron-{PASSWORD}",
    "token_secret": f"token-{PASSWORD},older-{PASSWORD}",
}
# Modules whose objects have a repr of their own.
OURS = ("service.", "psycopg_pool", "starlette.")


def settings_with_secrets() -> Settings:
    """Returns settings with all secrets."""
    return Settings.model_validate({name: SecretStr(secret) for name, secret in SECRETS.items()})


def test_settings_show_no_secret() -> None:
    """This covers every way of printing them, and the types of settings that are added later."""
    settings = settings_with_secrets()
    for shown in (
        repr(settings),
        str(settings),
        f"{settings}",
        settings.model_dump_json(),
        repr(settings.model_dump()),
    ):
        assert PASSWORD not in shown
    secret_names = {
        name for name in Settings.model_fields if name.endswith(("_url", "_token", "_secret", "_key", "password"))
    }
    assert {name for name in secret_names if "SecretStr" not in str(Settings.model_fields[name].annotation)} == set()
    assert secret_names >= SECRETS.keys()


def test_no_object_of_the_application_shows_a_secret() -> None:
    """A traceback with local variables would print endpoints, pools and signers."""
    shown = {type(found).__name__: repr(found) for found in reachable(create_app(settings_with_secrets()))}
    assert {"Application", "Database", "ConnectionPool", "CancellationTokens", "Authentication"} <= shown.keys()
    assert {name for name, text in shown.items() if PASSWORD in text} == set()


def reachable(root: object) -> Iterator[object]:
    """Yields the objects that are reachable from `root`, except through modules."""
    seen, waiting = set(), [root]
    while waiting:
        found = waiting.pop()
        skipped = isinstance(found, types.ModuleType | type) or (isinstance(found, dict) and "__builtins__" in found)
        if id(found) in seen or skipped:
            continue
        seen.add(id(found))
        if type(found).__module__.startswith(OURS):
            yield found
        waiting += gc.get_referents(found)
