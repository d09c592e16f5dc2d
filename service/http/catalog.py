"""The catalog of businesses and services, for the administrator."""

from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from service.booking.catalog import Business, BusinessSettings, Catalog, Service, ServiceSettings
from service.booking.text import Identifier
from service.errors import Invalid
from service.http.documentation import examples
from service.http.endpoints import Access, Call, Endpoint, answer
from service.naming import Record

_IDENTIFIER: TypeAdapter[str] = TypeAdapter(Identifier)


class Businesses(Record):
    """All businesses, by id."""

    items: list[Business]


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
                "Make a business or replace its settings",
                {200: Business, 201: Business},
                access=Access.ADMIN,
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
                access=Access.ADMIN,
                refusals=("BUSINESS_NOT_FOUND",),
                operation_id="getBusiness",
                tag="catalog",
                examples=examples.GET_BUSINESS,
            ),
            Endpoint(
                "DELETE",
                business,
                self.delete_business,
                "Delete a business that has no services",
                {204: None},
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
                access=Access.ADMIN,
                refusals=("BUSINESS_NOT_FOUND",),
                operation_id="listServices",
                tag="catalog",
                examples=examples.SERVICES,
            ),
            Endpoint(
                "PUT",
                service,
                self.put_service,
                "Make a service or replace its settings",
                {200: Service, 201: Service},
                "A capacity below what is claimed from now on is refused, naming the first slot in the way.",
                access=Access.ADMIN,
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
                access=Access.ADMIN,
                refusals=("SERVICE_NOT_FOUND",),
                operation_id="getService",
                tag="catalog",
                examples=examples.GET_SERVICE,
            ),
            Endpoint(
                "DELETE",
                service,
                self.delete_service,
                "Take a service off the catalog",
                {204: None},
                "One that was ever reserved or booked is archived: no new holds, but its holds can be committed.",
                access=Access.ADMIN,
                refusals=("SERVICE_NOT_FOUND",),
                operation_id="deleteService",
                tag="catalog",
            ),
        ]

    async def list_businesses(self, call: Call) -> Response:  # noqa: ARG002 — nothing to parse
        """GET /api/catalog/businesses"""
        return answer(Businesses(items=await self._catalog.businesses()))

    async def put_business(self, call: Call) -> Response:
        """PUT /api/catalog/businesses/{businessId}"""
        business, created = await self._catalog.put_business(_id(call, "businessId"), call.body)
        return answer(business, 201 if created else 200)

    async def get_business(self, call: Call) -> Response:
        """GET /api/catalog/businesses/{businessId}"""
        return answer(await self._catalog.business(_id(call, "businessId")))

    async def delete_business(self, call: Call) -> Response:
        """DELETE /api/catalog/businesses/{businessId}"""
        await self._catalog.delete_business(_id(call, "businessId"))
        return Response(status_code=204)

    async def list_services(self, call: Call) -> Response:
        """GET /api/catalog/businesses/{businessId}/services"""
        return answer(Services(items=await self._catalog.services(_id(call, "businessId"))))

    async def put_service(self, call: Call) -> Response:
        """PUT /api/catalog/businesses/{businessId}/services/{serviceId}"""
        service, created = await self._catalog.put_service(_id(call, "businessId"), _id(call, "serviceId"), call.body)
        return answer(service, 201 if created else 200)

    async def get_service(self, call: Call) -> Response:
        """GET /api/catalog/businesses/{businessId}/services/{serviceId}"""
        return answer(await self._catalog.service(_id(call, "businessId"), _id(call, "serviceId")))

    async def delete_service(self, call: Call) -> Response:
        """DELETE /api/catalog/businesses/{businessId}/services/{serviceId}"""
        await self._catalog.delete_service(_id(call, "businessId"), _id(call, "serviceId"))
        return Response(status_code=204)


def _id(call: Call, name: str) -> str:
    """An id in the path: 1 to 64 of A-Za-z0-9_.:-, the first alphanumeric."""
    try:
        return _IDENTIFIER.validate_python(call.path[name])
    except ValidationError:
        fault = {"field": name, "message": "must be 1 to 64 of A-Za-z0-9_.:-, the first a letter or digit"}
        raise Invalid("VALIDATION_FAILED", errors=[fault]) from None
