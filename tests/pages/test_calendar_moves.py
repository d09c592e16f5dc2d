"""The calendar page: moves by the keys and the pointer, and what stands in their way."""

import re
from datetime import date, datetime, timedelta

import pytest
from playwright.sync_api import Route, expect

from tests.pages.calendars import (
    APPOINTMENTS,
    CalendarPage,
    at,
    book,
    box_of,
    clock_of,
    drag,
    key_of,
    open_calendar,
    own_day,
    read,
    show_booking,
    show_booking_without_news,
)
from tests.pages.conftest import Open, Service, serious_faults


def book_meanwhile(calendar: CalendarPage, service: Service, day: date, hour: int) -> None:
    """Books for Grace elsewhere, and returns when the page has read that."""
    with calendar.page.expect_response(f"**{APPOINTMENTS}?*") as read_again:
        book(service, day, hour, guestName="Grace Hopper")
    read_again.value.finished()
    # The answer is handled before a later one.
    calendar.page.evaluate("fetch('health/live').then((answer) => answer.text())")


def test_it_is_moved_by_the_keys(calendar: CalendarPage, service: Service) -> None:
    """By the step of the service with the arrows, to the column beside, and dropped with Enter."""
    _, booked = show_booking(calendar, service)
    calendar.card("Ada Lovelace").focus()
    calendar.press("ArrowDown", "ArrowDown", "ArrowRight")
    expect(calendar.page.get_by_role("status")).to_contain_text("Maria")
    calendar.press("Enter")
    expect(calendar.notice).to_contain_text("Saved")
    expect(calendar.column("Maria").get_by_role("button", name="Ada Lovelace")).to_be_focused()
    now = read(service, booked)
    assert (clock_of(now["slotStart"]), now["resourceId"], now["version"]) == ("10:30", "maria", 2)


def test_a_move_that_is_answered_late_leaves_a_form_open(calendar: CalendarPage, service: Service) -> None:
    """With what was typed meanwhile, for another guest. The outcome stands above the calendar."""
    show_booking(calendar, service)
    waiting: list[Route] = []
    calendar.page.route(f"**{APPOINTMENTS}/*", lambda route: waiting.append(route))
    calendar.card("Ada Lovelace").focus()
    with calendar.page.expect_request(f"**{APPOINTMENTS}/*"):
        calendar.press("ArrowDown", "Enter")
    calendar.page.get_by_role("button", name="New booking").click()
    name = calendar.page.locator("#entry [name=guestName]")
    name.fill("Grace Hopper")
    waiting.pop().continue_()
    expect(calendar.notice).to_contain_text("Saved")
    expect(name).to_be_visible()
    expect(name).to_have_value("Grace Hopper")


@pytest.mark.parametrize("day", [date(2027, 3, 28), date(2027, 10, 31)], ids=["spring", "autumn"])
def test_it_is_moved_on_a_day_whose_clock_changes(calendar: CalendarPage, service: Service, day: date) -> None:
    """By the time on the clock."""
    booked = book(service, day, 10)
    calendar.show(day)
    expect(calendar.card_at("10:00", "Ada Lovelace")).to_be_visible()
    calendar.card("Ada Lovelace").focus()
    calendar.press("ArrowDown", "Enter")
    expect(calendar.card_at("10:15", "Ada Lovelace")).to_be_visible()
    assert clock_of(read(service, booked)["slotStart"]) == "10:15"


def test_a_start_that_the_clock_shows_twice_stays(calendar: CalendarPage, service: Service) -> None:
    """Whichever of the two it is, if another length or person is chosen."""
    day = date(2027, 10, 31)
    guests = {"Castor": "2027-10-31T00:30:00.000Z", "Pollux": "2027-10-31T01:30:00.000Z"}
    ends = ["2027-10-31T01:00:00.000Z", "2027-10-31T02:00:00.000Z"]
    for (guest, start), end in zip(guests.items(), ends, strict=True):
        booked = book(service, day, 0, slotStart=start, guestName=guest)
        calendar.show(day)
        calendar.card(guest).click()
        calendar.dialog.get_by_text("Change or move").click()
        calendar.dialog.get_by_label("Minutes").fill("30")
        calendar.dialog.get_by_role("button", name="Save").click()
        expect(calendar.notice).to_contain_text(f"{guest}, Haircut, Rosa")
        calendar.card(guest).focus()
        calendar.press("ArrowRight", "Enter")
        expect(calendar.notice).to_contain_text(f"{guest}, Haircut, Maria")
        now = read(service, booked)
        assert (now["slotStart"], now["slotEnd"]) == (start, end)


def test_a_move_by_the_keys_can_be_left(calendar: CalendarPage, service: Service) -> None:
    """Escape, or leaving the appointment, puts it back."""
    _, booked = show_booking(calendar, service)
    for leave in ("Escape", "Tab"):
        calendar.card("Ada Lovelace").focus()
        calendar.press("ArrowDown", leave)
        expect(calendar.page.get_by_role("status")).to_have_text("Not moved")
        expect(calendar.card_at("10:00", "Ada Lovelace")).to_be_visible()
    assert read(service, booked)["version"] == 1


def test_a_move_by_the_keys_goes_on_while_others_book(calendar: CalendarPage, service: Service) -> None:
    """The words that say where it is and how to end stay in view."""
    day, _ = show_booking(calendar, service)
    calendar.card("Ada Lovelace").focus()
    calendar.press("ArrowDown")
    book_meanwhile(calendar, service, day, 15)
    expect(calendar.page.locator("#status")).to_contain_text("Enter: move here")
    calendar.press("Escape")
    expect(calendar.card("Grace Hopper")).to_be_visible()


@pytest.mark.parametrize("element", ["card", "free place"])
def test_a_press_counts_while_others_book(calendar: CalendarPage, service: Service, element: str) -> None:
    """The pressed element stays until the button of the mouse is let go, and the news is drawn then."""
    day, _ = show_booking(calendar, service)
    place = box_of(calendar.card("Ada Lovelace"))
    down = {"card": 10, "free place": 2.5 * 72}[element]
    calendar.page.mouse.move(place["x"] + 20, place["y"] + down)
    calendar.page.mouse.down()
    book_meanwhile(calendar, service, day, 16)
    expect(calendar.card("Grace Hopper")).to_have_count(0)
    calendar.page.mouse.up()
    expect(calendar.dialog).to_be_visible()
    expect(calendar.page.locator(".item", has_text="Grace Hopper")).to_be_attached()


def test_the_news_is_drawn_where_the_end_of_a_press_is_not_told(calendar: CalendarPage, service: Service) -> None:
    """As where another window takes the mouse: the next move without a button ends the press."""
    day, _ = show_booking(calendar, service)
    calendar.card("Ada Lovelace").dispatch_event("pointerdown", {"button": 0, "buttons": 1, "bubbles": True})
    book_meanwhile(calendar, service, day, 16)
    expect(calendar.card("Grace Hopper")).to_have_count(0)
    calendar.page.mouse.move(1, 1)
    expect(calendar.card("Grace Hopper")).to_be_visible()


def test_a_drag_that_the_browser_ends_is_left(calendar: CalendarPage, service: Service) -> None:
    """As where a pen scrolls the page: it is back at its place, and the calendar goes on."""
    day, booked = show_booking(calendar, service)
    card = box_of(calendar.card("Ada Lovelace"))
    drag(calendar.page, (card["x"] + 20, card["y"] + 10), (card["x"] + 20, card["y"] + 80))
    expect(calendar.page.locator(".moving")).to_have_count(1)
    calendar.page.evaluate("dispatchEvent(new PointerEvent('pointercancel'))")
    expect(calendar.page.locator(".moving")).to_have_count(0)
    calendar.page.mouse.up()
    book(service, day, 15, guestName="Grace Hopper")
    expect(calendar.card("Grace Hopper")).to_be_visible()
    assert read(service, booked)["version"] == 1


@pytest.mark.parametrize("direction", ["ltr", "rtl"])
def test_it_is_dragged(calendar: CalendarPage, service: Service, direction: str) -> None:
    """To another hour and another person, in both writing directions."""
    day = own_day(service)
    booked = book(service, day, 10)
    calendar.page.evaluate("direction => document.documentElement.dir = direction", direction)
    calendar.show(day)
    card = box_of(calendar.card("Ada Lovelace"))
    target = box_of(calendar.column("Maria"))
    x, y = target["x"] + 40, card["y"]
    drag(calendar.page, (card["x"] + 20, y + 10), (x, y + 40), (x, y + 10 + 72))
    calendar.page.mouse.up()
    expect(calendar.notice).to_contain_text("Saved")
    now = read(service, booked)
    assert (clock_of(now["slotStart"]), now["resourceId"]) == ("11:00", "maria")


@pytest.mark.parametrize(("direction", "forward"), [("ltr", "ArrowRight"), ("rtl", "ArrowLeft")])
def test_a_day_booking_is_moved_by_days(open_page: Open, service: Service, direction: str, forward: str) -> None:
    """Along its row, to the same time of another day, and to another room: by the keys, and back by the pointer."""
    day = own_day(service)
    booked = book(service, day, 15, businessId="hotel", serviceId="double", resourceId="room-11")
    calendar = open_calendar(open_page, service, business="hotel")
    calendar.page.evaluate("direction => document.documentElement.dir = direction", direction)
    calendar.show(day, "Week")
    before = box_of(calendar.card("Ada Lovelace"))
    calendar.card("Ada Lovelace").focus()
    calendar.press(forward, forward, "ArrowDown", "Enter")
    expect(calendar.notice).to_contain_text("Saved")
    now = read(service, booked)
    assert now["resourceId"] == "room-12"
    assert datetime.fromisoformat(now["slotStart"]) == datetime.fromisoformat(at(day + timedelta(2), 15))
    assert datetime.fromisoformat(now["slotEnd"]) == datetime.fromisoformat(at(day + timedelta(3), 11))
    calendar.notice.get_by_role("button", name="Close").click()
    after = box_of(calendar.card("Ada Lovelace"))
    drag(calendar.page, (after["x"] + 20, after["y"] + 10), (before["x"] + 20, before["y"] + 10))
    calendar.page.mouse.up()
    expect(calendar.notice).to_contain_text("Saved")
    now = read(service, booked)
    assert (now["slotStart"], now["resourceId"]) == (booked["slotStart"], "room-11")


def test_a_day_is_changed_and_moved_where_midnight_is_skipped(open_page: Open, service: Service) -> None:
    """In Santiago the clock goes from 00:00 to 01:00 on 5 September: the day before ends then, and is one day."""
    business = "/api/catalog/businesses/chile"
    service.call("PUT", business, {"name": "Chile", "slug": "chile", "timezone": "America/Santiago"})
    service.call("PUT", f"{business}/services/van", {"name": "Van", "durationDays": 1})
    members = {"businessId": "chile", "serviceId": "van", "resourceId": None}
    booked = book(service, date(2027, 9, 4), 0, slotStart="2027-09-04T04:00Z", **members)
    calendar = open_calendar(open_page, service, business="chile")
    calendar.show(date(2027, 9, 4), "Week")
    calendar.card("Ada Lovelace").click()
    calendar.dialog.get_by_text("Change or move").click()
    days = calendar.dialog.get_by_label("Days or nights")
    expect(days).to_have_value("1")
    days.fill("2")
    calendar.dialog.get_by_role("button", name="Save").click()
    expect(calendar.notice).to_contain_text("Saved")
    assert read(service, booked)["slotEnd"] == "2027-09-06T03:00:00.000Z"
    calendar.notice.get_by_role("button", name="Close").click()
    calendar.card("Ada Lovelace").focus()
    calendar.press("ArrowRight", "Enter")
    expect(calendar.notice).to_contain_text("Saved")
    now = read(service, booked)
    assert (now["slotStart"], now["slotEnd"]) == ("2027-09-05T04:00:00.000Z", "2027-09-07T03:00:00.000Z")


def test_a_conflict_names_its_author(calendar: CalendarPage, service: Service) -> None:
    """It names the author, the change and the present state, and the own change can be made again."""
    day, booked = show_booking_without_news(calendar, service)
    expect(calendar.card("Ada Lovelace")).to_be_visible()
    maria = {"Authorization": f"Bearer {key_of(service, 'owner', name='Maria')}"}
    moved = {"expectedVersion": 1, "slotStart": at(day, 15)}
    service.call("PATCH", f"{APPOINTMENTS}/{booked['appointmentId']}", moved, **maria)
    calendar.card("Ada Lovelace").focus()
    calendar.press("ArrowDown", "Enter")
    expect(calendar.notice).to_contain_text("Maria moved this to")
    expect(calendar.notice).to_contain_text("15:00")
    expect(calendar.notice).to_contain_text("your change was not saved")
    expect(calendar.notice).to_be_focused()
    expect(calendar.card_at("15:00", "Ada Lovelace")).to_be_visible()
    assert read(service, booked)["version"] == 2
    assert serious_faults(calendar.page) == []
    calendar.notice.get_by_role("button", name="Make my change").click()
    expect(calendar.card_at("10:15", "Ada Lovelace")).to_be_visible()
    assert read(service, booked)["version"] == 3


def test_a_length_is_changed_again_after_a_move_of_others(calendar: CalendarPage, service: Service) -> None:
    """From the new start on."""
    day, booked = show_booking_without_news(calendar, service)
    path = f"{APPOINTMENTS}/{booked['appointmentId']}"
    service.call("PATCH", path, {"expectedVersion": 1, "slotStart": at(day, 9)})
    calendar.card("Ada Lovelace").click()
    calendar.dialog.get_by_text("Change or move").click()
    calendar.dialog.get_by_label("Minutes").fill("90")
    calendar.dialog.get_by_role("button", name="Save").click()
    calendar.notice.get_by_role("button", name="Make my change all the same").click()
    expect(calendar.notice).to_contain_text("Saved")
    now = read(service, booked)
    assert (clock_of(now["slotStart"]), clock_of(now["slotEnd"])) == ("09:00", "10:30")


def test_a_move_to_a_taken_time_offers_others(calendar: CalendarPage, service: Service) -> None:
    """It stays where it was, and one press moves it to a free time, with the person that the button names."""
    day = own_day(service)
    booked = book(service, day, 10)
    book(service, day, 11, guestName="Grace Hopper")
    calendar.show(day)
    calendar.card("Ada Lovelace").focus()
    calendar.press(*["ArrowDown"] * 4, "Enter")
    expect(calendar.notice).to_contain_text("That time is taken")
    expect(calendar.card_at("10:00", "Ada Lovelace")).to_be_visible()
    calendar.notice.get_by_role("button", name=re.compile("11:00, Maria$")).click()
    expect(calendar.notice).to_contain_text("Saved")
    now = read(service, booked)
    assert (now["version"], clock_of(now["slotStart"]), now["resourceId"]) == (2, "11:00", "maria")


def test_another_time_has_the_length_that_was_wanted(open_page: Open, service: Service) -> None:
    """A longer stay that has no room is offered at other times, and not the former stay."""
    day = own_day(service)
    stay = {"businessId": "hotel", "serviceId": "family", "resourceId": None}
    booked = book(service, day, 15, **stay)
    book(service, day + timedelta(2), 15, guestName="Grace Hopper", **stay)
    calendar = open_calendar(open_page, service, business="hotel")
    calendar.show(day, "Week")
    calendar.card("Ada Lovelace").click()
    calendar.dialog.get_by_text("Change or move").click()
    calendar.dialog.get_by_label("Days or nights").fill("3")
    calendar.dialog.get_by_role("button", name="Save").click()
    expect(calendar.notice).to_contain_text("That time is taken")
    calendar.notice.get_by_role("button", name="15:00, Room 21").first.click()
    expect(calendar.notice).to_contain_text("Saved")
    now = read(service, booked)
    nights = datetime.fromisoformat(now["slotEnd"]).date() - datetime.fromisoformat(now["slotStart"]).date()
    assert nights.days == 3
