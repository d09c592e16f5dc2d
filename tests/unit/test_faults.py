"""The codes of faults: a closed set that has all that the code can find, each with the parameters of its message."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any
from unittest.mock import Mock

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

import service
from service import faults
from service.booking.document import CatalogSettings
from service.booking.text import IdempotencyKey
from service.database.migrations import sql_folder
from service.errors import MAX_FAULTS, Invalid
from service.faults import FaultCode
from service.http.schemas import FaultParameters
from tests.http.describing import make_app

ROOT = Path(next(iter(service.__path__)))
SOURCES = {str(path.relative_to(ROOT)): path.read_text() for path in ROOT.rglob("*.py")}
FUNCTIONS = "".join(path.read_text() for path in sorted((sql_folder() / "functions").rglob("*.sql")))
# What pydantic can find in a node of a schema: always, and with a constraint.
FOUND: dict[str, set[str]] = {
    "str": {"string_type"},
    "int": {"int_type", "int_parsing", "int_parsing_size", "int_from_float"},
    "float": {"float_type", "float_parsing"},
    "bool": {"bool_type", "bool_parsing"},
    "uuid": {"uuid_type", "uuid_parsing"},
    "list": {"list_type"},
    "dict": {"dict_type"},
    "model": {"model_type"},
    "model-fields": {"missing", "extra_forbidden"},
    "literal": {"literal_error"},
}
FOUND_BY_CONSTRAINT = {
    ("str", "min_length"): "string_too_short",
    ("str", "max_length"): "string_too_long",
    ("str", "pattern"): "string_pattern_mismatch",
    ("list", "min_length"): "too_short",
    ("list", "max_length"): "too_long",
    ("dict", "max_length"): "too_long",
    **{(number, "ge"): "greater_than_equal" for number in ("int", "float")},
    **{(number, "le"): "less_than_equal" for number in ("int", "float")},
    **{(number, "gt"): "greater_than" for number in ("int", "float")},
    ("float", "allow_inf_nan"): "finite_number",
}
# These find nothing of their own. JSON has no value that is no JsonValue, the only tagged union. A validator of ours
# raises codes of ours.
SILENT = {
    *("any", "default", "definition-ref", "definitions", "function-after", "function-before", "json-or-python"),
    *("model-field", "nullable", "no-info", "none", "tagged-union", "with-info"),
}
CONSTRAINTS = {
    *("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern", "allow_inf_nan", "unique"),
    *("max_digits", "decimal_places", "to_lower", "coerce_numbers_to_str", "fail_fast"),
}


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Yields the nodes of a core schema whose faults a caller can meet."""
    if isinstance(schema, dict):
        is_node = isinstance(schema.get("type"), str)
        if is_node:
            yield schema
        if schema.get("type") != "custom-error":
            for name, part in schema.items():
                if name not in ("metadata", "serialization") and not (is_node and name in ("default", "expected")):
                    yield from nodes(part)
    for part in schema if isinstance(schema, list) else ():
        yield from nodes(part)


def schemas() -> Iterator[Any]:
    """Yields the core schemas of all that callers send, and of the catalog file."""
    yield TypeAdapter(IdempotencyKey).core_schema
    yield CatalogSettings.__pydantic_core_schema__
    for endpoint in make_app().endpoints:
        for model in (endpoint.body, endpoint.query):
            if model:
                yield model.__pydantic_core_schema__
        for parameter in endpoint.path_parameters:
            yield parameter.adapter.core_schema


def test_every_error_of_pydantic_that_a_request_can_cause_has_a_code() -> None:
    """And none has a code that can't be met. `json_invalid` is of the body itself."""
    found = {"json_invalid"}
    for schema in schemas():
        for node in nodes(schema):
            kind = node["type"]
            if kind == "custom-error":
                assert node["custom_error_type"] in set(FaultCode)
                continue
            assert kind in SILENT | set(FOUND), node
            found |= FOUND.get(kind, set())
            if kind not in SILENT:
                found |= {FOUND_BY_CONSTRAINT[kind, name] for name in CONSTRAINTS & set(node)}
    assert found == {*faults._TYPES, *faults._OTHERS, "literal_error"}


def test_no_validator_raises_an_error_without_a_code() -> None:
    """A ValueError would be a fault without one."""
    for name, text in SOURCES.items():
        if name.partition("/")[0] in ("api", "booking", "http"):
            assert not re.search(r"raise (ValueError|AssertionError)|PydanticCustomError", text), name


def uses() -> Iterator[tuple[FaultCode, set[str] | None]]:
    """Yields the codes that Python names, with the parameters that stand beside them in a call."""
    for name, text in SOURCES.items():
        tree = ast.parse(text)
        in_calls: dict[int, set[str]] = {}
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(("fault", "fault_error", "_at", ".at")):
                in_calls |= {id(argument): {keyword.arg or "" for keyword in call.keywords} for argument in call.args}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "FaultCode":
                in_table = name == "faults.py" and id(node) not in in_calls
                yield FaultCode[node.attr], None if in_table else in_calls.get(id(node), set())


def parameters_of(code: FaultCode) -> set[str]:
    """Returns the names of the parameters of a code: those in braces in its message."""
    return {name for _, name, _, _ in Formatter().parse(code.message) if name}


def test_every_use_of_a_code_has_its_parameters() -> None:
    """A missing one would fail when the message is written."""
    found = list(uses())
    assert len(found) > 60
    for code, parameters in found:
        assert parameters is None or parameters == parameters_of(code), code
    for code, names in faults._OTHERS.values():
        assert set(names) == parameters_of(code)


def sql_uses() -> Iterator[tuple[str, str]]:
    """Yields the codes that SQL names, with the rest of the statement."""
    # But for the definitions, and the call by which booking.invalid passes a code on.
    calls = re.findall(r"booking\.(?:fault|invalid)\((?!p_field,? (?:text|p_code))", FUNCTIONS)
    found = re.findall(r"booking\.(?:fault|invalid)\(\s*(?:'\w+'|p_field), '(\w+)'([^;]*);?", FUNCTIONS)
    assert len(found) == len(calls)
    yield from found


def test_every_code_of_sql_is_in_the_set_with_its_parameters() -> None:
    """Python writes the message."""
    found = list(sql_uses())
    assert len(found) >= 9
    for code, rest in found:
        for name in parameters_of(FaultCode(code)):
            assert re.search(rf"['\"]{name}['\"]", rest), code


def test_every_code_is_used() -> None:
    """A frontend translates no text that can't be met. `invalid` is for an error that nothing above foresaw."""
    used = {code for code, _ in uses()} | {FaultCode(code) for code, _ in sql_uses()}
    assert set(FaultCode) == used


def test_every_parameter_is_documented() -> None:
    """The schema of a fault names each, and no other."""
    documented = {field.alias for field in FaultParameters.model_fields.values()}
    assert documented == {name for code in FaultCode for name in parameters_of(code)}


def test_codes_are_not_those_of_pydantic() -> None:
    """A code of ours that a validator raises must not be translated as one of theirs."""
    raised = {code.value for code, parameters in uses() if parameters is not None}
    assert not raised & {*faults._TYPES, *faults._OTHERS, "literal_error"}


def test_an_error_that_was_not_foreseen_is_a_fault_all_the_same() -> None:
    """A new version of pydantic may find more; the answer is a 400 then as well."""

    class Model(BaseModel):
        member: bytes

    with pytest.raises(ValueError, match="bytes") as refused:
        Model.model_validate({"member": 5})
    error: Any = refused.value
    message = "is not valid"
    assert faults.faults_of(error) == [{"field": "member", "code": "invalid", "parameters": {}, "message": message}]


@pytest.fixture
def many_faults() -> ValidationError:
    """The error of a request with thousands of unknown members."""

    class Model(BaseModel, extra="forbid"):
        pass

    with pytest.raises(ValidationError) as refused:
        Model.model_validate(dict.fromkeys(map(str, range(7000))))
    return refused.value


def test_an_answer_has_the_first_faults_and_their_number(many_faults: ValidationError) -> None:
    """A request with thousands of faults must not get a large answer."""
    invalid = Invalid.of_input(many_faults)
    first = [faults.fault(str(number), FaultCode.UNKNOWN_MEMBER) for number in range(MAX_FAULTS)]
    assert (invalid.faults, invalid.members["errorCount"]) == (first, 7000)


def test_only_the_faults_of_an_answer_are_translated(
    many_faults: ValidationError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of unknown members must not take the time of thousands of messages."""
    translated = Mock()
    monkeypatch.setattr(faults, "_translated", translated)
    Invalid.of_input(many_faults)
    assert translated.call_count == MAX_FAULTS
