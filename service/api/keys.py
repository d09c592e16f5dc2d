"""The keys by which programs act for a business, for its owner."""

from functools import partial
from typing import Annotated, Final, Literal, cast

from pydantic import Field

from service.api.shapes import Body
from service.booking.keys import ROLE_MEANING, ApiKey, Keys, NewKey, Principal, Role
from service.booking.text import BusinessId, Identifier, Name
from service.http.answer import Answer, answer
from service.http.call import Call
from service.http.endpoint import Access, endpoint
from service.naming import Record

KeyId = Annotated[Identifier, Field(description="The key, by its id. Not a secret.")]
_BUSINESS: Final = "/api/catalog/businesses/{businessId}"
_KEYS: Final = _BUSINESS + "/keys"
_call = partial(endpoint, tag="keys", access=Access.OWNER)


class KeyBody(Body):
    """What a key is created with."""

    name: Name = Field(description="The person or program that will use this key.")
    role: Role = Field(description=ROLE_MEANING)


class ApiKeys(Record):
    """The keys of a business, by their age."""

    items: list[ApiKey] = Field(description="All of them, the oldest first.")


class OwnKey(Record):
    """The key that was sent."""

    key_id: str | None = Field(description="The key, by its id; `null` for the administrator's token.")
    role: Literal[Role, "admin"] = Field(description=f"{ROLE_MEANING} `admin`: the administrator's token.")


class KeyApi:
    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    @_call("POST", _KEYS, answers={201: NewKey}, refusals=("LIMIT_REACHED",), answer_headers={201: ("Cache-Control",)})
    async def create_key(self, call: Call, business_id: BusinessId, body: KeyBody) -> Answer:
        """Create a key.

        `key` is shown in this answer only: just its hash is stored. A key acts for this business alone. If the answer
        is lost, revoke the key and create another.
        """
        created_by = call.principal.key_id if call.principal else None
        return answer(await self._keys.create(business_id, body.name, body.role, created_by), 201)

    @_call("GET", _KEYS)
    async def list_keys(self, business_id: BusinessId) -> ApiKeys:
        """List the keys of a business.

        With the key that made each of them, and when it was last used: a key that leaked may have made others.
        """
        return ApiKeys(items=await self._keys.list_all(business_id))

    @_call("GET", _BUSINESS + "/own-key", access=Access.READONLY)
    async def get_own_key(self, call: Call, business_id: BusinessId) -> OwnKey:  # noqa: ARG002 — checked before
        """Get the key that was sent.

        For pages that offer only what their key may do. 404 means that it is a key of another business.
        """
        principal = cast(Principal, call.principal)
        return OwnKey(key_id=principal.key_id, role=principal.kind)

    @_call("DELETE", _KEYS + "/{keyId}", refusals=("KEY_NOT_FOUND",))
    async def revoke_key(self, business_id: BusinessId, key_id: KeyId) -> None:
        """Revoke a key.

        It stops working at once, for good. Revoking it again changes nothing. The keys that it made stay valid
        (`createdBy`), and so do the addresses of the calendar feeds that its holder has seen: rotate those.
        """
        await self._keys.revoke(business_id, key_id)
