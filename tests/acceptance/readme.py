"""Runs the tours of the documents command by command, and compares or renews the answers that they show.

An answer in JSON is cut to the members that its document shows: "…" at the end of an object or a list stands for the
rest. `python -m tests.acceptance.readme` renews the answers; the test compares them with those of today.
"""

import json
import os
import re
import subprocess
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.serving import ServiceProcess

REPOSITORY: Final = Path(__file__).parents[2]
TOURS: Final = (REPOSITORY / "README.md", REPOSITORY / "deploy" / "tour.md")
RUNBOOK: Final = REPOSITORY / "deploy" / "runbook.md"
_BLOCK: Final = re.compile(r"```console\n(.*?)```", re.DOTALL)
_END: Final = "--- end of an answer ---"
_REST: Final = "…"
_COLUMNS: Final = 118
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_UNBREAKABLE: Final = "\u00a0"


def steps(block: str) -> list[tuple[str, str]]:
    """Returns the commands of a block with the answers shown for them.

    A command begins with a prompt and goes on while its lines end with a backslash.
    """
    found: list[tuple[str, str]] = []
    continued = False
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        else:
            assert found, f"an answer without a command: {line}"
            command, answer = found[-1]
            found[-1] = (f"{command}\n{line}", answer) if continued else (command, f"{answer}{line}\n")
        continued = line.endswith("\\") and (line.startswith("$ ") or continued)
    return found


def rewritten(document: str, shell: "Shell") -> str:
    """Returns the document with the answers of today, cut like those that it shows."""

    def answered(block: re.Match[str]) -> str:
        lines = [f"$ {command}\n{as_shown(shell.run(command), shown)}" for command, shown in steps(block[1])]
        return "```console\n" + "".join(lines) + "```"

    return _BLOCK.sub(answered, document)


def as_shown(answer: str, shown: str) -> str:
    """Cuts an answer to the members that its document shows, if both are JSON; else returns it as it is."""
    try:
        pattern = json.loads(re.sub(rf",\s*{_REST}\s*(?=[}}\]])", _marked, shown))
        return _rendered(cut(json.loads(answer), pattern))
    except json.JSONDecodeError:
        return answer


def cut(answer: Any, shown: Any) -> Any:
    """Leaves out of an answer the members and entries for which "…" stands, and nothing else."""
    if isinstance(answer, dict) and isinstance(shown, dict):
        names = [name for name in shown if name in answer] if _REST in shown else list(answer)
        members = {name: cut(answer[name], shown.get(name, answer[name])) for name in names}
        return members | ({_REST: _REST} if len(members) < len(answer) else {})
    if isinstance(answer, list) and isinstance(shown, list):
        count = len(shown) - 1 if _REST in shown[-1:] else len(answer)
        patterns = [*shown[:count], *answer[len(shown) :]]
        entries = [cut(entry, pattern) for entry, pattern in zip(answer[:count], patterns, strict=False)]
        return entries + ([_REST] if len(entries) < len(answer) else [])
    return answer


def normalized(document: str) -> str:
    """Replaces what differs in each run: ids, times, tokens, durations, and the line breaks between members."""
    for pattern, stand_in in (
        (r",\n ", ", "),
        (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
        (r'"requestId": "[0-9a-f]{32}"', '"requestId": "ID"'),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "INSTANT"),
        (r"v1\.[\w-]{43}", "TOKEN"),
        (r'"id": "[0-9a-f]{16}"', '"id": "KEY"'),
        (r'"nextCursor": "[\w-]+"', '"nextCursor": "CURSOR"'),
        (r'"(expiresInSeconds|durationMs|oldestExpiredSeconds)": [\d.]+', r'"\1": N'),
        # Null until the service's own timer has called the purge.
        (r'"lastPurgeAt": (null|"INSTANT")', '"lastPurgeAt": T'),
    ):
        document = re.sub(pattern, stand_in, document)
    return document


class Shell:
    """A bash in a folder of its own, in which the commands of the tour follow each other."""

    def __init__(self, folder: Path, api: str) -> None:
        self._api = api
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            # The commands run the code of this checkout, even if the environment has another one installed.
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, command: str) -> str:
        """Runs a command, and returns its output, which ends with a line end unless it is empty."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        # The documents name the default address; this run has a port of its own.
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
    """Runs a shell beside a service that has just been started for the first time, in a folder like a checkout."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # the embedded server may run as another user
        (folder / ".venv").symlink_to(REPOSITORY / ".venv")
        with ServiceProcess(folder / "log", DATA_DIR=folder / ".data") as service:
            shell = Shell(folder, service.url)
            try:
                yield shell
            finally:
                shell.close()


def _marked(rest: re.Match[str]) -> str:
    """Returns the ellipsis as JSON: a member of an object, or an entry of a list."""
    return f', "{_REST}": "{_REST}"' if rest.string[rest.end()] == "}" else f', "{_REST}"'


def _rendered(value: Any) -> str:
    """Writes JSON in lines of a readable width, broken between members and entries only."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", f":{_UNBREAKABLE}"))
    text = _STRING.sub(lambda string: string[0].replace(" ", _UNBREAKABLE), text)
    text = text.replace(f'"{_REST}":{_UNBREAKABLE}"{_REST}"', _REST).replace(f'"{_REST}"', _REST)
    lines = textwrap.wrap(text, _COLUMNS, subsequent_indent=" ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace(_UNBREAKABLE, " ") + "\n"


if __name__ == "__main__":
    for path in TOURS:
        with tour() as shell_of_the_tour:
            path.write_text(rewritten(path.read_text(), shell_of_the_tour))
