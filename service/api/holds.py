"""Reserve, look, extend, release, commit, and the room in a slot."""

from uuid import UUID

from starlette.responses import Response

from service.booking.appointments import BookedAppointment
from service.booking.capacity import Capacity, capacity
from service.booking.holds import Holds, Reservation
from service.database.connections import Database
from service.http.documentation import examples
from service.http.endpoints import Call, Endpoint, answer
from service.http.hoarding import HoldLimit
from service.http.idempotency import HEADERS_OF_APPOINTMENT, HEADERS_OF_HOLD, idempotency_key, made
from service.http.shapes import CapacityQuery, CommitBody, ExtendBody, OfBusiness, ReserveBody


class HoldEndpoints:
    """Parses, calls one verb, answers."""

    def __init__(self, holds: Holds, database: Database, hold_limit: HoldLimit | None) -> None:
        self._holds = holds
        self._database = database
        self._hold_limit = hold_limit

    def endpoints(self) -> list[Endpoint]:
        """What there is to call."""
        of_id = "/api/booking/reservations/{reservationId}"
        return [
            Endpoint(
                "POST",
                "/api/booking/reserve",
                self.reserve,
                "Hold a slot",
                {201: Reservation, 200: Reservation},
                "Holds a slot until `expiresAt`. 200 with `Idempotency-Replayed: true` means that an earlier request "
                "with this idempotency key made it. The key may come as the `Idempotency-Key` header instead.",
                body=ReserveBody,
                refusals=(
                    "IDEMPOTENCY_KEY_MISMATCH",
                    "SERVICE_NOT_FOUND",
                    "RESOURCE_NOT_FOUND",
                    "SLOT_UNAVAILABLE",
                    "IDEMPOTENCY_KEY_REUSED",
                    "SLOT_NOT_BOOKABLE",
                    "TOO_MANY_HOLDS",
                ),
                operation_id="reserve",
                tag="reservations",
                request_headers=("Idempotency-Key", "X-Client-Id"),
                answer_headers=HEADERS_OF_HOLD,
                examples=examples.RESERVE,
            ),
            Endpoint(
                "POST",
                "/api/booking/commit",
                self.commit,
                "Turn a hold into an appointment",
                {201: BookedAppointment, 200: BookedAppointment},
                "The reservation is its own key: committed again, it answers 200 with the same appointment, and later "
                "guest fields are ignored. `ifExpired: rebook` books an expired hold's slot if it is still free.",
                body=CommitBody,
                refusals=(
                    "RESERVATION_NOT_FOUND",
                    "SLOT_UNAVAILABLE",
                    "VERSION_CONFLICT",
                    "RESERVATION_EXPIRED",
                    "RESERVATION_RELEASED",
                ),
                operation_id="commit",
                tag="reservations",
                answer_headers=HEADERS_OF_APPOINTMENT,
                examples=examples.COMMIT,
            ),
            Endpoint(
                "GET",
                of_id,
                self.get,
                "Is a hold still valid?",
                {200: Reservation},
                query=OfBusiness,
                refusals=("RESERVATION_NOT_FOUND",),
                operation_id="getReservation",
                tag="reservations",
                examples=examples.GET_RESERVATION,
            ),
            Endpoint(
                "POST",
                of_id + "/extend",
                self.extend,
                "Extend a hold",
                {200: Reservation},
                "`expiresAt` becomes the later of what it is and now + `ttlMinutes`. A refused extend changes nothing.",
                body=ExtendBody,
                query=OfBusiness,
                refusals=(
                    "RESERVATION_NOT_FOUND",
                    "HOLD_LIFETIME_EXCEEDED",
                    "RESERVATION_COMMITTED",
                    "VERSION_CONFLICT",
                    "RESERVATION_EXPIRED",
                    "RESERVATION_RELEASED",
                ),
                operation_id="extend",
                tag="reservations",
                examples=examples.EXTEND,
            ),
            Endpoint(
                "DELETE",
                of_id,
                self.release,
                "Release a hold",
                {204: None},
                "Also 204 when repeated, or when the hold had expired.",
                query=OfBusiness,
                refusals=("RESERVATION_NOT_FOUND", "RESERVATION_COMMITTED"),
                operation_id="release",
                tag="reservations",
                examples=examples.RELEASE,
            ),
            Endpoint(
                "GET",
                "/api/booking/capacity",
                self.capacity,
                "The capacity left in one slot",
                {200: Capacity},
                "`held` and `booked` at the fullest instant of the slot and its buffers.",
                query=CapacityQuery,
                refusals=("SERVICE_NOT_FOUND",),
                operation_id="getCapacity",
                tag="capacity",
                examples=examples.CAPACITY,
            ),
        ]

    async def reserve(self, call: Call) -> Response:
        """POST /api/booking/reserve"""
        body: ReserveBody = call.body
        request = {**body.wish(), "ttl_minutes": body.ttl_minutes}
        holder = self._hold_limit.holder(call.request) if self._hold_limit else {}
        return made(*await self._holds.reserve(body.business_id, request, idempotency_key(call), holder))

    async def commit(self, call: Call) -> Response:
        """POST /api/booking/commit"""
        body: CommitBody = call.body
        request = {
            **body.guest(),
            "expected_version": body.expected_version,
            "if_expired": body.if_expired,
            "source": "online",
            "actor_kind": "guest",
            "request_id": call.request.scope["request_id"],
        }
        return made(*await self._holds.commit(body.reservation_id, request, body.business_id))

    async def get(self, call: Call) -> Response:
        """GET /api/booking/reservations/{reservationId}"""
        return answer(await self._holds.get(_reservation_id(call), call.query.business_id))

    async def extend(self, call: Call) -> Response:
        """POST /api/booking/reservations/{reservationId}/extend"""
        body: ExtendBody = call.body
        return answer(
            await self._holds.extend(
                _reservation_id(call), body.ttl_minutes, body.expected_version, call.query.business_id
            )
        )

    async def release(self, call: Call) -> Response:
        """DELETE /api/booking/reservations/{reservationId}"""
        await self._holds.release(_reservation_id(call), call.query.business_id)
        return Response(status_code=204)

    async def capacity(self, call: Call) -> Response:
        """GET /api/booking/capacity"""
        query: CapacityQuery = call.query
        return answer(
            await capacity(self._database, query.business_id, query.service_id, query.slot_start, query.slot_end)
        )


def _reservation_id(call: Call) -> UUID:
    return call.path_uuid("reservationId", "RESERVATION_NOT_FOUND")
