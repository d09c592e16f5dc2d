"""Who postgres runs as: it refuses root, so root has to run it as somebody else."""

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
    """The embedded server can't run. The text says what is wrong and what to do about it."""


@dataclass(frozen=True)
class Account:
    """The user that PostgreSQL's programs run as, and how they become that user.

    uid, gid: who has to own the files that they work on, as seen from here.
    prefix: the words in front of every command.
    switch: whether a child has to change to uid and gid before it executes the program.
    """

    uid: int
    gid: int
    prefix: Sequence[str] = ()
    switch: bool = False

    def spawn(self, program: Path, arguments: Sequence[str], output: int | IO[bytes]) -> Popen[bytes]:
        """Starts a program as this user; what it says goes to output.

        It gets a session of its own, so that Ctrl-C in the terminal ends the service, and the
        service ends postgres; and an environment of its own, so that no PGDATA or PGPORT leaks in.
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
        """Whether this user can execute the program at all."""
        try:
            return self.spawn(program, ["--version"], DEVNULL).wait() == 0
        except (OSError, subprocess.SubprocessError):
            return False

    def take(self, folder: Path) -> None:
        """Makes this user the owner of a folder and of everything in it.

        Raises EmbeddedServerError if it is somebody else's and we are not root.
        """
        if folder.stat().st_uid == self.uid:
            return
        try:
            # Upwards: the folder itself comes last, so if we are killed on the way we begin again.
            for parent, folders, files in os.walk(folder, topdown=False):
                for name in (*folders, *files, "."):
                    os.chown(Path(parent, name), self.uid, self.gid, follow_symlinks=False)
        except PermissionError as error:
            raise EmbeddedServerError(
                f"{folder} belongs to another user (uid {folder.stat().st_uid}). "
                "Start the service as that user, or choose another DATA_DIR."
            ) from error


def choose_account(program: Path, data_dir: Path) -> Account:
    """Says who can run program, postgres, on a folder inside data_dir.

    That is ourselves, unless we are root. Then it is nobody, if the way to both is open; and else
    root under another name: in a user namespace the kernel sees root, and postgres sees nobody.
    Raises EmbeddedServerError, naming the folder in the way, if none of these works.
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
    raise EmbeddedServerError(_nobody_can_run(program, closed))


def _closed_folder(path: Path) -> Path | None:
    """The first folder from the root to path, path included, that others may not pass through."""
    for folder in reversed((path, *path.parents)):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def _nobody_can_run(program: Path, closed: Path | None) -> str:
    why = "PostgreSQL refuses to run as root, and the user nobody can't run it here: "
    if closed is None:
        return f"{why}{program} failed. Start the service as an ordinary user, or set DATABASE_URL."
    return (
        f"{why}{closed} is closed to other users, and user namespaces (unshare) don't work here. "
        f"Run `chmod o+x {closed}`, or put the checkout and DATA_DIR elsewhere, "
        "or start the service as an ordinary user, or set DATABASE_URL."
    )
