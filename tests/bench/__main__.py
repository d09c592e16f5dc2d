"""Measures requests over HTTP: `make bench`, or `python -m tests.bench [--quick | --proxy]`.

In one run, on one embedded server with its default settings (fsync on), two services with two workers each: one with
group commit, one with a call for each request (MAX_BATCH=1). They are measured in turn, several times, and the tables
have the medians: of rates, of latencies, of processor time, and of the ratios within one round, because a machine that
is slower for a while is slower for both. Beside them stand their bounds: a minimal function of the benchmark itself
that pgbench calls, and the same HTTP server without a database.

Exit status 1 if any answer was not the expected one. No exit status depends on how quick this machine is.
"""

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

import click

from service.observability.logging import configure_logging
from tests.bench.proxied import measure_proxy
from tests.bench.report import report
from tests.bench.rounds import GROUP_COMMIT, ONE_BY_ONE, Bench, Plan, say
from tests.bench.targets import bare_application, machinery, target

USUAL: Final = Plan(rounds=3, seconds=1.5)
QUICK: Final = Plan(rounds=1, seconds=1.0)


@click.command()
@click.option("--quick", is_flag=True, help="One short round: less precise, in about a minute.")
@click.option("--rounds", type=click.IntRange(min=1), help="How often everything is measured.")
@click.option("--seconds", type=click.FloatRange(min=0.1), help="How long each measurement is.")
@click.option("--connections", type=click.IntRange(1, 100), help="How many requests are in flight.")
@click.option("--proxy", is_flag=True, help="Instead: what a proxy in front of two servers costs and brings.")
def main(quick: bool, proxy: bool, **changes: Any) -> None:
    """Measure requests per second, latencies and processor time over HTTP."""
    configure_logging("warning")
    plan = replace(QUICK if quick else USUAL, **{name: value for name, value in changes.items() if value})
    started = time.monotonic()
    unexpected = measure_proxy(plan) if proxy else _measure(plan)
    say(f"\n{time.monotonic() - started:.0f} s")
    if unexpected:
        raise click.ClickException(f"{unexpected} answers were not as expected")


def _measure(plan: Plan) -> int:
    with ExitStack() as stack:
        # First, so that both of its workers have started when it is measured.
        bare = stack.enter_context(bare_application())
        machine = stack.enter_context(machinery())
        batched = stack.enter_context(machine.service("batched"))
        single = stack.enter_context(machine.service("single", MAX_BATCH=1))
        bench = Bench(machine, {GROUP_COMMIT: target(batched), ONE_BY_ONE: target(single)}, bare, plan)
        bench.run()
    report(bench)
    return bench.unexpected


if __name__ == "__main__":
    main(prog_name="python -m tests.bench")
