"""Doctored histories: in each a violation is present and found, and its sound twin passes. No server runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.history.checker import check
from tests.history.record import Call, Clock, History
from tests.history.story import ORIGIN, Story, slot

Tell = Callable[[Story, bool], object]
FIRST = {"appointmentId": "first"}
STORIES: dict[str, tuple[str, Tell]] = {}


def violates(invariant: str) -> Callable[[Tell], Tell]:
    """Registers a story that violates an invariant, unless its sound twin is asked for."""

    def register(tell: Tell) -> Tell:
        STORIES[tell.__name__] = invariant, tell
        return tell

    return register


# Room.


@violates("no overbooking")
def two_holds_of_the_last_unit(story: Story, sound: bool) -> None:
    story.reserve("first")
    if sound:
        story.call("release", 204, reservationId="first")
    story.reserve("second")


@violates("no overbooking")
def a_hold_and_a_booking_that_may_have_been_lost(story: Story, sound: bool) -> None:
    story.reserve("first")
    if sound:
        story.call("book", None, **slot("cut"))
    else:
        story.book("second")


@violates("no overbooking")
def a_hold_before_the_expiry_of_another(story: Story, sound: bool) -> None:
    story.reserve("first", ttl=0.5)
    if sound:
        story.call("move_clock", 200, seconds=30)
    story.reserve("second")


@violates("no overbooking")
def a_booking_while_a_release_has_no_answer(story: Story, sound: bool) -> None:
    story.reserve("first").call("release", None if sound else 404, {"code": "ANOTHER"}, reservationId="first")
    story.book("second")


@violates("no overbooking")
def a_move_to_a_slot_that_is_taken(story: Story, sound: bool) -> None:
    story.book("first").book("second", **slot("cut", 12))
    there = slot("cut", 11 if sound else 10)
    story.change("second", 1, story.appointment("second", version=2, **there), **there)


@violates("no overbooking")
def a_capacity_below_the_claims(story: Story, sound: bool) -> None:
    story.call("put_service", 200, serviceId="cut", capacity=2).book("first").book("second")
    if sound:
        story.refused("put_service", "CAPACITY_IN_USE", serviceId="cut", capacity=1)
    else:
        story.call("put_service", 200, serviceId="cut", capacity=1)


@violates("no double-booking")
def one_resource_in_two_places(story: Story, sound: bool) -> None:
    story.reserve("first", "wash", resourceId="rosa")
    story.reserve("second", "wash", resourceId="maria" if sound else "rosa", **slot("wash", 10.5))


@violates("no double-booking")
def two_sessions_in_one_hall(story: Story, sound: bool) -> None:
    story.book("first", "class", resourceId="hall")
    story.book("second", "class", resourceId="hall", **slot("class", 10 if sound else 10.5))


@violates("no false refusal")
def a_refusal_of_a_free_slot(story: Story, sound: bool) -> None:
    if sound:
        story.call("reserve", None, **slot("cut"), ttlMinutes=5)
    story.refused(**slot("cut"), quantity=1)


@violates("no false refusal")
def a_refusal_after_the_room_was_freed(story: Story, sound: bool) -> None:
    story.reserve("first")
    if sound:
        # The release can have come after the refusal.
        story.refused("reserve", "SLOT_UNAVAILABLE", 2, **slot("cut")).call("release", 204, reservationId="first")
    else:
        story.call("release", 204, reservationId="first").refused(**slot("cut"))


@violates("no false refusal")
def a_refusal_after_the_holds_expired(story: Story, sound: bool) -> None:
    story.reserve("first", ttl=0.5).wait(20 if sound else 40).refused(**slot("cut"))


@violates("no false refusal")
def a_refusal_although_one_resource_is_free(story: Story, sound: bool) -> None:
    story.book("first", "wash", resourceId="rosa")
    story.refused(**slot("wash"), resourceId="rosa" if sound else None)


@violates("no false refusal")
def a_refusal_to_join_a_session_with_seats(story: Story, sound: bool) -> None:
    story.book("first", "class", resourceId="hall", quantity=2)
    story.refused(**slot("class"), quantity=2 if sound else 1)


@violates("no false refusal")
def a_move_that_only_overlaps_itself(story: Story, sound: bool) -> None:
    if sound:
        story.book("other", **slot("cut", 11))
    story.book("first")
    story.refused("change", appointmentId="first", expectedVersion=1, set=slot("cut", 10.5))


@violates("no false refusal")
def a_rebook_that_is_refused_beside_its_own_expired_hold(story: Story, sound: bool) -> None:
    story.reserve("first", ttl=0.5).wait(60)
    if sound:
        story.reserve("second")
    story.refused("commit", reservationId="first", ifExpired="rebook")


# Keys.


@violates("one effect per key")
def a_key_with_two_holds(story: Story, sound: bool) -> None:
    story.call("reserve", 201, story.hold("first", "class"), **slot("class"), ttlMinutes=5, idempotencyKey="k")
    again = "first" if sound else "second"
    story.call("reserve", 200, story.hold(again, "class"), **slot("class"), ttlMinutes=5, idempotencyKey="k")


@violates("one effect per key")
def a_key_of_two_different_requests(story: Story, sound: bool) -> None:
    story.call("book", 201, story.appointment("first"), **slot("cut"), idempotencyKey="k")
    changed = {} if sound else {"notes": "another"}
    story.call("book", 200, story.appointment("first"), **slot("cut"), idempotencyKey="k", **changed)


@violates("one effect per key")
def an_unanswered_booking_and_its_repetition(story: Story, sound: bool) -> None:
    story.call("book", None, **slot("class"), idempotencyKey="k")
    story.call("book", 201, story.appointment("first", "class"), **slot("class"), idempotencyKey="k")
    story.settle().audit("first", (1, 2), service="class")
    if not sound:
        story.audit("second", (1, 1), service="class")


@violates("one effect per key")
def a_hold_with_two_appointments(story: Story, sound: bool) -> None:
    story.reserve("first", "class").commit("first", "one", "class")
    again = "one" if sound else "two"
    story.call("commit", 200, {"appointmentId": again, "status": "confirmed"}, reservationId="first")


# Holds.


@violates("expiry is final")
def a_commit_of_an_expired_hold(story: Story, sound: bool) -> None:
    story.reserve("first", ttl=0.5).wait(60)
    rebook = {"ifExpired": "rebook"} if sound else {}
    story.call("commit", 201, story.appointment("one"), reservationId="first", **rebook)


@violates("expiry is final")
def a_rebook_of_a_released_hold(story: Story, sound: bool) -> None:
    story.reserve("first", ttl=0.5).wait(60 if sound else 0).call("release", 204, reservationId="first").wait(60)
    story.call("commit", 201, story.appointment("one"), reservationId="first", ifExpired="rebook")


@violates("expiry is final")
def an_extend_after_the_hold_was_found_expired(story: Story, sound: bool) -> None:
    story.reserve("first", ttl=0.5).wait(0 if sound else 60)
    if not sound:
        story.refused("commit", "RESERVATION_EXPIRED", reservationId="first")
    story.call("extend", 200, story.hold("first", ttl=5), reservationId="first", ttlMinutes=5)


@violates("expiry is final")
def a_released_hold_that_is_held(story: Story, sound: bool) -> None:
    story.reserve("first").call("release", None if sound else 204, reservationId="first")
    held = story.history.calls[0].answer
    story.call("get_hold", 200, held, reservationId="first")


@violates("a live hold can be committed")
def a_commit_of_a_live_hold_that_is_refused(story: Story, sound: bool) -> None:
    story.reserve("first", ttl=0.5).wait(40 if sound else 10)
    story.refused("commit", "RESERVATION_EXPIRED", reservationId="first")


@violates("a live hold can be committed")
def a_commit_of_a_live_hold_without_room(story: Story, sound: bool) -> None:
    story.reserve("first")
    if sound:
        story.call("release", None, reservationId="first").book("second")
    story.refused("commit", reservationId="first", ifExpired="rebook")


@violates("a live hold can be committed")
def a_hold_that_is_not_found(story: Story, sound: bool) -> None:
    story.reserve("first").refused("extend", "OVERLOADED" if sound else "RESERVATION_NOT_FOUND", reservationId="first")


@violates("a live hold can be committed")
def an_appointment_with_another_resource_than_its_hold(story: Story, sound: bool) -> None:
    story.reserve("first", "wash", resourceId="rosa")
    story.commit("first", "one", "wash", resourceId="rosa" if sound else "maria")


# Acknowledged effects.


@violates("nothing acknowledged is lost")
def a_booking_that_is_not_in_the_final_list(story: Story, sound: bool) -> None:
    story.book("first")
    body = story.history.calls[0].answer
    story.settle().list_all(*[body] if sound else []).audit("first", (1, 1))


@violates("nothing acknowledged is lost")
def a_change_that_is_undone(story: Story, sound: bool) -> None:
    story.book("first")
    first, second = story.history.calls[0].answer, story.appointment("first", version=2)
    story.change("first", 1, second, notes="n").settle().list_all(second if sound else first)


@violates("nothing acknowledged is lost")
def a_hold_that_is_not_in_the_final_list(story: Story, sound: bool) -> None:
    story.reserve("first", ttl=10)
    story.settle().call("list_holds", 200, {"items": [story.history.calls[0].answer] if sound else []})


@violates("every effect is explained")
def a_call_that_was_refused_and_had_its_effect(story: Story, sound: bool) -> None:
    code = {"code": "DATABASE_UNAVAILABLE" if sound else "OVERLOADED"}
    story.call("book", 503, code, **slot("cut")).settle().audit("first", (1, 1))


@violates("every effect is explained")
def a_hold_that_no_call_made(story: Story, sound: bool) -> None:
    if sound:
        story.call("reserve", None, **slot("cut"), ttlMinutes=10)
    body = story.hold("first", ttl=10)
    story.settle().call("list_holds", 200, {"items": [body]})


# Versions.


@violates("no lost update")
def two_changes_of_one_version(story: Story, sound: bool) -> None:
    story.book("first").change("first", 1, story.appointment("first", version=2), notes="one")
    if sound:
        conflict = {"code": "VERSION_CONFLICT", "currentVersion": 2}
        story.call("change", 409, conflict, appointmentId="first", expectedVersion=1, set={})
    else:
        story.change("first", 1, story.appointment("first", version=2), notes="two")


@violates("no lost update")
def a_change_that_skips_a_version(story: Story, sound: bool) -> None:
    story.book("first").change("first", 1, story.appointment("first", version=2 if sound else 3), notes="one")


@violates("no lost update")
def a_change_without_an_audit_row(story: Story, sound: bool) -> None:
    story.book("first").change("first", 1, story.appointment("first", version=2), notes="one")
    story.settle().audit("first", (1, 1), *[(2, 2)] if sound else [])


@violates("reads are current")
def a_conflict_with_the_current_version(story: Story, sound: bool) -> None:
    story.book("first")
    conflict = {"code": "VERSION_CONFLICT", "currentVersion": 1}
    story.call("change", 409, conflict, appointmentId="first", expectedVersion=2 if sound else 1, set={})


@violates("reads are current")
def one_version_with_two_statuses(story: Story, sound: bool) -> None:
    story.book("first")
    shown = story.appointment("first", status="confirmed" if sound else "completed")
    story.call("get_appointment", 200, shown, appointmentId="first")


# Reads.


@violates("reads are current")
def a_read_of_a_former_version(story: Story, sound: bool) -> None:
    story.book("first")
    first, second = story.history.calls[0].answer, story.appointment("first", version=2)
    story.change("first", 1, second, notes="n")
    story.call("get_appointment", 200, second if sound else first, appointmentId="first")


@violates("reads are current")
def a_version_that_is_shown_before_its_change(story: Story, sound: bool) -> None:
    story.book("first")
    second = story.appointment("first", version=2)
    if sound:
        story.change("first", 1, second, notes="n")
    story.call("get_appointment", 200, second, appointmentId="first")
    if not sound:
        story.change("first", 1, second, notes="n")


@violates("reads are current")
def a_list_without_a_booking(story: Story, sound: bool) -> None:
    story.book("first").list_all(*[story.history.calls[0].answer] if sound else [])


@violates("reads are current")
def a_count_without_a_claim(story: Story, sound: bool) -> None:
    story.book("first").call("capacity", 200, {"capacity": 1, "held": 0, "booked": int(sound)}, **slot("cut"))


@violates("reads are current")
def a_count_without_a_hold_that_was_extended(story: Story, sound: bool) -> None:
    story.reserve("first", ttl=0.5).wait(28)
    story.call("extend", 200, story.hold("first"), 5, reservationId="first", ttlMinutes=5)
    # After the former expiry, and before the answer or after it.
    story.wait(1 if sound else 6).call("capacity", 200, {"capacity": 1, "held": 0, "booked": 0}, **slot("cut"))


@violates("reads are current")
def a_count_without_a_hold_that_was_committed(story: Story, sound: bool) -> None:
    story.reserve("first", ttl=0.5).wait(28)
    story.call("commit", 201, story.appointment("second"), 5, reservationId="first")
    story.wait(1 if sound else 6).call("capacity", 200, {"capacity": 1, "held": 0, "booked": 0}, **slot("cut"))


@violates("a live hold can be committed")
def a_hold_that_is_shown_as_expired(story: Story, sound: bool) -> None:
    story.reserve("first", ttl=0.5).wait(28)
    story.call("extend", 200, story.hold("first"), 5, reservationId="first", ttlMinutes=5)
    shown = story.hold("first", ttl=-0.5, status="expired")
    story.wait(1 if sound else 6).call("get_hold", 200, shown, reservationId="first")


@violates("reads are current")
def a_listing_with_a_slot_that_is_taken(story: Story, sound: bool) -> None:
    story.book("first").wait(0 if sound else 2)
    listed = slot("cut", 11 if sound else 10) | {"available": 1}
    story.list_slots(listed)


@violates("reads are current")
def a_listing_without_a_free_slot(story: Story, sound: bool) -> None:
    story.book("first")
    if sound:
        # The listing may be a second old.
        story.list_slots().call("cancel", 200, story.appointment("first", version=2, status="cancelled"), **FIRST)
    else:
        story.call("cancel", 200, story.appointment("first", version=2, status="cancelled"), **FIRST)
        story.wait(2).list_slots()


@violates("no internal error")
def an_internal_error(story: Story, sound: bool) -> None:
    answer = (503, {"code": "DATABASE_UNAVAILABLE"}) if sound else (500, {"code": "INTERNAL_ERROR"})
    story.call("reserve", *answer, **slot("cut"), ttlMinutes=5)


@violates("no internal error")
def a_row_in_a_view_of_the_invariants(story: Story, sound: bool) -> None:
    story.call("invariants", 200, {} if sound else {"audit_gaps": 1})


@pytest.mark.parametrize("name", STORIES)
def test_the_violation_is_found(name: str) -> None:
    """The doctored history breaks the invariant that it is to break."""
    invariant, tell = STORIES[name]
    story = Story()
    tell(story, False)
    assert invariant in {violation.invariant for violation in check(story.history).violations}


@pytest.mark.parametrize("name", STORIES)
def test_the_sound_twin_passes(name: str) -> None:
    """A history that differs in one call has no violation."""
    _, tell = STORIES[name]
    story = Story()
    tell(story, True)
    assert check(story.history).violations == []


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A failed run can be checked again from its file."""
    story = Story().reserve("first").reserve("second")
    story.history.write(tmp_path / "history.jsonl")
    read = History.read(tmp_path / "history.jsonl")
    assert read.town == story.history.town
    assert check(read).violations == check(story.history).violations != []


def test_a_clock_that_is_moved_bounds_each_instant() -> None:
    """The instant between the two ends of a move is past or not, and outside of them it is known."""
    clock = Clock(ORIGIN, [(10.0, 11.0, 60.0)])
    assert clock.latest(9.0) < ORIGIN + 30 < clock.latest(10.0)
    assert clock.earliest(10.5) < ORIGIN + 30 < clock.earliest(11.0)
    assert (clock.surely_before(ORIGIN + 30), clock.surely_past(ORIGIN + 30)) == (10.0, 11.0)
    for instant in (ORIGIN + 5, ORIGIN + 80):
        assert clock.latest(clock.surely_before(instant)) == pytest.approx(instant)
        assert clock.earliest(clock.surely_past(instant)) == pytest.approx(instant)


def test_the_number_of_a_call_is_its_request_id() -> None:
    """The audit trail names calls by what was sent as X-Request-Id."""
    assert Call(7, "book", "salon", {}, 0.0, 0.1, 201).request_id == "call-7"
