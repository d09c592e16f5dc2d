"""Holds: reserve, look, extend, release, and commit to an appointment. The rules are in sql/functions."""

import hashlib
import json
from collections import OrderedDict
from typing import Any, Final, Literal
from uuid import UUID, uuid4

from pydantic import AwareDatetime, JsonValue

from service.booking.operations import new_operation_id
from service.booking.tokens import CancellationTokens
from service.database.connections import Database
from service.database.group_commit import GroupCommit, Outcome
from service.errors import Refused
from service.naming import Record

# Reservations whose business this process remembers, to spare the look-up. About 200 bytes each.
_REMEMBERED: Final = 50_000


class Reservation(Record):
    """A hold as its holder sees it. `expires_in_seconds` is 0 when it has ended."""

    reservation_id: UUID
    business_id: str
    service_id: str
    resource_id: str | None
    slot_start: AwareDatetime
    slot_end: AwareDatetime
    quantity: int
    status: Literal["held", "committed", "released", "expired"]
    expires_at: AwareDatetime
    expires_in_seconds: float
    ttl_clamped: bool
    version: int


class Appointment(Record):
    """A confirmed booking. `cancellation_token` only where it has just been made or is replayed to its maker."""

    appointment_id: UUID
    reservation_id: UUID | None
    business_id: str
    service_id: str
    resource_id: str | None
    slot_start: AwareDatetime
    slot_end: AwareDatetime
    quantity: int
    status: Literal["confirmed", "cancelled", "completed", "no_show"]
    version: int
    guest_name: str | None
    guest_email: str | None
    guest_phone: str | None
    notes: str | None
    metadata: dict[str, JsonValue]
    source: str
    created_at: AwareDatetime
    updated_at: AwareDatetime
    cancellation_token: str | None = None


class Holds:
    """The verbs on holds."""

    def __init__(self, database: Database, group_commit: GroupCommit, tokens: CancellationTokens) -> None:
        self._database = database
        self._group_commit = group_commit
        self._tokens = tokens
        self._businesses: OrderedDict[UUID, str] = OrderedDict()

    async def reserve(
        self, business_id: str, request: dict[str, object], idempotency_key: str | None
    ) -> tuple[Reservation, bool]:
        """Holds a slot.

        `request` has the arguments of `booking.reserve` in sql/functions as the caller sent them: what the
        catalog would fill in is not filled in, because it is their fingerprint that a replay is compared by.
        Returns the reservation and whether it is a replay. Raises `Refused` and `Unavailable`.
        """
        # A reservation's id is the credential of its holder: all of it random.
        outcome = await self._group_commit.submit(
            "reserve",
            business_id,
            uuid4(),
            {**request, "idempotency_key": idempotency_key, "fingerprint": _fingerprint(request)},
        )
        reservation = Reservation.model_validate(_accepted(outcome))
        self._remember(reservation.reservation_id, business_id)
        return reservation, outcome.name == "replayed"

    async def commit(
        self, reservation_id: UUID, request: dict[str, object], business_id: str | None
    ) -> tuple[Appointment, bool]:
        """Turns a hold into an appointment.

        `request` has the arguments of `booking.commit`. Without a `business_id` it is looked up. Returns the
        appointment and whether it is a replay. Raises `Refused` and `Unavailable`.
        """
        outcome = await self._run("commit", reservation_id, business_id, request)
        appointment = Appointment.model_validate(_accepted(outcome))
        appointment.cancellation_token = self._tokens.make(appointment.business_id, appointment.appointment_id)
        return appointment, outcome.name == "replayed"

    async def extend(
        self, reservation_id: UUID, ttl_minutes: float, expected_version: int | None, business_id: str | None
    ) -> Reservation:
        """Prolongs a hold to `ttl_minutes` from now, if that is later. Raises `Refused` and `Unavailable`."""
        request: dict[str, object] = {"ttl_minutes": ttl_minutes, "expected_version": expected_version}
        return Reservation.model_validate(_accepted(await self._run("extend", reservation_id, business_id, request)))

    async def release(self, reservation_id: UUID, business_id: str | None) -> None:
        """Gives up a hold. Raises `Refused` and `Unavailable`."""
        _accepted(await self._run("release", reservation_id, business_id, {}))

    async def get(self, reservation_id: UUID, business_id: str | None) -> Reservation:
        """A hold as it is now. Raises `Refused` and `Unavailable`."""
        business_id = business_id or await self._business_of(reservation_id)
        [(body,)] = await self._database.fetch("reservation", business_id, reservation_id)
        if body is None:
            raise Refused("RESERVATION_NOT_FOUND")
        return Reservation.model_validate(body)

    async def _run(
        self, verb: str, reservation_id: UUID, business_id: str | None, request: dict[str, object]
    ) -> Outcome:
        business_id = business_id or await self._business_of(reservation_id)
        arguments = {"reservation_id": str(reservation_id), **request}
        return await self._group_commit.submit(verb, business_id, new_operation_id(), arguments)

    async def _business_of(self, reservation_id: UUID) -> str:
        """The business of a reservation, which never changes: what was once known needs no look-up."""
        if known := self._businesses.get(reservation_id):
            return known
        [(business_id,)] = await self._database.fetch("business_of_reservation", reservation_id)
        if business_id is None:
            raise Refused("RESERVATION_NOT_FOUND")
        self._remember(reservation_id, business_id)
        return str(business_id)

    def _remember(self, reservation_id: UUID, business_id: str) -> None:
        self._businesses[reservation_id] = business_id
        if len(self._businesses) > _REMEMBERED:
            self._businesses.popitem(last=False)


class _Said(Record):
    """What verbs have to say about a refusal; each says some of it."""

    reason: str | None = None
    current_version: int | None = None
    max_expires_at: AwareDatetime | None = None
    slot_start: AwareDatetime | None = None
    slot_end: AwareDatetime | None = None
    claimed: int | None = None


def refusal(name: str, body: dict[str, Any] | None) -> Refused:
    """The refusal that a verb gave as its outcome."""
    said = _Said.model_validate(body or {})
    return Refused(name.upper(), **said.model_dump(mode="json", exclude_unset=True))


def _accepted(outcome: Outcome) -> dict[str, Any] | None:
    """The body of a success; a refusal is raised, with what the verb had to say about it."""
    if outcome.name in ("done", "replayed"):
        return outcome.body
    raise refusal(outcome.name, outcome.body)


def _fingerprint(request: dict[str, object]) -> str:
    """Of the whole request as it was sent, whatever the order of its members."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
