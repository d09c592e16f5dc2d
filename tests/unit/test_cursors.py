"""Where a page of the calendar ended, as callers carry it to the next one."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.appointments import _cursor, _place
from service.booking.appointments import Appointment
from service.errors import Invalid

instants = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))]))


def appointment(slot_start: datetime, appointment_id: UUID) -> Appointment:
    """An appointment, of which nothing else is asked here."""
    return Appointment.model_construct(slot_start=slot_start, appointment_id=appointment_id)


@given(instants, st.uuids())
def test_a_cursor_leads_back_to_its_place(slot_start: datetime, appointment_id: UUID) -> None:
    """To the microsecond, because many may start within one second; and it goes into a URL as it is."""
    cursor = _cursor(appointment(slot_start, appointment_id))
    assert _place(cursor) == (slot_start, appointment_id)
    assert cursor.replace("-", "").replace("_", "").isalnum()
    assert len(cursor) <= 200


@given(st.text(max_size=200))
def test_what_is_no_cursor_is_a_fault_of_the_request(text: str) -> None:
    """Whatever somebody writes in its place."""
    try:
        _place(text)
    except Invalid as invalid:
        assert invalid.members["errors"] == [  # noqa: PT017 — that it is raised is not demanded of every text
            {"field": "cursor", "message": "is not a cursor of this service; start again without it"}
        ]


@given(instants, st.uuids(), st.data())
def test_a_cursor_that_was_cut_off_is_refused(slot_start: datetime, appointment_id: UUID, data: st.DataObject) -> None:
    """Half an id is no place."""
    cursor = _cursor(appointment(slot_start, appointment_id))
    length = data.draw(st.integers(0, len(cursor) - 2))
    with pytest.raises(Invalid):
        _place(cursor[:length])
