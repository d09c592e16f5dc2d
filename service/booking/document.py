"""The catalog of one business as a document: its settings, resources, services, hours and closures."""

from collections.abc import Iterator
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, from_json

from service.booking.catalog_types import MAX_LISTED, Business, BusinessSettings, ResourceEntry, ResourceSettings
from service.booking.opening_types import (
    AffectedAppointments,
    ClosureEntry,
    ClosureSettings,
    OpeningHours,
    OpeningHoursSettings,
    SpecialHoursEntry,
    SpecialHoursSettings,
)
from service.booking.service_types import ServiceEntry, ServiceSettings
from service.booking.text import Identifier, if_any, is_visible
from service.faults import FaultCode, fault_error
from service.naming import Record

# The members that have entries by their ids, and the singular of each.
NOUNS: Final = {
    "resources": "resource",
    "services": "service",
    "specialHours": "special hours",
    "closures": "closure",
}

_RESOURCES: Final = "The resources, by their ids."
_SERVICES: Final = "The services, by their ids."
_OPENING_HOURS: Final = "The opening hours of the business and its resources. None: always open."
_SPECIAL_HOURS: Final = "The hours that replace the opening hours on dates, by their ids."
_CLOSURES: Final = "The closures, by their ids."

Member = Annotated[
    Literal["business", "resources", "services", "openingHours", "specialHours", "closures"], BeforeValidator(to_camel)
]


class CatalogDocument(Business):
    """The whole catalog of a business, with its entries by their ids."""

    resources: dict[str, ResourceEntry] = Field(description=_RESOURCES)
    services: dict[str, ServiceEntry] = Field(description=_SERVICES)
    opening_hours: list[OpeningHours] = Field(description=_OPENING_HOURS)
    special_hours: dict[str, SpecialHoursEntry] = Field(description=_SPECIAL_HOURS)
    closures: dict[str, ClosureEntry] = Field(description=_CLOSURES)


class CatalogSettings(BusinessSettings):
    """What a catalog is made equal to, with its entries by their ids. A member that is left out gets its default."""

    resources: dict[Identifier, ResourceSettings] = Field(default_factory=dict, description=_RESOURCES)
    services: dict[Identifier, ServiceSettings] = Field(default_factory=dict, description=_SERVICES)
    opening_hours: Annotated[list[OpeningHoursSettings], Field(max_length=MAX_LISTED)] = Field(
        default_factory=list, description=_OPENING_HOURS
    )
    special_hours: dict[Identifier, SpecialHoursSettings] = Field(default_factory=dict, description=_SPECIAL_HOURS)
    closures: dict[Identifier, ClosureSettings] = Field(default_factory=dict, description=_CLOSURES)

    @model_validator(mode="after")
    def _has_its_resources(self) -> Self:
        """Refuses hours and closures of a resource that the document lacks."""
        if missing := list(self._missing_resources()):
            raise ValidationError.from_exception_data("resources", missing)
        return self

    def _missing_resources(self) -> Iterator[InitErrorDetails]:
        owners: list[tuple[str, int | str, str | None]] = [
            *(("openingHours", place, entry.resource_id) for place, entry in enumerate(self.opening_hours)),
            *(("specialHours", name, entry.resource_id) for name, entry in self.special_hours.items()),
            *(("closures", name, entry.resource_id) for name, entry in self.closures.items()),
        ]
        for member, entry_id, resource_id in owners:
            if resource_id and resource_id not in self.resources:
                error = fault_error(FaultCode.UNKNOWN_RESOURCE, resourceId=resource_id)
                yield InitErrorDetails(type=error, loc=(member, entry_id, "resourceId"), input=None)


def read_document(body: bytes) -> CatalogDocument:
    """Reads a document as booking.document returns it. A name without a visible character, which 0.1 accepted, becomes
    the id."""
    members = from_json(body)
    named = [(members["business_id"], members)]
    named += [entry for kind in ("resources", "services", "special_hours") for entry in members[kind].items()]
    for entry_id, entry in named:
        if not is_visible(entry["name"] or entry_id):
            entry["name"] = entry_id
    return CatalogDocument.model_validate(members)


class DocumentChange(Record):
    """A difference between the catalog and the document."""

    action: Literal["created", "changed", "removed"] = Field(
        description="What became of it. What was ever booked is archived instead of removed."
    )
    member: Member = Field(description="The member of the document; `business`: the settings of the business itself.")
    id: str | None = Field(description="The entry, by its id in the member; `null` where it has no entries.")


class DocumentWarning(Record):
    """A consequence of a change that its author may not intend."""

    code: Literal["closed_by_own_hours", "appointments_affected"] = Field(
        description="`closed_by_own_hours`: a resource is closed on weekdays on which the business is open. "
        "`appointments_affected`: appointments lie in a closure, or outside of special hours."
    )
    member: Member = Field(description="The member of the document that the warning is about.")
    id: str | None = Field(description="The entry, by its id in the member; `null` where it has no entries.")
    resource_id: str | None = if_any("With `closed_by_own_hours`: the resource.")
    weekdays: list[int] | None = if_any("With `closed_by_own_hours`: these weekdays, 1 for Monday.")
    affected_appointments: AffectedAppointments | None = if_any("With `appointments_affected`: these appointments.")


class AppliedDocument(Record):
    """The changes that a document made, or would make, in their order, and the warnings about them."""

    changes: list[DocumentChange] = Field(description="What was, or with `dryRun` would be, changed. Empty: nothing.")
    warnings: list[DocumentWarning] = Field(description="What to look at. Empty: nothing.")
