"""The measurements: round after round, each scenario in each of its variants, one after the other."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Final

import click

from tests.bench.load import Measurement, generate
from tests.bench.pgbench import run_pgbench
from tests.bench.scenarios import OTHERS, SCENARIOS, STAMPEDE, Scenario
from tests.database import TestDatabase

BATCHED: Final = "group commit"
SINGLE: Final = "one by one"

# What the others want of a stampede's neighbour: far less than there is, at a steady pace. In a closed loop they would
# measure who gets how much of the processor, which a stampede that is refused more quickly has more of.
OTHERS_PER_SECOND: Final = 100.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How often, how long, and how many at once."""

    rounds: int
    seconds: float
    connections: int = 64


@dataclass(slots=True)
class Rounds:
    """What was measured of one scenario, round by round."""

    http: dict[str, list[Measurement]] = field(default_factory=lambda: {BATCHED: [], SINGLE: []})
    pgbench: list[float] = field(default_factory=list)
    unexpected: int = 0


class Bench:
    """Everything that runs while it is measured."""

    def __init__(self, database: TestDatabase, ports: dict[str, int], ceiling_port: int, plan: Plan) -> None:
        self._database = database
        self._ports = ports
        self._ceiling_port = ceiling_port
        self.plan = plan
        self._services = 0
        self.ceiling: list[float] = []
        self.rounds = {scenario: Rounds() for scenario in SCENARIOS}
        # What others get without a stampede, and beside one.
        self.undisturbed, self.disturbed = Rounds(), Rounds()

    def run(self) -> None:
        """All rounds. Which variant goes first changes from round to round."""
        for number in range(self.plan.rounds):
            say(f"round {number + 1} of {self.plan.rounds}")
            self._measure_ceiling()
            for scenario in SCENARIOS:
                steps: list[Callable[[Scenario], float]] = [self._group_commit, self._one_by_one, self._pgbench]
                for step in steps if number % 2 == 0 else steps[1::-1] + steps[2:]:
                    per_second = step(scenario)
                    say(f"  {scenario.name}, {step.__name__.strip('_').replace('_', ' ')}: {per_second:,.0f}/s")
            for variant in (BATCHED, SINGLE):
                self._measure_others(variant)

    def _group_commit(self, scenario: Scenario) -> float:
        return self._measure(scenario, BATCHED)

    def _one_by_one(self, scenario: Scenario) -> float:
        return self._measure(scenario, SINGLE)

    def _measure(self, scenario: Scenario, variant: str) -> float:
        service_id = self._prepare(scenario)
        measured = load(self.plan, self._ports[variant], scenario, service_id)
        self._add(self.rounds[scenario], variant, scenario, measured)
        return measured.per_second

    def _pgbench(self, scenario: Scenario) -> float:
        service_id = self._prepare(scenario)
        script = scenario.script(service_id, clients=self.plan.connections)
        per_second, total = run_pgbench(
            self._database.url, script, clients=self.plan.connections, seconds=self.plan.seconds
        )
        held = self._database.value("SELECT count(*) FROM booking.reservations WHERE service_id = %s", service_id)
        rounds = self.rounds[scenario]
        rounds.pgbench.append(per_second)
        rounds.unexpected += abs(held - (total if scenario.granted else scenario.businesses))
        return per_second

    def _measure_others(self, variant: str) -> None:
        """What the callers of many businesses get while all the others want one sold-out slot of another business."""
        port = self._ports[variant]
        alone = load(self.plan, port, OTHERS, self._prepare(OTHERS), OTHERS_PER_SECOND)
        self._add(self.undisturbed, variant, OTHERS, alone)
        # In a process of its own: two generators in one would wait for each other.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
            processes.submit(_unexpected, STAMPEDE, alone).result()  # so that it is there when it is wanted
            stampede = processes.submit(load, self.plan, port, STAMPEDE, self._prepare(STAMPEDE))
            beside = load(self.plan, port, OTHERS, self._prepare(OTHERS), OTHERS_PER_SECOND)
            storm = stampede.result()
        self._add(self.disturbed, variant, OTHERS, beside)
        self.disturbed.unexpected += _unexpected(STAMPEDE, storm)
        p99 = f"p99 {alone.percentile_ms(99):.0f} ms; {beside.percentile_ms(99):.0f} ms"
        say(f"  others, {variant}: {p99} beside {storm.per_second:,.0f}/s of one tenant")

    def _add(self, rounds: Rounds, variant: str, scenario: Scenario, measured: Measurement) -> None:
        rounds.http[variant].append(measured)
        rounds.unexpected += _unexpected(scenario, measured)

    def _measure_ceiling(self) -> None:
        measured = load(self.plan, self._ceiling_port, SCENARIOS[0], "ceiling")
        assert set(measured.statuses) == {200}
        self.ceiling.append(measured.per_second)
        say(f"  HTTP without a database: {measured.per_second:,.0f}/s")

    def _prepare(self, scenario: Scenario) -> str:
        self._services += 1
        service_id = f"service-{self._services}"
        scenario.prepare(self._database, service_id)
        return service_id


def load(plan: Plan, port: int, scenario: Scenario, service_id: str, per_second: float | None = None) -> Measurement:
    """One measurement of the plan: as many requests as are answered, or so many per second."""
    return generate(
        port,
        scenario.requests(service_id),
        connections=plan.connections,
        warm_up_seconds=plan.seconds / 5,
        seconds=plan.seconds,
        per_second=per_second,
    )


def _unexpected(scenario: Scenario, measured: Measurement) -> int:
    """How many were answered with something else."""
    return measured.statuses.total() - measured.statuses[scenario.status]


def say(progress: str) -> None:
    """Progress, for whoever waits."""
    click.echo(progress, err=True)
