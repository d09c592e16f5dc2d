"""The requests of the verbs: their JSON, and the fingerprint by which a replay is recognised."""

import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.booking.requests import (
    Attempt,
    Book,
    Change,
    Commit,
    Extend,
    Guest,
    Release,
    Request,
    RequestedSlot,
    Reserve,
    merged,
    written,
)

SLOT = RequestedSlot("cut", datetime(2027, 1, 11, 9, tzinfo=UTC), None, 1, None)
GUEST = Guest.model_validate({"guest_name": "Ada", "guest_email": "ada@example.com"})

slots = st.builds(
    RequestedSlot,
    st.sampled_from(["cut", "perm"]),
    st.sampled_from([SLOT.slot_start, SLOT.slot_start + timedelta(microseconds=1)]),
    st.sampled_from([None, SLOT.slot_start + timedelta(hours=1)]),
    st.integers(1, 2),
    st.sampled_from([None, "anna"]),
)


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        (Reserve(SLOT, 2.5), {"service_id", "slot_start", "slot_end", "quantity", "resource_id", "ttl_minutes"}),
        (Extend(uuid4(), 5, None), {"reservation_id", "ttl_minutes", "expected_version"}),
        (Release(uuid4()), {"reservation_id"}),
        (
            Change(uuid4(), "change", 1, {"notes": None}),
            {"appointment_id", "action", "expected_version", "reason", "set"},
        ),
    ],
)
def test_a_request_has_the_members_of_its_verb(request_: Request, names: set[str]) -> None:
    """Members of the class itself, such as the name of the verb, are not sent."""
    assert set(json.loads(written(request_))) == names


def test_metadata_may_hold_numbers_of_any_size() -> None:
    """PostgreSQL stores them exactly, so they are sent exactly."""
    large = 10**40
    guest = GUEST.model_copy(update={"metadata": {"n": large}})
    for request_ in (
        Book(SLOT, guest, "online"),
        Commit(uuid4(), guest, None, None),
    ):
        assert json.loads(written(request_))["metadata"] == {"n": large}
    change = Change(uuid4(), "change", 1, {"metadata": {"n": large}})
    assert json.loads(written(change))["set"]["metadata"]["n"] == large


def test_objects_are_merged_in_their_order() -> None:
    """Of a member that occurs twice, PostgreSQL takes the last."""
    assert merged(b"{}", {"a": 1}, {}, None, {"b": None}) == b'{"a":1,"b":null}'
    assert merged(b"{}") == b"{}"


@given(slots, slots)
def test_different_requests_have_different_fingerprints(one: RequestedSlot, other: RequestedSlot) -> None:
    """A replay with the same key is recognised, and another request with it is refused."""
    requests = [Reserve(one, None), Reserve(other, None), Reserve(one, 5)]
    first, second, third = (Attempt("a", None).members(written(request))["fingerprint"] for request in requests)
    assert (first == second) == (one == other)
    assert third != first
