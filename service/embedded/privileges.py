"""The user that PostgreSQL's programs run as: they refuse root, so root has to start them as another user."""

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from typing import IO


class EmbeddedServerError(Exception):
    """The embedded server can't run; the message gives the cause and the remedy."""


@dataclass(frozen=True)
class Account:
    """A user that runs PostgreSQL's programs."""

    # The required owner of their files, as this process sees it.
    uid: int
    gid: int
    # The words in front of each command.
    prefix: Sequence[str] = ()
    # Whether a child process changes to uid and gid before it executes the program.
    switch: bool = False

    def spawn(self, program: Path, arguments: Sequence[str], output: int | IO[bytes]) -> Popen[bytes]:
        """Starts a program as this user; `output` receives its standard output and error.

        Its session is its own, so that Ctrl-C reaches only the service, which then stops PostgreSQL; its environment
        is without PGDATA or PGPORT. Raises `OSError` or `subprocess.SubprocessError` if it can't be started.
        """
        return Popen(
            [*self.prefix, str(program), *arguments],
            stdin=DEVNULL,
            stdout=output,
            stderr=STDOUT,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            start_new_session=True,
            user=self.uid if self.switch else None,
            group=self.gid if self.switch else None,
            extra_groups=() if self.switch else None,
        )

    def can_run(self, program: Path) -> bool:
        """Returns whether this user can execute `program`, by running it with --version."""
        try:
            return self.spawn(program, ["--version"], DEVNULL).wait() == 0
        except (OSError, subprocess.SubprocessError):
            return False

    def take_ownership(self, folder: Path) -> None:
        """Makes this user the owner of a folder and its contents. Raises `EmbeddedServerError` if only root could."""
        if folder.stat().st_uid == self.uid:
            return
        try:
            # Bottom-up: the folder changes its owner last, so a start after an interruption repeats the whole walk.
            for parent, folders, files in os.walk(folder, topdown=False):
                for name in (*folders, *files, "."):
                    os.chown(Path(parent, name), self.uid, self.gid, follow_symlinks=False)
        except PermissionError as error:
            raise EmbeddedServerError(
                f"{folder} belongs to another user (uid {folder.stat().st_uid}). "
                "Start the service as that user, or choose another DATA_DIR."
            ) from error


def choose_account(program: Path, data_dir: Path) -> Account:
    """Chooses an account that can run `program` on a folder inside `data_dir`.

    That is the current user, unless it is root. Root becomes the user nobody if that can reach both paths; otherwise it
    enters a user namespace, where the kernel sees root and PostgreSQL sees an ordinary user.
    Raises `EmbeddedServerError`, naming the folder that blocks access, if neither works.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    nobody = pwd.getpwnam("nobody")
    closed = _closed_folder(program.parent) or _closed_folder(data_dir)
    account = Account(nobody.pw_uid, nobody.pw_gid, switch=True)
    if closed is None and account.can_run(program):
        return account
    if unshare := shutil.which("unshare"):
        names = (f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}")
        account = Account(0, 0, prefix=(unshare, "--user", *names, "--"))
        if account.can_run(program):
            return account
    reason = f"{program} failed. Start the service as an ordinary user, or set DATABASE_URL."
    if closed:
        reason = (
            f"{closed} is closed to other users, and user namespaces (unshare) don't work here. "
            f"Run `chmod o+x {closed}`, or put the checkout and DATA_DIR elsewhere, "
            "or start the service as an ordinary user, or set DATABASE_URL."
        )
    raise EmbeddedServerError(f"PostgreSQL refuses to run as root, and the user nobody can't run it here: {reason}")


def _closed_folder(path: Path) -> Path | None:
    """Returns the topmost folder on the way to `path`, itself included, that other users may not enter."""
    folders = reversed((path, *path.parents))
    return next((folder for folder in folders if not folder.stat().st_mode & stat.S_IXOTH), None)
