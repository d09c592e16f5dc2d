"""The OpenAPI document: valid, complete, and with examples that its schemas accept."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Self

import pytest
from openapi_spec_validator import validate
from pydantic import BaseModel, ValidationError

from service.api.docs import DocsApi
from service.booking.alternatives import LOOK_UP_SECONDS
from service.database.connections import REQUEST_SECONDS
from service.database.migrations import sql_folder
from service.errors import PROBLEMS, HoldfastError
from service.http import openapi
from service.http.endpoint import endpoints_of
from service.http.openapi import codes
from service.http.openapi import document as make_document
from tests.http.conftest import ADMIN, client_of
from tests.http.describing import (
    PROBLEM,
    Json,
    answers,
    check,
    example_bodies,
    example_of,
    faults,
    make_app,
    operations,
    served_document,
)

pytestmark = pytest.mark.anyio

# The members that are left out where they are empty, by their schemas.
LEFT_OUT = {
    "Appointment": {"cancellationReason", "warnings"},
    "BookedAppointment": {"cancellationReason", "warnings"},
    "SlotWarning": {"resourceId"},
    "DocumentWarning": {"resourceId", "weekdays", "affectedAppointments"},
    "WidgetProblem": {"alternatives"},
    "WidgetError": {"errors", "errorCount", "reason"},
}


async def test_the_document_is_valid_openapi() -> None:
    """Client generators fail at the first member that the specification does not know."""
    document = await served_document()
    assert document["openapi"].startswith("3.1.")
    validate(document)


async def test_the_examples_of_a_process_that_runs_for_months_can_still_be_booked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their slots are those of the month after next, so the document is made anew each month."""

    class Later(datetime):
        """A clock that is a quarter of a year ahead."""

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + timedelta(days=91)

    def example_slot(document: Json) -> datetime:
        body = document["paths"]["/api/booking/reserve"]["post"]["requestBody"]["content"]["application/json"]
        return datetime.fromisoformat(body["example"]["slotStart"])

    async with client_of(make_app()) as client:
        first, again = [(await client.get("/openapi.json")).json() for _ in range(2)]
        monkeypatch.setattr(openapi, "datetime", Later)
        later = (await client.get("/openapi.json")).json()
    assert again == first
    assert example_slot(first) < Later.now(UTC) < example_slot(later)


async def test_the_document_has_every_route_and_nothing_else() -> None:
    """Routes and document are made of the same declarations."""
    document = await served_document()
    routes = {(endpoint.path, endpoint.method.lower()) for endpoint in make_app().endpoints}
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == routes


async def test_operation_ids_are_unique() -> None:
    """Generated clients name their functions by operation ids."""
    ids = [operation["operationId"] for operation in operations(await served_document())]
    assert sorted(set(ids)) == sorted(ids)


async def test_instants_have_one_shape_in_all_answers() -> None:
    """The contract test compares the answers with these schemas, so that a page can compare two instants as text."""
    document = await served_document()
    written = re.findall(r'"format": "date-time"[^}]*', json.dumps(schemas_of(document, "responses")))
    assert len(written) > 20
    assert {instant for instant in written if '"pattern": "^' not in instant} == set()


def test_every_declaration_names_codes_and_tags_that_exist() -> None:
    """A misspelt code would promise an answer that can't come; a misspelt tag would hide its call."""
    tags = {tag["name"] for tag in make_document([])["tags"]}
    for endpoint in make_app().endpoints:
        assert set(endpoint.refusals) | set(endpoint.statuses) <= set(PROBLEMS), endpoint.operation_id
        assert endpoint.tag in tags, endpoint.operation_id
        assert endpoint.summary, endpoint.operation_id
    [endpoint, *_] = endpoints_of(DocsApi([], "docs"))
    with pytest.raises(ValueError, match="NO_SUCH_CODE"):
        make_document([replace(endpoint, refusals=("NO_SUCH_CODE",))])


async def test_every_code_is_explained() -> None:
    """Each row of the table has all that a reader needs, and the document shows each."""
    document = await served_document()
    assert list(document["components"]["examples"]) == list(PROBLEMS)
    for problem in PROBLEMS.values():
        assert all((problem.title, problem.detail, problem.advice)), problem.code


def test_the_codes_of_a_call_are_in_order_of_precedence() -> None:
    """A request with several faults gets the first of them."""
    order = list(PROBLEMS)
    for endpoint in make_app().endpoints:
        assert codes(endpoint) == sorted(codes(endpoint), key=order.index)


def test_an_unknown_code_is_an_error_of_its_call() -> None:
    """It is noticed where it is used, and not when the application starts."""
    with pytest.raises(KeyError):
        HoldfastError("NO_SUCH_CODE")


async def test_only_a_header_that_is_a_credential_is_required() -> None:
    """Generated clients ask their callers for it. All others may be left out."""
    required = [
        (operation["operationId"], parameter["name"])
        for operation in operations(await served_document())
        for parameter in operation["parameters"]
        if parameter["in"] == "header" and parameter.get("required")
    ]
    assert required == [("listOwnHolds", "X-Client-Id")]


async def test_every_answer_has_an_example_that_its_schema_accepts() -> None:
    """Readers copy examples, and expect such answers."""
    document = await served_document()
    for operation in operations(document):
        for status, answer in operation["responses"].items():
            for media_type, media in answer.get("content", {}).items():
                if media_type != PROBLEM and "$ref" in media["schema"]:
                    shown = [example_of(document, example) for example in media.get("examples", {}).values()]
                    for example in shown or [media["example"]]:
                        where = (operation["operationId"], status)
                        assert faults(document, media["schema"], example) == [], where


async def test_every_answer_has_all_of_its_members() -> None:
    """A client may rely on each member: an empty one is null, and only the listed ones are left out."""
    shapes = schemas_of(await served_document(), "responses")
    assert len(shapes) > 60
    for name, shape in shapes.items():
        if name == "FaultParameters":
            assert "required" not in shape
            continue
        left_out = LEFT_OUT.get(name, set())
        assert set(shape.get("required", ())) == set(shape.get("properties", ())) - left_out, name
        for member in left_out:
            assert {"type": "null"} not in shape["properties"][member].get("anyOf", ()), member


async def test_a_body_requires_what_has_no_default() -> None:
    """Generators of clients require a member that has a default in the schema, and a member that is required."""
    document = await served_document()
    by_name = models()
    for name, shape in schemas_of(document, "requestBody").items():
        for member, schema in shape.get("properties", {}).items():
            assert "default" not in schema, (name, member)
        if shape.get("type") == "object":
            fields = by_name[name].model_fields.values()
            assert set(shape.get("required", ())) == {field.alias for field in fields if field.is_required()}
    reserve = document["components"]["schemas"]["ReserveBody"]["properties"]
    assert reserve["quantity"]["description"].endswith("By default `1`.")


async def test_an_integer_may_have_a_fraction_of_zero() -> None:
    """JSON Schema takes 1.0 for an integer, and languages without integers write it. Other fractions are faults."""
    by_name = models()
    tried = 0
    for name, shape in schemas_of(await served_document(), "requestBody").items():
        for member, schema in shape.get("properties", {}).items():
            for option in schema.get("anyOf", [schema]):
                if option.get("type") == "integer":
                    whole, other = ({member: option["minimum"] + fraction} for fraction in (0.0, 0.5))
                    assert not is_no_integer(by_name[name], whole), (name, member)
                    assert is_no_integer(by_name[name], other), (name, member)
                    tried += 1
    assert tried > 30


async def test_a_refusal_has_the_codes_of_its_call_only() -> None:
    """The type of an answer tells which codes, and which other members, a frontend has to handle."""
    document = await served_document()
    schemas = document["components"]["schemas"]
    for operation in operations(document):
        for answer in operation["responses"].values():
            if problem := answer.get("content", {}).get(PROBLEM):
                options = problem["schema"].get("oneOf", [problem["schema"]])
                shapes = [schemas[option["$ref"].rpartition("/")[2]] for option in options]
                assert [shape["properties"]["code"]["const"] for shape in shapes] == list(problem["examples"])
    widget = document["paths"]["/api/v1/public/{slug}/book"]["post"]["responses"].values()
    told = {code for answer in widget for code in answer["content"]["application/json"].get("examples", ())}
    assert set(schemas["WidgetError"]["properties"]["code"]["enum"]) == told


async def test_every_refusal_has_an_example_with_its_status() -> None:
    """The example shows a frontend's author which members come with a code."""
    document = await served_document()
    for code, example in document["components"]["examples"].items():
        schema = document["components"]["schemas"][code.title().replace("_", "") + "Problem"]
        assert faults(document, schema, example["value"]) == []
        assert faults(document, {"$ref": "#/components/schemas/Problem"}, example["value"]) == []
        assert example["value"].keys() == schema["properties"].keys() == set(schema["required"])
        assert example["value"]["code"] == code
    for operation in operations(document):
        for status, answer in operation["responses"].items():
            for code, example in answer.get("content", {}).get(PROBLEM, {}).get("examples", {}).items():
                assert str(example_of(document, example)["status"]) == status
                assert str(PROBLEMS[code].status) == status or (code, status) == ("VERSION_CONFLICT", "412")


async def test_every_example_of_a_request_is_accepted() -> None:
    """An example that is sent unchanged is valid."""
    document = await served_document()
    by_name = models()
    for operation in operations(document):
        for parameter in operation["parameters"]:
            if "example" in parameter or (parameter["in"] != "header" and parameter["required"]):
                assert faults(document, parameter["schema"], parameter["example"]) == [], parameter["name"]
        if body := operation.get("requestBody"):
            content = body["content"]["application/json"]
            model = by_name[content["schema"]["$ref"].rpartition("/")[2]]
            for example in example_bodies(operation).values():
                model.model_validate_json(json.dumps(example))
                assert faults(document, content["schema"], example) == []


async def test_a_body_may_be_left_out_where_nothing_in_it_is_required() -> None:
    """A client made from the document need not send an empty one."""
    document = await served_document()
    may_be_left_out = {
        operation["operationId"]
        for operation in operations(document)
        if not operation.get("requestBody", {"required": True})["required"]
    }
    assert may_be_left_out == {"changeAppointment", "cancelAppointment"}


async def test_every_member_and_parameter_is_explained() -> None:
    """A name alone can be understood in more than one way."""
    document = await served_document()
    for name, schema in document["components"]["schemas"].items():
        for member, of_member in schema.get("properties", {}).items():
            assert of_member.get("description"), f"{name}.{member}"
    for operation in operations(document):
        assert all(parameter["description"] for parameter in operation["parameters"])


async def test_the_advice_on_retries_names_every_call_that_needs_a_key_for_them() -> None:
    """A repeated call without a key books twice."""
    document = await served_document()
    wanted = {
        f"{method.upper()} {path}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation["parameters"])
    }
    [advice] = re.findall(r"- \*\*Retries\*\*(.*?)\n- ", document["info"]["description"], re.DOTALL)
    advice = " ".join(advice.split())
    assert len(wanted) == 4
    assert set(re.findall(r"`([A-Z]+ /[^`]*)`", advice)) == wanted


async def test_the_introduction_says_how_long_an_answer_can_take() -> None:
    """A frontend that gives up earlier does not know whether the request had its effect."""
    introduction = " ".join((await served_document())["info"]["description"].split())
    assert (REQUEST_SECONDS, LOOK_UP_SECONDS) == (10, 2)
    assert "one can take ten seconds, and a refusal with `alternatives` two more" in introduction


async def test_the_reasons_are_those_that_the_database_gives() -> None:
    """They are written once in SQL and once for the document. A business that is misconfigured has its own code."""
    document = await served_document()
    definitions = "".join(path.read_text() for path in sorted((sql_folder() / "functions" / "rules").glob("*.sql")))
    sources = re.findall(r"FUNCTION booking\.(?:\w+_refusal|find_pool)\(.*?\n\$\$;", definitions, re.DOTALL)
    assert len(sources) >= 4
    documented = document["components"]["schemas"]["SlotNotBookableProblem"]["properties"]["reason"]["enum"]
    assert {*documented, "misconfigured"} == set(re.findall(r"(?:THEN|ELSE) '(\w+)'", "".join(sources)))


async def test_a_token_is_wanted_where_the_document_says_so() -> None:
    """A client made from the document sends a token exactly where the document requires one."""
    document = await served_document()
    async with client_of(make_app()) as client:
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                assert operation["security"] or operation["tags"][0] not in ("catalog", "keys", "cron")
                assert ("401" in operation["responses"]) == bool(operation["security"])
                if operation["security"] and {} not in operation["security"]:
                    assert check(document, await client.request(method, path)) == "UNAUTHORIZED"


async def test_what_is_malformed_is_refused_as_the_document_says() -> None:
    """These refusals follow from the path, the query and the body of a call."""
    document = await served_document()
    async with client_of(make_app()) as client:
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                headers = ADMIN | {"Content-Type": "application/json"}
                met = set()
                if "requestBody" in operation:
                    huge, plain = b"[" * 1_100_000, ADMIN | {"Content-Type": "text/plain"}
                    met.add(check(document, await client.request(method, path, headers=headers, content=huge)))
                    met.add(check(document, await client.request(method, path, headers=plain, content=b"{}")))
                if "400" in operation["responses"]:
                    response = await client.request(method, path + "?unknown=1", headers=headers, content=b"{}")
                    met.add(check(document, response))
                told = {code for name, _, code in answers(document) if name == operation["operationId"]}
                assert met == told & {"PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE", "VALIDATION_FAILED"}


def is_no_integer(model: type[BaseModel], body: Json) -> bool:
    """Returns whether the number in a body, which may have other faults, is refused as no integer."""
    try:
        model.model_validate_json(json.dumps(body))
    except ValidationError as error:
        return any(fault["type"].startswith("int_") for fault in error.errors())
    return False


def schemas_of(document: Json, part: str) -> dict[str, Json]:
    """Returns the schemas that the requests or the responses of a document use, by their names."""
    schemas: dict[str, Json] = {}
    waiting = [operation[part] for operation in operations(document) if part in operation]
    while waiting:
        for name in set(re.findall(r"#/components/schemas/(\w+)", json.dumps(waiting.pop()))) - set(schemas):
            schemas[name] = document["components"]["schemas"][name]
            waiting.append(schemas[name])
    return schemas


def models(base: type[BaseModel] = BaseModel) -> dict[str, type[BaseModel]]:
    """Every model that there is, by its name."""
    found: dict[str, type[BaseModel]] = {}
    for child in base.__subclasses__():
        found |= {child.__name__: child, **models(child)}
    return found
