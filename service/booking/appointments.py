"""Appointments: book without a hold, look up, list, change, cancel, erase, and the audit trail. The rules are in
sql/functions."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

import orjson
from pydantic import BaseModel, BeforeValidator, Field, JsonValue
from pydantic.alias_generators import to_camel
from pydantic_core import from_json

from service.booking.businesses import BusinessOf, found, rows_of
from service.booking.catalog_types import OfBusiness
from service.booking.contacts import PHONE_MEANING, Email, PhoneOfUrl
from service.booking.guests import Guests
from service.booking.instants import Instant, WrittenInstant, after, written_instant
from service.booking.requests import Attempt, Author, Book, Change, Holder, merged, written
from service.booking.service_types import OfService
from service.booking.text import BusinessId, Identifier, WrittenUuid, if_any
from service.booking.tokens import CancellationTokens
from service.booking.verbs import Announce, Rule, Verbs, body_of
from service.database.connections import Database, Reader
from service.errors import HoldfastError, Refused
from service.naming import Record

Status = Literal["confirmed", "cancelled", "completed", "no_show"]
WarningCode = Literal[Rule, "misconfigured"]

# A place in a list: the instant by which it is sorted, and the id of an appointment.
Place = tuple[datetime, UUID]

# Appointments that one transaction erases at most, while it holds the lock of the business.
_ERASED_AT_ONCE: Final = 20

# Entries of an audit trail that are read and written at once.
AUDIT_ROWS: Final = 100

# The members of a change that are instants.
_INSTANTS: Final = ("slot_start", "slot_end")


class Listed(BaseModel):
    """The appointments to list, in the order of the parameters of booking.list_appointments
    (sql/functions/reads/appointments.sql): members of the query of the list."""

    business_id: BusinessId
    from_: Instant | None = Field(None, description="Only those that start at this instant or later.")
    to: Annotated[Instant, after("from_")] | None = Field(
        None, description="Only those that start before this instant."
    )
    overlapping: bool = Field(False, description="Also those that began before `from` and end after it.")
    updated_since: Instant | None = Field(None, description="Only those changed at this instant or later.")
    resource_id: Identifier | None = Field(None, description="Only those of this resource.")
    service_id: Identifier | None = Field(None, description="Only those of this service.")
    status: Status | None = Field(None, description="Only those with this status.")
    guest_email: Email | None = Field(
        None, description="Only those of the guest with this e-mail address, in any case of its letters."
    )
    guest_phone: PhoneOfUrl | None = Field(None, description="Only those of the guest with this phone number.")


class SlotWarning(Record):
    """A rule for the public that a booking of the business itself breaks."""

    code: WarningCode = Field(
        description="As the `reason` of `SLOT_NOT_BOOKABLE`. `misconfigured`: the time zone of the business is "
        "unknown, so that its hours could not be checked."
    )
    resource_id: str | None = if_any("With `closed`: the resource that is closed. Left out, the business is.")


class Claim(OfService, OfBusiness):
    """What an appointment and a hold take."""

    resource_id: str | None = Field(description="The resource that is taken; `null` where the service has none.")
    slot_start: WrittenInstant = Field(description="When the slot begins.")
    slot_end: WrittenInstant = Field(description="When the slot ends. That instant is not part of it.")
    quantity: int = Field(description="How many units of the service's capacity.")


class KnownAppointment(Record):
    """An appointment as a repeated commit shows it to a caller that is not known to be the holder."""

    appointment_id: WrittenUuid = Field(description="The appointment, by its id.")
    status: Status = Field(description="`confirmed`, or how it ended. Only a confirmed one takes room.")


class Appointment(Claim, KnownAppointment):
    """A confirmed booking, or an ended one."""

    reservation_id: WrittenUuid | None = Field(
        description="Its hold, if any; hidden as `null` in lists and from readers."
    )
    version: int = Field(description="Rises by 1 with every change of the appointment.")
    guest_name: str | None = Field(description="The guest's name.")
    guest_email: str | None = Field(description="The guest's e-mail address.")
    guest_phone: str | None = Field(description=PHONE_MEANING)
    notes: str | None = Field(description="Free text for the business.")
    metadata: dict[str, JsonValue] = Field(
        description="The data of your own system, as it was sent. The public can send anything: trust no price in it."
    )
    source: str = Field(description="Where it was made: `online` for a committed hold.")
    created_at: WrittenInstant = Field(description="When it was made.")
    updated_at: WrittenInstant = Field(description="When it was last changed.")
    cancellable_until: WrittenInstant = Field(
        description="The last instant at which the guest may cancel it, also if that is past. Staff may at any time."
    )
    reschedulable_until: WrittenInstant = Field(
        description="The last instant at which the guest may move it, also if that is past. Staff may at any time."
    )
    cancellation_reason: str | None = if_any("Why it was cancelled. Present only if a reason was given.")
    warnings: list[SlotWarning] | None = if_any(
        "The rules for the public that its slot breaks. Present only where staff have just made or moved it."
    )

    def for_guest(self) -> Self:
        """Returns it as its guest sees it: without its hold and without what the business may have written."""
        hidden: dict[str, Any] = {"reservation_id": None, "notes": None, "metadata": {}, "cancellation_reason": None}
        return self.model_copy(update=hidden)


class BookedAppointment(Appointment):
    """An appointment as its maker sees it, with the token by which its guest can cancel it."""

    cancellation_token: str = Field(description="Lets the guest cancel without an account. Only for the guest.")


class Actor(Record):
    """The author of a change."""

    kind: str = Field(description="`guest`, `admin`, `system` for the purge, or the role of the key: `owner`, `staff`.")
    id: str | None = Field(description="The key that was used; `null` for all others.")
    name: str | None = Field(description="The name of that key; `null` for all others.")


def _in_json_names(changes: dict[str, Any]) -> dict[str, Any]:
    """Converts the names to camelCase, and the database's instants to those of the other answers."""
    return {
        to_camel(name): {when: value and written_instant(value) for when, value in change.items()}
        if name in _INSTANTS
        else change
        for name, change in changes.items()
    }


Changes = Annotated[dict[str, dict[str, JsonValue]], BeforeValidator(_in_json_names)]


class AuditEntry(Record):
    """One change of an appointment."""

    at: WrittenInstant = Field(description="When it happened.")
    actor: Actor = Field(description="The author of the change.")
    action: str = Field(description="`created`, `changed`, `rescheduled`, `erased`, or the status that it set.")
    version: int = Field(description="The version that it made.")
    changes: Changes = Field(description="The changed fields, each `before` and `after`; personal ones by name only.")
    request_id: str | None = Field(description="The request that made the change, as in the service's log.")


def booked(tokens: CancellationTokens, body: bytes) -> BookedAppointment:
    """Reads an appointment that a verb made, and adds its token."""
    fields = from_json(body)
    token = tokens.make(fields["business_id"], fields["appointment_id"])
    return BookedAppointment.model_validate({**fields, "cancellation_token": token})


def booked_by_guest(tokens: CancellationTokens, body: bytes) -> BookedAppointment:
    """Reads an appointment for the guest that made it. Once it was changed, the business may have written into it."""
    appointment = booked(tokens, body)
    return appointment if appointment.version == 1 else appointment.for_guest()


def committed(tokens: CancellationTokens, body: bytes) -> BookedAppointment | KnownAppointment:
    """Reads what a commit answers: the appointment with its token, or what booking.replayed_commit leaves of it."""
    fields = from_json(body)
    return booked_by_guest(tokens, body) if "business_id" in fields else KnownAppointment.model_validate(fields)


class Appointments:
    """The verbs on appointments. Each raises `Refused`, `Invalid` and `Unavailable`, and looks up a `business_id` of
    None."""

    def __init__(
        self,
        look_ups: Database,
        lists: Reader,
        database: Database,
        verbs: Verbs,
        guests: Guests,
        tokens: CancellationTokens,
        announce: Announce,
    ) -> None:
        self._look_ups = look_ups
        self._lists = lists
        self._database = database
        self._announce = announce
        self._verbs = verbs
        self._guests = guests
        self._tokens = tokens
        self._business_of = BusinessOf(look_ups, query="business_of_appointment", missing="APPOINTMENT_NOT_FOUND")

    async def book(
        self, business_id: str, request: Book, attempt: Attempt, author: Author, holder: Holder | None = None
    ) -> tuple[BookedAppointment, bool]:
        """Books a slot at once, and returns the appointment and whether it is a replay. Without a `holder`, which staff
        are not, no client is limited."""
        sent = written(request)
        phone = await self._guests.stored_phone(business_id, request.guest)
        content = merged(sent, phone, attempt.members(sent), author, holder)
        read = booked_by_guest if author.actor_kind == "guest" else booked
        return await self._verbs.run(business_id, request, content, partial(read, self._tokens))

    async def get(self, appointment_id: UUID, business_id: str | None) -> Appointment:
        """Returns an appointment as it is now."""
        business_id = await self._business_of.find(appointment_id, business_id)
        rows = await self._look_ups.fetch("appointment", business_id, appointment_id)
        return found(rows, Appointment, "APPOINTMENT_NOT_FOUND")

    async def page(self, listed: Listed, after: Place | None, limit: int) -> tuple[list[Appointment], Place | None]:
        """Returns a page of appointments by start, or by change where `updated_since` is set, and then by id.

        And its last place if there is a next page, which begins `after` that.
        """
        phone = listed.guest_phone and await self._guests.normalised(listed.business_id, listed.guest_phone)
        members = dict(listed) | {"guest_phone": phone}
        business_id, *filters = (members[name] for name in Listed.model_fields)
        rows = await rows_of(self._lists, "list_appointments", business_id, *filters, *(after or (None, None)), limit)
        bodies = [body for (body,) in rows if body is not None]
        place = None
        if len(bodies) < len(rows):
            last = from_json(bodies[-1])
            # In microseconds, as stored: two appointments of one millisecond have different places.
            at = datetime.fromisoformat(last["updated_at" if listed.updated_since else "slot_start"])
            place = at, UUID(last["appointment_id"])
        return [Appointment.model_validate_json(body) for body in bodies], place

    async def audit(self, appointment_id: UUID, business_id: str | None) -> AsyncIterator[list[AuditEntry]]:
        """Yields the trail of an appointment, by version, in pages: a guest may move an appointment any number of
        times."""
        business_id = await self._business_of.find(appointment_id, business_id)
        version = 0
        while rows := await self._lists.fetch("audit_trail", business_id, appointment_id, version, AUDIT_ROWS):
            entries = [AuditEntry.model_validate_json(body) for (body,) in rows]
            yield entries
            if len(entries) < AUDIT_ROWS:
                return
            version = entries[-1].version
        if not version:
            raise Refused("APPOINTMENT_NOT_FOUND")

    async def change(self, request: Change, author: Author, business_id: str | None) -> Appointment:
        """Changes, cancels or erases an appointment, and returns it. One that is cancelled already stays as it is."""
        business_id = await self._business_of.find(request.appointment_id, business_id)
        request = await self._guests.normalise_change(business_id, request)
        content = merged(written(request), author)
        appointment, _ = await self._verbs.run(business_id, request, content, Appointment.model_validate_json)
        return appointment

    async def erase(self, business_id: str, email: str | None, phone: str | None, author: Author) -> int:
        """Erases the guest with an e-mail address, or else a phone number, from all appointments of a business.

        Returns the number of erased appointments. Works in short transactions, between which other requests get the
        lock of the business; one that is interrupted has erased a part, and the next call erases the rest.
        """
        phone = phone and await self._guests.normalised(business_id, phone)
        written_author = orjson.dumps(author).decode()
        erased = 0
        while True:
            step_started = time.monotonic()
            [row] = await self._database.change(
                "erase_guest", business_id, email, phone, written_author, _ERASED_AT_ONCE
            )
            step: int = from_json(body_of(*row))["erased"]
            erased += step
            if step:
                self._announce(business_id, {}, moved=False)
            if step < _ERASED_AT_ONCE:
                return erased
            await asyncio.sleep(time.monotonic() - step_started)

    async def check_token(self, appointment_id: UUID, token: str, business_id: str | None) -> str:
        """Returns the business of an appointment. Raises `HoldfastError` (FORBIDDEN) if the token is another one's."""
        business_id = await self._business_of.find(appointment_id, business_id)
        if not self._tokens.verify(token, business_id, appointment_id):
            raise HoldfastError("FORBIDDEN", "The cancellation token does not belong to this appointment.")
        return business_id
