"""The catalog: resources, and the pools of the services that they serve."""

import json
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tests.database import NO_DEADLINE, TestDatabase, at
from tests.sql.rivals import SECONDS, Rivals


def delete(database: TestDatabase, resource_id: str = "anna") -> str:
    """Takes a resource off the catalog and returns what became of that."""
    name: str = database.value("SELECT outcome FROM booking.delete_resource('salon', %s, %s)", resource_id, NO_DEADLINE)
    return name


def offered(database: TestDatabase) -> list[str]:
    """The resources that the catalog has, by id."""
    return [resource_id for (resource_id,) in database.rows("SELECT booking.resources('salon') ->> 'resource_id'")]


def stored(database: TestDatabase) -> list[str]:
    """Those that are there, also archived."""
    return [row[0] for row in database.rows("SELECT resource_id FROM booking.resources ORDER BY resource_id")]


def pool(database: TestDatabase, service_id: str = "cut") -> list[str]:
    """The resources of a service, as the catalog has it."""
    ids: list[str] = database.value("SELECT booking.services('salon', %s) -> 'resource_ids'", service_id)
    return ids


def test_a_resource_is_made_once_and_then_changed(database: TestDatabase) -> None:
    """All its settings are replaced, and what is known about its claims is kept."""
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
    """A slip of the pen leaves no trace."""
    assert delete(database) == "resource_not_found"
    database.make_resource("anna")
    assert delete(database) == "done"
    assert stored(database) == []
    assert delete(database) == "resource_not_found"


def put_in_a_pool(database: TestDatabase) -> None:
    """A service needs it."""
    database.make_service(resource_ids=["anna"])


def give_hours(database: TestDatabase) -> None:
    """It is there on Mondays."""
    database.put_hours([{"weekday": 1, "opens": "09:00", "closes": "17:00", "resource_id": "anna"}])


def close(database: TestDatabase) -> None:
    """It is away for once."""
    database.put_closure("away", at(10), at(12), "anna")


def book(database: TestDatabase) -> None:
    """It was booked, through a service that does without it now."""
    database.make_service(resource_ids=["anna"])
    database.commit(database.reserve(10).id)
    database.put_service(resource_ids=[])


def hold_and_forget(database: TestDatabase) -> None:
    """It was held once, and the purge has deleted the hold since."""
    database.make_service(resource_ids=["anna"])
    database.release(database.reserve(10).id)
    database.move_clock(timedelta(hours=24))
    assert database.purge() == (0, 1, False)
    database.put_service(resource_ids=[])


@pytest.mark.parametrize("use", [put_in_a_pool, give_hours, close, book, hold_and_forget])
def test_a_resource_that_is_used_is_archived(database: TestDatabase, use: Any) -> None:
    """It is not offered any more, but all that refers to it stays; and it is back when it is put again."""
    database.make_resource("anna")
    use(database)
    referring = ("service_resources", "opening_hours", "closures", "appointments")
    counts = [database.value(f"SELECT count(*) FROM booking.{table}") for table in referring]  # noqa: S608
    assert delete(database) == "done"
    assert (offered(database), stored(database)) == ([], ["anna"])
    assert delete(database) == "resource_not_found"
    assert counts == [database.value(f"SELECT count(*) FROM booking.{table}") for table in referring]  # noqa: S608
    database.make_resource("anna")
    assert offered(database) == ["anna"]


def test_a_pool_is_replaced_as_a_whole(database: TestDatabase) -> None:
    """What is not named is not in it any more, and the other services keep theirs."""
    database.make_service("perm", resource_ids=["anna", "ben"])
    database.make_service(resource_ids=["ben", "anna", "eve"])
    assert pool(database) == ["anna", "ben", "eve"]
    outcome = database.put_service(resource_ids=["eve"])
    assert (outcome.name, outcome.body["resource_ids"]) == ("done", ["eve"])
    assert (pool(database), pool(database, "perm")) == (["eve"], ["anna", "ben"])
    database.put_service(resource_ids=[])
    assert pool(database) == []


def test_a_pool_has_only_resources_that_are_there(database: TestDatabase) -> None:
    """Not those of another business, nor archived ones. The refusal names the first, and changes nothing."""
    database.make_service(resource_ids=["anna", "ben"])
    database.make_resource("zoe", business_id="clinic")
    delete(database, "ben")
    for ids, missing in ((["anna", "zoe", "nobody"], "zoe"), (["ben"], "ben")):
        outcome = database.put_service(name="changed", resource_ids=ids)
        assert (outcome.name, outcome.body) == ("resource_unknown", {"resource_id": missing})
    service = database.value("SELECT booking.services('salon')")
    assert (service["name"], service["resource_ids"]) == ("cut", ["anna"])


def test_a_service_whose_resources_are_all_archived_keeps_its_pool(database: TestDatabase) -> None:
    """Or it would become one that is booked without a resource. It is bookable again when one is back."""
    database.make_service(resource_ids=["anna"])
    delete(database)
    assert pool(database) == []
    assert database.value("SELECT count(*) FROM booking.service_resources") == 1
    assert database.reserve(10).name != "done"
    # Read and put back as it was read, which is without her.
    database.make_service(resource_ids=[])
    assert database.reserve(10).name != "done"
    database.make_resource("anna")
    assert pool(database) == ["anna"]
    assert database.reserve(10).body["resource_id"] == "anna"


def test_what_is_claimed_on_a_resource_stays_when_it_is_archived(database: TestDatabase) -> None:
    """Its holds can still be committed. And when it is back they are still there: it is not given away twice."""
    database.make_service(resource_ids=["anna", "ben"])
    hold = database.reserve(10, resource_id="anna")
    delete(database)
    assert database.commit(hold.id).body["resource_id"] == "anna"
    assert database.reserve(10).body["resource_id"] == "ben"
    database.make_resource("anna")
    assert database.reserve(10).name == "slot_unavailable"


def test_a_service_that_is_deleted_leaves_its_resources(database: TestDatabase) -> None:
    """They may serve others, and can be deleted when they don't."""
    database.make_service(resource_ids=["anna"])
    assert database.value("SELECT outcome FROM booking.delete_service('salon', 'cut', %s)", NO_DEADLINE) == "done"
    assert offered(database) == ["anna"]
    assert delete(database) == "done"
    assert stored(database) == []


def test_putting_a_pool_waits_for_a_resource_that_is_being_archived(database: TestDatabase, rivals: Rivals) -> None:
    """It takes the lock of the business like every verb, and sees what was archived while it waited."""
    database.make_service(resource_ids=["anna"])
    settings = database.put_service(resource_ids=[]).body | {"resource_ids": ["anna"]}

    def put(connection: psycopg.Connection) -> str:
        query = "SELECT outcome FROM booking.put_service('salon', 'cut', %s, %s)"
        [(name,)] = connection.execute(query, [json.dumps(settings), NO_DEADLINE]).fetchall()
        return str(name)

    with database.connect(autocommit=False) as connection:
        connection.execute("SELECT booking.delete_resource('salon', 'anna', %s)", [NO_DEADLINE])
        answer = rivals.start(put)
        database.wait_until_blocked()
        connection.commit()
    assert answer.result(SECONDS) == "resource_unknown"
