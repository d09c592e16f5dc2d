"""The bound on metadata: its length as answers have it, in which numbers have all of their digits."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from service.booking.text import METADATA_BYTES, CatalogMetadata, Metadata, _unwritten_digits

APPOINTMENT: TypeAdapter[Any] = TypeAdapter(Metadata)
CATALOG: TypeAdapter[Any] = TypeAdapter(CatalogMetadata)


@pytest.mark.parametrize("kind", [APPOINTMENT, CATALOG], ids=["appointment", "catalog"])
@pytest.mark.parametrize("number", ["1e308", "-1.5e+300", "1e-308", "5e-324"])
def test_numbers_are_bounded_as_they_are_answered(kind: TypeAdapter[Any], number: str) -> None:
    """Each of these has more than 300 digits, so 3 KB of them would be answered as 155 KB."""
    few, many = (b'{"a": [%s]}' % b",".join([number.encode()] * count) for count in (12, 14))
    kind.validate_json(few)
    with pytest.raises(ValidationError, match="must not be longer than"):
        kind.validate_json(many)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=50))
def test_the_digits_are_counted_exactly(numbers: list[float]) -> None:
    """The text in the database has no exponent. What looks like a number in a string is none."""
    text = json.dumps([*numbers, "1e-300"])
    written = [*(format(Decimal(repr(number)), "f") for number in numbers), '"1e-300"']
    assert len(text) + _unwritten_digits(text) == len("[" + ", ".join(written) + "]")


def test_the_bound_is_the_last_byte() -> None:
    """For text that has numbers with exponents as for any other."""
    for number in ("1e-05", "0"):
        short = json.dumps({"a": float(number), "b": ""}, separators=(",", ":"))
        room = METADATA_BYTES - len(short) - _unwritten_digits(short)
        APPOINTMENT.validate_python({"a": float(number), "b": "x" * room})
        with pytest.raises(ValidationError):
            APPOINTMENT.validate_python({"a": float(number), "b": "x" * (room + 1)})


@pytest.mark.parametrize("kind", [APPOINTMENT, CATALOG], ids=["appointment", "catalog"])
@pytest.mark.parametrize(
    ("largest", "too_large"),
    [
        ({"a": "\u044f" * 2044}, {"a": "\u044f" * 2045}),
        ({"a": "\U0001f600" * 1022}, {"a": "\U0001f600" * 1023}),
        ({"a": [1] * 2044}, {"a": [1] * 2045}),
    ],
    ids=["letters", "emoji", "numbers"],
)
def test_text_and_lists_are_bounded_as_they_are_answered(kind: TypeAdapter[Any], largest: Any, too_large: Any) -> None:
    """In UTF-8 and without blanks, as JavaScript writes JSON too."""
    assert METADATA_BYTES - 8 < len(kind.dump_json(largest)) <= METADATA_BYTES < len(kind.dump_json(too_large))
    assert kind.validate_python(largest) == largest
    with pytest.raises(ValidationError, match="must not be longer than"):
        kind.validate_python(too_large)


@given(st.text(alphabet="\\\0u0", max_size=12), st.booleans())
def test_a_nul_is_told_from_its_name(text: str, is_key: bool) -> None:
    """PostgreSQL stores no U+0000, but a backslash and `u0000` behind it, as a path of Windows may have them."""
    metadata = {text: ""} if is_key else {"a": [{"b": text}]}
    if "\0" in text:
        with pytest.raises(ValidationError, match="must not contain the character"):
            APPOINTMENT.validate_python(metadata)
    else:
        APPOINTMENT.validate_python(metadata)


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "C:\\u00002"])
def test_the_name_of_a_nul_is_kept(text: str) -> None:
    """The cases that are rare at random."""
    assert APPOINTMENT.validate_python({text: text}) == {text: text}
