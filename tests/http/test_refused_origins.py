"""The log of origins that may not call: what an operator needs to know, and nothing that fills the log."""

from typing import Any

import pytest
import structlog
from structlog.testing import LogCapture

from service.http import origins
from service.http.origins import RefusedOrigins
from service.process.app import create_app
from tests.http.conftest import client_of, make_settings

pytestmark = pytest.mark.anyio

PAGE, OTHER = "https://book.example", "http://localhost:5173"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Records the log of the module."""
    capture = LogCapture()
    monkeypatch.setattr(origins, "log", structlog.wrap_logger(None, processors=[capture]))
    return capture.entries


async def send(allowed: tuple[str, ...], *requests: dict[str, str]) -> None:
    """Sends requests with these headers to an application that allows some origins."""
    settings = make_settings("postgresql://nobody@127.0.0.1:1/none").model_copy(update={"cors_origins": allowed})
    async with client_of(create_app(settings)) as client:
        for headers in requests:
            await client.get("/health/live", headers=headers)
            await client.options("/api/booking/reserve", headers=headers | {"Access-Control-Request-Method": "POST"})


@pytest.mark.parametrize("allowed", [(), (PAGE,)])
async def test_a_refused_origin_is_logged_once(lines: list[Any], allowed: tuple[str, ...]) -> None:
    """By default, and where others may call. No other header is logged."""
    secret = {"Authorization": "Bearer secret", "Referer": "https://secret.example/secret"}
    await send(allowed, {"Origin": OTHER, **secret}, {"Origin": OTHER}, {"Origin": "null"})
    assert [(line["event"], line["log_level"], line["origin"]) for line in lines] == [
        ("origin_refused", "warning", OTHER),
        ("origin_refused", "warning", "null"),
    ]
    assert "CORS_ORIGINS" in lines[0]["hint"]
    assert "secret" not in str(lines)


async def test_an_origin_that_may_call_is_not_logged(lines: list[Any]) -> None:
    """Nor the service's own, which browsers send with each POST, nor a request without one."""
    await send((PAGE,), {"Origin": PAGE}, {"Origin": "http://test"}, {"Origin": "https://test"}, {})
    await send(("*",), {"Origin": PAGE})
    assert lines == []


async def test_a_text_that_is_no_origin_is_not_logged(lines: list[Any]) -> None:
    """Only a client that is no browser sends one: with it, the log would hold what that wants."""
    made_up = ("", "nonsense", "https://", "https://a b", "https://a/path", "https://" + "a" * 300, "https://a\x7f")
    await send((), *({"Origin": text} for text in made_up))
    assert lines == []


def test_made_up_origins_fill_neither_memory_nor_log(lines: list[Any]) -> None:
    """The first fifty of an hour are logged."""
    now = 0.0
    refused = RefusedOrigins((), lambda: now)
    for hour in range(3):
        now = hour * 3600.0
        for number in range(1000):
            refused.note({b"origin": b"https://%d.example" % number, b"host": b"here"})
        assert len(lines) == 50 * (hour + 1)
        assert len(refused._logged) == 50
