"""A model of the verbs in plain Python: a list of claims, and the peak computed instant by instant."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)
# All starts, ends and buffers of the state machine are multiples of this step.
STEP = 10 * MINUTE
TTL, MAX_TTL, MAX_LIFETIME = 15 * MINUTE, 60 * MINUTE, 90 * MINUTE


@dataclass(frozen=True)
class Claim:
    """A quantity of a service during a window, buffers included.

    `pool` has the resources of which a request needs one, or the one that a granted claim has.
    """

    service_id: str
    start: datetime
    end: datetime
    quantity: int
    pool: tuple[str, ...] | None = None

    def overlaps(self, start: datetime, end: datetime) -> bool:
        """Returns whether the claim shares an instant with a half-open interval; touching is not overlapping."""
        return self.start < end and start < self.end

    def is_within(self, other: "Claim") -> bool:
        """Returns whether the claim needs no room beyond that of another one."""
        during = other.start <= self.start and self.end <= other.end
        return (
            (during and self.quantity <= other.quantity)
            and self.pool == other.pool
            and self.service_id == other.service_id
        )


@dataclass
class Hold:
    """A reservation: the claim that it has, and the claim that was requested."""

    claim: Claim
    requested: Claim
    made_at: datetime
    expires_at: datetime
    status: str = "held"
    version: int = 1
    ended_at: datetime | None = None


@dataclass
class Appointment:
    """A booking, and the reservation that it was made from."""

    claim: Claim
    hold_id: str | None
    status: str = "confirmed"
    version: int = 1
    is_erased: bool = False


@dataclass
class Model:
    """One business.

    Which of the free resources a claim gets is not predicted: the caller passes the one that the verb granted.
    """

    now: datetime
    capacity: dict[str, int]
    holds: dict[str, Hold] = field(default_factory=dict)
    appointments: dict[str, Appointment] = field(default_factory=dict)

    def claims(self, excluded: str | None = None) -> list[Claim]:
        """Returns the live holds and confirmed appointments, except for one appointment."""
        live = [hold.claim for hold in self.holds.values() if self.is_live(hold)]
        booked = self.appointments.items()
        return live + [
            appointment.claim for name, appointment in booked if appointment.status == "confirmed" and name != excluded
        ]

    def claims_of_service(self, service_id: str, excluded: str | None = None) -> list[Claim]:
        """Returns the claims of a service."""
        return [claim for claim in self.claims(excluded) if claim.service_id == service_id]

    def claimed_at(self, service_id: str, instant: datetime) -> int:
        """Returns the claimed quantity of a service at an instant."""
        claims = self.claims_of_service(service_id)
        return sum(claim.quantity for claim in claims if claim.overlaps(instant, instant + STEP))

    def peak(self, requested: Claim, excluded: str | None = None) -> int:
        """Returns the peak of a service during a window, from now on."""
        claims = [
            claim
            for claim in self.claims_of_service(requested.service_id, excluded)
            if claim.overlaps(requested.start, requested.end)
        ]
        steps = [requested.start + number * STEP for number in range((requested.end - requested.start) // STEP)]
        ahead = [step for step in steps if step + STEP > self.now]
        return max(
            (sum(claim.quantity for claim in claims if claim.overlaps(step, step + STEP)) for step in ahead), default=0
        )

    def first_above(self, service_id: str, capacity: int) -> tuple[datetime, int] | None:
        """Returns the first instant at which more than a capacity is claimed, and how much, unless it is over."""
        ahead = [claim for claim in self.claims_of_service(service_id) if claim.end > self.now]
        for start in sorted(claim.start for claim in ahead):
            if self.claimed_at(service_id, start) > capacity:
                return start, self.claimed_at(service_id, start)
        return None

    def free_resources(self, requested: Claim, excluded: str | None = None) -> list[str]:
        """Returns the resources of the pool that no claim of any service occupies during the window."""
        taken = {claim.pool for claim in self.claims(excluded) if claim.overlaps(requested.start, requested.end)}
        return [resource_id for resource_id in requested.pool or () if (resource_id,) not in taken]

    def fits(self, requested: Claim, excluded: str | None = None) -> bool:
        """Returns whether there is room for a claim."""
        has_room = self.peak(requested, excluded) + requested.quantity <= self.capacity[requested.service_id]
        return has_room and (requested.pool is None or self.free_resources(requested, excluded) != [])

    def grant(self, requested: Claim, resource_id: str | None, excluded: str | None = None) -> Claim:
        """Returns the claim with the resource that the verb granted."""
        if requested.pool is None:
            assert resource_id is None
            return requested
        assert resource_id in self.free_resources(requested, excluded)
        return replace(requested, pool=(resource_id,))

    def reserve(self, hold_id: str, requested: Claim, ttl: timedelta | None, resource_id: str | None) -> str:
        """Holds a claim, if there is room."""
        if not self.fits(requested):
            return "slot_unavailable"
        self.holds[hold_id] = Hold(
            self.grant(requested, resource_id), requested, self.now, self.now + min(ttl or TTL, MAX_TTL)
        )
        return "done"

    def book(self, appointment_id: str, requested: Claim, resource_id: str | None) -> str:
        """Books a claim, if there is room."""
        if not self.fits(requested):
            return "slot_unavailable"
        self.appointments[appointment_id] = Appointment(self.grant(requested, resource_id), None)
        return "done"

    def commit(self, hold_id: str, appointment_id: str, resource_id: str | None, *, rebook: bool) -> str:
        """Makes an appointment of a hold, or of its requested claim if the hold has expired."""
        if hold_id in {appointment.hold_id for appointment in self.appointments.values()}:
            return "replayed"
        hold = self.holds.get(hold_id)
        if hold is None or hold.status == "released":
            return "reservation_released" if hold else "reservation_not_found"
        claim = hold.claim
        if self.is_live(hold):
            self.end(hold, "committed")
        else:
            self.end(hold, "expired")
            if not rebook:
                return "reservation_expired"
            if not self.fits(hold.requested):
                return "slot_unavailable"
            claim = self.grant(hold.requested, resource_id)
        self.appointments[appointment_id] = Appointment(claim, hold_id)
        return "done"

    def cancel(self, appointment_id: str) -> str:
        """Cancels an appointment; a repeated cancel changes nothing."""
        appointment = self.appointments[appointment_id]
        if appointment.status in ("completed", "no_show"):
            return "appointment_ended"
        if appointment.status == "confirmed":
            appointment.status, appointment.version = "cancelled", appointment.version + 1
        return "done"

    def set_status(self, appointment_id: str, status: str) -> str:
        """Ends an appointment that has begun, or takes it back if there is room."""
        appointment = self.appointments[appointment_id]
        if status == appointment.status:
            return "done"
        if appointment.status == "confirmed" and self.now < appointment.claim.start:
            return "appointment_not_started"
        if appointment.status != "confirmed" and (appointment.status == "cancelled" or status != "confirmed"):
            return "appointment_ended"
        if status == "confirmed" and not self.fits(appointment.claim):
            return "slot_unavailable"
        appointment.status, appointment.version = status, appointment.version + 1
        return "done"

    def erase(self, appointment_id: str) -> str:
        """Erases the guest's data; a repeated erasure changes nothing."""
        appointment = self.appointments[appointment_id]
        appointment.version += not appointment.is_erased
        appointment.is_erased = True
        return "done"

    def move(self, appointment_id: str, requested: Claim, resource_id: str | None) -> str:
        """Moves an appointment, without counting its own claim against it."""
        appointment = self.appointments[appointment_id]
        if appointment.status != "confirmed":
            return "done" if requested == appointment.claim else "appointment_ended"
        if requested == appointment.claim:
            return "done"
        if requested.is_within(appointment.claim):
            appointment.claim, appointment.version = requested, appointment.version + 1
            return "done"
        if not self.fits(requested, appointment_id):
            return "slot_unavailable"
        moved = self.grant(requested, resource_id, appointment_id)
        if appointment.claim.pool and appointment.claim.pool[0] in self.free_resources(requested, appointment_id):
            assert moved.pool == appointment.claim.pool
        appointment.version += moved != appointment.claim
        appointment.claim = moved
        return "done"

    def release(self, hold_id: str) -> str:
        """Releases a hold, unless it has ended already."""
        hold = self.holds.get(hold_id)
        if hold is None or hold.status == "committed":
            return "reservation_committed" if hold else "reservation_not_found"
        self.end(hold, "released" if self.is_live(hold) else "expired")
        return "done"

    def extend(self, hold_id: str, ttl: timedelta) -> str:
        """Extends a hold."""
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
        """Marks expired holds, deletes reservations that ended long ago, and returns the number of each."""
        expired = [hold for hold in self.holds.values() if hold.status == "held" and not self.is_live(hold)]
        for hold in expired:
            self.end(hold, "expired")
        old = [name for name, hold in self.holds.items() if hold.ended_at and hold.ended_at <= self.now - retention]
        for name in old:
            del self.holds[name]
        return len(expired), len(old)

    def is_live(self, hold: Hold) -> bool:
        """Returns whether a hold occupies its slot."""
        return hold.status == "held" and hold.expires_at > self.now

    def end(self, hold: Hold, status: str) -> None:
        """Ends a hold; ended states are final."""
        if hold.status == "held":
            hold.status, hold.version, hold.ended_at = status, hold.version + 1, self.now


def in_order_of_windows(claims: Iterable[Claim]) -> list[int]:
    """Returns the order in which a batch is decided: by the window's first request, then by the request's position."""
    listed = list(claims)
    windows = [(claim.service_id, claim.start, claim.end, claim.pool) for claim in listed]
    return sorted(range(len(listed)), key=lambda place: (windows.index(windows[place]), place))
