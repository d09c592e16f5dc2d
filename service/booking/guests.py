"""Guests' phone numbers, which are stored as E.164 in whatever notation a request has them."""

import re
from dataclasses import replace
from functools import partial
from typing import Any, Final

import phonenumbers

from service.booking.businesses import found
from service.booking.catalog_types import Business
from service.booking.requests import Change, Guest
from service.database.connections import Database
from service.errors import Invalid, Refused
from service.faults import FaultCode
from service.single_flight import SingleFlight

# A change of the country is forgotten at once, but without Redis another process may have made it.
REMEMBERED_SECONDS: Final = 60.0
MAX_REMEMBERED: Final = 10_000

# The most digits of a number in E.164, with the country's code and without the +.
_MAX_DIGITS: Final = 15

_FAULTS: Final = {
    phonenumbers.ValidationResult.IS_POSSIBLE_LOCAL_ONLY: FaultCode.PHONE_WITHOUT_AREA_CODE,
    phonenumbers.ValidationResult.TOO_SHORT: FaultCode.PHONE_TOO_SHORT,
    phonenumbers.ValidationResult.TOO_LONG: FaultCode.PHONE_TOO_LONG,
}


# The trunk prefix, as in +49 (0)30: a number of most countries is dialled without it from abroad.
_TRUNK_ZERO: Final = re.compile("[(\uff08] ?[0\uff10] ?[)\uff09]")
# Prefixes that were abolished, by the country's code, in the national number: of Mexican mobiles (2019), of Italian
# mobiles (2001), of Ukrainian long-distance calls (2009), and of Colombian cities, which have longer ones since 2021.
_OUTDATED: Final = {
    52: (re.compile(r"(?:1|01|04[45])(\d{10})"), r"\1"),
    39: (re.compile(r"0(3\d{8,9})"), r"\1"),
    380: (re.compile(r"80(\d{9})"), r"\1"),
    57: (re.compile(r"([1-8]\d{7})"), r"60\1"),
}


def normalised_phone(phone: str, country: str | None) -> str:
    """Returns a phone number as E.164. `country`, an ISO 3166 code, is that of a number without its country's code.

    Any possible number is accepted: the lists of numbers in use are out of date when they are shipped, and would
    refuse real numbers. Raises `Invalid`.
    """
    number = _parsed(phone, country)
    # Otherwise the (0) would be part of a number whose country has no trunk prefix.
    international = _TRUNK_ZERO.sub("", phone)
    without_zero = _parsed(international, country) if international != phone else number
    for reading in (number, without_zero, _renumbered(without_zero)):
        if phonenumbers.is_valid_number(reading):
            return _written(reading)
    return _written(without_zero)


def _parsed(phone: str, country: str | None) -> phonenumbers.PhoneNumber:
    """Parses a number without an extension. Raises `Invalid`."""
    # Without a country, only a number with its country's code can begin so.
    if country is None and phone.startswith("00"):
        phone = "+" + phone[2:]
    try:
        number = phonenumbers.parse(phone, country)
    except phonenumbers.NumberParseException:
        raise Invalid.at("guestPhone", FaultCode.INVALID_PHONE) from None
    if number.extension is not None:
        # E.164 has no place for it.
        raise Invalid.at("guestPhone", FaultCode.PHONE_WITH_EXTENSION)
    return number


def _renumbered(number: phonenumbers.PhoneNumber) -> phonenumbers.PhoneNumber:
    """Returns a number without a prefix that its country has abolished, as it is dialled today."""
    if number.country_code not in _OUTDATED:
        return number
    former, today = _OUTDATED[number.country_code]
    found = former.fullmatch(phonenumbers.national_significant_number(number))
    return phonenumbers.parse(f"+{number.country_code}{found.expand(today)}") if found else number


def _written(number: phonenumbers.PhoneNumber) -> str:
    """Writes a possible number as E.164. Raises `Invalid`."""
    verdict = phonenumbers.is_possible_number_with_reason(number)
    if verdict != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise Invalid.at("guestPhone", _FAULTS.get(verdict, FaultCode.INVALID_PHONE))
    written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if len(written) > 1 + _MAX_DIGITS:
        raise Invalid.at("guestPhone", FaultCode.PHONE_TOO_LONG)
    # A number with too many leading zeros reads as a different number.
    if phonenumbers.parse(written) != number:
        raise Invalid.at("guestPhone", FaultCode.INVALID_PHONE)
    return written


class Guests:
    """Normalises the guests' data of requests. Keeps the countries of businesses for a while."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._countries = SingleFlight[str, str | None](keep_seconds=REMEMBERED_SECONDS, max_kept=MAX_REMEMBERED)

    def forget(self, business_id: str | None) -> None:
        """Drops the country of a business, whose settings may have changed; without one, of all."""
        self._countries.forget(business_id)

    async def stored_phone(self, business_id: str, guest: Guest) -> dict[str, Any]:
        """Returns the members of a request that replace its phone number as it was sent. Raises `Unavailable`.

        A replay returns its first result, even if its guest's data would be invalid now. So a fault is sent along as
        `guest_fault`, and the verb answers with it unless the request is a replay.
        """
        if guest.guest_phone is None:
            return {}
        try:
            return {"guest_phone": await self.normalised(business_id, guest.guest_phone)}
        except Refused:
            return {"guest_phone": None}  # the verb refuses an unknown business itself
        except Invalid as invalid:
            [fault] = invalid.faults
            return {"guest_phone": None, "guest_fault": fault | {"field": "guest_phone"}}

    async def normalise_change(self, business_id: str, request: Change) -> Change:
        """Returns a change with the phone number that it sets as E.164. Raises as `normalised`."""
        phone = request.changes.get("guest_phone")
        if phone is None:
            return request
        normalised = await self.normalised(business_id, phone)
        return replace(request, changes={**request.changes, "guest_phone": normalised})

    async def normalised(self, business_id: str, phone: str) -> str:
        """Returns a phone number of a business as E.164. Raises `Invalid`, `Refused` (BUSINESS_NOT_FOUND, of a number
        without a country's code) and `Unavailable`."""
        country = None
        # A number with its country's code does not depend on the business.
        if not phone.startswith("+"):
            country = await self._countries.run(business_id, partial(self._find_country, business_id))
        return normalised_phone(phone, country)

    async def _find_country(self, business_id: str) -> str | None:
        return found(await self._database.fetch("business", business_id), Business, "BUSINESS_NOT_FOUND").country
