"""How a guest can be reached: phone numbers are stored as E.164, whichever way they were written."""

import time
from collections import OrderedDict
from typing import Any, Final

import phonenumbers

from service.database.connections import Database
from service.errors import Invalid

# A business hardly ever moves to another country. Not for long, because another process may have changed it.
REMEMBERED_SECONDS: Final = 60.0
MAX_REMEMBERED: Final = 10_000

# By their ISO 3166 codes.
COUNTRIES: Final = frozenset(phonenumbers.SUPPORTED_REGIONS)

# The country's code included, without the +.
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
    """A phone number as E.164. One without its country's code is of `country`, an ISO 3166 code.

    What is possible is accepted: the lists of the numbers that are in use are out of date before they are
    shipped, and would refuse real ones. Raises `Invalid`.
    """
    try:
        number = phonenumbers.parse(phone, country)
    except phonenumbers.NumberParseException:
        raise _invalid(_NO_NUMBER) from None
    if number.extension is not None:
        raise _invalid("must be without an extension, which E.164 has no place for: write that into the notes")
    verdict = phonenumbers.is_possible_number_with_reason(number)
    if verdict != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise _invalid(_FAULTS.get(verdict, _NO_NUMBER))
    written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if len(written) > 1 + _MAX_DIGITS:
        raise _invalid(_TOO_LONG)
    # With too many zeros before it, it would be another number when it is read again.
    if phonenumbers.parse(written) != number:
        raise _invalid(_NO_NUMBER)
    return written


def _invalid(message: str) -> Invalid:
    return Invalid.at("guestPhone", message)


class Guests:
    """Writes guests' data as it is stored. Remembers the countries of businesses for a while."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # By business: its country, and until when that is believed.
        self._countries: OrderedDict[str, tuple[str | None, float]] = OrderedDict()

    async def normalise(self, business_id: str, request: dict[str, object]) -> dict[str, object]:
        """The request with its `guest_phone`, if it has one, as E.164. Raises `Invalid` and `Unavailable`."""
        phone = request.get("guest_phone")
        if not isinstance(phone, str):
            return request
        # With its country's code it is the same wherever it is dialled.
        country = None if phone.startswith("+") else await self._country_of(business_id)
        return {**request, "guest_phone": normalised_phone(phone, country)}

    async def normalise_or_tell(self, business_id: str, request: dict[str, object]) -> dict[str, object]:
        """The same for verbs that may know the attempt. Raises `Unavailable`.

        A replay gets its first result, whatever is wrong with its guest by now: so a fault goes along as `guest_fault`,
        for the verb to answer with if this is no replay.
        """
        try:
            return await self.normalise(business_id, request)
        except Invalid as invalid:
            errors: Any = invalid.members["errors"]
            fault = {"field": "guest_phone", "message": errors[0]["message"]}
            return {**request, "guest_phone": None, "guest_fault": fault}

    async def _country_of(self, business_id: str) -> str | None:
        """The country of a business, or None where there is no such business."""
        country, believed_until = self._countries.get(business_id, (None, 0.0))
        if time.monotonic() < believed_until:
            return country
        rows = await self._database.fetch("business", business_id)
        country = rows[0][0]["country"] if rows else None
        self._countries[business_id] = country, time.monotonic() + REMEMBERED_SECONDS
        self._countries.move_to_end(business_id)
        if len(self._countries) > MAX_REMEMBERED:
            self._countries.popitem(last=False)
        return country
