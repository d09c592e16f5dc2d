"""The guide to a booking form: its files, copied as they are, served from another origin to a real browser."""

import asyncio
import html
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import anyio.to_thread
import httpx2
import pytest

from tests.acceptance.conftest import Serve
from tests.chromium import CHROMIUM, Chromium, Window, chromium
from tests.database import TestDatabase
from tests.faults.proxy import Proxy
from tests.serving import NO_CERTIFICATES, ServiceProcess

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]

ADDRESS = "http://127.0.0.1:8000"
FORM = "!document.querySelector('#guest').hidden"
BOOKED = "!document.querySelector('#booked').hidden"
SLOTS = "[...document.querySelectorAll('#slots button')].map((button) => button.dataset.start)"
MESSAGE = "document.querySelector('#message').textContent"


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 — of the base class
        """Logs nothing."""


@pytest.fixture
def page(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Serves a folder, and returns it with its origin."""
    folder = tmp_path / "page"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def service(serve: Serve, page: tuple[Path, str], database: TestDatabase) -> ServiceProcess:
    """Starts the service for the page, with the salon of the guide: one guest at a time."""
    database.make_service("haircut", capacity=1, min_duration_minutes=60, max_duration_minutes=60)
    service = serve(CORS_ORIGINS=page[1])
    headers = {"Authorization": "Bearer admin-token-of-the-tests"}
    settings = {"name": "Salon Rosa", "slug": "salon-rosa", "timezone": "Europe/Berlin"}
    address = f"{service.url}/api/catalog/businesses/salon"
    assert httpx2.put(address, json=settings, headers=headers, trust_env=False, verify=NO_CERTIFICATES).is_success
    return service


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Chromium]:
    """Runs a browser."""
    async with chromium(tmp_path) as browser:
        yield browser


def copy_the_guide(service: ServiceProcess, folder: Path, address: str) -> None:
    """Copies the files of the guide, as a reader does, with the address of the service."""
    guide = httpx2.get(f"{service.url}/docs/embedding", trust_env=False, verify=NO_CERTIFICATES).text
    files = dict(re.findall(r'<pre data-file="([\w.]+)"><code>(.*?)</code></pre>', guide, re.DOTALL))
    assert set(files) == {"index.html", "holdfast.js", "form.js"}
    for name, text in files.items():
        (folder / name).write_text(html.unescape(text).replace(ADDRESS, address) + "\n", encoding="utf-8")


@pytest.fixture
def url(service: ServiceProcess, page: tuple[Path, str]) -> str:
    """Returns the address of the page of the guide."""
    folder, origin = page
    copy_the_guide(service, folder, service.url)
    return origin


async def choose(window: Window, start: str | None = None) -> None:
    """Chooses a slot of the list, by default the first."""
    [first, *_] = await window.until(SLOTS)
    await window.run(f"document.querySelector(`#slots button[data-start='{start or first}']`).click()")


async def submit(window: Window, name: str = "Ada", email: str = "ada@example.com") -> None:
    """Fills in the form and sends it."""
    await window.until(FORM)
    fields = {"guestName": name, "guestEmail": email}
    for field, value in fields.items():
        await window.run(f"document.querySelector('[name={field}]').value = {json.dumps(value)}")
    await window.run("document.querySelector('#guest').requestSubmit()")


def watching(service: ServiceProcess) -> float:
    """Returns the number of open streams."""
    metrics = httpx2.get(f"{service.url}/metrics", trust_env=False, verify=NO_CERTIFICATES).text
    [clients] = re.findall(r"^holdfast_stream_clients(?:{[^}]*})? (\S+)$", metrics, re.MULTILINE)
    return float(clients)


async def become(window: Window, *, hidden: bool) -> None:
    """Hides a window, as the browser does when another tab is shown, or shows it again."""
    await window.run(
        f"Object.defineProperty(document, 'hidden', {{value: {str(hidden).lower()}, configurable: true}});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )


def claims(database: TestDatabase) -> tuple[list[str], list[str]]:
    """Returns the states of all reservations and of all appointments."""
    tables = ("reservations ORDER BY created_at", "appointments ORDER BY created_at")
    found = [[status for (status,) in database.rows(f"SELECT status FROM booking.{table}")] for table in tables]  # noqa: S608
    return found[0], found[1]


async def eventually(condition: Callable[[], object]) -> None:
    """Returns when a condition holds."""
    async with asyncio.timeout(30):
        while not await anyio.to_thread.run_sync(condition):  # noqa: ASYNC110 — the service is another process
            await asyncio.sleep(0.02)


async def test_a_reader_books_and_cancels(url: str, browser: Chromium, database: TestDatabase) -> None:
    """A reload in the middle keeps the slot; a fault is shown at its field; the booking can be cancelled."""
    window = await browser.open(url)
    await choose(window)
    await window.until(FORM)
    chosen = await window.run("document.querySelector('#guest .slot').textContent")
    assert re.fullmatch(r"1[45]:\d\d", await window.run("document.querySelector('#left').textContent"))
    await window.run("window.before = true")
    await window.reload()
    await window.until(f"!window.before && {FORM}")
    assert await window.run("document.querySelector('#guest .slot').textContent") == chosen
    assert claims(database) == (["released", "held"], [])
    await submit(window, email="ada@nowhere..example")
    assert await window.until("document.querySelector('[name=guestEmail]').validationMessage")
    await window.run("document.querySelector('[name=guestEmail]').dispatchEvent(new Event('input', {bubbles: true}))")
    await submit(window)
    await window.until(BOOKED)
    assert claims(database) == (["released", "committed"], ["confirmed"])
    assert database.value("SELECT guest_name FROM booking.appointments") == "Ada"
    await window.run("document.querySelector('#cancel').click()")
    await window.until(f"{MESSAGE} === 'Your booking is cancelled.'")
    assert claims(database)[1] == ["cancelled"]


async def test_of_two_windows_that_race_for_a_slot_one_gets_it(
    url: str, service: ServiceProcess, browser: Chromium, database: TestDatabase
) -> None:
    """The other is offered alternatives, and sees the slot return when the first window is closed, also if its tab was
    hidden meanwhile: then it has no connection to the service."""
    windows = [await browser.open(url) for _ in range(2)]
    [start, *_] = await windows[0].until(SLOTS)
    await windows[1].until(SLOTS)
    await asyncio.gather(*(choose(window, start) for window in windows))
    outcome = f"{FORM} ? 'form' : document.querySelectorAll('#alternatives button').length > 0 && {MESSAGE}"
    outcomes = await asyncio.gather(*(window.until(outcome) for window in windows))
    assert sorted(outcomes) == ["Somebody else has just taken this time.", "form"]
    assert claims(database) == (["held"], [])
    winner, loser = windows if outcomes[0] == "form" else reversed(windows)
    await loser.until(f"!({SLOTS}).includes('{start}') && ({SLOTS}).length > 0")
    await eventually(lambda: watching(service) == 2)
    await become(loser, hidden=True)
    await winner.close()
    await eventually(lambda: watching(service) == 0)
    await become(loser, hidden=False)
    await eventually(lambda: claims(database)[0] == ["released"])
    await loser.until(f"({SLOTS}).includes('{start}')")
    # And a slot that is taken elsewhere goes.
    async with service.client() as client:
        slot = {"businessId": "salon", "serviceId": "haircut", "slotStart": start}
        assert (await client.post("/api/booking/reserve", json=slot)).status_code == 201
    await loser.until(f"!({SLOTS}).includes('{start}') && ({SLOTS}).length > 0")


async def test_lost_answers_make_neither_a_second_hold_nor_a_second_booking(
    service: ServiceProcess, page: tuple[Path, str], browser: Chromium, database: TestDatabase
) -> None:
    """The connection breaks after the service has reserved, with a reload before the next try and without, and again
    after it has committed."""
    folder, origin = page
    async with Proxy(service.url).running() as proxy:
        copy_the_guide(service, folder, f"http://127.0.0.1:{proxy.port}")
        window = await browser.open(origin)
        await window.until(SLOTS)
        await window.run("window.before = true")
        lost = asyncio.create_task(lose_answers(proxy, b"POST /api/booking/reserve"))
        await choose(window)
        await lost
        await window.reload()
        proxy.thaw()
        await window.until(f"!window.before && {FORM}")
        assert claims(database) == (["held"], [])
        await window.run("document.querySelector('#back').click()")
        await eventually(lambda: claims(database)[0] == ["released"])
        for call, step, shown in (("reserve", choose, FORM), ("commit", submit, BOOKED)):
            proxy.lost.clear()
            proxy.lose_next_answer_to = f"POST /api/booking/{call}".encode()
            await step(window)
            await window.until(shown)
            assert proxy.lost.is_set()
        assert claims(database) == (["released", "committed"], ["confirmed"])
        # The page has the token, which a repeated commit shows to its own client only.
        await window.run("document.querySelector('#cancel').click()")
        await window.until(f"{MESSAGE} === 'Your booking is cancelled.'")
    assert [line["code"] for line in service.events("request") if line["status"] >= 400] == []
    assert service.events("origin_refused") == []


async def lose_answers(proxy: Proxy, request: bytes) -> None:
    """Loses the next answer to a request, and holds back those after it."""
    proxy.lose_next_answer_to = request
    await proxy.lost.wait()
    proxy.freeze()
