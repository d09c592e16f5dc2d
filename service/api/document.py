"""The whole catalog of a business as one document."""

from functools import partial
from typing import Final

from pydantic import Field

from service.api.catalog import OfPath
from service.api.shapes import Query
from service.booking.catalog import Catalog
from service.booking.document import AppliedDocument, CatalogDocument, CatalogSettings
from service.booking.text import BusinessId
from service.http.answer import Answer, answer
from service.http.endpoint import Access, endpoint

_DOCUMENT: Final = "/api/catalog/businesses/{businessId}/document"
# Several thousand entries.
_MAX_BODY_BYTES: Final = 1024 * 1024
_call = partial(endpoint, tag="catalog")


class DocumentBody(CatalogSettings):
    """What a catalog is made equal to, or what GET gave. A member that is left out gets its default."""

    business_id: OfPath = None


class DocumentQuery(Query):
    """How a document is put."""

    dry_run: bool = Field(False, description="Whether only to list what would change. Nothing is changed then.")


class DocumentApi:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    @_call("GET", _DOCUMENT, answers={200: CatalogDocument}, access=Access.READONLY)
    async def get_document(self, business_id: BusinessId) -> Answer:
        """Get the catalog of a business as one document.

        Its settings, and all resources, services, hours and closures: in the format of the catalog file, to keep, to
        edit and to put again, here or for another business.
        """
        return answer(await self._catalog.document(business_id))

    @_call(
        "PUT",
        _DOCUMENT,
        answers={200: AppliedDocument},
        access=Access.OWNER,
        refusals=("CAPACITY_IN_USE", "SLUG_TAKEN", "BUSINESS_MISCONFIGURED", "LIMIT_REACHED"),
        max_body_bytes=_MAX_BODY_BYTES,
    )
    async def put_document(self, business_id: BusinessId, body: DocumentBody, query: DocumentQuery) -> Answer:
        """Make the catalog of a business equal to a document.

        All of it or nothing: a refusal names the entry, and nothing was changed. Entries that the document lacks are
        removed, or archived where they were ever booked; a business that does not exist is created. With `dryRun`
        nothing is changed, and the answer is what it would be. `warnings` name resources that their own hours close,
        and the bookings that closures and special hours affect, which stay. A PUT of what GET gave changes nothing.
        """
        return answer(await self._catalog.put_document(business_id, body, dry_run=query.dry_run))
