"""The requests of the verbs: a frozen object for each, with the members that sql/functions/verbs documents."""

import hashlib
import os
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final, Literal
from uuid import UUID

import orjson
import uuid_utils
from pydantic import BaseModel, Field, TypeAdapter

from service.booking.contacts import EMAIL_MEANING, PHONE_MEANING, Email, Phone
from service.booking.text import METADATA_MEANING, Metadata, Name, Notes


@dataclass(frozen=True, slots=True)
class RequestedSlot:
    """The slot that a caller asks for. The verb takes from the catalog what is None."""

    service_id: str
    slot_start: datetime
    slot_end: datetime | None
    quantity: int
    resource_id: str | None


class Guest(BaseModel):
    """The guest of an appointment, and what the business wants to know: members of the bodies of calls."""

    guest_name: Name | None = Field(None, description="The guest's name, without the blanks around it.")
    guest_email: Email | None = Field(None, description=EMAIL_MEANING)
    guest_phone: Phone | None = Field(None, description=PHONE_MEANING)
    notes: Notes | None = Field(None, description="Free text for the business.")
    metadata: Metadata = Field(default_factory=dict, description=METADATA_MEANING)


@dataclass(frozen=True, slots=True)
class Holder:
    """The client that claims a slot, by digests, and how many places in the business it may hold, and may hold and have
    booked on one day. None: any number."""

    client_address_hmac: str | None
    client_id_hmac: str | None
    max_live_holds: int | None
    max_daily_bookings: int | None


@dataclass(frozen=True, slots=True)
class Author:
    """The caller of a change, and its request: for the audit row."""

    actor_kind: str
    actor_id: str | None
    request_id: str


@dataclass(frozen=True, slots=True)
class Reserve:
    """Hold a slot for `ttl_minutes`."""

    verb: ClassVar = "reserve"
    slot: RequestedSlot
    ttl_minutes: float | None


@dataclass(frozen=True, slots=True)
class Book:
    """Book a slot at once; `manual`: on behalf of the business, for which hours, notice and the past don't bind."""

    verb: ClassVar = "book"
    slot: RequestedSlot
    guest: Guest
    source: str
    manual: bool = False


@dataclass(frozen=True, slots=True)
class Commit:
    """Turn a hold into an appointment; `if_expired`: book the slot anew if the hold has expired."""

    verb: ClassVar = "commit"
    reservation_id: UUID
    guest: Guest
    expected_version: int | None
    if_expired: Literal["rebook"] | None


@dataclass(frozen=True, slots=True)
class Extend:
    """Prolong a hold to `ttl_minutes` from now."""

    verb: ClassVar = "extend"
    reservation_id: UUID
    ttl_minutes: float
    expected_version: int | None


@dataclass(frozen=True, slots=True)
class Release:
    """Give up a hold."""

    verb: ClassVar = "release"
    reservation_id: UUID


@dataclass(frozen=True, slots=True)
class Change:
    """Change, move, cancel or erase an appointment. `changes` has the new values, by the names of the verb."""

    verb: ClassVar = "change"
    appointment_id: UUID
    action: Literal["change", "reschedule", "cancel", "erase"]
    expected_version: int | None
    changes: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None


Request = Reserve | Book | Commit | Extend | Release | Change

_GUEST: Final = TypeAdapter(Guest)
_CHANGES: Final = TypeAdapter(dict[str, Any])


def written(request: Request) -> bytes:
    """Writes a request as it was sent: the `fingerprint` of this text recognises a replay, so its order is fixed."""
    # Metadata is written by pydantic: orjson is faster, but refuses large numbers.
    match request:
        case Reserve():
            return merged(request.slot, {"ttl_minutes": request.ttl_minutes})
        case Book():
            rest = {"source": request.source, "manual": request.manual}
            return merged(request.slot, _GUEST.dump_json(request.guest), rest)
        case Commit():
            rest = {name: getattr(request, name) for name in ("reservation_id", "expected_version", "if_expired")}
            return merged(_GUEST.dump_json(request.guest), rest, {"source": "online"})
        case Change():
            rest = {name: getattr(request, name) for name in ("appointment_id", "action", "expected_version", "reason")}
            return merged(b'{"set":%s}' % _CHANGES.dump_json(request.changes), rest)
        case Extend() | Release():
            return orjson.dumps(request)


def merged(*objects: object) -> bytes:
    """Joins objects, of which some may be written already, into one in JSON. None adds no members."""
    parts = [(part if isinstance(part, bytes) else orjson.dumps(part))[1:-1] for part in objects if part is not None]
    return b"{" + b",".join(filter(None, parts)) + b"}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """The caller's name for one attempt to get a slot, and what alone may use it again: a client by its own id, and
    where both names could be guessed, an address."""

    idempotency_key: str | None
    client_id: str | None
    address: str | None = None

    def members(self, sent: bytes) -> dict[str, str | None]:
        """Returns what the verb takes of the attempt to send a request."""
        bound = sent + b"".join(name.encode() for name in (self.client_id, self.address) if name is not None)
        return {"idempotency_key": self.idempotency_key, "fingerprint": hashlib.sha256(bound).hexdigest()}


def new_operation_id() -> str:
    """Returns the id of an operation, made before the call, so that a call whose answer was lost can be recognised.

    A version 7 UUID: rows that are made together lie together in their index.
    """
    return str(uuid_utils.uuid7())


def new_secret_id() -> str:
    """Returns the id of an operation whose result has the same id as its credential: all of it random."""
    return str(uuid_utils.UUID(bytes=os.urandom(16), version=4))
