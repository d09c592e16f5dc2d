"""The layers of the service: permitted imports, statements, and the content of the wheel."""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from service.api.guides import guides
from service.database.migrations import named_queries, sql_folder
from service.naming import ID_PATTERN

REPOSITORY = Path(__file__).parents[2]
SERVICE = REPOSITORY / "service"

# Each layer with the modules that it must not import.
FORBIDDEN = {
    "database": {"service.booking", "service.http", "service.api", "service.process", "service.sharing", "redis"},
    # A grant of a slot must not depend on Redis, whose data may be lost.
    "booking": {"service.http", "service.api", "service.process", "service.sharing", "redis", "starlette"},
    "sharing": {"service.booking", "service.database", "service.http", "service.api", "service.process", "starlette"},
    # The machinery of HTTP asks no database.
    "http": {
        "redis",
        "psycopg",
        "psycopg_pool",
        "service.database",
        "service.api",
        "service.process",
        "service.embedded",
    },
    "api": {"redis", "psycopg", "psycopg_pool", "service.process", "service.embedded"},
    "embedded": {"service.database", "service.booking", "service.http", "service.api", "service.process"},
    "observability": {"service.database", "service.booking", "service.http", "service.api", "service.process"},
}


# A statement that is one call of one function, which PL/Proxy can route. Its arguments are parameters or casts of them,
# and it returns columns or casts of them.
ONE_CALL = re.compile(r"SELECT ([\w:, *]+\sFROM )?booking\.\w+\(([%\w:, ]|\w+\([%\w, ]*\))*\)")
# Statements about the connected server, of sessions and of migrations.
OF_THE_SERVER = {"session", "server_time", "log_position", "leave_out", "migration_ledger", "record_migration"}


def imports(path: Path) -> set[str]:
    """Returns the modules that a file imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_imports_point_down_only(layer: str) -> None:
    """The order is http → booking → database: a layer does not import those above it."""
    files = list((SERVICE / layer).rglob("*.py"))
    assert files
    for path in files:
        for module in imports(path):
            assert not any(module == name or module.startswith(name + ".") for name in FORBIDDEN[layer]), (path, module)


def modules() -> list[Path]:
    """Returns the modules of the service and of the tests."""
    found = [*SERVICE.rglob("*.py"), *(REPOSITORY / "tests").rglob("*.py")]
    return [path for path in found if "node_modules" not in path.parts]


def test_no_module_has_more_than_500_lines() -> None:
    lines = {str(path.relative_to(REPOSITORY)): path.read_text().count("\n") for path in modules()}
    assert len(lines) > 300
    assert {path: count for path, count in lines.items() if count > 500} == {}


def test_no_module_imports_from_a_module_of_tests() -> None:
    """What several of them need is in a helper module."""
    imported = {(path.name, module) for path in modules() for module in imports(path)}
    assert {names for names in imported if names[1].rpartition(".")[2].startswith("test_")} == set()


def test_the_pattern_of_ids_is_written_once() -> None:
    """Layers that do not import each other share it, so that what one of them accepts the other does not refuse."""
    assert [path.name for path in SERVICE.rglob("*.py") if ID_PATTERN in path.read_text()] == ["naming.py"]


def test_a_start_imports_no_library_that_few_workers_need() -> None:
    """Those of Redis, of calendar feeds and of the OpenAPI document take a tenth of a start, or half as long."""
    program = "import sys; from service.process.app import create_app; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert {"redis", "icalendar", "yaml"} & {*run.stdout.split()} == set()


def test_the_command_line_loads_no_models() -> None:
    """Those of the catalog and of requests take a quarter of a start. Afterwards garbage is collected."""
    program = "import sys, gc, service.__main__; print(*sys.modules, gc.isenabled(), gc.get_freeze_count() > 10_000)"
    run = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    *modules, collects, freezes = run.stdout.split()
    loaded = {name for name in modules if name.startswith("service.booking.") or name in ("yaml", "starlette")}
    assert (loaded, collects, freezes) == (set(), "True", "True")


def test_no_header_is_parsed_by_the_email_package() -> None:
    """Its time grows with the square of the length, and it blocks the event loop."""
    for path in [*(SERVICE / "http").rglob("*.py"), *(SERVICE / "api").rglob("*.py")]:
        assert not {module for module in imports(path) if module.partition(".")[0] == "email"}, path


def test_the_query_file_has_every_statement_and_no_other() -> None:
    """A statement that is never sent is dead code, and a missing one fails only when it is sent."""
    sources = "".join(path.read_text() for path in SERVICE.rglob("*.py"))
    for name in named_queries():
        assert f'"{name}"' in sources, name


def test_every_statement_is_one_call_of_one_function() -> None:
    """Only such a statement can be routed by business; views, tables and nested calls cannot."""
    queries = {name: body.decode() for name, body in named_queries().items()}
    assert {name for name, body in queries.items() if not ONE_CALL.fullmatch(body)} == OF_THE_SERVER
    for other in (
        "SELECT * FROM booking.services",
        "SELECT * FROM booking.services(%s) WHERE true",
        "SELECT * FROM booking.services(%s), booking.resources(%s)",
        "SELECT booking.services(booking.business_of_reservation(%s), %s)",
        "SELECT booking.services(%s, %s); SELECT 1",
    ):
        assert not ONE_CALL.fullmatch(other), other


def test_the_wheel_carries_the_sql_and_the_documents(tmp_path: Path) -> None:
    """An installed service needs no repository to migrate a database, make the demo catalog and show the runbook."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in sql_folder().rglob("*.sql"):
        assert f"service/sql/{path.relative_to(sql_folder()).as_posix()}" in names
    assert "service/process/demo_catalog/salon.yaml" in names
    assert {f"service/deploy/{name}" for name in guides()} <= names
    assert not {name for name in names if name.startswith("tests/")}


def test_the_protocol_does_not_import_the_metrics() -> None:
    """A worker imports it before `multiprocessing` knows its parent, by which the metrics tell where they count."""
    program = "import sys, service.http.protocol; sys.exit('service.observability.metrics' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)
