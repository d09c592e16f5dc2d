"""Clients that three generators make of the served document, with their default settings: they need no correction.

The programs that use them are in tests/clients, with the versions of the generators for TypeScript.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.conftest import Serve
from tests.database import TestDatabase, at

CLIENTS: Final = Path(__file__).parents[1] / "clients"
NPM_PACKAGES: Final = CLIENTS / "node_modules"
# Reserved, refused twice, committed and cancelled.
RESULT: Final = ["held", "SLOT_UNAVAILABLE true", "quantity too_small 1", "confirmed", "cancelled"]


def run(folder: Path, *words: str | Path) -> str:
    """Runs a program in a folder, with the programs of this environment, and returns its output."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder)}
    ended = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
@pytest.mark.skipif(not NPM_PACKAGES.is_dir(), reason="the packages are not installed: npm ci --prefix tests/clients")
def test_clients_in_typescript_reserve_commit_and_cancel(database: TestDatabase, serve: Serve, tmp_path: Path) -> None:
    """Their types hold: tsc finds nothing wrong with the programs."""
    database.make_service()
    service = serve()
    folder = tmp_path / "typescript"
    folder.mkdir()
    for name in ("package.json", "tsconfig.json", "with_hey_api.ts", "with_openapi_fetch.ts"):
        shutil.copy(CLIENTS / name, folder)
    (folder / "node_modules").symlink_to(NPM_PACKAGES)
    programs, document = folder / "node_modules" / ".bin", f"{service.url}/openapi.json"
    run(folder, programs / "openapi-typescript", document, "-o", "openapi_typescript.d.ts")
    run(folder, programs / "openapi-ts", "-i", document, "-o", "hey_api")
    run(folder, programs / "tsc", "-p", ".")
    script = "require(process.argv[1]).use(...process.argv.slice(2)).then((lines) => console.log(lines.join('\\n')))"
    for hour, program in ((10, "with_openapi_fetch"), (12, "with_hey_api")):
        arguments = (folder / "out" / f"{program}.js", service.url, at(hour).isoformat())
        assert run(folder, "node", "-e", script, *arguments).splitlines() == RESULT


@pytest.mark.skipif(not importlib.util.find_spec("openapi_python_client"), reason="openapi-python-client is missing")
def test_a_client_in_python_reserves_commits_and_cancels(database: TestDatabase, serve: Serve, tmp_path: Path) -> None:
    """Each answer has the type that the document gives it."""
    database.make_service()
    service = serve()
    folder = tmp_path / "python"
    generated = ("--url", f"{service.url}/openapi.json", "--output-path", str(folder))
    run(tmp_path, "openapi-python-client", "generate", *generated)
    program = str(CLIENTS / "with_openapi_python_client.py")
    assert run(folder, sys.executable, program, service.url, at(10).isoformat()).splitlines() == RESULT


def test_the_lock_file_names_no_registry() -> None:
    """The packages come from the registry that npm is configured with."""
    assert '"resolved"' not in (CLIENTS / "package-lock.json").read_text()
