"""Measures the decision path inside PostgreSQL: `python -m tests.bench.decisions [--quick | --full]`.

On an embedded server with its default settings (fsync on), in databases that are migrated as the product does it, by
calls of the service's login. The time of a call is taken inside the server, from calling booking.execute to having its
outcomes, without the network and the commit. The processor time is that of the backend and includes the commit.

Exit status 1 if any answer was not the expected one. No exit status depends on how quick this machine is.
"""

import time
from dataclasses import replace
from typing import Final

import click

from service.observability.logging import configure_logging
from tests.bench.decisions.plan import FULL, QUICK, USUAL
from tests.bench.decisions.report import Row, report
from tests.bench.decisions.rows import MEASUREMENTS
from tests.bench.decisions.scratch import UnexpectedOutcomes, scratch_server

_ALL: Final = tuple(range(1, len(MEASUREMENTS) + 1))


@click.command()
@click.option("--quick", is_flag=True, help="One run with fewer rows: less precise, in about fifteen seconds.")
@click.option("--full", is_flag=True, help="With ten million past appointments: eight minutes, gigabytes of disk.")
@click.option("--planted", type=click.FloatRange(min=0, min_open=True), help="Scales all rows that are planted.")
@click.option("--runs", type=click.IntRange(min=1), help="How often everything is measured.")
@click.option("--calls", type=click.IntRange(min=10), help="How many calls a run makes, more or less.")
@click.option("--row", "chosen", multiple=True, type=click.IntRange(1, len(MEASUREMENTS)), help="Only this one.")
def main(
    quick: bool, full: bool, planted: float | None, runs: int | None, calls: int | None, chosen: tuple[int, ...]
) -> None:
    """Measure what decisions cost inside PostgreSQL."""
    configure_logging("warning")
    plan = FULL if full else QUICK if quick else USUAL
    plan = replace(plan, runs=runs or plan.runs, calls=calls or plan.calls)
    if planted:
        plan = plan.scaled(planted)
    rows: list[Row] = []
    with scratch_server() as server:
        for number in chosen or _ALL:
            started = time.monotonic()
            measure = MEASUREMENTS[number - 1]
            try:
                rows += measure(server, plan)
            except UnexpectedOutcomes as error:
                raise click.ClickException(f"row {number}: {error}") from error
            name = measure.__name__.replace("_", " ")
            click.echo(f"{number} {name}: {time.monotonic() - started:.0f} s", err=True)
    report(rows)


if __name__ == "__main__":
    main(prog_name="python -m tests.bench.decisions")
