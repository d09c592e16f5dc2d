"""The catalog: resources, and the pools of the services that use them."""

from datetime import timedelta
from typing import Any

import pytest

from tests.database import NO_DEADLINE, TestDatabase, at
from tests.sql.catalog import (
    delete_resource,
    delete_service,
    names_unknown,
    put_back,
    put_service_on,
    put_special_hours,
)
from tests.sql.rivals import SECONDS, Rivals


def active_resources(database: TestDatabase) -> list[str]:
    """Returns the ids of the resources in the catalog."""
    return [resource_id for (resource_id,) in database.rows("SELECT booking.resources('salon') ->> 'resource_id'")]


def stored_resources(database: TestDatabase) -> list[str]:
    """Returns the ids of all stored resources, including archived ones."""
    return [row[0] for row in database.rows("SELECT resource_id FROM booking.resources ORDER BY resource_id")]


def pool(database: TestDatabase, service_id: str = "cut") -> list[str]:
    """Returns the pool of a service, as the catalog lists it."""
    ids: list[str] = database.value("SELECT booking.services('salon', %s) -> 'resource_ids'", service_id)
    return ids


def test_a_resource_is_made_once_and_then_changed(database: TestDatabase) -> None:
    """A second put replaces all settings and keeps the reach of the searches for overlaps."""
    query = "SELECT outcome, body FROM booking.put_resource('salon', 'anna', %s, %s)"
    settings = '{"name": "Anna", "kind": "staff", "booking_enabled": true}'
    assert database.rows(query, settings, NO_DEADLINE) == [("business_not_found", None)]
    database.make_business()
    [(name, body)] = database.rows(query, settings, NO_DEADLINE)
    assert name == "created"
    assert body == database.value("SELECT booking.resources('salon')")
    made_at = database.value("SELECT created_at FROM booking.resources")
    database.rows("UPDATE booking.resources SET longest_occupied_seconds = 7")
    settings = '{"name": "Room 1", "kind": "room", "booking_enabled": false}'
    [(name, body)] = database.rows(query, settings, NO_DEADLINE)
    assert name == "done"
    assert (body["name"], body["kind"], body["booking_enabled"]) == ("Room 1", "room", False)
    assert database.rows("SELECT created_at, longest_occupied_seconds FROM booking.resources") == [(made_at, 7)]


def test_a_resource_that_was_never_used_is_deleted(database: TestDatabase) -> None:
    """An unused resource leaves no trace."""
    assert delete_resource(database).name == "resource_not_found"
    database.make_resource("anna")
    assert delete_resource(database).name == "done"
    assert stored_resources(database) == []
    assert delete_resource(database).name == "resource_not_found"


def put_in_a_pool(database: TestDatabase) -> None:
    """Makes a service whose pool has the resource."""
    database.make_service(resource_ids=["anna"])


def give_hours(database: TestDatabase) -> None:
    """Gives the resource opening hours."""
    database.put_hours([{"weekday": 1, "opens": "09:00", "closes": "17:00", "resource_id": "anna"}])


def give_special_hours(database: TestDatabase) -> None:
    """Closes the resource on a date."""
    assert put_special_hours(database, "eve", "2030-12-24", [], resource_id="anna").name == "created"


def close_once(database: TestDatabase) -> None:
    """Gives the resource a closure."""
    database.put_closure("away", at(10), at(12), "anna")


def book(database: TestDatabase) -> None:
    """Books the resource through a service that has no pool afterwards."""
    database.make_service(resource_ids=["anna"])
    database.commit(database.reserve(10).id)
    database.put_service(resource_ids=[])


def hold_and_forget(database: TestDatabase) -> None:
    """Holds the resource once, and lets the purge delete the hold."""
    database.make_service(resource_ids=["anna"])
    database.release(database.reserve(10).id)
    database.move_clock(timedelta(hours=24))
    assert database.purge() == (0, 1, False)
    database.put_service(resource_ids=[])


@pytest.mark.parametrize("use", [put_in_a_pool, give_hours, give_special_hours, close_once, book, hold_and_forget])
def test_a_used_resource_is_archived(database: TestDatabase, use: Any) -> None:
    """It leaves the catalog, all rows that refer to it stay, and it is active again when it is put again.

    An unused one beside it is left alone, and deleted when it is named.
    """
    database.make_resource("anna")
    database.make_resource("ben")
    use(database)
    referring = ("service_resources", "opening_hours", "special_hours", "closures", "appointments")
    counts = [database.value(f"SELECT count(*) FROM booking.{table}") for table in referring]  # noqa: S608
    assert delete_resource(database).name == "done"
    assert (active_resources(database), stored_resources(database)) == (["ben"], ["anna", "ben"])
    assert delete_resource(database).name == "resource_not_found"
    assert delete_resource(database, "ben").name == "done"
    assert stored_resources(database) == ["anna"]
    assert counts == [database.value(f"SELECT count(*) FROM booking.{table}") for table in referring]  # noqa: S608
    database.make_resource("anna")
    assert active_resources(database) == ["anna"]


def test_a_pool_is_replaced_as_a_whole(database: TestDatabase) -> None:
    """Resources that are not named leave the pool, and the pools of other services stay."""
    database.make_service("perm", resource_ids=["anna", "ben"])
    database.make_service(resource_ids=["ben", "anna", "eve"])
    assert pool(database) == ["anna", "ben", "eve"]
    outcome = database.put_service(resource_ids=["eve"])
    assert (outcome.name, outcome.body["resource_ids"]) == ("done", ["eve"])
    assert (pool(database), pool(database, "perm")) == (["eve"], ["anna", "ben"])
    database.put_service(resource_ids=[])
    assert pool(database) == []


def test_a_pool_with_an_unknown_or_archived_resource_is_refused(database: TestDatabase) -> None:
    """Resources of other businesses are unknown, too.

    The refusal names the first such resource, and changes nothing.
    """
    database.make_service(resource_ids=["anna", "ben"])
    database.make_resource("zoe", business_id="clinic")
    delete_resource(database, "ben")
    for ids, missing in ((["anna", "zoe", "nobody"], "zoe"), (["ben"], "ben")):
        outcome = database.put_service(name="changed", resource_ids=ids)
        assert names_unknown(outcome, missing, "resource_ids")
    service = database.value("SELECT booking.services('salon')")
    assert (service["name"], service["resource_ids"]) == ("cut", ["anna"])


def test_a_service_whose_resources_are_all_archived_keeps_its_pool(database: TestDatabase) -> None:
    """Otherwise the service would be booked without a resource. It is bookable again when one of them is put again."""
    database.make_service(resource_ids=["anna"])
    delete_resource(database)
    service = database.value("SELECT booking.services('salon', 'cut')")
    assert (service["resource_ids"], service["archived_resource_ids"]) == (["anna"], ["anna"])
    assert database.reserve(10).name == "slot_unavailable"
    assert database.put_service(resource_ids=["anna"]).body["archived_resource_ids"] == ["anna"]
    assert database.reserve(10).name == "slot_unavailable"
    database.make_resource("anna")
    assert database.reserve(10).body["resource_id"] == "anna"


def test_a_pool_of_archived_resources_is_replaced_as_it_is_listed(database: TestDatabase) -> None:
    """Its archived resources are in the list that a caller reads, so that those left out of the next one leave."""
    database.make_service(resource_ids=["anna", "ben"])
    delete_resource(database, "anna")
    delete_resource(database, "ben")
    assert pool(database) == ["anna", "ben"]
    assert database.put_service(resource_ids=["ben"]).body["archived_resource_ids"] == ["ben"]
    database.make_resource("anna")
    assert pool(database) == ["ben"]


def test_archived_resources_stay_in_a_pool_with_live_ones(database: TestDatabase) -> None:
    """The list that callers read and send back does not contain them. They return together with their resource."""
    database.make_service(resource_ids=["anna", "ben"])
    delete_resource(database, "ben")
    database.make_resource("eve")
    service = database.put_service(resource_ids=["eve"]).body
    assert (service["resource_ids"], service["archived_resource_ids"]) == (["eve"], ["ben"])
    database.make_resource("ben")
    assert pool(database) == ["ben", "eve"]


@pytest.mark.parametrize("archived", [["anna"], ["anna", "ben"]])
def test_an_empty_list_removes_the_pool_at_once(database: TestDatabase, archived: list[str]) -> None:
    """Archived resources leave too; a claim keeps its resource, and counts for it and for the service."""
    database.make_service(resource_ids=["anna", "ben"])
    appointment = database.book(10, resource_id="anna").id
    for resource_id in archived:
        delete_resource(database, resource_id)
    service = database.put_service(resource_ids=[]).body
    assert (service["resource_ids"], service["archived_resource_ids"]) == ([], [])
    assert database.value("SELECT count(*) FROM booking.service_resources") == 0
    assert database.reserve(12).body["resource_id"] is None
    assert database.reserve(10).name == "slot_unavailable"
    assert database.change(appointment, set={"notes": "x"}).body["resource_id"] == "anna"
    assert database.violations() == {}


def test_a_service_that_lost_its_only_resource_is_bookable_without_a_pool(database: TestDatabase) -> None:
    """What it needs is clear from the catalog, and an empty list makes it bookable with its own capacity or one."""
    settings: dict[str, Any] = {"max_simultaneous_bookings": None, "resource_ids": ["anna"]}
    database.make_service(**settings)
    database.book(10)
    delete_resource(database)
    assert database.capacity(12)["capacity"] == 0
    assert database.reserve(12).name == "slot_unavailable"
    assert database.put_service(**settings | {"resource_ids": []}).name == "done"
    assert [database.reserve(hour).name for hour in (10, 12, 12)] == ["slot_unavailable", "done", "slot_unavailable"]
    assert database.put_service(**settings | {"resource_ids": [], "max_simultaneous_bookings": 2}).name == "done"
    assert database.reserve(10).name == "done"


def test_a_resource_that_is_added_to_a_pool_is_booked_beside_the_others(database: TestDatabase) -> None:
    """A capacity that was left out follows the pool of a service that is read, changed and put back."""
    database.make_resource("ben")
    database.make_service(max_simultaneous_bookings=None, resource_ids=["anna"])
    service = database.value("SELECT booking.services('salon', 'cut')")
    assert put_back(database, service | {"resource_ids": ["anna", "ben"]}).name == "done"
    assert {database.reserve(10).body.get("resource_id") for _ in range(3)} == {"anna", "ben", None}


def test_claims_of_a_resource_stay_when_it_is_archived(database: TestDatabase) -> None:
    """Its holds can be committed, and the claims still count when the resource is put again."""
    database.make_service(resource_ids=["anna", "ben"])
    hold = database.reserve(10, resource_id="anna")
    delete_resource(database)
    assert database.commit(hold.id).body["resource_id"] == "anna"
    assert database.reserve(10).body["resource_id"] == "ben"
    database.make_resource("anna")
    assert database.reserve(10).name == "slot_unavailable"


def test_deleting_a_service_keeps_its_resources(database: TestDatabase) -> None:
    """The resources may serve other services, and can be deleted afterwards."""
    database.make_service(resource_ids=["anna"])
    assert delete_service(database) == "done"
    assert active_resources(database) == ["anna"]
    assert delete_resource(database).name == "done"
    assert stored_resources(database) == []


def test_putting_a_pool_waits_for_a_concurrent_delete_of_its_resource(database: TestDatabase, rivals: Rivals) -> None:
    """put_service takes the lock of the business, and then sees what was archived while it waited."""
    database.make_service(resource_ids=["anna"])
    settings = database.put_service(resource_ids=[]).body | {"resource_ids": ["anna"]}
    with database.connect(autocommit=False) as connection:
        connection.execute("SELECT booking.delete_resource('salon', 'anna', %s)", [NO_DEADLINE])
        answer = rivals.start(lambda rival: put_service_on(rival, settings))
        database.wait_until_blocked()
        connection.commit()
    assert answer.result(SECONDS) == "validation_failed"
