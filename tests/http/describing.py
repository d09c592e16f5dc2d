"""The served OpenAPI document: requests from its examples, and the comparison of answers with it."""

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx2
from openapi_schema_validator import OAS31Validator, oas31_format_checker

from service.http.application import Application
from service.process.app import create_app
from tests.http.conftest import client_of, make_settings

Json = dict[str, Any]

PROBLEM = "application/problem+json"
# What probes and readers call without parameters, and the pages with some of their files.
TO_READ = (
    "/health/live",
    "/health/ready",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs/businesses",
    "/docs/embedding",
    "/docs/errors",
    "/docs/docs.js",
    "/docs/deploy/runbook.md",
)
PAGES = ("/book/salon-rosa", "/calendar", "/ops", "/static/holdfast.js", "/static/book/book.js")


def make_app() -> Application:
    """Makes an application that never connects to a database, because its lifespan is not started."""
    return create_app(make_settings("postgresql://nobody@127.0.0.1:1/none"))


async def served_document() -> Json:
    """Returns the document as a client gets it."""
    async with client_of(make_app()) as client:
        document: Json = (await client.get("/openapi.json")).json()
        return document


def operations(document: Json) -> list[Json]:
    """Returns all operations of a document."""
    return [operation for methods in document["paths"].values() for operation in methods.values()]


def example_request(
    document: Json,
    method: str,
    path: str,
    real: Mapping[str, str],
    members: Mapping[str, str | None],
    sender: str | None = None,
) -> httpx2.Request:
    """Makes the request of a call's first example, or of that of a sender, for the salon of the demo catalog.

    `real` has the ids that exist, by the ids that the examples have. `members` are set in bodies that have such a
    member; a None removes the member.
    """
    operation = document["paths"][path][method]
    given = {(parameter["in"], parameter["name"]): parameter.get("example") for parameter in operation["parameters"]}
    if ("query", "businessId") in given:
        given["query", "businessId"] = "salon"
    for (place, name), value in given.items():
        path = path.replace(f"{{{name}}}", value) if place == "path" else path
    query = {name: str(value) for (place, name), value in given.items() if place == "query" and value is not None}
    content = _example_body(document, operation, members, sender)
    for example, existing in real.items():
        path, content = path.replace(example, existing), content.replace(example, existing)
        query = {name: value.replace(example, existing) for name, value in query.items()}
    headers = {name: value for (place, name), value in given.items() if place == "header" and value is not None}
    headers |= {"Content-Type": next(iter(operation["requestBody"]["content"]))} if content else {}
    return httpx2.Request(method.upper(), f"http://test{path}", params=query, headers=headers, content=content.encode())


def example_bodies(operation: Json) -> dict[str | None, Any]:
    """Returns the examples of an operation's body by their senders, or the one example that it has."""
    if "requestBody" not in operation:
        return {None: None}
    content = next(iter(operation["requestBody"]["content"].values()))
    if "example" in content:
        return {None: content["example"]}
    return {sender: example["value"] for sender, example in content["examples"].items()}


def _example_body(document: Json, operation: Json, members: Mapping[str, str | None], sender: str | None) -> str:
    if "requestBody" not in operation:
        return ""
    content = next(iter(operation["requestBody"]["content"].values()))
    bodies = example_bodies(operation)
    value = bodies[sender] if sender else next(iter(bodies.values()))
    if not isinstance(value, dict):
        return value if isinstance(value, str) else json.dumps(value)
    known = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]["properties"]
    changed = value | {name: member for name, member in members.items() if name in known}
    return json.dumps({name: member for name, member in changed.items() if members.get(name, "") is not None})


def example_ids(document: Json) -> dict[str, str]:
    """Returns the values of path parameters in the examples, by their names."""
    return {
        parameter["name"]: parameter["example"]
        for operation in operations(document)
        for parameter in operation["parameters"]
        if parameter["in"] == "path" and "example" in parameter
    }


def example_answer(document: Json, path: str) -> Any:
    """Returns the example of the answer to a GET."""
    return document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["example"]


def example_body(document: Json, path: str) -> Any:
    """Returns the example of the body of a POST."""
    return next(iter(example_bodies(document["paths"][path]["post"]).values()))


def faults(document: Json, schema: Json, value: Any) -> list[str]:
    """Returns the violations of a schema of the document by a value."""
    validator = OAS31Validator({**schema, "components": document["components"]}, format_checker=oas31_format_checker)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def operation_of(document: Json, request: httpx2.Request) -> Json:
    """Returns the operation of a request."""
    path, paths = request.url.path, document["paths"]
    matching = [
        methods for template, methods in paths.items() if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path)
    ]
    # A fixed path precedes the templates that match it.
    methods = paths.get(path) or matching[0]
    operation: Json = methods[request.method.lower()]
    return operation


def check(document: Json, response: httpx2.Response) -> str | None:
    """Checks that the document describes an answer; returns the code of a refusal."""
    answer = operation_of(document, response.request)["responses"][str(response.status_code)]
    for name in answer["headers"]:
        assert name in response.headers or not document["components"]["headers"][name].get("required"), name
    if "content" not in answer:
        assert not response.content
        return None
    content = answer["content"]
    media_type = response.headers["content-type"].partition(";")[0]
    media = content[media_type]
    if not media["schema"] or media_type.startswith("text/"):
        assert media["schema"] in ({}, {"type": "string"})
        return None
    assert faults(document, media["schema"], response.json()) == []
    if "examples" not in media:
        return None
    code = code_of(response.json())
    assert members_of(response.json()) == members_of(example_of(document, media["examples"][code]))
    return code


def example_of(document: Json, example: Json) -> Any:
    """Returns the value of an example, which may be a reference."""
    if "$ref" in example:
        example = document["components"]["examples"][example["$ref"].rpartition("/")[2]]
    return example["value"]


def code_of(refusal: Json) -> str:
    """Returns the code of a refusal; a booking widget's is one level down."""
    code: str = refusal.get("error", refusal)["code"]
    return code


def members_of(refusal: Json) -> set[str]:
    """Returns the names of all members of a refusal."""
    return {*refusal, *refusal.get("error", ())}


def answers(document: Json) -> set[tuple[str, int, str | None]]:
    """Returns every answer in a document: the operation's id, the status, and the code of a refusal."""
    documented: set[tuple[str, int, str | None]] = set()
    for operation in operations(document):
        for status, answer in operation["responses"].items():
            content = answer.get("content", {})
            codes = {code for media in content.values() for code in media.get("examples", ())}
            # The same status may have a report as well as a refusal.
            if not codes or any("examples" not in media for media in content.values()):
                codes.add(None)
            documented |= {(operation["operationId"], int(status), code) for code in codes}
    return documented
