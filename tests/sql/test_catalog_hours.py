"""The catalog: opening hours and closures are put and deleted, and survive the archiving of their resource."""

from datetime import datetime
from typing import Any

import psycopg
import pytest

from tests.database import NO_DEADLINE, TestDatabase, at
from tests.sql.catalog import delete_resource, names_unknown

ANNA = {"weekday": 1, "opens": "10:00", "closes": "15:30", "resource_id": "anna"}


def hours(database: TestDatabase, business_id: str = "salon") -> list[tuple[Any, ...]]:
    """Returns the opening hours, as the catalog lists them."""
    entries = [entry for (entry,) in database.rows("SELECT booking.opening_hours(%s)", business_id)]
    return [tuple(entry[name] for name in ("weekday", "opens", "closes", "resource_id")) for entry in entries]


def closures(database: TestDatabase) -> list[dict[str, Any]]:
    """Returns the closures, as the catalog lists them."""
    return [closure for (closure,) in database.rows("SELECT booking.closures('salon')")]


def test_hours_are_replaced_as_a_whole(database: TestDatabase) -> None:
    """The answer is sorted: first the hours of the business, then by resource, each by weekday and time."""
    assert database.put_hours([]).name == "business_not_found"
    database.make_resource("anna")
    outcome = database.put_hours([ANNA, (7, "00:00", "24:00"), (1, "14:00", "18:00"), (1, "09:00", "13:00")])
    assert outcome.name == "done"
    assert hours(database) == [
        (1, "09:00", "13:00", None),
        (1, "14:00", "18:00", None),
        (7, "00:00", "24:00", None),
        (1, "10:00", "15:30", "anna"),
    ]
    answered = [
        (entry["weekday"], entry["opens"], entry["closes"], entry["resource_id"]) for entry in outcome.body["items"]
    ]
    assert answered == hours(database)
    database.put_hours([(2, "09:00", "13:00")])
    assert hours(database) == [(2, "09:00", "13:00", None)]
    assert database.put_hours([]).body == {"items": [], "closed_by_own_hours": []}
    assert hours(database) == []


def test_hours_of_another_business_stay(database: TestDatabase) -> None:
    """A put replaces only the hours of its own business."""
    database.make_business("clinic")
    database.make_business()
    database.put_hours([(1, "09:00", "13:00")], business_id="clinic")
    database.put_hours([])
    assert len(hours(database, "clinic")) == 1


def test_hours_of_an_unknown_resource_are_refused(database: TestDatabase) -> None:
    """The refusal names the position of the first such entry, and changes nothing."""
    database.make_resource("anna")
    database.make_resource("zoe", business_id="clinic")
    database.put_hours([ANNA])
    for unknown in ("nobody", "zoe"):
        entries = [{**ANNA, "resource_id": resource_id} for resource_id in ("anna", "anna", unknown, "other")]
        outcome = database.put_hours(entries)
        assert names_unknown(outcome, unknown, "2.resource_id")
    assert len(hours(database)) == 1


def test_invalid_hours_are_refused(database: TestDatabase) -> None:
    """The service checks them first; the constraints are the backstop."""
    database.make_business()
    for entry in ((0, "09:00", "13:00"), (8, "09:00", "13:00"), (1, "13:00", "09:00"), (1, "09:00", "09:00")):
        with pytest.raises(psycopg.errors.CheckViolation):
            database.put_hours([entry])
    assert hours(database) == []


def test_hours_and_closures_of_an_archived_resource_are_restored_with_it(database: TestDatabase) -> None:
    """While the resource is archived they are not listed, because they could not be put like that."""
    database.make_resource("anna")
    database.put_hours([ANNA])
    database.put_closure("away", at(10), at(12), "anna")
    delete_resource(database)
    assert hours(database) == []
    assert closures(database) == []
    database.make_resource("anna")
    assert len(hours(database)) == 1
    assert len(closures(database)) == 1


def test_putting_hours_keeps_the_hours_of_an_archived_resource(database: TestDatabase) -> None:
    """They are not listed, so that a put without them can't be meant to remove them."""
    database.make_resource("anna")
    database.put_hours([(1, "09:00", "13:00"), ANNA])
    delete_resource(database)
    assert [entry["resource_id"] for entry in database.put_hours([(2, "08:00", "12:00")]).body["items"]] == [None]
    assert database.put_hours([]).body == {"items": [], "closed_by_own_hours": []}
    database.make_resource("anna")
    assert hours(database) == [(1, "10:00", "15:30", "anna")]


def test_the_id_of_a_closure_of_an_archived_resource_stays_taken(database: TestDatabase) -> None:
    """The closure is not listed, but its id can't be used for another one, nor can it be deleted."""
    database.make_resource("anna")
    database.put_closure("away", at(10), at(12), "anna")
    delete_resource(database)
    outcome = database.put_closure("away", at(20), at(21))
    assert (outcome.name, outcome.body["field"]) == ("validation_failed", "closure_id")
    deleted = database.value("SELECT outcome FROM booking.delete_closure('salon', 'away', %s)", NO_DEADLINE)
    assert deleted == "closure_not_found"
    database.make_resource("anna")
    [closure] = closures(database)
    assert (closure["closure_id"], datetime.fromisoformat(closure["from"])) == ("away", at(10))
    assert closure["resource_id"] == "anna"


def test_a_second_put_of_a_closure_replaces_it(database: TestDatabase) -> None:
    """A put replaces the whole closure; unknown and archived resources are refused."""
    assert database.put_closure("away", at(10), at(12)).name == "business_not_found"
    database.make_resource("anna")
    assert database.put_closure("away", at(10), at(12), "anna").name == "created"
    outcome = database.put_closure("away", at(11), at(13))
    assert outcome.name == "done"
    answered = datetime.fromisoformat(outcome.body["from"]), datetime.fromisoformat(outcome.body["to"])
    assert (*answered, outcome.body["resource_id"], outcome.body["reason"]) == (at(11), at(13), None, None)
    assert names_unknown(database.put_closure("away", at(11), at(13), "nobody"), "nobody")
    delete_resource(database)
    assert names_unknown(database.put_closure("away", at(11), at(13), "anna"), "anna")
    with pytest.raises(psycopg.errors.CheckViolation):
        database.put_closure("away", at(11), at(11))


def test_a_closure_is_deleted_once(database: TestDatabase) -> None:
    """Only the closure of the named business is deleted."""
    database.make_business()
    database.make_business("clinic")
    database.put_closure("away", at(10), at(12), business_id="clinic")
    database.put_closure("away", at(10), at(12))
    query = "SELECT outcome FROM booking.delete_closure(%s, 'away', %s)"
    assert database.value(query, "salon", NO_DEADLINE) == "done"
    assert database.value(query, "salon", NO_DEADLINE) == "closure_not_found"
    assert database.value(query, "nobody", NO_DEADLINE) == "closure_not_found"
    assert database.rows("SELECT business_id FROM booking.closures") == [("clinic",)]
