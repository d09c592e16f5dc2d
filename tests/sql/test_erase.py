"""booking.erase_guest: all appointments of one person lose their personal data, step by step."""

from typing import Any

import pytest

from tests.database import TestDatabase
from tests.sql.changes import stored_appointment, trail
from tests.sql.erasures import AUTHOR, erase_guest
from tests.sql.measuring import reads_of, statements_of
from tests.sql.requests import GUEST

ADA = "ada@example.com"
PHONE = "+49301234567"


def erased(database: TestDatabase, **request: Any) -> int:
    """Erases a guest and returns the number of appointments."""
    outcome = erase_guest(database, **request)
    assert (outcome.name, list(outcome.body)) == ("done", ["erased"])
    number: int = outcome.body["erased"]
    return number


def emails(database: TestDatabase) -> list[str | None]:
    """Returns the stored addresses, in the order of the slots."""
    return [email for (email,) in database.rows("SELECT guest_email FROM booking.appointments ORDER BY slot_start, 1")]


def test_an_erasure_of_a_guest_leaves_what_an_erasure_of_each_appointment_leaves(database: TestDatabase) -> None:
    """The rows and the audit rows of both are the same, but for the actor."""
    database.make_service(capacity=5)
    request: dict[str, Any] = {**GUEST, "metadata": {"client": "ada-7"}, "fingerprint": "a digest over the guest"}
    one, other = (database.book(10, **request, idempotency_key=key).id for key in ("one", "other"))
    database.freeze_clock()
    database.change(one, action="erase")
    assert erased(database, guest_email=GUEST["guest_email"]) == 1
    its_own = dict.fromkeys(("appointment_id", "idempotency_key", "created_at"))
    assert {**stored_appointment(database, one), **its_own} == {**stored_appointment(database, other), **its_own}
    (_, by_change), (_, by_guest) = trail(database, one), trail(database, other)
    actor = {"kind": AUTHOR["actor_kind"], "id": AUTHOR["actor_id"], "name": None}
    assert by_guest == {**by_change, "actor": actor, "request_id": AUTHOR["request_id"]}
    stored = database.value("SELECT string_agg(a::text, '') FROM booking.appointments a")
    stored += database.value("SELECT string_agg(l::text, '') FROM booking.audit_logs l")
    assert [text for text in (*GUEST.values(), "ada-7", "digest") if text in stored] == []
    assert database.violations() == {}


def test_a_second_erasure_finds_nothing(database: TestDatabase) -> None:
    """Neither a version nor an audit row is added."""
    database.make_service(capacity=5)
    appointment = database.book(10, guest_email=ADA).id
    assert [erased(database, guest_email=ADA) for _ in range(2)] == [1, 0]
    assert [entry["action"] for entry in trail(database, appointment)] == ["created", "erased"]


@pytest.mark.parametrize("guest", [{"guest_email": ADA}, {"guest_phone": PHONE}], ids=str)
def test_an_erasure_is_bounded_and_continues(database: TestDatabase, guest: dict[str, str]) -> None:
    """A step holds the lock of the business only briefly; the steps together erase each appointment once."""
    database.make_service(capacity=5)
    for hour in (10, 11, 12, 13, 14):
        database.book(hour, guest_email=ADA, guest_phone=PHONE)
    assert [erased(database, **guest, limit=2) for _ in range(4)] == [2, 2, 1, 0]
    assert emails(database) == [None] * 5


def test_an_erasure_finds_an_address_in_any_case(database: TestDatabase) -> None:
    """The request for erasure is rarely typed by the person who booked."""
    database.make_service(capacity=5)
    for hour, email in ((10, "Ada@example.com"), (11, ADA), (12, "ADA@example.com")):
        database.book(hour, guest_email=email)
    assert [erased(database, guest_email="aDA@example.com", limit=2) for _ in range(3)] == [2, 1, 0]
    assert emails(database) == [None] * 3


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("νίκος@example.com", "ΝΊΚΟΣ@example.com"),
        ("ΝΊΚΟΣ@example.com", "νίκος@example.com"),
        ("İnci@x.com", "inci@x.com"),
    ],
)
def test_an_erasure_finds_an_address_in_capitals_of_other_alphabets(
    database: TestDatabase, written: str, asked: str
) -> None:
    """A capital may have two small letters, or one by some rules and two by others."""
    database.make_service()
    database.book(10, guest_email=written)
    assert erased(database, guest_email=asked) == 1


def test_addresses_are_compared_alike_in_each_locale(database: TestDatabase) -> None:
    """Those of the server with a small letter for each capital, and those with the full rules of Unicode."""
    written = ["İNCİ", "INCI", "inci", "ΝΙΚΟΣ@Σ.gr", "νικος@ς.gr", "MÜLLER"]
    collations = "SELECT collname FROM pg_collation WHERE collname IN ('C.utf8', 'pg_c_utf8', 'pg_unicode_fast')"
    for (collation,) in [("default",), *database.rows(collations)]:
        query = f'SELECT booking.folded_email(email COLLATE "{collation}") FROM unnest(%s::text[]) AS email'  # noqa: S608
        folded = [email for (email,) in database.rows(query, written)]
        assert folded == ["inci", "inci", "inci", folded[4], "νικος@ς.gr".casefold(), "müller"], collation


def test_only_the_named_guest_is_erased(database: TestDatabase) -> None:
    """Other guests, and the same guest in another business, stay."""
    for business_id in ("salon", "clinic"):
        database.make_service(business_id=business_id, capacity=5)
        database.book(10, business_id=business_id, guest_email=ADA)
    database.book(11, business_id="clinic", guest_email="eve@example.com", guest_phone=PHONE)
    database.book(11, guest_email="adam@example.com", guest_phone=PHONE)
    database.book(12, guest_email=None, guest_phone=PHONE)
    assert erased(database, guest_email=ADA) == 1
    assert sorted(filter(None, emails(database))) == [ADA, "adam@example.com", "eve@example.com"]
    assert [erased(database, guest_phone=number) for number in (PHONE[:-1], PHONE + "0")] == [0, 0]
    assert erased(database, guest_phone=PHONE) == 2
    assert sorted(filter(None, emails(database))) == [ADA, "eve@example.com"]


def test_ended_appointments_are_erased_too_and_room_stays_as_it_is(database: TestDatabase) -> None:
    """A confirmed appointment keeps its room, and a cancelled one its status."""
    database.make_service(capacity=1)
    cancelled = database.book(10, guest_email=ADA).id
    database.change(cancelled, action="cancel", reason="a broken leg")
    database.book(11, guest_email=ADA)
    assert erased(database, guest_email=ADA) == 2
    row = stored_appointment(database, cancelled)
    assert (row["status"], row["cancellation_reason"]) == ("cancelled", None)
    assert (database.reserve(10).name, database.reserve(11).name) == ("done", "slot_unavailable")
    assert database.violations() == {}


def test_an_erasure_in_an_unknown_business_is_refused(database: TestDatabase) -> None:
    """The administrator may have misspelt its id."""
    assert erase_guest(database, business_id="nobody", guest_email=ADA).name == "business_not_found"


@pytest.mark.new_database
def test_a_step_reads_its_own_rows_in_a_fixed_number_of_statements(database: TestDatabase) -> None:
    """The appointments of other guests, and those that steps before erased, add no cost."""
    database.make_service(capacity=1000)
    for number in range(60):
        database.book(10, guest_email=ADA if number % 2 else f"{number}@example.com")

    def step(limit: int) -> object:
        return erase_guest(database, guest_email=ADA, limit=limit)

    reads = reads_of(database, lambda: step(2))
    assert "idx_appointments_guest_email" in reads.indexes
    assert reads.rows < 40
    assert (reads.whole_tables, reads_of(database, lambda: step(20)).whole_tables) == (frozenset(), frozenset())
    step(1)
    assert statements_of(database, lambda: step(2)) == statements_of(database, lambda: step(20)) > 0
