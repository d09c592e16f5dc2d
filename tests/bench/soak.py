"""The soak: the memory of each worker while it serves many requests."""

import itertools
from typing import Final

import click

from tests.bench.load import generate
from tests.bench.processes import resident_bytes
from tests.bench.scenarios import Scenario
from tests.bench.targets import Machinery
from tests.serving import ServiceProcess

_SCENARIO: Final = Scenario("soak", businesses=100)
# The parts of the requests after which the memory is read.
_MARKS: Final = (0.1, 0.5, 1.0)


def soak(machinery: Machinery, service: ServiceProcess, requests: int, connections: int) -> int:
    """Sends so many reserves, all on free slots, and prints the resident memory of each worker on the way.

    Returns how many were not granted.
    """
    service_id = machinery.new_service_id()
    _SCENARIO.prepare(machinery.database, service_id)
    stream = _SCENARIO.requests(service_id)
    sent = refused = 0
    click.echo(f"{'requests':>12}{'req/s':>10}  resident MB of each worker")
    for mark in _MARKS:
        part = round(requests * mark) - sent
        measured = generate(service.port, itertools.islice(stream, part), connections=connections)
        sent += part
        refused += part - measured.statuses[_SCENARIO.status]
        memory = "  ".join(f"{resident_bytes(pid) / 1e6:.1f}" for pid in sorted(service.worker_pids()))
        click.echo(f"{sent:>12,}{measured.per_second:>10,.0f}  {memory}")
    return refused
