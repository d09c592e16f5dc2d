"""Guests who look, hold, extend, book, move and cancel, and staff who list and change: everything but the churn."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import httpx2

from tests.database import TestDatabase, at
from tests.serving import ADMIN_TOKEN, ServiceProcess

_BUSINESSES: Final = 10
_STAFF: Final = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
_DAYS: Final = 28
# A guest reads and fills in a form; without a pause they would be a benchmark.
_PAUSE_SECONDS: Final = 0.2


class Guests:
    """Guests at work, and the number of answers that they got, by call and status."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        self._stop = asyncio.Event()

    @classmethod
    @contextmanager
    def running(cls, database: TestDatabase, service: ServiceProcess, count: int) -> Iterator["Guests"]:
        """Lets guests work in a thread until the end of the block. Raises what a guest raised."""
        with database.admin.transaction():
            for number in range(_BUSINESSES):
                pool = ["anna", "bert", "cleo"]
                database.make_service("cut", business_id=f"salon-{number}", resource_ids=pool)
        guests = cls()
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="guests", daemon=True)
        thread.start()
        working = asyncio.run_coroutine_threadsafe(guests._work(service, count), loop)
        try:
            yield guests
        finally:
            loop.call_soon_threadsafe(guests._stop.set)
            try:
                working.result(60)
            finally:
                loop.call_soon_threadsafe(loop.stop)
                thread.join()
                loop.close()

    @property
    def unexpected(self) -> dict[tuple[str, int], int]:
        """The answers that are neither a success nor a slot that another guest has taken."""
        return {key: count for key, count in self.answers.items() if key[1] >= 400 and key[1] != 409}

    async def _work(self, service: ServiceProcess, count: int) -> None:
        async with service.client(connections=count) as client, asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(self._guest(client))

    async def _guest(self, client: httpx2.AsyncClient) -> None:
        while not self._stop.is_set():
            await self._visit(client, f"salon-{random.randrange(_BUSINESSES)}")
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _visit(self, client: httpx2.AsyncClient, business: str) -> None:
        """Looks at a day, holds a slot, and mostly books it; later the booking is moved, changed or cancelled."""
        day = at(0, day=random.randrange(_DAYS))
        of_day = {"businessId": business, "from": day.isoformat(), "to": (day + timedelta(days=1)).isoformat()}
        listed = await self._call(client, "GET", "/api/booking/availability", params=of_day | {"serviceId": "cut"})
        if not listed["slots"]:
            await self._clear(client, of_day)
            return
        chosen = random.choice(listed["slots"])
        slot = {name: chosen[name] for name in ("slotStart", "slotEnd")}
        body = {"businessId": business, "serviceId": "cut", "idempotencyKey": str(uuid4()), **slot}
        held = await self._call(client, "POST", "/api/booking/reserve", json=body)
        if "reservationId" not in held:
            return
        reservation = f"/api/booking/reservations/{held['reservationId']}"
        if random.random() < 0.3:
            await self._call(client, "POST", f"{reservation}/extend", json={"ttlMinutes": 20})
        if random.random() < 0.3:
            await self._call(client, "DELETE", reservation)
            return
        guest = {"reservationId": held["reservationId"], "guestName": "Ada", "guestEmail": "ada@example.com"}
        booked = await self._call(client, "POST", "/api/booking/commit", json=guest)
        await self._change(client, booked)

    async def _change(self, client: httpx2.AsyncClient, booked: dict[str, Any]) -> None:
        path = f"/api/booking/appointments/{booked['appointmentId']}"
        version = booked["version"]
        if random.random() < 0.5:
            changed = await self._call(
                client, "PATCH", path, json={"notes": "Late", "expectedVersion": version}, headers=_STAFF
            )
            version = changed["version"]
        if random.random() < 0.5:
            token = {"Guest-Token": booked["cancellationToken"]}
            await self._call(client, "POST", f"{path}/cancel", json={"expectedVersion": version}, headers=token)

    async def _clear(self, client: httpx2.AsyncClient, of_day: dict[str, str]) -> None:
        """Lists the appointments of a full day, and cancels them."""
        found = await self._call(
            client, "GET", "/api/booking/appointments", params=of_day | {"status": "confirmed"}, headers=_STAFF
        )
        for appointment in found["items"]:
            path = f"/api/booking/appointments/{appointment['appointmentId']}/cancel"
            await self._call(client, "POST", path, json={}, headers=_STAFF)

    async def _call(self, client: httpx2.AsyncClient, method: str, path: str, **options: Any) -> Any:
        answer = await client.request(method, path, **options)
        self.answers[f"{method} {path.rpartition('/')[2][:20]}", answer.status_code] += 1
        return answer.json() if answer.content else {}
