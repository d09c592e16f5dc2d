"""Guests' phone numbers, by the country of the business where they are written."""

from collections.abc import AsyncIterator

import pytest

from service.booking import guests
from service.booking.guests import Guests
from service.database.connections import Database
from service.errors import Invalid
from tests.connections import open_database
from tests.database import TestDatabase

pytestmark = pytest.mark.anyio


@pytest.fixture
async def normalising(database: TestDatabase) -> AsyncIterator[Guests]:
    """The guests of a salon in Germany and of one in Australia."""
    database.make_business("salon")
    database.make_business("sydney")
    database.rows("UPDATE booking.businesses SET country = 'AU' WHERE business_id = 'sydney'")
    async with open_database(database.url) as connections:
        yield Guests(connections)


async def phone_of(normalising: Guests, phone: str, business_id: str = "salon") -> object:
    """How a phone number is stored."""
    return (await normalising.normalise(business_id, {"guest_phone": phone, "notes": "quiet"}))["guest_phone"]


async def test_a_number_without_a_country_is_of_the_country_of_the_business(normalising: Guests) -> None:
    """Guests write it as they dial it from where the business is."""
    assert await phone_of(normalising, "030 1234567") == "+49301234567"
    assert await phone_of(normalising, "(02) 9374 4000", "sydney") == "+61293744000"


async def test_the_rest_of_a_request_is_left_alone(normalising: Guests) -> None:
    """And so is a request without a phone number; what was given is not changed under its owner's hands."""
    request: dict[str, object] = {"guest_phone": "030 1234567", "notes": "quiet", "metadata": {"a": 1}}
    assert await normalising.normalise("salon", request) == {**request, "guest_phone": "+49301234567"}
    assert request["guest_phone"] == "030 1234567"
    for without in ({}, {"guest_phone": None}, {"guest_email": "ada@example.com"}):
        assert await normalising.normalise("salon", dict(without)) == without


async def test_a_number_with_its_country_needs_no_look_up(database: TestDatabase) -> None:
    """Most forms ask for it; so most bookings cost the database nothing for it."""
    never_opened = Guests(Database(database.url, connections=1))
    assert await phone_of(never_opened, "+49 30 1234567") == "+49301234567"


async def test_where_there_is_no_business_a_number_must_have_its_country(normalising: Guests) -> None:
    """What could not be dialled is never stored."""
    with pytest.raises(Invalid):
        await phone_of(normalising, "030 1234567", "nobody")
    assert await phone_of(normalising, "+49 30 1234567", "nobody") == "+49301234567"


async def test_a_country_is_remembered_for_a_while_and_not_for_ever(
    database: TestDatabase, normalising: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A popular salon is not asked for each booking, and one that moved is asked again."""
    assert await phone_of(normalising, "0412 345 678") == "+49412345678"
    database.rows("UPDATE booking.businesses SET country = 'AU'")
    assert await phone_of(normalising, "0412 345 678") == "+49412345678"
    monkeypatch.setattr(guests, "REMEMBERED_SECONDS", 0.0)
    assert await phone_of(normalising, "0412 345 678", "sydney") == "+61412345678"
    database.rows("UPDATE booking.businesses SET country = 'DE'")
    assert await phone_of(normalising, "0412 345 678", "sydney") == "+49412345678"


async def test_only_so_many_countries_are_remembered(
    database: TestDatabase, normalising: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids that callers make up must not fill the memory; the one that was asked for longest ago goes first."""
    monkeypatch.setattr(guests, "MAX_REMEMBERED", 1)
    assert await phone_of(normalising, "0412 345 678") == "+49412345678"
    assert await phone_of(normalising, "0412 345 678", "sydney") == "+61412345678"
    database.rows("UPDATE booking.businesses SET country = 'XX'")
    assert await phone_of(normalising, "0412 345 678", "sydney") == "+61412345678"
    with pytest.raises(Invalid):
        await phone_of(normalising, "0412 345 678")


async def test_a_fault_is_sent_along_where_a_replay_may_ignore_it(normalising: Guests) -> None:
    """Whether it is one only the verb can say. Without a fault the request is as ever."""
    request: dict[str, object] = {"guest_phone": "123", "guest_email": "ada@example.com", "notes": "quiet"}
    sent = await normalising.normalise_or_tell("salon", request)
    message = "lacks its area code: write it with the country's code, like +49 30 1234567"
    assert sent == {
        **request,
        "guest_phone": None,
        "guest_fault": {"field": "guest_phone", "message": message},
    }
    request["guest_phone"] = "030 1234567"
    assert await normalising.normalise_or_tell("salon", request) == {**request, "guest_phone": "+49301234567"}
