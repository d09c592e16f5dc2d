"""The OpenAPI document: well-formed, complete, and with examples that hold."""

import json
import re
from dataclasses import replace

import pytest
from openapi_spec_validator import validate
from pydantic import BaseModel
from starlette.routing import Route

from service.database.files import sql_folder
from service.errors import KINDS
from service.http.documentation.docs import DocsEndpoints
from service.http.documentation.explanations import EXPLANATIONS
from service.http.documentation.openapi import document as make_document
from tests.http.conftest import ADMIN
from tests.http.describing import (
    PROBLEM,
    answers,
    check,
    client_of,
    example_of,
    faults,
    make_app,
    operations,
    served_document,
)

pytestmark = pytest.mark.anyio

# What is only there where there is something to say: why an appointment was cancelled, and what a widget may be told.
LEFT_OUT = {"cancellationReason", "alternatives"}


async def test_the_document_is_valid_openapi() -> None:
    """Client generators give up on the first thing that the specification does not know."""
    document = await served_document()
    assert document["openapi"].startswith("3.1.")
    validate(document)


async def test_the_document_has_every_route_and_nothing_else() -> None:
    """A call that is missing can't be found, and one that does not exist wastes somebody's day."""
    document = await served_document()
    routes = set()
    for route in make_app().routes:
        assert isinstance(route, Route)
        routes |= {(route.path, method.lower()) for method in (route.methods or set()) - {"HEAD"}}
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == routes


async def test_operation_ids_are_unique() -> None:
    """Generated clients name their functions by them."""
    ids = [operation["operationId"] for operation in operations(await served_document())]
    assert sorted(set(ids)) == sorted(ids)


async def test_a_code_that_nobody_declared_stops_the_start() -> None:
    """A misspelt code would promise an answer that can't come, and link to nowhere."""
    [endpoint, *_] = DocsEndpoints([]).endpoints()
    with pytest.raises(ValueError, match="NO_SUCH_CODE"):
        make_document([replace(endpoint, refusals=("NO_SUCH_CODE",))])


async def test_every_code_is_explained() -> None:
    """The type of each problem leads to its explanation, whichever call it was that met it."""
    document = await served_document()
    assert list(EXPLANATIONS) == list(KINDS)
    assert list(document["components"]["examples"]) == list(KINDS)


async def test_every_answer_has_an_example_that_its_schema_accepts() -> None:
    """People copy examples, and take them for what they will get."""
    document = await served_document()
    for operation in operations(document):
        for status, answer in operation["responses"].items():
            for media_type, media in answer.get("content", {}).items():
                if media_type != PROBLEM and media["schema"]:
                    shown = [example_of(document, example) for example in media.get("examples", {}).values()]
                    for example in shown or [media["example"]]:
                        where = (operation["operationId"], status)
                        assert faults(document, media["schema"], example) == [], where


async def test_every_answer_has_all_of_its_members() -> None:
    """A client may rely on each member: what is not there is null, and is left out only where that is said."""
    document = await served_document()
    for operation in operations(document):
        for answer in operation["responses"].values():
            schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
            if "$ref" in schema:
                shape = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
                assert set(shape["required"]) == set(shape["properties"]) - LEFT_OUT


async def test_every_refusal_has_an_example_with_its_status() -> None:
    """The example is where a frontend's author sees which members come with a code."""
    document = await served_document()
    known = document["components"]["schemas"]["Problem"]["properties"]
    for code, example in document["components"]["examples"].items():
        assert faults(document, {"$ref": "#/components/schemas/Problem"}, example["value"]) == []
        assert example["value"].keys() <= known.keys()
        assert example["value"]["code"] == code
    for operation in operations(document):
        for status, answer in operation["responses"].items():
            for code, example in answer.get("content", {}).get(PROBLEM, {}).get("examples", {}).items():
                assert str(example_of(document, example)["status"]) == status
                assert str(KINDS[code].status) == status or (code, status) == ("VERSION_CONFLICT", "412")


async def test_every_example_of_a_request_is_accepted() -> None:
    """Whoever sends the example unchanged should not be told that it is invalid."""
    document = await served_document()
    by_name = models()
    for operation in operations(document):
        for parameter in operation["parameters"]:
            if "example" in parameter or (parameter["in"] != "header" and parameter["required"]):
                assert faults(document, parameter["schema"], parameter["example"]) == [], parameter["name"]
        if body := operation.get("requestBody"):
            content = body["content"]["application/json"]
            model = by_name[content["schema"]["$ref"].rpartition("/")[2]]
            assert content["examples"]
            for example in content["examples"].values():
                model.model_validate_json(json.dumps(example["value"]))
                assert faults(document, content["schema"], example["value"]) == []


async def test_a_body_may_be_left_out_where_nothing_in_it_is_required() -> None:
    """A client made from the document does not make up an empty one."""
    document = await served_document()
    may_be_left_out = {
        operation["operationId"]
        for operation in operations(document)
        if not operation.get("requestBody", {"required": True})["required"]
    }
    assert may_be_left_out == {"changeAppointment", "cancelAppointment"}


async def test_every_member_and_parameter_is_explained() -> None:
    """A name alone leaves the reader to guess, and two readers guess differently."""
    document = await served_document()
    for name, schema in document["components"]["schemas"].items():
        for member, of_member in schema.get("properties", {}).items():
            assert of_member.get("description"), f"{name}.{member}"
    for operation in operations(document):
        assert all(parameter["description"] for parameter in operation["parameters"])


async def test_the_advice_on_retries_names_every_call_that_needs_a_key_for_them() -> None:
    """Whoever repeats one of them without a key, because it was not named, books twice."""
    document = await served_document()
    wanted = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation["parameters"])
    }
    [advice] = re.findall(r"- \*\*Retries\*\*(.*)", document["info"]["description"])
    assert len(wanted) == 4
    assert set(re.findall(r"`([A-Z]+ /[^`]*)`", advice)) == wanted


async def test_the_reasons_are_those_that_the_database_gives() -> None:
    """They are written once in SQL and once for the document."""
    document = await served_document()
    definitions = "".join(path.read_text() for path in sorted((sql_folder() / "functions").rglob("*.sql")))
    sources = re.findall(r"FUNCTION booking\.(?:slot_refusal|find_pool)\(.*?\n\$\$;", definitions, re.DOTALL)
    assert len(sources) == 2
    documented = document["components"]["schemas"]["Problem"]["properties"]["reason"]["enum"]
    assert sorted(documented) == sorted(set(re.findall(r"(?:THEN|ELSE) '(\w+)'", "".join(sources))))


async def test_a_token_is_wanted_where_the_document_says_so() -> None:
    """A client made from the document sends no token where none is said to be wanted; and the rest is not for all."""
    document = await served_document()
    async with client_of(make_app()) as client:
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                assert operation["security"] or operation["tags"][0] not in ("catalog", "keys", "cron")
                assert ("401" in operation["responses"]) == bool(operation["security"])
                if operation["security"] and {} not in operation["security"]:
                    assert check(document, await client.request(method, path)) == "UNAUTHORIZED"


async def test_what_is_malformed_is_refused_as_the_document_says() -> None:
    """These refusals follow from what a call takes: its path, its query, its body."""
    document = await served_document()
    async with client_of(make_app()) as client:
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                headers = ADMIN | {"Content-Type": "application/json"}
                met = set()
                if "requestBody" in operation:
                    huge, plain = b"[" * 100_000, ADMIN | {"Content-Type": "text/plain"}
                    met.add(check(document, await client.request(method, path, headers=headers, content=huge)))
                    met.add(check(document, await client.request(method, path, headers=plain, content=b"{}")))
                if "400" in operation["responses"]:
                    response = await client.request(method, path + "?unknown=1", headers=headers, content=b"{}")
                    met.add(check(document, response))
                told = {code for name, _, code in answers(document) if name == operation["operationId"]}
                assert met == told & {"PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE", "VALIDATION_FAILED"}


def models(base: type[BaseModel] = BaseModel) -> dict[str, type[BaseModel]]:
    """Every model that there is, by its name."""
    found: dict[str, type[BaseModel]] = {}
    for child in base.__subclasses__():
        found |= {child.__name__: child, **models(child)}
    return found
