"""Requests generated from the service's OpenAPI document: each answer must be one that the document describes."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum, auto
from typing import Any, Final

import requests
import schemathesis
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from service.process.hosting import make_demo_catalog
from tests.acceptance.conftest import Serve
from tests.connections import open_database
from tests.database import TestDatabase, at
from tests.serving import ADMIN_TOKEN, CRON_SECRET
from tests.shipped_clock import restore_clock

ADMIN: Final = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
CRON: Final = {"Authorization": f"Bearer {CRON_SECRET}"}
EXAMPLES: Final = 24
# Values of most valid requests, because random ids would all be unknown.
KNOWN: Final[dict[str, Any]] = {
    "businessId": "salon",
    "serviceId": "class",
    "resourceId": "rosa",
    "resourceIds": ["rosa", "maria"],
    "staffId": "rosa",
    "slug": "salon-rosa",
    "country": "DE",
    "specialHoursId": "christmas",
    "date": "2027-12-24",
    "until": "2027-12-26",
    "closureId": "easter",
    "quantity": 1,
    "expectedVersion": 1,
    "maxSimultaneousBookings": 2,
    "durationMinutes": 60,
    "maxDurationMinutes": 600,
    "holdTtlMinutes": 15,
    "maxHoldTtlMinutes": 60,
    "maxHoldLifetimeMinutes": 120,
    "email": "ada@example.com",
    "guestEmail": "ada@example.com",
    "guestPhone": "+49 30 123456",
    "phone": "+49 30 123456",
    "from": at(0).isoformat(),
    "to": at(48).isoformat(),
}
# Of the call that counts slots by date.
DATES: Final = {"from": at(0).date().isoformat(), "to": at(48).date().isoformat()}
# Of the call that returns a file of a page.
FILE: Final = {"page": "ops", "asset": "ops.js"}
# Without these a request is refused: a guest must be reachable, a capacity must cover the present claims, a service has
# a length, an end needs its start, and a change its version.
ALWAYS: Final = {"guestEmail", "maxSimultaneousBookings", "durationMinutes", "slotStart", "expectedVersion"}
# Succeeds for an empty business only.
ENDS_A_BUSINESS: Final = "DELETE /api/catalog/businesses/{businessId}"
# Calls that need the key of a feed, which no request here has.
CLOSED: Final = {
    "GET /api/booking/calendar/{businessId}.ics",
    "GET /api/booking/calendar/{businessId}/{resourceId}.ics",
}
# Answers that do not end by themselves.
STREAMS: Final = ("/api/booking/stream",)


class About(Enum):
    """The share of a valid request's values that exist."""

    ANYTHING = auto()
    KNOWN = auto()
    ONLY_KNOWN = auto()


# Most requests are valid, because each operation must succeed at least once.
MODES: Final = (GenerationMode.NEGATIVE, GenerationMode.POSITIVE, GenerationMode.POSITIVE)
ABOUT: Final = (About.ANYTHING, About.KNOWN, About.ONLY_KNOWN, About.ONLY_KNOWN)


def test_every_answer_is_documented(database: TestDatabase, serve: Serve) -> None:
    """There is no 5xx, no undocumented status, header or member, and no request is accepted that the document forbids.

    The requests have the administrator's token, so that every call is reachable. A valid request may still be refused,
    because its outcome depends on the state of the database.
    """
    restore_clock(database)
    asyncio.run(make_catalog(database.url))
    service = serve(RATE_LIMIT_ENABLED=False)
    document = schemathesis.openapi.from_url(f"{service.url}/openapi.json").exclude(path=list(STREAMS))
    met: dict[str, set[int]] = defaultdict(set)
    failures = []
    with requests.Session() as session:
        session.trust_env = False
        for number, result in enumerate(document.get_all_operations()):
            assert isinstance(result, Ok), result
            operation = result.ok()
            make_bookable(database)
            known = KNOWN | make_objects(session, service.url, number)
            if operation.path.endswith("/availability/days"):
                known |= DATES
            if "{page}" in operation.path:
                known |= FILE
            if operation.label == ENDS_A_BUSINESS:
                known |= empty_business(session, service.url)
            try:
                met[operation.label] |= statuses_met(operation, known, session)
            except Exception as error:
                failures += [f"{operation.label}: {one}" for one in getattr(error, "exceptions", [error])]
    assert failures == []
    assert {label for label, statuses in met.items() if min(statuses) >= 400} == CLOSED


def statuses_met(
    operation: APIOperation[Any, Any, Any, Any], known: Mapping[str, Any], session: requests.Session
) -> set[int]:
    """Sends valid and invalid requests to one operation and checks the answers; returns their statuses.

    The first valid request that succeeds is also sent with no token and with a wrong one, which must be refused.
    """
    met = set()
    excluded: list[CheckFunction] = [positive_data_acceptance]

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, phases=[Phase.generate])
    @given(data=st.data(), mode=st.sampled_from(MODES), about=st.sampled_from(ABOUT))
    def send(data: st.DataObject, mode: GenerationMode, about: About) -> None:
        case: Case[Any] = data.draw(operation.as_strategy(generation_mode=mode))
        if mode is GenerationMode.POSITIVE and about is not About.ANYTHING:
            set_known_values(case, known, alone=about is About.ONLY_KNOWN)
        headers = CRON if "/cron/" in operation.path else ADMIN
        answer = case.call_and_validate(session=session, headers=headers, excluded_checks=excluded)
        met.add(answer.status_code)
        if answer.status_code < 300 and mode is GenerationMode.POSITIVE and ignored_auth not in excluded:
            excluded.append(ignored_auth)

    send()
    return met


def set_known_values(case: Case[Any], known: Mapping[str, Any], *, alone: bool) -> None:
    """Sets the known values of the members that a request has; `alone` removes its other optional members."""
    for part in (case.path_parameters, case.query, case.body):
        if isinstance(part, dict):
            part.update({name: value for name, value in known.items() if name in part})
    if isinstance(case.body, dict):
        schema = schema_of_body(case.operation)
        case.body.update({name: known[name] for name in ALWAYS & schema.get("properties", {}).keys()})
        for name in [*case.body] if alone else []:
            if name not in known and name not in schema.get("required", ()):
                del case.body[name]


def schema_of_body(operation: APIOperation[Any, Any, Any, Any]) -> dict[str, Any]:
    """Returns the schema of an operation's body."""
    document = operation.schema.raw_schema
    body = document["paths"][operation.path][operation.method]["requestBody"]
    name = body["content"]["application/json"]["schema"].get("$ref", "").rpartition("/")[2]
    schema: dict[str, Any] = document["components"]["schemas"].get(name, {})
    return schema


def make_bookable(database: TestDatabase) -> None:
    """Restores the catalog that earlier operations have changed."""
    person = Jsonb({"name": "Person", "kind": "staff", "booking_enabled": True})
    for resource_id in ("rosa", "maria"):
        database.rows("SELECT booking.put_resource('salon', %s, %s, 'infinity')", resource_id, person)
    database.put_service("class", resource_ids=["rosa", "maria"])
    database.put_hours([])
    database.rows("DELETE FROM booking.closures")
    database.put_closure("easter", at(0), at(1))
    database.rows("DELETE FROM booking.special_hours")
    database.rows(
        "INSERT INTO booking.special_hours VALUES ('salon', 'christmas', NULL, '2027-12-24', '2027-12-26', '{}', '{}')"
    )


def make_objects(session: requests.Session, url: str, number: int) -> dict[str, str]:
    """Makes a free slot, a hold, an appointment and a key for one operation, which may consume them."""
    free, *slots = (at(72 + 3 * number + hour) for hour in range(3))
    reservation_ids = []
    for slot_start in slots:
        body: dict[str, Any] = {"businessId": "salon", "serviceId": "class", "slotStart": slot_start.isoformat()}
        held = session.post(f"{url}/api/booking/reserve", json=body)
        assert held.status_code == 201, held.text
        reservation_ids.append(held.json()["reservationId"])
    body = {"reservationId": reservation_ids[0], "guestEmail": "ada@example.com"}
    committed = session.post(f"{url}/api/booking/commit", json=body)
    assert committed.status_code == 201, committed.text
    key = session.post(f"{url}/api/catalog/businesses/salon/keys", json={"name": "Key", "role": "staff"}, headers=ADMIN)
    return {
        "slotStart": free.isoformat(),
        "startTime": free.isoformat(),
        "slotEnd": (free + timedelta(hours=1)).isoformat(),
        "reservationId": reservation_ids[1],
        "appointmentId": committed.json()["appointmentId"],
        "keyId": key.json()["keyId"],
    }


def empty_business(session: requests.Session, url: str) -> dict[str, str]:
    """Makes a business without resources and services."""
    settings = {"name": "Empty", "country": "DE"}
    response = session.put(f"{url}/api/catalog/businesses/empty", json=settings, headers=ADMIN)
    assert response.status_code == 201, response.text
    return {"businessId": "empty"}


async def make_catalog(url: str) -> None:
    """Makes the demo catalog."""
    async with open_database(url) as database:
        await make_demo_catalog(database)
