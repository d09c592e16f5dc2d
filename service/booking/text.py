"""What callers may write: ids, keys, names and free text, with their bounds."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue, StringConstraints

from service.booking.faults import Told

# Of businesses, services and resources: the caller's own strings.
Identifier = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$"),
    Told("must be 1 to 64 of A-Za-z0-9_.:-, the first a letter or digit"),
]

# Printable ASCII, because it also comes as a header.
IdempotencyKey = Annotated[
    str, StringConstraints(pattern=r"^[ -~]{1,255}$"), Told("must be 1 to 255 printable ASCII characters")
]

METADATA_BYTES = 4096


def _storable(text: str) -> str:
    """PostgreSQL stores every character but one."""
    if "\x00" in text:
        raise ValueError("must not contain the character U+0000")
    return text


def _without_letters(phone: str) -> str:
    """The parser of numbers would take letters for digits, as on a telephone's keys."""
    if any(character.isalpha() for character in phone):
        raise ValueError("must not contain letters: write it like +49 30 1234567; an extension belongs in the notes")
    return phone


def _storable_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """What JSON in PostgreSQL can hold, and not more than is small."""
    try:
        text = json.dumps(metadata, allow_nan=False)
    except ValueError as error:
        raise ValueError("must not contain NaN or infinite numbers") from error
    if len(text) > METADATA_BYTES:
        raise ValueError(f"must not be longer than {METADATA_BYTES} bytes as JSON")
    if any("\x00" in string for string in _strings(metadata)):
        raise ValueError("must not contain the character U+0000")
    return metadata


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [string for pair in value.items() for part in pair for string in _strings(part)]
    if isinstance(value, list):
        return [string for item in value for string in _strings(item)]
    return []


Name = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_storable)]
Notes = Annotated[str, StringConstraints(max_length=2000), AfterValidator(_storable)]
# As it is written; service.booking.guests makes of it what is stored.
Phone = Annotated[str, StringConstraints(min_length=3, max_length=40), AfterValidator(_without_letters)]
Metadata = Annotated[dict[str, JsonValue], Field(max_length=100), AfterValidator(_storable_metadata)]
