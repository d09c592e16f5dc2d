"""The OpenAPI 3.1 document, made of the endpoints' declarations and of the one table of errors.

Nothing about a call is written here a second time, so the document can't say what the routes don't.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
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
from service.http.endpoints import Access, Endpoint, may_be_left_out
from service.http.problems import MEDIA_TYPE, for_widget, problem_body

_DESCRIPTION: Final = """\
Holdfast holds a scarce slot for a while and then confirms it. `reserve` takes room for as long as a guest fills in \
a form or pays; `commit` turns the hold into an appointment; a hold that is not committed ends by itself.

- **Bodies** are JSON in camelCase, in UTF-8. Unknown members are refused.
- **Ids** of businesses, services and resources are your own: 1 to 64 of `A-Za-z0-9_.:-`, the first a letter or digit.
- **Instants** are sent as ISO 8601 with an offset and answered in UTC. In a URL, the `+` of an offset is written `%2B`.
- **Retries**: when an answer is lost or is a 503, send the same request again. The calls that take a slot \
(`POST /api/booking/reserve`, `POST /api/bookings`, `POST /api/booking/appointments` and \
`POST /api/v1/public/{slug}/book`) need an `Idempotency-Key` for that, another one for each attempt: then the request \
has one effect, and a replay is marked `Idempotency-Replayed: true`. Repeated without a key they may book twice.
- **Repeat with care**: a `PATCH`, or an extension with `expectedVersion`, is answered with `VERSION_CONFLICT` if its \
first attempt had its effect, so read it again before you decide. Creating an API key makes another one each time: \
revoke the one whose answer was lost. Rotating the calendar feeds replaces their keys again. All other calls can be \
repeated as they are; a repeated `DELETE` may find nothing left.
- **Keys** let programs act for one business: `readonly` reads, `staff` also works with appointments, `owner` does \
everything that concerns the business. Send one as `Authorization: Bearer …`. What the public may call needs none.
- **Refusals** are `application/problem+json` (RFC 9457). Branch on `code`; `type` leads to its explanation.
- **Requests** have an id, answered as `X-Request-Id`. Send one of your own in the same header to find it in the log.
"""

# By noun, in the order in which they are used.
_TAGS: Final = {
    "reservations": "Hold a slot, keep it, commit it or give it up.",
    "availability": "Which slots can be booked.",
    "appointments": "Book at once, read the calendar, change, cancel.",
    "capacity": "What is left in a slot.",
    "health": "For probes, and for those who run the service.",
    "cron": "For the scheduler.",
    "catalog": "The businesses and what they offer, for their owners.",
    "keys": "API keys for the programs of a business.",
    "calendar": "Appointments in the calendar programs of those who work there.",
    "documentation": "This page, and what it is made of.",
}

# By who it is that shows such a token. Those of the service itself are named after the settings that hold them.
_SCHEMES: Final = {
    "readonly": ("READONLY_KEY", "A key of the business with the role `readonly`."),
    "staff": ("STAFF_KEY", "A key of the business with the role `staff`."),
    "owner": ("OWNER_KEY", "A key of the business with the role `owner`."),
    "admin": ("ADMIN_TOKEN", "The administrator's token. It belongs to no business and may act for each."),
    "cron": ("CRON_SECRET", "The scheduler's secret."),
}

_IDENTIFIER: Final = TypeAdapter(Identifier).json_schema()
_PATH: Final[dict[str, Json]] = {
    "reservationId": {"type": "string", "format": "uuid"},
    "businessId": _IDENTIFIER,
    "serviceId": _IDENTIFIER,
    "resourceId": _IDENTIFIER,
    "closureId": _IDENTIFIER,
    "keyId": _IDENTIFIER,
    "appointmentId": {"type": "string", "format": "uuid"},
    "slug": {"type": "string"},
}

_REQUEST_HEADERS: Final[dict[str, Json]] = {
    "Idempotency-Key": {
        "description": "Your name for this attempt: sent again with the same key, the request has no second effect.",
        "schema": TypeAdapter(IdempotencyKey).json_schema(),
    },
    "X-Client-Id": {
        "description": "The frontend's own id for its guest. Live holds are counted by it as well as by the "
        "address. Stored as a digest.",
        "schema": TypeAdapter(IdempotencyKey).json_schema(),
    },
    "Last-Event-ID": {
        "description": "The last event received before the stream was cut off. Browsers send it by themselves.",
        "schema": {"type": "string"},
    },
    "If-Match": {
        "description": "The version that you read, in quotes, as in `ETag`; or `*` for any.",
        "schema": {"type": "string"},
    },
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
    "Location": {
        "description": "Where it is.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "ETag": {
        "description": "The version, in quotes.",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
    },
    "Retry-After": {
        "description": "How many seconds to wait before sending the same request again.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "RateLimit-Limit": {
        "description": "How many requests the limit with the least left allows: the client's or the business's.",
        "schema": {"type": "integer"},
    },
    "RateLimit-Remaining": {"description": "How many of them are left.", "schema": {"type": "integer"}},
    "RateLimit-Reset": {
        "description": "How many seconds until all of them are available again, if no more are made.",
        "schema": {"type": "integer"},
    },
    "Cache-Control": {"description": "It holds a secret.", "required": True, "schema": {"const": "no-store"}},
    "WWW-Authenticate": {"description": "The scheme that is wanted.", "required": True, "schema": {"const": "Bearer"}},
}
_PROBLEM_HEADERS: Final = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}
_WITHOUT_BODY: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.TEMPORARY_REDIRECT)
_LIMIT_HEADERS: Final = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")


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
    if endpoint.access.roles:
        met.update(_closed_to_keys(endpoint))
    if endpoint.limited:
        met.add("RATE_LIMITED")
    if endpoint.asks_database:
        met |= {"OVERLOADED", "DATABASE_UNAVAILABLE"}
    return sorted(met, key=list(KINDS).index)


def _closed_to_keys(endpoint: Endpoint) -> Iterator[str]:
    """What a valid key meets where it may not go: another business, or more than its role may do."""
    if "readonly" not in endpoint.access.roles:
        yield "FORBIDDEN"
    models = (endpoint.query, endpoint.body)
    if "businessId" in _path_names(endpoint) or any(model and "business_id" in model.model_fields for model in models):
        yield "BUSINESS_NOT_FOUND"


def _operation(endpoint: Endpoint, schemas: Schemas) -> Json:
    operation: Json = {
        "operationId": endpoint.operation_id,
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "description": endpoint.description,
        "security": _security(endpoint.access),
        "parameters": _parameters(endpoint, schemas),
        "responses": _answers(endpoint, schemas),
    }
    if endpoint.body:
        bodies = {_slug(shows): {"summary": shows, "value": body} for shows, body in endpoint.examples.bodies.items()}
        content = {"schema": schemas.of(endpoint.body, "validation"), "examples": bodies}
        required = not may_be_left_out(endpoint.body)
        operation["requestBody"] = {"required": required, "content": {"application/json": content}}
    _add_problems(operation["responses"], endpoint, schemas)
    for answer in operation["responses"].values() if endpoint.limited else ():
        answer["headers"].update(_headers(*_LIMIT_HEADERS))
    return operation


def _security(access: Access) -> list[Json]:
    """Whose tokens are taken, the least first, but the scheduler's last of all: that one is for the examples. There is
    an empty one where the request may hold a guest's instead."""
    holders = (*access.roles, "cron") if access is Access.CRON else access.roles
    schemes: list[Json] = [{_SCHEMES[holder][0]: []} for holder in holders]
    return [{}, *schemes] if access is Access.GUEST else schemes


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
        if status not in _WITHOUT_BODY:
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


def _add_problems(answers: Json, endpoint: Endpoint, schemas: Schemas) -> None:
    """One answer for each status, with an example for each code."""
    for code in codes(endpoint):
        for status in endpoint.statuses.get(code, (KINDS[code].status,)):
            answer = answers.setdefault(str(status), _answer(""))
            answer["description"] = f"{answer['description']} {KINDS[code].title}.".strip()
            answer["headers"].update(_headers(*_PROBLEM_HEADERS.get(status, ())))
            content = answer.setdefault("content", {})
            if endpoint.refusal_shape:
                value = for_widget(code, KINDS[code].detail, EXPLANATIONS[code].members)
                schema = schemas.of(endpoint.refusal_shape, "serialization")
                refusals = content.setdefault("application/json", {"schema": schema, "examples": {}})
                refusals["examples"][value["error"]["code"]] = {"summary": KINDS[code].title, "value": value}
                continue
            problems = content.setdefault(MEDIA_TYPE, {"schema": reference("schemas", "Problem"), "examples": {}})
            problems["examples"][code] = (
                reference("examples", code) if status == KINDS[code].status else _problem(code, status)
            )


def _answer(description: str, *headers: str) -> Json:
    return {"description": description, "headers": _headers("X-Request-Id", *headers)}


def _headers(*names: str) -> Json:
    return {name: reference("headers", name) for name in names}


def _problem(code: str, status: int | None = None) -> Json:
    """The explanation of a code, and how the service tells it; `status` where that is not the usual one."""
    kind, explanation = KINDS[code], EXPLANATIONS[code]
    value = {**problem_body(code, examples.REQUEST_ID, status=status), **explanation.members}
    description = f"{explanation.meaning}\n\n**What to do:** {explanation.advice}"
    return {"summary": kind.title, "description": description, "value": value}


def _path_names(endpoint: Endpoint) -> list[str]:
    return re.findall(r"{(\w+)}", endpoint.path)


def _slug(text: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))
