"""Appointments: book without a hold, look, list, change, cancel, erase, and the audit trail. The rules are in
sql/functions."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BeforeValidator, Field, JsonValue
from pydantic.alias_generators import to_camel

from service.booking.guests import Guests
from service.booking.operations import new_operation_id
from service.booking.outcomes import fingerprint
from service.booking.tenants import Tenants
from service.booking.tokens import CancellationTokens
from service.booking.verbs import Verbs
from service.database.connections import Database
from service.errors import HoldfastError, Refused
from service.naming import Record

Status = Literal["confirmed", "cancelled", "completed", "no_show"]

_NO_ROOM_TO_MOVE = "No available capacity for the new time slot"

# What is an instant among that which a change can change.
_INSTANTS: Final = ("slot_start", "slot_end")


class Appointment(Record):
    """A confirmed booking, or what became of it."""

    appointment_id: UUID
    reservation_id: UUID | None
    business_id: str
    service_id: str
    resource_id: str | None
    slot_start: AwareDatetime
    slot_end: AwareDatetime
    quantity: int
    status: Status
    version: int
    guest_name: str | None
    guest_email: str | None
    guest_phone: str | None
    notes: str | None
    metadata: dict[str, JsonValue]
    source: str
    created_at: AwareDatetime
    updated_at: AwareDatetime
    cancellation_reason: str | None = Field(default=None, exclude_if=lambda reason: reason is None)


class BookedAppointment(Appointment):
    """An appointment as its maker sees it, with what its guest cancels it by."""

    cancellation_token: str

    @classmethod
    def of(cls, body: dict[str, Any], tokens: CancellationTokens) -> Self:
        """What a verb made, with its token."""
        token = tokens.make(body["business_id"], UUID(body["appointment_id"]))
        return cls.model_validate({**body, "cancellation_token": token})


class Actor(Record):
    """Who made a change: `guest`, `admin`, or the role of a key, which is named by its id."""

    kind: str
    id: str | None


def _as_told(changes: dict[str, Any]) -> dict[str, Any]:
    """By the names of the answers, and instants as answers have them: the database writes them in its own way."""
    return {
        to_camel(name): {when: _in_utc(value) for when, value in change.items()} if name in _INSTANTS else change
        for name, change in changes.items()
    }


def _in_utc(value: str | None) -> str | None:
    return value and datetime.fromisoformat(value).astimezone(UTC).isoformat().replace("+00:00", "Z")


class AuditEntry(Record):
    """One change of an appointment."""

    at: AwareDatetime
    actor: Actor
    action: str
    version: int
    # By the field's name: {before, after}, or nothing where what it says is personal.
    changes: Annotated[dict[str, dict[str, JsonValue]], BeforeValidator(_as_told)]
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Author:
    """Who asks for a change, and by which request: for its audit row."""

    actor_kind: str
    actor_id: str | None
    request_id: str


class Appointments:
    """The verbs on appointments. Each raises `Refused`, `Invalid` and `Unavailable`."""

    def __init__(self, database: Database, verbs: Verbs, guests: Guests, tokens: CancellationTokens) -> None:
        self._database = database
        self._verbs = verbs
        self._guests = guests
        self._tokens = tokens
        self._tenants = Tenants(database, query="business_of_appointment", missing="APPOINTMENT_NOT_FOUND")

    async def book(
        self, business_id: str, request: dict[str, object], idempotency_key: str | None, author: Author
    ) -> tuple[BookedAppointment, bool]:
        """Holds and commits a slot in one: for a guest.

        `request` has the members of a request to book (sql/functions/verbs/claim.sql) as the caller sent them. Returns
        the appointment and whether it is a replay.
        """
        body, replayed = await self._book(business_id, request, idempotency_key, author)
        return BookedAppointment.of(body, self._tokens), replayed

    async def create(
        self, business_id: str, request: dict[str, object], idempotency_key: str | None, author: Author
    ) -> tuple[Appointment, bool]:
        """The same on behalf of the business: opening hours, notice, the past and bookingEnabled don't bind."""
        body, replayed = await self._book(business_id, {**request, "manual": True}, idempotency_key, author)
        return Appointment.model_validate(body), replayed

    async def get(self, appointment_id: UUID, business_id: str | None) -> Appointment:
        """One appointment."""
        business_id = await self._tenants.find(appointment_id, business_id)
        [(body,)] = await self._database.fetch("appointment", business_id, appointment_id)
        if body is None:
            raise Refused("APPOINTMENT_NOT_FOUND")
        return Appointment.model_validate(body)

    async def page(
        self,
        business_id: str,
        starts: tuple[datetime, datetime],
        resource_id: str | None,
        status: Status | None,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> list[Appointment]:
        """A page of those that start from the first instant up to the second, by start and id.

        `after` is where the page before ended. Raises `Refused` and `Unavailable`.
        """
        rows = await self._database.fetch(
            "list_appointments", business_id, *starts, resource_id, status, *(after or (None, None)), limit
        )
        if not rows and not await self._database.fetch("business", business_id):
            raise Refused("BUSINESS_NOT_FOUND")
        return [Appointment.model_validate(body) for (body,) in rows]

    async def audit(self, appointment_id: UUID, business_id: str | None) -> list[AuditEntry]:
        """The trail of one appointment, by version."""
        business_id = await self._tenants.find(appointment_id, business_id)
        rows = await self._database.fetch("audit_trail", business_id, appointment_id)
        if not rows:
            raise Refused("APPOINTMENT_NOT_FOUND")
        return [AuditEntry.model_validate(body) for (body,) in rows]

    async def change(
        self,
        appointment_id: UUID,
        changes: dict[str, object],
        expected_version: int | None,
        author: Author,
        business_id: str | None,
    ) -> Appointment:
        """Sets what `changes` names, in the members of `set` (sql/functions/verbs/change.sql)."""
        business_id = await self._tenants.find(appointment_id, business_id)
        changes = await self._guests.normalise(business_id, changes)
        return await self._change(
            appointment_id,
            {"action": "change", "set": changes, "expected_version": expected_version, **asdict(author)},
            business_id,
        )

    async def cancel(
        self,
        appointment_id: UUID,
        reason: str | None,
        expected_version: int | None,
        author: Author,
        business_id: str | None,
    ) -> Appointment:
        """Cancels an appointment; one that is cancelled already stays as it is."""
        request = {"action": "cancel", "reason": reason, "expected_version": expected_version, **asdict(author)}
        return await self._change(appointment_id, request, business_id)

    async def check_token(self, appointment_id: UUID, token: str, business_id: str | None) -> str:
        """The business of an appointment, if the token is the appointment's. Raises `HoldfastError` (FORBIDDEN)."""
        business_id = await self._tenants.find(appointment_id, business_id)
        if not self._tokens.verify(token, business_id, appointment_id):
            raise HoldfastError("FORBIDDEN", "The cancellation token does not belong to this appointment.")
        return business_id

    async def erase(
        self, appointment_id: UUID, expected_version: int | None, author: Author, business_id: str | None
    ) -> None:
        """Removes what is or may be personal."""
        request = {"action": "erase", "expected_version": expected_version, **asdict(author)}
        await self._change(appointment_id, request, business_id)

    async def _book(
        self, business_id: str, request: dict[str, object], idempotency_key: str | None, author: Author
    ) -> tuple[dict[str, Any], bool]:
        arguments = {
            **await self._guests.normalise_or_tell(business_id, request),
            **asdict(author),
            "idempotency_key": idempotency_key,
            "fingerprint": fingerprint(request),
        }
        return await self._verbs.run("book", business_id, new_operation_id(), arguments)

    async def _change(self, appointment_id: UUID, request: dict[str, object], business_id: str | None) -> Appointment:
        business_id = await self._tenants.find(appointment_id, business_id)
        body, _ = await self._verbs.run(
            "change",
            business_id,
            new_operation_id(),
            {"appointment_id": str(appointment_id), **request},
            no_room=_NO_ROOM_TO_MOVE,
        )
        return Appointment.model_validate(body)
