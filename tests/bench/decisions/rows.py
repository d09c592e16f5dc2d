"""The measurements: each makes a database of its own, plants what it needs, and gives rows of the report.

A figure is the median over the runs of the plan; a ratio is taken within a run, of two measurements that alternate.
Each measurement raises `UnexpectedOutcomes` if the requests were not answered as they must be.
"""

from collections.abc import Callable, Iterator
from statistics import median
from typing import Final

from tests.bench.decisions.plan import Plan
from tests.bench.decisions.purging import measure_purge
from tests.bench.decisions.report import Row
from tests.bench.decisions.scratch import HUGE_CAPACITY, SERVICES, Scratch, ScratchServer, Timings, expect

_WARM_UP_CALLS: Final = 10
_SPREAD_BATCHES: Final = (8, 32, 128)
_BATCH: Final = 32
_FOLLOWING_CALLS: Final = 10
_MONTH_SLOTS: Final = 744
# Far from the slots on which claims are planted.
_FREE_SLOTS: Final = 10_000


def spread_load(server: ScratchServer, plan: Plan) -> Iterator[Row]:
    """Random slots of many businesses, in batches: what a reserve costs where nothing is contended."""
    with server.database() as scratch:
        scratch.plant_services(plan.businesses)
        scratch.settle()
        for requests in _SPREAD_BATCHES:
            calls = max(_WARM_UP_CALLS, plan.calls * _BATCH // requests)
            timed: list[Timings] = []
            for _ in range(plan.runs):
                scratch.prepare_spread(_WARM_UP_CALLS + calls, requests, plan.businesses)
                timed.append(_timed(scratch, calls, requests, granted=True))
            bar = 80 if requests == _BATCH else None
            yield _per_request(f"1 spread load, batches of {requests}: a reserve", timed, requests, bar)


def sold_out(server: ScratchServer, plan: Plan) -> Iterator[Row]:
    """One slot that is full: every request is refused."""
    with server.database() as scratch:
        scratch.plant_services(1)
        scratch.make_service("full", capacity=1)
        scratch.prepare_slots(1, service_id="full")
        assert scratch.call_prepared(1, 1).done == 1
        scratch.settle()
        timed: list[Timings] = []
        calls = 2 * plan.calls
        for _ in range(plan.runs):
            scratch.prepare_slots(_WARM_UP_CALLS + calls, _BATCH, service_id="full")
            timed.append(_timed(scratch, calls, _BATCH, granted=False))
        yield _per_request(f"2 sold-out slot, batches of {_BATCH}: a refusal", timed, _BATCH, 25)


def live_holds(server: ScratchServer, plan: Plan) -> Iterator[Row]:
    """One reserve on a slot that has many live holds, against one on a slot that has none."""
    with server.database() as scratch:
        scratch.plant_services(1)
        scratch.make_service("hot", capacity=HUGE_CAPACITY)
        scratch.database.rows(
            "CALL bench.plant_holds('b1', 'hot', 1, %s, now() + interval '50 minutes')", plan.live_holds
        )
        scratch.settle()
        calls = max(10, plan.calls // 3)
        empty: list[float] = []
        full: list[float] = []
        for run in range(plan.runs):
            # Each on a slot of its own.
            first_slot = _FREE_SLOTS + run * (_WARM_UP_CALLS + calls)
            scratch.prepare_slots(
                _WARM_UP_CALLS + calls, service_id="hot", first_slot=first_slot, slots=_WARM_UP_CALLS + calls
            )
            empty.append(median(_timed(scratch, calls, 1, granted=True).seconds))
            scratch.prepare_slots(_WARM_UP_CALLS + calls, service_id="hot")
            full.append(median(_timed(scratch, calls, 1, granted=True).seconds))
        yield _ratio(f"3 one reserve, {plan.live_holds:,} live holds against none", empty, full, 1.5)


def expiry_at_once(server: ScratchServer, plan: Plan) -> Iterator[Row]:
    """A full slot whose holds have expired at one instant, and no purge: the next callers find them."""
    first: list[float] = []
    following: list[float] = []
    with server.database() as scratch:
        scratch.plant_services(1)
        # Plans of the session are made before, as they are in the service.
        scratch.make_service("warm", capacity=HUGE_CAPACITY)
        scratch.database.rows("CALL bench.plant_holds('b1', 'warm', 1, 100, now() - interval '1 second')")
        for run in range(plan.runs):
            service_id = f"run-{run}"
            scratch.make_service(service_id, capacity=plan.expiring_holds)
            scratch.database.rows(
                "CALL bench.plant_holds('b1', %s, 1, %s, now() - interval '1 second')", service_id, plan.expiring_holds
            )
        scratch.settle()
        scratch.prepare_slots(_WARM_UP_CALLS, service_id="warm")
        scratch.call_prepared(1, _WARM_UP_CALLS)
        for run in range(plan.runs):
            scratch.prepare_slots(1 + _FOLLOWING_CALLS, service_id=f"run-{run}")
            timings = scratch.call_prepared(1, 1 + _FOLLOWING_CALLS)
            expect(timings.done, 1 + _FOLLOWING_CALLS)
            first.append(timings.seconds[0])
            following.append(max(timings.seconds[1:]))
    name = f"4 {plan.expiring_holds:,} holds expire at once"
    yield Row(f"{name}: the next call", median(first) * 1e3, f"{median(first) * 1e3:.1f} ms", " ms", 50)
    slowest = median(following) * 1e3
    yield Row(f"{name}: slowest of {_FOLLOWING_CALLS} after it", slowest, f"{slowest:.1f} ms", " ms", 50)


def long_past(server: ScratchServer, plan: Plan) -> Iterator[Row]:
    """One reserve where there is a long past, against the same in a database without one."""
    with server.database() as without, server.database() as with_past:
        for scratch in (without, with_past):
            scratch.plant_services(plan.businesses)
            scratch.make_service("s1", capacity=HUGE_CAPACITY)
        with_past.database.rows(
            "CALL bench.plant_past(%s, %s, %s, %s)",
            plan.businesses,
            SERVICES,
            plan.past_appointments,
            plan.ended_holds,
        )
        with_past.settle()
        without.settle()
        calls = plan.calls
        medians: dict[Scratch, list[float]] = {without: [], with_past: []}
        for _ in range(plan.runs):
            for scratch, seconds in medians.items():
                scratch.prepare_slots(_WARM_UP_CALLS + calls, service_id="s1", first_slot=0, slots=7500)
                seconds.append(median(_timed(scratch, calls, 1, granted=True).seconds))
        past = f"{plan.past_appointments:,} appointments, {plan.ended_holds:,} ended"
        yield _ratio(f"5 one reserve, past of {past}", medians[without], medians[with_past], 1.2)


def month_of_a_class(server: ScratchServer, plan: Plan) -> Iterator[Row]:
    """A month's listing of a class that many have booked, against one that ten have."""
    with server.database() as scratch:
        scratch.plant_services(1)
        for service_id, bookings in (("booked", plan.bookings), ("new", 10)):
            scratch.make_service(service_id, capacity=HUGE_CAPACITY)
            scratch.database.rows("CALL bench.plant_bookings('b1', %s, %s, %s)", service_id, _MONTH_SLOTS, bookings)
        scratch.settle()
        calls = max(3, plan.calls // 20)
        medians: dict[str, list[float]] = {"new": [], "booked": []}
        for _ in range(plan.runs):
            for service_id, of_service in medians.items():
                seconds, slots = scratch.list_month(service_id, 1 + calls)
                expect(slots, _MONTH_SLOTS)
                of_service.append(median(seconds[1:]))
        name = f"6 availability of a month, {plan.bookings:,} bookings against 10"
        yield _ratio(name, medians["new"], medians["booked"], 2)


def beside_a_purge(server: ScratchServer, plan: Plan) -> Iterator[Row]:
    """A steady stream of reserves, with and without a purge of one of the businesses."""
    with server.database() as scratch:
        businesses = min(20, plan.businesses)
        scratch.plant_services(businesses)
        yield from measure_purge(scratch, plan, businesses)


def _timed(scratch: Scratch, calls: int, requests: int, *, granted: bool) -> Timings:
    """Makes the prepared calls, of which the first are to warm up and are not counted."""
    warm_up = scratch.call_prepared(1, _WARM_UP_CALLS)
    timings = scratch.call_prepared(_WARM_UP_CALLS + 1, _WARM_UP_CALLS + calls)
    expect(warm_up.done + timings.done, (_WARM_UP_CALLS + calls) * requests if granted else 0)
    return timings


def _per_request(name: str, timed: list[Timings], requests: int, bar: float | None) -> Row:
    """Microseconds of processor time a request, which other processes disturb less, and of the call beside them."""
    call = median(median(timings.seconds) for timings in timed) / requests * 1e6
    cpu = median(timings.cpu_seconds / len(timings.seconds) for timings in timed) / requests * 1e6
    return Row(name, cpu, f"{cpu:.0f} us CPU, {call:.0f} us call", " us CPU", bar)


def _ratio(name: str, without: list[float], with_it: list[float], bar: float) -> Row:
    """The median of the ratios within a run."""
    ratio = median(after / before for before, after in zip(without, with_it, strict=True))
    details = f"{median(without) * 1e3:.2f} -> {median(with_it) * 1e3:.2f} ms, {ratio:.2f}x"
    return Row(name, ratio, details, "x", bar)


MEASUREMENTS: Final[tuple[Callable[[ScratchServer, Plan], Iterator[Row]], ...]] = (
    spread_load,
    sold_out,
    live_holds,
    expiry_at_once,
    long_past,
    month_of_a_class,
    beside_a_purge,
)
