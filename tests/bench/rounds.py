"""The measurements: round after round, each scenario in each variant, one after the other."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Final

import click

from tests.bench.figures import Figures, Rounds
from tests.bench.load import Measurement, generate
from tests.bench.pgbench import measure_yardstick
from tests.bench.scenarios import OTHERS, SCENARIOS, SPREAD, STAMPEDE, Scenario, health_requests
from tests.bench.targets import Machinery, Target

GROUP_COMMIT: Final = "group commit"
ONE_BY_ONE: Final = "one by one"
YARDSTICK: Final = "yardstick"
HTTP_ONLY: Final = "HTTP only"
HALF_LOAD: Final = "half load"
HEALTH: Final = "/health/live"
BARE: Final = "bare application"

# A steady pace far below what the service can do. In a closed loop the others would measure their share of the
# processor, of which a stampede takes more when it is refused more quickly.
OTHERS_PER_SECOND: Final = 100.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How often, how long, and with how many connections everything is measured."""

    rounds: int
    seconds: float
    connections: int = 64


class Bench:
    """Measures round after round.

    variants: the service with group commit, and with one call for each request.
    results: by section of the report and name of the row.
    """

    def __init__(self, machinery: Machinery, variants: dict[str, Target], bare: Target, plan: Plan) -> None:
        self._machinery = machinery
        self._variants = variants
        self._bare = bare
        self.plan = plan
        self.results: defaultdict[str, defaultdict[str, Rounds]] = defaultdict(lambda: defaultdict(list))
        self.unexpected = 0

    def run(self) -> None:
        """Measures all rounds. The variants change places from round to round."""
        self._warm_up()
        for number in range(self.plan.rounds):
            say(f"round {number + 1} of {self.plan.rounds}")
            self._measure_http_only()
            for scenario in SCENARIOS:
                for variant in list(self._variants)[:: 1 if number % 2 == 0 else -1]:
                    self._measure_scenario(scenario, variant)
                self._measure_yardstick(scenario)
            for scenario in SPREAD:
                self._measure_half_load(scenario)
            for variant in self._variants:
                self._measure_others(variant)

    def _warm_up(self) -> None:
        """Lets each connection of the services make its plans, which takes longer than a short measurement."""
        for target in self._variants.values():
            for scenario in SPREAD:
                _generate(target.port, scenario.requests(self._prepare(scenario)), self.plan)

    def _measure_http_only(self) -> None:
        for name, target in ((BARE, self._bare), (HEALTH, self._variants[GROUP_COMMIT])):
            self._add(HTTP_ONLY, name, self._load(target, health_requests(), status=200))

    def _measure_scenario(self, scenario: Scenario, variant: str) -> None:
        self._add(variant, scenario.name, self._demand(scenario, self._variants[variant]))

    def _measure_half_load(self, scenario: Scenario) -> None:
        """Measures latencies at half the rate that this round has shown to be possible."""
        possible = self.results[GROUP_COMMIT][scenario.name][-1].per_second
        self._add(
            HALF_LOAD, scenario.name, self._demand(scenario, self._variants[GROUP_COMMIT], max(1.0, possible / 2))
        )

    def _measure_yardstick(self, scenario: Scenario) -> None:
        figures, unexpected = measure_yardstick(
            self._machinery, scenario, clients=self.plan.connections, seconds=self.plan.seconds
        )
        self._add(YARDSTICK, scenario.name, figures)
        if unexpected:
            say(f"  unexpected transactions: {unexpected}")
            self.unexpected += unexpected

    def _measure_others(self, variant: str) -> None:
        """Measures the callers of many businesses, alone and beside a stampede at one slot of another business."""
        target = self._variants[variant]
        self._add(f"others, {variant}", "alone", self._demand(OTHERS, target, OTHERS_PER_SECOND))
        # In a process of its own: two generators in one would wait for each other.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
            processes.submit(abs, 0).result()  # the process has started before the stampede begins
            service_id = self._prepare(STAMPEDE)
            stampede = processes.submit(generate_scenario, STAMPEDE, service_id, target.port, self.plan)
            # The processor time is mostly that of the stampede.
            beside = replace(self._demand(OTHERS, target, OTHERS_PER_SECOND), service_us=None, postgres_us=None)
            self._add(f"others, {variant}", "beside a stampede", beside)
            storm = stampede.result()
        say(f"  the stampede: {storm.per_second:,.0f}/s")
        self._check(storm, STAMPEDE.status)

    def _demand(self, scenario: Scenario, target: Target, per_second: float | None = None) -> Figures:
        service_id = self._prepare(scenario)
        return self._load(target, scenario.requests(service_id), status=scenario.status, per_second=per_second)

    def _prepare(self, scenario: Scenario) -> str:
        service_id = self._machinery.new_service_id()
        scenario.prepare(self._machinery.database, service_id)
        return service_id

    def _load(
        self, target: Target, requests: Iterator[bytes], *, status: int, per_second: float | None = None
    ) -> Figures:
        """Generates load, and reads the processor time of all processes before it and after it."""
        sources: tuple[Callable[[], float], ...] = (target.cpu_seconds, self._machinery.postgres_cpu_seconds)
        before = [source() for source in sources]
        measured = _generate(target.port, requests, self.plan, per_second)
        self._check(measured, status)
        total = measured.statuses.total()
        service, postgres = (source() - earlier for source, earlier in zip(sources, before, strict=True))
        return Figures(
            per_second=measured.per_second,
            load_us=measured.cpu_seconds / total * 1e6,
            service_us=service / total * 1e6,
            postgres_us=postgres / total * 1e6,
            p50_ms=measured.percentile_ms(50),
            p99_ms=measured.percentile_ms(99),
        )

    def _check(self, measured: Measurement, status: int) -> None:
        others = {other: count for other, count in measured.statuses.items() if other != status}
        if others:
            say(f"  unexpected statuses: {others}")
            self.unexpected += sum(others.values())

    def _add(self, section: str, name: str, figures: Figures) -> None:
        self.results[section][name].append(figures)
        latencies = "" if figures.p50_ms is None else f", p50/p99 {figures.p50_ms:.1f}/{figures.p99_ms:.1f} ms"
        say(f"  {section}, {name}: {figures.per_second:,.0f}/s{latencies}")


def generate_scenario(scenario: Scenario, service_id: str, port: int, plan: Plan) -> Measurement:
    """Generates the load of a scenario, in whichever process."""
    return _generate(port, scenario.requests(service_id), plan)


def _generate(port: int, requests: Iterator[bytes], plan: Plan, per_second: float | None = None) -> Measurement:
    return generate(
        port,
        requests,
        connections=plan.connections,
        warm_up_seconds=plan.seconds / 5,
        seconds=plan.seconds,
        per_second=per_second,
    )


def say(progress: str) -> None:
    """Prints progress to stderr."""
    click.echo(progress, err=True)
