"""E-mail addresses and phone numbers as callers write or paste them."""

import re
import unicodedata
from typing import Annotated, Final
from urllib.parse import unquote

import email_validator
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from service.faults import FaultCode, fault_error

# No mail is sent from here, so an address need not be deliverable: a clinic's own network has `.local`, tests `.test`.
# The library has no other switch for these names than its list.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

EMAIL_MEANING: Final = (
    "The guest's e-mail address. Its syntax is checked, and not whether mail arrives. A `mailto:` link is read as the "
    "address in it."
)
PHONE_MEANING: Final = (
    "The guest's phone number, kept as E.164, like `+49301234567`. Written without a country's code it is taken for "
    "one of the business's country, if it has one. A `tel:` link is read as the number in it."
)

# No address with what a paste leaves around it, and no number with the parameters of its URI, is longer, and reading
# takes time for each character.
_MAX_PASTED: Final = 500
_LOST_PLUS: Final = re.compile(r"[\u200b-\u206f\ufeff]*(?:tel:)? ", re.IGNORECASE)
_TEL: Final = re.compile(r"tel:(?://)?", re.IGNORECASE)
_MAILTO: Final = re.compile(r"mailto:", re.IGNORECASE)


def _plain(text: str) -> str:
    """Removes format characters, such as zero-width spaces and direction marks, and writes other blanks as spaces."""
    seen = (character for character in text if unicodedata.category(character) != "Cf")
    return "".join(
        " " if character.isspace() or unicodedata.category(character) == "Cc" else character for character in seen
    )


def _address(email: object) -> object:
    """Returns the address of a `mailto:` URI (RFC 6068), and any without what a paste leaves around it.

    Refuses `Ada <ada@example.com>`, which is more than an address.
    """
    if not isinstance(email, str) or len(email) > _MAX_PASTED:
        return email
    if "<" in email:
        raise fault_error(FaultCode.EMAIL_WITH_NAME)
    address = _without_blanks_around(email)
    link = _MAILTO.match(address)
    return _without_blanks_around(unquote(address[link.end() :].partition("?")[0])) if link else address


def _without_blanks_around(email: str) -> str:
    """Removes invisible characters around an address. Within it they are refused, because they hide another one."""
    return email.strip("".join(character for character in set(email) if not _plain(character).strip()))


def _normalised_email(email: str) -> str:
    """Returns an address with its domain in lower case and its text composed. Only the syntax is checked."""
    try:
        valid = email_validator.validate_email(email, check_deliverability=False, globally_deliverable=False)
    except email_validator.EmailNotValidError as error:
        raise fault_error(FaultCode.INVALID_EMAIL, reason=str(error)) from None
    return valid.normalized


def _number(phone: object) -> object:
    """Returns a phone number as plain text, also that of a `tel:` URI (RFC 3966).

    An extension, and a context that is not a prefix like +49, are left in it, so that their letters are refused.
    """
    if not isinstance(phone, str) or len(phone) > _MAX_PASTED:
        return phone
    phone = " ".join(_plain(phone).split())
    scheme = _TEL.match(phone)
    if scheme is None:
        return phone
    number, *parameters = " ".join(_plain(unquote(phone[scheme.end() :])).split()).split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.lower() == "phone-context" and value.startswith("+"):
            number = number if number.startswith("+") else value + number
        elif name.lower() in ("phone-context", "ext"):
            number += f";{parameter}"
    return number


def _without_letters(phone: str) -> str:
    """Refuses letters, which the parser of numbers would take for digits, as on the keys of a telephone."""
    if any(character.isalpha() for character in phone):
        raise fault_error(FaultCode.PHONE_WITH_LETTERS)
    return phone


def _with_its_plus(phone: object) -> object:
    """Refuses a + that was read as a blank: without it the number would be one of the business's country."""
    if isinstance(phone, str) and _LOST_PLUS.match(phone):
        raise fault_error(FaultCode.LOST_PLUS)
    return phone


Email = Annotated[
    str,
    StringConstraints(max_length=254),
    Field(json_schema_extra={"format": "email"}),
    BeforeValidator(_address),
    AfterValidator(_normalised_email),
]
# Plain text of digits and punctuation; service.booking.guests turns it into what is stored.
Phone = Annotated[
    str,
    StringConstraints(min_length=3, max_length=40),
    BeforeValidator(_number),
    AfterValidator(_without_letters),
]
# A parameter of a query.
PhoneOfUrl = Annotated[Phone, BeforeValidator(_with_its_plus)]
