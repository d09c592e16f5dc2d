"""Decides the invariants of the service from a history alone.

A call without an answer has its effect or not, and each call has its effect at some moment between its start and its
end. A violation is reported only if it follows whatever these were: claims that surely existed are compared
with the capacity, and a refusal with the claims that possibly existed.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from tests.history.claims import ANY, BOOKING, CHANGING, Appointment, Claims, Hold, Room, Span, bodies
from tests.history.record import Call, History, to_instant, to_seconds
from tests.history.room import RoomBook

# The members of an appointment that say what it claims.
CLAIM: Final = ("serviceId", "resourceId", "slotStart", "slotEnd", "quantity", "status")
# The age that an answer about availability may have: see service/sharing/cache.py.
_CACHED_SECONDS: Final = 1.0
_GONE: Final = ("RESERVATION_EXPIRED", "RESERVATION_RELEASED", "SLOT_UNAVAILABLE")


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken invariant, and the calls that show it."""

    invariant: str
    text: str
    calls: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text} (calls {', '.join(map(str, self.calls))})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The violations of a history, and how many comparisons were made for each invariant."""

    violations: list[Violation]
    comparisons: Counter[str]


# What a check finds: a text, and the numbers of the calls that show it.
Finding = tuple[str, Iterable[int]]


def check(history: History) -> Verdict:
    """Checks a history against every invariant."""
    checker = _Checker(history)
    violations = [
        Violation(invariant, text, tuple(sorted(set(calls))))
        for invariant, checks in _CHECKS.items()
        for find in checks
        for text, calls in find(checker)
    ]
    return Verdict(violations, checker.comparisons)


class _Checker:
    """The checks of one history. Each yields what it finds."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._clock = history.clock
        self._claims = Claims(history)
        self._room = RoomBook(history, self._claims)
        self._by_request_id = {call.request_id: call for call in history.calls}
        self.comparisons: Counter[str] = Counter()

    # Room.

    def overbooked_moments(self) -> Iterator[Finding]:
        """Finds moments at which the claims that surely existed took more than the capacity of their service."""
        moments = [
            (stay.certain.since, stay.room) for stay in self._claims.stays if stay.certain.since < stay.certain.until
        ]
        for put in self._acknowledged("put_service"):
            whole = Room(put.business, put.request["serviceId"], -math.inf, math.inf, 0, None)
            moments.append((put.ended, whole))
        for time, room in moments:
            self.comparisons["no overbooking"] += 1
            _, most = self._room.capacity(room, Span(time, time))
            taken = self._room.peak_at(room, time)
            if taken > most:
                stays = [stay for stay in self._room.surely_at(room, time) if stay.room.service == room.service]
                yield (
                    f"{taken} units of {room.business}/{room.service} are claimed at {time:.3f} s, of {most}",
                    (number for stay in stays for number in stay.evidence),
                )

    def double_booked_resources(self) -> Iterator[Finding]:
        """Finds resources that surely have claims at one moment which are no session within its seats."""
        for stay in self._claims.stays:
            room, since = stay.room, stay.certain.since
            if since >= stay.certain.until or room.resource is None or room.resource == ANY:
                continue
            self.comparisons["no double-booking"] += 1
            at_once = [one for one in self._room.surely_at(room, since) if one.room.resource == room.resource]
            shares = self._history.town.offers[room.business][room.service].shares
            taken = sum(one.room.quantity for one in at_once)
            seats = self._history.town.seats[room.business][room.resource]
            apart = [one for one in at_once if one is not stay and not (shares and one.room.is_session_of(room))]
            if apart or taken > seats:
                yield (
                    f"{room.resource} of {room.business} has {len(at_once)} claims of {taken} guests at {since:.3f} s",
                    (number for one in at_once for number in one.evidence),
                )

    def false_refusals(self) -> Iterator[Finding]:
        """Finds refusals for lack of room although there surely was room as long as the call took."""
        for call in self._history.calls:
            wish = self._wish(call) if call.is_refused and call.code == "SLOT_UNAVAILABLE" else None
            if wish:
                self.comparisons["no false refusal"] += 1
                room, choices, own = wish
                if self._room.surely_fits(room, choices, own, Span(call.started, call.ended)):
                    yield (
                        f"{call.kind} of {room.quantity} in {room.business}/{room.service} was refused",
                        (call.number,),
                    )

    def _wish(self, call: Call) -> tuple[Room, list[str] | None, frozenset[str]] | None:
        """Returns the room that a call asked for, the resources to choose from, and the claims that it replaces."""
        if call.kind in ("reserve", *BOOKING):
            room = self._claims.room_of(call.business, call.request)
            return room, self._choices(room, call.request.get("resourceId")), frozenset()
        if call.kind == "commit":
            hold = self._claims.holds.get(call.request["reservationId"])
            if hold is None:
                return None
            named = hold.room.resource if hold.resource_named else None
            return hold.room, self._choices(hold.room, named), frozenset({hold.reservation_id})
        appointment = self._claims.appointments.get(call.request["appointmentId"])
        version = appointment and appointment.versions.get(call.request.get("expectedVersion", 0))
        if not appointment or not version or not version.body:
            return None
        changes = call.request["set"]
        wanted = self._moved(appointment.business, version.body, changes)
        room = self._claims.room_of(appointment.business, wanted)
        pool = self._history.town.offers[room.business][room.service].pool
        named = wanted["resourceId"] if "resourceId" in changes or wanted["resourceId"] in pool else None
        own = frozenset({appointment.appointment_id, appointment.reservation_id or ""})
        return room, self._choices(room, named), own

    def _moved(self, business: str, body: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """Returns an appointment with the changes of a request."""
        wanted = {**body, **changes}
        if "slotEnd" not in changes:
            length = to_seconds(body["slotEnd"]) - to_seconds(body["slotStart"])
            if wanted["serviceId"] != body["serviceId"]:
                length = 60.0 * self._history.town.offers[business][wanted["serviceId"]].minutes
            wanted["slotEnd"] = to_instant(to_seconds(wanted["slotStart"]) + length)
        return wanted

    def _choices(self, room: Room, named: str | None) -> list[str] | None:
        pool = self._history.town.offers[room.business][room.service].pool
        return ([named] if named else list(pool)) if pool else None

    # Keys.

    def keys_with_two_effects(self) -> Iterator[Finding]:
        """Finds keys with two results, and keys under which two different requests succeeded."""
        appointments = defaultdict(set)
        for appointment in self._claims.appointments.values():
            if appointment.trail:
                appointments[appointment.trail[0]["requestId"]].add(appointment.appointment_id)
        for (business, _, key), calls in self._claims.attempts.items():
            self.comparisons["one effect per key"] += 1
            granted = [call for call in calls if call.is_acknowledged]
            numbers = [call.number for call in calls if not call.is_refused]
            results = {call.answer.get("appointmentId") or call.answer["reservationId"] for call in granted}
            results |= {one for call in calls for one in appointments[call.request_id]}
            if len(results) > 1:
                yield f"key {key} of {business} has {len(results)} results", numbers
            if sum(call.status == 201 for call in granted) > 1:
                yield f"two requests with key {key} of {business} were the first", numbers
            if len({repr((call.kind, sorted(call.request.items()))) for call in granted}) > 1:
                yield f"different requests with key {key} of {business} succeeded", numbers

    def holds_with_two_appointments(self) -> Iterator[Finding]:
        """Finds holds that were committed twice."""
        commits = defaultdict(list)
        for call in self._acknowledged("commit"):
            commits[call.request["reservationId"]].append(call)
        for reservation_id, calls in commits.items():
            self.comparisons["one effect per key"] += 1
            made = {call.answer["appointmentId"] for call in calls}
            if len(made) > 1 or sum(call.status == 201 for call in calls) > 1:
                yield f"hold {reservation_id} was committed twice", (call.number for call in calls)

    # Holds.

    def ended_holds_that_live_on(self) -> Iterator[Finding]:
        """Finds ended holds that were committed, extended, or shown as held."""
        for hold in self._claims.holds.values():
            expiry = self._claims.expiry(hold)
            ended = min(expiry.until, hold.released.until, hold.ended_by)
            was_released = hold.released.until < expiry.since
            for call in self._claims.calls_of_hold[hold.reservation_id]:
                self.comparisons["expiry is final"] += 1
                if not call.is_acknowledged or call.started < ended:
                    continue
                makes = call.kind == "commit" and call.status == 201
                if makes and (was_released or "ifExpired" not in call.request):
                    yield f"hold {hold.reservation_id} ended by {ended:.3f} s and was committed", (call.number,)
                elif call.kind == "extend":
                    yield f"hold {hold.reservation_id} ended by {ended:.3f} s and was extended", (call.number,)
                elif call.answer.get("status") == "held" and "expiresAt" in call.answer:
                    yield f"hold {hold.reservation_id} ended by {ended:.3f} s and is held", (call.number,)

    def live_holds_that_are_refused(self) -> Iterator[Finding]:
        """Finds calls on a hold that were refused although it surely was live as long as they took."""
        for hold in self._claims.holds.values():
            live = self._live(hold)
            for call in self._claims.calls_of_hold[hold.reservation_id]:
                if call.kind not in ("commit", "extend", "get_hold", "release") or call.started < live.since:
                    continue
                self.comparisons["a live hold can be committed"] += 1
                if call.is_refused and call.code == "RESERVATION_NOT_FOUND":
                    yield f"hold {hold.reservation_id} is not found any more", (call.number, *hold.evidence)
                elif call.ended < live.until and call.is_refused and call.code in _GONE:
                    yield f"{call.kind} of the live hold {hold.reservation_id}: {call.code}", (call.number,)
                elif (
                    call.ended < live.until
                    and call.answer.get("status") in ("expired", "released")
                    and not self._claims.may_miss(hold, call)
                ):
                    yield f"the live hold {hold.reservation_id} is shown as {call.answer['status']}", (call.number,)

    def _live(self, hold: Hold) -> Span:
        """Returns the time in which a hold surely was held, or committed."""
        return Span(hold.since.until, min(self._claims.expiry(hold).since, hold.released.since))

    def commits_that_change_room(self) -> Iterator[Finding]:
        """Finds appointments with another slot, resource or quantity than their live hold."""
        for hold in self._claims.holds.values():
            appointment = self._claims.appointments.get(hold.appointment_id or "")
            first = appointment and appointment.versions.get(1)
            if appointment and first and first.body and self._claims.was_live(hold, appointment):
                self.comparisons["a live hold can be committed"] += 1
                if self._claims.room_of(appointment.business, first.body) != hold.room:
                    yield f"the appointment of hold {hold.reservation_id} has another room", hold.evidence

    # Acknowledged effects.

    def lost_appointments(self) -> Iterator[Finding]:
        """Finds appointments and versions that were acknowledged and are not in the final lists."""
        finals = self._final("list_appointments")
        listed = {body["appointmentId"]: body["version"] for call in finals for body in bodies(call)}
        for appointment in self._claims.appointments.values() if finals else ():
            self.comparisons["nothing acknowledged is lost"] += 1
            seen = [n for n, v in appointment.versions.items() if v.made.until < self._history.settled_at]
            last = listed.get(appointment.appointment_id)
            if last is None:
                yield f"appointment {appointment.appointment_id} is lost", appointment.evidence
            elif last < max(seen, default=0):
                yield f"appointment {appointment.appointment_id} is back at version {last}", appointment.evidence

    def lost_holds(self) -> Iterator[Finding]:
        """Finds holds that surely are live and are not in the final lists."""
        finals = self._final("list_holds")
        if not finals:
            return
        span = Span(min(call.started for call in finals), max(call.ended for call in finals))
        listed = Counter(
            (self._claims.room_of(call.business, item), to_seconds(item["expiresAt"]))
            for call in finals
            for item in call.answer["items"]
        )
        for hold in self._claims.holds.values():
            live = self._live(hold)
            doubtful = any(call.is_unknown for call in self._claims.calls_of_hold[hold.reservation_id])
            if hold.appointment_id is None and live.since < span.since and span.until < live.until and not doubtful:
                self.comparisons["nothing acknowledged is lost"] += 1
                if not listed[hold.room, hold.expires[0]]:
                    yield f"hold {hold.reservation_id} is lost", hold.evidence

    def effects_of_refused_calls(self) -> Iterator[Finding]:
        """Finds changes in audit trails by calls that were refused, and by none."""
        for appointment in self._claims.appointments.values():
            for entry in appointment.trail:
                self.comparisons["every effect is explained"] += 1
                call = self._by_request_id.get(entry["requestId"] or "")
                if call is None:
                    yield f"{entry['action']} of {appointment.appointment_id} by no call", ()
                elif call.is_refused:
                    yield f"{call.kind} was refused ({call.code}) and had its effect", (call.number,)

    def holds_without_a_call(self) -> Iterator[Finding]:
        """Finds more live holds in the final lists than calls can have made."""
        finals = self._final("list_holds")
        if not finals:
            return
        began = min(call.started for call in finals)
        explained = Counter(_units(stay.room) for stay in self._claims.stays if stay.possible.until > began)
        for call in finals:
            for item in call.answer["items"]:
                self.comparisons["every effect is explained"] += 1
                units = _units(self._claims.room_of(call.business, item))
                explained[units] -= 1
                if explained[units] < 0:
                    yield f"there is a hold of {call.business}/{item['serviceId']} that no call made", (call.number,)

    # Versions.

    def lost_updates(self) -> Iterator[Finding]:
        """Finds versions that two changes made, and acknowledged changes that made none or another than the next."""
        for appointment in self._claims.appointments.values():
            trail = {entry["requestId"]: entry["version"] for entry in appointment.trail}
            makers = defaultdict(list)
            for call in appointment.changes:
                if call.kind != "change" or not call.is_acknowledged:
                    continue
                self.comparisons["no lost update"] += 1
                expected = call.request["expectedVersion"]
                # The trail decides: the answer is the state of a later moment if the first one was lost on its way.
                is_audited = appointment.trail_read and appointment.trail_read.started >= call.ended
                made = trail.get(call.request_id, 0) if is_audited else call.answer["version"]
                makers[made].append(call.number)
                if made != expected + 1 or call.answer["version"] < made:
                    yield f"a change of version {expected} made version {made or 'none'}", (call.number,)
            for number, calls in makers.items():
                if len(calls) > 1:
                    yield f"{len(calls)} changes made version {number} of {appointment.appointment_id}", calls

    def gaps_in_audit_trails(self) -> Iterator[Finding]:
        """Finds audit trails that have not exactly one row for each version."""
        for appointment in self._claims.appointments.values():
            if not appointment.trail_read:
                continue
            self.comparisons["no lost update"] += 1
            versions = [entry["version"] for entry in appointment.trail]
            began = appointment.trail_read.started
            last = max((n for n, v in appointment.versions.items() if v.made.until < began), default=1)
            if versions != list(range(1, len(versions) + 1)) or len(versions) < last:
                yield (
                    f"the audit trail of {appointment.appointment_id}, at version {last}, has the versions {versions}",
                    (appointment.trail_read.number,),
                )

    def contradictory_versions(self) -> Iterator[Finding]:
        """Finds answers that show one version of an appointment in two ways, and false conflicts."""
        for call in self._history.calls:
            for body in bodies(call):
                if "version" in body:
                    self.comparisons["reads are current"] += 1
                    known = self._claims.appointments[body["appointmentId"]].versions[body["version"]].body or {}
                    if any(known.get(name) != body[name] for name in CLAIM):
                        yield (
                            f"version {body['version']} of {body['appointmentId']} is shown in two ways",
                            (call.number,),
                        )
            if call.code == "VERSION_CONFLICT" and call.kind in CHANGING:
                current = call.answer["currentVersion"]
                if call.request["expectedVersion"] == current:
                    yield f"a change of the current version {current} was refused", (call.number,)
                yield from self._at_wrong_time(call.request["appointmentId"], current, call)

    # Reads.

    def stale_reads(self) -> Iterator[Finding]:
        """Finds reads of appointments that miss what was acknowledged before, or show what was not asked for yet."""
        for call in self._acknowledged("get_appointment", "list_appointments"):
            for body in bodies(call):
                self.comparisons["reads are current"] += 1
                yield from self._at_wrong_time(body["appointmentId"], body["version"], call)

    def _at_wrong_time(self, appointment_id: str, number: int, call: Call) -> Iterator[Finding]:
        appointment = self._claims.appointments.get(appointment_id)
        versions = appointment.versions if appointment else {}
        if number + 1 in versions and versions[number + 1].made.until < call.started:
            yield f"version {number} of {appointment_id} is shown after a later one", (call.number,)
        if number in versions and versions[number].made.since > call.ended:
            yield f"version {number} of {appointment_id} is shown before it was made", (call.number,)

    def gaps_in_lists(self) -> Iterator[Finding]:
        """Finds lists without an appointment that was acknowledged before they were asked for."""
        by_business: dict[str, list[Appointment]] = defaultdict(list)
        for appointment in self._claims.appointments.values():
            by_business[appointment.business].append(appointment)
        for call in self._acknowledged("list_appointments"):
            if call.answer["nextCursor"] or "cursor" in call.request:
                continue
            starts, ends = to_seconds(call.request["from"]), to_seconds(call.request["to"])
            listed = {body["appointmentId"] for body in bodies(call)}
            for appointment in by_business[call.business]:
                first = appointment.versions.get(1)
                slots = [to_seconds(v.body["slotStart"]) for v in appointment.versions.values() if v.body]
                if first and first.made.until < call.started and all(starts <= slot < ends for slot in slots):
                    self.comparisons["reads are current"] += 1
                    if appointment.appointment_id not in listed:
                        yield f"{appointment.appointment_id} is not listed", (call.number, *appointment.evidence)

    def wrong_counts(self) -> Iterator[Finding]:
        """Finds reads of the capacity that show more or less units than can be claimed then."""
        for call in self._acknowledged("capacity"):
            self.comparisons["reads are current"] += 1
            room, span = self._claims.room_of(call.business, call.request), Span(call.started, call.ended)
            shown = call.answer["held"] + call.answer["booked"]
            for name, value, (least, most) in (
                ("units of capacity", call.answer["capacity"], self._room.capacity(room, span)),
                ("claimed units", shown, self._room.peaks(room, span)),
            ):
                if not least <= value <= most:
                    yield f"{value} {name} of {room.business}/{room.service}, of {least} to {most}", (call.number,)

    def sold_slots_in_listings(self) -> Iterator[Finding]:
        """Finds listings of slots with more room than there can be."""
        for call in self._acknowledged("availability"):
            for slot in call.answer["slots"]:
                self.comparisons["reads are current"] += 1
                room = self._claims.room_of(call.business, {**call.request, **slot})
                span = Span(call.started - _CACHED_SECONDS, call.ended)
                left = self._room.capacity(room, span)[1] - self._room.peaks(room, span)[0]
                if slot["available"] > left:
                    yield f"{slot['available']} units are listed at {slot['slotStart']}, of {left}", (call.number,)

    def free_slots_that_are_not_listed(self) -> Iterator[Finding]:
        """Finds listings without a slot that surely was free, of those that clients asked for."""
        asked = defaultdict(set)
        for call in self._history.calls:
            if call.kind in ("reserve", *BOOKING):
                room = self._claims.room_of(call.business, call.request)
                starts, ends = to_seconds(call.request["slotStart"]), to_seconds(call.request["slotEnd"])
                if ends - starts == 60 * self._history.town.offers[call.business][room.service].minutes:
                    asked[call.business, room.service].add((call.request["slotStart"], call.request["slotEnd"]))
        for call in self._acknowledged("availability"):
            listed = {slot["slotStart"] for slot in call.answer["slots"]}
            for start, end in asked[call.business, call.request["serviceId"]]:
                wish = {"serviceId": call.request["serviceId"], "slotStart": start, "slotEnd": end}
                if call.request["from"] <= start < call.request["to"] and start not in listed:
                    self.comparisons["reads are current"] += 1
                    room = self._claims.room_of(call.business, wish)
                    span = Span(call.started - _CACHED_SECONDS, call.ended)
                    if self._room.surely_fits(room, self._choices(room, None), frozenset(), span):
                        yield f"the free slot {start} of {call.business}/{room.service} is not listed", (call.number,)

    # The service itself.

    def internal_errors(self) -> Iterator[Finding]:
        """Finds answers that report a defect, and rows in the views of the invariants."""
        for call in self._history.calls:
            self.comparisons["no internal error"] += 1
            if call.status is not None and call.status >= 500 and call.status != 503:
                yield f"{call.kind} was answered {call.status} {call.code}", (call.number,)
            if call.kind == "invariants" and any(call.answer.values()):
                yield f"the views of the invariants have rows: {call.answer}", (call.number,)

    def _acknowledged(self, *kinds: str) -> list[Call]:
        return [call for call in self._history.calls if call.kind in kinds and call.is_acknowledged]

    def _final(self, kind: str) -> list[Call]:
        return [call for call in self._acknowledged(kind) if call.started >= self._history.settled_at]


def _units(room: Room) -> tuple[Any, ...]:
    """Returns a room without its resource, which a request may leave open."""
    return room.business, room.service, room.starts, room.ends, room.quantity


_Check = Callable[[_Checker], Iterator[Finding]]
_CHECKS: Final[dict[str, tuple[_Check, ...]]] = {
    "no overbooking": (_Checker.overbooked_moments,),
    "no double-booking": (_Checker.double_booked_resources,),
    "no false refusal": (_Checker.false_refusals,),
    "one effect per key": (_Checker.keys_with_two_effects, _Checker.holds_with_two_appointments),
    "expiry is final": (_Checker.ended_holds_that_live_on,),
    "a live hold can be committed": (_Checker.live_holds_that_are_refused, _Checker.commits_that_change_room),
    "nothing acknowledged is lost": (_Checker.lost_appointments, _Checker.lost_holds),
    "every effect is explained": (_Checker.effects_of_refused_calls, _Checker.holds_without_a_call),
    "no lost update": (_Checker.lost_updates, _Checker.gaps_in_audit_trails),
    "reads are current": (
        _Checker.contradictory_versions,
        _Checker.stale_reads,
        _Checker.gaps_in_lists,
        _Checker.wrong_counts,
        _Checker.sold_slots_in_listings,
        _Checker.free_slots_that_are_not_listed,
    ),
    "no internal error": (_Checker.internal_errors,),
}
