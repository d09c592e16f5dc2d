"""Runs the README's tour line by line, and writes down what was answered.

`python -m tests.acceptance.readme` renews the README; the test compares it with what is answered today.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.serving import ServiceProcess

REPOSITORY: Final = Path(__file__).parents[2]
README: Final = REPOSITORY / "README.md"
_BLOCK: Final = re.compile(r"```console\n(.*?)```", re.DOTALL)
_END: Final = "--- end of an answer ---"


def commands(block: str) -> list[str]:
    """The commands of a block: each begins with a prompt and goes on while its lines end with a backslash."""
    found: list[str] = []
    continued = False
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(line[2:])
        elif continued:
            found[-1] += "\n" + line
        continued = line.endswith("\\") and (line.startswith("$ ") or continued)
    return found


def rewritten(readme: str, shell: "Shell") -> str:
    """The README with today's answers."""

    def answered(block: re.Match[str]) -> str:
        lines = [f"$ {command}\n{shell.run(command)}" for command in commands(block[1])]
        return "```console\n" + "".join(lines) + "```"

    return _BLOCK.sub(answered, readme)


def normalized(readme: str) -> str:
    """Without what is different each time: ids, times, tokens, durations."""
    for pattern, stand_in in (
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
        (r'"requestId":"[0-9a-f]{32}"', '"requestId":"ID"'),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "INSTANT"),
        (r"v1\.[\w-]{43}", "TOKEN"),
        (r'"id":"[0-9a-f]{16}"', '"id":"KEY"'),
        (r'"nextCursor":"[\w-]+"', '"nextCursor":"CURSOR"'),
        (r'"(expiresInSeconds|durationMs|oldestExpiredSeconds)":[\d.]+', r'"\1":N'),
        # Whether the service's own timer has called yet.
        (r'"lastPurgeAt":(null|"INSTANT")', '"lastPurgeAt":T'),
    ):
        readme = re.sub(pattern, stand_in, readme)
    return readme


class Shell:
    """A bash in a folder of its own, in which the commands of the tour follow each other."""

    def __init__(self, folder: Path, api: str) -> None:
        self._api = api
        self._bash = subprocess.Popen(
            ["bash", "--norc"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def run(self, command: str) -> str:
        """What a command prints, ending with a line end if it prints anything."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        # Where the service listens is this run's own; the README names the usual place.
        command = command.replace("http://127.0.0.1:8000", self._api)
        self._bash.stdin.write(f"{command}\necho; echo '{_END}'\n".encode())
        self._bash.stdin.flush()
        lines: list[str] = []
        for line in self._bash.stdout:
            if line.decode().strip() == _END:
                break
            lines.append(line.decode())
        else:
            raise AssertionError(f"the shell ended at: {command}")
        answer = "".join(lines).strip("\n")
        return answer + "\n" if answer else ""

    def close(self) -> None:
        """Ends the shell."""
        self._bash.communicate(b"exit\n", timeout=10)


@contextmanager
def tour() -> Iterator[Shell]:
    """A shell beside a service that has just been started for the first time, in a folder like a checkout."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # the embedded server may run as somebody else
        (folder / ".venv").symlink_to(REPOSITORY / ".venv")
        with ServiceProcess(folder / "log", DATA_DIR=folder / ".data") as service:
            shell = Shell(folder, service.url)
            try:
                yield shell
            finally:
                shell.close()


if __name__ == "__main__":
    with tour() as shell_of_the_tour:
        README.write_text(rewritten(README.read_text(), shell_of_the_tour))
