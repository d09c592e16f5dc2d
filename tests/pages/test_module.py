"""The client for browsers, in Chromium against the running service: each test is one of its promises."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page, Request, Route

from tests.database import at
from tests.pages.conftest import CHROMIUM, Open, Service, become
from tests.serving import wait_until

BUSINESS: Final = "module"
GUEST: Final = {"guestName": "Ada", "guestEmail": "ada@example.com"}
_NUMBERS: Final = count(1)
# Chromium keeps no page for the back button where it is driven, unless it is asked to.
_NO_CACHE: Final = "--disable-back-forward-cache"


class Tab:
    """A page of the service with the client in it, as `client`, for a service of the test's own."""

    def __init__(self, page: Page, service: Service, service_id: str) -> None:
        self.page = page
        self.service = service
        self.service_id = service_id

    def slot(self, hour: int = 10) -> dict[str, str]:
        """Returns the slot of an hour on the Monday of the tests."""
        start, end = (at(hours).isoformat().replace("+00:00", "Z") for hours in (hour, hour + 1))
        return {"serviceId": self.service_id, "slotStart": start, "slotEnd": end}

    def load(self, module: str = "/static/holdfast.js", **options: str) -> None:
        """Loads the module and makes the client."""
        self.page.evaluate(
            "async ([module, options]) => {"
            "  Object.assign(globalThis, await import(module));"
            "  globalThis.client = new Holdfast(options);"
            "}",
            [module, {"business": BUSINESS} | options],
        )

    def begin(self, call: str, *arguments: object) -> None:
        """Makes a call of the client, and does not wait for its result."""
        words = ", ".join(map(json.dumps, arguments))
        self.keep_result(f"client.{call}({words})")

    def keep_result(self, expression: str) -> None:
        """Keeps the result of a promise, for `result`."""
        self.page.evaluate(
            "() => {"
            "  globalThis.results = [];"
            f"  ({expression}).then((value) => results.push(value), (error) => results.push(error));"
            "}"
        )

    def result(self) -> Any:
        """Returns the result of the last call: of one that was refused, the name and the members of the error."""
        self.until_true("results.length > 0")
        return self.page.evaluate("results[0] instanceof Error ? { name: results[0].name, ...results[0] } : results[0]")

    def call(self, call: str, *arguments: object) -> Any:
        """Makes a call of the client, and returns its result."""
        self.begin(call, *arguments)
        return self.result()

    def reload(self) -> None:
        """Loads the page again, and makes the client."""
        self.page.reload()
        self.load()

    def claims(self) -> tuple[list[str], list[str]]:
        """Returns the states of all reservations and appointments of the test's service."""
        states = [
            [
                status
                for (status,) in self.service.database.rows(
                    f"SELECT status FROM booking.{table} WHERE service_id = %s ORDER BY created_at",  # noqa: S608
                    self.service_id,
                )
            ]
            for table in ("reservations", "appointments")
        ]
        return states[0], states[1]

    def wait_for_claims(self, reservations: list[str], appointments: list[str] | None = None) -> None:
        """Returns when the claims have these states."""
        wait_until(lambda: self.claims() == (reservations, appointments or []), f"{reservations} {appointments}")

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Returns when a condition holds. Asking the page lets its requests and events through meanwhile."""
        wait_until(lambda: self.page.evaluate("true") and condition(), what)

    def until_true(self, expression: str) -> None:
        """Returns when an expression of the page is true."""
        wait_until(lambda: self.page.evaluate(expression), expression)

    def sent(self, path: str) -> list[Request]:
        """Collects the requests to a path, from now on."""
        requests: list[Request] = []
        self.page.on("request", lambda request: requests.append(request) if path in request.url else None)
        return requests


@pytest.fixture
def open_tab(open_page: Open, service: Service) -> Callable[..., Tab]:
    """Opens tabs with the client; all tabs of a test book the same service, of one guest at a time."""
    service_id = service.database.make_service(f"cut-{next(_NUMBERS)}", business_id=BUSINESS, capacity=1)

    def opened(script: str = "") -> Tab:
        page = open_page("/static/start.html")
        if script:
            page.add_init_script(script)
            page.reload()
        tab = Tab(page, service, service_id)
        tab.load()
        return tab

    return opened


@pytest.fixture
def tab(open_tab: Callable[..., Tab]) -> Tab:
    """Opens a tab with the client."""
    return open_tab()


def lose_answers(page: Page, path: str, times: int = 1) -> list[str | None]:
    """Loses the first answers to a path, after the service has decided; returns the keys of all requests to it."""
    keys: list[str | None] = []

    def forward(route: Route) -> None:
        if len(keys) < times:
            route.fetch()
            route.abort("connectionreset")
        else:
            route.continue_()
        keys.append(route.request.headers.get("idempotency-key"))

    page.route(f"**/{path}", forward)
    return keys


def answer(page: Page, path: str, status: int, body: dict[str, Any] | None, **headers: str) -> None:
    """Answers all requests to a path in the place of the service: with a problem, or as a proxy does."""
    text = "<html>" if body is None else json.dumps(body | {"status": status})
    page.route(f"**/{path}", lambda route: route.fulfill(status=status, body=text, headers=headers))


# Reads.


def test_the_catalogue_days_and_slots_are_read(tab: Tab) -> None:
    """All pages of slots, each once and in order."""
    catalogue = tab.call("catalogue")
    assert catalogue["business"]["businessId"] == BUSINESS
    slot = tab.slot()
    date, serves = slot["slotStart"][:10], {"serviceId": slot["serviceId"]}
    assert [day["slots"] for day in tab.call("days", serves | {"from": date, "to": date})] == [24]
    sent = tab.sent("/availability?")
    slots = tab.call("slots", serves | {"from": slot["slotStart"], "to": at(10, day=65).isoformat()})
    starts = [slot["slotStart"] for slot in slots]
    assert len(starts) == len(set(starts)) == 65 * 24
    assert starts == sorted(starts)
    assert len(sent) == 4
    assert tab.call("slots", serves | {"from": at(10).isoformat(), "to": at(12).isoformat()})[0]["slotEnd"]


def test_it_calls_the_root_from_which_it_was_loaded(tab: Tab, service: Service) -> None:
    """A service behind a prefix; and an address that is given, with a slash or without."""
    sent = tab.sent("/api/v1/public/")
    tab.page.route(
        "**/behind/a/prefix/**",
        lambda route: route.fulfill(response=route.fetch(url=route.request.url.replace("/behind/a/prefix", ""))),
    )
    tab.load("/behind/a/prefix/static/holdfast.js")
    tab.call("catalogue")
    for api in (f"{service.url}/behind/a/prefix/", f"{service.url}/behind/a/prefix"):
        tab.load(api=api)
        assert tab.call("catalogue")["business"]["businessId"] == BUSINESS
    assert {request.url for request in sent} == {f"{service.url}/behind/a/prefix/api/v1/public/{BUSINESS}"}


# One effect for one attempt.


def test_a_lost_answer_makes_no_second_hold(tab: Tab) -> None:
    """All tries of an attempt have one key."""
    keys = lose_answers(tab.page, "reserve", 2)
    assert tab.call("hold", tab.slot())["status"] == "held"
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert tab.claims() == (["held"], [])


def test_a_reload_before_the_answer_makes_no_second_hold(tab: Tab) -> None:
    """The key is stored before the request is sent."""
    held = []
    tab.page.route("**/reserve", lambda route: held.append(route.fetch().json()))
    tab.begin("hold", tab.slot())
    tab.until(lambda: held, "the hold of the service")
    tab.reload()
    tab.page.unroute_all(behavior="ignoreErrors")
    assert tab.call("resume")["reservation"]["reservationId"] == held[0]["reservationId"]
    assert tab.claims() == (["held"], [])


def test_two_clicks_are_one_attempt(tab: Tab) -> None:
    """Also where a former hold is released first."""
    tab.call("hold", tab.slot(8))
    tab.begin("hold", tab.slot())
    second = tab.page.evaluate(f"client.hold({json.dumps(tab.slot())})")
    first = tab.result()
    assert first["reservationId"] == second["reservationId"]
    assert tab.claims() == (["released", "held"], [])


def test_another_slot_is_another_attempt(tab: Tab) -> None:
    """The former hold is released before it could be in the way."""
    tab.call("hold", tab.slot())
    later = tab.slot() | {"slotStart": at(10.5).isoformat(), "slotEnd": at(11.5).isoformat()}
    assert tab.call("hold", later)["status"] == "held"
    assert tab.claims() == (["released", "held"], [])
    assert tab.page.evaluate("client.attempt.slot") == later


def test_a_late_answer_of_a_former_attempt_gives_its_slot_back(tab: Tab) -> None:
    """The guest has chosen another slot meanwhile."""
    keys = lose_answers(tab.page, "reserve")
    tab.begin("hold", tab.slot())
    tab.until(lambda: keys, "the first try")
    other = tab.page.evaluate(f"() => client.hold({json.dumps(tab.slot(12))})")
    assert tab.result()["name"] == "AbortError"
    tab.wait_for_claims(["released", "held"])
    assert tab.page.evaluate("client.attempt.hold") == other["reservationId"]


def test_an_attempt_that_is_given_up_while_a_former_hold_is_released_asks_for_nothing(tab: Tab) -> None:
    """Its call is ended, like that of an attempt whose answer comes late."""
    tab.call("hold", tab.slot())
    sent = tab.sent("/reserve")
    tab.keep_result(f"Promise.all([client.hold({json.dumps(tab.slot(12))}), client.release()])")
    assert tab.result()["name"] == "AbortError"
    tab.wait_for_claims(["released"])
    assert (sent, tab.page.evaluate("client.attempt")) == ([], None)


@pytest.mark.parametrize("then", ["hold", "release", "reload"])
def test_a_hold_whose_answer_was_lost_is_given_back(tab: Tab, then: str) -> None:
    """The guest turns to another slot, or gives up: the hold would be in the way until it expires."""
    lost = lose_answers(tab.page, "reserve", 99)
    tab.page.evaluate("globalThis.ending = new AbortController()")
    tab.keep_result(f"client.hold({json.dumps(tab.slot())}, {{ signal: ending.signal }})")
    tab.until(lambda: lost, "the first try")
    tab.page.evaluate("ending.abort()")
    assert tab.result() is not None
    tab.page.unroute_all(behavior="ignoreErrors")
    if then == "reload":
        tab.reload()
    later = tab.slot() | {"slotStart": at(10.5).isoformat(), "slotEnd": at(11.5).isoformat()}
    if then != "release":
        assert tab.call("hold", later)["status"] == "held"
    tab.call("release")
    assert set(tab.claims()[0]) == {"released"}


def test_a_lost_commit_books_once(tab: Tab) -> None:
    """Retried, and after a reload: the tab goes on, and then has what the guest needs to cancel."""
    tab.call("hold", tab.slot())
    lose_answers(tab.page, "commit", 1)
    booked = tab.call("commit", GUEST)
    assert booked["cancellationToken"]
    tab.reload()
    resumed = tab.call("resume")["appointment"]
    assert (resumed["appointmentId"], resumed["guestName"]) == (booked["appointmentId"], "Ada")
    assert tab.call("commit")["appointmentId"] == booked["appointmentId"]
    assert tab.claims() == (["committed"], ["confirmed"])


def test_a_reload_during_a_commit_books_once(tab: Tab) -> None:
    """The hold is not released, and the commit is sent again."""
    held = tab.call("hold", tab.slot())
    lost = lose_answers(tab.page, "commit", 99)
    tab.begin("commit", GUEST)
    tab.until(lambda: lost, "the first try")
    tab.reload()
    tab.page.unroute_all(behavior="ignoreErrors")
    assert tab.page.evaluate("client.attempt.hold") == held["reservationId"]
    assert tab.call("resume")["appointment"]["cancellationToken"]
    assert tab.claims() == (["committed"], ["confirmed"])


def test_a_slot_is_booked_in_one_call(tab: Tab) -> None:
    """Once, although its answer is lost and the page loaded again."""
    lost = lose_answers(tab.page, "bookings", 99)
    tab.begin("book", tab.slot(), GUEST)
    tab.until(lambda: lost, "the first try")
    tab.reload()
    tab.page.unroute_all(behavior="ignoreErrors")
    assert tab.call("resume")["appointment"]["cancellationToken"]
    tab.reload()
    assert tab.call("resume")["appointment"]["guestName"] == "Ada"
    assert tab.claims() == ([], ["confirmed"])


def test_a_booking_whose_answer_was_lost_is_not_given_up(tab: Tab) -> None:
    """The guest turns to another slot, or back to the list: the client says that it is booked."""
    tab.call("hold", tab.slot())
    tab.page.evaluate("globalThis.ending = new AbortController()")
    lost = lose_answers(tab.page, "commit", 99)
    tab.page.evaluate(f"void client.commit({json.dumps(GUEST)}, {{ signal: ending.signal }}).catch(() => null)")
    tab.until(lambda: lost, "the first try")
    tab.page.evaluate("ending.abort()")
    tab.page.unroute_all(behavior="ignoreErrors")
    for again in (("hold", tab.slot()), ("hold", tab.slot(12)), ("release",)):
        assert tab.call(*again)["code"] == "RESERVATION_COMMITTED", again
    assert tab.call("commit")["cancellationToken"]
    assert tab.claims() == (["committed"], ["confirmed"])


@pytest.mark.parametrize("storage", ["localStorage", "sessionStorage"])
def test_storage_that_throws_breaks_nothing(open_tab: Callable[..., Tab], storage: str) -> None:
    """As in some private windows."""
    tab = open_tab(f"Object.defineProperty(window, '{storage}', {{ get() {{ throw new DOMException('no'); }} }})")
    tab.call("hold", tab.slot())
    assert [held["status"] for held in tab.call("ownHolds")] == ["held"]
    assert tab.call("commit", GUEST)["status"] == "confirmed"


def test_pages_without_https_have_keys_too(open_tab: Callable[..., Tab]) -> None:
    """Where browsers have no randomUUID."""
    tab = open_tab("delete Crypto.prototype.randomUUID")
    sent = tab.sent("/reserve")
    tab.call("hold", tab.slot())
    assert re.fullmatch("[0-9a-f]{32}", sent[0].headers["idempotency-key"])
    assert [held["status"] for held in tab.call("ownHolds")] == ["held"]


def test_a_browser_finds_its_holds_again(tab: Tab) -> None:
    """In another tab, by a secret that it keeps; that tab can go on with one, and leaves nothing behind."""
    held = tab.call("hold", tab.slot())
    other = Tab(tab.page.context.new_page(), tab.service, tab.service_id)
    other.page.goto(tab.page.url)
    other.load()
    found = other.call("ownHolds")
    assert [hold["reservationId"] for hold in found] == [held["reservationId"]]
    other.page.evaluate("(held) => client.adopt(held)", found[0])
    assert other.call("commit", GUEST)["status"] == "confirmed"


def test_a_hold_that_another_tab_has_booked_is_not_in_the_way(tab: Tab) -> None:
    """The tab that made it goes on with another slot, and after a load begins anew."""
    for go_on in ("hold", "release", "resume"):
        held = tab.call("hold", tab.slot())
        other = Tab(tab.page.context.new_page(), tab.service, tab.service_id)
        other.page.goto(tab.page.url)
        other.load()
        other.page.evaluate("(held) => client.adopt(held)", held)
        ticket = other.call("commit", GUEST)
        if go_on == "hold":
            assert tab.call("hold", tab.slot(12))["status"] == "held"
        if go_on == "resume":
            tab.reload()
            assert tab.call("resume")["code"] == "SLOT_UNAVAILABLE"
        tab.call("release")
        assert tab.page.evaluate("client.attempt") is None
        other.call("cancel", ticket)


def test_a_hold_is_extended_and_released(tab: Tab) -> None:
    """By the reservation of the attempt."""
    held = tab.call("hold", tab.slot())
    assert tab.call("extend", 40)["expiresAt"] > held["expiresAt"]
    tab.call("release")
    assert tab.claims() == (["released"], [])
    assert tab.page.evaluate("client.attempt") is None
    assert tab.call("commit", GUEST)["code"] == "RESERVATION_NOT_FOUND"


def test_an_expired_hold_is_booked_where_the_caller_asks_for_it(tab: Tab, service: Service) -> None:
    """With `ifExpired`: for guests who have paid."""
    tab.call("hold", tab.slot())
    service.database.move_clock(timedelta(minutes=16))
    assert tab.call("commit", GUEST, {"ifExpired": "rebook"})["status"] == "confirmed"


@pytest.mark.parametrize("end", ["countdown", "commit", "reload"])
def test_an_expired_hold_is_booked_after_its_end_was_reported(tab: Tab, service: Service, end: str) -> None:
    """By the countdown or by a commit without `ifExpired`, and after a load."""
    tab.call("hold", tab.slot())
    count_down(tab)
    service.database.move_clock(timedelta(minutes=16))
    if end == "countdown":
        become(tab.page, hidden=True)
        become(tab.page, hidden=False)
        tab.until_true("ends.length > 0")
    else:
        assert tab.call("commit", GUEST)["code"] == "RESERVATION_EXPIRED"
    if end == "reload":
        tab.reload()
        assert tab.call("resume") == {}
    assert tab.page.evaluate("client.attempt") is None
    assert tab.call("commit", GUEST)["code"] == "RESERVATION_NOT_FOUND"
    assert tab.call("commit", GUEST, {"ifExpired": "rebook"})["status"] == "confirmed"
    assert tab.call("resume")["appointment"]["cancellationToken"]


# Refusals and retries.


def test_refusals_have_what_a_page_shows(open_tab: Callable[..., Tab]) -> None:
    """Alternatives, and the faults of a guest's data, after which the hold is still there."""
    first, second = open_tab(), open_tab()
    first.call("hold", first.slot())
    refusal = second.call("hold", second.slot())
    assert (refusal["name"], refusal["code"], refusal["status"]) == ("Refusal", "SLOT_UNAVAILABLE", 409)
    assert refusal["alternatives"][0]["slotEnd"]
    assert refusal["requestId"]
    assert second.page.evaluate("client.attempt") is None
    refusal = first.call("commit", GUEST | {"guestEmail": "ada@nowhere..example"})
    assert (refusal["code"], refusal["errors"][0]["field"]) == ("VALIDATION_FAILED", "guestEmail")
    assert first.call("commit", GUEST)["status"] == "confirmed"
    refusal = second.call("hold", second.slot() | {"serviceId": "nothing"})
    assert (refusal["code"], refusal["isTemporary"]) == ("SERVICE_NOT_FOUND", False)


def test_a_commit_that_is_refused_for_its_data_keeps_the_hold(tab: Tab) -> None:
    """Whatever is wrong with them: also where there are none, or too many."""
    tab.call("hold", tab.slot())
    assert tab.call("commit")["code"] == "VALIDATION_FAILED"
    assert tab.call("commit", GUEST | {"notes": "x" * 70_000})["code"] == "PAYLOAD_TOO_LARGE"
    assert tab.call("commit", GUEST)["status"] == "confirmed"
    assert tab.claims() == (["committed"], ["confirmed"])


def test_it_waits_as_long_as_the_service_says(tab: Tab) -> None:
    """And somewhat longer, so that not all clients come back at once."""
    page = tab.page
    page.clock.install()
    answer(page, "reserve", 503, {"code": "OVERLOADED"}, **{"Retry-After": "8"})
    page.evaluate("globalThis.tries = 0; globalThis.send = fetch")
    page.evaluate("() => { globalThis.fetch = (...to) => (tries++, send(...to)); }")
    # In a function, because `evaluate` calls one that an expression returns: `waits` would be set too early.
    page.evaluate("() => { Math.random = () => { globalThis.waits = true; return 0.5; }; }")
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 1"))
    tab.begin("hold", tab.slot())
    tab.until_true("globalThis.waits")
    page.clock.run_for(9_000)
    assert page.evaluate("tries") == 1
    page.unroute_all()
    page.clock.run_for(3_000)
    assert tab.result()["status"] == "held"
    assert page.evaluate("tries") == 2


def test_it_gives_up_after_a_minute(tab: Tab) -> None:
    """Where no try is answered, each gets fifteen seconds. The attempt stays, for the same button."""
    page = tab.page
    page.clock.install()
    page.route("**/reserve", lambda _: None)
    sent = tab.sent("/reserve")
    tab.begin("hold", tab.slot())
    page.clock.run_for(14_000)
    assert len(sent) == 1
    page.clock.run_for(60_000)
    refusal = tab.result()
    assert (refusal["code"], refusal["status"], refusal["isTemporary"]) == ("NO_ANSWER", 0, True)
    assert len(sent) == 4
    assert len({request.headers["idempotency-key"] for request in sent}) == 1
    page.unroute_all(behavior="ignoreErrors")
    page.clock.resume()
    tab.call("hold", tab.slot())
    assert sent[-1].headers["idempotency-key"] == sent[0].headers["idempotency-key"]


@pytest.mark.parametrize(("status", "body"), [(502, None), (502, {"message": "bad gateway"}), (200, None)])
def test_the_answer_of_a_proxy_is_no_answer(tab: Tab, status: int, body: dict[str, Any] | None) -> None:
    """Whatever its status: the request is sent again."""
    answer(tab.page, f"public/{BUSINESS}", status, body)
    with tab.page.expect_response(f"**/public/{BUSINESS}"):
        tab.begin("catalogue")
    tab.page.unroute_all()
    assert tab.result()["business"]["businessId"] == BUSINESS


@pytest.mark.parametrize("during", ["try", "pause"])
def test_the_caller_can_end_the_wait(tab: Tab, during: str) -> None:
    """With the reason of its signal, at any time; the attempt stays."""
    tab.page.route("**/reserve", lambda route: None if during == "try" else route.abort())
    sent = tab.sent("/reserve")
    tab.page.evaluate("globalThis.ending = new AbortController()")
    tab.keep_result(f"client.hold({json.dumps(tab.slot())}, {{ signal: ending.signal }})")
    tab.until(lambda: sent, "the first try")
    tab.page.evaluate("ending.abort(new RangeError('enough'))")
    assert tab.result()["name"] == "RangeError"
    assert tab.page.evaluate("client.attempt.slot") == tab.slot()


# The countdown.


def count_down(tab: Tab) -> None:
    """Starts a countdown that keeps what it reports."""
    tab.page.evaluate(
        "() => { globalThis.ticks = []; globalThis.ends = [];"
        "globalThis.stop = client.countdown((seconds) => ticks.push(seconds), (refusal) => ends.push(refusal.code)); }"
    )


def test_the_countdown_reports_each_second_and_the_end(tab: Tab) -> None:
    """Also after the hold was extended."""
    page = tab.page
    page.clock.install()
    tab.call("hold", tab.slot() | {"ttlMinutes": 0.1})
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 1"))
    count_down(tab)
    page.clock.run_for(2_500)
    assert page.evaluate("ticks") in ([5, 4, 3], [5, 4, 3, 2])
    tab.call("extend", 0.1)
    page.evaluate("ticks.length = 0")
    page.clock.run_for(7_000)
    assert page.evaluate("ticks") == [6, 5, 4, 3, 2, 1, 0]
    assert page.evaluate("ends") == ["RESERVATION_EXPIRED"]
    assert page.evaluate("client.attempt") is None


def test_a_countdown_outlasts_the_errors_of_its_caller(tab: Tab) -> None:
    """They are reported as errors of the page; the end comes all the same."""
    page = tab.page
    page.clock.install()
    tab.call("hold", tab.slot() | {"ttlMinutes": 0.1})
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 1"))
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
    page.clock.install()
    tab.call("hold", tab.slot())
    page.clock.pause_at(page.evaluate("Date.now() / 1000 + 1"))
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
    tab.wait_for_claims(["released"])
    tab.page.goto(f"{tab.service.url}/static/start.html")
    tab.load()
    assert tab.call("resume")["reservation"]["status"] == "held"
    assert tab.claims() == (["released", "held"], [])
    tab.page.close(run_before_unload=True)
    tab.wait_for_claims(["released", "released"])


@pytest.fixture
def caching_tab(browser: Browser, service: Service) -> Iterator[Tab]:
    """Opens a tab in a browser that keeps left pages for the back button."""
    caching = browser.browser_type.launch(
        executable_path=CHROMIUM, args=["--no-sandbox"], ignore_default_args=[_NO_CACHE]
    )
    service_id = service.database.make_service(f"cut-{next(_NUMBERS)}", business_id=BUSINESS, capacity=1)
    tab = Tab(caching.new_page(), service, service_id)
    tab.page.goto(f"{service.url}/static/start.html")
    tab.load()
    yield tab
    caching.close()


def test_a_page_that_the_back_button_restores_holds_its_slot_again(caching_tab: Tab) -> None:
    """Its scripts go on where they were; the hold is a new one."""
    tab = caching_tab
    former = tab.call("hold", tab.slot())["reservationId"]
    count_down(tab)
    tab.page.evaluate("document.title = 'kept'")
    tab.page.goto(f"{tab.service.url}/docs/errors")
    tab.wait_for_claims(["released"])
    tab.page.go_back(wait_until="commit")
    assert tab.page.evaluate("document.title") == "kept"
    tab.wait_for_claims(["released", "held"])
    tab.until_true(f"![undefined, '{former}'].includes(client.attempt.hold)")
    assert tab.page.evaluate("ends") == []
    assert tab.call("commit", GUEST)["status"] == "confirmed"


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


# The guest's own booking.


def test_a_guest_sees_moves_and_cancels_a_booking(tab: Tab) -> None:
    """With the ticket, whose token is in no address."""
    sent = tab.sent("/")
    tab.call("hold", tab.slot())
    booked = tab.call("commit", GUEST)
    ticket = {name: booked[name] for name in ("appointmentId", "cancellationToken")}
    assert tab.page.evaluate("client.attempt.ticket") == ticket
    assert tab.call("appointment", ticket)["guestName"] == "Ada"
    later = tab.slot(12)
    moved = tab.call("reschedule", ticket, {name: later[name] for name in ("slotStart", "slotEnd")})
    assert moved["slotStart"] == later["slotStart"].replace("Z", ".000Z")
    lose_answers(tab.page, "cancel")
    assert tab.call("cancel", ticket, {"reason": "ill"})["status"] == "cancelled"
    assert tab.page.evaluate("client.attempt") is None
    assert tab.call("appointment", ticket | {"cancellationToken": "v1.wrong"})["status"] in (401, 403)
    assert [request.url for request in sent if booked["cancellationToken"] in request.url] == []


@pytest.mark.parametrize("status", [403, 429])
def test_a_ticket_that_is_refused_for_good_is_forgotten(tab: Tab, status: int) -> None:
    """As after a change of `TOKEN_SECRET`: the next load begins anew. After a refusal for now it is still there."""
    tab.call("hold", tab.slot())
    tab.call("commit", GUEST)
    code = {403: "FORBIDDEN", 429: "RATE_LIMITED"}[status]
    answer(tab.page, "appointments/*", status, {"code": code}, **{"Retry-After": "90"})
    tab.reload()
    assert tab.call("resume")["code"] == code
    tab.page.unroute_all()
    tab.reload()
    assert list(tab.call("resume")) == ([] if status == 403 else ["appointment"])


def test_two_businesses_share_no_attempt(tab: Tab) -> None:
    """In one tab, one after the other."""
    tab.call("hold", tab.slot())
    tab.load(business="salon-rosa")
    assert tab.page.evaluate("client.attempt") is None
    tab.load()
    assert tab.page.evaluate("client.attempt.slot") == tab.slot()
