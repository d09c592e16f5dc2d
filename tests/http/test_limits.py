"""Request limits by client and by business, and which client a request is counted for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from starlette.types import Message
from structlog.testing import LogCapture

from service.booking.tokens import ClientNames
from service.http import limits
from service.http.call import Call
from service.http.clients import Clients
from tests.database import TestDatabase, at
from tests.http.conftest import ADMIN, CRON, client_of, running_app
from tests.http.describing import check, served_document

pytestmark = pytest.mark.anyio

HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"
SERVICES = "/api/catalog/businesses/salon/services"
CAPACITY = "/api/booking/capacity"
ROOM = {
    "businessId": "salon",
    "serviceId": "cut",
    "slotStart": at(10).isoformat(),
    "slotEnd": at(11).isoformat(),
}


class Service:
    """The application, called from different addresses."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def get(
        self, path: str = CAPACITY, address: str = HERE, method: str = "GET", **options: Any
    ) -> httpx2.Response:
        """Sends one request from an address, by default for the capacity of a slot."""
        options = {"params": ROOM} | options if path == CAPACITY else options
        async with client_of(self._app, address) as client:
            return await client.request(method, path, **options)


@asynccontextmanager
async def running(database: TestDatabase, **settings: Any) -> AsyncIterator[Service]:
    """Runs the application with these settings and one service in the catalog."""
    database.make_service(capacity=5)
    async with running_app(database, **settings) as app:
        yield Service(app)


async def book(service: Service, address: str = HERE) -> httpx2.Response:
    """Sends a booking as a widget at an address does."""
    async with client_of(service._app, address) as client:
        body = {"serviceId": "cut", "startTime": at(10).isoformat(), "firstName": "Ada", "email": "ada@example.com"}
        return await client.post("/api/v1/public/salon/book", json=body)


async def statuses(service: Service, count: int, **options: Any) -> list[int]:
    """Returns the statuses of a number of requests."""
    return [(await service.get(**options)).status_code for _ in range(count)]


# Refusals.


async def test_a_client_is_refused_beyond_its_limit(database: TestDatabase) -> None:
    """Each answer has the remaining requests, a refusal has Retry-After, and other clients are not affected."""
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
    """Malformed requests, guessed ids and tried keys count; and each answer has the remaining requests."""
    async with running(database, rate_limit="3/hour") as service:
        answers = [
            await service.get(params={"businessId": "salon"}),
            await service.get("/api/booking/reservations/nonsense"),
            await service.get(SERVICES, headers={"Authorization": "Bearer hf~salon~guess"}),
            await service.get(SERVICES, headers={"Authorization": "Bearer hf~salon~guess"}),
        ]
    assert [answer.status_code for answer in answers] == [400, 404, 401, 429]
    assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]


async def test_a_widget_gets_the_refusal_in_its_own_shape(database: TestDatabase) -> None:
    """As every other refusal at that path."""
    async with running(database, rate_limit="1/hour") as service:
        await service.get()
        refused = await book(service)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "RATE_LIMITED"
    assert refused.headers["retry-after"]


async def test_the_limits_can_be_switched_off(database: TestDatabase) -> None:
    """A proxy may limit requests already."""
    async with running(database, rate_limit="1/hour", rate_limit_enabled=False) as service:
        answers = [await service.get() for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert not any("ratelimit" in name for answer in answers for name in answer.headers)


@pytest.mark.parametrize(
    "path", ["/", "/openapi.json", "/docs", "/docs/errors", "/docs/deploy/runbook.md", "/docs/swagger-ui-bundle.js"]
)
async def test_readers_of_the_documentation_are_limited_like_other_clients(database: TestDatabase, path: str) -> None:
    """The document and its viewer are the largest answers, and anyone may ask for them."""
    expected = 307 if path == "/" else 200
    async with running(database, rate_limit="2/hour") as service:
        assert await statuses(service, 3, path=path) == [expected, expected, 429]
        assert await statuses(service, 1) == [429]
        assert await statuses(service, 1, path=path, address=ELSEWHERE) == [expected]


async def test_probes_pages_and_the_scheduler_are_not_limited(database: TestDatabase) -> None:
    """A probe must not fail because of other requests from its address, nor a page because of its many files."""
    async with running(database, rate_limit="1/hour") as service:
        assert await statuses(service, 2) == [200, 429]
        for path in ("/health/live", "/health/ready", "/metrics", "/book/salon", "/static/page.css"):
            assert await statuses(service, 3, path=path) == [200] * 3
        assert await statuses(service, 3, path="/cron/cleanup-reservations", headers=CRON) == [200] * 3


@pytest.mark.parametrize("path", ["/cron/cleanup-reservations", "/api/cron/cleanup-reservations"])
async def test_wrong_secrets_of_the_scheduler_are_counted(database: TestDatabase, path: str) -> None:
    """A client that tries secrets there is refused beyond its limit, before the next one is looked at; the scheduler at
    another address is not."""
    async with running(database, rate_limit="3/hour") as service:
        wrong = {"Authorization": "Bearer wrong"}
        assert await statuses(service, 5, path=path, headers=wrong) == [401] * 3 + [429] * 2
        assert await statuses(service, 1, path=path, headers=CRON) == [429]
        assert await statuses(service, 5, path=path, headers=CRON, address=ELSEWHERE) == [200] * 5


async def test_an_ipv6_network_is_limited_more_widely_than_its_clients(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client with a /48 has 65,536 networks of a customer, from the first of which to the last it is one network."""
    monkeypatch.setattr(limits, "NETWORK_FACTOR", 2)
    async with running(database, rate_limit="2/hour") as service:
        for subnet, expected in (("0", [200, 200, 429]), ("8000", [200, 200, 429]), ("ffff", [429])):
            assert await statuses(service, len(expected), address=f"2001:db8:1:{subnet}::7") == expected
        assert await statuses(service, 1, address="2001:db8:2::7") == [200]


# Keys.


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the limit of a business three times that of a client."""
    monkeypatch.setattr(limits, "BUSINESS_FACTOR", 3)


async def make_key(service: Service, business_id: str) -> dict[str, str]:
    """Creates a key and returns its header."""
    async with client_of(service._app) as client:
        path = f"/api/catalog/businesses/{business_id}"
        await client.put(path, json={"name": "A business", "country": "DE"}, headers=ADMIN)
        made = await client.post(f"{path}/keys", json={"name": "Server", "role": "readonly"}, headers=ADMIN)
    return {"Authorization": f"Bearer {made.json()['key']}"}


@pytest.mark.usefixtures("keys")
async def test_a_request_with_a_key_counts_for_its_business_only(database: TestDatabase) -> None:
    """The server of a business calls for all of its guests from one address, public endpoints included."""
    async with running(database, rate_limit="4/hour") as service:
        # Sends two requests of the administrator to salon.
        key = await make_key(service, "salon")
        assert await statuses(service, 5, headers=key) == [200] * 5
        assert await statuses(service, 3, path=SERVICES, headers=key) == [200] * 3
        # The address was not counted as a client by the requests with a key; without one it is, and for the business.
        answer = await service.get()
        assert (answer.status_code, answer.headers["ratelimit-limit"]) == (200, "12")
        assert await statuses(service, 2, headers=key) == [200, 429]
        assert await statuses(service, 1, address=ELSEWHERE) == [429]


@pytest.mark.usefixtures("keys")
async def test_the_administrator_has_no_client_limit(database: TestDatabase) -> None:
    """A catalog may be large."""
    async with running(database, rate_limit="1/hour") as service:
        assert await statuses(service, 5, path="/api/catalog/businesses", headers=ADMIN) == [200] * 5
        assert await statuses(service, 4, headers=ADMIN) == [200, 200, 200, 429]


@pytest.mark.usefixtures("keys")
async def test_a_token_that_is_no_key_of_the_business_does_not_lift_the_client_limit(database: TestDatabase) -> None:
    """Invented, malformed, or of another business."""
    async with running(database, rate_limit="2/hour") as service:
        stranger = await make_key(service, "stranger")
        assert await statuses(service, 3, headers=stranger) == [200, 200, 429]
        for number, shown in enumerate((f"Bearer hf~salon~{'0' * 16}~{'A' * 43}", "Basic YTpi", "\xff")):
            address = f"192.0.2.{10 + number}"
            headers = {"Authorization": shown.encode("latin-1")}
            assert (await statuses(service, 3, address=address, headers=headers))[-1] == 429


COMMIT = "/api/booking/commit"


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("path", [COMMIT, "/api/v1/public/salon/book", "/api/v1/public/salon"])
async def test_a_key_lifts_the_client_limit_where_its_business_is_named_only(database: TestDatabase, path: str) -> None:
    """A slug and the id of a hold may belong to any business, so a key of another one must not lift the limit there."""
    guest = {"guestEmail": "ada@example.com"}
    body = {"reservationId": str(uuid4()), **guest} if path == COMMIT else {"serviceId": "cut"}
    method = "GET" if path.endswith("salon") else "POST"
    async with running(database, rate_limit="2/hour") as service:
        stranger = await make_key(service, "stranger")

        async def refused(times: int, **more: str) -> list[bool]:
            sent = [service.get(path, method=method, json={**body, **more}, headers=stranger) for _ in range(times)]
            return [(await answer).status_code == 429 for answer in sent]

        assert await refused(3) == [False, False, True]
        if path == COMMIT:
            assert await refused(1, businessId="salon") == [True]
            assert await refused(1, businessId="stranger") == [False]


@pytest.mark.usefixtures("keys")
async def test_a_key_does_not_lift_the_client_limit_of_later_requests(database: TestDatabase) -> None:
    """The valid key is remembered, not the address that sent it."""
    async with running(database, rate_limit="2/hour") as service:
        key = await make_key(service, "salon")
        assert await statuses(service, 1, headers=key) == [200]
        assert await statuses(service, 3, headers={"Authorization": "Bearer wrong"}) == [200, 200, 429]


@pytest.mark.usefixtures("keys")
async def test_widgets_of_a_business_are_limited_together(database: TestDatabase) -> None:
    """From any address: a slug counts for one business as well."""
    async with running(database, rate_limit="1/hour") as service:
        answers = [await book(service, f"192.0.2.{number}") for number in range(4)]
    assert [answer.status_code == 429 for answer in answers] == [False, False, False, True]


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records the keys that are looked up, none of which is found."""
    tokens: list[str] = []

    async def look_up(keys: object, token: str) -> None:  # noqa: ARG001
        tokens.append(token)

    monkeypatch.setattr("service.booking.keys.Keys.authenticate", look_up)
    return tokens


async def test_a_client_with_wrong_keys_causes_one_lookup(database: TestDatabase, looked_up: list[str]) -> None:
    """Where no key is needed, wrong keys must not keep the database busy."""
    async with running(database, rate_limit="5/hour") as service:
        for number in range(20):
            await service.get(headers={"Authorization": f"Bearer {number}"})
    assert len(looked_up) == 1


async def test_a_wrong_key_does_not_bypass_the_limit_of_a_business(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a client is counted in advance; its requests count for the business as well."""
    monkeypatch.setattr(limits, "BUSINESS_FACTOR", 1)
    async with running(database, rate_limit="3/hour") as service:
        wrong = {"headers": {"Authorization": "Bearer wrong"}}
        assert await statuses(service, 2, **wrong) == [200] * 2
        assert await statuses(service, 2, address=ELSEWHERE) == [200, 429]


async def test_a_client_beyond_its_limit_causes_no_lookup_of_keys(database: TestDatabase, looked_up: list[str]) -> None:
    """Where a key is needed, the limit is checked before the lookup."""
    async with running(database, rate_limit="3/hour") as service:
        answers = [
            (await service.get(SERVICES, headers={"Authorization": f"Bearer {number}"})).status_code
            for number in range(10)
        ]
    assert answers == [401] * 3 + [429] * 7
    assert set(looked_up) == {"0", "1", "2"}


# The client of a request.

OUR_PROXY, CDN = "10.0.0.1", "203.0.113.9"


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        # Only entries of trusted proxies count, and of those the nearest address that is no trusted proxy.
        (HERE, [ELSEWHERE], HERE),
        (OUR_PROXY, [ELSEWHERE], ELSEWHERE),
        (OUR_PROXY, [f"{HERE}, {ELSEWHERE}"], ELSEWHERE),
        (OUR_PROXY, [f"{HERE}, {ELSEWHERE}, 10.9.9.9,{CDN}"], ELSEWHERE),
        (OUR_PROXY, [HERE, f"{ELSEWHERE}, {CDN}"], ELSEWHERE),
        (OUR_PROXY, ["10.0.0.2"], "10.0.0.2"),
        (OUR_PROXY, [], OUR_PROXY),
        # Some proxies add the port.
        (OUR_PROXY, [f"{ELSEWHERE}:4711"], ELSEWHERE),
        (OUR_PROXY, ["[2001:db8::7]:4711"], "2001:db8::7"),
        (f"::ffff:{OUR_PROXY}", [f"::ffff:{ELSEWHERE}"], ELSEWHERE),
        # A customer's whole network is one client.
        ("2001:db8::1", [], "2001:db8::2"),
        # An invalid entry ends the list: the proxy that sent it is the client.
        (OUR_PROXY, ["unknown"], OUR_PROXY),
        (OUR_PROXY, [f"{ELSEWHERE}, for=\x00, {CDN}"], CDN),
        (OUR_PROXY, ["", ",,,", "1.2.3.4.5"], OUR_PROXY),
        # No legitimate request passes this many proxies.
        (OUR_PROXY, [", ".join([ELSEWHERE, *["10.9.9.9"] * 19])], ELSEWHERE),
        (OUR_PROXY, [", ".join([ELSEWHERE, *["10.9.9.9"] * 20])], "10.9.9.9"),
    ],
)
def test_the_client_is_the_nearest_that_is_no_trusted_proxy(peer: str, forwarded: list[str], client: str) -> None:
    """Any client can send X-Forwarded-For, which must not change the client it is counted as."""
    clients = Clients(ClientNames(SecretStr("secret")), [ip_network("10.0.0.0/8"), ip_network(CDN)])
    assert clients.names(request(peer, forwarded)) == clients.names(request(client, []))


@given(st.text() | st.none(), st.lists(st.text(st.characters(max_codepoint=255)), max_size=40))
def test_any_header_yields_a_client(peer: str | None, forwarded: list[str]) -> None:
    """However malformed it is."""
    clients = Clients(ClientNames(SecretStr("secret")), [ip_network("0.0.0.0/0"), ip_network("::/0")])
    assert clients.names(request(peer, forwarded))[0].startswith("v1.")


@pytest.mark.parametrize("made_up", ["{}, 192.0.2.2", "2001:db8::{}", "2001:db8::7%{}"])
def test_only_the_address_of_a_client_is_kept(made_up: str) -> None:
    """A header has room for kilobytes, and each request may have a different one."""
    clients = Clients(ClientNames(SecretStr("secret")), [ip_network("10.0.0.0/8")])
    names = {clients.names(request(OUR_PROXY, [made_up.format(number)])) for number in range(100)}
    assert len(names) == 1
    # An IPv6 client has a second name, that of its network.
    assert clients._name_of.cache_info().currsize <= 2


def test_a_client_is_named_by_a_secret() -> None:
    """Without a secret, trying all addresses would reveal the one behind a name."""
    names = {Clients(ClientNames(SecretStr(secret)), []).names(request(HERE, []))[0] for secret in ("one", "two")}
    assert len(names) == 2
    assert not any(HERE in name for name in names)


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Records the log of the module that names clients; its own logger keeps the output of its first use."""
    capture = LogCapture()
    monkeypatch.setattr("service.http.clients.log", structlog.wrap_logger(None, processors=[capture]))
    return capture.entries


async def test_a_header_of_a_proxy_that_is_not_trusted_is_logged_once(
    database: TestDatabase, warnings: list[Any]
) -> None:
    """All clients of the proxy count as one, and the operator learns why. The header's value is not logged."""
    async with running(database, rate_limit="3/hour") as service:
        assert (await service.get()).status_code == 200
        assert warnings == []
        for number, status in enumerate([200, 200, 429]):
            header = {"X-Forwarded-For": f"203.0.113.{number}"}
            assert (await service.get(headers=header)).status_code == status
    [warning] = warnings
    assert (warning["event"], warning["log_level"]) == ("forwarded_for_not_trusted", "warning")
    assert "TRUSTED_PROXIES" in warning["hint"]
    assert "203.0.113" not in str(warning)


@pytest.mark.parametrize("settings", [{"trusted_proxies": (ip_network(HERE),)}, {"rate_limit_enabled": False}])
async def test_a_trusted_header_or_one_without_limits_is_not_logged(
    database: TestDatabase, warnings: list[Any], settings: dict[str, Any]
) -> None:
    """It does what the operator wants, or nothing."""
    async with running(database, **settings) as service:
        assert (await service.get(headers={"X-Forwarded-For": ELSEWHERE})).status_code == 200
    assert warnings == []


async def test_malformed_headers_are_ignored(database: TestDatabase) -> None:
    """The request is answered as one without them."""
    async with running(database, trusted_proxies=(ip_network("0.0.0.0/0"),)) as service:
        for header in (b"\xff\xfe", b"[", b":::", b"1.2.3.4/8", b"," * 5000, b"%00"):
            assert (await service.get(headers={b"X-Forwarded-For": header})).status_code == 200


def request(peer: str | None, forwarded: list[str]) -> Call:
    """Creates a request from a peer, with these headers."""
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    client = None if peer is None else (peer, 1)
    return Call({"client": client, "headers": headers, "headers_by_name": dict(headers)}, unread, {})


async def unread() -> Message:
    """Is never called."""
    raise AssertionError
