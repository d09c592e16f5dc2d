"""The types of the pages' modules, which are JavaScript with JSDoc, and of the client for programs in TypeScript."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.serving import REPOSITORY

CLIENTS: Final = REPOSITORY / "tests" / "clients"
PAGES: Final = REPOSITORY / "service" / "pages"
NPM_PACKAGES: Final = CLIENTS / "node_modules"
OPTIONS: Final[dict[str, Any]] = {
    "strict": True,
    "noUnusedLocals": True,
    "noEmit": True,
    "target": "es2022",
    "module": "es2022",
    "moduleResolution": "bundler",
    "lib": ["es2022", "dom", "dom.iterable"],
    "types": [],
}

pytestmark = [
    pytest.mark.skipif(not shutil.which("node"), reason="node is not installed"),
    pytest.mark.skipif(
        not NPM_PACKAGES.is_dir(), reason="the packages are not installed: npm ci --prefix tests/clients"
    ),
]


def check(folder: Path, files: list[Path], **options: Any) -> None:
    """Checks files and what they import."""
    project = {"compilerOptions": OPTIONS | options, "files": [str(file) for file in files]}
    (folder / "tsconfig.json").write_text(json.dumps(project))
    command = NPM_PACKAGES / ".bin" / "tsc", "-p", folder
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_types_of_the_modules_hold(tmp_path: Path) -> None:
    """Also between a module and what it imports; the client implements its declarations."""
    check(tmp_path, sorted(PAGES.rglob("*.[jt]s")), checkJs=True, allowJs=True)


def test_a_program_in_typescript_imports_the_client_with_its_types(tmp_path: Path) -> None:
    """From a copy of it and of its declarations."""
    for file in (CLIENTS / "with_holdfast_module.ts", PAGES / "holdfast.js", PAGES / "holdfast.d.ts"):
        shutil.copy(file, tmp_path)
    check(tmp_path, [tmp_path / "with_holdfast_module.ts"])
