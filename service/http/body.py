"""Reads the body and the query of a request into the models that its handler declares."""

from typing import Final
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from service.errors import Invalid
from service.http.call import Call
from service.http.endpoint import may_omit_body

# The largest body that any call takes; its metadata has a bound of its own.
MAX_BODY_BYTES: Final = 64 * 1024


async def read_body(call: Call, model: type[BaseModel]) -> BaseModel:
    """Reads a body as JSON. Raises `Invalid`, and `ClientDisconnect` if the client goes away before its end."""
    content = await _content(call)
    if not content and may_omit_body(model):
        return model()
    if not _is_json(call.header(b"content-type") or ""):
        raise Invalid("UNSUPPORTED_MEDIA_TYPE")
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise invalid(error) from None


def read_query(call: Call, model: type[BaseModel]) -> BaseModel:
    """Reads the query; of a parameter that is repeated, the last counts. Raises `Invalid`."""
    try:
        return model.model_validate(dict(query_parameters(call)))
    except ValidationError as error:
        raise invalid(error) from None


def query_parameters(call: Call) -> list[tuple[str, str]]:
    """Returns the names and values of the query as they came, decoded."""
    return parse_qsl(call.scope["query_string"].decode("latin-1"), keep_blank_values=True)


def invalid(error: ValidationError) -> Invalid:
    """Builds the error for input that its model refuses: each fault with the field's path and the reason."""
    return Invalid(
        "VALIDATION_FAILED",
        errors=[
            {"field": ".".join(map(str, fault["loc"])), "message": fault["msg"].removeprefix("Value error, ")}
            for fault in error.errors(include_input=False)
        ],
    )


async def _content(call: Call) -> bytes:
    """Reads the whole body; one that is too large is not read to its end."""
    content: bytes = b""
    while True:
        message = await call.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        content += message.get("body", b"")
        if len(content) > MAX_BODY_BYTES:
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
