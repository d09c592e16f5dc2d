"""Requests that nobody thought of, made of the service's OpenAPI document: the answers are those that it tells of."""

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
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from service.demo import make_demo_catalog
from tests.acceptance.conftest import Serve
from tests.connections import open_database
from tests.database import TestDatabase, at
from tests.serving import ADMIN_TOKEN, CRON_SECRET
from tests.shipped_clock import restore_clock

ADMIN: Final = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
CRON: Final = {"Authorization": f"Bearer {CRON_SECRET}"}
EXAMPLES: Final = 24
# What most valid requests are about: ids made up at random would all be unknown.
KNOWN: Final[dict[str, Any]] = {
    "businessId": "salon",
    "serviceId": "class",
    "resourceId": "rosa",
    "resourceIds": ["rosa", "maria"],
    "staffId": "rosa",
    "slug": "salon-rosa",
    "country": "DE",
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
# Without these the rest is refused: a guest has to be reachable, a capacity as large as what is claimed, an end needs
# its start, and a change the version that it is made on.
ALWAYS: Final = {"guestEmail", "maxSimultaneousBookings", "slotStart", "expectedVersion"}
# What only an empty business can have done to it.
ENDS_A_BUSINESS: Final = "DELETE /api/catalog/businesses/{businessId}"
# What nobody can call without a secret of its own.
CLOSED: Final = {
    "GET /api/booking/calendar/{businessId}.ics",
    "GET /api/booking/calendar/{businessId}/{resourceId}.ics",
}
# What never ends by itself.
STREAMS: Final = ("/api/booking/stream",)


class About(Enum):
    """What a valid request is about."""

    ANYTHING = auto()
    KNOWN = auto()
    ONLY_KNOWN = auto()


# More of those that succeed: each operation has to be reached.
MODES: Final = (GenerationMode.NEGATIVE, GenerationMode.POSITIVE, GenerationMode.POSITIVE)
ABOUT: Final = (About.ANYTHING, About.KNOWN, About.ONLY_KNOWN, About.ONLY_KNOWN)


def test_whatever_is_sent_the_document_tells_of_the_answer(database: TestDatabase, serve: Serve) -> None:
    """No 5xx, no undocumented status, header or member, and nothing is accepted that the document forbids.

    As the administrator, so that no address is closed. What a valid request meets depends on more than its shape: it
    may be refused.
    """
    restore_clock(database)
    asyncio.run(fill(database.url))
    service = serve(RATE_LIMIT_ENABLED=False)
    document = schemathesis.openapi.from_url(f"{service.url}/openapi.json").exclude(path=list(STREAMS))
    met: dict[str, set[int]] = defaultdict(set)
    failures = []
    with requests.Session() as session:
        session.trust_env = False
        for number, found in enumerate(document.get_all_operations()):
            assert isinstance(found, Ok), found
            operation = found.ok()
            make_bookable(database)
            known = KNOWN | made_for(session, service.url, number)
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
    """Sends valid and invalid requests to one operation and checks the answers; returns their statuses."""
    met = set()

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[Phase.generate])
    @given(data=st.data(), mode=st.sampled_from(MODES), about=st.sampled_from(ABOUT))
    def send(data: st.DataObject, mode: GenerationMode, about: About) -> None:
        case: Case[Any] = data.draw(operation.as_strategy(generation_mode=mode))
        if mode is GenerationMode.POSITIVE and about is not About.ANYTHING:
            put(case, known, alone=about is About.ONLY_KNOWN)
        headers = CRON if "/cron/" in operation.path else ADMIN
        answer = case.call_and_validate(session=session, headers=headers, excluded_checks=[positive_data_acceptance])
        met.add(answer.status_code)

    send()
    return met


def put(case: Case[Any], known: Mapping[str, Any], *, alone: bool) -> None:
    """Makes a request one about what is there, where it names such things; `alone` takes out what may be left out."""
    for part in (case.path_parameters, case.query, case.body):
        if isinstance(part, dict):
            part.update({name: value for name, value in known.items() if name in part})
    if isinstance(case.body, dict):
        schema = shape_of_body(case.operation)
        case.body.update({name: known[name] for name in ALWAYS & schema.get("properties", {}).keys()})
        for name in [*case.body] if alone else []:
            if name not in known and name not in schema.get("required", ()):
                del case.body[name]


def shape_of_body(operation: APIOperation[Any, Any, Any, Any]) -> dict[str, Any]:
    """The schema of an operation's body."""
    document = operation.schema.raw_schema
    body = document["paths"][operation.path][operation.method]["requestBody"]
    name = body["content"]["application/json"]["schema"].get("$ref", "").rpartition("/")[2]
    schema: dict[str, Any] = document["components"]["schemas"].get(name, {})
    return schema


def make_bookable(database: TestDatabase) -> None:
    """What earlier operations have closed or taken off the catalog is as before."""
    database.put_service("class", resource_ids=["rosa", "maria"])
    database.put_hours([])
    database.rows("DELETE FROM booking.closures")
    database.put_closure("easter", at(0), at(1))


def made_for(session: requests.Session, url: str, number: int) -> dict[str, str]:
    """A free slot, a hold, an appointment and a key of its own for each operation, which may take or end them."""
    free, *slots = (at(72 + 3 * number + hour) for hour in range(3))
    made = []
    for slot_start in slots:
        body: dict[str, Any] = {"businessId": "salon", "serviceId": "class", "slotStart": slot_start.isoformat()}
        held = session.post(f"{url}/api/booking/reserve", json=body)
        assert held.status_code == 201, held.text
        made.append(held.json()["reservationId"])
    body = {"reservationId": made[0], "guestEmail": "ada@example.com"}
    committed = session.post(f"{url}/api/booking/commit", json=body)
    assert committed.status_code == 201, committed.text
    key = session.post(f"{url}/api/catalog/businesses/salon/keys", json={"name": "Key", "role": "staff"}, headers=ADMIN)
    return {
        "slotStart": free.isoformat(),
        "startTime": free.isoformat(),
        "slotEnd": (free + timedelta(hours=1)).isoformat(),
        "reservationId": made[1],
        "appointmentId": committed.json()["appointmentId"],
        "keyId": key.json()["keyId"],
    }


def empty_business(session: requests.Session, url: str) -> dict[str, str]:
    """A business in which there is nothing yet."""
    settings = {"name": "Empty", "country": "DE"}
    put = session.put(f"{url}/api/catalog/businesses/empty", json=settings, headers=ADMIN)
    assert put.status_code == 201, put.text
    return {"businessId": "empty"}


async def fill(url: str) -> None:
    """The demo catalog."""
    async with open_database(url) as database:
        await make_demo_catalog(database)
