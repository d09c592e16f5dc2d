"""The shapes that requests of several nouns share: strict, in camelCase, and without unknown members."""

from datetime import datetime, timedelta
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidationInfo, model_validator

from service.booking.catalog_types import AS_INTEGER, Units
from service.booking.contacts import EMAIL_MEANING, PHONE_MEANING, Email, Phone
from service.booking.instants import EndOfSlot, SlotInstant, after
from service.booking.requests import Author, Guest, RequestedSlot
from service.booking.text import IdempotencyKey, Identifier, NamedBusiness, ServiceId
from service.faults import FaultCode, fault_error, fault_error_at
from service.http.call import Call
from service.naming import json_name

# The longest slot of any service, 366 local days: a decision reads all that may reach into it. A service by minutes has
# a limit of its own, booking.longest_slot.
MAX_SLOT: Final = timedelta(hours=366 * 24 + 1)

SLOT_END_MEANING: Final = "When the slot ends: send the end that you showed. Left out, it is as long as the service."
_KEY_MEANING: Final = (
    "Your name for this attempt: sent again with the same key, the request has no second effect. A random UUID, "
    "because it must be unguessable. It may come as the `Idempotency-Key` header instead."
)


def _within_reach(slot_end: datetime, info: ValidationInfo) -> datetime:
    if slot_end - info.data.get("slot_start", slot_end) > MAX_SLOT:
        raise fault_error(FaultCode.TOO_FAR_AFTER, field="slotStart", maxDays=MAX_SLOT.days)
    return slot_end


Version = Annotated[int, Field(ge=1, le=2_147_483_647), AS_INTEGER]
# Handlers get the id: the dispatcher has looked it up.
PathBusiness = Annotated[str, Field(description="The business, by its slug or its id.")]
ExpectedVersion = Annotated[
    Version | None,
    Field(description="Only if this is still its version; else `VERSION_CONFLICT`, and nothing changes."),
]
KnownBusiness = Annotated[
    Identifier | None, Field(description="The business, by its id. Spares a look-up. Public calls take its slug too.")
]
TtlMinutes = Annotated[float, Field(gt=0, le=10_080, allow_inf_nan=False)]
# Needs a `slot_start` declared before it. The settings of the service limit how long a slot may be.
SlotEnd = Annotated[EndOfSlot, after("slot_start")]
SlotEndWithinReach = Annotated[SlotEnd, AfterValidator(_within_reach)]

# The refusals of calls that take room under an idempotency key, and of those that book for the public.
CLAIM_REFUSALS: Final = (
    *("IDEMPOTENCY_KEY_REUSED", "SERVICE_NOT_FOUND", "BUSINESS_MISCONFIGURED", "RESOURCE_NOT_FOUND"),
    "SLOT_UNAVAILABLE",
)
BOOKING_REFUSALS: Final = (*CLAIM_REFUSALS, "SLOT_NOT_BOOKABLE", "TOO_MANY_BOOKINGS", "GUEST_LIMIT_REACHED")


class Body(BaseModel, alias_generator=json_name, extra="forbid", strict=True, hide_input_in_errors=True):
    """A request's body. Strict: a number in quotes is no number."""


class Query(BaseModel, alias_generator=json_name, extra="forbid", hide_input_in_errors=True):
    """A request's query. Not strict, because all values are strings."""


class PageQuery(Query):
    """A page of a list."""

    limit: Annotated[int, Field(ge=1, le=500)] = Field(100, description="How many to a page, 500 at most.")
    cursor: Annotated[str, StringConstraints(max_length=200)] | None = Field(
        None, description="The last `nextCursor`, with the other parameters as they were; `limit` may change."
    )


class BusinessQuery(Query):
    """The business of an id in the path."""

    business_id: KnownBusiness = None


class SlotBody(Body):
    """A slot of a service, and the caller's name for the attempt to get it."""

    business_id: NamedBusiness
    service_id: ServiceId
    slot_start: SlotInstant = Field(description="When the slot begins.")
    slot_end: SlotEnd | None = Field(None, description=SLOT_END_MEANING)
    idempotency_key: IdempotencyKey | None = Field(None, description=_KEY_MEANING)
    quantity: Units = Field(1, description="How many units of the service's capacity.")
    resource_id: Identifier | None = Field(None, description="One resource of the service. Left out, any free one.")

    def slot(self) -> RequestedSlot:
        return RequestedSlot(self.service_id, self.slot_start, self.slot_end, self.quantity, self.resource_id)


class GuestBody(Guest, Body):
    """The guest, and what the business wants to know."""


class ReachableGuestBody(GuestBody):
    """A guest who can be reached: an e-mail address or a phone number is required."""

    guest_email: Email | None = Field(None, description=f"{EMAIL_MEANING} This or `guestPhone` is required.")
    guest_phone: Phone | None = Field(None, description=f"{PHONE_MEANING} This or `guestEmail` is required.")

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.guest_email is None and self.guest_phone is None:
            raise fault_error_at("guestEmail", FaultCode.REQUIRED_WITHOUT, fields=["guestPhone"])
        return self


def author(call: Call) -> Author:
    """Returns the author of a change: the key that was sent, or a guest."""
    if call.principal is None:
        return Author("guest", None, call.request_id)
    return Author(call.principal.kind, call.principal.key_id, call.request_id)
