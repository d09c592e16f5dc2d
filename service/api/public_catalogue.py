"""The public catalogue of a business, for its frontends."""

from service.api.shapes import PathBusiness
from service.booking.public_catalogue import PublicCatalogue, public_catalogue
from service.database.connections import Reader
from service.http.answer import PUBLIC, Answer
from service.http.call import Call
from service.http.conditions import CONTENT_HEADERS, content_answer
from service.http.endpoint import endpoint


class PublicCatalogueApi:
    def __init__(self, reads: Reader) -> None:
        self._reads = reads

    @endpoint(
        "GET",
        PUBLIC + "{slug}",
        tag="availability",
        answers={200: PublicCatalogue, 304: None},
        refusals=("BUSINESS_NOT_FOUND",),
        request_headers=("If-None-Match",),
        answer_headers={200: CONTENT_HEADERS, 304: CONTENT_HEADERS},
    )
    async def get_public_catalogue(self, call: Call, slug: PathBusiness) -> Answer:
        """Get the public catalogue.

        What a frontend shows of a business: its services and resources that the public can book, with their terms.
        Sent again with the `ETag` as `If-None-Match`, the answer is a 304 until something changes.
        """
        return content_answer(call, await public_catalogue(self._reads, slug))
