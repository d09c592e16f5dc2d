"""The stored form of guests' phone numbers and e-mail addresses."""

from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from service.booking import contacts
from service.booking.contacts import Email, Phone
from service.booking.guests import normalised_phone
from service.errors import Invalid
from service.faults import FaultCode

EMAIL: TypeAdapter[str] = TypeAdapter(Email)
PHONE: TypeAdapter[str] = TypeAdapter(Phone)


def stored(phone: str, country: str | None = None) -> str:
    """Returns what is stored for a phone number in a request."""
    return normalised_phone(PHONE.validate_python(phone), country)


def refusal(phone: str) -> str:
    """Returns the kind of the one fault of a phone number that the model of a request refuses."""
    with pytest.raises(ValidationError) as refused:
        PHONE.validate_python(phone)
    [error] = refused.value.errors()
    return error["type"]


def fault(phone: str, country: str | None) -> str:
    """Returns the message for a refused phone number."""
    with pytest.raises(Invalid) as refused:
        normalised_phone(phone, country)
    assert refused.value.code == "VALIDATION_FAILED"
    errors: Any = refused.value.members["errors"]
    assert [error["field"] for error in errors] == ["guestPhone"]
    return str(errors[0]["message"])


@pytest.mark.parametrize(
    ("country", "phone", "e164"),
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
        # A toll-free number within the country, where 00 begins no country's code.
        ("JP", "0077 123456", "+810077123456"),
        # Copied from an address book: direction marks, no-break spaces, non-breaking hyphens.
        (None, "\u202d+49\u00a030\u20111234567\u202c", "+49301234567"),
        ("EG", "\u0660\u0661\u0660\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667", "+201001234567"),
    ],
)
def test_all_notations_of_a_phone_number_have_one_stored_form(country: str | None, phone: str, e164: str) -> None:
    """The stored number can be dialled from any country."""
    assert stored(phone, country) == e164


@pytest.mark.parametrize(
    "phone",
    [
        "\ufeff+49 30 1234567\u200b",
        "+49\u200e30\u200f1234\u2060567",
        "+49\u202f30\u2009123\t45\u300067\r\n",
        "\u2066+49 30\u00ad1234567\u2069",
        "+49\u201330\u20141234\u22125\u201067",
        "\uff0b\uff14\uff19 \uff08\uff10\uff09\uff13\uff10 \uff11\uff12\uff13\uff14\uff15\uff16\uff17",
        "+49\u0000301234567",
        "(+49) 30 1234567",
        "\u260e\ufe0f +49 30 1234567",
        "0049 30 1234567",
    ],
)
def test_a_phone_number_is_stored_without_what_a_paste_brings(phone: str) -> None:
    """Address books, spreadsheets and web pages put characters between the digits that their readers never see."""
    assert stored(phone) == stored(phone, "DE") == "+49301234567"


@pytest.mark.parametrize(
    ("phone", "plain"),
    [
        ("tel:+49-30-1234567", "+49-30-1234567"),
        ("TEL:+49(30)1234567", "+49(30)1234567"),
        (" tel: +49 30 1234567", "+49 30 1234567"),
        ("\u202atel:+49301234567\u202c", "+49301234567"),
        ("tel://+49301234567", "+49301234567"),
        ("tel:+49%2030%C2%A01234567", "+49 30 1234567"),
        ("tel:%2B49301234567", "+49301234567"),
        ("tel:+49301234567;isub=1411;npdi", "+49301234567"),
        ("tel:30-1234567;phone-context=+49", "+4930-1234567"),
        ("tel:1234567;Phone-Context=+49-30", "+49-301234567"),
        ("tel:+49301234567;phone-context=+1", "+49301234567"),
        ("tel:030-1234567", "030-1234567"),
    ],
)
def test_a_link_to_a_phone_number_is_read_as_the_number(phone: str, plain: str) -> None:
    """The link of a web page is copied as a URI, whose parameters do not belong to the number."""
    assert PHONE.validate_python(phone) == plain
    assert stored(phone, "DE") == "+49301234567"


@pytest.mark.parametrize(
    ("phone", "code"),
    [
        ("tel:", "string_too_short"),
        ("tel:+49301234567;a" + ";a" * 250, "string_too_long"),
        ("tel:+49301234567;ext=12", FaultCode.PHONE_WITH_LETTERS),
        ("tel:7042;phone-context=example.com", FaultCode.PHONE_WITH_LETTERS),
        ("tel:+49301234567;phone-context=a.b", FaultCode.PHONE_WITH_LETTERS),
    ],
)
def test_a_link_to_more_than_a_number_is_refused(phone: str, code: str) -> None:
    """E.164 has no place for an extension, nor for a number within a company."""
    assert refusal(phone) == code


@pytest.mark.parametrize(
    ("phone", "e164"),
    [
        # The zero is dialled within the country only, which may have none.
        ("+34 (0) 912 345 678", "+34912345678"),
        ("+420 (0)224 123 456", "+420224123456"),
        ("+48(0)22 123 45 67", "+48221234567"),
        ("+1 (0) 415 555 2671", "+14155552671"),
        # An unassigned range.
        ("+34 (0) 412 345 678", "+34412345678"),
        # The zero of an Italian city is part of its number, that of a mobile was abolished.
        ("+39 (0)6 69821234", "+390669821234"),
        # In Bergamo, and without the zero a mobile.
        ("+39 (0) 035 4981741", "+390354981741"),
        ("+39 (0)35 4981741", "+390354981741"),
        ("+39 (0)347 1234567", "+393471234567"),
        ("+39 0347 1234567", "+393471234567"),
        ("+52 1 55 1234 5678", "+525512345678"),
        ("+52 (1) 55 1234 5678", "+525512345678"),
        ("+52 044 55 1234 5678", "+525512345678"),
        ("+52 (0) 1 55 1234 5678", "+525512345678"),
        ("+52 55 1234 5678", "+525512345678"),
        ("+57 1 2345678", "+576012345678"),
        ("+57 (03) 310 1234567", "+573101234567"),
        ("+36 (06) 1 234 5678", "+3612345678"),
        ("+370 8 612 34567", "+37061234567"),
        ("+54 11 15-2345-6789", "+5491123456789"),
    ],
)
def test_prefixes_that_are_no_longer_dialled_are_removed(phone: str, e164: str) -> None:
    """Address books keep numbers as they were written decades ago."""
    assert stored(phone) == e164


@pytest.mark.parametrize(
    ("country", "phone", "e164"),
    [
        ("MX", "044 55 1234 5678", "+525512345678"),
        ("MX", "01 55 1234 5678", "+525512345678"),
        ("IT", "0347 1234567", "+393471234567"),
        ("UA", "8 044 123 45 67", "+380441234567"),
        ("RU", "8 (495) 123-45-67", "+74951234567"),
        ("CO", "(1) 234 5678", "+576012345678"),
    ],
)
def test_prefixes_that_are_no_longer_dialled_are_removed_within_the_country(
    country: str, phone: str, e164: str
) -> None:
    """They are known by the country of the business."""
    assert stored(phone, country) == e164


@pytest.mark.parametrize("phone", ["+52 2 55 1234 5678", "+39 0 06 1234567890", "+52 1 00 0000 0000"])
def test_other_digits_too_many_are_never_removed(phone: str) -> None:
    """A digit is removed only where the rest is a number in use: any other removal would call a different person."""
    with pytest.raises(Invalid):
        stored(phone)


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


@pytest.mark.parametrize("phone", ["call me", "+1 415 555 2671 ext. 12", "1-800-FLOWERS", "tel. 030 1234567"])
def test_letters_are_refused(phone: str) -> None:
    """The library would convert words to the digits of a telephone's keys, which is another number."""
    assert refusal(phone) == FaultCode.PHONE_WITH_LETTERS


@pytest.mark.parametrize("phone", ["1", ""])
def test_a_few_characters_are_no_number(phone: str) -> None:
    """The shortest numbers have three digits."""
    assert refusal(phone) == "string_too_short"


COUNTRIES = st.sampled_from(["DE", "US", "AU", "GB", "IT", "AR", "MX", "BR", "SM", "XX", None])
WRITTEN = (
    st.text()
    | st.text("+0123456789 ()-./;,#x*", max_size=40)
    | st.from_regex(r"\A\+[1-9][0-9]{5,15}\Z")
    | st.from_regex(r"\A\+(39|52|57|380|48) ?(\(0\))?[0189]?[0-9]{8,11}\Z")
    | st.from_regex(r"\Atel:\+?[0-9%-]{3,15}(;(ext|isub|phone-context)=\+?[0-9a-z]{1,3}){0,2}\Z")
)
INVISIBLE = st.sampled_from("\u200b\u200d\u200e\u202a\u202c\u2060\u2066\u00ad\ufeff\u061c")
BLANK = st.sampled_from(" \u00a0\u2009\u202f\u3000\t\n\u2028")


@given(phone=WRITTEN, country=COUNTRIES)
@example(phone="+4900301234567", country=None)
@example(phone="0" * 16, country="IT")
@example(phone="+52(0)15512345678", country=None)
def test_any_text_is_refused_or_has_one_stored_form(phone: str, country: str | None) -> None:
    """No text causes a defect, and a stored number is stored unchanged again, in any country."""
    try:
        e164 = stored(phone, country)
    except (Invalid, ValidationError):
        return
    assert e164.startswith("+")
    assert 3 < len(e164) <= 16
    assert e164[1:].isdecimal()
    assert e164.isascii()
    for reader in (country, "US", None):
        assert stored(e164, reader) == e164


@given(st.lists(st.tuples(st.lists(INVISIBLE | BLANK, max_size=3), st.sampled_from("-/. ")), min_size=9, max_size=9))
def test_blanks_and_invisible_characters_never_change_a_number(gaps: list[tuple[list[str], str]]) -> None:
    """Wherever they are, beside the punctuation between the digits."""
    written = "+49 (0)" + "".join(
        digit + "".join(gap) + mark for digit, (gap, mark) in zip("301234567", gaps, strict=True)
    )
    assert stored(written) == "+49301234567"


def test_an_email_address_is_stored_in_its_normal_form() -> None:
    """The domain is in lower case and the text composed, so that equal addresses compare equal; the local part is
    unchanged."""
    assert EMAIL.validate_python("Ada.Example@EXAMPLE.Com") == "Ada.Example@example.com"
    assert EMAIL.validate_python("ju\u0308rgen@example.com") == "j\u00fcrgen@example.com"


@pytest.mark.parametrize(
    "email",
    [
        *("ward3@klinik.local", "kim@host.test", "a@intranet", "root@localhost", "a@b.invalid", "x@y.home.arpa"),
        *("o'brien+tag@example.com", "a@example", "\u7528\u6237@\u4f8b\u5b50.\u6d4b\u8bd5"),
    ],
)
def test_an_email_address_needs_a_correct_syntax_only(email: str) -> None:
    """No mail is sent from here: an address of an internal network is as good as any other."""
    assert EMAIL.validate_python(email) == email


@pytest.mark.parametrize(
    "pasted", [" ada@example.com\n", "\u00a0ada@example.com\t", "\u202aada@example.com\u202c", "\ufeffada@example.com"]
)
def test_an_email_address_is_stored_without_what_a_paste_brings(pasted: str) -> None:
    """Blanks and invisible characters around it do not make a different guest."""
    assert EMAIL.validate_python(pasted) == "ada@example.com"


def test_a_text_that_is_too_long_for_an_address_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of different characters would each be looked up."""
    read = Mock()
    monkeypatch.setattr(contacts, "_plain", read)
    with pytest.raises(ValidationError, match="at most 254"):
        EMAIL.validate_python("".join(map(chr, range(0x4E00, 0x9000))) + "@example.com")
    assert not read.called


@given(st.text() | st.text('@.ab<>"\u200b\u202e\u0301 -', max_size=12))
def test_any_text_is_refused_or_is_an_email_address_in_its_normal_form(text: str) -> None:
    """No text causes a defect, and a stored address is stored unchanged again."""
    try:
        email = EMAIL.validate_python(text)
    except ValidationError:
        return
    assert EMAIL.validate_python(email) == email
    assert "@" in email
    assert email.isprintable()


@pytest.mark.parametrize(
    "email",
    [
        *("", "ada", "ada@", "@example.com", "ada@@example.com", "ada @example.com", "ada@exa mple.com", "ada@.com"),
        *("a\u200bda@example.com", "ada@exam\u202eple.com", "ada\r\n@example.com", "ada@example.com, kim@example.com"),
        *(f"{'a' * 250}@example.com", f"a@{'b' * 300}.com"),
        *("Ada <ada@example.com>", '"Ada" <ada@example.com>', "<ada@example.com>"),
    ],
)
def test_an_invalid_email_address_is_refused(email: str) -> None:
    """This includes addresses that are too long for mail, and those with a display name, which would be dropped."""
    with pytest.raises(ValidationError):
        EMAIL.validate_python(email)
