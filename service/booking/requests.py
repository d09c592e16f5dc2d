"""The requests of the verbs: a frozen object for each, written once, as the JSON that booking.execute takes.

The members have the names of sql/functions/verbs, where they are documented.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, ClassVar, Literal
from uuid import UUID

import orjson
from pydantic import TypeAdapter
from uuid_utils import compat


@dataclass(frozen=True, slots=True)
class Slot:
    """The slot that a caller asks for. The verb takes from the catalog what is None."""

    service_id: str
    slot_start: datetime
    slot_end: datetime | None
    quantity: int
    resource_id: str | None


@dataclass(frozen=True, slots=True)
class Guest:
    """The guest of an appointment, and what the business wants to know."""

    guest_name: str | None
    guest_email: str | None
    guest_phone: str | None
    notes: str | None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Holder:
    """The client of a reserve, by digests, and how many live holds it may have in the business."""

    client_address_hmac: str | None
    client_id_hmac: str | None
    max_live_holds: int


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
    slot: Slot
    ttl_minutes: float | None

    def written(self) -> bytes:
        """Returns the request as it was sent."""
        return merged(orjson.dumps(self.slot), members(ttl_minutes=self.ttl_minutes))


@dataclass(frozen=True, slots=True)
class Book:
    """Book a slot at once; `manual`: on behalf of the business, for which hours, notice and the past don't bind."""

    verb: ClassVar = "book"
    slot: Slot
    guest: Guest
    source: str
    manual: bool = False

    def written(self) -> bytes:
        """Returns the request as it was sent."""
        return merged(
            orjson.dumps(self.slot), written_guest(self.guest), members(source=self.source, manual=self.manual)
        )


@dataclass(frozen=True, slots=True)
class Commit:
    """Turn a hold into an appointment; `if_expired`: book the slot anew if the hold has expired."""

    verb: ClassVar = "commit"
    reservation_id: UUID
    guest: Guest
    expected_version: int | None
    if_expired: Literal["rebook"] | None

    def written(self) -> bytes:
        """Returns the request as it was sent."""
        rest = members(
            reservation_id=self.reservation_id,
            expected_version=self.expected_version,
            if_expired=self.if_expired,
            source="online",
        )
        return merged(written_guest(self.guest), rest)


@dataclass(frozen=True, slots=True)
class Extend:
    """Prolong a hold to `ttl_minutes` from now."""

    verb: ClassVar = "extend"
    reservation_id: UUID
    ttl_minutes: float
    expected_version: int | None

    def written(self) -> bytes:
        """Returns the request as it was sent."""
        return orjson.dumps(self)


@dataclass(frozen=True, slots=True)
class Release:
    """Give up a hold."""

    verb: ClassVar = "release"
    reservation_id: UUID

    def written(self) -> bytes:
        """Returns the request as it was sent."""
        return orjson.dumps(self)


@dataclass(frozen=True, slots=True)
class Change:
    """Change, cancel or erase an appointment. `changes` has what a change sets, by the names of the verb."""

    verb: ClassVar = "change"
    appointment_id: UUID
    action: Literal["change", "cancel", "erase"]
    expected_version: int | None
    changes: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None

    @property
    def moves(self) -> bool:
        """Whether the appointment may leave its slot."""
        return "slot_start" in self.changes or "slot_end" in self.changes

    def written(self) -> bytes:
        """Returns the request as it was sent."""
        rest = members(
            appointment_id=self.appointment_id,
            action=self.action,
            expected_version=self.expected_version,
            reason=self.reason,
        )
        if self.action != "change":
            return rest
        return merged(b'{"set":%s}' % _adapter(dict[str, Any]).dump_json(self.changes), rest)


Request = Reserve | Book | Commit | Extend | Release | Change


def members(**values: object) -> bytes:
    """Writes members that hold no guest's metadata."""
    return orjson.dumps(values)


def written_author(author: Author) -> bytes:
    """Writes the author of a change."""
    return orjson.dumps(author)


def written_holder(holder: Holder | None) -> bytes:
    """Writes the holder of a reserve, where holds are limited."""
    return orjson.dumps(holder) if holder else b"{}"


def written_guest(guest: Guest) -> bytes:
    """Writes a guest by pydantic: metadata may hold numbers of any size, which the faster orjson refuses."""
    return _adapter(Guest).dump_json(guest)


def merged(*objects: bytes) -> bytes:
    """Joins JSON objects into one: no member is parsed again."""
    return b"{" + b",".join(filter(None, [written[1:-1] for written in objects])) + b"}"


def fingerprint(written: bytes) -> str:
    """Returns the SHA-256 of a request as it was sent, by which a replay is told from a key that is used twice."""
    return hashlib.sha256(written).hexdigest()


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def new_operation_id() -> UUID:
    """Returns the id of an operation, made before the call, so that a call whose answer was lost can be recognised.

    A version 7 UUID: rows that are made together lie together in their index.
    """
    return compat.uuid7()
