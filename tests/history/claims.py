"""The claims of a history: what each took room of, since when it surely and possibly existed, and until when."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import Any, Final, NamedTuple

from tests.history.record import SETTLE_SECONDS, Call, History, to_seconds

# A resource that is not known: any of the pool.
ANY: Final = "*"
# Calls that may make an appointment, and those that may change one.
BOOKING: Final = ("book", "create", "widget")
CHANGING: Final = ("change", "reschedule", "cancel", "erase")
# Refusals of a call on a hold that has ended. A commit is refused for lack of room only if it books an expired hold
# anew.
_ENDED: Final = ("RESERVATION_EXPIRED", "RESERVATION_RELEASED", "SLOT_UNAVAILABLE")


class Span(NamedTuple):
    """A time of the history, half-open; empty if it ends before it begins."""

    since: float
    until: float

    def meets(self, during: "Span") -> bool:
        """Returns whether it has a moment in common with another time, whose end counts."""
        return self.since <= during.until and during.since < self.until


_EVER: Final = Span(0.0, math.inf)
_NEVER: Final = Span(math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Room:
    """What a claim takes: units of a service, and a resource if the service has a pool, over a window in epoch
    seconds."""

    business: str
    service: str
    starts: float
    ends: float
    quantity: int
    resource: str | None

    def overlaps(self, other: "Room") -> bool:
        return self.starts < other.ends and other.starts < self.ends

    def is_session_of(self, other: "Room") -> bool:
        return (self.service, self.starts, self.ends) == (other.service, other.starts, other.ends)


@dataclass(frozen=True, slots=True)
class Stay:
    """A claim with unchanged room. It existed at each moment of `certain`, and at none outside of `possible`. A read
    may miss it in the times of `unseen`: see `Claims.unseen`."""

    room: Room
    owners: frozenset[str]
    certain: Span
    possible: Span
    evidence: tuple[int, ...] = ()
    unseen: tuple[Span, ...] = ()


@dataclass(slots=True)
class Hold:
    """What the history says about a reservation."""

    reservation_id: str
    room: Room
    resource_named: bool
    attempts: list[Call]
    since: Span
    # The expiry is at least the first instant, and at most the second.
    expires: tuple[float, float] = (-math.inf, -math.inf)
    # By expiry, when an answer had shown it.
    shown: dict[float, float] = field(default_factory=dict)
    released: Span = _NEVER
    ended_by: float = math.inf
    appointment_id: str | None = None
    evidence: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Version:
    """A version of an appointment: when it was made, its body if any answer shows it, and the call that made it."""

    number: int
    made: Span = _EVER
    body: dict[str, Any] | None = None
    maker: Call | None = None


@dataclass(slots=True)
class Appointment:
    """What the history says about an appointment."""

    appointment_id: str
    business: str
    versions: dict[int, Version] = field(default_factory=dict)
    # Its audit trail as it was read last.
    trail: list[dict[str, Any]] = field(default_factory=list)
    trail_read: Call | None = None
    reservation_id: str | None = None
    # The calls that can have made it, and those that can have changed it.
    attempts: list[Call] = field(default_factory=list)
    changes: list[Call] = field(default_factory=list)
    evidence: set[int] = field(default_factory=set)

    def version(self, number: int) -> Version:
        return self.versions.setdefault(number, Version(number))

    @property
    def created_at(self) -> float | None:
        bodies = [version.body for version in self.versions.values() if version.body]
        return to_seconds(bodies[0]["createdAt"]) if bodies else None


class Claims:
    """All holds and appointments of a history."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._clock = history.clock
        self.holds: dict[str, Hold] = {}
        self.appointments: dict[str, Appointment] = {}
        # The calls that tried to make one claim, by business and idempotency key; without a key, each by itself. Holds
        # and bookings have separate keys.
        self.attempts: dict[tuple[str, bool, str], list[Call]] = defaultdict(list)
        self._by_request_id = {call.request_id: call for call in history.calls}
        self.calls_of_hold: dict[str, list[Call]] = defaultdict(list)
        self._commits: dict[str, list[Call]] = defaultdict(list)
        self._erasures: dict[str, list[Call]] = defaultdict(list)
        for call in history.calls:
            if call.kind in ("reserve", *BOOKING):
                self._attempts_of(call).append(call)
            elif call.kind == "commit":
                self._commits[call.request["reservationId"]].append(call)
            elif call.kind == "erase_person":
                self._erasures[call.business].append(call)
        self._read_holds()
        self._read_appointments()
        self.stays = [*self._stays_of_holds(), *self._stays_of_appointments(), *self._stays_of_unknown()]

    def room_of(self, business: str, body: dict[str, Any]) -> Room:
        """Returns what a claim with this body, or a request for one, takes."""
        offer = self._history.town.offers[business][body["serviceId"]]
        starts = to_seconds(body["slotStart"])
        ends = to_seconds(body["slotEnd"]) if body.get("slotEnd") else starts + 60 * offer.minutes
        resource = (body.get("resourceId") or ANY) if offer.pool else None
        return Room(
            business,
            body["serviceId"],
            starts - 60 * offer.before,
            ends + 60 * offer.after,
            body.get("quantity", 1),
            resource,
        )

    def is_settled(self, call: Call) -> bool:
        """Whether the final reads began after the last moment at which the call could have its effect."""
        return call.started < self._history.settled_at < math.inf

    def effect_until(self, call: Call) -> float:
        """Returns the time after which a call has no effect any more."""
        return call.ended if not call.is_unknown else min(call.ended + SETTLE_SECONDS, self._history.settled_at)

    def _attempts_of(self, call: Call) -> list[Call]:
        key = call.request.get("idempotencyKey") or call.request_id
        return self.attempts[call.business, call.kind == "reserve", key]

    # Holds.

    def _read_holds(self) -> None:
        for calls in self.attempts.values():
            granted = [call for call in calls if call.kind == "reserve" and call.is_acknowledged]
            if granted:
                body = granted[0].answer
                open_attempts = [call for call in calls if not call.is_refused]
                held = [call.ended for call in granted if call.answer["status"] == "held"]
                self.holds[body["reservationId"]] = Hold(
                    body["reservationId"],
                    self.room_of(granted[0].business, body),
                    granted[0].request.get("resourceId") is not None,
                    open_attempts,
                    Span(min(call.started for call in open_attempts), min(held, default=math.inf)),
                )
        for call in self._history.calls:
            hold = self.holds.get(call.request.get("reservationId") or call.answer.get("reservationId") or "")
            if hold:
                self.calls_of_hold[hold.reservation_id].append(call)
                self._read_hold(hold, call)
        for hold in self.holds.values():
            ends = [call.ended for call in self.calls_of_hold[hold.reservation_id] if self._shows_end(hold, call)]
            hold.ended_by = min(ends, default=math.inf)

    def _read_hold(self, hold: Hold, call: Call) -> None:
        hold.evidence.add(call.number)
        least, most = hold.expires
        if call.is_acknowledged and "expiresAt" in call.answer:
            expiry = to_seconds(call.answer["expiresAt"])
            least, most = max(least, expiry), max(most, expiry)
            hold.shown[expiry] = min(hold.shown.get(expiry, math.inf), call.ended)
        if call.kind == "extend" and call.is_unknown:
            most = max(most, self._clock.latest(self.effect_until(call)) + 60 * call.request["ttlMinutes"])
        hold.expires = least, most
        if call.kind == "release" and not call.is_refused:
            until = call.ended if call.is_acknowledged else math.inf
            hold.released = Span(min(hold.released.since, call.started), min(hold.released.until, until))

    def _shows_end(self, hold: Hold, call: Call) -> bool:
        if call.kind in ("commit", "extend"):
            return call.is_refused and call.code in _ENDED
        return call.answer.get("status") in ("expired", "released") and not self.may_miss(hold, call)

    def expiry(self, hold: Hold) -> Span:
        """Returns the time until which a hold was surely not expired, and the time from which on it surely was."""
        return Span(self._clock.surely_before(hold.expires[0]), self._clock.surely_past(hold.expires[1]))

    def unseen(self, hold: Hold) -> tuple[Span, ...]:
        """Returns the times from an expiry of a hold until a later one was shown. The extend was decided before, under
        the lock; a read, which takes none, may see what was committed before the extend."""
        return tuple(
            Span(self._clock.surely_before(former), hold.shown[later]) for former, later in pairwise(sorted(hold.shown))
        )

    def may_miss(self, hold: Hold, call: Call) -> bool:
        """Returns whether a read may miss that a hold is live."""
        return any(unseen.meets(Span(call.started, call.ended)) for unseen in self.unseen(hold))

    def was_live(self, hold: Hold, appointment: Appointment) -> bool | None:
        """Returns whether a hold was live when it was committed; None if the history does not say."""
        maker = appointment.version(1).maker
        if maker and "ifExpired" not in maker.request:
            return True
        created = appointment.created_at
        if created is None:
            return None
        return True if created < hold.expires[0] else False if created >= hold.expires[1] else None

    # Appointments.

    def _appointment(self, appointment_id: str, business: str) -> Appointment:
        return self.appointments.setdefault(appointment_id, Appointment(appointment_id, business))

    def _read_appointments(self) -> None:
        for call in self._history.calls:
            for body in bodies(call):
                self._read_body(call, body)
            if call.kind == "audit" and call.is_acknowledged:
                trail = self._appointment(call.request["appointmentId"], call.business)
                trail.trail, trail.trail_read = call.answer["items"], call
            elif call.kind in CHANGING and not call.is_refused:
                self._appointment(call.request["appointmentId"], call.business).changes.append(call)
        for appointment in self.appointments.values():
            self._read_trail(appointment)
            self._find_makers(appointment)
            self._narrow(appointment)
            self._link(appointment)

    def _read_body(self, call: Call, body: dict[str, Any]) -> None:
        appointment = self._appointment(body["appointmentId"], call.business)
        if call.kind != "list_appointments":
            appointment.evidence.add(call.number)
        if call.kind == "commit":
            appointment.reservation_id = call.request["reservationId"]
            appointment.attempts = self._commits[appointment.reservation_id]
        elif call.kind in BOOKING:
            appointment.attempts = self._attempts_of(call)
        if "version" not in body:
            number = 1  # a replay for a stranger: the appointment exists
        else:
            number = body["version"]
            appointment.version(number).body = {**body, **(appointment.version(number).body or {})}
            if body.get("reservationId"):
                appointment.reservation_id = body["reservationId"]
            if call.kind not in CHANGING and call.kind not in ("commit", *BOOKING):
                # A read: the next version was made later.
                later = appointment.version(number + 1)
                later.made = Span(max(later.made.since, call.started), later.made.until)
        for earlier in range(1, number + 1):
            version = appointment.version(earlier)
            version.made = Span(version.made.since, min(version.made.until, call.ended))

    def _read_trail(self, appointment: Appointment) -> None:
        """Takes from the audit trail which call made each version, and the bodies of versions that no answer shows."""
        for entry in appointment.trail:
            version = appointment.version(entry["version"])
            version.maker = self._by_request_id.get(entry["requestId"] or "")
            before = appointment.version(entry["version"] - 1).body if entry["version"] > 1 else {}
            if version.body is None and before is not None:
                after = {name: change["after"] for name, change in entry["changes"].items() if "after" in change}
                version.body = {**before, **after, "version": entry["version"]}
                if entry["version"] == 1:
                    version.body |= {"appointmentId": appointment.appointment_id, "createdAt": entry["at"]}
            if version.maker:
                version.made = Span(version.made.since, min(version.made.until, self.effect_until(version.maker)))

    def _find_makers(self, appointment: Appointment) -> None:
        for call in appointment.changes:
            number = call.answer.get("version")
            expected = call.request.get("expectedVersion")
            if call.is_acknowledged and number and expected and number == expected + 1:
                version = appointment.version(number)
                version.maker = version.maker or call

    def _narrow(self, appointment: Appointment) -> None:
        """Bounds the moment of each version: by the calls that can have made it, and by the versions beside it."""
        since = 0.0
        for number in sorted(appointment.versions):
            version = appointment.versions[number]
            makers = self._possible_makers(appointment, version)
            if version.made.until == math.inf and not makers:
                del appointment.versions[number]  # a read showed the one before it, and no call can have made it
                continue
            since = max(since, version.made.since, min((call.started for call in makers), default=0.0))
            version.made = Span(since, version.made.until)
        until = math.inf
        for number in sorted(appointment.versions, reverse=True):
            version = appointment.versions[number]
            until = min(until, version.made.until)
            version.made = Span(version.made.since, until)

    def _possible_makers(self, appointment: Appointment, version: Version) -> list[Call]:
        if version.maker:
            return [version.maker]
        if version.number == 1:
            return [call for call in appointment.attempts if not call.is_refused]
        exact = [call for call in appointment.changes if call.answer.get("version") == version.number]
        if appointment.trail_read and appointment.trail_read.started >= self._history.settled_at:
            return exact
        unknown = [call for call in appointment.changes if call.is_unknown or call.kind == "erase"]
        return exact + unknown + self._erasures[appointment.business]

    def _link(self, appointment: Appointment) -> None:
        maker = appointment.version(1).maker
        if maker and maker.kind == "commit":
            appointment.reservation_id = maker.request["reservationId"]
        hold = self.holds.get(appointment.reservation_id or "")
        if hold:
            hold.appointment_id = appointment.appointment_id

    # What took room, and when.

    def _stays_of_holds(self) -> Iterator[Stay]:
        for hold in self.holds.values():
            expired = self.expiry(hold)
            certain = Span(hold.since.until, min(expired.since, hold.released.since))
            possible = Span(hold.since.since, min(expired.until, hold.released.until, hold.ended_by))
            appointment = self.appointments.get(hold.appointment_id or "")
            if appointment and self.was_live(hold, appointment):
                # The appointment continues it, from the moment at which it can have been made.
                made = appointment.version(1).made
                certain, possible = Span(certain.since, made.since), Span(possible.since, made.since)
            elif appointment is None and any(
                call.is_unknown and not self.is_settled(call) for call in self._commits[hold.reservation_id]
            ):
                possible = Span(possible.since, math.inf)
            owners, evidence = frozenset({hold.reservation_id}), tuple(sorted(hold.evidence))
            yield Stay(hold.room, owners, certain, possible, evidence, self.unseen(hold))

    def _stays_of_appointments(self) -> Iterator[Stay]:
        for appointment in self.appointments.values():
            yield from self._stays_of_appointment(appointment)

    def _stays_of_appointment(self, appointment: Appointment) -> Iterator[Stay]:
        hold = self.holds.get(appointment.reservation_id or "")
        owners = frozenset({appointment.appointment_id})
        evidence = tuple(sorted(appointment.evidence | {call.number for call in appointment.changes}))
        unresolved = [
            call
            for call in appointment.changes
            if call.is_unknown and call.kind != "erase" and not self.is_settled(call)
        ]
        surely_kept = min((call.started for call in unresolved), default=math.inf)
        known = [version for _, version in sorted(appointment.versions.items()) if version.body]
        # A version without a body ends a run: its room is not known.
        runs = groupby(
            enumerate(known), lambda one: (self._confirmed_room(appointment, one[1]), one[1].number - one[0])
        )
        for (room, _), numbered in runs:
            run = [version for _, version in numbered]
            if room is None:
                continue
            since = run[0].made
            unseen: tuple[Span, ...] = ()
            if hold and run[0].number == 1 and self.was_live(hold, appointment):
                # A read may see the hold expired and miss its commit.
                unseen = (Span(self.expiry(hold).since, since.until),)
                since = Span(since.since, min(since.until, max(since.since, hold.since.until)))
            following = appointment.versions.get(run[-1].number + 1)
            ended = following.made if following else _NEVER
            certain = Span(since.until, min(ended.since, surely_kept))
            yield Stay(room, owners, certain, Span(since.since, ended.until), evidence, unseen)
        for call in unresolved:
            if known:
                room = self.room_of(appointment.business, {**(known[-1].body or {}), **call.request.get("set", {})})
                room = replace(room, resource=room.resource and ANY)
                yield Stay(room, owners, Span(0, 0), Span(call.started, math.inf), (call.number,))

    def _confirmed_room(self, appointment: Appointment, version: Version) -> Room | None:
        assert version.body
        return self.room_of(appointment.business, version.body) if version.body["status"] == "confirmed" else None

    def _stays_of_unknown(self) -> Iterator[Stay]:
        """Yields what requests without any answer may have claimed."""
        made = {
            appointment.versions[1].maker
            for appointment in self.appointments.values()
            if 1 in appointment.versions and appointment.versions[1].maker
        }
        for calls in self.attempts.values():
            unknown = [call for call in calls if call.is_unknown]
            if any(call.is_acknowledged for call in calls) or made & set(unknown):
                continue
            for call in unknown:
                if call.kind == "reserve":
                    last = self._clock.latest(self.effect_until(call))
                    until = self._clock.surely_past(last + 60 * call.request["ttlMinutes"])
                elif self.is_settled(call):
                    continue  # the final reads have all appointments
                else:
                    until = math.inf
                room = self.room_of(call.business, call.request)
                possible = Span(call.started, until)
                yield Stay(room, frozenset({call.request_id}), Span(0, 0), possible, (call.number,))


def bodies(call: Call) -> Iterable[dict[str, Any]]:
    """Returns the appointments in an answer."""
    if not call.is_acknowledged or call.kind == "audit":
        return []
    if "appointmentId" in call.answer:
        return [call.answer]
    if call.kind == "list_appointments":
        return list(call.answer["items"])
    return []
