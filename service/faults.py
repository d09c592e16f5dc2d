"""Faults of requests: the closed set of their codes, the message of each, and the translation of pydantic's errors.

A fault is an object of four members. `field` is the member, parameter or header, by its path; `code` and `parameters`
are for pages that translate; `message` is the same in English. It follows the name of the field: "is required".
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Self

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

Fault = dict[str, Any]


class FaultCode(StrEnum):
    """What is wrong with a member. The names in braces in the message of a code are its parameters."""

    message: str

    def __new__(cls, code: str, message: str = "") -> Self:
        member = str.__new__(cls, code)
        member._value_, member.message = code, message
        return member

    # fmt: off
    # Of any member.
    REQUIRED = "required", "is required"
    REQUIRED_WITHOUT = "required_without", "is required without {fields}"
    NOT_WITH = "not_with", "must be left out beside {fields}"
    ONLY_WITH = "only_with", "must be left out without {fields}"
    UNKNOWN_MEMBER = "unknown_member", "is not a member of this request"
    SENT_TWICE = "sent_twice", "must be sent once"
    DIFFERS = "differs", "must be the same as {field}, or one of them left out"
    DIFFERS_FROM_PATH = "differs_from_path", "must be the one of the path, or be left out"
    WRONG_TYPE = "wrong_type", "must be of the type {expected}"
    NOT_ALLOWED = "not_allowed", "must be one of {allowed}"
    INVALID_JSON = "invalid_json", "is not valid JSON: {reason}"
    INVALID = "invalid", "is not valid"
    # Of numbers and lists.
    TOO_SMALL = "too_small", "must be at least {min}"
    TOO_LARGE = "too_large", "must be at most {max}"
    NOT_ABOVE = "not_above", "must be more than {limit}"
    NOT_FINITE = "not_finite", "must have finite numbers only"
    LESS_THAN_FIELD = "less_than_field", "must not be less than {field}"
    MORE_THAN_FIELD = "more_than_field", "must not be more than {field}"
    TOO_FEW = "too_few", "must have at least {min} entries"
    TOO_MANY = "too_many", "must have at most {max} entries"
    REPEATED = "repeated", "must not name the same one twice"
    # Of text and metadata.
    TOO_SHORT = "too_short", "must have at least {min} characters"
    TOO_LONG = "too_long", "must have at most {max} characters"
    TOO_MANY_BYTES = "too_many_bytes", "must not be longer than {max} bytes"
    TOO_DEEP = "too_deep", "must not be nested deeper than {max} levels"
    NUL_CHARACTER = "nul_character", "must not contain the character U+0000"
    INVISIBLE = "invisible", "must have a visible character"
    INVALID_ID = "invalid_id", "must be 1 to 64 of A-Za-z0-9_.:-, the first a letter or digit"
    INVALID_UUID = "invalid_uuid", "must be a UUID"
    NOT_PRINTABLE_ASCII = "not_printable_ascii", "must be 1 to 255 printable ASCII characters"
    GUESSABLE = "guessable", "must be a secret of at least {min} characters, like a random UUID"
    INVALID_SLUG = (
        "invalid_slug", "must be 1 to 64 lower-case letters, digits and hyphens, with no hyphen at either end"
    )
    INVALID_CURSOR = "invalid_cursor", "is not a cursor of the list with these parameters; start again without it"
    INVALID_IF_MATCH = "invalid_if_match", 'must be a version in quotes, like "5", as given in ETag, or *'
    LOST_PLUS = "lost_plus", "has a blank in the place of a +: in a URL it is written %2B"
    # Of time.
    INVALID_INSTANT = "invalid_instant", "must be an ISO 8601 instant with an offset, like 2026-11-21T09:00:00+01:00"
    INVALID_DATE = "invalid_date", "must be a date like 2026-11-21"
    INVALID_TIME = "invalid_time", "must be a time of day from 00:00 to 23:59, like 09:30"
    INVALID_END_TIME = "invalid_end_time", "must be a time of day from 00:00 to 24:00, like 17:30"
    FRACTION_OF_SECOND = "fraction_of_second", "must be a whole second: a slot has no fractions of one"
    YEAR_OUT_OF_RANGE = "year_out_of_range", "must lie in the years {min} to {max}, for an instant in UTC"
    NOT_AFTER = "not_after", "must be after {field}"
    BEFORE = "before", "must not be before {field}"
    TOO_FAR_AFTER = "too_far_after", "must be at most {maxDays} days after {field}"
    # Of contacts.
    INVALID_EMAIL = "invalid_email", "is not a valid e-mail address: {reason}"
    EMAIL_WITH_NAME = "email_with_name", "must be the address alone, like ada@example.com"
    INVALID_PHONE = "invalid_phone", "is not a phone number: write it with the country's code, like +49 30 1234567"
    PHONE_TOO_SHORT = "phone_too_short", "is too short: write it with the country's code, like +49 30 1234567"
    PHONE_TOO_LONG = "phone_too_long", "is too long: write it with the country's code, like +49 30 1234567"
    PHONE_WITHOUT_AREA_CODE = (
        "phone_without_area_code", "lacks its area code: write it with the country's code, like +49 30 1234567"
    )
    PHONE_WITH_LETTERS = "phone_with_letters", "must not contain letters: write it like +49 30 1234567"
    PHONE_WITH_EXTENSION = "phone_with_extension", "must be without an extension: write that into the notes"
    # Of the slots and the catalog of a business.
    TOO_MANY_FOR_A_RESOURCE = (
        "too_many_for_a_resource",
        "must be at most {max}, the seats of the resource, or of the largest if resourceId is null",
    )
    LENGTH_NOT_OFFERED = "length_not_offered", "must be a length of this service, which has {min} to {max} {unit}"
    MORE_THAN_SEATS = "more_than_seats", "must be at most {max}: the resources of this service have no more seats"
    UNKNOWN_RESOURCE = "unknown_resource", "names {resourceId}, which is no resource of this business"
    UNKNOWN_TIMEZONE = "unknown_timezone", "is not a time zone of the IANA database, like Europe/Berlin"
    UNKNOWN_COUNTRY = "unknown_country", "is not an ISO 3166 code of a country that has phone numbers, like DE"
    CLOSES_TOO_EARLY = (
        "closes_too_early", "must be after opens; a night is two entries, the first of which closes at 24:00"
    )
    DATES_TAKEN = "dates_taken", "must not overlap the dates of the special hours {specialHoursId}"
    ID_OF_ARCHIVED = "id_of_archived", "belongs to an archived resource; choose another id"
    # fmt: on


# pydantic's errors of a wrong type, and the type that JSON calls for.
_TYPES: Final = {
    "string_type": "string",
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "integer"),
    **dict.fromkeys(("float_type", "float_parsing"), "number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "boolean"),
    "list_type": "array",
    **dict.fromkeys(("dict_type", "model_type"), "object"),
}
# pydantic's other errors: the code, and the names of its parameters in the context of the error.
_OTHERS: Final[dict[str, tuple[FaultCode, dict[str, str]]]] = {
    "missing": (FaultCode.REQUIRED, {}),
    "extra_forbidden": (FaultCode.UNKNOWN_MEMBER, {}),
    "greater_than_equal": (FaultCode.TOO_SMALL, {"min": "ge"}),
    "less_than_equal": (FaultCode.TOO_LARGE, {"max": "le"}),
    "greater_than": (FaultCode.NOT_ABOVE, {"limit": "gt"}),
    "finite_number": (FaultCode.NOT_FINITE, {}),
    "string_too_short": (FaultCode.TOO_SHORT, {"min": "min_length"}),
    "string_too_long": (FaultCode.TOO_LONG, {"max": "max_length"}),
    "too_short": (FaultCode.TOO_FEW, {"min": "min_length"}),
    "too_long": (FaultCode.TOO_MANY, {"max": "max_length"}),
    "uuid_type": (FaultCode.INVALID_UUID, {}),
    "uuid_parsing": (FaultCode.INVALID_UUID, {}),
    "json_invalid": (FaultCode.INVALID_JSON, {"reason": "error"}),
}


def fault(field: str, code: FaultCode, /, **parameters: Any) -> Fault:
    """Builds the fault of a field. `parameters` are those of the code."""
    given = {name: whole(value) for name, value in parameters.items()}
    written = {name: ", ".join(value) if isinstance(value, list) else value for name, value in given.items()}
    return {"field": field, "code": code.value, "parameters": given, "message": code.message.format_map(written)}


def fault_error(code: FaultCode, /, **parameters: Any) -> PydanticCustomError:
    """Builds the error that a validator of one member raises."""
    return PydanticCustomError(code.value, code.message, parameters)


def fault_error_at(member: str, code: FaultCode, /, **parameters: Any) -> ValidationError:
    """Builds the error of a validator that compares several members, at the one that is to be changed."""
    details = InitErrorDetails(type=fault_error(code, **parameters), loc=(member,), input=None)
    return ValidationError.from_exception_data("several members", [details])


def faults_of(error: ValidationError, field: str | None = None, most: int | None = None) -> list[Fault]:
    """Returns the faults of input that its model refuses, the first `most` of them. `field` names input that is one
    value."""
    faults = []
    for found in error.errors(include_url=False, include_input=False)[:most]:
        # A faulty id of an entry is named by itself: pydantic adds `[key]` to it.
        path = ".".join(str(part) for part in found["loc"] if part != "[key]")
        faults.append(_translated(field or path, found["type"], found.get("ctx", {})))
    return faults


def _translated(field: str, kind: str, context: Mapping[str, Any]) -> Fault:
    """Returns the fault for an error of pydantic, by its type and context, or of `fault_error`."""
    if kind in _TYPES:
        return fault(field, FaultCode.WRONG_TYPE, expected=_TYPES[kind])
    if kind in _OTHERS:
        code, names = _OTHERS[kind]
        return fault(field, code, **{name: context[key] for name, key in names.items()})
    if kind == "literal_error":
        return fault(field, FaultCode.NOT_ALLOWED, allowed=re.findall("'([^']*)'", context["expected"]))
    if kind in _CODES:
        return fault(field, FaultCode(kind), **context)
    return fault(field, FaultCode.INVALID)


def whole(value: Any) -> Any:
    """Returns a number that is written with a fraction of zero as an integer, and anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_CODES: Final = frozenset(code.value for code in FaultCode)
