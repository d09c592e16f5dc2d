"""Cursors of lists, which mark the end of a page."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.appointments import AppointmentsQuery
from service.api.cursors import cursor, place_at
from service.api.holds import HoldsQuery
from service.errors import Invalid
from service.faults import FaultCode, fault

instants = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))]))


APPOINTMENTS = AppointmentsQuery.model_validate(
    {"businessId": "salon", "from": "2027-01-11T00:00:00Z", "to": "2027-01-12T00:00:00Z"}
)
HOLDS = HoldsQuery.model_validate({"businessId": "salon"})


@given(instants, st.uuids())
def test_a_cursor_leads_back_to_its_place(at: datetime, appointment_id: UUID) -> None:
    """It has the full precision, because many appointments may start within a second, and only characters that a URL
    allows."""
    written = cursor(APPOINTMENTS, at, appointment_id)
    assert place_at(written, APPOINTMENTS) == (at, appointment_id)
    assert written.replace("-", "").replace("_", "").isalnum()
    of_holds = cursor(HOLDS, at, at, appointment_id)
    assert len(of_holds) <= 200
    assert place_at(of_holds, HOLDS, instants=2) == (at, at, appointment_id)
    with pytest.raises(Invalid):
        place_at(of_holds, HOLDS, instants=1)


@pytest.mark.parametrize(
    ("changed", "is_same_list"),
    [
        ({}, True),
        ({"limit": "1"}, True),
        ({"from": "2027-01-11T01:00:00+01:00"}, True),
        ({"from": "2027-01-11T01:00:00Z"}, False),
        ({"to": "2027-01-12T01:00:00Z"}, False),
        ({"overlapping": "false"}, True),
        ({"overlapping": "true"}, False),
        ({"updatedSince": "2027-01-11T00:00:00Z"}, False),
        ({"guestEmail": "ada@example.com"}, False),
        ({"serviceId": "cut"}, False),
        ({"businessId": "clinic"}, False),
    ],
)
def test_a_cursor_is_one_of_its_own_list_only(changed: dict[str, str], is_same_list: bool) -> None:
    """A list in another order, or with other filters, has no place that this cursor could mean."""
    other = AppointmentsQuery.model_validate(
        {**APPOINTMENTS.model_dump(mode="json", by_alias=True, exclude_none=True), **changed}
    )
    place = datetime(2027, 1, 11, tzinfo=UTC), UUID(int=1)
    if is_same_list:
        assert place_at(cursor(APPOINTMENTS, *place), other) == place
    else:
        with pytest.raises(Invalid):
            place_at(cursor(APPOINTMENTS, *place), other)


@given(st.text(max_size=200))
def test_an_invalid_cursor_is_a_fault_of_the_request(text: str) -> None:
    """Any text is either a cursor or refused with the same message."""
    try:
        place_at(text, APPOINTMENTS)
    except Invalid as invalid:
        # Some texts are valid and raise nothing.
        assert invalid.faults == [fault("cursor", FaultCode.INVALID_CURSOR)]  # noqa: PT017


@given(instants, st.uuids(), st.data())
def test_a_truncated_cursor_is_refused(at: datetime, appointment_id: UUID, data: st.DataObject) -> None:
    """A part of an id must not be taken for another place."""
    written = cursor(APPOINTMENTS, at, appointment_id)
    length = data.draw(st.integers(0, len(written) - 2))
    with pytest.raises(Invalid):
        place_at(written[:length], APPOINTMENTS)
