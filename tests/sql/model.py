"""What reservations should do, in the plainest Python: a list of claims, and the peak counted instant by instant."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)
# Everything in the state machine begins and ends on such a step, buffers too.
STEP = 10 * MINUTE
TTL, MAX_TTL, MAX_LIFETIME = 15 * MINUTE, 60 * MINUTE, 90 * MINUTE


@dataclass(frozen=True)
class Wish:
    """What is asked room for: a quantity of a service, from an instant until another, buffers included.

    `pool` has the resources of which it needs one; a wish that came true has the one that it got.
    """

    service_id: str
    start: datetime
    end: datetime
    quantity: int
    pool: tuple[str, ...] | None = None

    def overlaps(self, start: datetime, end: datetime) -> bool:
        """Half-open: what touches does not overlap."""
        return self.start < end and start < self.end

    def is_within(self, other: "Wish") -> bool:
        """Whether it needs nothing that the other one does not have."""
        during = other.start <= self.start and self.end <= other.end
        return during and self.quantity <= other.quantity and self.pool == other.pool


@dataclass
class Hold:
    """A reservation: what it has, and what was asked for."""

    wish: Wish
    asked: Wish
    made_at: datetime
    expires_at: datetime
    status: str = "held"
    version: int = 1
    ended_at: datetime | None = None


@dataclass
class Appointment:
    """A booking, and the reservation that it came from."""

    wish: Wish
    hold_id: str | None
    status: str = "confirmed"
    version: int = 1


@dataclass
class Model:
    """One business.

    Which of the resources that are free a wish gets is not predicted: `given` is the one that the verb says.
    """

    now: datetime
    capacity: dict[str, int]
    holds: dict[str, Hold] = field(default_factory=dict)
    appointments: dict[str, Appointment] = field(default_factory=dict)

    def claims(self, beside: str | None = None) -> list[Wish]:
        """What occupies anything now: live holds and appointments, but for one of these."""
        live = [hold.wish for hold in self.holds.values() if self.is_live(hold)]
        booked = self.appointments.items()
        return live + [one.wish for name, one in booked if one.status == "confirmed" and name != beside]

    def of_service(self, service_id: str, beside: str | None = None) -> list[Wish]:
        """What occupies a service."""
        return [claim for claim in self.claims(beside) if claim.service_id == service_id]

    def level(self, service_id: str, instant: datetime) -> int:
        """How much of a service is claimed at an instant."""
        claims = self.of_service(service_id)
        return sum(claim.quantity for claim in claims if claim.overlaps(instant, instant + STEP))

    def peak(self, wish: Wish, beside: str | None = None) -> int:
        """How much of the service of a wish is claimed at the fullest instant of its window, from now on."""
        claims = [claim for claim in self.of_service(wish.service_id, beside) if claim.overlaps(wish.start, wish.end)]
        steps = [wish.start + number * STEP for number in range((wish.end - wish.start) // STEP)]
        ahead = [step for step in steps if step + STEP > self.now]
        return max(
            (sum(claim.quantity for claim in claims if claim.overlaps(step, step + STEP)) for step in ahead), default=0
        )

    def first_above(self, service_id: str, capacity: int) -> tuple[datetime, int] | None:
        """The first instant at which more is claimed than that, and how much."""
        for start in sorted(claim.start for claim in self.of_service(service_id)):
            if self.level(service_id, start) > capacity:
                return start, self.level(service_id, start)
        return None

    def free(self, wish: Wish, beside: str | None = None) -> list[str]:
        """The resources of a pool that nothing occupies during the window, whichever service it came through."""
        taken = {claim.pool for claim in self.claims(beside) if claim.overlaps(wish.start, wish.end)}
        return [resource_id for resource_id in wish.pool or () if (resource_id,) not in taken]

    def fits(self, wish: Wish, beside: str | None = None) -> bool:
        """Whether there is room for a wish."""
        has_room = self.peak(wish, beside) + wish.quantity <= self.capacity[wish.service_id]
        return has_room and (wish.pool is None or self.free(wish, beside) != [])

    def grant(self, wish: Wish, given: str | None, beside: str | None = None) -> Wish:
        """A wish that came true."""
        if wish.pool is None:
            assert given is None
            return wish
        assert given in self.free(wish, beside)
        return replace(wish, pool=(given,))

    def reserve(self, hold_id: str, wish: Wish, ttl: timedelta | None, given: str | None) -> str:
        """Holds what is wished for, if there is room."""
        if not self.fits(wish):
            return "slot_unavailable"
        self.holds[hold_id] = Hold(self.grant(wish, given), wish, self.now, self.now + min(ttl or TTL, MAX_TTL))
        return "done"

    def book(self, appointment_id: str, wish: Wish, given: str | None) -> str:
        """Books what is wished for, if there is room."""
        if not self.fits(wish):
            return "slot_unavailable"
        self.appointments[appointment_id] = Appointment(self.grant(wish, given), None)
        return "done"

    def commit(self, hold_id: str, appointment_id: str, given: str | None, *, rebook: bool) -> str:
        """Makes an appointment of a hold, or of what was asked for if that has expired."""
        if hold_id in {one.hold_id for one in self.appointments.values()}:
            return "replayed"
        hold = self.holds.get(hold_id)
        if hold is None or hold.status == "released":
            return "reservation_released" if hold else "reservation_not_found"
        claim = hold.wish
        if self.is_live(hold):
            self.end(hold, "committed")
        else:
            self.end(hold, "expired")
            if not rebook:
                return "reservation_expired"
            if not self.fits(hold.asked):
                return "slot_unavailable"
            claim = self.grant(hold.asked, given)
        self.appointments[appointment_id] = Appointment(claim, hold_id)
        return "done"

    def cancel(self, appointment_id: str) -> str:
        """Gives an appointment up; again and again is once."""
        appointment = self.appointments[appointment_id]
        if appointment.status == "confirmed":
            appointment.status, appointment.version = "cancelled", appointment.version + 1
        return "done"

    def move(self, appointment_id: str, wish: Wish, given: str | None) -> str:
        """Lets an appointment be where it is wished to be, its own claim not counted."""
        appointment = self.appointments[appointment_id]
        if appointment.status != "confirmed":
            return "done" if wish == appointment.wish else "appointment_ended"
        if wish == appointment.wish:
            return "done"
        if wish.is_within(appointment.wish):
            appointment.wish, appointment.version = wish, appointment.version + 1
            return "done"
        if not self.fits(wish, appointment_id):
            return "slot_unavailable"
        moved = self.grant(wish, given, appointment_id)
        if appointment.wish.pool and appointment.wish.pool[0] in self.free(wish, appointment_id):
            assert moved.pool == appointment.wish.pool
        appointment.version += moved != appointment.wish
        appointment.wish = moved
        return "done"

    def release(self, hold_id: str) -> str:
        """Gives a hold up, unless it is over already."""
        hold = self.holds.get(hold_id)
        if hold is None or hold.status == "committed":
            return "reservation_committed" if hold else "reservation_not_found"
        self.end(hold, "released" if self.is_live(hold) else "expired")
        return "done"

    def extend(self, hold_id: str, ttl: timedelta) -> str:
        """Lets a hold live longer."""
        hold = self.holds.get(hold_id)
        if hold is None or hold.status in ("committed", "released"):
            return f"reservation_{hold.status}" if hold else "reservation_not_found"
        if not self.is_live(hold):
            self.end(hold, "expired")
            return "reservation_expired"
        until = self.now + min(ttl, MAX_TTL)
        if until > hold.made_at + MAX_LIFETIME:
            return "hold_lifetime_exceeded"
        if until > hold.expires_at:
            hold.expires_at, hold.version = until, hold.version + 1
        return "done"

    def purge(self, retention: timedelta) -> tuple[int, int]:
        """Marks what has expired and forgets what ended long ago; says how many of each."""
        expired = [hold for hold in self.holds.values() if hold.status == "held" and not self.is_live(hold)]
        for hold in expired:
            self.end(hold, "expired")
        old = [name for name, hold in self.holds.items() if hold.ended_at and hold.ended_at <= self.now - retention]
        for name in old:
            del self.holds[name]
        return len(expired), len(old)

    def is_live(self, hold: Hold) -> bool:
        """Whether a hold occupies its slot."""
        return hold.status == "held" and hold.expires_at > self.now

    def end(self, hold: Hold, status: str) -> None:
        """Ended states never change."""
        if hold.status == "held":
            hold.status, hold.version, hold.ended_at = status, hold.version + 1, self.now


def in_order_of_windows(wishes: Iterable[Wish]) -> list[int]:
    """The order in which a batch is decided: window by window, in which each came first, and then as they came."""
    listed = list(wishes)
    windows = [(wish.service_id, wish.start, wish.end, wish.pool) for wish in listed]
    return sorted(range(len(listed)), key=lambda place: (windows.index(windows[place]), place))
