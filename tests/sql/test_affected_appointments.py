"""Closures and special hours are answered with the confirmed appointments that they affect."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.database import Outcome, TestDatabase
from tests.sql.catalog import put_special_hours
from tests.sql.measuring import reads_of, rolled_back

ALL_DAY = [(weekday, "00:00", "24:00") for weekday in range(1, 8)]


def local(day: int, hour: float = 0) -> datetime:
    """Returns an instant by the local time of December 2030, which is winter time in Berlin."""
    return datetime(2030, 12, day, tzinfo=UTC) + timedelta(hours=hour - 1)


@pytest.fixture
def salon(database: TestDatabase) -> TestDatabase:
    """Makes a salon with two resources at the beginning of December."""
    database.freeze_clock(local(1))
    database.make_service(resource_ids=["anna", "bert"])
    return database


def book(database: TestDatabase, day: int, hour: float, hours: float = 1, **request: Any) -> str:
    """Books a slot by local time on behalf of the business."""
    start, end = local(day, hour), local(day, hour + hours)
    outcome = database.book(slot_start=start.isoformat(), slot_end=end.isoformat(), manual=True, **request)
    assert outcome.name == "done", outcome
    return outcome.id


def affected(outcome: Outcome) -> list[str]:
    """Returns the ids of the affected appointments, of which none may be left out."""
    assert outcome.name in ("created", "done"), outcome
    found = outcome.body["affected_appointments"]
    assert found["count"] == len(found["items"])
    return [item["appointment_id"] for item in found["items"]]


def close(database: TestDatabase, start: datetime, end: datetime, resource_id: str | None = None) -> list[str]:
    """Puts a closure, and returns the affected appointments."""
    return affected(database.put_closure("away", start, end, resource_id))


def test_an_affected_appointment_is_described_in_short(salon: TestDatabase) -> None:
    """Its version is that for a change of it, and its guest is not shown."""
    appointment = book(salon, 24, 10, resource_id="anna", guest_name="Ada")
    salon.change(appointment, set={"notes": "x"})
    outcome = salon.put_closure("away", local(24), local(25))
    [item] = outcome.body["affected_appointments"]["items"]
    assert datetime.fromisoformat(item.pop("slot_start")) == local(24, 10)
    assert datetime.fromisoformat(item.pop("slot_end")) == local(24, 11)
    assert item == {"appointment_id": appointment, "service_id": "cut", "resource_id": "anna", "version": 2}
    assert "affected_appointments" not in salon.value("SELECT booking.closures('salon')")


def test_a_closure_affects_what_it_overlaps(salon: TestDatabase) -> None:
    """Adjacent appointments are not affected, and longer ones around the closure are."""
    around = book(salon, 24, 8, 10)
    before, within, after = (book(salon, 24, hour) for hour in (9, 10, 11))
    assert close(salon, local(24, 10), local(24, 11)) == [around, within]
    assert close(salon, local(24, 9.5), local(24, 11.5)) == [around, before, within, after]
    assert close(salon, local(24, 18), local(24, 19)) == []
    assert close(salon, local(23, 23), local(24, 8)) == []


def test_a_closure_of_a_resource_affects_only_its_appointments(salon: TestDatabase) -> None:
    """Those of services without a pool have no resource."""
    salon.make_service("talk")
    annas, berts = (book(salon, 24, 10, resource_id=resource_id) for resource_id in ("anna", "bert"))
    talk = book(salon, 24, 10, service_id="talk")
    assert close(salon, local(24), local(25), "anna") == [annas]
    assert sorted(close(salon, local(24), local(25))) == sorted([annas, berts, talk])


def test_only_confirmed_appointments_from_now_on_are_affected(salon: TestDatabase) -> None:
    """An appointment under way counts; ended, cancelled and held ones, and other businesses do not."""
    past, under_way, cancelled, coming = (book(salon, 24, hour) for hour in (8, 9, 11, 12))
    salon.change(cancelled, action="cancel")
    slot: dict[str, Any] = {"slot_start": local(24, 13).isoformat(), "slot_end": local(24, 14).isoformat()}
    assert salon.reserve(**slot).name == "done"
    salon.make_service(business_id="clinic")
    assert salon.book(business_id="clinic", **slot).name == "done"
    assert close(salon, local(24), local(25)) == [past, under_way, coming]
    salon.freeze_clock(local(24, 9.5))
    assert close(salon, local(24), local(25)) == [under_way, coming]


def test_special_hours_affect_what_they_do_not_permit(salon: TestDatabase) -> None:
    """An appointment within the new hours stays, and one that extends beyond them or into the dates does not."""
    salon.put_hours(ALL_DAY)
    night, into = book(salon, 23, 20), book(salon, 23, 23, 2)
    morning, noon, late = (book(salon, 24, hour) for hour in (9, 11.5, 20))
    out_of, next_day = book(salon, 24, 23.5, 1), book(salon, 25, 10)
    assert affected(put_special_hours(salon, "eve", "2030-12-24", [("09:00", "12:00")])) == [into, noon, late, out_of]
    assert affected(put_special_hours(salon, "eve", "2030-12-24", [])) == [into, morning, noon, late, out_of]
    assert affected(put_special_hours(salon, "eve", "2030-12-24", [("00:00", "24:00")])) == []
    assert affected(put_special_hours(salon, "eve", "2030-12-23", [], until="2030-12-25"))[::6] == [night, next_day]


def test_special_hours_after_the_last_appointment_affect_none(salon: TestDatabase) -> None:
    """Nor do those of a business that never had any: there is no time up to which their hours are compared."""
    assert affected(put_special_hours(salon, "eve", "2030-12-24", [])) == []
    book(salon, 2, 10)
    assert affected(put_special_hours(salon, "eve", "2030-12-24", [])) == []


def test_special_hours_of_a_resource_affect_only_its_appointments(salon: TestDatabase) -> None:
    """Neither the hours of the business nor its closures matter for them."""
    annas, _ = (book(salon, 24, 10, resource_id=resource_id) for resource_id in ("anna", "bert"))
    late = book(salon, 24, 15, resource_id="anna")
    salon.put_closure("away", local(24), local(25))
    assert affected(put_special_hours(salon, "eve", "2030-12-24", [("12:00", "18:00")], resource_id="anna")) == [annas]
    assert affected(put_special_hours(salon, "eve", "2030-12-24", [], resource_id="anna")) == [annas, late]


def test_hours_that_bind_the_ends_of_a_stay_do_not_affect_its_middle(salon: TestDatabase) -> None:
    """A stay from the 23rd to the 26th is affected by a closed arrival or departure, not by a closed day between."""
    salon.make_service(
        "night",
        duration_minutes=None,
        min_duration_minutes=None,
        max_duration_minutes=None,
        duration_days=1,
        end_time="11:00",
    )
    salon.put_hours([(weekday, "08:00", "20:00") for weekday in range(1, 8)])
    stay = book(salon, 23, 14, 69, service_id="night")
    by_day = {day: affected(put_special_hours(salon, "eve", f"2030-12-{day}", [])) for day in range(22, 28)}
    assert by_day == {22: [], 23: [stay], 24: [], 25: [], 26: [stay], 27: []}


def test_dates_are_local_also_where_the_clock_changes(database: TestDatabase) -> None:
    """The Sunday of the change has 23 hours, and its midnights are those of Berlin."""
    database.freeze_clock(datetime(2030, 3, 1, tzinfo=UTC))
    database.make_service(capacity=9)
    hours = {
        hour: database.book(
            slot_start=(start := datetime(2030, 3, 30, tzinfo=UTC) + timedelta(hours=hour)).isoformat(),
            slot_end=(start + timedelta(hours=1)).isoformat(),
        ).id
        for hour in (22, 23, 45, 46)
    }
    assert affected(put_special_hours(database, "change", "2030-03-31", [])) == [hours[23], hours[45]]


def test_the_first_hundred_are_listed_and_all_are_counted(salon: TestDatabase) -> None:
    """They are in the order of their starts."""
    salon.make_service("class", capacity=200)
    booked = [book(salon, 24, 23 - n / 10, service_id="class") for n in range(150)]
    found = salon.put_closure("away", local(24), local(26)).body["affected_appointments"]
    assert found["count"] == 150
    assert [item["appointment_id"] for item in found["items"]] == booked[:-101:-1]


def test_dates_of_centuries_are_read_up_to_the_last_appointment(salon: TestDatabase) -> None:
    """The lock of the business is held meanwhile, so the hours of all of these dates must not be computed."""
    book(salon, 24, 10)
    outside = book(salon, 24, 14)
    salon.rows("SET statement_timeout = '2s'")
    new = put_special_hours(salon, "new", "2030-12-02", [("09:00", "12:00")], until="2999-12-31")
    assert affected(new) == [outside]
    assert affected(put_special_hours(salon, "old", "1900-01-01", [], until="2030-12-01")) == []


CALLS: dict[str, Callable[[TestDatabase], Outcome]] = {
    "closure": lambda database: database.put_closure("away", local(24), local(25)),
    "special hours": lambda database: put_special_hours(database, "eve", "2030-12-24", [("09:00", "12:00")]),
}


@pytest.mark.new_database
@pytest.mark.parametrize("call", CALLS)
def test_the_appointments_of_other_days_and_businesses_are_not_read(salon: TestDatabase, call: str) -> None:
    """The cost under the lock of a business does not grow with its history."""
    salon.make_service(business_id="clinic")
    appointment = book(salon, 24, 10)
    few = reads_of(salon, lambda: CALLS[call](salon))
    with rolled_back(salon):
        for business_id, days in (("salon", "'-30 days'"), ("salon", "'30 days'"), ("clinic", "'0 days'")):
            salon.rows(
                "INSERT INTO booking.appointments SELECT (jsonb_populate_record(a, jsonb_build_object("  # noqa: S608
                "'appointment_id', gen_random_uuid(), 'business_id', %s::text, 'resource_id', NULL, 'slot_start', "
                "a.slot_start + offset_, 'slot_end', a.slot_end + offset_, 'occupied', tstzrange("
                "lower(a.occupied) + offset_, upper(a.occupied) + offset_)))).* "
                "FROM booking.appointments AS a, generate_series(1, 1000) AS n, "
                f"LATERAL (SELECT {days}::interval + n * '1 minute'::interval AS offset_) AS shift "
                "WHERE a.appointment_id = %s",
                *(business_id, appointment),
            )
        many = reads_of(salon, lambda: CALLS[call](salon))
    assert many.rows <= few.rows + 10


@pytest.mark.new_database
def test_the_hours_are_read_once_for_all_appointments(salon: TestDatabase) -> None:
    """The rows read grow with the appointments of the dates, one by one."""
    salon.put_hours([(weekday, f"{hour:02}:00", f"{hour:02}:45") for weekday in range(1, 8) for hour in range(24)])
    salon.make_service("class", capacity=1000)

    def rows_read(count: int) -> int:
        for n in range(count):
            book(salon, 24, 23 - n / 60, service_id="class")
        return reads_of(salon, lambda: CALLS["special hours"](salon)).rows

    few = rows_read(10)
    assert rows_read(50) <= few + 50 * 5
