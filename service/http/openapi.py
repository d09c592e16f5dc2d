"""The OpenAPI 3.1 document, made of the endpoints' declarations, the table of errors and recorded examples."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter

from service import __version__
from service.booking.instants import written_instant
from service.booking.text import IdempotencyKey
from service.errors import PROBLEMS, HoldfastError
from service.http.answer import PROBLEM, problem_body, widget_body
from service.http.endpoint import Access, Endpoint, may_omit_body
from service.http.schemas import Json, Schemas, component, in_json_names, problem_schema

# The security schemes by the kind of principal, some named after the setting that has the secret.
_SCHEMES: Final = {
    "guest": "GUEST_TOKEN",
    "readonly": "READONLY_KEY",
    "staff": "STAFF_KEY",
    "owner": "OWNER_KEY",
    "admin": "ADMIN_TOKEN",
    "cron": "CRON_SECRET",
}
_PROBLEM_HEADERS: Final = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}
_WITHOUT_BODY: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED, HTTPStatus.TEMPORARY_REDIRECT)
_LIMIT_HEADERS: Final = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")

# The request id of the examples of problems.
_REQUEST_ID: Final = "4fd3a1c09b7e4d0f9a55e2d8c6b31a70"
# The Monday about which the examples were recorded: see `shifted`.
EXAMPLE_DAY: Final = datetime(2027, 1, 11, tzinfo=UTC)
_INSTANT_OR_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|([+-]\d\d:\d\d)))?")
# The time zones of the examples, by their offsets in winter.
_ZONES: Final = {"+01:00": "Europe/Berlin", "-05:00": "America/New_York"}


def document(endpoints: Sequence[Endpoint]) -> Json:
    """Builds the document for these endpoints, in the order of their tags."""
    schemas = Schemas(endpoints)
    examples: Json = json.loads(shifted(json.dumps(recorded_examples())))
    skeleton = _skeleton()
    tags = [tag["name"] for tag in skeleton["tags"]]
    paths: dict[str, Json] = defaultdict(dict)
    for endpoint in sorted(endpoints, key=lambda endpoint: tags.index(endpoint.tag)):
        example = examples.get(endpoint.operation_id, {})
        paths[endpoint.path][endpoint.method.lower()] = _operation(endpoint, schemas, example)
    components = {name: part for name, part in skeleton["components"].items() if name != "parameters"}
    components |= {"schemas": schemas.named, "examples": {code: _problem_example(code) for code in PROBLEMS}}
    return {
        **skeleton,
        "info": {**skeleton["info"], "version": __version__},
        "paths": dict(paths),
        "components": components,
    }


@cache
def _skeleton() -> Json:
    """Reads the parts that no declaration contains: the introduction, tags, headers and security schemes."""
    # Imported here: with the file it takes a twentieth of a start, and few workers are asked for the document.
    import yaml

    skeleton: Json = yaml.safe_load(files("service.http").joinpath("openapi.yaml").read_text(encoding="utf-8"))
    return skeleton


@cache
def _request_headers() -> dict[str, Json]:
    """Returns the headers that handlers declare, by their names."""
    headers: dict[str, Json] = _skeleton()["components"]["parameters"]
    schema = TypeAdapter(IdempotencyKey).json_schema()
    return headers | {name: {**headers[name], "schema": schema} for name in ("Idempotency-Key", "X-Client-Id")}


def recorded_examples() -> Json:
    """Returns the requests and answers that the contract test recorded, by operation id."""
    recorded: Json = json.loads(files("service.http").joinpath("examples.json").read_text(encoding="utf-8"))
    return recorded


def example_day() -> datetime:
    """Returns the Monday about which the examples are shown: the first of the month after next."""
    day = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for _ in range(2):
        day = (day + timedelta(days=31)).replace(day=1)
    return day + timedelta(days=-day.weekday() % 7)


def shifted(text: str) -> str:
    """Moves the instants and dates of examples by whole weeks, to `example_day`: so the slot of an example that is
    copied can still be booked. An instant with an offset keeps its local time, also in summer."""
    weeks = (example_day() - EXAMPLE_DAY).days // 7

    def shift(match: re.Match[str]) -> str:
        moved = datetime.fromisoformat(match[0]) + timedelta(weeks=weeks)
        if "T" not in match[0]:
            return moved.date().isoformat()
        return moved.replace(tzinfo=ZoneInfo(_ZONES[match[1]])).isoformat() if match[1] else written_instant(moved)

    return _INSTANT_OR_DATE.sub(shift, text)


def codes(endpoint: Endpoint) -> list[str]:
    """Returns every code that a call can meet, in order of precedence: its own, and those of its declaration."""
    met = set(endpoint.refusals)
    if endpoint.body or endpoint.query or any(parameter.is_checked for parameter in endpoint.path_parameters):
        met.add("VALIDATION_FAILED")
    if endpoint.body:
        met |= {"PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"}
        if "idempotency_key" in endpoint.body.model_fields:
            met.add("IDEMPOTENCY_KEY_MISMATCH")
    if not endpoint.is_public:
        met.add("UNAUTHORIZED")
    if endpoint.access.roles:
        # A valid key may be one of another business, or of too low a role; a guest's token one of another appointment.
        if endpoint.by_guest or "readonly" not in endpoint.access.roles:
            met.add("FORBIDDEN")
        models = (endpoint.query, endpoint.body)
        if "{businessId}" in endpoint.path or any(model and "business_id" in model.model_fields for model in models):
            met.add("BUSINESS_NOT_FOUND")
    if endpoint.is_counted:
        met.add("RATE_LIMITED")
    if endpoint.asks_database:
        met |= {"OVERLOADED", "DATABASE_UNAVAILABLE"}
    return sorted(met, key=list(PROBLEMS).index)


def _operation(endpoint: Endpoint, schemas: Schemas, example: Json) -> Json:
    answers = _answers(endpoint, schemas, example)
    _add_problems(answers, endpoint, schemas)
    for answer in answers.values() if endpoint.limited else ():
        answer["headers"].update(_headers(*_LIMIT_HEADERS))
    operation: Json = {
        "operationId": endpoint.operation_id,
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "description": endpoint.description,
        "security": _security(endpoint),
        "x-access": "guest" if endpoint.by_guest else endpoint.access.value,
        "parameters": _parameters(endpoint, schemas, example),
        "responses": dict(sorted(answers.items())),
    }
    if endpoint.body:
        content = {"schema": schemas.references[endpoint.body, "validation"], **_example_bodies(example)}
        required = not may_omit_body(endpoint.body)
        operation["requestBody"] = {"required": required, "content": {"application/json": content}}
    return operation


def _example_bodies(example: Json) -> Json:
    """Returns the example of a body, or those of its senders."""
    if "bodies" not in example:
        return {"example": example.get("body")}
    named = {sender: {"summary": f"By the {sender}", "value": body} for sender, body in example["bodies"].items()}
    return {"examples": named}


def _security(endpoint: Endpoint) -> list[Json]:
    """Returns the schemes whose tokens are taken, and an empty one where the body may hold a guest's instead."""
    holders = [*endpoint.access.roles]
    if endpoint.access is Access.CRON:
        holders.append("cron")
    if endpoint.by_guest:
        holders.insert(0, "guest")
    schemes: list[Json] = [{_SCHEMES[holder]: []} for holder in holders]
    return [{}, *schemes] if endpoint.takes_token_in_body else schemes


def _parameters(endpoint: Endpoint, schemas: Schemas, example: Json) -> list[Json]:
    parameters: list[Json] = []
    for read in endpoint.path_parameters:
        schema = read.adapter.json_schema()
        about = schema.pop("description", "")
        parameters.append({"name": read.name, "in": "path", "required": True, "description": about, "schema": schema})
    headers = _request_headers()
    parameters += [dict(headers[name]) for name in endpoint.request_headers]
    parameters += [{**headers[name], "required": True} for name in endpoint.required_headers]
    parameters += schemas.parameters(endpoint.query) if endpoint.query else []
    for parameter in parameters:
        given: Mapping[str, Any] = example.get(parameter["in"], {})
        if parameter["name"] in given:
            parameter["example"] = given[parameter["name"]]
    return parameters


def _answers(endpoint: Endpoint, schemas: Schemas, example: Json) -> Json:
    answers: Json = {}
    for status, model in endpoint.answers.items():
        answer = answers[str(status)] = _answer(_about(endpoint, status), *endpoint.answer_headers.get(status, ()))
        if status not in _WITHOUT_BODY:
            of_text = {"type": "string"} if endpoint.media_type.startswith("text/") else {}
            media: Json = {"schema": schemas.references[model, "serialization"] if model else of_text}
            if (body := example.get("answers", {}).get(str(status))) is not None:
                media["example"] = body
            answer["content"] = dict.fromkeys(endpoint.media_type.split(", "), media)
    return answers


def _about(endpoint: Endpoint, status: int) -> str:
    if "Idempotency-Replayed" in endpoint.answer_headers.get(status, ()):
        return "A replay: an earlier request has had this effect."
    model = endpoint.answers[status]
    sentence = in_json_names(model.__doc__).partition(". ")[0].rstrip(".") + "." if model else ""
    return f"{HTTPStatus(status).phrase}. {sentence}".strip()


def _add_problems(answers: Json, endpoint: Endpoint, schemas: Schemas) -> None:
    for code in codes(endpoint):
        problem = PROBLEMS[code]
        for status in endpoint.statuses.get(code, (problem.status,)):
            answer = answers.setdefault(str(status), _answer(""))
            answer["description"] = f"{answer['description']} {problem.title}.".strip()
            answer["headers"].update(_headers(*_PROBLEM_HEADERS.get(status, ())))
            content = answer.setdefault("content", {})
            if endpoint.refusal_model:
                value = widget_body(code, problem.detail, problem.members)
                schema = schemas.references[endpoint.refusal_model, "serialization"]
                refusals = content.setdefault("application/json", {"schema": schema, "examples": {}})
                refusals["examples"][value["error"]["code"]] = {"summary": problem.title, "value": value}
                schemas.named["WidgetError"]["properties"]["code"].setdefault("enum", []).append(value["error"]["code"])
                continue
            problems = content.setdefault(PROBLEM, {"schema": {}, "examples": {}})
            usual = status == problem.status
            problems["examples"][code] = component("examples", code) if usual else _problem_example(code, status)
            problems["schema"] = problem_schema(problems["examples"])


def _answer(description: str, *headers: str) -> Json:
    return {"description": description, "headers": _headers("X-Request-Id", *headers)}


def _headers(*names: str) -> Json:
    return {name: component("headers", name) for name in names}


def _problem_example(code: str, status: int | None = None) -> Json:
    """Returns the explanation of a code and an example of its problem; `status` where that is not the usual one."""
    problem = PROBLEMS[code]
    value = problem_body(HoldfastError(code, **problem.members), _REQUEST_ID) | {"status": status or problem.status}
    return {"summary": problem.title, "description": problem.advice, "value": value}
