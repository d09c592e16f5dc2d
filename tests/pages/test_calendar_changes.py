"""The calendar page: what staff change on it, and what others change meanwhile."""

import json
import re
from datetime import datetime, timedelta
from time import sleep
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.pages.calendars import (
    APPOINTMENTS,
    ZONE,
    CalendarPage,
    at,
    book,
    box_of,
    cancel,
    clock_of,
    edit,
    key_of,
    lose_first_answer,
    open_calendar,
    own_day,
    read,
    show_booking,
    show_booking_without_news,
    sign_in,
)
from tests.pages.conftest import Open, Service, become, serious_faults
from tests.serving import wait_until


def test_a_message_that_is_closed_leaves_the_focus_at_the_calendar(calendar: CalendarPage, service: Service) -> None:
    """Rather than at the top of the page."""
    day = own_day(service)
    book(service, day, 10)
    book(service, day, 11, guestName="Grace Hopper")
    calendar.show(day)
    calendar.card("Ada Lovelace").focus()
    calendar.press("ArrowDown", "ArrowDown", "ArrowDown", "ArrowDown", "Enter")
    expect(calendar.notice).to_contain_text("That time is taken")
    calendar.notice.get_by_role("button", name="Close").press("Enter")
    expect(calendar.page.locator("#grid")).to_be_focused()


def test_a_guest_and_the_notes_are_edited(calendar: CalendarPage, service: Service) -> None:
    """Only what was changed is sent, and the history names who did it."""
    _, booked = show_booking(calendar, service, guestEmail="ada@example.com")
    calendar.card("Ada Lovelace").click()
    expect(calendar.dialog.get_by_role("link", name="ada@example.com")).to_be_visible()
    assert serious_faults(calendar.page) == []
    calendar.dialog.get_by_text("Change or move").click()
    calendar.dialog.get_by_label("Notes").fill("Short, please")
    calendar.dialog.get_by_label("E-mail").fill("")
    sent = []
    calendar.page.on(
        "request", lambda request: sent.append(request.post_data_json) if request.method == "PATCH" else None
    )
    calendar.dialog.get_by_role("button", name="Save").click()
    expect(calendar.dialog).to_be_hidden()
    assert sent == [{"expectedVersion": 1, "notes": "Short, please", "guestEmail": None}]
    now = read(service, booked)
    assert (now["notes"], now["guestEmail"], now["slotStart"]) == ("Short, please", None, booked["slotStart"])
    calendar.card("Ada Lovelace").click()
    calendar.dialog.get_by_text("History").click()
    expect(calendar.dialog.get_by_role("listitem").filter(has_text="Front desk changed this at")).to_be_visible()


def test_it_is_moved_in_the_dialog(calendar: CalendarPage, service: Service) -> None:
    """For hands that can't drag: with the warning where it is outside of the opening hours."""
    _, booked = show_booking(calendar, service)
    edit(calendar)
    calendar.dialog.get_by_label("Time").fill("19:00")
    calendar.dialog.get_by_label("With").select_option("Maria")
    calendar.dialog.get_by_label("Minutes").fill("30")
    calendar.dialog.get_by_role("button", name="Save").click()
    expect(calendar.notice).to_contain_text("outside the opening hours")
    now = read(service, booked)
    assert (clock_of(now["slotStart"]), clock_of(now["slotEnd"]), now["resourceId"]) == ("19:00", "19:30", "maria")


def test_another_service_has_the_length_that_was_entered(calendar: CalendarPage, service: Service) -> None:
    """Also the length of the former service, in a new booking and in a change."""
    day = own_day(service)
    book(service, day, 10)
    calendar.show(day)
    minutes = calendar.dialog.get_by_label("Minutes")

    def save_as(name: str) -> None:
        before = minutes.input_value()
        calendar.dialog.get_by_label("Service").select_option(name)
        expect(minutes).not_to_have_value(before)
        minutes.fill(before)
        calendar.dialog.get_by_role("button", name="Save").click()

    calendar.card("Ada Lovelace").click()
    calendar.dialog.get_by_text("Change or move").click()
    save_as("Colouring")
    expect(calendar.notice).to_contain_text("10:45, Ada Lovelace, Colouring")
    calendar.column("Maria").get_by_role("button", name="Book Maria").press("Enter")
    calendar.dialog.get_by_label("Time").fill("14:00")
    save_as("Colouring")
    expect(calendar.notice).to_contain_text("14:45, Colouring, Maria")


@pytest.mark.parametrize("field", ["Date", "Time", "Minutes", "Guests"])
def test_a_field_that_was_cleared_is_a_fault(calendar: CalendarPage, service: Service, field: str) -> None:
    """The slot has no default: nothing is saved, and nothing says that it were."""
    _, booked = show_booking(calendar, service)
    edit(calendar)
    cleared = calendar.dialog.get_by_label(field, exact=True)
    cleared.fill("")
    calendar.dialog.get_by_role("button", name="Save").click()
    expect(cleared).to_have_accessible_description("Please fill this in.")
    expect(cleared).to_be_focused()
    expect(calendar.notice).to_be_empty()
    assert read(service, booked)["version"] == 1


def test_a_button_that_is_pressed_twice_changes_once(calendar: CalendarPage, service: Service) -> None:
    """The second press is no change of a version that the first one has made old."""
    begun = datetime.now(ZONE) - timedelta(hours=1)
    booked = book(service, begun.date(), begun.hour, resourceId="maria", guestName="Twice Pressed")
    calendar.show(begun.date())
    calendar.card("Twice Pressed").click()
    calendar.dialog.get_by_role("button", name="Did not come").dblclick()
    expect(calendar.notice).to_contain_text("Saved")
    assert read(service, booked)["version"] == 2
    expect(calendar.notice.get_by_role("button", name="Make my change")).to_have_count(0)


def test_a_history_is_that_of_the_appointment_in_view(calendar: CalendarPage, service: Service) -> None:
    """Where it can't be read, the reason stands there, and not the history of the appointment before."""
    day = own_day(service)
    book(service, day, 10)
    book(service, day, 11, guestName="Grace Hopper")
    calendar.show(day)
    history = calendar.dialog.locator("#history li")
    calendar.card("Ada Lovelace").click()
    calendar.dialog.get_by_text("History").click()
    expect(history).to_have_text([re.compile("booked this at")])
    calendar.press("Escape")
    calendar.page.route("**/audit*", lambda route: route.abort())
    calendar.card("Grace Hopper").click()
    calendar.dialog.get_by_text("History").click()
    expect(history).to_have_text([re.compile("can't be reached")])


def test_the_focus_stays_in_a_form_that_failed(calendar: CalendarPage, service: Service) -> None:
    """At the button that was pressed, which is disabled meanwhile."""
    show_booking(calendar, service)
    edit(calendar)
    calendar.dialog.get_by_label("Notes").fill("Short, please")
    save = calendar.dialog.get_by_role("button", name="Save")
    delayed: list[Route] = []
    calendar.page.route(f"**{APPOINTMENTS}/*", lambda route: delayed.append(route))
    with calendar.page.expect_request(f"**{APPOINTMENTS}/*"):
        save.press("Enter")
    # Without a button the focus is at the body, once the page is drawn.
    calendar.page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    delayed[0].fulfill(status=500, json={"code": "INTERNAL_ERROR"})
    expect(calendar.dialog.get_by_role("alert").filter(has_text="INTERNAL_ERROR")).to_be_visible()
    expect(save).to_be_focused()


def test_it_is_cancelled_with_a_reason(calendar: CalendarPage, service: Service) -> None:
    """It leaves the calendar, and its place is free."""
    _, booked = show_booking(calendar, service)
    cancel(calendar, "Rosa is ill")
    expect(calendar.dialog).to_be_hidden()
    expect(calendar.card("Ada Lovelace")).to_have_count(0)
    # Its button is gone, and the page does not begin anew at its top.
    expect(calendar.page.locator("#grid")).to_be_focused()
    now = read(service, booked)
    assert (now["status"], now["cancellationReason"]) == ("cancelled", "Rosa is ill")


def test_a_guest_who_did_not_come_and_the_way_back(calendar: CalendarPage, service: Service) -> None:
    """Also completed. Neither is offered before the start."""
    begun = datetime.now(ZONE) - timedelta(hours=1)
    booked = book(service, begun.date(), begun.hour, guestName="Nobody Came")
    calendar.show(begun.date())
    for press, status in (("Did not come", "no_show"), ("Confirmed again", "confirmed"), ("Completed", "completed")):
        calendar.card("Nobody Came").click()
        calendar.dialog.get_by_role("button", name=press).click()
        expect(calendar.dialog).to_be_hidden()
        assert read(service, booked)["status"] == status
    expect(calendar.card("Nobody Came")).to_contain_text("completed")
    # Its time may be taken meanwhile, and there is no other for an appointment that has ended.
    book(service, begun.date(), begun.hour, guestName="A stand-in")
    calendar.card("Nobody Came").click()
    calendar.dialog.get_by_role("button", name="Confirmed again").click()
    expect(calendar.dialog.get_by_role("alert").filter(visible=True)).to_have_text("That time is taken.")
    expect(calendar.notice.get_by_role("button", name="Rosa")).to_have_count(0)
    calendar.dialog.get_by_role("button", name="Close").click()
    show_booking(calendar, service)
    calendar.card("Ada Lovelace").click()
    expect(calendar.dialog.get_by_role("button", name="Did not come")).to_have_count(0)


def test_a_free_place_is_booked_by_the_keys(calendar: CalendarPage, service: Service) -> None:
    """The arrows choose the time, and Enter opens the form with it. Faults stand at their fields."""
    day = own_day(service)
    calendar.show(day)
    free = calendar.column("Maria").get_by_role("button", name="Book Maria")
    free.focus()
    calendar.press("ArrowDown", "ArrowDown")
    expect(free).to_have_accessible_name("Book Maria, 09:30")
    calendar.press("Enter")
    expect(calendar.dialog.get_by_label("Time")).to_have_value("09:30")
    expect(calendar.dialog.get_by_label("With")).to_have_value("maria")
    calendar.dialog.get_by_label("Name").fill("Emmy Noether")
    calendar.dialog.get_by_label("E-mail").fill("no address")
    calendar.dialog.get_by_label("Phone").fill("call me")
    calendar.dialog.get_by_role("button", name="Save").click()
    email, phone = calendar.dialog.get_by_label("E-mail"), calendar.dialog.get_by_label("Phone")
    expect(email).to_have_accessible_description("This is no e-mail address.")
    expect(email).to_have_accessible_name("E-mail")
    expect(email).to_be_focused()
    expect(phone).to_have_accessible_description("must not contain letters: write it like +49 30 1234567")
    assert serious_faults(calendar.page) == []
    phone.fill("")
    calendar.dialog.get_by_label("E-mail").fill("emmy@example.com")
    calendar.dialog.get_by_role("button", name="Save").click()
    expect(calendar.card_at("09:30", "Emmy Noether, Haircut, Maria, confirmed")).to_be_focused()


def test_a_free_place_is_booked_by_the_pointer(calendar: CalendarPage, service: Service) -> None:
    """The form has the time and the column that were pressed."""
    calendar.show(own_day(service))
    zone = box_of(calendar.column("Maria").locator(".zone"))
    # The hours of the day begin at 8:00, with 72 pixels for each.
    calendar.page.mouse.click(zone["x"] + 40, zone["y"] + (3.25 + 0.1) * 72)
    expect(calendar.dialog.get_by_label("Time")).to_have_value("11:15")
    expect(calendar.dialog.get_by_label("With")).to_have_value("maria")


def test_a_new_booking_is_on_the_date_in_view(calendar: CalendarPage, service: Service) -> None:
    """At the next quarter of an hour, also when that is after midnight."""
    day = own_day(service)
    calendar.show(day)
    for now, time in ((at(day, 9.1), "09:15"), (at(day, 23.9), "23:45")):
        calendar.page.clock.set_fixed_time(now)
        calendar.page.get_by_role("button", name="New booking").click()
        expect(calendar.dialog.get_by_label("Date")).to_have_value(day.isoformat())
        expect(calendar.dialog.get_by_label("Time")).to_have_value(time)
        calendar.press("Escape")


def test_a_business_without_services_has_nothing_to_book(open_page: Open, service: Service) -> None:
    """The button says so."""
    settings = {"name": "The new one", "slug": "brand-new", "timezone": "Europe/Berlin"}
    service.call("PUT", "/api/catalog/businesses/brand-new", settings)
    page = open_page("/calendar")
    calendar = sign_in(page, "brand-new", key_of(service, "staff", "brand-new"))
    page.get_by_role("button", name="New booking").click()
    expect(calendar.notice).to_contain_text("There is no service to book here.")
    expect(calendar.notice).to_be_focused()


def test_a_page_without_https_books_and_closes(open_page: Open, service: Service) -> None:
    """As in a network of one house, where browsers have no randomUUID."""
    day = own_day(service)
    page = open_page("/")
    page.add_init_script("delete Crypto.prototype.randomUUID")
    page.goto(f"{service.url}/calendar")
    calendar = sign_in(page, "salon", key_of(service, "owner"))
    calendar.show(day)
    page.get_by_role("button", name="New booking").click()
    calendar.dialog.get_by_label("Name").fill("Ada Lovelace")
    calendar.dialog.get_by_role("button", name="Save").click()
    expect(calendar.notice).to_contain_text("Booked:")
    page.get_by_role("button", name="Closures").click()
    calendar.dialog.get_by_role("button", name="Close then").click()
    expect(calendar.dialog.get_by_role("status")).to_contain_text("One appointment stays")
    calendar.dialog.get_by_role("button", name="Remove").click()
    expect(calendar.dialog.get_by_text("None from now on")).to_be_visible()


def test_a_booking_whose_answer_was_lost_is_made_once(calendar: CalendarPage, service: Service) -> None:
    """It is sent again under the same key."""
    day = own_day(service)
    calendar.show(day)
    calendar.page.get_by_role("button", name="New booking").click()
    calendar.dialog.get_by_label("Service").select_option("Colouring")
    calendar.dialog.get_by_label("Time").fill("13:00")
    calendar.dialog.get_by_label("Name").fill("Lise Meitner")
    calls = lose_first_answer(calendar, f"**{APPOINTMENTS}")
    calendar.dialog.get_by_role("button", name="Save").click()
    expect(calendar.notice).to_contain_text("Booked")
    first, second = (call.request.headers["idempotency-key"] for call in calls)
    assert first == second
    listed = listed_on(service, day.isoformat())
    assert [(one["guestName"], one["serviceId"]) for one in listed] == [("Lise Meitner", "colouring")]


def test_two_guests_without_a_name_are_two_bookings(calendar: CalendarPage, service: Service) -> None:
    """The second one is no repetition of the first, which was answered."""
    day = own_day(service)
    calendar.show(day)
    for number in (1, 2):
        calendar.page.get_by_role("button", name="New booking").click()
        calendar.dialog.get_by_label("Service").select_option("Styling class")
        calendar.dialog.get_by_label("Time").fill("13:00")
        calendar.dialog.get_by_role("button", name="Save").click()
        expect(calendar.notice).to_contain_text("Booked")
        calendar.notice.get_by_role("button").click()
        assert len(listed_on(service, day.isoformat())) == number


@pytest.mark.parametrize("is_again", [False, True], ids=["repeated_by_the_page", "repeated_by_hand"])
def test_a_change_whose_answer_was_lost_is_no_conflict(
    calendar: CalendarPage, service: Service, is_again: bool
) -> None:
    """The page repeats it, or its user does with more: the first attempt has changed the appointment already."""
    _, booked = show_booking_without_news(calendar, service)
    attempts = []

    def lose(route: Route) -> None:
        attempts.append(json.loads(route.request.post_data or "")["expectedVersion"])
        if len(attempts) == 1:
            route.fetch()
        if len(attempts) <= (3 if is_again else 1):
            route.abort()
        else:
            route.fallback()

    calendar.page.route(
        re.compile(f"{APPOINTMENTS}/[^/]*$"), lambda r: lose(r) if r.request.method == "PATCH" else r.fallback()
    )
    edit(calendar)
    calendar.dialog.get_by_label("Phone").fill("030 901820")
    calendar.dialog.get_by_role("button", name="Save").click()
    if is_again:
        expect(calendar.dialog.get_by_role("alert").first).to_contain_text("can't be reached")
        calendar.dialog.get_by_label("Notes").fill("Came by phone")
        calendar.dialog.get_by_role("button", name="Save").click()
    expect(calendar.notice).to_contain_text("Saved")
    expect(calendar.notice).not_to_have_class(re.compile("bad"))
    now = read(service, booked)
    assert (now["version"], now["notes"]) == ((3, "Came by phone") if is_again else (2, None))
    assert attempts == ([1, 1, 1, 1, 2] if is_again else [1, 1, 2])


def test_a_change_of_another_person_after_one_whose_answer_was_lost_is_a_conflict(
    calendar: CalendarPage, service: Service
) -> None:
    """Also where it is made while the page reads who changed the appointment."""
    _, booked = show_booking_without_news(calendar, service)
    lost: list[object] = []

    def answer(route: Route) -> None:
        if route.request.method == "PATCH" and not lost:
            lost.append(route.fetch())
            route.abort()
            return
        if route.request.method == "GET":
            # Whatever else the page asks for is answered first.
            sleep(0.5)
            path = f"{APPOINTMENTS}/{booked['appointmentId']}?businessId=salon"
            service.call("PATCH", path, {"guestPhone": "+4930901821", "expectedVersion": 2})
        route.fallback()

    calendar.page.route(re.compile(f"{APPOINTMENTS}/[^/]*$"), answer)
    edit(calendar)
    calendar.dialog.get_by_label("Phone").fill("030 901820")
    calendar.dialog.get_by_role("button", name="Save").click()
    expect(calendar.notice.get_by_role("button", name="Make my change all the same")).to_be_visible()
    assert read(service, booked)["guestPhone"] == "+4930901821"


def test_a_cancellation_whose_answer_was_lost_is_made_once(calendar: CalendarPage, service: Service) -> None:
    """It is sent again, and keeps its reason."""
    _, booked = show_booking(calendar, service)
    lose_first_answer(calendar, "**/cancel?*")
    cancel(calendar, "Ill")
    expect(calendar.notice).to_contain_text("Saved")
    now = read(service, booked)
    assert (now["status"], now["cancellationReason"], now["version"]) == ("cancelled", "Ill", 2)


def test_nights_are_booked_in_their_row(open_page: Open, service: Service) -> None:
    """From the service's own time on, for as many as are chosen."""
    day = own_day(service)
    calendar = open_calendar(open_page, service, business="hotel")
    calendar.show(day, "Week")
    row = calendar.column("Room 21")
    row.get_by_role("button", name="Book Room 21").focus()
    calendar.press("ArrowRight", "Enter")
    calendar.dialog.get_by_label("Days or nights").fill("3")
    calendar.dialog.get_by_label("Name").fill("The Curies")
    calendar.dialog.get_by_role("button", name="Save").click()
    expect(row.get_by_role("button", name="The Curies")).to_be_visible()
    [booked] = service.call("GET", f"{APPOINTMENTS}?businessId=hotel&from={day}T00:00Z&to={day + timedelta(1)}T00:00Z")[
        "items"
    ]
    assert (clock_of(booked["slotStart"]), clock_of(booked["slotEnd"])) == ("15:00", "11:00")
    nights = datetime.fromisoformat(booked["slotEnd"]).date() - datetime.fromisoformat(booked["slotStart"]).date()
    assert nights.days == 3


def test_a_stay_begins_at_the_time_of_the_service_that_is_chosen(open_page: Open, service: Service) -> None:
    """In a business that has services by the hour, too."""
    business = "/api/catalog/businesses/spa"
    service.call("PUT", business, {"name": "Spa", "slug": "spa", "timezone": "Europe/Berlin"})
    service.call("PUT", f"{business}/services/bath", {"name": "Bath", "durationMinutes": 60})
    nights = {"name": "Night", "durationDays": 1, "startTimes": ["15:05"], "endTime": "11:00"}
    service.call("PUT", f"{business}/services/night", nights)
    calendar = open_calendar(open_page, service, business="spa")
    calendar.page.get_by_role("button", name="New booking").click()
    calendar.dialog.get_by_label("Service").select_option("Night")
    expect(calendar.dialog.get_by_label("Time")).to_have_value("15:05")


def test_what_others_book_appears_by_itself(calendar: CalendarPage, service: Service) -> None:
    """A hold with the time that it has left, then the appointment that it becomes."""
    day = own_day(service)
    calendar.show(day)
    slot = {"businessId": "salon", "serviceId": "haircut", "slotStart": at(day, 10), "resourceId": "rosa"}
    held = service.call("POST", "/api/booking/reserve", slot)
    hold = calendar.column("Rosa").get_by_role("img", name="Held")
    expect(hold).to_contain_text("Held, 14:")
    assert hold.evaluate("card => getComputedStyle(card).borderStyle") == "dashed"
    assert serious_faults(calendar.page) == []
    guest: dict[str, Any] = {"guestName": "Hedy Lamarr", "guestEmail": "hedy@example.com"}
    service.call("POST", "/api/booking/commit", {"reservationId": held["reservationId"]} | guest)
    expect(calendar.card("Hedy Lamarr")).to_be_visible()
    expect(hold).to_have_count(0)


def test_hours_that_others_change_appear_by_themselves(calendar: CalendarPage, service: Service) -> None:
    """Special hours of the business, and a closure of one resource; on Saturdays Maria's own hours close her."""
    day = own_day(service)
    calendar.show(day)
    catalog = "/api/catalog/businesses/salon"
    special = {"date": str(day), "hours": [{"opens": "09:00", "closes": "11:00"}]}
    service.call("PUT", f"{catalog}/special-hours/inventory", special)
    expect(calendar.column("Rosa")).to_contain_text("09:00–11:00")  # noqa: RUF001 — as the page writes it
    service.call("PUT", f"{catalog}/closures/course", {"date": str(day), "resourceId": "maria", "reason": "Course"})
    expect(calendar.column("Maria").locator(".closure")).to_have_text("Course")
    expect(calendar.column("Maria")).to_contain_text("Closed")
    calendar.show(day + timedelta(4))
    expect(calendar.column("Maria")).to_contain_text("Closed")
    expect(calendar.column("Rosa")).to_contain_text("09:00")
    for entry in ("special-hours/inventory", "closures/course"):
        service.call("DELETE", f"{catalog}/{entry}")


def test_a_hidden_calendar_has_no_connection(calendar: CalendarPage, service: Service) -> None:
    """Seen again, it shows what others did meanwhile."""
    day = own_day(service)
    calendar.show(day)
    wait_until(lambda: service.open_streams() == 1, "the stream")
    become(calendar.page, hidden=True)
    wait_until(lambda: service.open_streams() == 0, "the end of the stream")
    book(service, day, 10)
    become(calendar.page, hidden=False)
    expect(calendar.card("Ada Lovelace")).to_be_visible()


def test_a_slow_move_says_that_it_waits(calendar: CalendarPage, service: Service) -> None:
    """Until it is answered: nothing else on the page would show that it is under way."""
    show_booking(calendar, service)
    waiting: list[Route] = []
    calendar.page.route(f"**{APPOINTMENTS}/*", lambda route: waiting.append(route))
    calendar.card("Ada Lovelace").focus()
    calendar.press("ArrowDown", "Enter")
    expect(calendar.page.locator("#status")).to_have_text("Waiting for an answer …")
    waiting.pop().continue_()
    expect(calendar.notice).to_contain_text("Saved")
    expect(calendar.page.locator("#status")).to_be_empty()


def test_a_lost_network_is_shown(calendar: CalendarPage, service: Service) -> None:
    """The appointment is back at its place, and the calendar is loaded again when the network is back."""
    show_booking(calendar, service)
    calendar.card("Ada Lovelace").focus()
    calendar.page.context.set_offline(True)
    calendar.press("ArrowDown", "Enter")
    expect(calendar.notice).to_contain_text("can't be reached")
    expect(calendar.card_at("10:00", "Ada Lovelace")).to_be_visible()
    calendar.page.context.set_offline(False)
    expect(calendar.page.locator("#status")).to_be_empty()


def listed_on(service: Service, day: str) -> list[dict[str, Any]]:
    """Returns the appointments of the salon on a day."""
    found = service.call("GET", f"{APPOINTMENTS}?businessId=salon&from={day}T00:00Z&to={day}T23:59Z")
    items: list[dict[str, Any]] = found["items"]
    return items
