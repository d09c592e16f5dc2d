"""Makes the requests of a call one by one, each in a call of its own, in the order in which the call decides them.

That order is the order of the verbs; within book, reserve and rebooks, window by window in rounds; within changes, all
changes that are no moves before the first move. To find out whether a request reaches a decision, or is a move, it is
made and rolled back.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from tests.database import NO_DEADLINE, Outcome, TestDatabase
from tests.sql.measuring import rolled_back

Request = dict[str, Any]
Batch = dict[str, list[Request]]
VERBS = ("release", "commit", "extend", "change", "book", "reserve")
MOVING = ("slot_start", "slot_end", "resource_id", "quantity")


def execute(database: TestDatabase, batches: dict[str, Batch]) -> dict[tuple[str, str], Outcome]:
    """Makes one call and returns the outcome of each (business, operation); operation ids are unique."""
    rows = database.rows(
        "SELECT operation_id::text, outcome, body FROM booking.execute(%s, %s, %s)",
        list(batches),
        [Jsonb(batch) for batch in batches.values()],
        NO_DEADLINE,
    )
    owners = {
        request["operation_id"]: business_id
        for business_id, batch in batches.items()
        for requests in batch.values()
        for request in requests
    }
    outcomes = {(owners[operation_id], operation_id): Outcome(name, body) for operation_id, name, body in rows}
    assert len(outcomes) == len(rows) == len(owners)
    return outcomes


def execute_all(database: TestDatabase, batches: dict[str, Batch]) -> dict[tuple[str, str], Outcome]:
    """Makes calls until no request is deferred any more, and returns all outcomes."""
    decided: dict[tuple[str, str], Outcome] = {}
    while any(requests for batch in batches.values() for requests in batch.values()):
        outcomes = execute(database, batches)
        decided |= {key: outcome for key, outcome in outcomes.items() if outcome.name != "deferred"}
        batches = {
            business_id: {
                verb: [request for request in requests if (business_id, request["operation_id"]) not in decided]
                for verb, requests in batch.items()
            }
            for business_id, batch in batches.items()
        }
    return decided


@dataclass
class Window:
    """The room that a request needs."""

    service_id: str
    starts: datetime
    ends: datetime
    resource_ids: tuple[str, ...] | None

    def conflicts_with(self, other: "Window") -> bool:
        """Returns whether both windows overlap and need the same room."""
        return (
            self.starts < other.ends
            and self.ends > other.starts
            and (
                self.service_id == other.service_id
                or bool({*(self.resource_ids or ())} & {*(other.resource_ids or ())})
            )
        )


class OneByOne:
    """Makes the requests of one business one by one."""

    def __init__(self, database: TestDatabase, business_id: str) -> None:
        self._database = database
        self._business_id = business_id
        self._max_rounds: int = database.value("SELECT booking.max_rounds()")
        self.outcomes: dict[str, Outcome] = {}

    def run(self, batch: Batch) -> None:
        """Makes all requests; those that a call would defer are made in a further pass through the verbs."""
        while any(batch.values()):
            deferred: Batch = {}
            for verb in VERBS:
                requests = batch.get(verb, [])
                if verb == "commit":
                    deferred[verb] = self._commit(requests)
                elif verb == "change":
                    deferred[verb] = self._change(requests)
                elif verb in ("book", "reserve"):
                    deferred[verb] = self._claim(verb, requests)
                elif verb == "extend":
                    deferred[verb] = self._extend(requests)
                else:
                    self._make_all(verb, requests)
            batch = deferred

    def _call(self, verb: str, request: Request) -> Outcome:
        outcomes = execute(self._database, {self._business_id: {verb: [request]}})
        return outcomes[self._business_id, request["operation_id"]]

    def _preview(self, verb: str, request: Request) -> Outcome:
        """Returns the outcome that a request would have now, without its effect."""
        with rolled_back(self._database):
            return self._call(verb, request)

    def _make(self, verb: str, request: Request) -> Outcome:
        outcome = self._call(verb, request)
        self.outcomes[request["operation_id"]] = outcome
        return outcome

    def _make_all(self, verb: str, requests: Iterable[Request]) -> None:
        for request in requests:
            self._make(verb, request)

    def _commit(self, requests: list[Request]) -> list[Request]:
        """Makes the plain commits, for each hold first the request that succeeds, and then the rebooks."""
        expired = {
            str(reservation_id)
            for (reservation_id,) in self._database.rows(
                "SELECT reservation_id FROM booking.reservations r WHERE business_id = %s "
                "AND booking.reservation_body(r, booking.now()) ->> 'status' = 'expired' AND NOT EXISTS ("
                "  SELECT FROM booking.appointments a "
                "  WHERE a.business_id = r.business_id AND a.reservation_id = r.reservation_id)",
                self._business_id,
            )
        }
        rebooks = [r for r in requests if r.get("if_expired") == "rebook" and r["reservation_id"] in expired]
        others = [request for request in requests if request not in rebooks]
        for request in others:
            if request["operation_id"] not in self.outcomes:
                same = [r for r in others if r["reservation_id"] == request["reservation_id"]]
                same.sort(key=lambda r: self._preview("commit", r).name != "done")
                self._make_all("commit", same)
                # The first one ends an expired hold. Of one call, each of them says so.
                refused = [r["operation_id"] for r in same if self._is_expired(r)]
                self.outcomes |= dict.fromkeys(refused, self.outcomes[refused[0]]) if refused else {}
        return self._decide("commit", rebooks, lambda request: request["reservation_id"], self._window_of_hold)

    def _is_expired(self, request: Request) -> bool:
        return self.outcomes[request["operation_id"]].name == "reservation_expired"

    def _extend(self, requests: list[Request]) -> list[Request]:
        """Extends each hold at most once per round of a call, and returns the requests that are left."""
        numbers: Counter[str] = Counter()
        left = []
        for request in requests:
            numbers[request["reservation_id"]] += 1
            if numbers[request["reservation_id"]] <= self._max_rounds:
                self._make("extend", request)
            else:
                left.append(request)
        return left

    def _claim(self, verb: str, requests: list[Request]) -> list[Request]:
        """Makes the requests that need no decision, and then decides the others."""
        previews = {request["operation_id"]: self._preview(verb, request).name for request in requests}
        undecided = [r for r in requests if previews[r["operation_id"]] in ("done", "slot_unavailable")]
        self._make_all(verb, (request for request in requests if request not in undecided))
        return self._decide(
            verb,
            undecided,
            lambda request: request.get("idempotency_key") or request["operation_id"],
            self._window_of_request,
        )

    def _decide(
        self,
        verb: str,
        requests: list[Request],
        attempt_of: Callable[[Request], str],
        window_of: Callable[[Request], Window],
    ) -> list[Request]:
        """Makes requests in rounds, as sql/functions/rules/decide.sql describes, and returns those that are left."""
        for _ in range(self._max_rounds):
            first: dict[str, Request] = {}
            for request in requests:
                first.setdefault(attempt_of(request), request)
            groups: list[tuple[Window, list[Request]]] = []
            for request in first.values():
                window = window_of(request)
                same = next((group for known, group in groups if known == window), None)
                if same is None:
                    groups.append((window, [request]))
                else:
                    same.append(request)
            decided = [
                request
                for n, (window, group) in enumerate(groups)
                if not any(window.conflicts_with(earlier) for earlier, _ in groups[:n])
                for request in group
            ]
            for request in decided:
                self._make(verb, request)
            requests = [request for request in requests if request not in decided]
            # The other requests of the same attempt: replays, or requests equal to a refused one.
            for request in list(requests):
                leader = first[attempt_of(request)]
                if leader not in decided or verb == "commit":
                    continue
                is_granted = self.outcomes[leader["operation_id"]].name == "done"
                if is_granted or request.get("fingerprint") == leader.get("fingerprint"):
                    self._make(verb, request)
                    requests.remove(request)
            if not requests:
                break
        return requests

    def _change(self, requests: list[Request]) -> list[Request]:
        """Changes appointments in rounds, each with the first change of every appointment and at most one move."""
        for _ in range(self._max_rounds):
            first: dict[str, Request] = {}
            for request in requests:
                first.setdefault(request["appointment_id"], request)
            moves = [request for request in first.values() if self._is_move(request)]
            decided = [request for request in first.values() if request not in moves] + moves[:1]
            self._make_all("change", decided)
            requests = [request for request in requests if request not in decided]
            if not requests:
                break
        return requests

    def _is_move(self, request: Request) -> bool:
        """Returns whether a change needs a decision, or would need one if its resource could be found."""
        members = request.get("set", {})
        if request["action"] != "change" or not any(name in members for name in MOVING):
            return False
        outcome = self._preview("change", request)
        if outcome.name == "validation_failed":
            return bool(outcome.body["code"] == "too_many_for_a_resource")
        if outcome.name != "done" or outcome.body["status"] != "confirmed":
            return outcome.name in ("slot_unavailable", "resource_not_found")
        [(start, end, quantity)] = self._database.rows(
            "SELECT slot_start, slot_end, quantity FROM booking.appointments "
            "WHERE business_id = %s AND appointment_id = %s",
            self._business_id,
            request["appointment_id"],
        )
        body = outcome.body
        after = (datetime.fromisoformat(body["slot_start"]), datetime.fromisoformat(body["slot_end"]), body["quantity"])
        return "resource_id" in members or after != (start, end, quantity)

    def _pool(self, service_id: str, resource_id: str | None) -> tuple[str, ...] | None:
        rows = self._database.rows(
            "SELECT r.resource_id, r.archived_at IS NULL FROM booking.service_resources "
            "JOIN booking.resources r USING (business_id, resource_id) "
            "WHERE business_id = %s AND service_id = %s ORDER BY 1",
            self._business_id,
            service_id,
        )
        if not rows:
            return None
        return tuple(name for name, is_active in rows if is_active and resource_id in (None, name))

    def _window_of_request(self, request: Request) -> Window:
        [(starts, ends)] = self._database.rows(
            "SELECT at - make_interval(mins => s.buffer_before_minutes), "
            "coalesce(%s::timestamptz, at + make_interval(mins => s.duration_minutes)) "
            "+ make_interval(mins => s.buffer_after_minutes) "
            "FROM booking.services s CROSS JOIN (VALUES (%s::timestamptz)) AS slot (at) "
            "WHERE business_id = %s AND service_id = %s",
            request.get("slot_end"),
            request["slot_start"],
            self._business_id,
            request["service_id"],
        )
        return Window(
            request["service_id"], starts, ends, self._pool(request["service_id"], request.get("resource_id"))
        )

    def _window_of_hold(self, request: Request) -> Window:
        [(service_id, starts, ends, resource_id)] = self._database.rows(
            "SELECT service_id, lower(occupied), upper(occupied), CASE WHEN resource_named THEN resource_id END "
            "FROM booking.reservations WHERE business_id = %s AND reservation_id = %s",
            self._business_id,
            request["reservation_id"],
        )
        return Window(service_id, starts, ends, self._pool(service_id, resource_id))
