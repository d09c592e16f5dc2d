"""The exceptions for the outcomes of verbs."""

from typing import Any

import pytest

from service.booking.verbs import refusal
from service.errors import Invalid, Refused


@pytest.mark.parametrize(
    ("name", "body", "code", "members"),
    [
        ("reservation_not_found", None, "RESERVATION_NOT_FOUND", {}),
        ("idempotency_key_reused", {}, "IDEMPOTENCY_KEY_REUSED", {}),
        ("slot_not_bookable", {"reason": "past"}, "SLOT_NOT_BOOKABLE", {"reason": "past"}),
        ("version_conflict", {"current_version": 6}, "VERSION_CONFLICT", {"currentVersion": 6}),
        (
            "appointment_ended",
            {"appointment_status": "no_show"},
            "APPOINTMENT_ENDED",
            {"appointmentStatus": "no_show"},
        ),
        (
            "appointment_not_started",
            {"slot_start": "2027-01-04T10:00:00+00:00"},
            "APPOINTMENT_NOT_STARTED",
            {"slotStart": "2027-01-04T10:00:00.000Z"},
        ),
        ("business_misconfigured", None, "BUSINESS_MISCONFIGURED", {}),
        ("special_hours_not_found", None, "SPECIAL_HOURS_NOT_FOUND", {}),
        (
            "cancellation_window_closed",
            {"cancellable_until": "2027-01-04T10:00:00+01:00"},
            "CANCELLATION_WINDOW_CLOSED",
            {"cancellableUntil": "2027-01-04T09:00:00.000Z"},
        ),
        (
            "reschedule_window_closed",
            {"reschedulable_until": "2027-01-04T10:00:00+01:00"},
            "RESCHEDULE_WINDOW_CLOSED",
            {"reschedulableUntil": "2027-01-04T09:00:00.000Z"},
        ),
        (
            "hold_lifetime_exceeded",
            {"max_expires_at": "2027-01-04T10:00:00+00:00"},
            "HOLD_LIFETIME_EXCEEDED",
            {"maxExpiresAt": "2027-01-04T10:00:00.000Z"},
        ),
        (
            "capacity_in_use",
            {"slot_start": "2027-01-04T10:00:00+00:00", "slot_end": "2027-01-04T11:00:00+00:00", "claimed": 3},
            "CAPACITY_IN_USE",
            {"slotStart": "2027-01-04T10:00:00.000Z", "slotEnd": "2027-01-04T11:00:00.000Z", "claimed": 3},
        ),
    ],
)
def test_a_refusal_has_the_members_of_its_outcome(
    name: str, body: dict[str, Any] | None, code: str, members: dict[str, Any]
) -> None:
    """They have the names of JSON; a member that the outcome lacks is absent."""
    refused = refusal(name, body)
    assert isinstance(refused, Refused)
    assert (refused.code, refused.members) == (code, members)


def test_a_fault_from_the_database_has_the_shape_of_all_faults() -> None:
    """It has the field's name of the API."""
    body = {"field": "slot_end", "code": "not_after", "parameters": {"field": "slotStart"}}
    invalid = refusal("validation_failed", body)
    assert isinstance(invalid, Invalid)
    assert (invalid.code, invalid.status) == ("VALIDATION_FAILED", 400)
    fault = {**body, "field": "slotEnd", "message": "must be after slotStart"}
    assert invalid.members == {"errors": [fault], "errorCount": 1}


def test_an_undeclared_outcome_is_a_defect() -> None:
    """It must not be reported as another one."""
    with pytest.raises(KeyError):
        refusal("no_such_outcome", None)
