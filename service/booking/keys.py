"""Keys by which programs act for a business, and the principal of a key. Only a hash of a key is stored."""

import asyncio
import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import Field

from service.booking.businesses import rows_of
from service.booking.instants import WrittenInstant
from service.booking.text import Identifier, Name
from service.booking.verbs import body_of
from service.database.connections import Database
from service.database.failures import logged
from service.naming import ID_PATTERN, Record

Role = Literal["owner", "staff", "readonly"]
ROLE_MEANING: Final = (
    "`readonly` reads; `staff` also makes, changes and cancels appointments; `owner` also changes the catalog, makes "
    "keys and erases guests."
)

# A key names its business, by which the look-up is routed. No id contains `~`.
_KEY: Final = re.compile(f"hf~({ID_PATTERN})~([0-9a-f]{{16}})~[A-Za-z0-9_-]{{43}}")


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request. The administrator belongs to no business and has no key."""

    kind: Literal["admin", "owner", "staff", "readonly"]
    business_id: str | None
    key_id: str | None


class NewKey(Record):
    """A key that was just made."""

    key_id: str = Field(description="Names the key in lists and logs. Not a secret.")
    key: str = Field(description="What to send as `Authorization: Bearer …`. It is shown only here, and never again.")
    role: Role = Field(description=ROLE_MEANING)


class ApiKey(Record):
    """A key as it is listed: the key itself is not stored."""

    key_id: str = Field(description="Names the key in lists and logs. Not a secret.")
    name: str = Field(description="The person or program that uses this key.")
    role: Role = Field(description=ROLE_MEANING)
    created_at: WrittenInstant = Field(description="When it was made.")
    created_by: str | None = Field(
        description="The key that made it; `null` for the administrator. Revoking that key does not revoke this one."
    )
    last_used_at: WrittenInstant | None = Field(
        description="When it was last used, to about six minutes; `null` if it was not, or before that was noted."
    )
    revoked_at: WrittenInstant | None = Field(description="When it was revoked; `null` if it was not.")


# How often the uses of keys are noted; the database writes each key once in five minutes.
_NOTED_SECONDS: Final = 60.0


class Keys:
    """The verbs on the keys of a business. Each raises `Refused` and `Unavailable`."""

    def __init__(self, look_ups: Database, database: Database) -> None:
        self._look_ups = look_ups
        self._database = database
        # The keys that were used since the last note, by business and id.
        self._used: set[tuple[str, str]] = set()

    async def create(self, business_id: Identifier, name: Name, role: Role, created_by: str | None) -> NewKey:
        """Makes a key. `created_by` is the key that makes it; None for the administrator."""
        key_id = secrets.token_hex(8)
        key = f"hf~{business_id}~{key_id}~{secrets.token_urlsafe(32)}"
        await self._change("create_key", business_id, key_id, name, role, _sha256(key), created_by)
        return NewKey(key_id=key_id, key=key, role=role)

    async def list_all(self, business_id: Identifier) -> list[ApiKey]:
        """Returns the keys of a business, the revoked ones too, by their age."""
        rows = await rows_of(self._database, "keys", business_id)
        return [ApiKey.model_validate_json(body) for (body,) in rows]

    async def revoke(self, business_id: Identifier, key_id: str) -> None:
        """Revokes a key from its next use on. Repeated, it changes nothing."""
        await self._change("revoke_key", business_id, key_id)

    async def authenticate(self, token: str) -> Principal | None:
        """Returns the principal of a key; None if it is malformed, unknown or revoked.

        The key is looked up each time, so that a revoked key fails at once, in every process.
        """
        parts = _KEY.fullmatch(token)
        if parts is None:
            return None
        business_id, key_id = parts.groups()
        rows = await self._look_ups.fetch("live_key", business_id, key_id)
        # In constant time, so that the time tells nothing about how much of a key was right.
        if not rows or not secrets.compare_digest(rows[0][1], _sha256(token)):
            return None
        self._used.add((business_id, key_id))
        return Principal(rows[0][0], business_id, key_id)

    async def keep_uses(self) -> None:
        """Notes every minute which keys were used, beside the requests, which do not wait for it."""
        while True:
            await asyncio.sleep(_NOTED_SECONDS)
            if self._used:
                used, self._used = self._used, set()
                with logged("key_uses_not_noted"):
                    await self._database.fetch("note_key_uses", *map(list, zip(*used, strict=True)))
                    used = set()
                self._used |= used

    async def _change(self, query: str, *parameters: object) -> None:
        [row] = await self._database.change(query, *parameters)
        body_of(*row)


def _sha256(key: str) -> bytes:
    """Hashes a key. A fast hash is enough for 256 random bits, which can't be guessed."""
    return hashlib.sha256(key.encode()).digest()
