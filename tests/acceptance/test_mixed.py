"""Holds, commits, bookings, moves and cancellations of many callers at the same time, over HTTP, at a service with
several workers. Afterwards the answers, the rows and the invariants must agree."""

import random
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.acceptance.clients import race, race_behind_lock, slot, statuses
from tests.acceptance.conftest import Serve
from tests.database import TestDatabase, at
from tests.http.describing import check
from tests.serving import ADMIN_TOKEN

pytestmark = pytest.mark.anyio

Json = dict[str, Any]

APPOINTMENTS = "/api/booking/appointments"
BEARER = {"Authorization": f"Bearer {ADMIN_TOKEN}"}

# All services share Rosa, and "perm" has only her, so that their requests conflict.
POOLS = {"cut": ["rosa", "maria"], "colour": ["rosa", "maria"], "perm": ["rosa"]}
ROUNDS = 10
AT_ONCE = 200
HOURS = 24


class Crowd:
    """Callers whose requests are based on the answers that they received."""

    def __init__(self, client: httpx2.AsyncClient, seed: int) -> None:
        self._client = client
        self._random = random.Random(seed)
        # Holds and appointments by id, with the latest answer of each.
        self.holds: dict[str, Json] = {}
        self.appointments: dict[str, Json] = {}
        # Every answer with an appointment, and its request.
        self.answered: list[tuple[httpx2.Request, Json]] = []
        self.committed: set[str] = set()

    def requests(self, count: int) -> list[httpx2.Request]:
        """Makes a number of random requests."""
        return [self._request() for _ in range(count)]

    def note(self, answers: list[httpx2.Response]) -> None:
        """Records the answers."""
        for answer in answers:
            if answer.status_code not in (200, 201):
                continue
            body = answer.json()
            if "appointmentId" not in body:
                self.holds[body["reservationId"]] = body
                continue
            self.answered.append((answer.request, body))
            if body["reservationId"]:
                self.committed.add(body["reservationId"])
                self.holds.pop(body["reservationId"], None)
            known = self.appointments.get(body["appointmentId"])
            if known is None or known["version"] < body["version"]:
                body.pop("cancellationToken", None)
                self.appointments[body["appointmentId"]] = body

    def _request(self) -> httpx2.Request:
        live = [body for body in self.appointments.values() if body["status"] == "confirmed"]
        wishes = ["reserve"] * 3 + ["book"] * 2 + ["create"] * 2
        wishes += ["commit"] * 4 if self.holds else []
        wishes += ["cancel"] * 3 + ["move"] * 5 + ["edit"] if live else []
        match self._random.choice(wishes):
            case "reserve":
                return self._send("POST", "/api/booking/reserve", self._slot())
            case "book":
                return self._send("POST", "/api/bookings", self._slot(guestEmail="ada@example.com"))
            case "create":
                return self._send("POST", APPOINTMENTS, self._slot(guestName="Ada"))
            case "commit":
                hold = self._random.choice(list(self.holds.values()))
                body = {"reservationId": hold["reservationId"], "guestEmail": "ada@example.com"}
                return self._send("POST", "/api/booking/commit", body)
            case "cancel":
                appointment = self._random.choice(live)
                return self._send("POST", f"{APPOINTMENTS}/{appointment['appointmentId']}/cancel", {"reason": "ill"})
            case "move":
                return self._change(self._random.choice(live), slotStart=self._instant(), resourceId=None)
            case _:
                return self._change(self._random.choice(live))

    def _change(self, appointment: Json, **members: Any) -> httpx2.Request:
        # A new note in each request, so that the change never has no effect.
        body = {"expectedVersion": appointment["version"], "notes": uuid4().hex, **members}
        return self._send("PATCH", f"{APPOINTMENTS}/{appointment['appointmentId']}", body)

    def _instant(self) -> str:
        return at(self._random.randrange(2 * HOURS) / 2).isoformat()

    def _slot(self, **members: Any) -> Json:
        service_id = self._random.choice(list(POOLS))
        resource_id = self._random.choice([None, None, *POOLS[service_id]])
        wish = {"serviceId": service_id, "slotStart": self._instant(), "resourceId": resource_id}
        return {"businessId": "salon", **wish, **members}

    def _send(self, method: str, path: str, body: Json) -> httpx2.Request:
        headers = BEARER | {"X-Request-Id": uuid4().hex}
        return self._client.build_request(method, path, json=body, headers=headers)


async def list_appointments(client: httpx2.AsyncClient) -> dict[str, Json]:
    """Lists all appointments of the days of the tests, page by page."""
    days = {"businessId": "salon", "from": at(-48).isoformat(), "to": at(96).isoformat(), "limit": "100"}
    found: dict[str, Json] = {}
    cursor = None
    while True:
        query = days | ({"cursor": cursor} if cursor else {})
        page = (await client.get(APPOINTMENTS, params=query, headers=BEARER)).json()
        found |= {item["appointmentId"]: item for item in page["items"]}
        cursor = page["nextCursor"]
        if cursor is None:
            return found


def assert_no_resource_is_double_booked(appointments: list[Json]) -> None:
    """Checks from the answers alone that the appointments of each resource do not overlap."""
    diaries = defaultdict(list)
    for appointment in appointments:
        if appointment["status"] == "confirmed":
            assert appointment["resourceId"] in POOLS[appointment["serviceId"]]
            diaries[appointment["resourceId"]].append((appointment["slotStart"], appointment["slotEnd"]))
    for diary in diaries.values():
        assert all(one[1] <= other[0] for one, other in pairwise(sorted(diary)))


def assert_audit_logs_match(database: TestDatabase, crowd: Crowd) -> None:
    """Checks that each change in an answer has one audit row and that there are no others; no version is missing or
    duplicated."""
    rows = database.rows("SELECT request_id, appointment_id::text, version, action FROM booking.audit_logs")
    by_request = {request_id: (appointment_id, version) for request_id, appointment_id, version, _ in rows}
    assert len(by_request) == len(rows)
    versions = defaultdict(list)
    for _, appointment_id, version, _ in rows:
        versions[appointment_id].append(version)
    for appointment_id, appointment_versions in versions.items():
        assert sorted(appointment_versions) == list(range(1, crowd.appointments[appointment_id]["version"] + 1))

    unaccounted = set(by_request)
    for request, body in crowd.answered:
        request_id = request.headers["x-request-id"]
        change = by_request.get(request_id)
        unaccounted.discard(request_id)
        if change is None:
            # A repetition: another request has committed or cancelled it before.
            assert request.url.path.endswith(("/commit", "/cancel"))
        else:
            assert change == (body["appointmentId"], body["version"])
    assert unaccounted == set()


async def test_two_hundred_concurrent_operations_leave_exactly_the_acknowledged_state(
    database: TestDatabase, serve: Serve
) -> None:
    """In ten rounds on three services that share two resources there is no 5xx, every answer is documented, the
    invariants hold, and each acknowledged state is stored exactly."""
    for service_id, pool in POOLS.items():
        database.make_service(service_id, resource_ids=pool)
    counts: Counter[tuple[str, int]] = Counter()
    async with serve(WORKERS=2).client(connections=AT_ONCE) as client:
        document = (await client.get("/openapi.json")).json()
        crowd = Crowd(client, seed=20270104)
        for _ in range(ROUNDS):
            answers = await race(client, crowd.requests(AT_ONCE))
            for answer in answers:
                check(document, answer)
                assert answer.status_code < 500, answer.text
                counts[answer.request.method, answer.status_code] += 1
            crowd.note(answers)
            assert database.violations() == {}
        found = await list_appointments(client)

    # The latest answer has the stored state of each appointment. A list leaves the id of the hold out.
    assert found == {key: {**answer, "reservationId": None} for key, answer in crowd.appointments.items()}
    assert_no_resource_is_double_booked(list(found.values()))
    assert_audit_logs_match(database, crowd)
    statuses_of_holds = dict(database.rows("SELECT reservation_id::text, status FROM booking.reservations"))
    assert statuses_of_holds == dict.fromkeys(crowd.holds, "held") | dict.fromkeys(crowd.committed, "committed")
    # Guards against a run without conflicts: each kind of request was both granted and refused.
    assert min(counts["POST", 201], counts["POST", 409], counts["PATCH", 200], counts["PATCH", 409]) >= 20


async def bring_to_version(client: httpx2.AsyncClient, version: int, hour: float) -> str:
    """Makes an appointment, changes it up to this version, and returns its URL."""
    creation = await client.post(APPOINTMENTS, json=slot(hour), headers=BEARER)
    address = f"{APPOINTMENTS}/{creation.json()['appointmentId']}"
    for number in range(1, version):
        answer = await client.patch(address, json={"expectedVersion": number, "notes": str(number)}, headers=BEARER)
        assert answer.json()["version"] == number + 1
    return address


@pytest.mark.parametrize("behind_lock", [True, False], ids=["all in flight", "free"])
@pytest.mark.parametrize("by_header", [False, True], ids=["expectedVersion", "If-Match"])
async def test_of_two_concurrent_updates_of_version_five_one_is_refused(
    database: TestDatabase, serve: Serve, behind_lock: bool, by_header: bool
) -> None:
    """In each of five rounds one update makes version 6, and the other is refused with the current version."""
    database.make_service()
    async with serve(WORKERS=2).client() as client:
        for hour in range(5):
            address = await bring_to_version(client, 5, hour)
            requests = [
                client.build_request(
                    "PATCH",
                    address,
                    json={"notes": user} if by_header else {"notes": user, "expectedVersion": 5},
                    headers=BEARER | ({"If-Match": '"5"'} if by_header else {}),
                )
                for user in ("ada", "byron")
            ]
            answers = await (race_behind_lock(client, requests, database) if behind_lock else race(client, requests))
            assert statuses(answers) == {200: 1, 412 if by_header else 409: 1}
            won, lost = sorted(answers, key=lambda answer: answer.status_code)
            assert won.json()["version"] == 6
            assert (lost.json()["code"], lost.json()["currentVersion"]) == ("VERSION_CONFLICT", 6)
            stored = (await client.get(address, headers=BEARER)).json()
            assert stored == won.json()


async def test_forty_concurrent_cancellations_free_the_room_once(database: TestDatabase, serve: Serve) -> None:
    """All answers have the cancelled appointment, which has one more version and one more audit row, and there is room
    for one more."""
    database.make_service()
    async with serve(WORKERS=2).client(connections=40) as client:
        address = await bring_to_version(client, 1, 10)
        requests = [client.build_request("POST", f"{address}/cancel", json={}, headers=BEARER) for _ in range(40)]
        answers = await race_behind_lock(client, requests, database)
        assert statuses(answers) == {200: 40}
        assert {(answer.json()["status"], answer.json()["version"]) for answer in answers} == {("cancelled", 2)}
        creations = [client.build_request("POST", APPOINTMENTS, json=slot(10), headers=BEARER) for _ in range(10)]
        assert statuses(await race(client, creations)) == {201: 1, 409: 9}
    actions = database.rows("SELECT action FROM booking.audit_logs ORDER BY action")
    assert actions == [("cancelled",), ("created",), ("created",)]


async def test_of_twenty_moves_to_one_slot_one_succeeds(database: TestDatabase, serve: Serve) -> None:
    """A move needs room by the same rule as a booking."""
    database.make_service()
    async with serve(WORKERS=2).client(connections=20) as client:
        addresses = [await bring_to_version(client, 1, hour) for hour in range(20)]
        body = {"expectedVersion": 1, "slotStart": at(22).isoformat()}
        requests = [client.build_request("PATCH", address, json=body, headers=BEARER) for address in addresses]
        answers = await race_behind_lock(client, requests, database)
    assert statuses(answers) == {200: 1, 409: 19}
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["code"] == "SLOT_UNAVAILABLE"
            assert answer.json()["detail"] == "No available capacity for the new time slot"
