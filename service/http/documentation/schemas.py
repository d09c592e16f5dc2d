"""The schemas of what is sent and answered, made of the models that parse and write it."""

import re
from collections.abc import Iterable
from copy import deepcopy
from typing import Any, Final

from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from service.booking.alternatives import Alternative
from service.errors import KINDS
from service.http.documentation.vocabulary import meaning
from service.http.endpoints import Endpoint
from service.naming import Record

Json = dict[str, Any]


class Fault(Record):
    """One fault of a request."""

    field: str
    message: str


class Schemas:
    """The schemas of all requests and answers."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        models: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {
            (Fault, "serialization"): None,
            (Alternative, "serialization"): None,
        }
        queries = set()
        for endpoint in endpoints:
            models |= {(model, "validation"): None for model in (endpoint.body, endpoint.query) if model}
            answers = (*endpoint.answers.values(), endpoint.refusal_shape)
            models |= {(model, "serialization"): None for model in answers if model}
            if endpoint.query:
                queries.add(endpoint.query.__name__)
        self._references, generated = models_json_schema(
            list(models), ref_template="#/components/schemas/{model}", schema_generator=_ModelSchema
        )
        schemas = {**generated["$defs"], "Problem": _problem()}
        for name, schema in schemas.items():
            _explain(name, schema)
        self._queries = {name: schemas.pop(name) for name in queries}
        # By the names of their models. What is told as the parameters of a query is no schema of its own.
        self.named: dict[str, Json] = schemas

    def of(self, model: type[BaseModel], mode: JsonSchemaMode) -> Json:
        """Where a model's schema is: for 'validation' of what is sent, or for 'serialization' of what is answered."""
        return self._references[model, mode]

    def parameters(self, query: type[BaseModel]) -> list[Json]:
        """A query's members as parameters. They can be left out, but they can't be null."""
        schema = deepcopy(self._queries[query.__name__])
        return [
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "description": member.pop("description"),
                "schema": next(option for option in member.get("anyOf", [member]) if option != {"type": "null"}),
            }
            for name, member in schema["properties"].items()
        ]


def reference(kind: str, name: str) -> Json:
    """Where a component of the document is."""
    return {"$ref": f"#/components/{kind}/{name}"}


def told(text: str | None) -> str:
    """A docstring for those who read JSON: the members that it names have their names in Python there."""
    one_line = " ".join((text or "").split())
    return re.sub(r"`([a-z]+(?:_[a-z]+)+)`", lambda match: f"`{to_camel(match[1])}`", one_line)


class _ModelSchema(GenerateJsonSchema):
    """Without titles made up from names. An answer has all of its members, but for those that are left out where there
    is nothing to say, and so it has no defaults for them."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 — the same for all
        return False

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        if self.mode == "serialization":
            return "serialization_exclude_if" not in field
        return super().field_is_required(field, total)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"]) if self.mode == "serialization" else super().default_schema(schema)


_STRING: Final = {"type": "string"}
_INTEGER: Final = {"type": "integer"}
_INSTANT: Final = {"type": "string", "format": "date-time"}


def _problem() -> Json:
    """RFC 9457, with members of our own. Which of these come depends on the code."""
    usual: Json = {
        "type": {"type": "string", "format": "uri-reference"},
        "title": _STRING,
        "status": _INTEGER,
        "detail": _STRING,
        "code": {"type": "string", "enum": list(KINDS)},
        "requestId": _STRING,
    }
    members: Json = {
        "errors": {"type": "array", "items": reference("schemas", "Fault")},
        "alternatives": {"type": "array", "maxItems": 5, "items": reference("schemas", "Alternative")},
        "reason": {"type": "string", "enum": ["past", "too_soon", "too_far_ahead", "too_long", "closed", "not_online"]},
        "currentVersion": _INTEGER,
        "maxExpiresAt": _INSTANT,
        "appointmentStatus": _STRING,
        "cancellableUntil": _INSTANT,
        "slotStart": _INSTANT,
        "slotEnd": _INSTANT,
        "claimed": _INTEGER,
    }
    return {
        "title": "Problem",
        "description": "Why a request was refused (RFC 9457).",
        "type": "object",
        "properties": {name: dict(schema) for name, schema in {**usual, **members}.items()},
        "required": list(usual),
    }


def _explain(name: str, schema: Json) -> None:
    if "description" in schema:
        schema["description"] = told(schema["description"])
    for member, of_member in schema.get("properties", {}).items():
        of_member["description"] = meaning(name, member)
