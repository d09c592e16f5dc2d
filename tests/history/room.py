"""The room of a history: how much was surely and possibly taken at each moment, and whether a request surely fitted."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Final

from tests.history.claims import ANY, Claims, Room, Span, Stay
from tests.history.record import SETTLE_SECONDS, Call, Clock, History

_BUCKET_SECONDS: Final = 1.0


class _Index:
    """Stays by their business and by the seconds in which they existed, which `span_of` returns."""

    def __init__(self, stays: Iterable[Stay], span_of: Callable[[Stay], Span], end: float) -> None:
        self._span_of = span_of
        self._end = end
        self._buckets: dict[tuple[str, int], list[Stay]] = defaultdict(list)
        for stay in stays:
            span = span_of(stay)
            if span.since < span.until:
                for bucket in self._range(span):
                    self._buckets[stay.room.business, bucket].append(stay)

    def during(self, room: Room, span: Span) -> list[Stay]:
        """Returns the stays of a business that overlap a room and existed at some moment of a time."""
        found = {
            id(stay): stay
            for bucket in self._range(span)
            for stay in self._buckets.get((room.business, bucket), ())
            if stay.room.overlaps(room) and self._span_of(stay).meets(span)
        }
        return list(found.values())

    def _range(self, span: Span) -> range:
        first, last = (min(max(time, 0.0), self._end) for time in span)
        return range(int(first / _BUCKET_SECONDS), int(last / _BUCKET_SECONDS) + 1)


class RoomBook:
    """What was taken of each service and resource, by the claims of a history."""

    def __init__(self, history: History, claims: Claims) -> None:
        self._town = history.town
        self._clock: Clock = history.clock
        end = max((call.ended for call in history.calls), default=0.0)
        self._certain = _Index(claims.stays, lambda stay: stay.certain, end)
        self._possible = _Index(claims.stays, lambda stay: stay.possible, end)
        puts: dict[tuple[str, str], list[Call]] = defaultdict(list)
        for call in history.calls:
            if call.kind == "put_service" and not call.is_refused:
                puts[call.business, call.request["serviceId"]].append(call)
        self._capacities = {
            (business, service): self._timeline(business, service, puts[business, service])
            for business, services in history.town.offers.items()
            for service in services
        }

    def _timeline(self, business: str, service: str, puts: list[Call]) -> list[tuple[Span, int]]:
        """Returns the capacities of a service, each with the time at which it can have been the current one."""
        offer = self._town.offers[business][service]
        first = offer.capacity or sum(self._town.seats[business][resource] for resource in offer.pool) or 1
        timeline = [(-math.inf, -math.inf, first)] + [
            (put.started, put.ended + SETTLE_SECONDS * put.is_unknown, put.request["capacity"]) for put in puts
        ]
        # A capacity lasts until a put that began after its own put could have its effect is acknowledged.
        return [
            (
                Span(
                    since, min((p.ended for p in puts if p.is_acknowledged and p.started >= settled), default=math.inf)
                ),
                n,
            )
            for since, settled, n in timeline
        ]

    def capacity(self, room: Room, span: Span) -> tuple[int, int]:
        """Returns the least and the most capacity that a service can have during a time."""
        values = [n for valid, n in self._capacities[room.business, room.service] if valid.meets(span)]
        return min(values), max(values)

    def surely_at(self, room: Room, time: float) -> list[Stay]:
        """Returns the claims that surely existed at a moment and overlap a room."""
        return [stay for stay in self._certain.during(room, Span(time, time)) if stay.certain.since <= time]

    def peaks(self, room: Room, span: Span) -> tuple[int, int]:
        """Returns the least and the most units that a read at a moment of a time can show at the fullest instant of a
        window."""
        sure = [
            stay.room
            for stay in self._certain.during(room, span)
            if stay.room.service == room.service
            and stay.certain.since <= span.since
            and span.until < stay.certain.until
            and not any(unseen.meets(span) for unseen in stay.unseen)
        ]
        possible = [stay.room for stay in self._possible.during(room, span) if stay.room.service == room.service]
        return (
            peak(sure, max(room.starts, self._clock.latest(span.until)), room.ends),
            peak(possible, max(room.starts, self._clock.earliest(span.since)), room.ends),
        )

    def peak_at(self, room: Room, time: float) -> int:
        """Returns the units that are surely claimed at the fullest instant of a window, at a moment."""
        sure = [stay.room for stay in self.surely_at(room, time) if stay.room.service == room.service]
        return peak(sure, max(room.starts, self._clock.latest(time)), room.ends)

    def surely_fits(self, room: Room, choices: Iterable[str] | None, own: frozenset[str], span: Span) -> bool:
        """Returns whether a request for a room fits at each moment of a time.

        `choices` are the resources of which it needs one; None: it needs none. `own` are the claims that it replaces.
        """
        others = [stay for stay in self._possible.during(room, span) if not stay.owners & own]
        least, _ = self.capacity(room, span)
        edges = {time for stay in others for time in stay.possible if span.since < time < span.until}
        return all(
            self._fits(
                room, choices, [s.room for s in others if s.possible.since <= time <= s.possible.until], least, time
            )
            for time in {span.since, span.until} | edges
        )

    def _fits(self, room: Room, choices: Iterable[str] | None, others: list[Room], capacity: int, time: float) -> bool:
        of_service = [other for other in others if other.service == room.service]
        if peak(of_service, max(room.starts, self._clock.earliest(time)), room.ends) + room.quantity > capacity:
            return False
        return choices is None or any(self._seats(room, resource, others) for resource in choices)

    def _seats(self, room: Room, resource: str, others: list[Room]) -> bool:
        """Returns whether a resource has seats for a request beside other claims."""
        offers = self._town.offers[room.business]
        taken = 0
        for other in others:
            if other.resource == resource or (other.resource == ANY and resource in offers[other.service].pool):
                if not (offers[room.service].shares and other.is_session_of(room)):
                    return False
                taken += other.quantity
        return taken + room.quantity <= self._town.seats[room.business][resource]


def peak(rooms: Iterable[Room], starts: float, ends: float) -> int:
    """Returns the most units that claims take at one instant of a window."""
    edges = sorted(
        edge
        for room in rooms
        if room.starts < ends and starts < room.ends
        for edge in ((max(room.starts, starts), 1, room.quantity), (room.ends, 0, -room.quantity))
    )
    level = highest = 0
    for _, _, step in edges:
        level += step
        highest = max(highest, level)
    return highest
