"""Reserves, commits and cancels with the client of openapi-python-client. The module is made by the test."""

# mypy: ignore-errors

import sys
from datetime import datetime
from uuid import uuid4

from holdfast_client import Client
from holdfast_client.api.appointments import cancel_appointment
from holdfast_client.api.availability import get_availability
from holdfast_client.api.reservations import commit, reserve
from holdfast_client.models import (
    BookedAppointment,
    CancelBody,
    CommitBody,
    Reservation,
    ReserveBody,
    SlotUnavailableProblem,
    ValidationFailedProblem,
)


def use(base_url: str, start: str) -> list[str]:
    """Returns the statuses that the calls led to, and the refusals between them."""
    client = Client(base_url=base_url)
    listed = get_availability.sync(
        client=client, business_id="salon", service_id="cut", from_=datetime.fromisoformat(start), limit=1
    )
    [slot] = listed.slots
    wish = ReserveBody(business_id="salon", service_id="cut", slot_start=slot.slot_start, slot_end=slot.slot_end)

    held = reserve.sync(client=client, body=wish, idempotency_key=str(uuid4()))
    assert isinstance(held, Reservation)

    refusal = reserve.sync(client=client, body=wish)
    assert isinstance(refusal, SlotUnavailableProblem)

    wish.quantity = 0
    invalid = reserve.sync(client=client, body=wish)
    assert isinstance(invalid, ValidationFailedProblem)

    body = CommitBody(reservation_id=held.reservation_id, guest_email="ada@example.com")
    appointment = commit.sync(client=client, body=body)
    assert isinstance(appointment, BookedAppointment)
    cancelled = cancel_appointment.sync(
        appointment_id=appointment.appointment_id,
        client=client,
        body=CancelBody(cancellation_token=appointment.cancellation_token),
    )
    return [
        held.status,
        f"{refusal.code} {str(len(refusal.alternatives) > 0).lower()}",
        *(f"{fault.field} {fault.code} {fault.parameters.min_}" for fault in invalid.errors),
        appointment.status,
        cancelled.status,
    ]


sys.stdout.write("\n".join(use(*sys.argv[1:])))
