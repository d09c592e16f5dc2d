"""Admits a request to its endpoint: limits, access, body and query, in the order of precedence of service.errors."""

from collections.abc import Coroutine
from typing import Any, Final
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from service.booking.businesses import BusinessNames
from service.booking.keys import Principal
from service.errors import HoldfastError, Invalid, Refused
from service.faults import FaultCode
from service.http.authentication import Authentication
from service.http.call import Call
from service.http.clients import Clients
from service.http.endpoint import Endpoint, NoQuery, may_omit_body
from service.http.limits import RequestLimiter

# The statuses of refusals that may only mean that the name, taken for the id of a business, is a slug.
_WITHOUT_BUSINESS: Final = (400, 403, 404)
# The content codings of compressed bodies. Any other, like `utf-8`, is a mistake without an effect, and is ignored.
_CODINGS: Final = ("gzip", "deflate", "br", "zstd")


class Dispatcher:
    """Checks requests. Without a `limiter` they are not counted; without `clients`, clients are not distinguished."""

    def __init__(
        self,
        authentication: Authentication,
        names: BusinessNames,
        clients: Clients | None,
        limiter: RequestLimiter | None,
    ) -> None:
        self._authentication = authentication
        self._names = names
        self._clients = clients
        self._limiter = limiter

    async def admit(self, endpoint: Endpoint, call: Call) -> Coroutine[Any, Any, ASGIApp]:
        """Returns the call of the handler, not yet begun. Raises `HoldfastError`."""
        if self._clients:
            call.client, call.network = self._clients.names(call)
        limiter = self._limiter if endpoint.is_counted else None
        client_counted = limiter is not None and await limiter.count_suspect(call)
        try:
            await self._read(endpoint, call)
            name = call.business_name if endpoint.is_public or endpoint.by_guest else None
            id_first = name is not None and endpoint.proves_business and self._names.may_be_id(name)
            if name and not id_first:
                # The look-up comes after the limit of the client, which only a key lifts.
                if limiter and not client_counted and call.header(b"authorization") is None:
                    client_counted = True
                    await limiter.count(call, anonymous=True)
                await self._find_business(call, name)
        except HoldfastError:
            if limiter and not client_counted:
                await limiter.count(call, anonymous=True)
            raise
        if limiter and endpoint.limited:
            await limiter.count(call, client_counted=client_counted)
        work = endpoint.handler(**endpoint.arguments(call))
        return self._by_either_name(work, endpoint, call, name) if name and id_first else work

    async def _by_either_name(
        self, by_id: Coroutine[Any, Any, ASGIApp], endpoint: Endpoint, call: Call, name: str
    ) -> ASGIApp:
        """Runs a call that takes its name for an id and, if that is a slug, once more with the id. Raises
        `HoldfastError`."""
        try:
            return await by_id
        except HoldfastError as error:
            if error.status not in _WITHOUT_BUSINESS:
                raise
            await self._find_business(call, name)
            if call.business_name == name:
                raise
        if self._limiter and endpoint.limited:
            await self._limiter.count(call, client_counted=True)
        return await endpoint.handler(**endpoint.arguments(call))

    async def _read(self, endpoint: Endpoint, call: Call) -> None:
        key_error: HoldfastError | None = None
        if endpoint.by_guest:
            call.guest_token = call.header(b"guest-token")
        if call.guest_token is None and not endpoint.is_public:
            try:
                await self._authorize(endpoint, call)
            except HoldfastError as error:
                # A guest's token in the body, which is read below, decides in place of any key.
                if not endpoint.takes_token_in_body:
                    raise
                key_error = error
        if endpoint.body:
            try:
                call.body = await _read_body(call, endpoint.body, endpoint.max_body_bytes)
            except Invalid:
                # The holder of a key that gives no access is not told what is wrong with the body.
                if key_error and call.header(b"authorization") is not None:
                    raise key_error from None
                raise
            _agree_with_path(endpoint, call)
        if key_error and call.body.cancellation_token is None:
            raise key_error
        # To read that there is nothing would cost 3 us.
        if endpoint.query and (call.scope["query_string"] or endpoint.query is not NoQuery):
            call.query = _read_query(call, endpoint.query)
        _keep_to_business(call.principal, getattr(call.body, "business_id", None))

    async def _authorize(self, endpoint: Endpoint, call: Call) -> None:
        """Sets the principal of a call that it may make. Raises `HoldfastError`."""
        principal = await self._authentication.principal(call, endpoint.access)
        if principal:
            _keep_to_business(principal, call.path.get("businessId"), dict(_parameters(call)).get("businessId"))
            if principal.kind not in endpoint.access.roles:
                raise HoldfastError("FORBIDDEN")
        call.principal = principal

    async def _find_business(self, call: Call, name: str) -> None:
        """Replaces a slug by the id of its business. Raises `Refused` for the path of no business; a query or body with
        an unknown name gets the refusal of its verb."""
        if business_id := await self._names.find(name):
            call.set_business(business_id)
        elif "slug" in call.path:
            raise Refused("BUSINESS_NOT_FOUND")


def _keep_to_business(principal: Principal | None, *named: str | None) -> None:
    """Refuses a key at other businesses than its own: for its holder they don't exist. Raises `Refused`."""
    own = principal.business_id if principal else None
    if own and any(name not in (None, own) for name in named):
        raise Refused("BUSINESS_NOT_FOUND")


def _agree_with_path(endpoint: Endpoint, call: Call) -> None:
    """Refuses a body that names another object than the path. Raises `Invalid`."""
    for parameter in endpoint.path_parameters:
        if getattr(call.body, parameter.argument, None) not in (None, call.path[parameter.name]):
            raise Invalid.at(parameter.name, FaultCode.DIFFERS_FROM_PATH)


def _parameters(call: Call) -> list[tuple[str, str]]:
    """Returns the names and values of the query, decoded."""
    return parse_qsl(call.scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _read_query(call: Call, model: type[BaseModel]) -> BaseModel:
    # Readers of feeds, and old libraries, add `_` to get past caches.
    ignored = "_" if call.scope["method"] in ("GET", "HEAD") else None
    sent: dict[str, str] = {}
    for name, value in _parameters(call):
        if name in sent:
            raise Invalid.at(name, FaultCode.SENT_TWICE)
        if name != ignored:
            sent[name] = value
    try:
        return model.model_validate(sent)
    except ValidationError as error:
        raise Invalid.of_input(error) from None


async def _read_body(call: Call, model: type[BaseModel], max_bytes: int) -> BaseModel:
    """Reads a body as JSON. Raises `Invalid`, and `ClientDisconnect` if the client goes away before its end."""
    content = await _content(call, max_bytes)
    if not content and may_omit_body(model):
        return model()
    if not _is_json(call.header(b"content-type") or ""):
        raise Invalid("UNSUPPORTED_MEDIA_TYPE")
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        coding = (call.header(b"content-encoding") or "").lower()
        if coding in _CODINGS and error.errors()[0]["type"] == "json_invalid":
            raise Invalid("UNSUPPORTED_MEDIA_TYPE") from None
        raise Invalid.of_input(error) from None


async def _content(call: Call, max_bytes: int) -> bytes:
    """Reads the whole body; one that is too large is not read to its end."""
    content: bytes = b""
    while True:
        message = await call.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        content += message.get("body", b"")
        if len(content) > max_bytes:
            raise Invalid("PAYLOAD_TOO_LARGE")
        if not message.get("more_body", False):
            return content


def _is_json(content_type: str) -> bool:
    """Returns whether a body is JSON in UTF-8.

    Parsed by hand: the standard library's parser is made for mail, takes time that grows with the square of the length,
    and fails on malformed values.
    """
    if content_type == "application/json":
        return True
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    named = (parameter.partition("=") for parameter in parameters)
    charsets = [value.strip(' \t"') for name, _, value in named if name.strip() == "charset"]
    return media_type == "application/json" and all(charset == "utf-8" for charset in charsets)
