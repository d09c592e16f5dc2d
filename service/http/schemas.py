"""The JSON schemas of requests and answers, made of the models that parse and write them."""

import json
import re
from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any, Final, Literal

from pydantic import BaseModel, Field
from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema

from service.booking.alternatives import Alternative
from service.booking.text import if_any
from service.booking.verbs import RefusalDetails
from service.errors import MAX_FAULTS, PROBLEMS, Problem
from service.faults import FaultCode
from service.http.endpoint import Endpoint
from service.naming import Record

Json = dict[str, Any]


class FaultParameters(Record):
    """What the message of a fault names. Each code has the same ones always."""

    min: int | None = if_any("The least number, length or year that is allowed.")
    max: int | None = if_any("The largest number, length or year that is allowed.")
    limit: int | None = if_any("The number that must be exceeded.")
    max_days: int | None = if_any("The most days that are allowed.")
    unit: Literal["minutes", "days"] | None = if_any("The unit of `min` and `max`.")
    field: str | None = if_any("The member that this one is compared with.")
    fields: list[str] | None = if_any("The members that this one is required without, or excludes, or needs.")
    expected: Literal["string", "integer", "number", "boolean", "array", "object"] | None = if_any("The type in JSON.")
    allowed: list[str] | None = if_any("The values that are allowed.")
    resource_id: str | None = if_any("The resource that is unknown.")
    special_hours_id: str | None = if_any("The special hours that have these dates.")
    reason: str | None = if_any("What a parser found, in English.")


class Fault(Record):
    """One fault of a request."""

    field: str = Field(description="The member, parameter or header, by its path; empty for the whole body.")
    code: FaultCode = Field(description="What is wrong: translate it. `docs/errors#faults` lists all messages.")
    parameters: FaultParameters = Field(description="The values to insert into the translation.")
    message: str = Field(description="What is wrong, in English. It follows the name of the field.")


class Schemas:
    """The schemas of all requests and answers. `named` has them by the names of their models, and `references` the
    references to them by model and mode: 'validation' for requests, 'serialization' for answers."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        models: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {
            (Fault, "serialization"): None,
            (Alternative, "serialization"): None,
        }
        for endpoint in endpoints:
            models |= {(model, "validation"): None for model in (endpoint.body, endpoint.query) if model}
            answers = (*endpoint.answers.values(), endpoint.refusal_model)
            models |= {(model, "serialization"): None for model in answers if model}
        self.references, generated = models_json_schema(
            list(models), ref_template="#/components/schemas/{model}", schema_generator=_ModelSchema
        )
        # A query is written as parameters, and is no schema of its own.
        queries = {endpoint.query.__name__ for endpoint in endpoints if endpoint.query}
        self._queries = {name: generated["$defs"].pop(name) for name in queries}
        for schema in generated["$defs"].values():
            schema["description"] = in_json_names(schema.get("description"))
            for member in schema.get("properties", {}).values():
                _describe_default(member)
        problems = {_problem_name(code): _problem(problem) for code, problem in PROBLEMS.items()}
        about_any = {"title": "Problem", "description": "Any problem (RFC 9457), for a handler of all."}
        self.named: dict[str, Json] = {
            **generated["$defs"],
            **problems,
            "Problem": about_any | problem_schema(PROBLEMS),
        }

    def parameters(self, query: type[BaseModel]) -> list[Json]:
        """Returns a query's members as parameters. They may be left out, but are never null."""
        schema = deepcopy(self._queries[query.__name__])
        return [
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "description": member.pop("description", ""),
                "schema": next(option for option in member.get("anyOf", [member]) if option != {"type": "null"}),
            }
            for name, member in schema["properties"].items()
        ]


def component(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def problem_schema(codes: Iterable[str]) -> Json:
    """Returns the schema of a problem with one of these codes, which tell its other members."""
    references = {code: component("schemas", _problem_name(code)) for code in codes}
    if len(references) == 1:
        return next(iter(references.values()))
    mapping = {code: reference["$ref"] for code, reference in references.items()}
    return {"oneOf": list(references.values()), "discriminator": {"propertyName": "code", "mapping": mapping}}


def in_json_names(text: str | None) -> str:
    """Writes a docstring on one line, with the members that it names in camelCase."""
    one_line = " ".join((text or "").split())
    return re.sub(r"`([a-z]+(?:_[a-z]+)+)`", lambda match: f"`{to_camel(match[1])}`", one_line)


class _ModelSchema(GenerateJsonSchema):
    """Makes no titles of names. An answer has all of its members, except those with `exclude_if`, which are never null,
    so it has no defaults for them."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 — the same for all
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        if self.mode == "serialization":
            return "serialization_exclude_if" not in field
        return super().field_is_required(field, total)

    def model_field_schema(self, schema: Any) -> JsonSchemaValue:
        made = super().model_field_schema(schema)
        if self.mode == "serialization" and "serialization_exclude_if" in schema:
            [option] = [option for option in made.pop("anyOf") if option != {"type": "null"}]
            made |= option
        return made

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"]) if self.mode == "serialization" else super().default_schema(schema)


# Every problem has these members.
_USUAL_MEMBERS: Final[dict[str, tuple[Json, str]]] = {
    "type": ({"type": "string", "format": "uri-reference"}, "The page that explains the code."),
    "title": ({"type": "string"}, "A short name."),
    "status": ({"type": "integer"}, "The HTTP status, repeated."),
    "detail": ({"type": "string"}, "One sentence for people."),
    "code": ({"type": "string"}, "Branch on this, never on `title` or `detail`, whose wording may change."),
    "requestId": ({"type": "string"}, "Names this request in the service's log, like the `X-Request-Id` header."),
}
# The other members, which only some problems have.
_DETAILS: Final[Json] = RefusalDetails.model_json_schema(mode="serialization", schema_generator=_ModelSchema)
_MEMBERS: Final[dict[str, tuple[Json, str]]] = {
    "errors": (
        {"type": "array", "maxItems": MAX_FAULTS, "items": component("schemas", "Fault")},
        "The faults of the request, the first 20 of them.",
    ),
    "errorCount": ({"type": "integer"}, "How many faults there are."),
    "alternatives": (
        {"type": "array", "maxItems": 5, "items": component("schemas", "Alternative")},
        "At most five other slots. May be empty.",
    ),
    **{name: (schema, schema.pop("description")) for name, schema in _DETAILS["properties"].items()},
}


def _problem_name(code: str) -> str:
    return code.title().replace("_", "") + "Problem"


def _problem(problem: Problem) -> Json:
    """Returns the schema of the problems with one code: of RFC 9457, with members of our own."""
    members = {**_USUAL_MEMBERS, **{name: _MEMBERS[name] for name in problem.members}}
    properties = {name: {**schema, "description": description} for name, (schema, description) in members.items()}
    properties["code"]["const"] = problem.code
    return {
        "title": _problem_name(problem.code),
        "description": problem.detail,
        "type": "object",
        "properties": properties,
        "required": list(members),
    }


def _describe_default(member: Json) -> None:
    """Moves the default of a body's member into its description: generators of clients take it for a requirement."""
    default = member.pop("default", None)
    if default not in (None, {}, []):
        member["description"] += f" By default `{default if isinstance(default, str) else json.dumps(default)}`."
