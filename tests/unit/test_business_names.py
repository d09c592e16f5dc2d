"""Names of businesses: which are looked up, when, and which are kept."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from service.booking.businesses import ID_SECONDS, BusinessNames
from service.database.connections import nodes_behind

pytestmark = pytest.mark.anyio


class Names:
    """A database whose look-ups wait until a test lets them end, each with the names as they were when it began."""

    def __init__(self, **businesses: str) -> None:
        self.businesses = businesses
        self.look_ups: list[list[str]] = []
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.nodes = nodes_behind("")

    async def refuse_if_down(self, _: str) -> None:
        """Lets every look-up begin."""

    async def fetch(self, _: str, names: list[str]) -> list[tuple[str, str | None]]:
        """Answers as booking.businesses_named."""
        self.look_ups.append(sorted(names))
        self.begun.set()
        found = [(name, self.businesses.get(name)) for name in names]
        await self.may_end.wait()
        return found


def names_of(database: Any, clock: Callable[[], float] = lambda: 0.0) -> BusinessNames:
    """Makes the names of a database."""
    return BusinessNames(database, clock)


async def test_an_id_is_looked_up_once() -> None:
    """Until its business may have been deleted and its name become a slug."""
    database, now = Names(salon="salon"), 0.0
    names = names_of(database, lambda: now)
    assert [await names.find("salon") for _ in range(3)] == ["salon"] * 3
    assert database.look_ups == [["salon"]]
    now, database.businesses = ID_SECONDS, {"salon": "barber"}
    assert await names.find("salon") == "barber"


async def test_a_name_is_taken_for_an_id_until_it_was_a_slug() -> None:
    """And again once it is none; a malformed one never is."""
    database = Names(salon="salon", hair="salon")
    names = names_of(database)
    assert names.may_be_id("hair")
    for name in ("salon", "hair", "nobody"):
        await names.find(name)
    assert [names.may_be_id(name) for name in ("salon", "hair", "nobody", "..")] == [True, False, True, False]
    for businesses in ({"hair": "hair"}, {}):
        database.businesses = {"hair": "salon"}
        names._ids.clear()
        await names.find("hair")
        database.businesses = businesses
        await names.find("hair")
        assert names.may_be_id("hair")


async def test_a_slug_is_looked_up_for_each_request() -> None:
    """It may belong to another business since the last one."""
    database = Names(hair="salon")
    names = names_of(database)
    assert await names.find("hair") == "salon"
    database.businesses = {"hair": "barber"}
    assert await names.find("hair") == "barber"
    assert not names.may_be_id("hair")


async def test_a_request_is_not_answered_by_a_look_up_that_began_before_it() -> None:
    """The slug may have moved in between. Those that come during one look-up share the next."""
    database = Names(hair="salon", nails="studio")
    names = names_of(database)
    database.may_end.clear()
    first = asyncio.create_task(names.find("hair"))
    await database.begun.wait()
    database.businesses["hair"] = "barber"
    later = [asyncio.create_task(names.find(name)) for name in ("hair", "hair", "nails")]
    for _ in range(5):
        await asyncio.sleep(0)
    database.may_end.set()
    assert await first == "salon"
    assert await asyncio.gather(*later) == ["barber", "barber", "studio"]
    assert database.look_ups == [["hair"], ["hair", "nails"]]


async def test_names_of_no_business_are_not_kept() -> None:
    """A client can make up any number of them; malformed ones are not even looked up."""
    database = Names(hair="salon")
    names = names_of(database)
    for name in ("nobody", "hair", "a" * 65, "..", "ä", ""):
        assert (await names.find(name) == "salon") == (name == "hair")
    assert database.look_ups == [["nobody"], ["hair"]]
    assert not names._ids
    assert not names._look_ups[None]._asked


async def test_a_caller_that_leaves_takes_no_other_with_it() -> None:
    """A browser that disconnects cancels its request."""
    database = Names(hair="salon")
    names = names_of(database)
    database.may_end.clear()
    gone, waiting = (asyncio.create_task(names.find("hair")) for _ in range(2))
    await database.begun.wait()
    gone.cancel()
    database.may_end.set()
    assert await waiting == "salon"
