"""The public catalogue: what the public can book, and nothing else."""

import json
from typing import Any

import pytest

from tests.database import TestDatabase
from tests.sql.catalog import delete_resource, delete_service
from tests.sql.measuring import reads_of

DESCRIBED: dict[str, Any] = {"description": "Text", "metadata": {"a": None}}
# Settings that are left out, as the API puts them: the helper of the tests fills them in.
LEFT_OUT: dict[str, Any] = dict.fromkeys(
    ("min_duration_minutes", "max_duration_minutes", "slot_step_minutes", "max_simultaneous_bookings")
)


def catalogue(database: TestDatabase, business_id: str = "salon") -> dict[str, Any]:
    """Returns the public catalogue of a business."""
    body: dict[str, Any] = database.value("SELECT booking.public_catalogue(%s)", business_id)
    return body


def service(database: TestDatabase, **settings: Any) -> dict[str, Any]:
    """Puts a service with settings left out, and returns what the catalogue shows of it."""
    database.make_business()
    assert database.put_service(**(LEFT_OUT | settings)).name in ("created", "done")
    [shown] = catalogue(database)["services"]
    return dict(shown)


def listed(body: dict[str, Any]) -> tuple[dict[str, list[str]], list[str]]:
    """Returns the resources of each service by its id, and all resources."""
    services = {entry["service_id"]: entry["resource_ids"] for entry in body["services"]}
    return services, [entry["resource_id"] for entry in body["resources"]]


def test_every_member_is_a_public_one(database: TestDatabase) -> None:
    """A column that is added later is not public by itself."""
    business = {"name": "Salon", "slug": "rosa", "timezone": "Europe/Berlin", "country": "DE", **DESCRIBED}
    database.rows("SELECT booking.put_business('salon', %s, 'infinity')", json.dumps(business))
    anna = {"name": "Anna", "kind": "staff", "booking_enabled": True, "seats": 3, **DESCRIBED}
    database.rows("SELECT booking.put_resource('salon', 'anna', %s, 'infinity')", json.dumps(anna))
    database.put_service(resource_ids=["anna"], **LEFT_OUT, **DESCRIBED)
    del anna["booking_enabled"]
    assert catalogue(database) == {
        "business": {"business_id": "salon", **business},
        "services": [
            {
                "service_id": "cut",
                "name": "cut",
                **DESCRIBED,
                "duration_minutes": 60,
                "min_duration_minutes": 60,
                "max_duration_minutes": 60,
                **dict.fromkeys(("duration_days", "min_duration_days", "max_duration_days")),
                **dict.fromkeys(("start_times", "end_time")),
                "slot_step_minutes": 60,
                "starts_on_grid": False,
                "min_notice_minutes": 0,
                "max_advance_days": 3660,
                "cancellation_window_minutes": 0,
                "reschedule_window_minutes": 0,
                "max_upcoming_per_guest": None,
                "hold_ttl_minutes": 15,
                "resource_sharing": "exclusive",
                "max_quantity": 3,
                "resource_ids": ["anna"],
            }
        ],
        "resources": [{"resource_id": "anna", **anna}],
    }


def test_a_business_without_services_has_an_empty_catalogue(database: TestDatabase) -> None:
    """A business that does not exist has none, and a resource without a service is not shown."""
    assert database.rows("SELECT booking.public_catalogue('salon')") == []
    database.make_resource("anna")
    body = catalogue(database)
    assert (body["services"], body["resources"]) == ([], [])
    assert body["business"]["business_id"] == "salon"


def test_what_the_public_cannot_book_is_left_out(database: TestDatabase) -> None:
    """Nothing disabled or archived, nothing that only such services use, and no other business."""
    for business_id in ("salon", "other"):
        database.make_service("cut", business_id=business_id, resource_ids=["bert", "anna"])
        database.make_service("wash", business_id=business_id, resource_ids=["anna", "cleo"])
        database.make_service("talk", business_id=business_id)
    complete = {"cut": ["anna", "bert"], "talk": [], "wash": ["anna", "cleo"]}
    assert listed(catalogue(database)) == (complete, ["anna", "bert", "cleo"])
    assert [entry["service_id"] for entry in catalogue(database)["services"]] == ["cut", "talk", "wash"]

    database.make_resource("anna", booking_enabled=False)
    assert listed(catalogue(database)) == ({"cut": ["bert"], "talk": [], "wash": ["cleo"]}, ["bert", "cleo"])
    database.put_service("cut", resource_ids=["anna", "bert"], booking_enabled=False)
    assert listed(catalogue(database)) == ({"talk": [], "wash": ["cleo"]}, ["cleo"])
    database.reserve(service_id="talk")
    assert delete_service(database, "talk") == "done"
    assert delete_resource(database, "cleo").name == "done"
    assert listed(catalogue(database)) == ({"wash": []}, [])
    assert catalogue(database)["services"][0]["max_quantity"] == 0
    assert listed(catalogue(database, "other")) == (complete, ["anna", "bert", "cleo"])


def test_lengths_and_steps_have_their_defaults(database: TestDatabase) -> None:
    """A length has one unit, and start times replace the steps."""
    lengths = ("duration", "min_duration", "max_duration")

    def shown(**settings: Any) -> tuple[list[int | None], list[int | None], int | None]:
        entry = service(database, **settings)
        minutes, days = ([entry[f"{name}_{unit}"] for name in lengths] for unit in ("minutes", "days"))
        return minutes, days, entry["slot_step_minutes"]

    none = [None, None, None]
    assert shown(duration_minutes=45) == ([45, 45, 45], none, 45)
    bounds = {"min_duration_minutes": 30, "max_duration_minutes": 90, "slot_step_minutes": 15}
    assert shown(duration_minutes=45, **bounds) == ([45, 30, 90], none, 15)
    at_times = {"start_times": ["14:00", "09:00"], "slot_step_minutes": 15}
    assert shown(duration_minutes=45, **at_times) == ([45, 45, 45], none, None)
    assert service(database, **at_times)["start_times"] == ["09:00", "14:00"]
    by_days = {"duration_minutes": None, "duration_days": 2}
    assert shown(**by_days) == (none, [2, 2, 2], None)
    assert shown(**by_days, min_duration_days=1, max_duration_days=7, slot_step_minutes=30) == (none, [2, 1, 7], 30)
    assert service(database, **by_days, end_time="11:00")["end_time"] == "11:00"


def test_the_reschedule_window_is_by_default_the_cancellation_window(database: TestDatabase) -> None:
    """A window of its own, also of no time, replaces it."""
    for own, shown in ((None, 120), (0, 0), (30, 30), (600, 600)):
        entry = service(database, cancellation_window_minutes=120, reschedule_window_minutes=own)
        assert (entry["cancellation_window_minutes"], entry["reschedule_window_minutes"]) == (120, shown)
    assert service(database, max_upcoming_per_guest=3)["max_upcoming_per_guest"] == 3


def test_the_largest_party_can_be_booked(database: TestDatabase) -> None:
    """It is granted where the slot is empty, and one more is refused."""
    for resource_id, seats in (("small", 2), ("large", 4), ("closed", 9)):
        database.make_resource(resource_id, seats=seats, booking_enabled=resource_id != "closed")
    pool = ["small", "large", "closed"]
    for capacity, resource_ids, largest in ((None, [], 1), (7, [], 7), (None, pool, 4), (3, pool, 3), (15, pool, 4)):
        entry = service(database, max_simultaneous_bookings=capacity, resource_ids=resource_ids)
        assert entry["max_quantity"] == largest
        held = database.reserve(10, quantity=largest)
        assert held.name == "done"
        database.release(held.id)
        assert database.reserve(10, quantity=largest + 1).name != "done"


@pytest.mark.new_database
@pytest.mark.parametrize("is_analysed", [False, True])
def test_a_resource_is_read_once_however_many_pools_it_is_in(database: TestDatabase, is_analysed: bool) -> None:
    """The largest catalogue, 200 pools of 500 resources, would else be 100,000 look-ups."""
    staff = [f"r{number}" for number in range(50)]
    for number in range(20):
        database.make_service(f"s{number}", resource_ids=staff)
    if is_analysed:
        database.rows("VACUUM ANALYZE")
    services, resources = listed(catalogue(database))
    assert resources == sorted(staff)
    assert services == {f"s{number}": resources for number in range(20)}
    # The places in pools, the resources of the pools, those that are shown, the services and the business.
    assert reads_of(database, lambda: catalogue(database)).rows <= 20 * 50 + 3 * 50 + 2 * 20 + 20
