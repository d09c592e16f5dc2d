"""Everything at once: holds, commits, bookings, moves and cancellations of many callers, over HTTP, at a service with
several workers. Afterwards the books must balance: each answer that was given, each row, and each invariant."""

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

# Each can be served by the first, and the last of them by nobody else: so that they all stand in each other's way.
POOLS = {"cut": ["rosa", "maria"], "colour": ["rosa", "maria"], "perm": ["rosa"]}
ROUNDS = 10
AT_ONCE = 200
HOURS = 24


class Crowd:
    """Callers who know what they were told, and nothing else."""

    def __init__(self, client: httpx2.AsyncClient, seed: int) -> None:
        self._client = client
        self._random = random.Random(seed)
        # What is believed to be live, by its id: the last answer about it.
        self.holds: dict[str, Json] = {}
        self.appointments: dict[str, Json] = {}
        # By the ids of their requests, what was told of each appointment: its versions.
        self.told: list[tuple[httpx2.Request, Json]] = []
        self.committed: set[str] = set()

    def requests(self, count: int) -> list[httpx2.Request]:
        """So many wishes of all kinds."""
        return [self._request() for _ in range(count)]

    def note(self, answers: list[httpx2.Response]) -> None:
        """Takes in what was answered."""
        for answer in answers:
            if answer.status_code not in (200, 201):
                continue
            body = answer.json()
            if "appointmentId" not in body:
                self.holds[body["reservationId"]] = body
                continue
            self.told.append((answer.request, body))
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
        # With a note, because a change to what it is already would be none.
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


async def calendar(client: httpx2.AsyncClient) -> dict[str, Json]:
    """All appointments of the days of the tests, page by page."""
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


def assert_nobody_is_in_two_places(appointments: list[Json]) -> None:
    """Looked at from outside: the diary of each who works there, in order."""
    diaries = defaultdict(list)
    for appointment in appointments:
        if appointment["status"] == "confirmed":
            assert appointment["resourceId"] in POOLS[appointment["serviceId"]]
            diaries[appointment["resourceId"]].append((appointment["slotStart"], appointment["slotEnd"]))
    for diary in diaries.values():
        assert all(one[1] <= other[0] for one, other in pairwise(sorted(diary)))


def assert_trails_fit(database: TestDatabase, crowd: Crowd) -> None:
    """One audit row for each change that was told, and none beside them; no version is left out or there twice."""
    rows = database.rows("SELECT request_id, appointment_id::text, version, action FROM booking.audit_logs")
    by_request = {request_id: (appointment_id, version) for request_id, appointment_id, version, _ in rows}
    assert len(by_request) == len(rows)
    versions = defaultdict(list)
    for _, appointment_id, version, _ in rows:
        versions[appointment_id].append(version)
    for appointment_id, of_appointment in versions.items():
        assert sorted(of_appointment) == list(range(1, crowd.appointments[appointment_id]["version"] + 1))

    unaccounted = set(by_request)
    for request, body in crowd.told:
        request_id = request.headers["x-request-id"]
        made = by_request.get(request_id)
        unaccounted.discard(request_id)
        if made is None:
            # Repeated: it was committed or cancelled before, by somebody else's request.
            assert request.url.path.endswith(("/commit", "/cancel"))
        else:
            assert made == (body["appointmentId"], body["version"])
    assert unaccounted == set()


async def test_two_hundred_operations_at_once_leave_nothing_behind_but_what_was_told(
    database: TestDatabase, serve: Serve
) -> None:
    """Ten rounds on three services that share two people. Whatever meets whatever: no 5xx, every answer is one that the
    document tells of, the invariants hold, and what was acknowledged is there, just as it was told."""
    for service_id, pool in POOLS.items():
        database.make_service(service_id, resource_ids=pool)
    met: Counter[tuple[str, int]] = Counter()
    async with serve(WORKERS=2).client(connections=AT_ONCE) as client:
        document = (await client.get("/openapi.json")).json()
        crowd = Crowd(client, seed=20270104)
        for _ in range(ROUNDS):
            answers = await race(client, crowd.requests(AT_ONCE))
            for answer in answers:
                check(document, answer)
                assert answer.status_code < 500, answer.text
                met[answer.request.method, answer.status_code] += 1
            crowd.note(answers)
            assert database.violations() == {}
        found = await calendar(client)

    # The last word that was told of each appointment is how it is. Only that a listing shows nobody's reservation.
    assert found == {of: {**told, "reservationId": None} for of, told in crowd.appointments.items()}
    assert_nobody_is_in_two_places(list(found.values()))
    assert_trails_fit(database, crowd)
    of_holds = dict(database.rows("SELECT reservation_id::text, status FROM booking.reservations"))
    assert of_holds == dict.fromkeys(crowd.holds, "held") | dict.fromkeys(crowd.committed, "committed")
    # It has been a real crowd: there were winners and losers of every kind.
    assert min(met["POST", 201], met["POST", 409], met["PATCH", 200], met["PATCH", 409]) >= 20


async def bring_to_version(client: httpx2.AsyncClient, version: int, hour: float) -> str:
    """The address of a new appointment that was changed until it had this version."""
    made = await client.post(APPOINTMENTS, json=slot(hour), headers=BEARER)
    address = f"{APPOINTMENTS}/{made.json()['appointmentId']}"
    for number in range(1, version):
        answer = await client.patch(address, json={"expectedVersion": number, "notes": str(number)}, headers=BEARER)
        assert answer.json()["version"] == number + 1
    return address


@pytest.mark.parametrize("behind_lock", [True, False], ids=["all in flight", "free"])
@pytest.mark.parametrize("by_header", [False, True], ids=["expectedVersion", "If-Match"])
async def test_of_two_users_who_update_version_five_one_is_told_of_version_six(
    database: TestDatabase, serve: Serve, behind_lock: bool, by_header: bool
) -> None:
    """No update is lost: one makes version 6, and the other learns that there is one. Five times."""
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


async def test_of_forty_cancellations_at_once_one_frees_the_room_once(database: TestDatabase, serve: Serve) -> None:
    """All are told that it is cancelled; it has one more version and one more audit row, and room for one more."""
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


async def test_twenty_appointments_that_move_to_one_slot_leave_nineteen_where_they_were(
    database: TestDatabase, serve: Serve
) -> None:
    """Rescheduling takes room by the same rule as booking."""
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
