"""Bodies that are right, and bodies that are slightly wrong, in all combinations: never a 5xx, and always an answer
that the document tells of."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.database import TestDatabase, at
from tests.http.booking_calls import timestamp
from tests.http.conftest import ADMIN
from tests.http.describing import Json, check, served_document

pytestmark = pytest.mark.anyio

APPOINTMENTS = "/api/booking/appointments"
APPOINTMENTS_AT_FIRST = 60

# What people, programs and burglars send in the place of something else.
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, 0, -1, 1.5, 2**31, 2**63, 10**400, "1", [], {}, [[]], {"a": None}),
        *("", " ", "\u0000", "a\u0000b", "\u202e", "x" * 201, "x" * 2001, "'; --", "%s {}", "\ud800", "-", "caf\u00e9"),
        *({"a": "\u0000"}, {"\u0000": 1}, {"a": ["x" * 5000]}, {"a": 1e308 * 10}, {"a": 10**4000}),
        *("2027-01-04T10:00:00", "2027-01-04T10:00:60Z", "2027-01-04T10:00:00+25:00", "9999-12-31T23:59:59-14:00"),
        *("0001-01-01T00:00:00+14:00", "infinity", "now", "held", "ada", "+", "+999999999999", "+1 (555) 010-9999 #5"),
    ]
)
# The rest is what may be sent, to both ends of it.
INSTANTS = st.sampled_from(
    [
        *(timestamp(at(hour)) for hour in (10, 10.5, 11, 12, 13)),
        timestamp(at(10)).replace("Z", "+14:00"),
        timestamp(at(-24 * 365)),
        timestamp(at(24 * 365 * 5)),
        "0001-01-01T00:00:00Z",
        "1582-10-10T00:00:00Z",
        "2027-03-28T02:30:00+01:00",
        "2027-01-04T24:00:00Z",
        "9998-12-31T23:59:59.999999Z",
        "9999-12-31T23:30:00Z",
        "9999-12-31T23:59:59.999999Z",
    ]
)
IDS = st.sampled_from(["salon", "salon", "rosa", "maria", "clinic", "nobody", "a" * 64])
NAMES = st.sampled_from(["Ada", "n" * 99, "\u202e'; --", "\U0001f600"])
EMAILS = st.sampled_from(["ada@example.com", "a" * 64 + "@example.com", "ada@xn--80ak6aa92e.com"])
PHONES = st.sampled_from(["+49 30 1234567", "030 1234567", "(030) 12-34-567"])
NOTES = st.sampled_from(["", "by the window", "n" * 2000, "%s {} \u202e"])
METADATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)
MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "businessId": IDS,
    "serviceId": st.sampled_from(["cut", "cut", "suite", "nobody"]),
    "staffId": IDS,
    "resourceId": st.none() | IDS,
    "slotStart": INSTANTS,
    "startTime": INSTANTS,
    "slotEnd": INSTANTS,
    "quantity": st.sampled_from([1, 1, 2, 5, 10_000_000]),
    "ttlMinutes": st.sampled_from([0.0001, 15, 10_080]),
    "idempotencyKey": st.sampled_from(["a", "b", "k" * 255]),
    "expectedVersion": st.integers(1, 4) | st.just(2_147_483_647),
    "status": st.sampled_from(["confirmed", "confirmed", "cancelled", "completed", "no_show"]),
    "guestName": NAMES,
    "guestEmail": EMAILS,
    "guestPhone": PHONES,
    "firstName": NAMES,
    "lastName": NAMES,
    "email": EMAILS,
    "phone": PHONES,
    "notes": NOTES,
    "reason": NOTES,
    "metadata": st.dictionaries(NAMES, METADATA, max_size=3),
    "locationId": st.sampled_from(["", "mitte", "l" * 200]),
    "source": st.sampled_from(["phone", "s" * 64]),
    "cancellationToken": st.sampled_from(["v1.x", "t" * 200]),
}


@dataclass(frozen=True)
class Call:
    """What is fuzzed: its members, and those of them that are sent right if nothing else is said."""

    method: str
    path: str
    right: Json
    others: tuple[str, ...]


_SLOT: Json = {"businessId": "salon", "serviceId": "cut", "slotStart": timestamp(at(10))}
_GUEST = ("guestName", "guestEmail", "guestPhone", "notes", "metadata")
_WISH = ("slotEnd", "quantity", "resourceId", "idempotencyKey", *_GUEST, "unknown")
_FORM: Json = {
    "serviceId": "cut",
    "startTime": timestamp(at(10)),
    "firstName": "Ada",
    "lastName": "Example",
    "email": "ada@example.com",
}
_CHANGES = ("slotStart", "slotEnd", "resourceId", "quantity", "status", *_GUEST, "unknown")

CALLS = [
    Call("PATCH", APPOINTMENTS + "/{}", {}, ("expectedVersion", *_CHANGES)),
    Call("POST", APPOINTMENTS + "/{}/cancel", {"reason": "ill"}, ("cancellationToken", "expectedVersion")),
    Call("POST", "/api/bookings", {**_SLOT, "guestEmail": "ada@example.com"}, (*_WISH, "ttlMinutes")),
    Call("POST", APPOINTMENTS, _SLOT, (*_WISH, "source")),
    Call("POST", "/api/v1/public/salon-rosa/book", _FORM, ("staffId", "phone", "notes", "locationId", "unknown")),
]


@st.composite
def bodies(draw: st.DrawFn, call: Call) -> Json:
    """A right body to which some members are added and of which some have other values; in one of three, one is odd."""
    body = dict(call.right)
    names = [*call.right, *call.others]
    for name in draw(st.lists(st.sampled_from([name for name in names if name != "unknown"]), max_size=4, unique=True)):
        body[name] = draw(MEMBERS[name])
    # Not oftener: what is odd is refused at once, and nothing behind it is tried.
    if draw(st.integers(0, 2)) == 0:
        name = draw(st.sampled_from(names))
        if draw(st.booleans()):
            body[name] = draw(ODD)
        else:
            body.pop(name, None)
    return body


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Idempotency-Key": st.sampled_from(["a", "b", "", "k" * 256, "\u00e4".encode("latin-1")]),
        "If-Match": st.sampled_from(['"1"', '"2"', 'W/"3"', "*", "", "1", '"0"', b"\xff"]),
    },
)
QUERIES = st.sampled_from(
    [{}] * 5 + [{"businessId": "salon"}, {"businessId": "clinic"}, {"businessId": "-"}, {"x": "1"}]
)


@dataclass(frozen=True)
class Attempt:
    """One request: `target` is the appointment that it is about, where it is about one."""

    call: Call
    target: int
    body: Json
    headers: dict[str, Any]
    query: dict[str, str]


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    """Any call, mostly with a key that may make it."""
    call = draw(st.sampled_from(CALLS))
    # Whichever version it has: so that most changes go on from there.
    if_any = {"If-Match": "*"} if call.method == "PATCH" else {}
    headers = draw(st.sampled_from([ADMIN] * 7 + [{}])) | if_any | draw(st.just({}) | HEADERS)
    query = draw(QUERIES) if "{}" in call.path else {}
    return Attempt(call, draw(st.integers(0, APPOINTMENTS_AT_FIRST + 1)), draw(bodies(call)), headers, query)


class Salon:
    """Ids of appointments, of which the last are none; and the document that answers are compared with."""

    def __init__(self, ids: list[str], document: Json) -> None:
        self.ids = ids
        self.document = document


@pytest.fixture
async def salon(client: httpx2.AsyncClient, database: TestDatabase) -> Salon:
    """A salon with a service that has much room and one with two people; the ids of appointments of both."""
    database.make_service("cut", capacity=1_000_000, cancellation_window_minutes=60, max_advance_days=3660)
    database.make_service("suite", resource_ids=["rosa", "maria"], buffer_before_minutes=15, buffer_after_minutes=15)
    database.make_business("clinic")
    settings_ = {"name": "Salon Rosa", "slug": "salon-rosa", "country": "DE"}
    assert (await client.put("/api/catalog/businesses/salon", json=settings_, headers=ADMIN)).status_code == 200
    booked = [
        database.book(number, service_id=service).id
        for number in range(-APPOINTMENTS_AT_FIRST // 2, 0)
        for service in ("cut", "suite")
    ]
    return Salon([*booked, str(uuid4()), "no-uuid"], await served_document())


# Drawn as a whole before the call is made: what the library raises to end an example must not pass through the loop.
@settings(
    max_examples=800,
    deadline=None,
    derandomize=True,
    database=None,
    # The database is the same for all examples: what they leave behind makes the next ones harder.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(attempt=attempts())
async def test_whatever_is_sent_is_answered_as_documented(
    client: httpx2.AsyncClient, salon: Salon, attempt: Attempt
) -> None:
    """Unstorable text, endless numbers, instants at both ends of time, versions that are not, headers that are none."""
    response = await client.request(
        attempt.call.method,
        attempt.call.path.format(salon.ids[attempt.target]),
        content=json.dumps(attempt.body).encode("utf-8", "surrogatepass"),
        headers={**attempt.headers, "Content-Type": "application/json"},
        params=attempt.query,
    )
    assert response.status_code < 500, (attempt, response.text)
    check(salon.document, response)
