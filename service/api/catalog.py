"""The catalog: businesses, their services and their resources."""

from starlette.responses import Response

from service.booking.catalog import Catalog
from service.booking.catalog_settings import (
    Business,
    BusinessSettings,
    Resource,
    ResourceSettings,
    Service,
    ServiceSettings,
)
from service.http.documentation import examples
from service.http.endpoints import Access, Call, Endpoint, answer
from service.naming import Record


class Businesses(Record):
    """All businesses, by id."""

    items: list[Business]


class Resources(Record):
    """The resources of a business, by id."""

    items: list[Resource]


class Services(Record):
    """The services of a business, by id."""

    items: list[Service]


class CatalogEndpoints:
    """Parses, calls one verb, answers."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def endpoints(self) -> list[Endpoint]:
        """What there is to call."""
        businesses = "/api/catalog/businesses"
        business = businesses + "/{businessId}"
        services = business + "/services"
        service = services + "/{serviceId}"
        resources = business + "/resources"
        resource = resources + "/{resourceId}"
        return [
            Endpoint(
                "GET",
                businesses,
                self.list_businesses,
                "All businesses",
                {200: Businesses},
                access=Access.ADMIN,
                operation_id="listBusinesses",
                tag="catalog",
                examples=examples.BUSINESSES,
            ),
            Endpoint(
                "PUT",
                business,
                self.put_business,
                "Create a business or replace its settings",
                {200: Business, 201: Business},
                access=Access.OWNER,
                body=BusinessSettings,
                refusals=("SLUG_TAKEN",),
                operation_id="putBusiness",
                tag="catalog",
                examples=examples.PUT_BUSINESS,
            ),
            Endpoint(
                "GET",
                business,
                self.get_business,
                "One business",
                {200: Business},
                access=Access.READONLY,
                refusals=("BUSINESS_NOT_FOUND",),
                operation_id="getBusiness",
                tag="catalog",
                examples=examples.GET_BUSINESS,
            ),
            Endpoint(
                "DELETE",
                business,
                self.delete_business,
                "Delete a business that has no services and no resources",
                {204: None},
                "Its opening hours, closures and keys go with it.",
                access=Access.ADMIN,
                refusals=("BUSINESS_NOT_FOUND", "BUSINESS_IN_USE"),
                operation_id="deleteBusiness",
                tag="catalog",
            ),
            Endpoint(
                "GET",
                services,
                self.list_services,
                "The services of a business",
                {200: Services},
                access=Access.READONLY,
                refusals=("BUSINESS_NOT_FOUND",),
                operation_id="listServices",
                tag="catalog",
                examples=examples.SERVICES,
            ),
            Endpoint(
                "PUT",
                service,
                self.put_service,
                "Create a service or replace its settings",
                {200: Service, 201: Service},
                "A capacity below what is claimed from now on is refused, naming the first slot in the way. A service "
                "with resources is only ever booked together with one of them.",
                access=Access.OWNER,
                body=ServiceSettings,
                refusals=("BUSINESS_NOT_FOUND", "CAPACITY_IN_USE"),
                operation_id="putService",
                tag="catalog",
                examples=examples.PUT_SERVICE,
            ),
            Endpoint(
                "GET",
                service,
                self.get_service,
                "One service",
                {200: Service},
                access=Access.READONLY,
                refusals=("SERVICE_NOT_FOUND",),
                operation_id="getService",
                tag="catalog",
                examples=examples.GET_SERVICE,
            ),
            Endpoint(
                "DELETE",
                service,
                self.delete_service,
                "Remove a service from the catalog",
                {204: None},
                "One that was ever reserved or booked is archived: no new holds, but its holds can be committed.",
                access=Access.OWNER,
                refusals=("SERVICE_NOT_FOUND",),
                operation_id="deleteService",
                tag="catalog",
            ),
            Endpoint(
                "GET",
                resources,
                self.list_resources,
                "The resources of a business",
                {200: Resources},
                access=Access.READONLY,
                refusals=("BUSINESS_NOT_FOUND",),
                operation_id="listResources",
                tag="catalog",
                examples=examples.RESOURCES,
            ),
            Endpoint(
                "PUT",
                resource,
                self.put_resource,
                "Create a resource or replace its settings",
                {200: Resource, 201: Resource},
                "A service has it in its pool where the service's `resourceIds` names it. One that was taken off the "
                "catalog is back in the pools that it was in.",
                access=Access.OWNER,
                body=ResourceSettings,
                refusals=("BUSINESS_NOT_FOUND",),
                operation_id="putResource",
                tag="catalog",
                examples=examples.PUT_RESOURCE,
            ),
            Endpoint(
                "GET",
                resource,
                self.get_resource,
                "One resource",
                {200: Resource},
                access=Access.READONLY,
                refusals=("RESOURCE_NOT_FOUND",),
                operation_id="getResource",
                tag="catalog",
                examples=examples.GET_RESOURCE,
            ),
            Endpoint(
                "DELETE",
                resource,
                self.delete_resource,
                "Remove a resource from the catalog",
                {204: None},
                "Nothing new is given to it; what is booked on it stays. A service whose last resource is gone can't "
                "be booked until it has another, or is put without any.",
                access=Access.OWNER,
                refusals=("RESOURCE_NOT_FOUND",),
                operation_id="deleteResource",
                tag="catalog",
            ),
        ]

    async def list_businesses(self, call: Call) -> Response:  # noqa: ARG002 — nothing to parse
        """GET /api/catalog/businesses"""
        return answer(Businesses(items=await self._catalog.businesses()))

    async def put_business(self, call: Call) -> Response:
        """PUT /api/catalog/businesses/{businessId}"""
        business, created = await self._catalog.put_business(call.path_id("businessId"), call.body)
        return answer(business, 201 if created else 200)

    async def get_business(self, call: Call) -> Response:
        """GET /api/catalog/businesses/{businessId}"""
        return answer(await self._catalog.business(call.path_id("businessId")))

    async def delete_business(self, call: Call) -> Response:
        """DELETE /api/catalog/businesses/{businessId}"""
        await self._catalog.delete_business(call.path_id("businessId"))
        return Response(status_code=204)

    async def list_services(self, call: Call) -> Response:
        """GET /api/catalog/businesses/{businessId}/services"""
        return answer(Services(items=await self._catalog.services(call.path_id("businessId"))))

    async def put_service(self, call: Call) -> Response:
        """PUT /api/catalog/businesses/{businessId}/services/{serviceId}"""
        service, created = await self._catalog.put_service(
            call.path_id("businessId"), call.path_id("serviceId"), call.body
        )
        return answer(service, 201 if created else 200)

    async def get_service(self, call: Call) -> Response:
        """GET /api/catalog/businesses/{businessId}/services/{serviceId}"""
        return answer(await self._catalog.service(call.path_id("businessId"), call.path_id("serviceId")))

    async def delete_service(self, call: Call) -> Response:
        """DELETE /api/catalog/businesses/{businessId}/services/{serviceId}"""
        await self._catalog.delete_service(call.path_id("businessId"), call.path_id("serviceId"))
        return Response(status_code=204)

    async def list_resources(self, call: Call) -> Response:
        """GET /api/catalog/businesses/{businessId}/resources"""
        return answer(Resources(items=await self._catalog.resources(call.path_id("businessId"))))

    async def put_resource(self, call: Call) -> Response:
        """PUT /api/catalog/businesses/{businessId}/resources/{resourceId}"""
        ids = call.path_id("businessId"), call.path_id("resourceId")
        resource, created = await self._catalog.put_resource(*ids, call.body)
        return answer(resource, 201 if created else 200)

    async def get_resource(self, call: Call) -> Response:
        """GET /api/catalog/businesses/{businessId}/resources/{resourceId}"""
        return answer(await self._catalog.resource(call.path_id("businessId"), call.path_id("resourceId")))

    async def delete_resource(self, call: Call) -> Response:
        """DELETE /api/catalog/businesses/{businessId}/resources/{resourceId}"""
        await self._catalog.delete_resource(call.path_id("businessId"), call.path_id("resourceId"))
        return Response(status_code=204)
