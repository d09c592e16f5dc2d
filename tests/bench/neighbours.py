"""Measures what a greedy client costs another one: `python -m tests.bench.neighbours`.

One worker, with limits. A client at 127.0.0.2 reserves, lists slots and reads with a key at a steady pace: alone, and
beside each attack of a client at 127.0.0.1, which opens its connections anew twice a second. A greedy client has a
machine of its own, so here it gets only the processor time that nobody else wants. What it costs the kernel remains:
each attack is also sent to a process that reads all and answers nothing, which shows what the service could not save.

Exit status 1 if an answer of the other client was not the expected one. None depends on how quick this machine is.
"""

import asyncio
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Final

import click
import httpx2

from service.observability.logging import configure_logging
from tests.attacks import ATTACKS, GREEDY, close, send_all
from tests.bench.load import Measurement, generate, get, post_json
from tests.bench.targets import Machinery, machinery
from tests.database import at
from tests.processes import forget_peak, peak_bytes
from tests.serving import ADMIN_TOKEN, ServiceProcess, free_port

PER_SECOND: Final = 40.0
# How long the greedy client keeps its connections, and how long it then waits.
_PAUSE_SECONDS: Final = 0.25
_SETTINGS: Final = {"WORKERS": 1, "RATE_LIMIT_ENABLED": True, "MAX_LIVE_HOLDS_PER_CLIENT": 1_000_000}
_PROCESSES: Final = get_context("spawn")


@dataclass(slots=True)
class Beside:
    """What the other client measured beside an attack on the service, and beside the same one on the sink."""

    service: list[Measurement] = field(default_factory=list)
    sink: list[Measurement] = field(default_factory=list)
    # By how much the memory of the worker grew.
    growth_bytes: int = 0


@click.command()
@click.option("--rounds", default=12, type=click.IntRange(min=1), help="How often everything is measured.")
@click.option("--seconds", default=2.0, type=click.FloatRange(min=0.1), help="How long each measurement is.")
@click.option("--only", default="", help="Only the attacks whose name contains this.")
def main(rounds: int, seconds: float, only: str) -> None:
    """Measure the latencies of a client alone and beside a greedy one."""
    configure_logging("warning")
    alone: list[Measurement] = []
    attacks = {name: Beside() for name in ATTACKS if only in name}
    sink = free_port()
    with machinery() as machine, machine.service("neighbours", **_SETTINGS) as service, _beside(_sink, sink):
        requests = _requests(machine, service)
        _measure(service, requests, seconds)
        for _ in range(rounds):
            alone.append(_measure(service, requests, seconds))
            for name, beside in attacks.items():
                before = forget_peak(service.process.pid)
                with _beside(_attack, name, service.port):
                    beside.service.append(_measure(service, requests, seconds))
                beside.growth_bytes = max(beside.growth_bytes, peak_bytes(service.process.pid) - before)
                with _beside(_attack, name, sink):
                    beside.sink.append(_measure(service, requests, seconds))
    _report(alone, attacks)
    statuses: Counter[int] = Counter()
    for measured in itertools.chain(alone, *(beside.service for beside in attacks.values())):
        statuses += measured.statuses
    if unexpected := statuses.total() - statuses[200] - statuses[201]:
        raise click.ClickException(f"{unexpected} answers were not as expected")


def _report(alone: list[Measurement], attacks: dict[str, Beside]) -> None:
    click.echo(
        f"{'':33}{'p50 ms':>8}{'p99 ms':>8}{'x alone':>9}{'MB':>6}{'sink: p50 ms':>15}{'p99 ms':>8}{'x alone':>9}"
    )
    usual = _percentile(alone, 99)
    click.echo(f"{'alone':33}{_percentile(alone, 50):8.1f}{usual:8.1f}")
    for name, beside in attacks.items():
        of_service, of_sink = _percentile(beside.service, 99), _percentile(beside.sink, 99)
        click.echo(
            f"{name:33}{_percentile(beside.service, 50):8.1f}{of_service:8.1f}{of_service / usual:9.2f}"
            f"{beside.growth_bytes / 1e6:6.0f}{_percentile(beside.sink, 50):15.1f}{of_sink:8.1f}{of_sink / usual:9.2f}"
        )


def _percentile(measured: list[Measurement], percent: float) -> float:
    latencies = itertools.chain.from_iterable(one.latencies_ms for one in measured)
    return Measurement(latencies_ms=[*latencies]).percentile_ms(percent)


def _measure(service: ServiceProcess, requests: Iterator[bytes], seconds: float) -> Measurement:
    return generate(
        service.port,
        requests,
        connections=8,
        warm_up_seconds=0.5,
        seconds=seconds,
        per_second=PER_SECOND,
        address="127.0.0.2",
    )


def _requests(machine: Machinery, service: ServiceProcess) -> Iterator[bytes]:
    """Yields the requests of the other client without end: a reserve, a list of slots, and a read with a key."""
    machine.database.make_service(capacity=1_000_000)
    machine.database.make_service(
        business_id=GREEDY, slot_step_minutes=1, resource_ids=[f"r{number:02}" for number in range(40)]
    )
    made = httpx2.post(
        f"{service.url}/api/catalog/businesses/salon/keys",
        json={"name": "bench", "role": "staff"},
        headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
    )
    head, _, _ = get("/api/catalog/businesses/salon/services").rpartition(b"\r\n")
    read = head + f"Authorization: Bearer {made.json()['key']}\r\n\r\n".encode()
    for number in itertools.count():
        slot = at(number % 720)
        body = {"businessId": "salon", "serviceId": "cut", "slotStart": slot.isoformat()}
        yield post_json("/api/booking/reserve", "", json.dumps(body))
        start = (slot - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        yield get(f"/api/booking/availability?businessId=salon&serviceId=cut&from={start}&limit=20")
        yield read


@contextmanager
def _beside(run: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> Iterator[None]:
    """Runs a coroutine function in a process of its own, and waits until it has begun."""
    begun = _PROCESSES.Event()
    process = _PROCESSES.Process(target=_run, args=(run, begun, *arguments), daemon=True)
    process.start()
    begun.wait()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _run(run: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
    asyncio.run(run(*arguments))


def _yield_the_processor() -> None:
    # A session of its own, because Linux weighs sessions against each other, and only then their processes.
    os.setsid()
    os.nice(19)
    if (group := Path("/proc/self/autogroup")).exists():
        group.write_text("19")


async def _attack(begun: Event, name: str, port: int) -> None:
    _yield_the_processor()
    count, request = ATTACKS[name]
    requests = [request(number) for number in range(count)]
    while True:
        opened = await send_all(port, requests)
        begun.set()
        await asyncio.sleep(_PAUSE_SECONDS)
        close(opened)
        await asyncio.sleep(_PAUSE_SECONDS)


async def _sink(begun: Event, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", port, backlog=2048)
    begun.set()
    await server.serve_forever()


if __name__ == "__main__":
    main(prog_name="python -m tests.bench.neighbours")
