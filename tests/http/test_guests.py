"""Guests' phone numbers, which are read by the rules of the business's country."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from service.booking import guests
from service.booking.guests import Guests
from service.booking.requests import Change, Guest
from service.database.connections import Database
from service.errors import Invalid, Refused
from service.faults import FaultCode, fault
from tests.connections import open_database
from tests.database import TestDatabase

pytestmark = pytest.mark.anyio


@pytest.fixture
async def guests_of_two_countries(database: TestDatabase) -> AsyncIterator[Guests]:
    """Makes a salon in Germany and one in Australia."""
    database.make_business("salon")
    database.make_business("sydney")
    database.rows("UPDATE booking.businesses SET country = 'AU' WHERE business_id = 'sydney'")
    async with open_database(database.url) as connections:
        yield Guests(connections)


async def phone_of(guests_of_two_countries: Guests, phone: str, business_id: str = "salon") -> object:
    """Returns the stored form of a phone number."""
    changed = await guests_of_two_countries.normalise_change(business_id, change({"guest_phone": phone}))
    return changed.changes["guest_phone"]


def change(changes: dict[str, Any]) -> Change:
    """Returns a change of an appointment."""
    return Change(uuid4(), "change", 1, changes)


async def test_a_number_without_a_country_code_is_read_in_the_business_country(guests_of_two_countries: Guests) -> None:
    """Guests write a number as it is dialled at the business."""
    assert await phone_of(guests_of_two_countries, "030 1234567") == "+49301234567"
    assert await phone_of(guests_of_two_countries, "(02) 9374 4000", "sydney") == "+61293744000"


async def test_other_members_of_a_request_are_unchanged(guests_of_two_countries: Guests) -> None:
    """A request without a phone number is unchanged as well, and the caller's dictionary is never modified."""
    request = change({"guest_phone": "030 1234567", "notes": "quiet", "metadata": {"a": 1}})
    normalised = replace(request, changes={**request.changes, "guest_phone": "+49301234567"})
    assert await guests_of_two_countries.normalise_change("salon", request) == normalised
    assert request.changes["guest_phone"] == "030 1234567"
    for without in ({}, {"guest_phone": None}, {"guest_email": "ada@example.com"}):
        unchanged = change(dict(without))
        assert await guests_of_two_countries.normalise_change("salon", unchanged) == unchanged


async def test_a_number_with_a_country_code_needs_no_lookup(database: TestDatabase) -> None:
    """Most forms ask for the country code, so most bookings cost no query."""
    never_opened = Guests(Database(database.url, connections=1))
    assert await phone_of(never_opened, "+49 30 1234567") == "+49301234567"


async def test_for_an_unknown_business_a_number_needs_its_country_code(guests_of_two_countries: Guests) -> None:
    """There is no country to read it for, so the business is at fault and not the number. The verbs that book refuse
    that themselves."""
    with pytest.raises(Refused, match="BUSINESS_NOT_FOUND"):
        await phone_of(guests_of_two_countries, "030 1234567", "nobody")
    guest = Guest.model_validate({"guest_phone": "030 1234567"})
    assert await guests_of_two_countries.stored_phone("nobody", guest) == {"guest_phone": None}
    assert await phone_of(guests_of_two_countries, "+49 30 1234567", "nobody") == "+49301234567"


async def test_a_country_is_cached_for_a_limited_time(
    database: TestDatabase, guests_of_two_countries: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A popular business is not queried for each booking, and a business that moves is queried again."""
    assert await phone_of(guests_of_two_countries, "0412 345 678") == "+49412345678"
    database.rows("UPDATE booking.businesses SET country = 'AU'")
    assert await phone_of(guests_of_two_countries, "0412 345 678") == "+49412345678"
    monkeypatch.setattr(guests, "REMEMBERED_SECONDS", 0.0)
    forgetful = Guests(guests_of_two_countries._database)
    assert await phone_of(forgetful, "0412 345 678", "sydney") == "+61412345678"
    database.rows("UPDATE booking.businesses SET country = 'DE'")
    assert await phone_of(forgetful, "0412 345 678", "sydney") == "+49412345678"


async def test_the_number_of_cached_countries_is_bounded(
    database: TestDatabase, guests_of_two_countries: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers can make up ids; the least recently used one is evicted."""
    monkeypatch.setattr(guests, "MAX_REMEMBERED", 1)
    few = Guests(guests_of_two_countries._database)
    assert await phone_of(few, "0412 345 678") == "+49412345678"
    assert await phone_of(few, "0412 345 678", "sydney") == "+61412345678"
    database.rows("UPDATE booking.businesses SET country = 'XX'")
    assert await phone_of(few, "0412 345 678", "sydney") == "+61412345678"
    with pytest.raises(Invalid):
        await phone_of(few, "0412 345 678")


async def test_a_fault_is_sent_along_where_a_replay_may_ignore_it(guests_of_two_countries: Guests) -> None:
    """Only the verb knows whether the request is a replay. A request without a fault is sent as usual."""
    guest = Guest.model_validate({"guest_email": "ada@example.com", "guest_phone": "123", "notes": "quiet"})
    fault_sent = fault("guest_phone", FaultCode.PHONE_WITHOUT_AREA_CODE)
    assert await guests_of_two_countries.stored_phone("salon", guest) == {
        "guest_phone": None,
        "guest_fault": fault_sent,
    }
    valid = guest.model_copy(update={"guest_phone": "030 1234567"})
    assert await guests_of_two_countries.stored_phone("salon", valid) == {"guest_phone": "+49301234567"}
    assert await guests_of_two_countries.stored_phone("salon", Guest.model_validate({})) == {}
