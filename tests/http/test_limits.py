"""Rate limits, and how a request is assigned to a client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.types import Message

from service.booking.tokens import ClientNames
from service.http import limits
from service.http.call import Call
from service.http.clients import Clients
from service.process.app import create_app
from service.settings import Settings
from service.sharing.limits import Limit, Rate, RequestLimits
from service.sharing.store import Store
from tests.database import TestDatabase, at
from tests.http.booking_calls import slot
from tests.http.conftest import ADMIN, CRON, make_settings
from tests.http.describing import check, served_document
from tests.http.manual_clock import ManualClock

pytestmark = pytest.mark.anyio

HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"
SERVICES = "/api/catalog/businesses/salon/services"
CAPACITY = "/api/booking/capacity"
ROOM = slot(10, slotEnd=at(11).isoformat())


class Service:
    """The application, as clients at different addresses call it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def get(self, path: str = CAPACITY, address: str = HERE, **options: Any) -> httpx2.Response:
        """Sends a request from an address, by default for the capacity of a slot."""
        options = {"params": ROOM} | options if path == CAPACITY else options
        transport = httpx2.ASGITransport(self._app, client=(address, 12345))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, **options)


@asynccontextmanager
async def running(database: TestDatabase, **settings: Any) -> AsyncIterator[Service]:
    """Runs the application with these settings, and a service to query."""
    database.make_service(capacity=5)
    app = create_app(make_settings(database.url).model_copy(update=settings))
    async with app.router.lifespan_context(app):
        yield Service(app)


async def book_by_widget(service: Service, address: str = HERE) -> httpx2.Response:
    """Sends a widget's booking from an address."""
    transport = httpx2.ASGITransport(service._app, client=(address, 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.post("/api/v1/public/salon/book", json={})


async def statuses(service: Service, count: int, **options: Any) -> list[int]:
    """Returns the statuses of a number of requests."""
    return [(await service.get(**options)).status_code for _ in range(count)]


# Refusals.


async def test_a_client_is_refused_beyond_its_limit(database: TestDatabase) -> None:
    """Each answer has the remaining number of requests, and a refusal has Retry-After; clients at other addresses are
    unaffected."""
    document = await served_document()
    async with running(database, rate_limit="3/hour") as service:
        answers = [await service.get() for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0", "0"]
        assert {answer.headers["ratelimit-limit"] for answer in answers} == {"3"}
        for answer in answers:
            assert 0 < int(answer.headers["ratelimit-reset"]) <= 7200
            assert ("retry-after" in answer.headers) == (answer.status_code == 429)
        assert check(document, answers[-1]) == "RATE_LIMITED"
        assert 0 < int(answers[-1].headers["retry-after"]) <= 7200
        assert (await service.get(address=ELSEWHERE)).status_code == 200


async def test_a_refused_request_counts_as_well(database: TestDatabase) -> None:
    """Malformed requests, guessed ids and wrong keys count too, and each answer has the remaining number."""
    async with running(database, rate_limit="3/hour") as service:
        answers = [
            await service.get(params={"businessId": "salon"}),
            await service.get("/api/booking/reservations/nonsense"),
            await service.get(SERVICES, headers={"Authorization": "Bearer hf~salon~guess"}),
            await service.get(SERVICES, headers={"Authorization": "Bearer hf~salon~guess"}),
        ]
    assert [answer.status_code for answer in answers] == [400, 404, 401, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]


async def test_a_widget_gets_a_limit_in_its_own_shape(database: TestDatabase) -> None:
    """The refusal has the shape of all errors at the widget's URL."""
    async with running(database, rate_limit="1/hour") as service:
        await service.get()
        refused = await book_by_widget(service)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "RATE_LIMITED"
    assert refused.headers["retry-after"]


async def test_the_limits_can_be_switched_off(database: TestDatabase) -> None:
    """A proxy in front of the service may limit requests already."""
    async with running(database, rate_limit="1/hour", rate_limit_enabled=False) as service:
        answers = [await service.get() for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert not any("ratelimit" in name for answer in answers for name in answer.headers)


async def test_probes_documentation_and_the_scheduler_are_not_limited(database: TestDatabase) -> None:
    """Monitoring must not depend on other callers at the same address."""
    async with running(database, rate_limit="1/hour") as service:
        assert await statuses(service, 2) == [200, 429]
        for path in ("/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json"):
            assert await statuses(service, 3, path=path) == [200] * 3
        assert await statuses(service, 3, path="/cron/cleanup-reservations", headers=CRON) == [200] * 3


async def test_by_default_a_burst_of_a_thousand_goes_through() -> None:
    """A school class or an office behind one address must not be refused."""
    limiter = RequestLimits(Store(None), ManualClock())
    limit = Limit("client", "ada", Rate.parse(Settings().rate_limit))
    assert all([(await limiter.hit([limit])).granted for _ in range(1000)])


# Keys.


@pytest.fixture
def business_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a business make three times as many requests as a client."""
    monkeypatch.setattr(limits, "BUSINESS_FACTOR", 3)


async def make_key(service: Service, business_id: str) -> dict[str, str]:
    """Makes a business with a key, and returns the header for it."""
    transport = httpx2.ASGITransport(service._app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test", headers=ADMIN) as client:
        path = f"/api/catalog/businesses/{business_id}"
        await client.put(path, json={"name": "A business", "country": "DE"})
        key = await client.post(f"{path}/keys", json={"name": "Server", "role": "readonly"})
    return {"Authorization": f"Bearer {key.json()['key']}"}


@pytest.mark.usefixtures("business_factor")
async def test_a_request_with_a_key_counts_for_its_business_only(database: TestDatabase) -> None:
    """A business's server calls for all guests from one address, also where no key is needed."""
    async with running(database, rate_limit="4/hour") as service:
        # The administrator sends two requests to the salon.
        key = await make_key(service, "salon")
        assert await statuses(service, 5, headers=key) == [200] * 5
        assert await statuses(service, 3, path=SERVICES, headers=key) == [200] * 3
        # This client has made no request of its own yet; this one counts for the business, too.
        answer = await service.get()
        assert (answer.status_code, answer.headers["ratelimit-limit"]) == (200, "12")
        assert await statuses(service, 2, headers=key) == [200, 429]
        assert await statuses(service, 1, address=ELSEWHERE) == [429]


@pytest.mark.usefixtures("business_factor")
async def test_the_administrator_has_no_limit_of_a_client(database: TestDatabase) -> None:
    """An import of a catalog takes many requests."""
    async with running(database, rate_limit="1/hour") as service:
        assert await statuses(service, 5, path="/api/catalog/businesses", headers=ADMIN) == [200] * 5
        assert await statuses(service, 4, headers=ADMIN) == [200, 200, 200, 429]


@pytest.mark.usefixtures("business_factor")
async def test_an_invalid_key_does_not_lift_the_limit_of_a_client(database: TestDatabase) -> None:
    """A made-up, a malformed and another business's key leave the request with its client."""
    async with running(database, rate_limit="2/hour") as service:
        stranger = await make_key(service, "stranger")
        assert await statuses(service, 3, headers=stranger) == [200, 200, 429]
        for number, authorization in enumerate((f"Bearer hf~salon~{'0' * 16}~{'A' * 43}", "Basic YTpi", "\xff")):
            address = f"192.0.2.{10 + number}"
            headers = {"Authorization": authorization.encode("latin-1")}
            assert (await statuses(service, 3, address=address, headers=headers))[-1] == 429


@pytest.mark.usefixtures("business_factor")
async def test_a_valid_key_does_not_lift_the_limit_for_later_keys(database: TestDatabase) -> None:
    """The lookup is remembered for the key, not for the address that sent it."""
    async with running(database, rate_limit="2/hour") as service:
        key = await make_key(service, "salon")
        assert await statuses(service, 1, headers=key) == [200]
        assert await statuses(service, 3, headers={"Authorization": "Bearer wrong"}) == [200, 200, 429]


@pytest.mark.usefixtures("business_factor")
async def test_widgets_of_a_business_are_limited_together(database: TestDatabase) -> None:
    """Their addresses differ, and the business is named by its slug."""
    async with running(database, rate_limit="1/hour") as service:
        answers = [await book_by_widget(service, f"192.0.2.{number}") for number in range(4)]
    assert [answer.status_code == 429 for answer in answers] == [False, False, False, True]


async def test_a_client_with_wrong_keys_causes_one_lookup(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no key is needed, wrong keys must not keep the database busy."""
    looked_up = []

    async def look_up(keys: object, token: str) -> None:  # noqa: ARG001
        looked_up.append(token)

    monkeypatch.setattr("service.booking.keys.Keys.authenticate", look_up)
    async with running(database, rate_limit="5/hour") as service:
        for number in range(20):
            await service.get(headers={"Authorization": f"Bearer {number}"})
    assert len(looked_up) == 1


async def test_a_wrong_key_does_not_lift_the_limit_of_a_business(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request counts for its client, and for the business that it names as well."""
    monkeypatch.setattr(limits, "BUSINESS_FACTOR", 1)
    async with running(database, rate_limit="3/hour") as service:
        wrong = {"headers": {"Authorization": "Bearer wrong"}}
        assert await statuses(service, 2, **wrong) == [200] * 2
        assert await statuses(service, 2, address=ELSEWHERE) == [200, 429]


async def test_a_client_beyond_its_limit_causes_no_lookup_of_keys(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a key is needed, the limit is checked before the lookup."""
    looked_up = []

    async def look_up(keys: object, token: str) -> None:  # noqa: ARG001
        looked_up.append(token)

    monkeypatch.setattr("service.booking.keys.Keys.authenticate", look_up)
    async with running(database, rate_limit="3/hour") as service:
        answers = [
            (await service.get(SERVICES, headers={"Authorization": f"Bearer {number}"})).status_code
            for number in range(10)
        ]
    assert answers == [401] * 3 + [429] * 7
    assert set(looked_up) == {"0", "1", "2"}


# Identification of clients.

OUR_PROXY, CDN = "10.0.0.1", "203.0.113.9"


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        # Only a trusted proxy's header counts, and of its entries the nearest that is no trusted proxy.
        (HERE, [ELSEWHERE], HERE),
        (OUR_PROXY, [ELSEWHERE], ELSEWHERE),
        (OUR_PROXY, [f"{HERE}, {ELSEWHERE}"], ELSEWHERE),
        (OUR_PROXY, [f"{HERE}, {ELSEWHERE}, 10.9.9.9,{CDN}"], ELSEWHERE),
        (OUR_PROXY, [HERE, f"{ELSEWHERE}, {CDN}"], ELSEWHERE),
        (OUR_PROXY, ["10.0.0.2"], "10.0.0.2"),
        (OUR_PROXY, [], OUR_PROXY),
        # Notations of some proxies.
        (OUR_PROXY, [f"{ELSEWHERE}:4711"], ELSEWHERE),
        (OUR_PROXY, ["[2001:db8::7]:4711"], "2001:db8::7"),
        (f"::ffff:{OUR_PROXY}", [f"::ffff:{ELSEWHERE}"], ELSEWHERE),
        # An IPv6 /64, the network of one customer, is one client.
        ("2001:db8::1", [], "2001:db8::2"),
        # An unreadable entry ends the list: the client is the proxy that wrote it.
        (OUR_PROXY, ["unknown"], OUR_PROXY),
        (OUR_PROXY, [f"{ELSEWHERE}, for=\x00, {CDN}"], CDN),
        (OUR_PROXY, ["", ",,,", "1.2.3.4.5"], OUR_PROXY),
        # No request passes through more than twenty proxies.
        (OUR_PROXY, [", ".join([ELSEWHERE, *["10.9.9.9"] * 19])], ELSEWHERE),
        (OUR_PROXY, [", ".join([ELSEWHERE, *["10.9.9.9"] * 20])], "10.9.9.9"),
    ],
)
def test_the_client_is_the_nearest_address_that_is_no_trusted_proxy(
    peer: str, forwarded: list[str], client: str
) -> None:
    """Any client can send X-Forwarded-For, so it must not let a client pose as another one."""
    clients = Clients(ClientNames(SecretStr("secret")), [ip_network("10.0.0.0/8"), ip_network(CDN)])
    assert clients.name(request(peer, forwarded)) == clients.name(request(client, []))


@given(st.text() | st.none(), st.lists(st.text(st.characters(max_codepoint=255)), max_size=40))
def test_every_header_yields_a_client(peer: str | None, forwarded: list[str]) -> None:
    """An unreadable X-Forwarded-For causes no error."""
    clients = Clients(ClientNames(SecretStr("secret")), [ip_network("0.0.0.0/0"), ip_network("::/0")])
    assert clients.name(request(peer, forwarded)).startswith("v1.")


@pytest.mark.parametrize("made_up", ["{}, 192.0.2.2", "2001:db8::{}", "2001:db8::7%{}"])
def test_only_the_address_of_a_client_is_cached(made_up: str) -> None:
    """A header may be kilobytes long and differ in each request."""
    clients = Clients(ClientNames(SecretStr("secret")), [ip_network("10.0.0.0/8")])
    names = {clients.name(request(OUR_PROXY, [made_up.format(number)])) for number in range(100)}
    assert len(names) == clients._name_of.cache_info().currsize == 1


def test_the_name_of_a_client_depends_on_a_secret() -> None:
    """Without a secret the name could be reversed by trying all addresses."""
    names = {Clients(ClientNames(SecretStr(secret)), []).name(request(HERE, [])) for secret in ("one", "two")}
    assert len(names) == 2
    assert not any(HERE in name for name in names)


async def test_malformed_headers_are_ignored(database: TestDatabase) -> None:
    """The request is answered as it would be without them."""
    async with running(database, trusted_proxies=(ip_network("0.0.0.0/0"),)) as service:
        for header in (b"\xff\xfe", b"[", b":::", b"1.2.3.4/8", b"," * 5000, b"%00"):
            assert (await service.get(headers={b"X-Forwarded-For": header})).status_code == 200


def request(peer: str | None, forwarded: list[str]) -> Call:
    """Makes a request from a peer, with these X-Forwarded-For headers."""
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    scope = {"type": "http", "client": None if peer is None else (peer, 1), "headers": headers}
    return Call(scope, unread, {})


async def unread() -> Message:
    """Is never called."""
    raise AssertionError


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@given(
    st.integers(1, 20),
    st.sampled_from([1, 60, 3600]),
    st.lists(st.tuples(st.floats(0, 1.5), st.integers(1, 30)), max_size=20),
)
async def test_the_verdict_about_a_limit_is_true(count: int, seconds: int, bursts: list[tuple[float, int]]) -> None:
    """The remaining requests are granted, and no more; after Retry-After the next one is, whatever happened before."""
    clock = Clock()
    limiter = RequestLimits(Store(None), clock)
    limit = Limit("client", "ada", Rate(count, seconds))
    for pause, burst in bursts:
        clock.now += pause * seconds
        for _ in range(burst):
            verdict = await limiter.hit([limit])
        left = verdict.remaining
        assert [(await limiter.hit([limit])).granted for _ in range(left + 1)] == [True] * left + [False]
        refused = await limiter.hit([limit])
        assert 1 <= refused.retry_after_seconds <= refused.reset_seconds
        clock.now += refused.retry_after_seconds
        assert (await limiter.hit([limit])).granted
    clock.now += 2 * seconds
    assert (await limiter.hit([limit])).remaining == count - 1


async def test_a_caller_cannot_make_twice_the_limit_around_the_turn_of_a_window() -> None:
    """The seconds before the turn and those after it are within one minute."""
    clock = Clock()
    limiter = RequestLimits(Store(None), clock)
    limit = Limit("client", "ada", Rate(100, 60))
    clock.now += 59.9
    granted = [(await limiter.hit([limit])).granted for _ in range(200)].count(True)
    clock.now += 0.2
    granted += [(await limiter.hit([limit])).granted for _ in range(200)].count(True)
    assert granted == 100


async def test_a_request_refused_by_one_limit_counts_against_no_other() -> None:
    """A client beyond its own limit must not use up that of its business."""
    limiter = RequestLimits(Store(None), Clock())
    client, business = Limit("client", "c", Rate(1, 60)), Limit("business", "b", Rate(3, 60))
    verdicts = [(await limiter.hit([client, business])) for _ in range(5)]
    assert [verdict.granted for verdict in verdicts] == [True, False, False, False, False]
    assert verdicts[-1].limit is client
    assert (await limiter.hit([business])).remaining == 1


async def test_the_callers_counted_by_a_process_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses can be made up by the million. The most recent callers are kept."""
    monkeypatch.setattr("service.sharing.limits._CALLERS", 10)
    limiter = RequestLimits(Store(None), ManualClock())
    callers = [Limit("client", str(number), Rate(1, 60)) for number in range(30)]
    for caller in callers:
        await limiter.hit([caller])
    granted = [(await limiter.hit([caller])).granted for caller in callers[-10:]]
    assert granted == [False] * 10
    assert len(limiter._own) == 10


async def test_the_tightest_limit_is_reported_and_the_longest_wait() -> None:
    """Granted, the limit with the least left; refused, the one that takes longest to have room again."""
    limiter = RequestLimits(Store(None), Clock())
    client, business = Limit("client", "c", Rate(2, 60)), Limit("business", "b", Rate(3, 3600))
    verdicts = [limiter.count([client, business]) for _ in range(2)]
    assert [(verdict.limit, verdict.remaining, verdict.reset_seconds) for verdict in verdicts] == [
        (client, 1, 120),
        (client, 0, 120),
    ]
    limiter.count([business])
    refused = limiter.count([client, business])
    assert (refused.granted, refused.limit, refused.remaining) == (False, business, 0)
    assert refused.retry_after_seconds > 3600
    assert limiter.count([client]).retry_after_seconds > 60
