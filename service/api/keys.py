"""The keys by which programs act for a business, for its owner."""

from starlette.responses import Response

from service.booking.keys import ApiKey, Keys, NewKey, Role
from service.booking.text import Name
from service.http.documentation import examples
from service.http.endpoints import Access, Call, Endpoint, answer
from service.http.shapes import Body
from service.naming import Record


class KeyBody(Body):
    """What a key is made with."""

    name: Name
    role: Role


class ApiKeys(Record):
    """The keys of a business, by their age."""

    items: list[ApiKey]


class KeyEndpoints:
    """Parses, calls one verb, answers."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def endpoints(self) -> list[Endpoint]:
        """What there is to call."""
        keys = "/api/catalog/businesses/{businessId}/keys"
        return [
            Endpoint(
                "POST",
                keys,
                self.create_key,
                "Create a key",
                {201: NewKey},
                "`key` is shown in this answer only: just its hash is stored. A key acts for this business alone. If "
                "the answer is lost, revoke the key and create another.",
                access=Access.OWNER,
                body=KeyBody,
                refusals=("BUSINESS_NOT_FOUND",),
                operation_id="createKey",
                tag="keys",
                answer_headers={201: ("Cache-Control",)},
                examples=examples.CREATE_KEY,
            ),
            Endpoint(
                "GET",
                keys,
                self.list_keys,
                "The keys of a business",
                {200: ApiKeys},
                "The revoked ones too.",
                access=Access.OWNER,
                refusals=("BUSINESS_NOT_FOUND",),
                operation_id="listKeys",
                tag="keys",
                examples=examples.KEYS,
            ),
            Endpoint(
                "DELETE",
                keys + "/{keyId}",
                self.revoke_key,
                "Revoke a key",
                {204: None},
                "It stops working at once, for good. Revoking it again changes nothing.",
                access=Access.OWNER,
                refusals=("BUSINESS_NOT_FOUND", "KEY_NOT_FOUND"),
                operation_id="revokeKey",
                tag="keys",
            ),
        ]

    async def create_key(self, call: Call) -> Response:
        """POST /api/catalog/businesses/{businessId}/keys"""
        key = await self._keys.create(call.path_id("businessId"), call.body.name, call.body.role)
        return answer(key, 201, {"Cache-Control": "no-store"})

    async def list_keys(self, call: Call) -> Response:
        """GET /api/catalog/businesses/{businessId}/keys"""
        return answer(ApiKeys(items=await self._keys.of_business(call.path_id("businessId"))))

    async def revoke_key(self, call: Call) -> Response:
        """DELETE /api/catalog/businesses/{businessId}/keys/{keyId}"""
        await self._keys.revoke(call.path_id("businessId"), call.path_id("keyId"))
        return Response(status_code=204)
