"""What verbs answer, as the service goes on with it: a success, or a refusal to be raised."""

import hashlib
import json
from typing import Any

from pydantic import AwareDatetime
from pydantic.alias_generators import to_camel

from service.errors import HoldfastError, Invalid, Refused
from service.naming import Record


class _Said(Record):
    """What verbs have to say about a refusal; each says some of it."""

    reason: str | None = None
    current_version: int | None = None
    max_expires_at: AwareDatetime | None = None
    appointment_status: str | None = None
    cancellable_until: AwareDatetime | None = None
    slot_start: AwareDatetime | None = None
    slot_end: AwareDatetime | None = None
    claimed: int | None = None


def refusal(name: str, body: dict[str, Any] | None) -> HoldfastError:
    """The refusal that a verb gave as its outcome."""
    body = body or {}
    if name == "validation_failed":
        return Invalid.at(to_camel(body["field"]), body["message"])
    said = _Said.model_validate(body)
    return Refused(name.upper(), **said.model_dump(mode="json", exclude_unset=True))


def fingerprint(request: dict[str, object]) -> str:
    """Of the whole request as it was sent, whatever the order of its members."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
