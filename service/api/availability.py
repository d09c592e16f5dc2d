"""The slots that can be booked, for those who choose one."""

from starlette.responses import Response

from service.booking.availability import Availability, availability
from service.database.connections import Database
from service.http.documentation import examples
from service.http.endpoints import Call, Endpoint
from service.http.shapes import AvailabilityQuery
from service.sharing.cache import AnswerCache


class AvailabilityEndpoints:
    """Parses, asks, answers."""

    def __init__(self, database: Database, cache: AnswerCache) -> None:
        self._database = database
        self._cache = cache

    def endpoints(self) -> list[Endpoint]:
        """What there is to call."""
        return [
            Endpoint(
                "GET",
                "/api/booking/availability",
                self.availability,
                "The slots that can be booked",
                {200: Availability},
                "Slots that start in `[from, to)`, at most 62 days, each as long as the service, by the same rules as "
                "`reserve`. They begin every `slotStepMinutes` from midnight by the clock of the business. What is "
                "full or closed is not listed.",
                query=AvailabilityQuery,
                refusals=("SERVICE_NOT_FOUND", "RESOURCE_NOT_FOUND"),
                operation_id="getAvailability",
                tag="availability",
                examples=examples.AVAILABILITY,
            )
        ]

    async def availability(self, call: Call) -> Response:
        """GET /api/booking/availability"""
        query: AvailabilityQuery = call.query

        async def ask() -> bytes:
            listed = await availability(
                self._database,
                query.business_id,
                query.service_id,
                query.from_,
                query.to,
                query.quantity,
                query.resource_id,
            )
            return listed.model_dump_json().encode()

        answered = await self._cache.get(query.business_id, query.model_dump_json(), ask)
        return Response(answered, media_type="application/json")
