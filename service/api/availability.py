"""What the public can book: the public catalogue of a business, and the slots of a service."""

from collections.abc import Callable, Coroutine
from datetime import date
from functools import partial
from typing import Annotated, Any, Final

from pydantic import Field, ValidationInfo, field_validator

from service.api.shapes import PathBusiness, Query
from service.booking.appointments import Appointments
from service.booking.availability import Availability, AvailableDays, Wanted, availability, available_days
from service.booking.catalog import PublicCatalogue, public_catalogue
from service.booking.instants import Instant, LocalDate, after
from service.database.connections import Reader
from service.faults import FaultCode, fault_error
from service.http.answer import JSON, PUBLIC, Answer
from service.http.call import Call
from service.http.compression import Body
from service.http.conditions import CONTENT_HEADERS, tagged_answer
from service.http.endpoint import endpoint
from service.shares import Shares
from service.sharing.cache import AnswerCache

# 366 dates, both ends included.
_MAX_DAYS_AFTER: Final = 365

_REFUSALS: Final = ("SERVICE_NOT_FOUND", "BUSINESS_MISCONFIGURED", "RESOURCE_NOT_FOUND", "FORBIDDEN")

_listing = partial(endpoint, "GET", tag="availability", refusals=_REFUSALS, request_headers=("Guest-Token",))


class AvailabilityQuery(Wanted, Query):
    """A page of the slots that start from `from` up to `to`."""

    from_: Instant = Field(description="The first instant at which a slot may start.")
    to: Annotated[Instant, after("from_")] | None = Field(
        None, description="The slots start before this. Left out, up to the service's horizon."
    )
    limit: Annotated[int, Field(ge=1, le=2000)] = Field(500, description="How many to a page, 2000 at most.")


class AvailableDaysQuery(Wanted, Query):
    """The local dates from `from` to `to`."""

    from_: LocalDate = Field(description="The first date, by the business's clock.")
    to: LocalDate = Field(description="The last date, at most 366 dates in all.")

    @field_validator("to")
    @classmethod
    def _within_a_year(cls, to: date, info: ValidationInfo) -> date:
        days = (to - info.data.get("from_", to)).days
        if days < 0:
            raise fault_error(FaultCode.BEFORE, field="from")
        if days > _MAX_DAYS_AFTER:
            raise fault_error(FaultCode.TOO_FAR_AFTER, field="from", maxDays=_MAX_DAYS_AFTER)
        return to


class AvailabilityApi:
    def __init__(self, reads: Reader, cache: AnswerCache[Body], appointments: Appointments) -> None:
        self._reads = reads
        self._appointments = appointments
        self._cache = cache
        # A list may take half a second of a processor, whatever the limit of requests says.
        self._clients = Shares(1)

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

        async def ask() -> Body:
            return Body((await public_catalogue(self._reads, slug)).model_dump_json().encode())

        # The largest take the database a tenth of a second, also where the client knows the content.
        return tagged_answer(call, await self._cache.get(slug, PublicCatalogue, ask), JSON)

    @_listing("/api/booking/availability", answers={200: Availability})
    async def get_availability(self, call: Call, query: AvailabilityQuery) -> Answer:
        """List the slots that can be booked.

        Slots that start in `[from, to)`, by the same rules as `reserve`, in pages: `nextFrom` is the `from` of the next
        one. A page covers 62 days and 512 KB at most, so it may be short, even empty, with a `nextFrom`. `limit=1`
        finds the first free slot. Send the `slotEnd` of the slot that the guest chose. With the `appointmentId` and the
        `Guest-Token` of a booking, the slots are those to which its guest can move it: with the `resourceId` that it
        has, or with one of the `resourceIds` of the slot, or `null`, as `resourceId` of the move.
        """
        return await self._answer(
            call, query, lambda: availability(self._reads, query, query.from_, query.to, query.limit)
        )

    @_listing("/api/booking/availability/days", answers={200: AvailableDays})
    async def get_available_days(self, call: Call, query: AvailableDaysQuery) -> Answer:
        """Count the slots of each date.

        For a month's view: how many slots can be booked that start on each local date from `from` to `to`, both
        included, and when the first one begins. They are the slots that the list of slots has.
        """
        return await self._answer(call, query, lambda: available_days(self._reads, query, query.from_, query.to))

    async def _answer(self, call: Call, query: Wanted, find: Callable[[], Coroutine[Any, Any, bytes]]) -> Answer:
        """Answers from the cache, or with what `find` finds; a client waits for one list at a time. The two lists have
        queries of their own types, so their answers have keys of their own. A guest's token is checked before: the
        lists for an appointment tell when it is."""
        if query.appointment_id:
            token = call.header(b"guest-token") or ""
            await self._appointments.check_token(query.appointment_id, token, query.business_id)

        async def ask() -> Body:
            return Body(await find())

        question = type(query), query.model_dump_json()
        async with self._clients.turn(call.client):
            return Answer(await self._cache.get(query.business_id, question, ask), media_type=JSON)
