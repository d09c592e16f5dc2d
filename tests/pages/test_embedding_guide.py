"""The guide to a booking form: its files, copied as they are, served from another origin to a real browser."""

import html
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import httpx2
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.clusters import RunningCluster
from tests.faults.proxy import Proxy
from tests.pages.conftest import Service, become, let_pass, running_service
from tests.serving import NO_CERTIFICATES, wait_until

ADDRESS: Final = "http://127.0.0.1:8000"
TAKEN: Final = "Somebody else has just taken this time."
OVER: Final = "Your time to fill in the form is over. Please choose again."
BOOKED: Final = "You have booked this time already."
CANCELLED: Final = "Your booking is cancelled."
# One guest at a time, at any hour.
SALON: Final = """
businessId: salon
name: Salon Rosa
slug: salon-rosa
timezone: Europe/Berlin
country: DE
services:
  haircut: {name: Haircut, durationMinutes: 60, slotStepMinutes: 60, maxSimultaneousBookings: 1}
"""

Site = tuple[Path, str]


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 — of the base class
        """Logs nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serves a folder, and returns it with its origin."""
    folder = tmp_path_factory.mktemp("site")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def service(running_cluster: RunningCluster, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Runs the service for the pages of the site, with the salon of the guide."""
    folder = tmp_path_factory.mktemp("guide")
    catalog = folder / "salon.yaml"
    catalog.write_text(SALON)
    with running_service(running_cluster, folder, [catalog], CORS_ORIGINS=site[1]) as service:
        yield service


def copy_the_guide(service: Service, folder: Path, address: str) -> None:
    """Copies the files of the guide and downloads the client, as a reader does, with the address of the service."""
    with httpx2.Client(base_url=service.url, trust_env=False, verify=NO_CERTIFICATES) as client:
        guide = client.get("/docs/embedding").text
        files = dict(re.findall(r'<pre data-file="([\w.]+)"><code>(.*?)</code></pre>', guide, re.DOTALL))
        assert set(files) == {"index.html", "form.js"}
        for name, text in files.items():
            (folder / name).write_text(html.unescape(text).replace(ADDRESS, address) + "\n", encoding="utf-8")
        [path] = re.findall(f"curl -O {ADDRESS}(/\\S+)", guide)
        (folder / "holdfast.js").write_bytes(client.get(path).content)


@pytest.fixture
def url(service: Service, site: Site) -> str:
    """Returns the address of the page of the guide."""
    folder, origin = site
    copy_the_guide(service, folder, service.url)
    return origin


class Window:
    """A window of a guest, with a profile of its own, that shows the page of the guide."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.message = page.get_by_role("status")
        self.guest = page.locator("#guest")
        self.booked = page.locator("#booked")
        self.slots = page.locator("#slots button")

    def slot(self, start: str) -> Locator:
        """Returns a slot of the list."""
        return self.page.locator(f"#slots button[data-start='{start}']")

    def go_to_second_day(self) -> str:
        """Shows the slots of the second day in the list of days, and returns the start of the last one: it does not
        begin while a test runs or moves the clock, at whatever time of the day."""
        expect(self.slots.first).to_be_visible()
        days = self.page.get_by_label("Day")
        day = days.locator("option").nth(1).text_content() or ""
        days.select_option(day)
        expect(self.slots.last).to_have_attribute("data-start", re.compile(f"{day}T"))
        return self.slots.last.get_attribute("data-start") or ""

    def choose(self) -> None:
        """Chooses a slot of the second day."""
        self.slot(self.go_to_second_day()).click()

    def submit(self, email: str = "ada@example.com") -> None:
        """Fills in the form and sends it."""
        self.page.get_by_label("Name").fill("Ada")
        self.page.get_by_label("E-mail").fill(email)
        self.page.get_by_role("button", name="Book", exact=True).click()

    def press(self, button: str) -> None:
        """Presses a button."""
        self.page.get_by_role("button", name=button).click()


Open = Callable[..., Window]


@pytest.fixture
def open_window(browser: Browser) -> Iterator[Open]:
    """Opens windows, with a `clock` that the test can move. None may have had an error that its page did not catch."""
    profiles = []
    errors: list[str] = []

    def opened(url: str, *, clock: bool = False) -> Window:
        profile = browser.new_context(locale="en-GB")
        profiles.append(profile)
        page = profile.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        if clock:
            page.clock.install()
        page.goto(url)
        return Window(page)

    yield opened
    for profile in profiles:
        profile.close()
    assert errors == []


Claims = Callable[[], tuple[list[str], list[str]]]


@pytest.fixture
def claims(service: Service) -> Claims:
    """Returns a function that returns the states of the reservations and of the appointments that the test made."""
    began: datetime = service.database.value("SELECT booking.now()")

    def states(table: str) -> list[str]:
        query = f"SELECT status FROM booking.{table} WHERE created_at > %s ORDER BY created_at"  # noqa: S608
        return [status for (status,) in service.database.rows(query, began)]

    return lambda: (states("reservations"), states("appointments"))


def test_a_reader_books_and_cancels(url: str, open_window: Open, claims: Claims, service: Service) -> None:
    """A reload in the middle keeps the slot; a fault is shown at its field; the booking can be cancelled."""
    window = open_window(url)
    window.choose()
    expect(window.guest).to_be_focused()
    chosen = window.guest.locator(".slot").inner_text()
    expect(window.page.locator("#left")).to_have_text(re.compile(r"1[45]:\d\d"))
    window.page.reload()
    expect(window.guest.locator(".slot")).to_have_text(chosen)
    expect(window.guest).to_be_visible()
    assert claims() == (["released", "held"], [])
    window.submit(email="ada..x@example.com")
    expect(window.message).to_have_text("Please correct the marked fields.")
    email = window.page.get_by_label("E-mail")
    assert email.evaluate("(field) => field.validationMessage")
    window.submit()
    expect(window.booked).to_be_focused()
    assert claims() == (["released", "committed"], ["confirmed"])
    assert service.database.value("SELECT guest_name FROM booking.appointments") == "Ada"
    window.page.reload()
    expect(window.booked.locator(".slot")).to_have_text(chosen)
    window.press("Cancel the booking")
    expect(window.message).to_have_text(CANCELLED)
    expect(window.page.locator("#choice")).to_be_focused()
    assert claims()[1] == ["cancelled"]


def test_a_booking_that_the_business_has_moved_shows_its_new_time(
    url: str, open_window: Open, service: Service
) -> None:
    """After a reload, and not the time at which it was made."""
    window = open_window(url)
    window.choose()
    window.submit()
    expect(window.booked).to_be_visible()
    last = "SELECT appointment_id FROM booking.appointments ORDER BY created_at DESC LIMIT 1"
    appointment_id = service.database.value(last)
    change = {"expectedVersion": 1, "slotStart": "2027-06-01T10:00Z"}
    service.call("PATCH", f"/api/booking/appointments/{appointment_id}", change)
    window.page.reload()
    expect(window.booked.locator(".slot")).to_contain_text("1 June 2027")


def test_of_two_windows_that_race_for_a_slot_one_gets_it(
    url: str, service: Service, open_window: Open, claims: Claims
) -> None:
    """The other is offered alternatives, and sees the slot return when the first window is closed, also if its tab was
    hidden meanwhile: then it has no connection to the service."""
    windows = [open_window(url) for _ in range(2)]
    # Today may have one slot left. Without any, a window goes on to the next day, and shows none that returns.
    [start, _] = [window.go_to_second_day() for window in windows]
    for window in windows:
        window.page.evaluate(f"void document.querySelector(`#slots button[data-start='{start}']`).click()")
    for window in windows:
        expect(window.guest.or_(window.message.filter(has_text=TAKEN)).filter(visible=True)).to_be_visible()
    winner, loser = windows if windows[0].guest.is_visible() else reversed(windows)
    expect(loser.message).to_have_text(TAKEN)
    expect(loser.page.locator("#alternatives button").first).to_be_visible()
    assert claims() == (["held"], [])
    expect(loser.slot(start)).to_have_count(0)
    wait_until(lambda: service.open_streams() == 2, "both windows to watch")
    become(loser.page, hidden=True)
    winner.page.close(run_before_unload=True)
    wait_until(lambda: service.open_streams() == 0, "no window to watch")
    become(loser.page, hidden=False)
    wait_until(lambda: claims()[0] == ["released"], "the hold to be released")
    expect(loser.slot(start)).to_be_visible()
    # And a slot that is taken elsewhere goes.
    service.call("POST", "/api/booking/reserve", {"businessId": "salon", "serviceId": "haircut", "slotStart": start})
    expect(loser.slot(start)).to_have_count(0)
    expect(loser.slots.first).to_be_visible()


@contextmanager
def running_proxy(service: Service) -> Iterator[tuple[Proxy, BlockingPortal]]:
    """Runs a proxy in front of the service, in an event loop of its own, with which it is called."""
    with start_blocking_portal() as portal:
        proxy = Proxy(service.url)
        with portal.wrap_async_context_manager(proxy.running()):
            yield proxy, portal


async def lose_answer(proxy: Proxy, request: bytes) -> None:
    """Loses the next answer to a request, and holds back those after it."""
    proxy.lose_next_answer_to = request
    await proxy.lost.wait()
    proxy.freeze()


def test_lost_answers_make_neither_a_second_hold_nor_a_second_booking(
    service: Service, site: Site, open_window: Open, claims: Claims
) -> None:
    """The connection breaks after the service has reserved, with a reload before the next try and without, and again
    after it has committed."""
    folder, origin = site
    before = len(service.process.events("request"))
    with running_proxy(service) as (proxy, portal):
        copy_the_guide(service, folder, f"http://127.0.0.1:{proxy.port}")
        window = open_window(origin)
        expect(window.slots.first).to_be_visible()
        lost: Future[None] = portal.start_task_soon(lose_answer, proxy, b"POST /api/booking/reserve")
        window.choose()
        lost.result(timeout=30)
        window.page.reload()
        portal.call(proxy.thaw)
        expect(window.guest).to_be_visible()
        assert claims() == (["held"], [])
        window.press("Another time")
        wait_until(lambda: claims()[0] == ["released"], "the hold to be released")
        for call, step, shown in (
            ("reserve", window.choose, window.guest),
            ("commit", window.submit, window.booked),
        ):
            portal.call(proxy.lost.clear)
            proxy.lose_next_answer_to = f"POST /api/booking/{call}".encode()
            step()
            expect(shown).to_be_visible()
            assert proxy.lost.is_set()
        assert claims() == (["released", "committed"], ["confirmed"])
        # The page has the token, which a repeated commit shows to its own client only.
        window.press("Cancel the booking")
        expect(window.message).to_have_text(CANCELLED)
    assert [line["code"] for line in service.process.events("request")[before:] if line["status"] >= 400] == []
    assert service.process.events("origin_refused") == []


def test_the_back_button_leads_to_the_form(url: str, open_window: Open, claims: Claims) -> None:
    """The page was left, and its hold released: the slot is held anew."""
    window = open_window(url)
    window.choose()
    expect(window.guest).to_be_visible()
    window.page.goto("about:blank")
    wait_until(lambda: claims()[0] == ["released"], "the hold to be released")
    window.page.go_back()
    expect(window.guest).to_be_visible()
    assert claims() == (["released", "held"], [])
    window.press("Another time")
    expect(window.slots.first).to_be_visible()
    wait_until(lambda: claims()[0] == ["released", "released"], "the hold to be released")


def test_a_form_that_takes_too_long_leads_to_the_list(url: str, open_window: Open, service: Service) -> None:
    """By the clocks of the page and of the service, and by that of the service alone, which refuses the commit."""
    window = open_window(url, clock=True)
    window.choose()
    expect(window.guest).to_be_visible()
    service.database.move_clock(timedelta(minutes=16))
    let_pass(window.page, timedelta(minutes=15, seconds=1))
    expect(window.message).to_have_text(OVER)
    window.choose()
    expect(window.guest).to_be_visible()
    service.database.move_clock(timedelta(minutes=16))
    window.submit()
    expect(window.message).to_have_text(OVER)
    expect(window.slots.first).to_be_visible()


def test_another_tab_of_the_browser_goes_on_with_a_hold(url: str, open_window: Open, claims: Claims) -> None:
    """Where the first tab is not there any more, such as after a crash. If it is, it says that the slot is booked."""
    first = open_window(url)
    first.choose()
    expect(first.guest).to_be_visible()
    second = Window(first.page.context.new_page())
    second.page.goto(url)
    second.press("Go on with")
    second.submit()
    expect(second.booked).to_be_visible()
    assert claims() == (["committed"], ["confirmed"])
    become(first.page, hidden=True)
    become(first.page, hidden=False)
    expect(first.message).to_have_text(BOOKED)


@pytest.mark.parametrize("answered", [True, False])
def test_a_guest_may_choose_before_the_own_holds_are_known(url: str, open_window: Open, answered: bool) -> None:
    """Their answer then offers nothing and reports nothing: the form of the new hold is in view."""
    window = open_window("about:blank")
    waiting: list[Route] = []
    window.page.route("**/reservations/own*", lambda route: waiting.append(route))
    window.page.goto(url)
    window.choose()
    expect(window.guest).to_be_visible()
    [route] = waiting
    if answered:
        route.fulfill(response=route.fetch())
    else:
        route.abort()
    # The answer has arrived before that of a later request.
    window.page.evaluate("url => fetch(url).then((answer) => answer.text())", url)
    expect(window.message).to_be_empty()
    expect(window.guest).to_be_visible()


def test_a_page_of_another_origin_can_import_the_client(url: str, open_window: Open, service: Service) -> None:
    """It calls the service from which it came."""
    window = open_window(url)
    name = window.page.evaluate(
        "async (url) => {"
        "  const { Holdfast } = await import(url);"
        "  return (await new Holdfast({ business: 'salon-rosa' }).catalogue()).business.name;"
        "}",
        f"{service.url}/static/holdfast.js",
    )
    assert name == "Salon Rosa"
