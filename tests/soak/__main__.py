"""Runs the service for an hour, and compares its end with its beginning: `make soak`, `make soak ARGS="--minutes 5"`.

Two kinds of load run at once, on an embedded server with its default settings: holds that expire unused, at a steady
pace, and guests and staff who do everything else. Holds end within seconds and are deleted within minutes, so that
tables and indexes should stop growing early: what goes on growing is a leak, or bloat. The report is a table and a
picture. Exit status 1 if an answer was not as expected, an invariant is violated, or a figure has grown by more than
its bound; latencies have none, because machines are noisy.
"""

import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import click

from service.observability.logging import configure_logging
from tests.bench.targets import machinery
from tests.soak.churn import Churn
from tests.soak.guests import Guests
from tests.soak.picture import picture
from tests.soak.report import report
from tests.soak.samples import Sample, Sampler

# Short, so that an hour has hundreds of each.
_SETTINGS: Final = {"CLEANUP_INTERVAL_SECONDS": 10, "IDEMPOTENCY_WINDOW_HOURS": 60 / 3600}
_COLUMNS: Final = " minutes  churn/s guests/s  p50 ms  p99 ms  live holds  worker MB"


@click.command()
@click.option("--minutes", type=click.FloatRange(min=0.1), default=60.0, help="How long it runs.")
@click.option("--sample-seconds", type=click.FloatRange(min=1), default=10.0, help="How often it is measured.")
@click.option("--per-second", type=click.IntRange(1, 5000), default=300, help="Holds a second that expire unused.")
@click.option("--guests", type=click.IntRange(1, 100), default=4, help="Guests and staff at once.")
@click.option("--picture", "path", type=click.Path(path_type=Path), default=Path("soak.svg"), help="Where it is drawn.")
def main(minutes: float, sample_seconds: float, per_second: int, guests: int, path: Path) -> None:
    """Measure memory, bloat, indexes, reads and latencies over a long time."""
    configure_logging("warning")
    samples: list[Sample] = []
    with ExitStack() as stack:
        machine = stack.enter_context(machinery())
        churn = Churn.prepared(machine.database)
        service = stack.enter_context(machine.service("soak", **_SETTINGS))
        visitors = stack.enter_context(Guests.running(machine.database, service, guests))
        sampler = Sampler(machine, service, visitors)
        # A process of its own: its latencies must not contain the work of the guests.
        generator = stack.enter_context(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
        click.echo(_COLUMNS, err=True)
        started = time.monotonic()
        while time.monotonic() - started < minutes * 60:
            sent = generator.submit(churn.send, service.port, sample_seconds, per_second).result()
            samples.append(sampler.sample(sent, (time.monotonic() - started) / 60))
            churn = churn.after(sent)
            click.echo(samples[-1].line(), err=True)
    path.write_text(picture(samples), encoding="utf-8")
    problems = report(samples)
    click.echo(f"\n{path} shows them over time")
    if problems:
        raise click.ClickException("; ".join(problems))


if __name__ == "__main__":
    main(prog_name="python -m tests.soak")
