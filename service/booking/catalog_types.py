"""Businesses and resources of the catalog: the settings that each is put with, and how it is read."""

from typing import Annotated, Final

from annotated_types import Predicate
from phonenumbers import SUPPORTED_REGIONS
from pydantic import BeforeValidator, Field, JsonValue, StringConstraints

from service.booking.text import BusinessId, CatalogMetadata, Description, Identifier, Name, OneFault, ResourceId
from service.faults import FaultCode, whole
from service.naming import Record

# JSON does not tell integers from other numbers: 1.0 is one, as in JSON Schema, and some languages write no other.
# It follows the bounds in an `Annotated`.
AS_INTEGER: Final = BeforeValidator(whole)

# A number of units: a capacity, seats, or the quantity of a claim.
Units = Annotated[int, Field(ge=1, le=10_000_000), AS_INTEGER]

RetentionDays = Annotated[int, Field(ge=1, le=36_500), AS_INTEGER]

Slug = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$"), OneFault(FaultCode.INVALID_SLUG)
]

Timezone = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_+/-]{0,63}$"), OneFault(FaultCode.UNKNOWN_TIMEZONE)
]
Country = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Z]{2}$"),
    Predicate(SUPPORTED_REGIONS.__contains__),
    OneFault(FaultCode.UNKNOWN_COUNTRY),
]

_NAME: Final = "The name that people read."
_FEED_PAST_DAYS: Final = "How many days of the past its calendar feeds have."

# The longest list in a request: more would not fit into a body.
MAX_LISTED = 500


class Settings(Record, strict=True, extra="forbid", validate_by_name=False):
    """Settings as they are put. A member that is left out gets its default, whatever it was before."""


class NamedSettings(Settings):
    """What people read of a business, a service or a resource, and data for the programs that show it."""

    name: Name = Field(description=_NAME)
    description: Description | None = Field(
        None, description="Text for the people who book, 4096 bytes in UTF-8 at most. Left out, none."
    )
    metadata: CatalogMetadata | None = Field(
        None, description="Public data of your own system, 4096 bytes as JSON at most. Left out, none."
    )


class Named(Record):
    """The same as it is read."""

    name: str = Field(description=_NAME)
    description: str | None = Field(description="Text for the people who book.")
    metadata: dict[str, JsonValue] | None = Field(description="Data of the business's own system, as it was sent.")


class OfBusiness(Record):
    business_id: BusinessId


class BusinessSettings(NamedSettings):
    """What a business is put with."""

    slug: Slug | None = Field(None, description="Its name in public addresses: lower-case letters, digits and hyphens.")
    timezone: Timezone = Field("UTC", description="A time zone of the IANA database, like `Europe/Berlin`.")
    country: Country | None = Field(
        None,
        description="An ISO 3166 code of two letters, like `DE`. Left out, a phone number needs its country's code.",
    )
    feed_past_days: Annotated[int, Field(ge=0, le=3660), AS_INTEGER] = Field(400, description=_FEED_PAST_DAYS)
    guest_retention_days: RetentionDays | None = Field(
        None,
        description="How many days after the end of a slot its guest's data is erased. Left out, it is kept for ever.",
    )


class PublicBusiness(Named, OfBusiness):
    """A business, as the public sees it."""

    slug: str | None = Field(description="Its name in public addresses; `null`: only its id.")
    timezone: str = Field(description="A time zone of the IANA database, whose clock its hours and days follow.")
    country: str | None = Field(description="An ISO 3166 code of two letters; `null`: phone numbers need their own.")


class Business(PublicBusiness):
    """A business."""

    feed_past_days: int = Field(description=_FEED_PAST_DAYS)
    guest_retention_days: int | None = Field(
        description="How many days after the end of a slot its guest's data is erased; `null`: it is kept for ever."
    )


class ResourceSettings(NamedSettings):
    """What a resource is put with. A member that is left out gets its default, whatever it was before."""

    kind: Identifier = Field("resource", description="The sort of resource, in your own words: `staff`, `room`.")
    booking_enabled: bool = Field(True, description="Whether the public may reserve it.")
    seats: Units = Field(1, description="How many guests it takes at once: of a table, a room, a teacher's class.")


class OfferedResource(Named):
    """What the public and the business see of a resource."""

    kind: str = Field(description="The sort of resource, in the words of the business.")
    seats: int = Field(description="How many guests it takes at once.")


class ResourceEntry(OfferedResource):
    """The settings of a resource."""

    booking_enabled: bool = Field(description="Whether the public may reserve it.")


class OfResource(Record):
    resource_id: ResourceId


class Resource(ResourceEntry, OfResource, OfBusiness):
    """A member of staff, a suite, a table: one claim at a time takes it, or one session of guests who share it."""


class PublicResource(OfferedResource, OfResource):
    """A resource that the public can book."""
