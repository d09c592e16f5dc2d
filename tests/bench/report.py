"""The tables at the end."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

import click

from tests.bench.figures import Figures, Rounds, median_of, median_ratio
from tests.bench.rounds import (
    BARE,
    GROUP_COMMIT,
    HALF_LOAD,
    HTTP_ONLY,
    ONE_BY_ONE,
    OTHERS_PER_SECOND,
    YARDSTICK,
    Bench,
)
from tests.bench.scenarios import SCENARIOS

# The most that p99 may be, as a multiple of p50, at half load.
WANTED_SPREAD: Final = 3.0

_NAME_WIDTH: Final = 25
_COLUMNS: Final[tuple[tuple[str, Callable[[Figures], float | None], str], ...]] = (
    ("req/s", lambda one: one.per_second, ",.0f"),
    ("p50 ms", lambda one: one.p50_ms, ".1f"),
    ("p99 ms", lambda one: one.p99_ms, ".1f"),
    ("service us", lambda one: one.service_us, ",.0f"),
    ("postgres us", lambda one: one.postgres_us, ",.0f"),
    ("load us", lambda one: one.load_us, ",.0f"),
)


def report(bench: Bench) -> None:
    """Prints medians over the rounds, and compares them with the wanted ratios."""
    results = bench.results
    bare = results[HTTP_ONLY][BARE]
    click.echo(f"\n{bench.plan.connections} connections; us: microseconds of processor time a request")
    _header(GROUP_COMMIT, ("x yardstick", "x bare HTTP", "x 1 by 1"))
    for name, rounds in results[GROUP_COMMIT].items():
        others = (results[YARDSTICK][name], bare, results[ONE_BY_ONE][name])
        _line(name, rounds, (f"{median_ratio(rounds, other):.2f}" for other in others))
    for name, rounds in results[HTTP_ONLY].items():
        _line(name, rounds, ("", f"{median_ratio(rounds, bare):.2f}"))
    _section("one call for each request (MAX_BATCH=1)", results[ONE_BY_ONE])
    _section("yardstick: yardstick.sql, one call a transaction, from pgbench", results[YARDSTICK])
    click.echo("\nlatency at half load (open loop, from when a request is due)")
    _header("", ("p99/p50",))
    for name, rounds in results[HALF_LOAD].items():
        _line(f"  {name}", rounds, (f"{_spread(rounds):.1f}",))
    for variant in (GROUP_COMMIT, ONE_BY_ONE):
        _section(f"others at {OTHERS_PER_SECOND:.0f}/s, {variant}", results[f"others, {variant}"])
    click.echo()
    for scenario in SCENARIOS:
        if scenario.wanted_ratio:
            ratio = median_ratio(results[GROUP_COMMIT][scenario.name], results[ONE_BY_ONE][scenario.name])
            verdict = "as it must" if ratio >= scenario.wanted_ratio else "LESS than it must"
            click.echo(f"{scenario.name}: {ratio:.2f}x one by one, {verdict} ({scenario.wanted_ratio}x)")
    for name, rounds in results[HALF_LOAD].items():
        verdict = "as it must" if _spread(rounds) <= WANTED_SPREAD else "MORE than it must"
        click.echo(f"{name}: p99/p50 at half load {_spread(rounds):.1f}, {verdict} ({WANTED_SPREAD})")


def _section(title: str, rows: Mapping[str, Rounds]) -> None:
    click.echo(f"\n{title}")
    for name, rounds in rows.items():
        _line(f"  {name}", rounds)


def _header(name: str, more: Iterable[str]) -> None:
    click.echo(name.ljust(_NAME_WIDTH) + "".join(f"{title:>12}" for title in (*(c[0] for c in _COLUMNS), *more)))


def _line(name: str, rounds: Rounds, more: Iterable[str] = ()) -> None:
    medians = ((median_of(rounds, figure), form) for _, figure, form in _COLUMNS)
    cells = ("" if value is None else format(value, form) for value, form in medians)
    click.echo((name.ljust(_NAME_WIDTH) + "".join(f"{cell:>12}" for cell in (*cells, *more))).rstrip())


def _spread(rounds: Rounds) -> float:
    """Returns the median of p99/p50."""
    spread = median_of(rounds, lambda one: one.p99_ms / one.p50_ms if one.p99_ms and one.p50_ms else None)
    assert spread is not None
    return spread
