"""The public catalogue of a business: what frontends show before a guest chooses a slot."""

from pydantic import Field

from service.booking.catalog_types import PublicBusiness, PublicResource
from service.booking.service_types import PublicService
from service.database.connections import Reader
from service.errors import Refused
from service.naming import Record


class PublicCatalogue(Record):
    """The public catalogue of a business."""

    business: PublicBusiness = Field(description="The business.")
    services: list[PublicService] = Field(description="The services that the public can book, by id.")
    resources: list[PublicResource] = Field(description="The resources that the public can book them with, by id.")


async def public_catalogue(reads: Reader, business_id: str) -> PublicCatalogue:
    """Reads the catalogue of a business. Raises `Refused` and `Unavailable`."""
    for (body,) in await reads.fetch("public_catalogue", business_id):
        return PublicCatalogue.model_validate_json(body)
    raise Refused("BUSINESS_NOT_FOUND")
