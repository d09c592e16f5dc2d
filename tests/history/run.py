"""One run: clients and the nemesis for a while, then the final reads, and a check of the history."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.history.checker import Verdict, check
from tests.history.clients import BEARER, Client, Crowd, Recorder, tally
from tests.history.nemesis import Nemesis
from tests.history.postgres import embedded, proxied
from tests.history.record import Call, History
from tests.history.sabotage import SABOTAGES
from tests.history.stage import Stage
from tests.history.town import DAY, TOWN, settings_of, slots

_DAYS_AHEAD: Final = 7
# How long calls under way may take when the clients are stopped. Then they are left without an answer.
_LAST_CALLS_SECONDS: Final = 3.0
_READERS: Final = 16
# Violations of each invariant that a report shows.
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Options:
    """The size of a run."""

    seconds: float
    seed: int
    clients: int
    # The name of broken functions: tests/history/sabotage.py.
    sabotage: str | None = None
    # Whether PostgreSQL is a proxy with two nodes.
    proxy: bool = False
    # Whether faults are injected, and everything is read back at the end.
    faults: bool = True
    # The clients go on after `seconds` until they have made so many calls.
    least_calls: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run."""

    history: History
    verdict: Verdict
    faults: Counter[str]

    def report(self) -> str:
        """Returns a text for people: the calls by outcome, the faults, the comparisons and the violations."""
        outcomes = tally(self.history.calls)
        lines = ["calls by outcome:"]
        for kind in sorted({kind for kind, _ in outcomes}):
            counts = sorted(((n, outcome) for (k, outcome), n in outcomes.items() if k == kind), reverse=True)
            lines.append(f"  {kind:18}" + ", ".join(f"{outcome} {n}" for n, outcome in counts))
        lines += _table("faults:", self.faults) + _table("comparisons:", self.verdict.comparisons)
        violations = self.verdict.violations
        lines += _table(f"violations: {len(violations)}", Counter(violation.invariant for violation in violations))
        by_number = {call.number: call for call in self.history.calls}
        shown: Counter[str] = Counter()
        for violation in violations:
            shown[violation.invariant] += 1
            if shown[violation.invariant] <= _SHOWN:
                lines.append(f"- {violation}")
                lines += [f"    {_line(by_number[number])}" for number in violation.calls[-12:] if number in by_number]
        return "\n".join(lines)


async def run(options: Options, folder: Path, progress: Callable[[str], None]) -> Result:
    """Runs clients against a service of its own, and checks what they recorded."""
    sabotage = SABOTAGES[options.sabotage] if options.sabotage else None
    async with (
        proxied() if options.proxy else embedded() as postgres,
        Stage.running(postgres, folder, sabotage) as stage,
        stage.client() as http,
    ):
        now = time.time()
        history = History(TOWN, now)
        recorder = Recorder(history, http)
        await _build(recorder)
        crowd = Crowd(slots(now - now % DAY + _DAYS_AHEAD * DAY, now))
        nemesis = Nemesis(stage, recorder, options.seed)
        clients = [Client(number, recorder, crowd, options.seed) for number in range(1, options.clients + 1)]
        async with asyncio.TaskGroup() as tasks:
            reporter = tasks.create_task(_report(history, nemesis, progress))
            enough = tasks.create_task(_enough(history, options))
            tasks.create_task(_clients(clients, crowd, enough))
            faults = tasks.create_task(nemesis.run())
            if not options.faults:
                nemesis.stopped.set()
            await enough
            nemesis.stopped.set()
            await faults
            reporter.cancel()
        if options.faults:
            await stage.settle()
            history.settled_at = recorder.now()
            await _read_all(recorder, stage, history)
    history.calls.sort(key=lambda call: call.number)
    return Result(history, check(history), nemesis.injected)


async def _build(recorder: Recorder) -> None:
    """Puts the businesses with their resources and services."""
    for business, offers in TOWN.offers.items():
        path = f"/api/catalog/businesses/{business}"
        puts: list[tuple[str, dict[str, Any]]] = [(path, {"name": business, "country": "DE"})]
        puts += [
            (f"{path}/resources/{resource}", {"name": resource, "kind": "room", "seats": seats})
            for resource, seats in TOWN.seats[business].items()
        ]
        puts += [
            (f"{path}/services/{service}", settings_of(service, offer, offer.capacity))
            for service, offer in offers.items()
        ]
        for path, body in puts:
            answer = await recorder.client.put(path, json=body, headers=BEARER)
            assert answer.status_code == 201, answer.text


async def _enough(history: History, options: Options) -> None:
    """Waits until the clients have run for long enough and made enough calls."""
    await asyncio.sleep(options.seconds)
    while len(history.calls) < options.least_calls:  # noqa: ASYNC110 — a history has no event
        await asyncio.sleep(0.1)


async def _clients(clients: list[Client], crowd: Crowd, enough: asyncio.Task[None]) -> None:
    """Runs the clients until it is enough, and ends the calls that are still under way a while after that."""
    tasks = [asyncio.create_task(client.run()) for client in clients]
    await asyncio.wait([enough, *tasks], return_when=asyncio.FIRST_COMPLETED)
    ended = [task for task in tasks if task.done()]
    crowd.stopped = True
    _, late = await asyncio.wait(tasks, timeout=_LAST_CALLS_SECONDS if not ended else 0)
    for task in late:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


async def _report(history: History, nemesis: Nemesis, progress: Callable[[str], None]) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(5)
        calls = history.calls
        progress(
            f"{time.monotonic() - began:5.0f} s: {len(calls)} calls, {sum(call.is_unknown for call in calls)} unknown, "
            f"{nemesis.injected.total()} faults; latest: {nemesis.latest}"
        )


async def _read_all(recorder: Recorder, stage: Stage, history: History) -> None:
    """Reads everything back: appointments with their audit trails, live holds, and the views of the invariants."""
    appointments: dict[str, str] = {}
    for business in TOWN.offers:
        span = {"from": "2000-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z", "limit": "500"}
        for call in await _pages(recorder, "list_appointments", business, "/api/booking/appointments", span):
            appointments |= dict.fromkeys((body["appointmentId"] for body in call.answer["items"]), business)
        await _pages(recorder, "list_holds", business, "/api/booking/reservations", {"limit": "500"})
    await _all(
        _read(recorder, "audit", business, {"appointmentId": one}, f"/api/booking/appointments/{one}/audit")
        for one, business in appointments.items()
    )
    holds = {
        call.answer["reservationId"]: call.business
        for call in history.calls
        if call.kind == "reserve" and call.is_acknowledged
    }
    await _all(
        _read(recorder, "get_hold", business, {"reservationId": one}, f"/api/booking/reservations/{one}")
        for one, business in holds.items()
    )
    views: Counter[str] = Counter()
    for node in stage.postgres.nodes:
        async with await node.connect() as connection:
            found = await connection.execute("SELECT * FROM booking.invariant_violations(false)")
            views.update(dict(await found.fetchall()))
    at = recorder.now()
    recorder.add(Call(recorder.number(), "invariants", "", {}, at, at, 200, dict(+views)))


async def _pages(recorder: Recorder, kind: str, business: str, path: str, query: dict[str, str]) -> list[Call]:
    calls = []
    cursor: dict[str, str] = {}
    while True:
        params = {"businessId": business, **query, **cursor}
        call = await recorder.call(kind, business, query | cursor, "GET", path, headers=BEARER, params=params)
        assert call.is_acknowledged, call
        calls.append(call)
        if call.answer["nextCursor"] is None:
            return calls
        cursor = {"cursor": call.answer["nextCursor"]}


async def _read(recorder: Recorder, kind: str, business: str, request: dict[str, Any], path: str) -> None:
    call = await recorder.call(kind, business, request, "GET", path, headers=BEARER, params={"businessId": business})
    assert not call.is_unknown, call


async def _all(reads: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs coroutines, a few at a time."""
    waiting = iter(reads)

    async def work() -> None:
        for read in waiting:
            await read

    async with asyncio.TaskGroup() as readers:
        for _ in range(_READERS):
            readers.create_task(work())


def _table(title: str, counts: Counter[str]) -> list[str]:
    return [title, *(f"  {count:8} {name}" for name, count in sorted(counts.items()))]


def _line(call: Call) -> str:
    shown = {name: value for name, value in call.answer.items() if name not in ("alternatives", "items", "slots")}
    outcome = "no answer" if call.status is None else f"{call.status} {call.code}"
    return f"{call.number} {call.kind} {call.started:.3f}-{call.ended:.3f} {call.request} -> {outcome} {shown}"[:600]
