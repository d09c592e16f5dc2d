"""The OpenAPI 3.1 document, made of the endpoints' declarations and of the one table of errors.

Nothing about a call is written here a second time, so the document can't say what the routes don't.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Final

from pydantic import TypeAdapter

from service import __version__
from service.booking.text import IdempotencyKey, Identifier
from service.errors import KINDS
from service.http.documentation import examples
from service.http.documentation.explanations import EXPLANATIONS
from service.http.documentation.schemas import Json, Schemas, reference, told
from service.http.documentation.vocabulary import meaning
from service.http.endpoints import Access, Endpoint
from service.http.problems import MEDIA_TYPE

_DESCRIPTION: Final = """\
Holdfast holds a scarce slot for a while and then confirms it. `reserve` takes room for as long as a guest fills in \
a form or pays; `commit` turns the hold into an appointment; a hold that is not committed ends by itself.

- **Bodies** are JSON in camelCase, in UTF-8. Unknown members are refused.
- **Ids** of businesses, services and resources are your own: 1 to 64 of `A-Za-z0-9_.:-`, the first a letter or digit.
- **Instants** are sent as ISO 8601 with an offset and answered in UTC. In a URL, the `+` of an offset is written `%2B`.
- **Retries**: give each attempt to reserve an `Idempotency-Key`. When an answer is lost or is a 503, send the same \
request with the same key: it has one effect, and a replay is marked `Idempotency-Replayed: true`. The other calls can \
be repeated as they are.
- **Refusals** are `application/problem+json` (RFC 9457). Branch on `code`; `type` leads to its explanation.
- **Requests** have an id, answered as `X-Request-Id`. Send one of your own in the same header to find it in the log.
"""

# By noun, in the order in which they are used.
_TAGS: Final = {
    "reservations": "Hold a slot, keep it, commit it or give it up.",
    "capacity": "What is left in a slot.",
    "health": "For probes, and for those who run the service.",
    "cron": "For the scheduler.",
    "catalog": "The businesses and what they offer, for the administrator.",
    "documentation": "This page, and what it is made of.",
}

# Each is named after the setting that holds its token.
_SCHEMES: Final = {
    Access.ADMIN: ("ADMIN_TOKEN", "The administrator's token."),
    Access.CRON: ("CRON_SECRET", "The scheduler's secret."),
}

_IDENTIFIER: Final = TypeAdapter(Identifier).json_schema()
_PATH: Final[dict[str, Json]] = {
    "reservationId": {"type": "string", "format": "uuid"},
    "businessId": _IDENTIFIER,
    "serviceId": _IDENTIFIER,
}

_REQUEST_HEADERS: Final[dict[str, Json]] = {
    "Idempotency-Key": {
        "description": "Your name for this attempt: sent again with the same key, the request has no second effect.",
        "schema": TypeAdapter(IdempotencyKey).json_schema(),
    }
}

_ANSWER_HEADERS: Final[dict[str, Json]] = {
    "X-Request-Id": {
        "description": "Names this request in the service's log: the caller's own, or a new one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "Idempotency-Replayed": {
        "description": "`true`: an earlier request had this effect.",
        "required": True,
        "schema": {"const": "true"},
    },
    "Retry-After": {
        "description": "In how many seconds to send the same request again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {"description": "The scheme that is wanted.", "required": True, "schema": {"const": "Bearer"}},
}
_PROBLEM_HEADERS: Final = {401: ("WWW-Authenticate",), 503: ("Retry-After",)}


def document(endpoints: Sequence[Endpoint]) -> Json:
    """The document for these endpoints. Raises KeyError for a code, a tag or a member that nobody has explained."""
    schemas = Schemas(endpoints)
    paths: dict[str, Json] = defaultdict(dict)
    for endpoint in endpoints:
        paths[endpoint.path][endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Holdfast", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": description} for name, description in _TAGS.items()],
        "paths": dict(paths),
        "components": {
            "schemas": schemas.named,
            "headers": _ANSWER_HEADERS,
            "examples": {code: _problem(code) for code in KINDS},
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "description": description}
                for name, description in _SCHEMES.values()
            },
        },
    }


def in_order_of_use(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """The endpoints by their tags."""
    return sorted(endpoints, key=lambda endpoint: list(_TAGS).index(endpoint.tag))


def codes(endpoint: Endpoint) -> list[str]:
    """Every code that a call can meet: its own, and those that follow from what it takes."""
    met = set(endpoint.refusals)
    if endpoint.body or endpoint.query or any("pattern" in _PATH[name] for name in _path_names(endpoint)):
        met.add("VALIDATION_FAILED")
    if endpoint.body:
        met |= {"PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"}
    if endpoint.access is not Access.PUBLIC:
        met.add("UNAUTHORIZED")
    if endpoint.asks_database:
        met |= {"OVERLOADED", "DATABASE_UNAVAILABLE"}
    return sorted(met, key=list(KINDS).index)


def _operation(endpoint: Endpoint, schemas: Schemas) -> Json:
    operation: Json = {
        "operationId": endpoint.operation_id,
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "description": endpoint.description,
        "security": [{_SCHEMES[endpoint.access][0]: []}] if endpoint.access in _SCHEMES else [],
        "parameters": _parameters(endpoint, schemas),
        "responses": _answers(endpoint, schemas),
    }
    if endpoint.body:
        bodies = {_slug(shows): {"summary": shows, "value": body} for shows, body in endpoint.examples.bodies.items()}
        content = {"schema": schemas.of(endpoint.body, "validation"), "examples": bodies}
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    _add_problems(operation["responses"], codes(endpoint))
    return operation


def _parameters(endpoint: Endpoint, schemas: Schemas) -> list[Json]:
    parameters: list[Json] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": meaning("path", name),
            "schema": _PATH[name],
            "example": examples.PATH[name],
        }
        for name in _path_names(endpoint)
    ]
    parameters += [{"name": name, "in": "header", **_REQUEST_HEADERS[name]} for name in endpoint.request_headers]
    for parameter in schemas.parameters(endpoint.query) if endpoint.query else []:
        example = endpoint.examples.query.get(parameter["name"])
        parameters.append({**parameter, "example": example} if example else parameter)
    return parameters


def _answers(endpoint: Endpoint, schemas: Schemas) -> Json:
    answers: Json = {}
    for status, model in endpoint.answers.items():
        answer = answers[str(status)] = _answer(_about(endpoint, status), *endpoint.answer_headers.get(status, ()))
        if status != HTTPStatus.NO_CONTENT:
            media: Json = {"schema": schemas.of(model, "serialization") if model else {}}
            if status in endpoint.examples.answers:
                media["example"] = endpoint.examples.answers[status]
            answer["content"] = {endpoint.media_type: media}
    return answers


def _about(endpoint: Endpoint, status: int) -> str:
    if "Idempotency-Replayed" in endpoint.answer_headers.get(status, ()):
        return "A replay: an earlier request has had this effect."
    model = endpoint.answers[status]
    sentence = told(model.__doc__).partition(". ")[0].rstrip(".") + "." if model else ""
    return f"{HTTPStatus(status).phrase}. {sentence}".strip()


def _add_problems(answers: Json, codes: Iterable[str]) -> None:
    """One answer for each status, with an example for each code."""
    for code in codes:
        status, title = KINDS[code].status, KINDS[code].title
        answer = answers.setdefault(str(status), _answer(""))
        answer["description"] = f"{answer['description']} {title}.".strip()
        answer["headers"].update(_headers(*_PROBLEM_HEADERS.get(status, ())))
        problems = answer.setdefault("content", {}).setdefault(
            MEDIA_TYPE, {"schema": reference("schemas", "Problem"), "examples": {}}
        )
        problems["examples"][code] = reference("examples", code)


def _answer(description: str, *headers: str) -> Json:
    return {"description": description, "headers": _headers("X-Request-Id", *headers)}


def _headers(*names: str) -> Json:
    return {name: reference("headers", name) for name in names}


def _problem(code: str) -> Json:
    """The explanation of a code, and how the service tells it."""
    kind, explanation = KINDS[code], EXPLANATIONS[code]
    value = {
        "type": f"/docs#{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.detail,
        "code": code,
        "requestId": examples.REQUEST_ID,
        **explanation.members,
    }
    description = f"{explanation.meaning}\n\n**What to do:** {explanation.advice}"
    return {"summary": kind.title, "description": description, "value": value}


def _path_names(endpoint: Endpoint) -> list[str]:
    return re.findall(r"{(\w+)}", endpoint.path)


def _slug(text: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))
