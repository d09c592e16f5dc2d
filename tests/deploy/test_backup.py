"""deploy/backup.md: a dump can be restored into a new server with the roles of roles.sql."""

import os
import subprocess
from pathlib import Path

import psycopg

from service.embedded.cluster import find_programs
from tests.deploy.installation import installation
from tests.serving import run_command

MAJOR = 18


def test_a_dump_can_be_restored(tmp_path: Path) -> None:
    """The migrating role can dump everything; the restored schema is complete, with the rights of the service's
    login."""
    dump = tmp_path / "holdfast.dump"
    with installation(MAJOR) as old:
        run_command("migrate", DATABASE_URL=old.migration_url).check_returncode()
        with psycopg.connect(old.administrator_url) as connection:
            connection.execute("INSERT INTO booking.businesses VALUES ('salon', 'Salon', NULL, 'UTC', 'DE', now())")
        _program("pg_dump", "--format=custom", f"--file={dump}", old.migration_url)
    with installation(MAJOR) as new:
        _program("pg_restore", "--exit-on-error", "--single-transaction", f"--dbname={new.administrator_url}", dump)
        migrated = run_command("migrate", DATABASE_URL=new.migration_url)
        assert (migrated.returncode, migrated.stdout) == (0, "nothing to do\n")
        checked = run_command("check", DATABASE_URL=new.url)
        assert checked.returncode == 0, checked.stderr
        with psycopg.connect(new.url) as connection:
            assert connection.execute("SELECT booking.business('salon') ->> 'name'").fetchall() == [("Salon",)]


def _program(name: str, *arguments: str | Path) -> None:
    ended = subprocess.run(
        [find_programs(MAJOR) / name, *arguments], env=os.environ, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
