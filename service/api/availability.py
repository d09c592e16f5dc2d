"""The slots that can be booked."""

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from service.api.shapes import MAX_LISTING, Quantity, Query
from service.booking.availability import Availability, availability
from service.booking.instants import Instant
from service.booking.text import BusinessId, Identifier, ServiceId
from service.database.connections import Database
from service.http.answer import JSON, Answer
from service.http.endpoint import endpoint
from service.sharing.cache import AnswerCache


class AvailabilityQuery(Query):
    """The slots that start from `from` up to `to`."""

    business_id: BusinessId
    service_id: ServiceId
    from_: Annotated[Instant, Field(alias="from")] = Field(description="The first instant at which a slot may start.")
    to: Instant = Field(description="The slots start before this, at most 62 days after `from`.")
    quantity: Quantity = Field(1, description="How many units are wanted. Slots with less room are not listed.")
    resource_id: Identifier | None = Field(None, description="Only the slots in which this one is free.")

    @field_validator("to")
    @classmethod
    def _within_reach(cls, to: datetime, info: ValidationInfo) -> datetime:
        starts_from = info.data.get("from_")
        if starts_from is not None and not timedelta(0) < to - starts_from <= MAX_LISTING:
            raise PydanticCustomError("range", "to must be after from, by 62 days at most")
        return to


class AvailabilityApi:
    def __init__(self, database: Database, cache: AnswerCache) -> None:
        self._database = database
        self._cache = cache

    @endpoint(
        "GET",
        "/api/booking/availability",
        tag="availability",
        answers={200: Availability},
        refusals=("SERVICE_NOT_FOUND", "RESOURCE_NOT_FOUND"),
    )
    async def get_availability(self, query: AvailabilityQuery) -> Answer:
        """List the slots that can be booked.

        Slots that start in `[from, to)`, at most 62 days, each as long as the service, by the same rules as `reserve`.
        They begin every `slotStepMinutes` from midnight by the clock of the business. What is full or closed is not
        listed.
        """

        async def ask() -> bytes:
            wanted = query.business_id, query.service_id, query.from_, query.to, query.quantity, query.resource_id
            listed = await availability(self._database, *wanted)
            return listed.model_dump_json().encode()

        return Answer(await self._cache.get(query.business_id, query.model_dump_json(), ask), media_type=JSON)
