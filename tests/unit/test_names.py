"""Names of people and things, as they are read and refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from service.booking.text import FirstName, LastName, Name
from service.faults import FaultCode

NAME: TypeAdapter[str] = TypeAdapter(Name)
FIRST: TypeAdapter[str] = TypeAdapter(FirstName)
LAST: TypeAdapter[str] = TypeAdapter(LastName)

BLANKS = (
    *(" ", "   ", "\t", "\n", "\r\n", "\u0085", "\u00a0", "\u1680", "\u2003", "\u2009", "\u202f", "\u3000", "\u2028"),
    *("\u200b", "\u2060", "\ufeff", "\u00ad", "\u180e", "\u115f", "\u1160", "\u3164", "\uffa0", "\u2800", "\u001b"),
)
INVISIBLE = (
    *("\u200c", "\u200d", "\u200e", "\u200f", "\u061c", "\u202a\u202c", "\u2066\u2069", "\u034f", "\ufe0f", "\u17b4"),
    *("\u2061", "\u2064", "\u2065", "\u0301", "\u0e31", "\U000e0001", "\U000e0020", "\U000e0100", "\U000e0fff"),
    *("\ufff0", "\U0001d173", "\u200d \u200d", "\u200b\u200e\ufeff"),
)
NAMES = (
    *("Ada", "\u674e", "\u00d6", "?", "5", "\u00bf", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f980"),
    # Joiners, direction marks, tags and selectors that belong to the spelling, also at the end.
    *("\U0001f469\u200d\U0001f467", "\u0d28\u0d4d\u200d", "\u2764\ufe0f", "Yahoo!\u200f", "\u0e19\u0e31\u0e19"),
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    # A private and an unassigned character: a rare ideograph may be either.
    *("\ue000", "\U000323af"),
)


@pytest.mark.parametrize("name", ["", *BLANKS, *INVISIBLE])
def test_a_name_without_a_visible_character_is_refused(name: str) -> None:
    """Lists and calendars would show an empty place. However many blanks it has, it is not called too short."""
    for kind in (NAME, FIRST):
        with pytest.raises(ValidationError) as refused:
            kind.validate_python(name)
        assert [error["type"] for error in refused.value.errors()] == [FaultCode.INVISIBLE]


@pytest.mark.parametrize("name", NAMES)
def test_the_spelling_of_a_name_is_kept(name: str) -> None:
    """A joiner, a mark or an emoji belongs to the name."""
    for kind in (NAME, FIRST, LAST):
        assert kind.validate_python(name) == name


@pytest.mark.parametrize("blank", BLANKS)
def test_blanks_around_a_name_are_removed(blank: str) -> None:
    """Within a name they stay."""
    assert NAME.validate_python(f"{blank}Ada{blank}Example{blank}{blank}") == f"Ada{blank}Example"


@pytest.mark.parametrize("name", ["", *BLANKS, *INVISIBLE])
def test_a_last_name_may_be_invisible(name: str) -> None:
    """It counts as left out: a form sends all of its fields."""
    assert LAST.validate_python(name) == ""


def test_the_length_of_a_name_is_that_without_the_blanks_around_it() -> None:
    """A form that pads its fields does not make a name too long."""
    assert NAME.validate_python(" " * 300 + "n" * 200 + " " * 300) == "n" * 200
    assert FIRST.validate_python(" " * 300 + "n" * 99) == "n" * 99
    for kind, length in ((NAME, 201), (FIRST, 100), (LAST, 100)):
        with pytest.raises(ValidationError):
            kind.validate_python("n" * length)


@pytest.mark.parametrize("name", ["\u0000", "Ada\u0000", "\u0000Ada", None, 5])
def test_a_name_that_cannot_be_stored_is_refused(name: object) -> None:
    """U+0000 is the one character that PostgreSQL does not store."""
    for kind in (NAME, FIRST, LAST):
        with pytest.raises(ValidationError):
            kind.validate_python(name)


@given(st.text() | st.text("\u200b\u200d\u202e \ufeff\u0301Ab", max_size=6))
def test_any_name_is_refused_or_kept_the_second_time(text: str) -> None:
    """What was stored can be sent again, and stays as it is."""
    try:
        name = NAME.validate_python(text)
    except ValidationError:
        return
    assert NAME.validate_python(name) == name
    assert name in text
    assert name.strip() == name
