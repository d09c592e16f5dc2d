"""The client for browsers while a guest fills in the form: the countdown, pages that are left, live changes."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import pytest
from playwright.sync_api import Browser

from tests.chromium import CHROMIUM
from tests.pages.conftest import Open, Service, become, stop_clock
from tests.pages.module_tabs import BUSINESS, GUEST, Tab, answer, count_down, new_service, tab_opener

# Chromium keeps no page for the back button where it is driven, unless it is asked to.
_NO_CACHE: Final = "--disable-back-forward-cache"


@pytest.fixture
def tab(open_page: Open, service: Service) -> Tab:
    """Opens a tab with the client, for a service of the test's own."""
    return tab_opener(open_page, service)()


# The countdown.


def test_the_countdown_reports_each_second_and_the_end(tab: Tab) -> None:
    """Also after the hold was extended."""
    page = tab.page
    stop_clock(page)
    tab.call("hold", tab.slot() | {"ttlMinutes": 0.1})
    count_down(tab)
    page.clock.run_for(2_500)
    assert page.evaluate("ticks") == [6, 5, 4]
    tab.call("extend", 0.1)
    page.evaluate("ticks.length = 0")
    page.clock.run_for(7_000)
    assert page.evaluate("ticks") == [6, 5, 4, 3, 2, 1, 0]
    assert page.evaluate("ends") == ["RESERVATION_EXPIRED"]
    assert page.evaluate("client.attempt") is None


def test_a_countdown_outlasts_the_errors_of_its_caller(tab: Tab) -> None:
    """They are reported as errors of the page; the end comes all the same."""
    page = tab.page
    stop_clock(page)
    tab.call("hold", tab.slot() | {"ttlMinutes": 0.1})
    page.evaluate("""() => {
        globalThis.ends = [];
        globalThis.thrown = [];
        addEventListener("error", (event) => { thrown.push(event.error.message); event.preventDefault(); });
        const stop = client.countdown((seconds) => { throw new Error(seconds); }, ({ code }) => ends.push(code));
        globalThis.stops = typeof stop;
    }""")
    page.clock.run_for(7_000)
    assert page.evaluate("thrown.at(-1)") == "0"
    assert page.evaluate("[ends, stops]") == [["RESERVATION_EXPIRED"], "function"]


def test_a_clock_that_is_set_does_not_move_the_countdown(tab: Tab) -> None:
    """Neither forwards nor backwards: the service is asked, and the hold is still there."""
    page = tab.page
    stop_clock(page)
    tab.call("hold", tab.slot())
    count_down(tab)
    for hours in (1, -2):
        page.clock.set_system_time(page.evaluate(f"Date.now() / 1000 + {hours} * 3600"))
        with page.expect_response(re.compile(r"/reservations/[-0-9a-f]+\?")):
            page.clock.run_for(1_000)
        page.clock.run_for(1_000)
    assert page.evaluate("ends") == []
    assert 880 < page.evaluate("ticks.at(-1)") < 900


def test_a_computer_that_slept_asks_the_service(tab: Tab, service: Service) -> None:
    """Its clock for the countdown has stood still meanwhile."""
    page = tab.page
    page.clock.install()
    tab.call("hold", tab.slot())
    count_down(tab)
    service.database.move_clock(timedelta(minutes=16))
    page.clock.set_system_time(page.evaluate("Date.now() / 1000 + 16 * 60"))
    page.clock.run_for(1_000)
    tab.until_true("ends.length > 0")
    assert page.evaluate("ends") == ["RESERVATION_EXPIRED"]


def test_a_page_that_is_shown_again_asks_the_service(tab: Tab, service: Service) -> None:
    """What ended meanwhile is reported at once."""
    tab.call("hold", tab.slot())
    count_down(tab)
    held = tab.page.evaluate("client.attempt.hold")
    service.database.release(held, business_id=BUSINESS)
    become(tab.page, hidden=True)
    become(tab.page, hidden=False)
    tab.until_true("ends.length > 0")
    assert tab.page.evaluate("ends") == ["RESERVATION_RELEASED"]


def test_there_is_one_countdown(tab: Tab) -> None:
    """A page that begins another one need not stop the former."""
    count_down(tab)
    tab.call("hold", tab.slot())
    count_down(tab)
    tab.page.evaluate("globalThis.former = ticks")
    tab.call("release")
    tab.call("hold", tab.slot(12))
    count_down(tab)
    assert tab.page.evaluate("former.length") == 1
    tab.until_true("ticks.length > 1")
    assert tab.page.evaluate("former.length") == 1


def test_a_countdown_ends_with_its_attempt(tab: Tab) -> None:
    """A hold that was released or committed reports no end."""
    page = tab.page
    page.clock.install()
    for end in (("release",), ("commit", GUEST)):
        tab.call("hold", tab.slot())
        count_down(tab)
        tab.call(*end)
        page.evaluate("ticks.length = 0")
        page.clock.run_for(16 * 60_000)
        assert page.evaluate("[ticks, ends]") == [[], []], end


# Leaving the page.


def test_a_page_that_is_left_gives_its_slot_back(tab: Tab) -> None:
    """By another address, and by closing the tab; after a reload, the slot is held again."""
    tab.call("hold", tab.slot())
    tab.page.goto("about:blank")
    tab.wait_for_reservations("released")
    tab.page.goto(f"{tab.service.url}/static/start.html")
    tab.load()
    assert tab.call("resume")["reservation"]["status"] == "held"
    assert tab.claims() == (["released", "held"], [])
    tab.page.close(run_before_unload=True)
    tab.wait_for_reservations("released", "released")


@pytest.fixture
def caching_tab(browser: Browser, service: Service) -> Iterator[Tab]:
    """Opens a tab in a browser that keeps left pages for the back button."""
    caching = browser.browser_type.launch(
        executable_path=CHROMIUM, args=["--no-sandbox"], ignore_default_args=[_NO_CACHE]
    )
    tab = Tab(caching.new_page(), service, new_service(service))
    tab.page.goto(f"{service.url}/static/start.html")
    tab.load()
    yield tab
    caching.close()


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: its headless shell keeps no pages")
def test_a_page_that_the_back_button_restores_holds_its_slot_again(caching_tab: Tab) -> None:
    """Its scripts go on where they were; the hold is a new one."""
    tab = caching_tab
    former = tab.call("hold", tab.slot())["reservationId"]
    count_down(tab)
    tab.page.evaluate("document.title = 'kept'")
    tab.page.goto(f"{tab.service.url}/docs/errors")
    tab.wait_for_reservations("released")
    tab.page.go_back(wait_until="commit")
    assert tab.page.evaluate("document.title") == "kept"
    tab.wait_for_reservations("released", "held")
    tab.until_true(f"![undefined, '{former}'].includes(client.attempt.hold)")
    assert tab.page.evaluate("ends") == []
    assert tab.call("commit", GUEST)["status"] == "confirmed"


def test_a_slot_that_was_given_back_is_held_again_to_prolong_it(tab: Tab) -> None:
    """The guest of a restored page presses the button before the slot is held again."""
    tab.call("hold", tab.slot())
    tab.page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    tab.wait_for_reservations("released")
    assert tab.call("extend", 30)["status"] == "held"
    assert tab.claims() == (["released", "held"], [])
    tab.call("commit", GUEST)
    assert tab.call("extend", 30)["code"] == "RESERVATION_NOT_FOUND"
    assert tab.claims() == (["released", "committed"], ["confirmed"])


# Live changes.


def watch(tab: Tab) -> None:
    """Watches, and keeps what is reported."""
    tab.page.evaluate("() => { globalThis.changes = []; globalThis.stop = client.watch((c) => changes.push(c)); }")


def test_changes_are_reported_while_the_tab_is_visible(tab: Tab, service: Service) -> None:
    """A hidden tab has no connection; shown again, it is told that anything may have changed."""
    watch(tab)
    tab.until(lambda: service.open_streams() == 1, "the stream")
    slot = {"businessId": BUSINESS} | tab.slot()
    service.call("POST", "/api/booking/reserve", slot)
    tab.until_true("changes.length > 0")
    change = tab.page.evaluate("changes[0]")
    assert slot["serviceId"] in change["serviceIds"]
    assert change["from"] < change["to"]
    become(tab.page, hidden=True)
    tab.until(lambda: service.open_streams() == 0, "the end of the stream")
    tab.page.evaluate("changes.length = 0")
    become(tab.page, hidden=False)
    tab.until(lambda: service.open_streams() == 1, "the stream")
    assert tab.page.evaluate("changes") == [None]
    tab.page.evaluate("stop()")
    tab.until(lambda: service.open_streams() == 0, "the end of the stream")


def test_a_stream_that_was_refused_is_opened_again(tab: Tab, service: Service) -> None:
    """After five to ten seconds: an EventSource gives up for good."""
    page = tab.page
    page.clock.install()
    page.evaluate("""() => {
        const start = setTimeout;
        Math.random = () => 0.5;
        globalThis.setTimeout = (...given) => (globalThis.waits ||= given[1] === 7500, start(...given));
    }""")
    answer(page, "stream?*", 503, {"code": "OVERLOADED"})
    watch(tab)
    tab.until_true("globalThis.waits")
    page.unroute_all()
    assert page.evaluate("changes") == []
    page.clock.run_for(7_500)
    assert page.evaluate("changes") == [None]
    tab.until(lambda: service.open_streams() == 1, "the stream")
