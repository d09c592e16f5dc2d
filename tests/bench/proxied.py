"""What a proxy costs, and what a second node brings: `make bench ARGS=--proxy`.

One service with two workers on one server, one on a proxy with that server as its only partition, and one on a proxy
with two partitions on two servers; all with fsync. On one machine they share its processors: the processor time of
a request shows the cost, and the rate shows what a second node brings only if the processors are not the limit.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import click

from service.database.migrations import migrate
from service.database.proxying import migrate_proxy
from tests.bench.figures import Figures, Rounds, median_of
from tests.bench.load import Measurement, generate
from tests.bench.rounds import Plan, say
from tests.bench.scenarios import SCENARIOS
from tests.bench.targets import WORKERS
from tests.database import LOGIN, PASSWORD, TestDatabase
from tests.folders import public_folder
from tests.processes import cpu_seconds
from tests.proxy.servers import NODE_PROGRAMS, PROXY_PROGRAMS, Server
from tests.serving import SECRETS, ServiceProcess

# Like the embedded server: fsync, and connections enough for all services at once.
_SETTINGS: Final = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "128MB", "max_connections": "300"}
_MEASURED: Final = [scenario for scenario in SCENARIOS if scenario.granted and not scenario.one_slot]
_COLUMNS: Final = ("req/s", "p50 ms", "p99 ms", "service us", "nodes us", "proxy us")


@dataclass(frozen=True, slots=True)
class _Setup:
    """A service, its database as a superuser sees it, and the servers that do its work."""

    service: ServiceProcess
    database: TestDatabase
    nodes: list[Server]
    proxies: list[Server]

    def cpu_seconds(self) -> tuple[float, float, float]:
        """Sums the processor time so far: of the service, of the nodes, and of the proxy."""
        nodes, proxies = (sum(cpu_seconds(server.pid) for server in servers) for servers in (self.nodes, self.proxies))
        return cpu_seconds(self.service.process.pid), nodes, proxies


def measure_proxy(plan: Plan) -> int:
    """Measures all three in turn, round after round, prints medians, and returns the number of unexpected answers."""
    unexpected = 0
    results: defaultdict[tuple[str, str], list[tuple[Figures, float]]] = defaultdict(list)
    with _setups() as setups:
        for setup in setups.values():  # each connection makes its plans, which takes longer than a short measurement
            for scenario in range(len(_MEASURED)):
                _demand(setup, "warm-up", scenario, plan)
        for number in range(plan.rounds):
            say(f"round {number + 1} of {plan.rounds}")
            for scenario in range(len(_MEASURED)):
                for name in list(setups)[:: 1 if number % 2 == 0 else -1]:
                    answers, figures, proxy_us = _demand(setups[name], f"round-{number}", scenario, plan)
                    unexpected += sum(count for status, count in answers.statuses.items() if status != 201)
                    results[_MEASURED[scenario].name, name].append((figures, proxy_us))
        assert all(setup.database.violations() == {} for setup in setups.values())
    _report(results)
    return unexpected


def _demand(setup: _Setup, service_id: str, number: int, plan: Plan) -> tuple[Measurement, Figures, float]:
    scenario = _MEASURED[number]
    service_id = f"{service_id}-{number}"
    for business in range(scenario.first_business, scenario.first_business + scenario.businesses):
        setup.database.make_service(service_id, business_id=f"bench-{business:03}", capacity=scenario.capacity)
    before = setup.cpu_seconds()
    answers = generate(
        setup.service.port,
        scenario.requests(service_id),
        connections=plan.connections,
        warm_up_seconds=0.3,
        seconds=plan.seconds,
    )
    used = [after - then for after, then in zip(setup.cpu_seconds(), before, strict=True)]
    requests = max(1, sum(answers.statuses.values()))
    service_us, nodes_us, proxy_us, load_us = (1e6 * each / requests for each in (*used, answers.cpu_seconds))
    latencies = answers.percentile_ms(50), answers.percentile_ms(99)
    return answers, Figures(answers.per_second, load_us, service_us, nodes_us, *latencies), proxy_us


@contextmanager
def _setups() -> Iterator[dict[str, _Setup]]:
    with public_folder() as folder, ExitStack() as stack:
        programs = {"proxy": PROXY_PROGRAMS, "north": NODE_PROGRAMS, "south": NODE_PROGRAMS}
        servers = {name: Server(which, folder / name, _SETTINGS) for name, which in programs.items()}
        for server in servers.values():
            server.create()
            server.start()
            stack.callback(server.stop)
            server.execute("CREATE ROLE holdfast_service NOLOGIN")
            server.execute(f"CREATE ROLE {LOGIN} LOGIN PASSWORD '{PASSWORD}' IN ROLE holdfast_service")
        proxy, north, south = servers.values()
        setups = {}
        for name, first, nodes in (
            ("one server", north, []),
            ("proxy, one partition", proxy, [north]),
            ("proxy, two partitions", proxy, [north, south]),
        ):
            database = f"bench_{len(nodes)}"
            for server in {first, *nodes}:
                server.execute(f"CREATE DATABASE {database}")
            url = first.url(database, f"{LOGIN}:{PASSWORD}")
            if nodes:
                migrate_proxy(first.url(database), [node.url(database) for node in nodes], url)
            else:
                migrate(first.url(database))
            settings = {**SECRETS, "DATABASE_URL": url, "WORKERS": WORKERS, "RATE_LIMIT_ENABLED": False}
            service = stack.enter_context(ServiceProcess(folder / f"{database}.log", **settings))
            admin = TestDatabase(first.url(database))
            stack.callback(admin.close)
            setups[name] = _Setup(service, admin, nodes or [north], [proxy] if nodes else [])
        yield setups


def _report(results: dict[tuple[str, str], list[tuple[Figures, float]]]) -> None:
    for scenario in _MEASURED:
        click.echo(f"\n{scenario.name:<25}" + "".join(f"{title:>12}" for title in _COLUMNS))
        for (measured, name), pairs in results.items():
            if measured == scenario.name:
                rounds: Rounds = [figures for figures, _ in pairs]
                values = [median_of(rounds, figure) for figure in (
                    lambda one: one.per_second, lambda one: one.p50_ms, lambda one: one.p99_ms,
                    lambda one: one.service_us, lambda one: one.postgres_us,
                )]  # fmt: skip
                values.append(sorted(proxy_us for _, proxy_us in pairs)[len(pairs) // 2])
                click.echo(f"  {name:<23}" + "".join(f"{value:>12,.1f}" for value in values))
