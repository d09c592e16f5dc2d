"""booking.list_holds: the live holds of a business in pages, without the ids of their reservations."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.database import TestDatabase, at
from tests.sql.lists import list_holds


def starts(database: TestDatabase, **filters: Any) -> list[datetime]:
    """Returns the starts of the listed slots."""
    return [datetime.fromisoformat(body["slot_start"]) for *_, body in list_holds(database, **filters)]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_neither_miss_nor_repeat_anything(database: TestDatabase, limit: int) -> None:
    """Holds of several services, by their start, then by their expiry. Some share both, and are in the order of ids."""
    database.make_service(capacity=99)
    database.make_service("perm", capacity=99, buffer_before_minutes=30)
    database.freeze_clock()
    for hour, number, service_id in ((10, 8, "cut"), (9, 3, "perm"), (10.5, 2, "perm"), (11, 5, "cut")):
        for place in range(number):
            database.reserve(hour, service_id=service_id, ttl_minutes=15 - place % 3)
    found: list[tuple[Any, ...]] = []
    page = list_holds(database, limit)
    while page:
        found += page
        page = list_holds(database, limit, found[-1][:3])
    places = [entry[:3] for entry in found]
    assert places == sorted(places)
    assert len({hold_id for _, _, hold_id, _ in found}) == len(found) == 18


def test_only_live_holds_are_listed(database: TestDatabase) -> None:
    """Not those that ended or have expired, purged or not, nor those of other businesses; but of archived services."""
    database.make_service(capacity=9)
    database.make_service("perm", capacity=9)
    database.make_service(business_id="clinic")
    database.reserve(14, business_id="clinic")
    database.freeze_clock()
    database.reserve(9, ttl_minutes=1)
    database.commit(database.reserve(10).id)
    database.release(database.reserve(11).id)
    database.reserve(12)
    database.reserve(13, service_id="perm")
    database.rows("UPDATE booking.services SET archived_at = booking.now() WHERE service_id = 'perm'")
    database.move_clock(timedelta(minutes=1))
    assert starts(database) == [at(12), at(13)]


def test_a_list_has_what_overlaps_a_time(database: TestDatabase) -> None:
    """Half-open at both ends, by the slots and not by their buffers; and filtered by service and resource."""
    database.make_service(capacity=9, buffer_before_minutes=60, buffer_after_minutes=60)
    database.make_service("perm", resource_ids=["anna", "bert"])
    for hour in (8, 9, 10, 12):
        database.reserve(hour, 2)
    assert starts(database, since=at(10), until=at(12)) == [at(9), at(10)]
    assert starts(database, since=at(11)) == [at(10), at(12)]
    assert starts(database, until=at(10)) == [at(8), at(9)]
    database.reserve(10, service_id="perm", resource_id="anna")
    database.reserve(11, service_id="perm", resource_id="bert")
    assert starts(database, service_id="perm") == [at(10), at(11)]
    assert starts(database, resource_id="bert") == [at(11)]
    assert starts(database, service_id="cut", resource_id="bert") == []


def test_a_hold_is_named_without_the_id_of_its_reservation(database: TestDatabase) -> None:
    """That id is the credential of the holder. The name of a hold in the list stays the same while it lives."""
    database.make_service()
    held = database.reserve(10)
    [(*place, body)] = list_holds(database)
    assert held.id not in str([place, body])
    assert body["hold_id"] == str(place[2])
    database.extend(held.id, 40)
    [(*_, extended)] = list_holds(database)
    assert extended["hold_id"] == body["hold_id"]
    assert extended["expires_at"] > body["expires_at"]
