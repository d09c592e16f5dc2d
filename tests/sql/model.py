"""What reservations should do, in the plainest Python: a list of claims, and the peak counted instant by instant."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)
# Everything in the state machine begins and ends on such a step, buffers too.
STEP = 10 * MINUTE
TTL, MAX_TTL, MAX_LIFETIME = 15 * MINUTE, 60 * MINUTE, 90 * MINUTE


@dataclass(frozen=True)
class Wish:
    """What is asked room for: a quantity of a service, from an instant until another, buffers included."""

    service_id: str
    start: datetime
    end: datetime
    quantity: int

    def overlaps(self, start: datetime, end: datetime) -> bool:
        """Half-open: what touches does not overlap."""
        return self.start < end and start < self.end


@dataclass
class Hold:
    """A reservation."""

    wish: Wish
    made_at: datetime
    expires_at: datetime
    status: str = "held"
    version: int = 1
    ended_at: datetime | None = None


@dataclass
class Model:
    """One business."""

    now: datetime
    capacity: dict[str, int]
    holds: dict[str, Hold] = field(default_factory=dict)
    # By the reservation that they came from.
    appointments: dict[str, Wish] = field(default_factory=dict)

    def claims(self, service_id: str) -> list[Wish]:
        """What occupies a service now: live holds and appointments."""
        live = [hold.wish for hold in self.holds.values() if hold.status == "held" and hold.expires_at > self.now]
        return [claim for claim in [*live, *self.appointments.values()] if claim.service_id == service_id]

    def level(self, service_id: str, instant: datetime) -> int:
        """How much of a service is claimed at an instant."""
        claims = self.claims(service_id)
        return sum(claim.quantity for claim in claims if claim.overlaps(instant, instant + STEP))

    def peak(self, service_id: str, start: datetime, end: datetime) -> int:
        """How much of a service is claimed at the fullest instant of a window."""
        claims = [claim for claim in self.claims(service_id) if claim.overlaps(start, end)]
        steps = [start + number * STEP for number in range((end - start) // STEP)]
        return max(
            (sum(claim.quantity for claim in claims if claim.overlaps(step, step + STEP)) for step in steps), default=0
        )

    def first_above(self, service_id: str, capacity: int) -> tuple[datetime, int] | None:
        """The first instant at which more is claimed than that, and how much."""
        for start in sorted(claim.start for claim in self.claims(service_id)):
            if self.level(service_id, start) > capacity:
                return start, self.level(service_id, start)
        return None

    def fits(self, wish: Wish) -> bool:
        """Whether there is room for a wish."""
        return self.peak(wish.service_id, wish.start, wish.end) + wish.quantity <= self.capacity[wish.service_id]

    def reserve(self, hold_id: str, wish: Wish, ttl: timedelta | None) -> str:
        """Holds what is wished for, if there is room."""
        if not self.fits(wish):
            return "slot_unavailable"
        self.holds[hold_id] = Hold(wish, self.now, self.now + min(ttl or TTL, MAX_TTL))
        return "done"

    def commit(self, hold_id: str, *, rebook: bool) -> str:
        """Makes an appointment of a hold."""
        if hold_id in self.appointments:
            return "replayed"
        hold = self.holds.get(hold_id)
        if hold is None or hold.status == "released":
            return "reservation_released" if hold else "reservation_not_found"
        if self.is_live(hold):
            self.end(hold, "committed")
        else:
            self.end(hold, "expired")
            if not rebook:
                return "reservation_expired"
            if not self.fits(hold.wish):
                return "slot_unavailable"
        self.appointments[hold_id] = hold.wish
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
    windows = [(wish.service_id, wish.start, wish.end) for wish in listed]
    return sorted(range(len(listed)), key=lambda place: (windows.index(windows[place]), place))
