"""Cursors of lists, which mark the end of a page."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.cursors import cursor, place_at
from service.errors import Invalid
from service.faults import FaultCode, fault

instants = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))]))


@given(instants, st.uuids())
def test_a_cursor_leads_back_to_its_place(at: datetime, appointment_id: UUID) -> None:
    """It has the full precision, because many appointments may start within a second, and only characters that a URL
    allows."""
    written = cursor(at, appointment_id)
    assert place_at(written) == (at, appointment_id)
    assert written.replace("-", "").replace("_", "").isalnum()
    assert len(cursor(at, at, appointment_id)) <= 200
    assert place_at(cursor(at, at, appointment_id), instants=2) == (at, at, appointment_id)
    with pytest.raises(Invalid):
        place_at(written, instants=2)


@given(st.text(max_size=200))
def test_an_invalid_cursor_is_a_fault_of_the_request(text: str) -> None:
    """Any text is either a cursor or refused with the same message."""
    try:
        place_at(text)
    except Invalid as invalid:
        # Some texts are valid and raise nothing.
        assert invalid.faults == [fault("cursor", FaultCode.INVALID_CURSOR)]  # noqa: PT017


@given(instants, st.uuids(), st.data())
def test_a_truncated_cursor_is_refused(at: datetime, appointment_id: UUID, data: st.DataObject) -> None:
    """A part of an id must not be taken for another place."""
    written = cursor(at, appointment_id)
    length = data.draw(st.integers(0, len(written) - 2))
    with pytest.raises(Invalid):
        place_at(written[:length])
