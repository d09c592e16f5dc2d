"""Guests' phone numbers, which are stored as E.164 in whatever notation a request has them."""

from dataclasses import replace
from functools import partial
from typing import Any, Final

import phonenumbers
from pydantic_core import from_json

from service.booking.requests import Change, Guest
from service.database.connections import Database
from service.errors import Invalid
from service.single_flight import SingleFlight

PHONE_MEANING: Final = (
    "The guest's phone number, kept as E.164, like `+49301234567`. Written without a country's code it is taken for "
    "one of the business's country, if it has one."
)

# A business hardly ever moves to another country, but another process may have changed it.
REMEMBERED_SECONDS: Final = 60.0
MAX_REMEMBERED: Final = 10_000

# ISO 3166 codes.
COUNTRIES: Final = frozenset(phonenumbers.SUPPORTED_REGIONS)

# Of E.164, with the country's code and without the +.
_MAX_DIGITS: Final = 15

_WRITE: Final = "write it with the country's code, like +49 30 1234567"
_NO_NUMBER: Final = "is not a phone number: " + _WRITE
_TOO_LONG: Final = "is too long for a phone number: " + _WRITE
_FAULTS: Final = {
    phonenumbers.ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "lacks its area code: " + _WRITE,
    phonenumbers.ValidationResult.TOO_SHORT: "is too short for a phone number: " + _WRITE,
    phonenumbers.ValidationResult.TOO_LONG: _TOO_LONG,
}


def normalised_phone(phone: str, country: str | None) -> str:
    """Returns a phone number as E.164. `country`, an ISO 3166 code, is that of a number without its country's code.

    Any possible number is accepted: the lists of numbers in use are out of date when they are shipped, and would
    refuse real numbers. Raises `Invalid`.
    """
    try:
        number = phonenumbers.parse(phone, country)
    except phonenumbers.NumberParseException:
        raise Invalid.at("guestPhone", _NO_NUMBER) from None
    if number.extension is not None:
        raise Invalid.at(
            "guestPhone", "must be without an extension, which E.164 has no place for: write that into the notes"
        )
    verdict = phonenumbers.is_possible_number_with_reason(number)
    if verdict != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise Invalid.at("guestPhone", _FAULTS.get(verdict, _NO_NUMBER))
    written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if len(written) > 1 + _MAX_DIGITS:
        raise Invalid.at("guestPhone", _TOO_LONG)
    # A number with too many leading zeros reads as a different number.
    if phonenumbers.parse(written) != number:
        raise Invalid.at("guestPhone", _NO_NUMBER)
    return written


class Guests:
    """Normalises the guests' data of requests. Keeps the countries of businesses for a while."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._countries = SingleFlight[str, str | None](keep_seconds=REMEMBERED_SECONDS, max_kept=MAX_REMEMBERED)

    async def stored_phone(self, business_id: str, guest: Guest) -> dict[str, Any]:
        """Returns the members of a request that replace its phone number as it was sent. Raises `Unavailable`.

        A replay returns its first result, even if its guest's data would be invalid now. So a fault is sent along as
        `guest_fault`, and the verb answers with it unless the request is a replay.
        """
        if guest.guest_phone is None:
            return {}
        try:
            return {"guest_phone": await self.normalised(business_id, guest.guest_phone)}
        except Invalid as invalid:
            errors: Any = invalid.members["errors"]
            fault = {"field": "guest_phone", "message": errors[0]["message"]}
            return {"guest_phone": None, "guest_fault": fault}

    async def normalise_change(self, business_id: str, request: Change) -> Change:
        """Returns a change with the phone number that it sets as E.164. Raises `Invalid` and `Unavailable`."""
        phone = request.changes.get("guest_phone")
        if phone is None:
            return request
        normalised = await self.normalised(business_id, phone)
        return replace(request, changes={**request.changes, "guest_phone": normalised})

    async def normalised(self, business_id: str, phone: str) -> str:
        """Returns a phone number of a business as E.164. Raises `Invalid` and `Unavailable`."""
        country = None
        # A number with its country's code does not depend on the business.
        if not phone.startswith("+"):
            country = await self._countries.run(business_id, partial(self._find_country, business_id))
        return normalised_phone(phone, country)

    async def _find_country(self, business_id: str) -> str | None:
        rows = await self._database.fetch("business", business_id)
        return from_json(rows[0][0])["country"] if rows else None
