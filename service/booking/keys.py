"""Keys by which programs act for a business, and whom a key stands for. Only a hash of a key is ever stored."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import AwareDatetime

from service.booking.text import Identifier, Name
from service.database.connections import Database
from service.errors import Refused
from service.naming import Record

Role = Literal["owner", "staff", "readonly"]

# A key names its business, by which the look-up is routed. No id contains `~`.
_KEY: Final = re.compile(r"hf~([A-Za-z0-9][A-Za-z0-9_.:-]{0,63})~([0-9a-f]{16})~[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls. The administrator belongs to no business and has no key."""

    kind: Literal["admin", "owner", "staff", "readonly"]
    business_id: str | None
    key_id: str | None


class NewKey(Record):
    """A key that was just made: `key` is told this once."""

    key_id: str
    key: str
    role: Role


class ApiKey(Record):
    """A key as it is listed. What it opens doors with is not known any more."""

    key_id: str
    name: str
    role: Role
    created_at: AwareDatetime
    revoked_at: AwareDatetime | None


class Keys:
    """The verbs on the keys of a business. Each raises `Refused` and `Unavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, business_id: Identifier, name: Name, role: Role) -> NewKey:
        """Makes a key."""
        key_id = secrets.token_hex(8)
        key = f"hf~{business_id}~{key_id}~{secrets.token_urlsafe(32)}"
        await self._change("create_key", business_id, key_id, name, role, _sha256(key))
        return NewKey(key_id=key_id, key=key, role=role)

    async def of_business(self, business_id: Identifier) -> list[ApiKey]:
        """The keys of a business, the revoked ones too, by their age."""
        [(keys,)] = await self._database.fetch("keys", business_id)
        if keys is None:
            raise Refused("BUSINESS_NOT_FOUND")
        return [ApiKey.model_validate(key) for key in keys]

    async def revoke(self, business_id: Identifier, key_id: str) -> None:
        """Makes a key worthless from its next use on. Doing it again changes nothing."""
        await self._change("revoke_key", business_id, key_id)

    async def authenticate(self, token: str) -> Principal | None:
        """Whom a key stands for; None if it is malformed, unknown or revoked.

        It is looked up each time, so that a revoked key is worthless at once, in every process.
        """
        parts = _KEY.fullmatch(token)
        if parts is None:
            return None
        business_id, key_id = parts.groups()
        rows = await self._database.fetch("live_key", business_id, key_id)
        # In constant time: how long it takes must not tell how much of it was right.
        if not rows or not secrets.compare_digest(rows[0][1], _sha256(token)):
            return None
        return Principal(rows[0][0], business_id, key_id)

    async def _change(self, query: str, *parameters: object) -> None:
        [(outcome,)] = await self._database.change(query, *parameters)
        if outcome != "done":
            raise Refused(outcome.upper())


def _sha256(key: str) -> bytes:
    """Enough for what is random through and through: there is no guessing that a slow hash would slow down."""
    return hashlib.sha256(key.encode()).digest()
