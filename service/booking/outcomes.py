"""The outcomes of verbs that are refusals, as the errors to raise."""

from typing import Any

from pydantic import AwareDatetime
from pydantic.alias_generators import to_camel

from service.errors import HoldfastError, Invalid, Refused
from service.naming import Record


class RefusalDetails(Record):
    """The members that verbs add to their refusals; each refusal has some of them."""

    reason: str | None = None
    current_version: int | None = None
    max_expires_at: AwareDatetime | None = None
    appointment_status: str | None = None
    cancellable_until: AwareDatetime | None = None
    slot_start: AwareDatetime | None = None
    slot_end: AwareDatetime | None = None
    claimed: int | None = None


def refusal(name: str, body: dict[str, Any] | None) -> HoldfastError:
    """Builds the error for an outcome, by its name and body."""
    body = body or {}
    if name == "validation_failed":
        return Invalid.at(to_camel(body["field"]), body["message"])
    details = RefusalDetails.model_validate(body)
    return Refused(name.upper(), **details.model_dump(mode="json", exclude_unset=True))
