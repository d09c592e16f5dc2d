"""The commands of a page in deploy/, run in a shell."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.deploy.installation import DEPLOY


def commands(page: str, language: str = "sh") -> list[str]:
    """Returns the blocks of commands of a page, or of another language, in their order."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", (DEPLOY / page).read_text(), re.MULTILINE | re.DOTALL)
    return [text for name, text in blocks if name == language]


class Shell:
    """Runs commands in a folder. `places` are texts of the page and what stands for them on this machine."""

    def __init__(self, folder: Path, places: Mapping[str, object], **environment: str) -> None:
        self.folder = folder
        self._places = dict(places)
        self._programs = folder / "programs"
        self._programs.mkdir()
        self._environment = {**os.environ, **environment, "PATH": f"{self._programs}:{os.environ['PATH']}"}

    def replace_program(self, name: str, script: str = "") -> None:
        """Replaces a program by a script that first records its call."""
        path = self._programs / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> "{self.folder}/calls"\n{script}\n')
        path.chmod(0o755)

    def place(self, places: Mapping[str, object]) -> None:
        """Adds texts of the page and what stands for them."""
        self._places |= places

    def set(self, **environment: str) -> None:
        """Sets variables of the environment."""
        self._environment |= environment

    def calls(self) -> list[str]:
        """Returns the calls of replaced programs, in their order."""
        return self.placed((self.folder / "calls").read_text()).splitlines()

    def placed(self, text: str) -> str:
        """Returns a text with the places of this machine."""
        for place, other in self._places.items():
            text = text.replace(place, str(other))
        return text

    def run(self, *blocks: str) -> str:
        """Runs blocks in one shell that stops at the first error, and returns the output."""
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.placed("\n".join(blocks))],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout
