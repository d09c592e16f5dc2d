"""The way to the verbs that decide: through group commit, and back with a body or a refusal."""

from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from service.booking.alternatives import Alternatives, Wish
from service.booking.outcomes import refusal
from service.database.group_commit import GroupCommit
from service.database.queue import Outcome
from service.errors import Refused


class Announce(Protocol):
    """Tells those who watch a calendar of what a verb did. It must neither wait nor fail."""

    def __call__(self, business_id: str, body: dict[str, Any], *, moved: bool) -> None: ...


class Verbs:
    """Runs verbs. Whoever is refused for lack of room is told of alternatives, looked for outside of the lock."""

    def __init__(self, group_commit: GroupCommit, alternatives: Alternatives, announce: Announce) -> None:
        self._group_commit = group_commit
        self._alternatives = alternatives
        self._announce = announce

    async def run(
        self, verb: str, business_id: str, operation_id: UUID, arguments: dict[str, Any], *, no_room: str | None = None
    ) -> tuple[dict[str, Any], bool]:
        """Runs a verb of sql/functions; returns what it made, and whether that is a replay.

        `no_room` is what a refusal for lack of room says, if not the usual. Raises `Refused`, `Invalid` and
        `Unavailable`.
        """
        # A slot that is moved leaves another one behind.
        moved = not {"slot_start", "slot_end"}.isdisjoint(arguments.get("set", ()))

        def announce(outcome: Outcome) -> None:
            if outcome.name == "done" and outcome.body and verb != "extend":
                self._announce(business_id, outcome.body, moved=moved)

        outcome = await self._group_commit.submit(verb, business_id, operation_id, arguments, announce)
        if outcome.name in ("done", "replayed"):
            return outcome.body or {}, outcome.name == "replayed"
        if outcome.name == "slot_unavailable":
            wished = {**arguments, **(outcome.body or {})}
            raise Refused("SLOT_UNAVAILABLE", no_room, alternatives=await self._instead_of(business_id, wished))
        raise refusal(outcome.name, outcome.body)

    async def _instead_of(self, business_id: str, wished: dict[str, Any]) -> list[dict[str, Any]]:
        slot_end = wished.get("slot_end")
        wish = Wish(
            business_id,
            wished["service_id"],
            datetime.fromisoformat(wished["slot_start"]),
            datetime.fromisoformat(slot_end) if slot_end else None,
            wished["quantity"],
            wished.get("resource_id"),
            wished.get("appointment_id"),
        )
        nearest = await self._alternatives.nearest(wish)
        return [alternative.model_dump(mode="json") for alternative in nearest]
