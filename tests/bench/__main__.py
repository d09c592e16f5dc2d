"""What group commit gains: `make bench`, or `python -m tests.bench [--quick]`.

In one run, on one embedded server with its default settings (fsync on), two services with two workers each: one
with group commit, one with a call for each request (MAX_BATCH=1). They are measured in turn, several times, and
the table has the medians: of requests a second, of latencies, and of the ratios within one round, because a
machine that is slower for a while is slower for both. Beside them, what bounds them: pgbench calling the same
function for one request without HTTP, and the same uvicorn answering without a database.

Exit status 1 if any answer was not the expected one. No exit status depends on how quick this machine is.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import psycopg

from service.database.migrations import migrate
from service.embedded.server import EmbeddedServer
from service.observability.logging import configure_logging
from service.process.hosting import create_login
from tests.bench.load import generate
from tests.bench.report import report
from tests.bench.rounds import BATCHED, SINGLE, Bench, Plan, say
from tests.bench.scenarios import SCENARIOS
from tests.database import LOGIN, PASSWORD, TestDatabase
from tests.serving import REPOSITORY, SECRETS, ServiceProcess, free_port, wait_until

WORKERS: Final = 2
USUAL: Final = Plan(rounds=3, seconds=2.5)
QUICK: Final = Plan(rounds=1, seconds=1.5)


@contextmanager
def running(plan: Plan) -> Iterator[Bench]:
    """The embedded server, both services, and what answers without a database."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-bench-"))
    folder.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        # Two services and pgbench at once are more clients than one service has.
        server = stack.enter_context(EmbeddedServer(folder, settings={"max_connections": "200"}))
        url = server.url()
        migrate(url)
        with psycopg.connect(url, autocommit=True) as connection:
            create_login(connection, LOGIN, PASSWORD)
        database = TestDatabase(url)
        stack.callback(database.close)
        settings = {**SECRETS, "DATABASE_URL": database.url, "MIGRATION_DATABASE_URL": url, "WORKERS": WORKERS}
        # All load comes from one address.
        settings["RATE_LIMIT_ENABLED"] = False
        batched = stack.enter_context(ServiceProcess(folder / "batched.log", **settings))
        single = stack.enter_context(ServiceProcess(folder / "single.log", MAX_BATCH=1, **settings))
        ports = {BATCHED: batched.port, SINGLE: single.port}
        yield Bench(database, ports, stack.enter_context(ceiling()), plan)
        assert database.violations() == {}


@contextmanager
def ceiling() -> Iterator[int]:
    """The port of uvicorn with an application that has nothing to do."""
    port = free_port()
    arguments = [sys.executable, "-m", "tests.bench.ceiling", str(port), str(WORKERS)]
    with subprocess.Popen(arguments, cwd=REPOSITORY) as process:
        try:
            wait_until(lambda: _answers(port), "the server without a database")
            yield port
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    try:
        generate(port, SCENARIOS[0].requests("ceiling"), connections=1, warm_up_seconds=0, seconds=0)
    except ConnectionRefusedError:
        return False
    return True


@click.command()
@click.option("--quick", is_flag=True, help="One short round: less precise, in about forty seconds.")
@click.option("--rounds", type=click.IntRange(min=1), help="How often everything is measured.")
@click.option("--seconds", type=click.FloatRange(min=0.1), help="How long each measurement is.")
@click.option("--connections", type=click.IntRange(1, 100), help="How many requests are in flight.")
def main(quick: bool, **changes: Any) -> None:
    """Measure what group commit gains over one call for each request."""
    configure_logging("warning")
    plan = replace(QUICK if quick else USUAL, **{name: value for name, value in changes.items() if value})
    started = time.monotonic()
    with running(plan) as bench:
        bench.run()
    report(bench)
    say(f"\n{time.monotonic() - started:.0f} s")
    measured = [*bench.rounds.values(), bench.undisturbed, bench.disturbed]
    if unexpected := sum(rounds.unexpected for rounds in measured):
        raise click.ClickException(f"{unexpected} answers were not as expected")


if __name__ == "__main__":
    main(prog_name="python -m tests.bench")
