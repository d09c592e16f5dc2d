"""What is printed in a log, a traceback or a debugger: never a secret."""

import gc
import types
from collections.abc import Iterator

from pydantic import SecretStr

from service.process.app import create_app
from service.settings import Settings

PASSWORD = "opensesame"
SECRETS = {
    "database_url": f"postgresql://somebody:{PASSWORD}@127.0.0.1:1/none",
    "migration_database_url": f"postgresql://owner:{PASSWORD}@127.0.0.1:1/none",
    "admin_token": f"admin-{PASSWORD}",
    "cron_secret": f"cron-{PASSWORD}",
    "token_secret": f"token-{PASSWORD},older-{PASSWORD}",
}
# Whose objects tell something of themselves.
OURS = ("service.", "psycopg_pool", "starlette.")


def settings() -> Settings:
    """With all secrets."""
    return Settings.model_validate({name: SecretStr(secret) for name, secret in SECRETS.items()})


def test_settings_show_no_secret() -> None:
    """However they are printed; and whoever adds a secret has to add it as one."""
    made = settings()
    for shown in (repr(made), str(made), f"{made}", made.model_dump_json(), repr(made.model_dump())):
        assert PASSWORD not in shown
    named = {name for name in Settings.model_fields if name.endswith(("_url", "_token", "_secret", "_key", "password"))}
    assert {name for name in named if "SecretStr" not in str(Settings.model_fields[name].annotation)} == set()
    assert named >= SECRETS.keys()


def test_no_object_of_the_application_shows_a_secret() -> None:
    """Endpoints, pools, signers and whatever else hangs together: a traceback with its locals would print them."""
    shown = {type(found).__name__: repr(found) for found in reachable(create_app(settings()))}
    assert {"Starlette", "Database", "_Pool", "CancellationTokens", "Authentication"} <= shown.keys()
    assert {name for name, text in shown.items() if PASSWORD in text} == set()


def reachable(root: object) -> Iterator[object]:
    """The objects that hang on `root`, but for modules and what they hold."""
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
