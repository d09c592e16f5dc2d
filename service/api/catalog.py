"""The catalog: businesses, their services and their resources, and all of a business as one document."""

from functools import partial
from typing import Annotated, Final

from pydantic import Field

from service.api.shapes import Query
from service.booking.catalog import RESOURCE, SERVICE, ArchivedNames, Catalog
from service.booking.catalog_types import Business, BusinessSettings, Resource, ResourceSettings
from service.booking.document import AppliedDocument, CatalogDocument, CatalogSettings
from service.booking.service_types import Service, ServiceSettings
from service.booking.text import BusinessId, Identifier, ResourceId, ServiceId
from service.http.answer import Answer, answer
from service.http.endpoint import Access, endpoint
from service.naming import Record

_BUSINESSES: Final = "/api/catalog/businesses"
_BUSINESS: Final = _BUSINESSES + "/{businessId}"
_SERVICES: Final = _BUSINESS + "/services"
_SERVICE: Final = _SERVICES + "/{serviceId}"
_RESOURCES: Final = _BUSINESS + "/resources"
_RESOURCE: Final = _RESOURCES + "/{resourceId}"
_DOCUMENT: Final = _BUSINESS + "/document"
# Several thousand entries.
_MAX_DOCUMENT_BYTES: Final = 1024 * 1024
_call = partial(endpoint, tag="catalog")
_get = partial(_call, "GET", access=Access.READONLY)
_put = partial(_call, "PUT", access=Access.OWNER)
_delete = partial(_call, "DELETE")
_PUT_REFUSALS: Final = ("CAPACITY_IN_USE", "LIMIT_REACHED")


# A member that GET gives and that only the service sets. The dispatcher compares it with the path.
OfPath = Annotated[
    Identifier | None,
    Field(exclude=True, description="Read-only. What GET gave may be sent back: it must be the id of the path."),
]


class BusinessBody(BusinessSettings):
    """What a business is put with, or what GET gave."""

    business_id: OfPath = None


class ServiceBody(ServiceSettings):
    """What a service is put with, or what GET gave. A member that is left out gets its default; so does null, where
    the type allows it."""

    business_id: OfPath = None
    service_id: OfPath = None
    archived_resource_ids: list[Identifier] | None = Field(
        None, exclude=True, description="Read-only. What GET gave may be sent back, without effect."
    )


class ResourceBody(ResourceSettings):
    """What a resource is put with, or what GET gave. A member that is left out gets its default."""

    business_id: OfPath = None
    resource_id: OfPath = None


class DocumentBody(CatalogSettings):
    """What a catalog is made equal to, or what GET gave. A member that is left out gets its default."""

    business_id: OfPath = None


class DocumentQuery(Query):
    """How a document is put."""

    dry_run: bool = Field(False, description="Whether only to list what would change. Nothing is changed then.")


class Businesses(Record):
    """All businesses, by id."""

    items: list[Business] = Field(description="All of them, by id.")


class Services(Record):
    """The services of a business, by id."""

    items: list[Service] = Field(description="All of them, by id.")


class Resources(Record):
    """The resources of a business, by id."""

    items: list[Resource] = Field(description="All of them, by id.")


class CatalogApi:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    @_call("GET", _BUSINESSES, access=Access.ADMIN)
    async def list_businesses(self) -> Businesses:
        """List all businesses."""
        return Businesses(items=await self._catalog.businesses())

    @_put(_BUSINESS, answers={200: Business, 201: Business}, refusals=("SLUG_TAKEN",))
    async def put_business(self, business_id: BusinessId, body: BusinessBody) -> Answer:
        """Create a business or replace its settings.

        A PUT of what GET gave changes nothing; that holds for all of the catalog.
        """
        return put_answer(*await self._catalog.put_business(business_id, body))

    @_get(_BUSINESS)
    async def get_business(self, business_id: BusinessId) -> Business:
        """Get a business."""
        return await self._catalog.business(business_id)

    @_delete(_BUSINESS, access=Access.ADMIN, refusals=("BUSINESS_IN_USE",))
    async def delete_business(self, business_id: BusinessId) -> None:
        """Delete a business that has no services and no resources.

        Its opening hours, special hours, closures and keys go with it.
        """
        await self._catalog.delete_business(business_id)

    @_get(_SERVICES)
    async def list_services(self, business_id: BusinessId) -> Services:
        """List the services of a business."""
        return Services(items=await self._catalog.entries(SERVICE, business_id))

    @_put(_SERVICE, answers={200: Service, 201: Service}, refusals=_PUT_REFUSALS)
    async def put_service(self, business_id: BusinessId, service_id: ServiceId, body: ServiceBody) -> Answer:
        """Create a service or replace its settings.

        A capacity below what is claimed from now on is refused, naming the first slot in the way, and so is a capacity
        above the seats of its resources. A service with resources is only ever booked together with one of them; an
        empty `resourceIds` makes it a service without any. See [settings by kind of business](docs/businesses).
        """
        return put_answer(*await self._catalog.put(SERVICE, business_id, service_id, body))

    @_get(_SERVICE, refusals=("SERVICE_NOT_FOUND",))
    async def get_service(self, business_id: BusinessId, service_id: ServiceId) -> Service:
        """Get a service."""
        return await self._catalog.get(SERVICE, business_id, service_id)

    @_delete(_SERVICE, access=Access.OWNER, refusals=("SERVICE_NOT_FOUND",))
    async def delete_service(self, business_id: BusinessId, service_id: ServiceId) -> None:
        """Remove a service from the catalog.

        One that was ever reserved or booked is archived: no new holds, but its holds can be committed.
        """
        await self._catalog.delete(SERVICE, business_id, service_id)

    @_get(_RESOURCES)
    async def list_resources(self, business_id: BusinessId) -> Resources:
        """List the resources of a business."""
        return Resources(items=await self._catalog.entries(RESOURCE, business_id))

    @_put(_RESOURCE, answers={200: Resource, 201: Resource}, refusals=_PUT_REFUSALS)
    async def put_resource(self, business_id: BusinessId, resource_id: ResourceId, body: ResourceBody) -> Answer:
        """Create a resource or replace its settings.

        It is in the pool of a service whose `resourceIds` names it. A resource that was removed from the catalog is
        back in the pools that it was in. Fewer seats than are claimed at some time from now on are refused.
        """
        return put_answer(*await self._catalog.put(RESOURCE, business_id, resource_id, body))

    @_get(_RESOURCE, refusals=("RESOURCE_NOT_FOUND",))
    async def get_resource(self, business_id: BusinessId, resource_id: ResourceId) -> Resource:
        """Get a resource."""
        return await self._catalog.get(RESOURCE, business_id, resource_id)

    @_delete(_RESOURCE, access=Access.OWNER, refusals=("RESOURCE_NOT_FOUND", "CAPACITY_IN_USE"))
    async def delete_resource(self, business_id: BusinessId, resource_id: ResourceId) -> None:
        """Remove a resource from the catalog.

        It gets no new bookings; those that exist stay. A service whose last resource is gone lists it among
        `archivedResourceIds`, and can't be booked until it is put with another, or without any.
        """
        await self._catalog.delete(RESOURCE, business_id, resource_id)

    @_get(_BUSINESS + "/archived")
    async def get_archived_names(self, business_id: BusinessId) -> ArchivedNames:
        """Get the names of archived services and resources.

        Removed from the catalog, they stay because of their bookings, which name them by their ids.
        """
        return await self._catalog.archived_names(business_id)


class DocumentApi:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    @_get(_DOCUMENT)
    async def get_document(self, business_id: BusinessId) -> CatalogDocument:
        """Get the catalog of a business as one document.

        Its settings, and all resources, services, hours and closures: in the format of the catalog file, to keep, to
        edit and to put again, here or for another business.
        """
        return await self._catalog.document(business_id)

    @_put(
        _DOCUMENT,
        refusals=("CAPACITY_IN_USE", "SLUG_TAKEN", "BUSINESS_MISCONFIGURED", "LIMIT_REACHED"),
        max_body_bytes=_MAX_DOCUMENT_BYTES,
    )
    async def put_document(self, business_id: BusinessId, body: DocumentBody, query: DocumentQuery) -> AppliedDocument:
        """Make the catalog of a business equal to a document.

        All of it or nothing: a refusal names the entry, and nothing was changed. Entries that the document lacks are
        removed, or archived where they were ever booked; a business that does not exist is created. With `dryRun`
        nothing is changed, and the answer is what it would be. `warnings` name resources that their own hours close,
        and the bookings that closures and special hours affect, which stay. A PUT of what GET gave changes nothing.
        """
        return await self._catalog.put_document(business_id, body, dry_run=query.dry_run)


def put_answer(entry: Record, created: bool) -> Answer:
    return answer(entry, 201 if created else 200)
