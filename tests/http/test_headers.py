"""Security headers of every answer, and cross-origin requests."""

import httpx2
import pytest
from pydantic import ValidationError

from service.process.app import create_app
from service.settings import Settings
from tests.database import TestDatabase
from tests.http.booking_calls import slot
from tests.http.conftest import ADMIN, client_of, make_settings
from tests.http.describing import operations, served_document

pytestmark = pytest.mark.anyio

DEFAULTS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
BROKEN = "ALTER FUNCTION booking.claim RENAME TO gone"
PAGE = "https://book.example"


def differing_headers(response: httpx2.Response) -> set[str]:
    """Returns the names of headers with another than the default value; a duplicate fails the test, because clients
    resolve it differently."""
    assert all(len(response.headers.get_list(name)) == 1 for name in DEFAULTS)
    return {name for name, value in DEFAULTS.items() if response.headers[name] != value}


async def test_every_url_answers_with_the_security_headers(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    """Only answers without personal data may be cached, and only the docs page may load anything: its own style
    sheet."""
    database.make_service()
    found = {}
    for path, methods in (await served_document())["paths"].items():
        for method in methods:
            found[path] = differing_headers(await client.request(method, path.replace("{", "").replace("}", "")))
    assert {path: names for path, names in found.items() if names} == {
        "/book/{business}": {"cache-control", "content-security-policy"},
        "/calendar": {"cache-control", "content-security-policy"},
        "/ops": {"cache-control", "content-security-policy"},
        "/docs": {"cache-control", "content-security-policy"},
        "/docs/businesses": {"cache-control", "content-security-policy"},
        "/docs/embedding": {"cache-control", "content-security-policy"},
        "/docs/errors": {"cache-control", "content-security-policy"},
        "/openapi.json": {"cache-control"},
    }


async def test_refusals_and_defects_have_the_security_headers(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    """The answers come from the router, the framework and the handler of last resort."""
    database.make_service()
    database.rows(BROKEN)
    answers = [
        await client.get("/nowhere"),
        await client.put("/docs"),
        await client.post("/api/booking/reserve", content=b"{" * 100_000, headers={"Content-Type": "application/json"}),
        await client.get("/api/catalog/businesses"),
        await client.post("/api/booking/reserve", json=slot()),
    ]
    assert [answer.status_code for answer in answers] == [404, 405, 413, 401, 500]
    assert [differing_headers(answer) for answer in answers] == [set()] * 5


@pytest.fixture
def cross_origin_client() -> httpx2.AsyncClient:
    """Makes a client of an application that allows one origin; it has no database."""
    settings = make_settings("postgresql://nobody@127.0.0.1:1/none")
    return client_of(create_app(settings.model_copy(update={"cors_origins": (PAGE,)})))


async def test_by_default_no_other_origin_may_call(client: httpx2.AsyncClient) -> None:
    """A preflight request is refused."""
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    answer = await client.options("/api/booking/reserve", headers=asked)
    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers
    assert "access-control-allow-origin" not in (await client.get("/health/live", headers=asked)).headers


async def test_a_listed_origin_may_call(cross_origin_client: httpx2.AsyncClient) -> None:
    """Its requests may have a token and an idempotency key, and it may read refusals and all headers that it needs."""
    wanted = "authorization, content-type, idempotency-key, if-match, x-request-id"
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        asked = {"Origin": PAGE, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": wanted}
        allowed = await cross_origin_client.options("/api/booking/appointments", headers=asked)
        assert allowed.status_code == 200, allowed.text
        assert allowed.headers["access-control-allow-origin"] == PAGE
        assert differing_headers(allowed) == set()
    refused = await cross_origin_client.get("/api/catalog/businesses", headers={"Origin": PAGE})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == PAGE
    assert "Origin" in refused.headers["vary"]
    # The service has no cookies, so no request is authorised without the page's doing.
    assert "access-control-allow-credentials" not in refused.headers
    exposed = set(refused.headers["access-control-expose-headers"].split(", "))
    assert {"Idempotency-Replayed", "ETag", "X-Request-Id", "Retry-After"} <= exposed


async def test_a_listed_origin_may_send_and_read_every_documented_header(
    cross_origin_client: httpx2.AsyncClient,
) -> None:
    """A browser sends only the headers that the preflight allows, and exposes only the listed ones to the page."""
    document = await served_document()
    sent = {
        parameter["name"]
        for operation in operations(document)
        for parameter in operation["parameters"]
        if parameter["in"] == "header"
    }
    assert sent > {"Idempotency-Key", "If-Match"}
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": ", ".join(sent)}
    allowed = await cross_origin_client.options("/api/booking/reserve", headers=asked)
    assert allowed.status_code == 200, allowed.text
    assert set(allowed.headers["access-control-allow-headers"].split(", ")) >= sent
    answer = await cross_origin_client.get("/health/live", headers={"Origin": PAGE})
    exposed = set(answer.headers["access-control-expose-headers"].split(", "))
    # Browsers always expose Cache-Control, and WWW-Authenticate adds nothing to the status.
    assert set(document["components"]["headers"]) - exposed == {"Cache-Control", "WWW-Authenticate"}


async def test_a_listed_origin_may_send_headers_of_its_own(cross_origin_client: httpx2.AsyncClient) -> None:
    """Libraries for tracing and error reports add theirs to every call, which a refused preflight would break."""
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "sentry-trace"}
    allowed = await cross_origin_client.options("/api/booking/reserve", headers=asked)
    assert (allowed.status_code, allowed.headers["access-control-allow-headers"]) == (200, "sentry-trace")


async def test_other_origins_may_neither_call_nor_read(cross_origin_client: httpx2.AsyncClient) -> None:
    """Origins are compared as a whole, with their scheme and their port."""
    for stranger in ("https://evil.example", f"{PAGE}.evil.example", f"{PAGE}:8443", "http://book.example", "null"):
        asked = {"Origin": stranger, "Access-Control-Request-Method": "POST"}
        answers = [
            await cross_origin_client.options("/api/booking/reserve", headers=asked),
            await cross_origin_client.get("/health/live", headers=asked | ADMIN),
        ]
        assert [answer.status_code for answer in answers] == [400, 200]
        assert not any("access-control-allow-origin" in answer.headers for answer in answers)


def test_origins_are_a_list_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces and a trailing comma are accepted."""
    monkeypatch.setenv("CORS_ORIGINS", " https://book.example, http://localhost:5173,")
    assert Settings().cors_origins == ("https://book.example", "http://localhost:5173")
    monkeypatch.setenv("CORS_ORIGINS", "")
    assert Settings().cors_origins == ()


@pytest.mark.parametrize("faulty", ["https://book.example/", "book.example", "https://Book.example", "ftp://a.b", "**"])
def test_an_origin_that_no_browser_sends_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, faulty: str) -> None:
    """It would never match, which the first guest would find out otherwise."""
    monkeypatch.setenv("CORS_ORIGINS", f"https://shop.example,{faulty}")
    with pytest.raises(ValidationError, match="cors_origins"):
        Settings()


async def test_of_a_header_that_is_sent_twice_the_first_counts(client: httpx2.AsyncClient) -> None:
    """For each header alike, so that no two places of the service see different requests."""
    twice = [("X-Request-Id", "first"), ("X-Request-Id", "second")]
    assert (await client.get("/health/live", headers=twice)).headers.get_list("x-request-id") == ["first"]
