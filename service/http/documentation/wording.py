"""How a schema is said in a few words: what a member may be."""

from collections.abc import Iterator
from typing import Any, Final

from pydantic import TypeAdapter

from service.booking.text import Identifier
from service.http.documentation.markup import Html, element, joined

_FORMATS: Final = {"date-time": "instant", "uuid": "UUID", "email": "e-mail address", "uri-reference": "reference"}
_NAMES: Final = {"integer": "whole number", "boolean": "true or false"}
_NULL: Final = {"type": "null"}
# Explained once, at the start of the page.
_ID: Final = TypeAdapter(Identifier).json_schema()


def kind(schema: dict[str, Any]) -> Html:
    """What a value may be, with its bounds."""
    if "$ref" in schema:
        return _shape(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return joined((kind(option) for option in schema["anyOf"]), " or ")
    if "const" in schema or "enum" in schema:
        return joined((element("code", str(value)) for value in schema.get("enum") or [schema["const"]]), ", ")
    if schema.get("pattern") == _ID["pattern"]:
        return Html("id")
    if schema.get("type") == "array":
        return joined(("list of ", kind(schema["items"])))
    name = _FORMATS.get(schema.get("format", "")) or _NAMES.get(schema.get("type", ""), schema.get("type", "anything"))
    return joined((name, *_bounds(schema)))


def sent(schema: dict[str, Any]) -> dict[str, Any]:
    """A member of a request without its null, which says no more than leaving it out."""
    options = [option for option in schema.get("anyOf", []) if option != _NULL]
    return options[0] if len(options) == 1 and schema.get("default", "") is None else schema


def _shape(name: str) -> Html:
    return Html("anything") if name == "JsonValue" else element("a", name, href=f"#shape-{name}")


def _bounds(schema: dict[str, Any]) -> Iterator[str]:
    if "exclusiveMinimum" in schema:
        yield f", above {schema['exclusiveMinimum']:,}"
    if "minimum" in schema:
        yield f", {schema['minimum']:,} or more" if "maximum" not in schema else f", {schema['minimum']:,}"
    if "maximum" in schema:
        yield f" to {schema['maximum']:,}" if "minimum" in schema else f", at most {schema['maximum']:,}"
    if schema.get("type") == "string" and "maxLength" in schema:
        yield f", at most {schema['maxLength']:,} characters"
    if "pattern" in schema:
        yield ", matching "
        yield element("code", schema["pattern"])
