"""The text that callers may write: ids, keys, names and free text, with their bounds and faults."""

import json
import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Final, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    JsonValue,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, core_schema

from service.faults import FaultCode, fault_error
from service.naming import ID_PATTERN

METADATA_BYTES = 4096
METADATA_MEANING: Final = (
    "Your own system's data, 4096 bytes as JSON at most, stored as it is sent. The public can send it too. Numbers are "
    "answered, and counted, with all of their digits."
)
DESCRIPTION_BYTES = 4096
# The depth of metadata in the catalog. Within an answer it is nested deeper, and the JSON parser stops at 200 levels.
METADATA_LEVELS = 100

# Letters and a symbol without a shape: the Hangul fillers, the empty Braille pattern, the null notehead.
_FILLERS: Final = "\u115f\u1160\u3164\uffa0\u2800\U0001d159"
# Trimmed from names: white space and controls (U+0000 is refused), zero-width spaces, soft hyphens. Joiners, direction
# marks and variation selectors stay, because words and emoji may begin or end with them.
_BLANKS: Final = (
    "".join(map(chr, (*range(1, 0x21), *range(0x7F, 0xA1), *range(0x2000, 0x200C))))
    + "\u1680\u180e\u2028\u2029\u202f\u205f\u3000\u00ad\u2060\ufeff"
    + _FILLERS
)
# Controls, format characters, separators and marks. Unassigned characters are visible: Unicode adds letters each year,
# which Python learns later; some of its ranges are reserved for invisible ones.
_UNSEEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp", "Mn", "Mc", "Me"})
_UNSEEN: Final = frozenset(_FILLERS + "".join(map(chr, (0x2065, *range(0xFFF0, 0xFFF9), *range(0xE0000, 0xE1000)))))

# U+0000 as JSON writes it. Behind an escaped backslash, `u0000` is text.
_WRITTEN_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True, slots=True)
class OneFault:
    """In an `Annotated`: one fault in the place of those that the parser finds in what stands before it."""

    code: FaultCode

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(
            handler(source), custom_error_type=self.code.value, custom_error_message=self.code.message
        )


def if_any(description: str) -> Any:
    """Declares a member that an answer has only where it is not None."""
    return Field(default=None, exclude_if=lambda value: value is None, description=description)


# An id in an answer, as the database writes it.
WrittenUuid = Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]

Identifier = Annotated[str, StringConstraints(pattern=f"^{ID_PATTERN}$"), OneFault(FaultCode.INVALID_ID)]
BusinessId = Annotated[Identifier, Field(description="The business, by its id in the catalog.")]
# Slugs are identifiers too.
NamedBusiness = Annotated[Identifier, Field(description="The business, by its id in the catalog or by its slug.")]
ServiceId = Annotated[Identifier, Field(description="The service, by its id within the business.")]
ResourceId = Annotated[Identifier, Field(description="The resource, by its id within the business.")]

# Printable ASCII, because it also comes as a header.
IdempotencyKey = Annotated[str, StringConstraints(pattern=r"^[ -~]{1,255}$"), OneFault(FaultCode.NOT_PRINTABLE_ASCII)]


def _storable(text: str) -> str:
    """Refuses the one character that PostgreSQL does not store."""
    if "\x00" in text:
        raise fault_error(FaultCode.NUL_CHARACTER)
    return text


def _trimmed(text: object) -> object:
    return text.strip(_BLANKS) if isinstance(text, str) else text


def is_visible(text: str) -> bool:
    """Returns whether a text has a character that readers see. A mark needs a letter to stand on."""
    return any(
        unicodedata.category(character) not in _UNSEEN_CATEGORIES and character not in _UNSEEN for character in text
    )


def _visible(name: str) -> str:
    """Refuses a name of blanks, joiners and direction marks only; within a name, they may belong to its spelling."""
    if not is_visible(name):
        raise fault_error(FaultCode.INVISIBLE)
    return name


def _visible_or_empty(name: str) -> str:
    """Returns the empty text for a name that readers do not see."""
    return name if is_visible(name) else ""


def _storable_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Refuses what JSON in PostgreSQL can't hold, and what is too large, as it is sent or as it is answered."""
    try:
        text = json.dumps(metadata, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except ValueError as error:
        raise fault_error(FaultCode.NOT_FINITE) from error
    size = len(text.encode())
    unwritten = _unwritten_digits(text) if size <= METADATA_BYTES and ("e+" in text or "e-" in text) else 0
    if size + unwritten > METADATA_BYTES:
        raise fault_error(FaultCode.TOO_MANY_BYTES, max=METADATA_BYTES)
    if _WRITTEN_NUL.search(text):
        raise fault_error(FaultCode.NUL_CHARACTER)
    return metadata


def _unwritten_digits(text: str) -> int:
    """Returns how much longer numbers become in JSON of PostgreSQL, which has no exponents."""
    numbers: list[str] = []
    json.loads(text, parse_float=numbers.append)
    return sum(len(format(Decimal(number), "f")) - len(number) for number in numbers)


def _of_bounded_size(text: str) -> str:
    if len(text.encode()) > DESCRIPTION_BYTES:
        raise fault_error(FaultCode.TOO_MANY_BYTES, max=DESCRIPTION_BYTES)
    return text


def _in_full(metadata: dict[str, Any]) -> dict[str, Any]:
    """Writes large numbers as PostgreSQL returns them: 1e21 as an integer. So what was read equals what was put.

    Refuses what is nested too deeply to be read within a list.
    """
    if _levels(metadata) > METADATA_LEVELS:
        raise fault_error(FaultCode.TOO_DEEP, max=METADATA_LEVELS)
    return cast(dict[str, Any], json.loads(json.dumps(metadata), parse_float=_number))


def _number(text: str) -> int | float:
    # PostgreSQL has no negative zero.
    return int(Decimal(text)) if "e+" in text else float(text) or 0.0


def _levels(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max(map(_levels, parts), default=0) + isinstance(value, (dict, list))


_trim, _store = BeforeValidator(_trimmed), AfterValidator(_storable)
# A name of blanks is not too short for its reader: it is refused as invisible, and so is an empty one.
_see = Field(json_schema_extra={"minLength": 1})
Name = Annotated[str, StringConstraints(max_length=200), _see, _trim, _store, AfterValidator(_visible)]
# Together, and with a blank between them, they fit into a `Name`.
FirstName = Annotated[str, StringConstraints(max_length=99), _see, _trim, _store, AfterValidator(_visible)]
LastName = Annotated[str, StringConstraints(max_length=99), _trim, _store, AfterValidator(_visible_or_empty)]
Notes = Annotated[str, StringConstraints(max_length=2000), _store]
# The caller's own id of something else.
ForeignId = Annotated[str, StringConstraints(max_length=200), _store]
Metadata = Annotated[dict[str, JsonValue], Field(max_length=100), AfterValidator(_storable_metadata)]

# The types of catalog entries.
Description = Annotated[
    str, StringConstraints(max_length=DESCRIPTION_BYTES), AfterValidator(_storable), AfterValidator(_of_bounded_size)
]
CatalogMetadata = Annotated[
    dict[str, JsonValue], Field(max_length=100), AfterValidator(_in_full), AfterValidator(_storable_metadata)
]
