"""Clients that call everything that the API offers about holds and appointments, and record each call."""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import httpx2

from tests.history.claims import bodies
from tests.history.record import Call, History, to_instant, to_seconds
from tests.history.town import CAPACITIES, TOWN, Slot, settings_of
from tests.serving import ADMIN_TOKEN

BEARER: Final = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
_APPOINTMENTS: Final = "/api/booking/appointments"
_HOLDS: Final = "/api/booking/reservations"
# How often a client does what. Claims are ended about as often as they are made, so that the slots stay nearly full.
_WEIGHTS: Final = {
    "reserve": 26,
    "commit": 7,
    "extend": 4,
    "release": 4,
    "book": 6,
    "create": 6,
    "widget": 3,
    "change": 12,
    "reschedule": 5,
    "cancel": 12,
    "erase": 1,
    "erase_person": 0.3,
    "get_hold": 3,
    "get_appointment": 3,
    "list_appointments": 2,
    "list_holds": 1,
    "audit": 1,
    "capacity": 3,
    "availability": 2,
    "put_service": 1.5,
}
_TTL_MINUTES: Final = (0.005, 0.02, 0.05, 0.3, 1.2)
# Most clients wait as long as the README says.
_TIMEOUTS: Final = (15.0, 15.0, 15.0, 1.0)
_GUESTS: Final = tuple(f"guest{number}@example.com" for number in range(12))
_REMEMBERED: Final = 60


class Recorder:
    """Makes calls over HTTP, and records each with its times and its answer."""

    def __init__(self, history: History, client: httpx2.AsyncClient) -> None:
        self._history = history
        self.client = client
        self._began = time.monotonic()
        self._count = 0

    def now(self) -> float:
        """Returns the time of the history."""
        return time.monotonic() - self._began

    def number(self) -> int:
        """Returns the number of the next call."""
        self._count += 1
        return self._count

    def add(self, call: Call) -> Call:
        """Adds a call to the history."""
        self._history.calls.append(call)
        return call

    async def call(
        self,
        kind: str,
        business: str,
        request: dict[str, Any],
        method: str,
        path: str,
        *,
        client: int = 0,
        headers: dict[str, str] | None = None,
        **sent: Any,
    ) -> Call:
        """Sends a request, and records it as `request`, with no status if no answer comes."""
        number, started = self.number(), self.now()
        status: int | None = None
        answer: dict[str, Any] = {}
        try:
            got = await self.client.request(
                method, path, headers={"X-Request-Id": f"call-{number}", **(headers or {})}, **sent
            )
            status, answer = got.status_code, got.json() if got.content else {}
        except httpx2.TransportError:
            pass
        finally:
            # Also if the client is stopped: then it does not know the answer.
            answer = answer.get("data", answer)
            call = self.add(Call(number, kind, business, request, started, self.now(), status, answer, client))
        return call


@dataclass(slots=True)
class Crowd:
    """What all clients know of each other's claims, so that they compete for these too."""

    slots: list[Slot]
    holds: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    appointments: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    stopped: bool = False

    def note(self, call: Call) -> None:
        """Remembers the hold or the appointments in an answer."""
        if call.kind == "reserve" and call.answer.get("status") == "held":
            self.holds.append((call.business, call.answer["reservationId"]))
        elif call.kind in ("commit", "release"):
            # Mostly: calls on ended holds are of interest, too.
            hold = call.business, call.request["reservationId"]
            if not call.is_unknown and call.number % 4 and hold in self.holds:
                self.holds.remove(hold)
        for body in bodies(call):
            if "version" in body:
                known = self.appointments.pop(body["appointmentId"], (call.business, {}))[1]
                if known.get("version", 0) <= body["version"]:
                    known = {**known, **body}
                if known["status"] != "cancelled" or call.number % 8 == 0:
                    self.appointments[body["appointmentId"]] = call.business, known
        while len(self.appointments) > _REMEMBERED:
            self.appointments.pop(next(iter(self.appointments)))


class Client:
    """One client: it does one thing after the other, and repeats most calls whose answer was lost."""

    def __init__(self, number: int, recorder: Recorder, crowd: Crowd, seed: int) -> None:
        self._number = number
        self._recorder = recorder
        self._crowd = crowd
        self._random = random.Random(f"{seed}-{number}")
        self._id = str(UUID(int=self._random.getrandbits(128), version=4))
        # Requests that were granted, to be replayed, or to be misused.
        self._granted: deque[tuple[str, str, dict[str, Any]]] = deque(maxlen=8)
        self._actions: dict[str, Callable[[], Any]] = {kind: getattr(self, f"_{kind}") for kind in _WEIGHTS}

    async def run(self) -> None:
        """Makes calls until the crowd is stopped."""
        kinds, weights = list(_WEIGHTS), list(_WEIGHTS.values())
        while not self._crowd.stopped:
            await self._actions[self._random.choices(kinds, weights)[0]]()
            await asyncio.sleep(self._random.expovariate(30))

    # The calls.

    async def _reserve(self) -> None:
        slot = self._slot()
        await self._claim(
            "reserve", slot.business, self._wish(slot) | {"ttlMinutes": self._random.choice(_TTL_MINUTES)}
        )

    async def _book(self) -> None:
        slot = self._slot()
        await self._claim("book", slot.business, self._wish(slot) | {"guestEmail": self._guest()})

    async def _create(self) -> None:
        slot = self._slot(begun=True)
        await self._claim("create", slot.business, self._wish(slot) | {"guestEmail": self._guest()})

    async def _widget(self) -> None:
        slot = self._slot()
        wish = self._wish(slot) | {"quantity": 1}
        await self._claim("widget", slot.business, wish | {"guestEmail": self._guest()})

    async def _claim(self, kind: str, business: str, wish: dict[str, Any]) -> None:
        """Asks for a slot: mostly with a new key, sometimes without a key or with a used one."""
        luck = self._random.random()
        if luck < 0.06 and self._granted:
            kind, business, wish = self._random.choice(self._granted)
        elif luck < 0.09 and self._granted:
            _, _, former = self._random.choice(self._granted)
            wish = {**wish, "idempotencyKey": former["idempotencyKey"]}
        elif luck < 0.85:
            wish = {**wish, "idempotencyKey": str(UUID(int=self._random.getrandbits(128), version=4))}
        call = await self._persist(lambda: self._send_claim(kind, business, wish), keyed="idempotencyKey" in wish)
        if call.is_acknowledged and "idempotencyKey" in wish:
            self._granted.append((kind, business, wish))

    async def _send_claim(self, kind: str, business: str, wish: dict[str, Any]) -> Call:
        headers = {"X-Client-Id": self._id}
        if kind == "widget":
            body = {"serviceId": wish["serviceId"], "startTime": wish["slotStart"], "slotEnd": wish["slotEnd"]}
            body |= {"firstName": "Ada", "email": wish["guestEmail"]}
            body |= {"staffId": wish["resourceId"]} if "resourceId" in wish else {}
            headers |= {"Idempotency-Key": wish["idempotencyKey"]} if "idempotencyKey" in wish else {}
            return await self._call(kind, business, wish, "POST", f"/api/v1/public/{business}/book", headers, body)
        path = {"reserve": "/api/booking/reserve", "book": "/api/bookings", "create": _APPOINTMENTS}[kind]
        headers |= BEARER if kind == "create" else {}
        return await self._call(kind, business, wish, "POST", path, headers, {"businessId": business, **wish})

    async def _commit(self) -> None:
        if held := self._hold():
            business, hold = held
            request = {"reservationId": hold, "guestEmail": self._guest()}
            if self._random.random() < 0.5:
                request["ifExpired"] = "rebook"
            headers = {"X-Client-Id": self._id}
            await self._persist(
                lambda: self._call("commit", business, request, "POST", "/api/booking/commit", headers, request),
                keyed=True,
            )

    async def _extend(self) -> None:
        if held := self._hold():
            business, hold = held
            request = {"reservationId": hold, "ttlMinutes": self._random.choice(_TTL_MINUTES)}
            body = {"ttlMinutes": request["ttlMinutes"]}
            await self._call("extend", business, request, "POST", f"{_HOLDS}/{hold}/extend", {}, body)

    async def _release(self) -> None:
        if held := self._hold():
            business, hold = held
            way = self._random.choice([("DELETE", f"{_HOLDS}/{hold}"), ("POST", f"{_HOLDS}/{hold}/release")])
            await self._persist(lambda: self._call("release", business, {"reservationId": hold}, *way), keyed=True)

    async def _get_hold(self) -> None:
        if held := self._hold():
            await self._call("get_hold", held[0], {"reservationId": held[1]}, "GET", f"{_HOLDS}/{held[1]}")

    async def _change(self) -> None:
        found = self._appointment()
        if not found:
            return
        business, known = found
        changes = self._changes(business, known) | {"notes": str(self._random.getrandbits(64))}
        request = {"appointmentId": known["appointmentId"], "expectedVersion": known["version"], "set": changes}
        body = {"expectedVersion": known["version"], **changes}
        path = f"{_APPOINTMENTS}/{known['appointmentId']}"
        headers = dict(BEARER)
        if self._random.random() < 0.3:
            headers["If-Match"] = f'"{body.pop("expectedVersion")}"'
        await self._call("change", business, request, "PATCH", path, headers, body)

    def _changes(self, business: str, known: dict[str, Any]) -> dict[str, Any]:
        """Returns what a change sets beside the notes."""
        if known["status"] in ("no_show", "completed"):
            return {"status": "confirmed"}
        luck = self._random.random()
        begun = to_seconds(known["slotStart"]) < time.time()
        if begun and luck < 0.6:
            return {"status": self._random.choice(["no_show", "completed"])}
        if luck < 0.2 or begun:
            return {}
        if luck < 0.3:
            return {"status": "cancelled"}
        if luck < 0.4:
            return {"quantity": self._random.randint(1, 3)}
        slot = self._random.choice([s for s in self._crowd.slots if s.business == business and s.starts > time.time()])
        if luck < 0.5 and TOWN.offers[business][known["serviceId"]].pool:
            return {"resourceId": self._random.choice([None, *TOWN.offers[business][known["serviceId"]].pool])}
        if luck < 0.6 and "night" not in (slot.service, known["serviceId"]):
            return {"serviceId": slot.service}
        return self._move(business, known)

    def _move(self, business: str, known: dict[str, Any]) -> dict[str, Any]:
        slot = self._random.choice(
            [s for s in self._crowd.slots if (s.business, s.service) == (business, known["serviceId"])]
        )
        move: dict[str, Any] = {"slotStart": to_instant(slot.starts), "slotEnd": to_instant(slot.ends)}
        if self._random.random() < 0.3 and slot.service != "night":
            del move["slotEnd"]
        if self._random.random() < 0.3 and TOWN.offers[business][slot.service].pool:
            move["resourceId"] = None
        return move

    async def _reschedule(self) -> None:
        found = self._appointment()
        if not found:
            return
        business, known = found
        changes = self._move(business, known)
        request: dict[str, Any] = {"appointmentId": known["appointmentId"], "set": changes}
        if self._random.random() < 0.7:
            request["expectedVersion"] = known["version"]
        token = known.get("cancellationToken")
        headers = {"Guest-Token": token} if token else BEARER
        body = changes | {name: request[name] for name in ("expectedVersion",) if name in request}
        path = f"{_APPOINTMENTS}/{known['appointmentId']}/reschedule"
        await self._call("reschedule", business, request, "POST", path, headers, body)

    async def _cancel(self) -> None:
        found = self._appointment()
        if not found:
            return
        business, known = found
        request: dict[str, Any] = {"appointmentId": known["appointmentId"]}
        if self._random.random() < 0.3:
            request["expectedVersion"] = known["version"]
        body = {name: request[name] for name in ("expectedVersion",) if name in request}
        token = known.get("cancellationToken")
        if token and self._random.random() < 0.5:
            headers, body = {}, body | {"cancellationToken": token}
        else:
            headers = dict(BEARER)
        path = f"{_APPOINTMENTS}/{known['appointmentId']}/cancel"
        await self._persist(
            lambda: self._call("cancel", business, request, "POST", path, headers, body),
            keyed="expectedVersion" not in request,
        )

    async def _erase(self) -> None:
        if found := self._appointment():
            path = f"{_APPOINTMENTS}/{found[1]['appointmentId']}/guest"
            await self._call("erase", found[0], {"appointmentId": found[1]["appointmentId"]}, "DELETE", path, BEARER)

    async def _erase_person(self) -> None:
        business = self._random.choice(list(TOWN.offers))
        body = {"businessId": business, "guestEmail": self._guest()}
        await self._call("erase_person", business, body, "POST", "/api/booking/guests/erase", BEARER, body)

    async def _get_appointment(self) -> None:
        if found := self._appointment():
            request = {"appointmentId": found[1]["appointmentId"]}
            path = f"{_APPOINTMENTS}/{request['appointmentId']}"
            await self._call("get_appointment", found[0], request, "GET", path, BEARER)

    async def _audit(self) -> None:
        if found := self._appointment():
            request = {"appointmentId": found[1]["appointmentId"]}
            path = f"{_APPOINTMENTS}/{request['appointmentId']}/audit"
            await self._call("audit", found[0], request, "GET", path, BEARER)

    async def _list_appointments(self) -> None:
        slot = self._slot()
        request = {"from": to_instant(slot.starts), "to": to_instant(slot.starts + 60), "limit": "500"}
        params = {"businessId": slot.business, **request}
        await self._call("list_appointments", slot.business, request, "GET", _APPOINTMENTS, BEARER, params=params)

    async def _list_holds(self) -> None:
        business = self._random.choice(list(TOWN.offers))
        params = {"businessId": business, "limit": "500"}
        await self._call("list_holds", business, {}, "GET", _HOLDS, BEARER, params=params)

    async def _capacity(self) -> None:
        slot = self._slot(begun=True)
        request = {"serviceId": slot.service, "slotStart": to_instant(slot.starts), "slotEnd": to_instant(slot.ends)}
        params = {"businessId": slot.business, **request}
        await self._call("capacity", slot.business, request, "GET", "/api/booking/capacity", params=params)

    async def _availability(self) -> None:
        slot = self._slot()
        window = {"from": to_instant(slot.starts - 3600), "to": to_instant(slot.starts + 3600)}
        request = {"serviceId": slot.service, **window}
        params = {"businessId": slot.business, **request}
        await self._call("availability", slot.business, request, "GET", "/api/booking/availability", params=params)

    async def _put_service(self) -> None:
        (business, service), capacities = self._random.choice(list(CAPACITIES.items()))
        capacity = self._random.choice(capacities)
        request = {"serviceId": service, "capacity": capacity}
        body = settings_of(service, TOWN.offers[business][service], capacity)
        path = f"/api/catalog/businesses/{business}/services/{service}"
        await self._call("put_service", business, request, "PUT", path, BEARER, body)

    # What they send.

    def _slot(self, *, begun: bool = False) -> Slot:
        now = time.time()
        return self._random.choice([slot for slot in self._crowd.slots if begun or slot.starts > now])

    def _wish(self, slot: Slot) -> dict[str, Any]:
        offer = TOWN.offers[slot.business][slot.service]
        wish = {"serviceId": slot.service, "slotStart": to_instant(slot.starts), "slotEnd": to_instant(slot.ends)}
        most = max((TOWN.seats[slot.business][resource] for resource in offer.pool), default=4)
        quantity = self._random.choices(range(1, most + 1), [2 ** (most - n) for n in range(most)])[0]
        named = {"resourceId": self._random.choice(offer.pool)} if offer.pool and self._random.random() < 0.4 else {}
        return {**wish, "quantity": quantity, **named}

    def _guest(self) -> str:
        return self._random.choice(_GUESTS)

    def _hold(self) -> tuple[str, str] | None:
        """Returns a hold: as often an old one, which may have expired, as any."""
        holds = list(self._crowd.holds)
        return self._random.choice(holds[: self._random.choice([10, _REMEMBERED])]) if holds else None

    def _appointment(self) -> tuple[str, dict[str, Any]] | None:
        return self._random.choice(list(self._crowd.appointments.values())) if self._crowd.appointments else None

    async def _persist(self, send: Callable[[], Any], *, keyed: bool) -> Call:
        """Repeats a call without an answer, as clients shall that have a key; one in five gives up."""
        call: Call = await send()
        while keyed and not self._crowd.stopped and (call.is_unknown or call.status == 503):
            if self._random.random() < 0.2:
                break
            await asyncio.sleep(self._random.uniform(0.1, 1))
            call = await send()
        return call

    async def _call(
        self,
        kind: str,
        business: str,
        request: dict[str, Any],
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        **sent: Any,
    ) -> Call:
        if body is not None:
            sent["json"] = body
        timeout = self._random.choice(_TIMEOUTS)
        call = await self._recorder.call(
            kind, business, request, method, path, client=self._number, headers=headers, timeout=timeout, **sent
        )
        self._crowd.note(call)
        return call


def tally(calls: list[Call]) -> Counter[tuple[str, str]]:
    """Counts calls by their kind and outcome: the code of a refusal, the status of a success, or `unknown`."""
    return Counter((call.kind, "no answer" if call.status is None else call.code or str(call.status)) for call in calls)
