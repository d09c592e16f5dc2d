"""Fuzzing of the changing calls: members with valid and invalid values in all combinations never cause a 5xx, and every
answer is documented."""

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

# Values that mistaken or malicious callers send instead of a valid one.
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, 0, -1, 1.5, 2**31, 2**63, 10**400, "1", [], {}, [[]], {"a": None}),
        *("", " ", "\u0000", "a\u0000b", "\u202e", "x" * 201, "x" * 2001, "'; --", "%s {}", "\ud800", "-", "caf\u00e9"),
        *({"a": "\u0000"}, {"\u0000": 1}, {"a": ["x" * 5000]}, {"a": 1e308 * 10}, {"a": 10**4000}),
        *("2027-01-04T10:00:00", "2027-01-04T10:00:60Z", "2027-01-04T10:00:00+25:00", "9999-12-31T23:59:59-14:00"),
        *("0001-01-01T00:00:00+14:00", "infinity", "now", "held", "ada", "+", "+999999999999", "+1 (555) 010-9999 #5"),
    ]
)
# The following values are valid, up to both ends of their ranges.
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
    """A call to fuzz: `right` is a valid body, `others` the names of its further members."""

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
    Call(
        "POST",
        APPOINTMENTS + "/{}/reschedule",
        {"slotStart": timestamp(at(10))},
        ("slotEnd", "resourceId", "expectedVersion", "unknown"),
    ),
    Call("POST", APPOINTMENTS + "/{}/cancel", {"reason": "ill"}, ("cancellationToken", "expectedVersion")),
    Call("POST", "/api/bookings", {**_SLOT, "guestEmail": "ada@example.com"}, (*_WISH, "ttlMinutes")),
    Call("POST", APPOINTMENTS, _SLOT, (*_WISH, "source")),
    Call("POST", "/api/v1/public/salon-rosa/book", _FORM, ("staffId", "phone", "notes", "locationId", "unknown")),
]


@st.composite
def bodies(draw: st.DrawFn, call: Call) -> Json:
    """Draws a valid body with other members and values; in one of three, a member is invalid or missing."""
    body = dict(call.right)
    names = [*call.right, *call.others]
    for name in draw(st.lists(st.sampled_from([name for name in names if name != "unknown"]), max_size=4, unique=True)):
        body[name] = draw(MEMBERS[name])
    # An invalid member is refused first, so a higher share would hide the code behind the validation.
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
    """One request. `target` is the index of its appointment, where its path has one."""

    call: Call
    target: int
    body: Json
    headers: dict[str, Any]
    query: dict[str, str]


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    """Draws a call, mostly with a key that authorises it."""
    call = draw(st.sampled_from(CALLS))
    # Matches any version, so that most changes are not refused for theirs.
    any_version = {"If-Match": "*"} if call.method == "PATCH" else {}
    headers = draw(st.sampled_from([ADMIN] * 7 + [{}])) | any_version | draw(st.just({}) | HEADERS)
    query = draw(QUERIES) if "{}" in call.path else {}
    return Attempt(call, draw(st.integers(0, APPOINTMENTS_AT_FIRST + 1)), draw(bodies(call)), headers, query)


class Salon:
    """Ids of appointments, the last two of which do not exist, and the OpenAPI document."""

    def __init__(self, ids: list[str], document: Json) -> None:
        self.ids = ids
        self.document = document


@pytest.fixture
async def salon(client: httpx2.AsyncClient, database: TestDatabase) -> Salon:
    """Makes a salon with a service of large capacity and one with two resources, both with appointments."""
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


# Each example is drawn before its request, because the exception that ends an example must not pass the event loop.
@settings(
    max_examples=800,
    derandomize=True,
    database=None,
    # All examples share a database, so the rows of earlier examples vary the state of the later ones.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(attempt=attempts())
async def test_every_request_is_answered_as_documented(
    client: httpx2.AsyncClient, salon: Salon, attempt: Attempt
) -> None:
    """Requests have text that cannot be stored, huge numbers, extreme instants, wrong versions and malformed
    headers."""
    response = await client.request(
        attempt.call.method,
        attempt.call.path.format(salon.ids[attempt.target]),
        content=json.dumps(attempt.body).encode("utf-8", "surrogatepass"),
        headers={**attempt.headers, "Content-Type": "application/json"},
        params=attempt.query,
    )
    assert response.status_code < 500, (attempt, response.text)
    check(salon.document, response)
