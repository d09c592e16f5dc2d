"""The stored form of guests' phone numbers and e-mail addresses."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from service.api.shapes import Email
from service.booking.guests import normalised_phone
from service.booking.text import Phone
from service.errors import Invalid

EMAIL: TypeAdapter[str] = TypeAdapter(Email)
PHONE: TypeAdapter[str] = TypeAdapter(Phone)


def fault(phone: str, country: str | None) -> str:
    """Returns the message for a refused phone number."""
    with pytest.raises(Invalid) as refused:
        normalised_phone(phone, country)
    assert refused.value.code == "VALIDATION_FAILED"
    errors: Any = refused.value.members["errors"]
    assert [error["field"] for error in errors] == ["guestPhone"]
    return str(errors[0]["message"])


@pytest.mark.parametrize(
    ("country", "phone", "stored"),
    [
        ("DE", "030 1234567", "+49301234567"),
        ("DE", "(030) 123-45 67", "+49301234567"),
        ("DE", "0049 30/1234567", "+49301234567"),
        ("US", "(415) 555-2671", "+14155552671"),
        ("US", "1.415.555.2671", "+14155552671"),
        ("AU", "0412 345 678", "+61412345678"),
        ("AU", "(02) 9374 4000", "+61293744000"),
        ("GB", "020 7946 0018", "+442079460018"),
        ("GB", "07400 123456", "+447400123456"),
        ("IT", "06 6982", "+39066982"),
        (None, "+49 (0)30 1234567", "+49301234567"),
        (None, "+44 (0) 20 7946 0018", "+442079460018"),
        ("US", "+61 412 345 678", "+61412345678"),
        # Copied from an address book: direction marks, no-break spaces, non-breaking hyphens.
        (None, "\u202d+49\u00a030\u20111234567\u202c", "+49301234567"),
        ("EG", "\u0660\u0661\u0660\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667", "+201001234567"),
    ],
)
def test_all_notations_of_a_phone_number_have_one_stored_form(country: str | None, phone: str, stored: str) -> None:
    """The stored number can be dialled from any country."""
    assert PHONE.validate_python(phone) == phone
    assert normalised_phone(phone, country) == stored


def test_a_number_of_an_unassigned_range_is_accepted() -> None:
    """The library's lists of assigned ranges become outdated, and a guest with a new number must not be refused."""
    assert normalised_phone("+49 19999 123456", None) == "+4919999123456"


@pytest.mark.parametrize(
    ("country", "phone", "advice"),
    [
        (None, "030 1234567", "country's code"),
        ("XX", "030 1234567", "country's code"),
        (None, "+999 1234567", "country's code"),
        ("US", "+1 415 555 26", "too short"),
        ("US", "555-2671", "area code"),
        ("US", "1 415 555 26711", "too long"),
        (None, "+49 30 1234567890123", "too long"),
        ("DE", "030 1234567 / 030 7654321", "not a phone number"),
        (None, "+49 0 0 30 1234567", "not a phone number"),
        (None, "+1 415 555 2671#12", "notes"),
        (None, "+49 30 1234567,,12", "notes"),
        ("DE", "(-) /", "not a phone number"),
    ],
)
def test_the_refusal_of_a_phone_number_has_advice(country: str | None, phone: str, advice: str) -> None:
    """A stored number that cannot be dialled would show only when the guest is needed."""
    assert advice in fault(phone, country)


@pytest.mark.parametrize("phone", ["call me", "+1 415 555 2671 ext. 12", "1-800-FLOWERS", "tel. 030 1234567", "1", ""])
def test_letters_are_refused(phone: str) -> None:
    """The library would convert words to the digits of a telephone's keys, which is another number."""
    with pytest.raises(ValidationError):
        PHONE.validate_python(phone)


COUNTRIES = st.sampled_from(["DE", "US", "AU", "GB", "IT", "AR", "MX", "BR", "SM", "XX", None])
WRITTEN = st.text() | st.text("+0123456789 ()-./;,#x*", max_size=40) | st.from_regex(r"\A\+[1-9][0-9]{5,15}\Z")


@given(phone=WRITTEN, country=COUNTRIES)
@example(phone="+4900301234567", country=None)
@example(phone="0" * 16, country="IT")
def test_any_text_is_refused_or_has_one_stored_form(phone: str, country: str | None) -> None:
    """No text causes a defect, and a stored number is stored unchanged again, in any country."""
    try:
        stored = normalised_phone(phone, country)
    except Invalid:
        return
    assert stored.startswith("+")
    assert 3 < len(stored) <= 16
    assert stored[1:].isdecimal()
    for reader in (country, "US", None):
        assert normalised_phone(stored, reader) == stored


def test_an_email_address_is_stored_in_its_normal_form() -> None:
    """The domain is in lower case and the text composed, so that equal addresses compare equal; the local part is
    unchanged."""
    assert EMAIL.validate_python("Ada.Example@EXAMPLE.Com") == "Ada.Example@example.com"
    assert EMAIL.validate_python("ju\u0308rgen@example.com") == "j\u00fcrgen@example.com"


@pytest.mark.parametrize(
    "email",
    [
        *("", "ada", "ada@", "ada@example", f"{'a' * 250}@example.com", f"a@{'b' * 300}.com"),
        *("Ada <ada@example.com>", '"Ada" <ada@example.com>', "<ada@example.com>"),
    ],
)
def test_an_invalid_email_address_is_refused(email: str) -> None:
    """This includes addresses that are too long for mail, and those with a display name, which would be dropped."""
    with pytest.raises(ValidationError):
        EMAIL.validate_python(email)
