"""The client for browsers, in Chromium against the running service: each test is one of its promises."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.database import at
from tests.pages.conftest import Open, Service, become, stop_clock
from tests.pages.module_tabs import BUSINESS, GUEST, Tab, answer, count_down, lose_answers, tab_opener


@pytest.fixture
def open_tab(open_page: Open, service: Service) -> Callable[..., Tab]:
    """Opens tabs with the client, for a service of the test's own."""
    return tab_opener(open_page, service)


@pytest.fixture
def tab(open_tab: Callable[..., Tab]) -> Tab:
    """Opens a tab with the client."""
    return open_tab()


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
    tab.wait_for_reservations("released", "held")
    assert tab.page.evaluate("client.attempt.hold") == other["reservationId"]


def test_an_attempt_that_is_given_up_while_a_former_hold_is_released_asks_for_nothing(tab: Tab) -> None:
    """Its call is ended, like that of an attempt whose answer comes late."""
    tab.call("hold", tab.slot())
    sent = tab.sent("/reserve")
    tab.keep_result(f"Promise.all([client.hold({json.dumps(tab.slot(12))}), client.release()])")
    assert tab.result()["name"] == "AbortError"
    tab.wait_for_reservations("released")
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
    stop_clock(page)
    answer(page, "reserve", 503, {"code": "OVERLOADED"}, **{"Retry-After": "8"})
    page.evaluate("globalThis.tries = 0; globalThis.send = fetch")
    page.evaluate("() => { globalThis.fetch = (...to) => (tries++, send(...to)); }")
    # In a function, because `evaluate` calls one that an expression returns: `waits` would be set too early.
    page.evaluate("() => { Math.random = () => { globalThis.waits = true; return 0.5; }; }")
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
    stop_clock(page)
    page.route("**/reserve", lambda _: None)
    sent = tab.sent("/reserve")
    tab.begin("hold", tab.slot())
    tab.until(lambda: sent, "the first try")
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
