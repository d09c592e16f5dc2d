"""Other guests and faults: races, changes while one watches, holds that end, a lost network."""

from datetime import timedelta
from typing import Any

from playwright.sync_api import Page, Request, Route, expect

from tests.pages.conftest import PHONE, Open, Service, let_pass
from tests.pages.guests import (
    ADA,
    appointments,
    book,
    booked,
    choose,
    fill_in,
    free_slots,
    hold,
    make_business,
    next_month,
    open_slots,
    slot,
)
from tests.serving import wait_until

HOLD_MINUTES = 5
NOTICE = "This time has just been taken"


def reserve(service: Service, business_id: str, start: str) -> str:
    """Holds a slot as another guest does, and returns the id of the hold."""
    body = {"businessId": business_id, "serviceId": "visit", "slotStart": start}
    return str(service.call("POST", "/api/booking/reserve", body)["reservationId"])


def make_pair(service: Service, business_id: str) -> str:
    """Makes a business whose service is that of two people, and returns the path of its page."""
    path = make_business(service, business_id)
    for name in ("Anna", "Bert"):
        resource = f"/api/catalog/businesses/{business_id}/resources/{name.lower()}"
        service.call("PUT", resource, {"name": name, "kind": "staff"})
    members = {"name": "Visit", "durationMinutes": 60, "resourceIds": ["anna", "bert"]}
    service.call("PUT", f"/api/catalog/businesses/{business_id}/services/visit", members)
    return path


def test_of_two_guests_one_gets_the_slot(open_page: Open, service: Service) -> None:
    """The other one sees it at once, chooses one of the alternatives, and gets that."""
    path = make_business(service, "race")
    first, second = (open_slots(open_page, path) for _ in range(2))
    # Changes reach this window late, so its guest presses a slot that is gone.
    second.route("**/api/booking/availability*", lambda route: route.abort())
    time = slot(first, "10:00")
    hold(first, time)
    slot(second, "10:00").click()
    notice = second.get_by_role("group", name=NOTICE)
    expect(notice).to_be_focused()
    second.unroute_all()
    alternatives = notice.get_by_role("button").filter(has_text=":00")
    alternative = alternatives.first.inner_text()
    alternatives.first.click()
    expect(second.get_by_role("heading", name="Your details")).to_be_visible()
    for page in (first, second):
        fill_in(page)
        book(page)
    assert booked(first, service)["slotStart"] != booked(second, service)["slotStart"]
    assert alternative.split(", ")[-1] in second.locator("#booked .panel").inner_text()


def test_another_person_is_offered_by_name(open_page: Open, service: Service) -> None:
    """Who is free at the very time that the wanted person is not: the button gets that slot, and says with whom."""
    page = open_page(make_pair(service, "pair"))
    choose(page, "Visit", {"Staff": "Anna"})
    next_month(page)
    # Changes reach this window late.
    page.route("**/api/booking/availability*", lambda route: route.abort())
    ten = slot(page, "10:00")
    slot_of_anna = {"businessId": "pair", "serviceId": "visit", "resourceId": "anna"}
    start = {"slotStart": ten.get_attribute("data-start")}
    service.call("POST", "/api/booking/reserve", slot_of_anna | start)
    ten.click()
    page.get_by_role("group", name=NOTICE).get_by_role("button", name="10:00, Bert").click()
    expect(page.locator("#details .panel")).to_contain_text("Bert")
    fill_in(page)
    book(page)
    assert booked(page, service)["resourceId"] == "bert"
    # A booking is moved like that, too.
    page.unroute_all()
    page.get_by_role("button", name="Move it").click()
    expect(slot(page, "10:00")).to_contain_text("Your booking")
    expect(page.locator("#day")).to_have_js_property("inert", False)
    page.route("**/api/booking/availability*", lambda route: route.abort())
    eleven = {"slotStart": slot(page, "11:00").get_attribute("data-start"), "resourceId": "bert"}
    service.call("POST", "/api/booking/reserve", slot_of_anna | eleven)
    slot(page, "11:00").click()
    yes = page.get_by_role("dialog").get_by_role("button", name="Move it")
    yes.click()
    page.get_by_role("group", name=NOTICE).get_by_role("button", name="11:00, Anna").click()
    expect(page.get_by_role("dialog")).to_contain_text("Anna")
    yes.click()
    expect(page.get_by_role("heading", name="Your booking is moved")).to_be_visible()
    assert booked(page, service)["resourceId"] == "anna"


def test_a_page_that_is_restored_names_who_is_kept_now(open_page: Open, service: Service) -> None:
    """The slot was given back, and is held again with another person."""
    page = open_page(make_pair(service, "twins"))
    next_month(page)
    ten = slot(page, "10:00")
    first = {"businessId": "twins", "serviceId": "visit", "slotStart": ten.get_attribute("data-start")}
    hold(page, ten)
    panel = page.locator("#details .panel")
    expect(panel).to_contain_text("Anna")
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    held = "SELECT status FROM booking.reservations WHERE business_id = 'twins'"
    wait_until(lambda: service.database.rows(held) == [("released",)], "the release")
    service.call("POST", "/api/booking/reserve", first | {"resourceId": "anna"})
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    expect(panel).to_contain_text("Bert")


def test_what_others_take_and_free_is_seen_at_once(open_page: Open, service: Service) -> None:
    """In place: the focus stays where it is, and nothing moves."""
    path = make_business(service, "watched")
    page = open_slots(open_page, path)
    page.evaluate(
        """() => {
          window.shifts = [];
          const moved = ({ node }) => `${node?.nodeName} ${node?.parentElement?.outerHTML}`;
          new PerformanceObserver((list) =>
            list.getEntries().forEach(({ value, sources }) => window.shifts.push([value, ...sources.map(moved)])),
          ).observe({ type: "layout-shift", buffered: false });
        }"""
    )
    ten = slot(page, "10:00")
    ten.focus()
    held = reserve(service, "watched", str(ten.get_attribute("data-start")))
    expect(ten).to_have_attribute("aria-disabled", "true")
    expect(ten).to_contain_text("taken")
    expect(ten).to_be_focused()
    ten.press("Enter")
    service.call("POST", f"/api/booking/reservations/{held}/release")
    expect(ten).to_have_attribute("aria-disabled", "false")
    expect(ten).to_be_focused()
    # Slots of the whole month are taken and freed while the page is drawn for 60 frames.
    starts = [str(button.get_attribute("data-start")) for button in free_slots(page).all()]
    holds = [reserve(service, "watched", start) for start in starts]
    expect(free_slots(page)).to_have_count(0)
    for hold_id in holds:
        service.call("POST", f"/api/booking/reservations/{hold_id}/release")
    expect(free_slots(page)).to_have_count(len(starts))
    page.evaluate(
        """() => new Promise((resolve) => {
          let frames = 0;
          const draw = () => (++frames < 60 ? requestAnimationFrame(draw) : resolve());
          draw();
        })"""
    )
    assert page.evaluate("window.shifts") == []


def test_a_slot_that_was_not_listed_waits_to_be_asked_for(open_page: Open, service: Service) -> None:
    """What becomes free between two buttons would move them."""
    path = make_business(service, "freed")
    page = open_slots(open_page, path)
    start = str(slot(page, "10:00").get_attribute("data-start"))
    held = reserve(service, "freed", start)
    page.reload()
    expect(slot(page, "09:00")).to_be_visible()
    expect(slot(page, "10:00")).to_have_count(0)
    service.call("POST", f"/api/booking/reservations/{held}/release")
    page.get_by_role("button", name="Show times that have become free").click()
    expect(slot(page, "10:00")).to_be_visible()


def test_what_the_business_changes_is_seen_at_once(open_page: Open, service: Service) -> None:
    """A new name and a new length, and that there is nothing to book any more."""
    page = open_slots(open_page, make_business(service, "renamed"))
    visit = "/api/catalog/businesses/renamed/services/visit"
    service.call("PUT", visit, {"name": "Long visit", "durationMinutes": 120})
    expect(page.get_by_role("radio", name="Long visit")).to_be_checked()
    expect(slot(page, "01:00")).to_have_count(0)
    service.call("DELETE", visit)
    expect(page.get_by_role("heading", name="nothing to book online")).to_be_visible()


def test_what_the_business_changes_leaves_the_focus(open_page: Open, service: Service) -> None:
    """At a service, a date or a slot that is still there, and else at the heading."""
    page = open_slots(open_page, make_business(service, "focused"))
    dates = page.get_by_role("grid").get_by_role("button", disabled=False)
    service_path = "/api/catalog/businesses/focused/services/visit"
    for number, place in enumerate((page.get_by_role("radio"), dates.nth(3), slot(page, "10:00"))):
        place.focus()
        made = {"name": f"Visit {number}", "durationMinutes": 60}
        with page.expect_response("**/api/booking/availability?*"):
            service.call("PUT", service_path, made)
        expect(page.get_by_role("radio", name=f"Visit {number}")).to_be_visible()
        expect(place).to_be_focused()
    slot(page, "11:00").focus()
    service.call("PUT", service_path, {"name": "Visit", "durationMinutes": 120})
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(slot(page, "11:00")).to_have_count(0)


def test_what_the_business_changes_during_a_step_is_seen_after_it(open_page: Open, service: Service) -> None:
    """The step was refused, so the guest chooses again, of what there is now."""
    page = open_slots(open_page, make_business(service, "busy"))
    waiting: list[Route] = []
    page.route("**/api/booking/reserve", lambda route: waiting.append(route))
    with page.expect_request("**/api/booking/reserve"):
        slot(page, "10:00").click()
    made = {"name": "Long visit", "durationMinutes": 120}
    with page.expect_response("**/public/busy*"):
        service.call("PUT", "/api/catalog/businesses/busy/services/visit", made)
    waiting.pop().fulfill(status=409, json={"code": "SLOT_UNAVAILABLE", "alternatives": []})
    expect(page.get_by_role("radio", name="Long visit")).to_be_checked()
    expect(slot(page, "01:00")).to_have_count(0)
    expect(page.get_by_role("group", name=NOTICE)).to_be_focused()


def end_hold(page: Page, service: Service) -> None:
    """Lets the time of a hold pass, for the browser and for the service."""
    service.database.move_clock(timedelta(minutes=HOLD_MINUTES, seconds=1))
    let_pass(page, timedelta(minutes=HOLD_MINUTES))
    expect(page.get_by_role("button", name="Keep it for me again")).to_be_visible()


def hold_with_clock(open_page: Open, service: Service, business_id: str, minutes: int = HOLD_MINUTES) -> Page:
    """Opens a page whose clock the test moves, and fills in the form beside a slot that is held."""
    path = make_business(service, business_id, holdTtlMinutes=minutes)
    page = open_slots(open_page, path)
    page.clock.install()
    hold(page, slot(page, "10:00"))
    fill_in(page)
    return page


def test_a_hold_that_ends_while_the_guest_types_is_made_again(open_page: Open, service: Service) -> None:
    """By one click, and what was typed is still there."""
    page = hold_with_clock(open_page, service, "slow")
    expect(page.get_by_role("timer")).to_have_text("4:59")
    end_hold(page, service)
    expect(page.get_by_role("status").filter(has_text="We could not keep it any longer")).to_be_attached()
    page.get_by_role("button", name="Keep it for me again").click()
    expect(page.get_by_role("timer")).to_have_text("4:59")
    expect(page.get_by_label("Name", exact=True)).to_have_value("Ada Lovelace")
    book(page)


def test_a_guest_who_sends_too_late_gets_the_slot_if_it_is_free(open_page: Open, service: Service) -> None:
    """The button of the form holds it again and books it."""
    page = hold_with_clock(open_page, service, "late")
    end_hold(page, service)
    book(page)
    assert appointments(service, "late") == 1


def test_a_guest_who_sends_too_late_gets_alternatives(open_page: Open, service: Service) -> None:
    """Where the slot has gone to another guest: they take the place of it, and what was typed stays."""
    page = hold_with_clock(open_page, service, "lost")
    end_hold(page, service)
    start = service.database.value(
        "SELECT to_char(slot_start at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') "
        "FROM booking.reservations WHERE business_id = 'lost'"
    )
    reserve(service, "lost", start)
    page.set_viewport_size(PHONE)
    page.get_by_role("button", name="Book now").click()
    notice = page.get_by_role("group", name=NOTICE)
    expect(notice).to_be_in_viewport()
    # At its end, the page has each button in sight.
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    for name in ("Book now", "Choose another time"):
        page.get_by_role("button", name=name).click(trial=True)
    notice.get_by_role("button", name="09:00").click()
    expect(page.locator("#details .panel")).to_contain_text("09:00")
    expect(page.get_by_role("heading", name="Your details")).to_be_focused()
    expect(page.get_by_label("Name", exact=True)).to_have_value("Ada Lovelace")
    book(page)


def test_a_hold_that_another_window_released_is_made_again(open_page: Open, service: Service) -> None:
    """The button of the form holds the slot and books it: the guest notices nothing."""
    page = open_slots(open_page, make_business(service, "shared"))
    hold(page)
    fill_in(page)
    held = service.database.value("SELECT reservation_id FROM booking.reservations WHERE business_id = 'shared'")
    service.call("POST", f"/api/booking/reservations/{held}/release")
    book(page)


def test_a_guest_may_have_more_time(open_page: Open, service: Service) -> None:
    """The hold is prolonged to its whole length from now, and a screen reader says so."""
    page = hold_with_clock(open_page, service, "patient", minutes=10)
    let_pass(page, timedelta(minutes=2))
    expect(page.get_by_role("timer")).to_have_text("7:59")
    service.database.move_clock(timedelta(minutes=2))
    page.get_by_role("button", name="More time").click()
    expect(page.get_by_role("timer")).to_have_text("9:59")
    expect(page.get_by_role("status").filter(has_text="600 seconds left")).to_be_attached()


def test_a_commit_whose_answer_is_lost_books_once(open_page: Open, service: Service) -> None:
    """The page says that it tries again, its button can't be pressed meanwhile, and there is one booking."""
    path = make_business(service, "unplugged")
    page = open_slots(open_page, path)
    page.clock.install()
    hold(page)
    fill_in(page)
    commits: list[Any] = []

    def lose_the_answer(route: Route, request: Request) -> None:
        commits.append(request.post_data_json)
        if len(commits) == 1:
            assert route.fetch().status == 201
        if len(commits) <= 2:
            route.abort()
        else:
            route.continue_()

    page.route("**/api/booking/commit", lose_the_answer)
    page.get_by_role("button", name="Book now").click()
    expect(page.get_by_role("button", name="Book now")).to_be_disabled()
    page.clock.run_for(3500)
    expect(page.get_by_text("We are trying again")).to_be_visible()
    page.clock.run_for(5000)
    expect(page.get_by_role("heading", name="You're booked")).to_be_visible()
    assert commits[0] == commits[1] == commits[2]
    assert appointments(service, "unplugged") == 1


def test_a_page_that_is_loaded_again_in_mid_commit_shows_the_booking(open_page: Open, service: Service) -> None:
    """It sends the same commit again."""
    path = make_business(service, "reloaded")
    page = open_slots(open_page, path)
    hold(page)
    fill_in(page)
    page.route("**/api/booking/commit", lambda route: (route.fetch(), route.abort()))
    with page.expect_event("requestfailed"):
        page.get_by_role("button", name="Book now").click()
    page.unroute_all()
    page.reload()
    expect(page.get_by_role("heading", name="You're booked")).to_be_visible()
    assert appointments(service, "reloaded") == 1


def test_without_a_network_nothing_is_lost(open_page: Open, service: Service) -> None:
    """After a minute the guest may try again, with the same button."""
    path = make_business(service, "offline")
    page = open_slots(open_page, path)
    hold(page)
    fill_in(page)
    page.clock.install()
    page.context.set_offline(True)
    page.get_by_role("button", name="Book now").click()
    expect(page.get_by_role("button", name="Book now")).to_be_disabled()
    page.clock.run_for(62_000)
    expect(page.get_by_role("group", name="We can't be reached")).to_be_visible()
    page.context.set_offline(False)
    book(page)
    assert appointments(service, "offline") == 1


def test_a_service_that_is_busy_for_long_is_asked_again(open_page: Open, service: Service) -> None:
    """By the same button: the words say that nothing is lost, and not that the booking has failed."""
    page = open_slots(open_page, make_business(service, "laden"))
    hold(page)
    fill_in(page)
    later = {"Retry-After": "120"}
    problem = {"status": 503, "code": "OVERLOADED"}
    page.route("**/api/booking/commit", lambda route: route.fulfill(status=503, json=problem, headers=later))
    page.get_by_role("button", name="Book now").click()
    expect(page.get_by_role("group", name="Nothing is lost: please try again")).to_be_focused()
    page.unroute_all()
    book(page)


def test_a_list_that_is_late_says_so(open_page: Open, service: Service) -> None:
    """Until it is there, its month looks as if nothing were free: of the days, and of the slots of one of them."""
    page = open_slots(open_page, make_business(service, "distant"))
    page.clock.install()
    waiting = page.get_by_text("This is taking longer than usual")
    day = page.get_by_role("grid").get_by_role("button", disabled=False).last
    for step in (page.get_by_role("button", name="Next month").click, day.click):
        page.route("**/api/booking/availability**", lambda _: None)
        with page.expect_request("**/api/booking/availability**"):
            step()
        expect(waiting).to_be_hidden()
        page.clock.run_for(3500)
        expect(waiting).to_be_visible()
        # The request that waits goes on.
        page.unroute_all()
        expect(page.locator("#day")).to_have_js_property("inert", False)
        expect(waiting).to_be_hidden()


def test_a_list_that_failed_can_be_asked_for_again(open_page: Open, service: Service) -> None:
    """By a button: no date of its month can be pressed."""
    page = open_slots(open_page, make_business(service, "cut-off"))
    page.clock.install()
    page.context.set_offline(True)
    page.get_by_role("button", name="Next month").click()
    page.clock.run_for(62_000)
    notice = page.get_by_role("group", name="We can't be reached")
    expect(notice).to_be_focused()
    page.context.set_offline(False)
    notice.get_by_role("button", name="Try again").click()
    expect(free_slots(page).first).to_be_visible()
    expect(notice).to_be_hidden()
    expect(page.get_by_role("heading", name="The cut-off")).to_be_focused()


def test_a_page_that_is_loaded_again_holds_the_same_slot(open_page: Open, service: Service) -> None:
    """With what was typed. Back leads to the choice, gives the slot back, and keeps what was typed."""
    path = make_business(service, "twice")
    page = open_slots(open_page, path)
    hold(page, slot(page, "10:00"))
    fill_in(page, ADA)
    page.reload()
    expect(page.get_by_role("timer")).not_to_be_empty()
    expect(page.locator("#details .panel")).to_contain_text("10:00")
    expect(page.get_by_label("E-mail", exact=True)).to_have_value("ada@example.com")
    page.go_back()
    expect(slot(page, "10:00")).to_have_attribute("aria-disabled", "false")
    hold(page, slot(page, "11:00"))
    expect(page.get_by_label("E-mail", exact=True)).to_have_value("ada@example.com")
    page.go_back()
    expect(slot(page, "11:00")).to_have_attribute("aria-disabled", "false")
    page.go_forward()
    expect(page.get_by_role("timer")).to_be_visible()
    expect(page.locator("#details .panel")).to_contain_text("11:00")
    live = "SELECT count(*) FROM booking.reservations WHERE business_id = 'twice' AND status = 'held'"
    assert service.database.value(live) == 1


def test_a_hold_of_an_earlier_visit_leads_back_to_the_choice(open_page: Open, service: Service) -> None:
    """The page begins with its form: the way back from that does not leave the page."""
    page = open_page(make_business(service, "visitor"))
    next_month(page)
    hold(page)
    for leave in (page.get_by_role("button", name="Choose another time").click, page.go_back):
        page.goto(f"{service.url}/docs/errors")
        page.goto(f"{service.url}/book/visitor")
        expect(page.get_by_role("heading", name="Your details")).to_be_visible()
        expect(page.locator("#left")).not_to_be_empty()
        leave()
        free_slots(page).first.wait_for()
        hold(page)


def test_a_guest_who_goes_back_before_the_hold_is_there_stays_there(open_page: Open, service: Service) -> None:
    """At the choice: the hold that the form has waited for is released."""
    page = open_slots(open_page, make_business(service, "hurried"))
    hold(page)
    waiting: list[Route] = []
    page.route("**/api/booking/reserve", lambda route: waiting.append(route))
    with page.expect_request("**/api/booking/reserve"):
        page.reload()
    page.go_back()
    with page.expect_response("**/release?*"):
        waiting.pop().continue_()
    expect(free_slots(page).first).to_be_visible()
    expect(page.get_by_role("heading", name="Your details")).to_be_hidden()


def test_a_notice_fits_into_a_small_window(open_page: Open, service: Service) -> None:
    """As at a zoom of 400 %: it scrolls, and its button gives the focus back."""
    path = make_business(service, "zoomed")
    page = open_slots(open_page, path)
    page.set_viewport_size({"width": 320, "height": 256})
    page.route("**/api/booking/availability*", lambda route: route.abort())
    ten = slot(page, "10:00")
    reserve(service, "zoomed", str(ten.get_attribute("data-start")))
    ten.click()
    notice = page.get_by_role("group", name=NOTICE)
    expect(notice).to_be_focused()
    box = notice.bounding_box()
    assert box
    assert box["y"] >= 0
    notice.get_by_role("button", name="Close").press("Enter")
    expect(ten).to_be_focused()


def test_a_guest_who_has_booked_too_much_today_is_told_whom_to_ask(open_page: Open, service: Service) -> None:
    """Another try can't succeed."""
    page = open_slots(open_page, make_business(service, "greedy"))
    problem = {"status": 429, "code": "TOO_MANY_BOOKINGS", "detail": "Go on tomorrow."}
    page.route("**/reserve", lambda route: route.fulfill(status=429, json=problem))
    free_slots(page).first.click()
    expect(
        page.get_by_role("group", name="You can't book more online today. Please contact The greedy.")
    ).to_be_focused()
