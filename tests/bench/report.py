"""What is printed at the end."""

from statistics import median

import click

from tests.bench.load import Measurement
from tests.bench.rounds import BATCHED, OTHERS_PER_SECOND, SINGLE, Bench


def report(bench: Bench) -> None:
    """The table and the two ratios that are demanded."""
    ceiling = median(bench.ceiling)
    click.echo(f"\n{'':24}{'one by one':>22}{'group commit':>24}{'group commit against':>36}")
    click.echo(
        f"{f'{bench.plan.connections} connections':24}{'req/s':>8}{'p50/p99 ms':>14}{'req/s':>10}{'p50/p99 ms':>14}"
        f"{'one by one':>14}{'pgbench':>10}{'bare HTTP':>12}{'pgbench/s':>11}"
    )
    for scenario, rounds in bench.rounds.items():
        single, batched = rounds.http[SINGLE], rounds.http[BATCHED]
        click.echo(
            f"{scenario.name:24}"
            f"{_rate(single):>8}{_latencies(single):>14}{_rate(batched):>10}{_latencies(batched):>14}"
            f"{_ratio(batched, [one.per_second for one in single]):>13.2f}x"
            f"{_ratio(batched, rounds.pgbench):>9.2f}x"
            f"{_ratio(batched, bench.ceiling):>11.2f}x"
            f"{median(rounds.pgbench):>11,.0f}"
        )
    click.echo(f"{'HTTP without a database':24}{'':22}{ceiling:>10,.0f}")
    click.echo(f"\nothers, at a steady {OTHERS_PER_SECOND:.0f}/s")
    for name, rounds in (("alone", bench.undisturbed), ("beside a stampede", bench.disturbed)):
        single, batched = rounds.http[SINGLE], rounds.http[BATCHED]
        click.echo(f"{name:24}{_rate(single):>8}{_latencies(single):>14}{_rate(batched):>10}{_latencies(batched):>14}")
    for scenario, rounds in bench.rounds.items():
        if scenario.wanted_ratio:
            ratio = _ratio(rounds.http[BATCHED], [one.per_second for one in rounds.http[SINGLE]])
            verdict = "as it must" if ratio >= scenario.wanted_ratio else "LESS than it must"
            click.echo(f"{scenario.name}: {ratio:.2f}x one by one, {verdict} ({scenario.wanted_ratio}x)")


def _rate(measured: list[Measurement]) -> str:
    return f"{median(one.per_second for one in measured):,.0f}"


def _latencies(measured: list[Measurement]) -> str:
    p50, p99 = (median(one.percentile_ms(percent) for one in measured) for percent in (50, 99))
    return f"{p50:.0f}/{p99:.0f}"


def _ratio(measured: list[Measurement], others: list[float]) -> float:
    """The median of the ratios within one round."""
    return median(one.per_second / other for one, other in zip(measured, others, strict=True))
