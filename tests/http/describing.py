"""The OpenAPI document as it is served, and how an answer is compared with it."""

import re
from typing import Any

import httpx2
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from starlette.applications import Starlette

from service.app import create_app
from tests.http.conftest import make_settings

Json = dict[str, Any]

PROBLEM = "application/problem+json"


def make_app() -> Starlette:
    """An application that never connects to a database, because its lifespan is not started."""
    return create_app(make_settings("postgresql://nobody@127.0.0.1:1/none"))


def client_of(app: Starlette) -> httpx2.AsyncClient:
    """A client that calls the application in this process."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test")


async def served_document() -> Json:
    """The document as a client gets it."""
    async with client_of(make_app()) as client:
        document: Json = (await client.get("/openapi.json")).json()
        return document


def operations(document: Json) -> list[Json]:
    """All operations of a document."""
    return [operation for methods in document["paths"].values() for operation in methods.values()]


def faults(document: Json, schema: Json, value: Any) -> list[str]:
    """What is wrong with a value by a schema of the document."""
    validator = OAS31Validator({**schema, "components": document["components"]}, format_checker=oas31_format_checker)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def operation_of(document: Json, response: httpx2.Response) -> Json:
    """The operation that an answer belongs to."""
    [methods] = [
        methods
        for template, methods in document["paths"].items()
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), response.request.url.path)
    ]
    operation: Json = methods[response.request.method.lower()]
    return operation


def check(document: Json, response: httpx2.Response) -> str | None:
    """Whether an answer is one that the document tells of; returns the code of a refusal."""
    answer = operation_of(document, response)["responses"][str(response.status_code)]
    for name in answer["headers"]:
        assert name in response.headers or not document["components"]["headers"][name].get("required"), name
    if "content" not in answer:
        assert not response.content
        return None
    media = answer["content"][response.headers["content-type"].partition(";")[0]]
    if not media["schema"]:
        return None
    assert faults(document, media["schema"], response.json()) == []
    if "examples" not in media:
        return None
    code: str = response.json()["code"]
    assert code in media["examples"]
    assert response.json().keys() == document["components"]["examples"][code]["value"].keys()
    return code


def answers(document: Json) -> set[tuple[str, int, str | None]]:
    """Every answer that a document tells of: the operation's id, the status, and the code of a refusal."""
    told: set[tuple[str, int, str | None]] = set()
    for operation in operations(document):
        for status, answer in operation["responses"].items():
            content = answer.get("content", {})
            if content.keys() != {PROBLEM}:
                told.add((operation["operationId"], int(status), None))
            for code in content.get(PROBLEM, {}).get("examples", {}):
                told.add((operation["operationId"], int(status), code))
    return told
