"""Runs the verbs that decide: sends a request to group commit, and returns the body or raises the refusal."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Literal, Protocol, TypeVar

from pydantic import TypeAdapter
from pydantic.alias_generators import to_camel
from pydantic_core import from_json

from service.booking.alternatives import Alternatives
from service.booking.instants import WrittenInstant
from service.booking.requests import Book, Change, Request, RequestedSlot, Reserve, new_operation_id, new_secret_id
from service.booking.text import if_any
from service.database.group_commit import GroupCommit
from service.database.partitioned import PartitionedCommit
from service.database.queue import UNKNOWN, Outcome
from service.errors import HoldfastError, Invalid, Refused
from service.faults import FaultCode
from service.naming import Record

T = TypeVar("T")

# A rule for the public that a slot breaks.
Rule = Literal["past", "too_soon", "too_far_ahead", "too_short", "too_long", "off_grid", "closed"]

_NO_ROOM_TO_MOVE = "No available capacity for the new time slot"
# The members of a change by which an appointment may leave its slot or its resource.
_MOVING: Final = ("slot_start", "slot_end", "resource_id", "service_id")
# Read from the body of the refusal: see booking.requested_slot.
_SLOT: Final = TypeAdapter(RequestedSlot)


class RefusalDetails(Record):
    """The members that verbs add to their refusals; each refusal has some of them."""

    reason: Literal[Rule, "not_online"] | None = if_any("Why.")
    current_version: int | None = if_any("The present version.")
    max_expires_at: WrittenInstant | None = if_any("The latest end of the hold.")
    appointment_status: Literal["cancelled", "completed", "no_show"] | None = if_any("How it ended.")
    cancellable_until: WrittenInstant | None = if_any("Until when guests could cancel it.")
    reschedulable_until: WrittenInstant | None = if_any("Until when guests could move it.")
    slot_start: WrittenInstant | None = if_any("The start of the appointment, or of the first time in the way.")
    slot_end: WrittenInstant | None = if_any("The end of the first time in the way.")
    limit: int | None = if_any("How many entries of this kind a business may have.")
    claimed: int | None = if_any("How many units are claimed then.")


def refusal(outcome: str, body: dict[str, Any] | None) -> HoldfastError:
    """Builds the error for an outcome, by its name and body."""
    body = body or {}
    if outcome == "validation_failed":
        field = ".".join(map(to_camel, body["field"].split(".")))
        return Invalid.at(field, FaultCode(body["code"]), **body["parameters"])
    details = RefusalDetails.model_validate(body)
    refused = Refused(outcome.upper(), **details.model_dump(mode="json"))
    refused.retry_after_seconds = body.get("retry_after_seconds", refused.retry_after_seconds)
    return refused


def body_of(outcome: str, body: bytes | None = None) -> bytes:
    """Returns the body of a success. Raises the error of any other outcome."""
    if outcome not in ("done", "created"):
        raise refusal(outcome, from_json(body) if body else None)
    return body or b""


class Announce(Protocol):
    """Reports what a verb changed to those who watch a calendar. It neither waits nor fails."""

    def __call__(
        self, business_id: str, body: dict[str, Any] | Callable[[], dict[str, Any]], *, moved: bool
    ) -> None: ...


def announce_unknown(announce: Announce | None, business_id: str, seconds: float) -> None:
    """Announces a change without an answer in `seconds`, when its deadline has passed: it may have its effect until
    then. All watchers of the business are concerned."""
    if announce:
        asyncio.get_running_loop().call_later(seconds, partial(announce, business_id, {}, moved=False))


def _concerned(outcome: Outcome, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the body of an outcome, or an empty one if it concerns the watchers of several services.

    That is a change to a new service, a move that leaves a resource for none (booking.decide_moves), and a claim that
    ended expired holds beside its slot or on another resource (booking.with_freed and booking.with_freed_hold).
    """
    body = outcome.body
    return {} if "service_id" in changes or "frees_more" in body else body


class Verbs:
    """Runs verbs. A refusal for lack of room comes with alternatives, which are looked up outside of the lock."""

    def __init__(
        self, group_commit: GroupCommit | PartitionedCommit, alternatives: Alternatives, announce: Announce
    ) -> None:
        self._group_commit = group_commit
        self._alternatives = alternatives
        self._announce = announce

    async def run(self, business_id: str, request: Request, body: bytes, read: Callable[[bytes], T]) -> tuple[T, bool]:
        """Runs the verb of a request; `body` is the request with all that the verb takes, in JSON.

        Returns what the verb made, by `read`, and whether that is a replay. Raises `Refused`, `Invalid` and
        `Unavailable`.
        """

        def announce(outcome: Outcome) -> None:
            if outcome is UNKNOWN:
                self._announce(business_id, {}, moved=False)
            elif outcome.name == "done" and request.verb != "extend":
                changes = request.changes if isinstance(request, Change) else {}
                moved = not changes.keys().isdisjoint(_MOVING)
                self._announce(business_id, partial(_concerned, outcome, changes), moved=moved)
            elif outcome.name in ("reservation_expired", "slot_unavailable") and (freed := outcome.body.get("freed")):
                self._announce(business_id, freed, moved=False)

        # The id of a reservation is the credential of its holder.
        operation = new_secret_id() if isinstance(request, Reserve) else new_operation_id()
        outcome = await self._group_commit.submit(request.verb, business_id, operation, body, announce)
        if outcome.name in ("done", "replayed"):
            return read(outcome.json or b"{}"), outcome.name == "replayed"
        if outcome.name == "slot_unavailable":
            # A status that is taken back needs the slot that the appointment has.
            is_move = isinstance(request, Change) and "status" not in request.changes
            detail = _NO_ROOM_TO_MOVE if is_move else None
            # A commit and a change name no slot themselves: the verb answers with it.
            slot = request.slot if isinstance(request, Reserve | Book) else _SLOT.validate_python(outcome.body)
            own = request.appointment_id if isinstance(request, Change) else None
            alternatives = await self._alternatives.nearest(business_id, slot, own)
            raise Refused("SLOT_UNAVAILABLE", detail, alternatives=alternatives)
        raise refusal(outcome.name, outcome.body)
