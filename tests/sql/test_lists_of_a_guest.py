"""booking.list_appointments by guest and by change, and the rows that a page of each list reads."""

from datetime import datetime, timedelta
from functools import partial
from itertools import product
from typing import Any

import pytest

from tests.database import TestDatabase, at
from tests.sql.changes import move
from tests.sql.lists import FIRST_PAGE, list_page, list_pages, listed, place_of
from tests.sql.measuring import reads_of

MANY = 5_000
ADA, BOB = "ada@example.com", "bob@example.com"
MILLISECOND = timedelta(milliseconds=1)


def ids_of(entries: list[dict[str, Any]]) -> list[str]:
    """Returns the ids of entries."""
    return [entry["appointment_id"] for entry in entries]


# By guest.


def test_a_guest_is_found_by_email_or_phone(database: TestDatabase) -> None:
    """The list has every appointment of the guest, past and ended ones included, by start, of this business only."""
    database.make_service(capacity=9)
    database.make_service(business_id="clinic", capacity=9)
    by_both = database.book(12, guest_email=ADA, guest_phone="+4930123").id
    by_email = database.book(9, guest_email=ADA).id
    by_phone = database.book(10, guest_email=BOB, guest_phone="+4930123").id
    database.book(11, guest_email=ADA, business_id="clinic")
    database.book(11, guest_email="ada@example.community", guest_phone="+49301234")
    database.book(11, guest_email="ad@example.com", guest_phone="+493012")
    database.change(by_email, action="cancel")
    for limit in (1, 2, 9):
        assert ids_of(listed(database, limit, guest_email=ADA)) == [by_email, by_both]
        assert ids_of(listed(database, limit, guest_phone="+4930123")) == [by_phone, by_both]
    assert ids_of(listed(database, guest_email=ADA, guest_phone="+4930123")) == [by_both]
    assert ids_of(listed(database, guest_email=ADA, status="confirmed")) == [by_both]
    assert listed(database, guest_email="nobody@example.com") == []


def test_the_case_of_an_address_does_not_matter(database: TestDatabase) -> None:
    """Appointments of one guest follow each other by start, however each address is written; each is shown as it is."""
    database.make_service(capacity=9)
    written = ("Ada@example.com", ADA, "ADA@example.com", "aDa@example.com")
    ids = [database.book(hour, guest_email=email).id for hour, email in zip((8, 9, 10, 11), written, strict=True)]
    database.book(12, guest_email="ada+1@example.com")
    for limit in (1, 9):
        assert [ids_of(listed(database, limit, guest_email=email)) for email in written] == [ids] * 4
    assert tuple(entry["guest_email"] for entry in listed(database, guest_email=ADA)) == written
    # By change, of which several may be within one millisecond.
    assert sorted(ids_of(listed(database, updated_since=at(-24 * 365), guest_email="ADA@example.com"))) == sorted(ids)


def test_the_list_of_a_guest_is_bounded_by_its_range(database: TestDatabase) -> None:
    """Both bounds are optional, and `overlapping` adds what is under way."""
    database.make_service(capacity=9)
    ids = {hour: database.book(hour, 2, guest_email=ADA, guest_phone="+4930123").id for hour in (8, 9, 10, 11)}
    for guest in ({"guest_email": ADA}, {"guest_phone": "+4930123"}):

        def hours(**filters: Any) -> list[int]:
            found = ids_of(listed(database, 1, **guest, **filters))  # noqa: B023
            return [hour for hour, name in ids.items() if name in found]

        assert hours(since=at(10)) == [10, 11]
        assert hours(until=at(10)) == [8, 9]
        assert hours(since=at(9), until=at(11)) == [9, 10]
        assert hours(since=at(10), until=at(11), overlapping=True) == [9, 10]
        assert hours(overlapping=True, until=at(9)) == [8]


def test_appointments_of_a_guest_with_one_start_are_paged(database: TestDatabase) -> None:
    """Equal starts are ordered by id, so that pages neither miss nor repeat any."""
    database.make_service(capacity=99)
    guest: dict[str, Any] = {"guest_email": ADA, "guest_phone": "+4930123"}
    ids = {database.book(10, **guest).id for _ in range(7)}
    for limit, name in product((1, 2, 3), guest):
        found = ids_of(listed(database, limit, **{name: guest[name]}))
        assert sorted(found) == found
        assert set(found) == ids


# By change.


def test_changes_since_an_instant_include_that_millisecond(database: TestDatabase) -> None:
    """A caller that repeats the newest time that it has seen, in milliseconds, misses nothing."""
    database.make_service(capacity=9)
    noon = at(-24 * 7, day=0).replace(microsecond=0)
    ids = []
    for microseconds in (999, 1000, 1001, 1999, 2000):
        database.freeze_clock(noon + timedelta(microseconds=microseconds))
        ids.append(database.book(10).id)
    assert ids_of(listed(database, 1, updated_since=noon + MILLISECOND)) == ids[1:]
    assert ids_of(listed(database, 1, updated_since=noon + timedelta(microseconds=1500))) == ids[1:]
    assert ids_of(listed(database, 2, updated_since=noon + 2 * MILLISECOND)) == ids[4:]
    assert ids_of(listed(database, 2, updated_since=noon)) == ids


def test_changes_are_filtered(database: TestDatabase) -> None:
    """Range, guest, service, resource and status restrict the changes; their order stays that of the changes."""
    database.make_service(capacity=9, resource_ids=[])
    database.make_service("perm", resource_ids=["anna", "bert"])
    now = database.freeze_clock()
    late, early = database.book(12, guest_email=ADA).id, database.book(8, 3, guest_email=BOB, guest_phone="+4930123").id
    perm = database.book(10, service_id="perm", resource_id="bert", guest_email=ADA).id
    for seconds, appointment in enumerate((late, early, perm), 1):
        database.freeze_clock(now + timedelta(seconds=seconds))
        database.change(appointment, set={"notes": "seen"})
    database.change(perm, action="cancel")

    def found(**filters: Any) -> list[str]:
        return ids_of(listed(database, 1, updated_since=now, **filters))

    assert found() == [late, early, perm]
    assert found(since=at(10)) == [late, perm]
    assert found(since=at(10), overlapping=True) == [late, early, perm]
    assert found(until=at(12)) == [early, perm]
    assert found(guest_email=ADA) == [late, perm]
    assert found(guest_phone="+4930123") == [early]
    assert found(service_id="perm") == found(resource_id="bert") == found(status="cancelled") == [perm]
    assert found(guest_email=BOB, service_id="perm") == []


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_changes_between_pages_are_listed_again_and_none_is_missed(database: TestDatabase, limit: int) -> None:
    """After the last page, the newest entry of each appointment is its present version, whatever changed meanwhile.

    An appointment that nothing changed is listed once.
    """
    database.make_service(capacity=99)
    now = database.freeze_clock()
    ids = [database.book(8 + number).id for number in range(9)]
    database.freeze_clock(now + timedelta(seconds=1))
    seen: list[dict[str, Any]] = []
    for number, page in enumerate(list_pages(database, limit, updated_since=now)):
        seen += page
        if number < 3 and len(page) == limit:
            # A listed one and one not listed yet, to an earlier and to a later start.
            move(database, ids[number], 20)
            move(database, ids[-1 - number], 2)
            database.freeze_clock(now + timedelta(seconds=2 + number))
    newest = {entry["appointment_id"]: entry["version"] for entry in seen}
    stored = dict(database.rows("SELECT appointment_id::text, version FROM booking.appointments"))
    assert newest == stored
    places = [place_of(entry, updated_since=now) for entry in seen]
    assert len(places) == len(set(places))
    assert [ids_of(seen).count(ids[number]) for number in (3, 4, 5)] == [1, 1, 1]


# What a page reads.


def add_many(database: TestDatabase, analysed: bool) -> None:
    """Inserts appointments of many guests and of a popular one, in one range of starts and of changes."""
    if analysed:
        database.rows("ANALYZE")
    database.rows(
        """
        INSERT INTO booking.appointments (business_id, appointment_id, service_id, slot_start, slot_end, occupied,
          quantity, status, version, metadata, source, guest_email, guest_phone, created_at, updated_at)
        SELECT 'salon', gen_random_uuid(), 'cut', at, at + interval '1 hour', tstzrange(at, at + interval '1 hour'), 1,
          'completed', 1, '{}', 'online', who || '@example.com', '+49' || who, changed, changed
        FROM generate_series(1, %s) AS n CROSS JOIN LATERAL (
          SELECT %s + n * interval '1 minute' AS at, %s - n * interval '1 minute' AS changed,
            CASE WHEN n %% 2 = 0 THEN 'walkin' ELSE 'guest' || n END AS who) AS row
        """,
        *(MANY, at(0), at(0)),
    )
    database.rows(
        "INSERT INTO booking.audit_logs "
        "(business_id, audit_id, appointment_id, version, action, actor_kind, changes, at) "
        "SELECT business_id, appointment_id, appointment_id, 1, 'created', 'guest', '{}', created_at "
        "FROM booking.appointments"
    )
    if analysed:
        database.rows("VACUUM ANALYZE")


LISTS: dict[str, tuple[dict[str, Any], str]] = {
    "range": ({"since": at(0), "until": at(24 * 365)}, "idx_appointments_calendar"),
    "overlapping": ({"since": at(0), "until": at(24 * 365), "overlapping": True}, "idx_appointments_calendar"),
    "changes": ({"updated_since": at(-24 * 365)}, "idx_appointments_changes"),
    "e-mail": ({"guest_email": "walkin@example.com"}, "idx_appointments_guest_email"),
    "phone": ({"guest_phone": "+49walkin"}, "idx_appointments_guest_phone"),
    "rare e-mail": ({"guest_email": "guest777@example.com"}, "idx_appointments_guest_email"),
}


@pytest.mark.new_database
@pytest.mark.parametrize("analysed", [False, True], ids=["never analysed", "analysed"])
def test_a_page_reads_its_rows_and_no_others(database: TestDatabase, analysed: bool) -> None:
    """Of each list the first page and one from the middle: a range of its index, from the cursor to the limit."""
    database.make_service(capacity=9)
    add_many(database, analysed)
    for name, (filters, index) in LISTS.items():
        whole_list = [entry for page in list_pages(database, 2_000, **filters) for entry in page]
        assert len(whole_list) == {"rare e-mail": 1, "e-mail": MANY // 2, "phone": MANY // 2}.get(name, MANY), name
        middle = place_of(whole_list[len(whole_list) // 2], **filters)
        for after in (FIRST_PAGE, middle):
            reads = reads_of(database, partial(list_page, database, 10, after, **filters))
            assert index in reads.indexes - {"services_pkey"}, name
            assert reads.indexes <= {index, "services_pkey"}, name
            assert reads.whole_tables <= {"services"}, name
            assert reads.rows <= 30, name
            assert reads.blocks <= 40, name


@pytest.mark.new_database
@pytest.mark.parametrize("name", ["e-mail", "phone"])
def test_the_end_of_a_range_bounds_the_list_of_a_guest(database: TestDatabase, name: str) -> None:
    """Appointments of the guest after `until`, or of other guests, are not read."""
    database.make_service(capacity=9)
    add_many(database, analysed=False)
    filters = {**LISTS[name][0], "since": at(1), "until": at(1) + timedelta(minutes=9)}
    assert len(list_page(database, 500, **filters)) == 5
    assert reads_of(database, lambda: list_page(database, 500, **filters)).rows <= 20


def test_the_lists_of_a_guest_have_their_starts_in_order(database: TestDatabase) -> None:
    """A page in the middle continues at the start and id of the entry before it."""
    database.make_service(capacity=9)
    add_many(database, analysed=False)
    page = list_page(database, 20, (at(10), "00000000-0000-0000-0000-000000000000"), guest_email="walkin@example.com")
    starts = [datetime.fromisoformat(entry["slot_start"]) for entry in page]
    assert starts == [at(10) + timedelta(minutes=2 * number) for number in range(20)]
