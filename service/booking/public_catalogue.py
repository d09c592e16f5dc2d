"""The public catalogue of a business: what frontends show before a guest chooses a slot."""

from pydantic import Field, JsonValue

from service.booking.service_types import ResourceSharing
from service.booking.text import BusinessId, ResourceId, ServiceId
from service.database.connections import Database
from service.errors import Refused
from service.naming import Record


class PublicBusiness(Record):
    """A business, as the public sees it."""

    business_id: BusinessId
    name: str = Field(description="The name that people read.")
    slug: str | None = Field(description="Its name in public addresses; `null`: only its id.")
    timezone: str = Field(description="A time zone of the IANA database, whose clock its hours and days follow.")
    country: str | None = Field(description="An ISO 3166 code of two letters; `null`: phone numbers need their own.")
    description: str | None = Field(description="Text for the people who book.")
    metadata: dict[str, JsonValue] | None = Field(description="Data of the business's own system, as it was sent.")


class PublicService(Record):
    """A service that the public can book. A member that does not apply is null; defaults are computed."""

    service_id: ServiceId
    name: str = Field(description="The name that people read.")
    duration_minutes: int | None = Field(description="The length of a slot in minutes; `null`: it is in days.")
    min_duration_minutes: int | None = Field(description="The shortest slot in minutes.")
    max_duration_minutes: int | None = Field(description="The longest slot in minutes.")
    duration_days: int | None = Field(description="The length of a slot in calendar days; `null`: it is in minutes.")
    min_duration_days: int | None = Field(description="The fewest days.")
    max_duration_days: int | None = Field(description="The most days.")
    start_times: list[str] | None = Field(description="The local times at which slots are listed; `null`: in steps.")
    end_time: str | None = Field(description="The local time at which a slot of days ends; `null`: that of its start.")
    slot_step_minutes: int | None = Field(
        description="The distance between listed starts; `null`: there are `startTimes`, or one start a day."
    )
    starts_on_grid: bool = Field(description="Whether only the starts that are listed can be booked.")
    min_notice_minutes: int = Field(description="How long before its start a slot must be reserved.")
    max_advance_days: int = Field(description="How many days ahead a slot may be reserved.")
    cancellation_window_minutes: int = Field(description="How long before the start guests must cancel.")
    reschedule_window_minutes: int = Field(description="How long before the start guests must move an appointment.")
    max_upcoming_per_guest: int | None = Field(
        description="How many upcoming appointments one guest may have; `null`: any number."
    )
    hold_ttl_minutes: int = Field(description="How long a slot is held, where a caller does not say.")
    resource_sharing: ResourceSharing = Field(description="Whether bookings of the same slot may share a resource.")
    max_quantity: int = Field(
        description="The largest `quantity` that one request can get; 0: none of its resources can be booked."
    )
    resource_ids: list[str] = Field(description="Those of `resources` that it can be booked with; none without a pool.")
    description: str | None = Field(description="Text for the people who book.")
    metadata: dict[str, JsonValue] | None = Field(description="Data of the business's own system, as it was sent.")


class PublicResource(Record):
    """A resource that the public can book."""

    resource_id: ResourceId
    name: str = Field(description="The name that people read.")
    kind: str = Field(description="The sort of resource, in the words of the business.")
    seats: int = Field(description="How many guests it takes at once.")
    description: str | None = Field(description="Text for the people who book.")
    metadata: dict[str, JsonValue] | None = Field(description="Data of the business's own system, as it was sent.")


class PublicCatalogue(Record):
    """The public catalogue of a business."""

    business: PublicBusiness = Field(description="The business.")
    services: list[PublicService] = Field(description="The services that the public can book, by id.")
    resources: list[PublicResource] = Field(description="The resources that the public can book them with, by id.")


async def public_catalogue(database: Database, business_id: str) -> PublicCatalogue:
    """Reads the catalogue of a business. Raises `Refused` and `Unavailable`."""
    for (body,) in await database.fetch("public_catalogue", business_id):
        return PublicCatalogue.model_validate_json(body)
    raise Refused("BUSINESS_NOT_FOUND")
