"""The calendar page: the day and the week, closures."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
from playwright.sync_api import Route, expect

from service.api.pages import FOLDER
from service.booking.appointments import Status, WarningCode
from service.booking.keys import Role
from tests.pages.calendars import APPOINTMENTS, at, book, box_of, key_of, open_calendar, own_day, read, sign_in
from tests.pages.conftest import (
    DESKTOP,
    PHONE,
    SMALLEST_PHONE,
    Open,
    Service,
    is_narrow,
    let_pass,
    serious_faults,
)

SCREENSHOTS = Path(__file__).parent / "screenshots"
SCHEMES = ("light", "dark")


def test_each_code_of_the_service_has_words() -> None:
    """A warning, a status or a role without a text would stop the page."""
    codes = {"code": get_args(WarningCode), "status": get_args(Status), "role": (*get_args(Role), "admin")}
    known = json.loads((Path(str(FOLDER)) / "en.json").read_text(encoding="utf-8"))["calendar"]
    assert [f"{kind}_{code}" for kind, named in codes.items() for code in named if f"{kind}_{code}" not in known] == []


def test_a_date_is_typed(open_page: Open, service: Service) -> None:
    """A week that begins on another date is shown meanwhile, and years such as 0002 are passed on the way."""
    calendar = open_calendar(open_page, service)
    page = calendar.page
    page.get_by_role("button", name="Week", exact=True).click()
    page.locator("#date").focus()
    # The same in all orders of day and month. Each week is shown before the next digit.
    page.keyboard.type("02022027", delay=300)
    expect(page.locator("[data-date]").first).to_have_attribute("data-date", "2027-02-01")
    expect(page.locator("#date")).to_have_value("2027-02-02")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#date")).to_have_value("2027-02-08")


def test_a_day_shows_its_columns(open_page: Open, service: Service) -> None:
    """A resource, or a service without any, each with its hours; guests of one class stand beside each other."""
    day = own_day(service)
    book(service, day, 9.5)
    book(service, day, 10, resourceId="maria", guestName="Grace Hopper", quantity=1)
    for guest in ("One", "Two"):
        book(service, day, 16, serviceId="styling-class", resourceId=None, guestName=guest, quantity=2)
    calendar = open_calendar(open_page, service)
    calendar.show(day)
    headings = calendar.page.locator("#grid h3")
    expect(headings).to_have_text(["Rosa", "Maria", "Styling class"])
    rosa = calendar.column("Rosa")
    expect(rosa).to_contain_text(re.compile("09:00.12:00, 13:00.18:30"))
    expect(rosa.get_by_role("button", name="Ada Lovelace, Haircut, Rosa, confirmed")).to_be_visible()
    expect(calendar.column("Maria").get_by_role("button", name="Grace Hopper")).to_be_visible()
    one, two = (box_of(calendar.column("Styling class").get_by_role("button", name=name)) for name in ("One", "Two"))
    assert one["x"] + one["width"] <= two["x"]
    assert one["y"] == two["y"]
    # Before the opening, the lunch break and after the closing.
    expect(rosa.locator(".shut")).to_have_count(3)
    calendar.page.get_by_label("Show").select_option("Rosa")
    expect(headings).to_have_text(["Rosa"])


def test_a_week_shows_seven_days(open_page: Open, service: Service) -> None:
    """From the first day of the visitor's week, of all or of one resource."""
    day = own_day(service)
    book(service, day, 10)
    book(service, day + timedelta(2), 10, resourceId="maria", guestName="Grace Hopper")
    calendar = open_calendar(open_page, service)
    calendar.show(day, "Week")
    expect(calendar.page.locator("#grid h3")).to_have_count(7)
    expect(calendar.page.locator("#grid h3").first).to_contain_text("Mon")
    expect(calendar.column("Tue").get_by_role("button", name="Ada Lovelace")).to_contain_text("Rosa")
    expect(calendar.column("Thu").get_by_role("button", name="Grace Hopper")).to_be_visible()
    expect(calendar.column("Sun")).to_contain_text("Closed")
    calendar.page.get_by_label("Show").select_option("Maria")
    expect(calendar.card("Grace Hopper")).to_be_visible()
    expect(calendar.card("Ada Lovelace")).to_have_count(0)
    calendar.page.get_by_role("button", name="Next").click()
    expect(calendar.card("Grace Hopper")).to_have_count(0)


def test_what_was_removed_keeps_its_name(open_page: Open, service: Service) -> None:
    """An appointment with somebody who has left, and one of a service that is not offered any more."""
    catalog = "/api/catalog/businesses/leaver"
    service.call("PUT", catalog, {"name": "The leaver", "timezone": "Europe/Berlin"})
    for resource_id, name in (("r1", "Olga"), ("r2", "Nina")):
        service.call("PUT", f"{catalog}/resources/{resource_id}", {"name": name, "kind": "staff"})
    for service_id, name, pool in (("s1", "Trim", ["r1", "r2"]), ("s2", "Perm", [])):
        members = {"name": name, "durationMinutes": 60, "resourceIds": pool}
        service.call("PUT", f"{catalog}/services/{service_id}", members)
    day = own_day(service)
    trim = book(service, day, 10, businessId="leaver", serviceId="s1", resourceId="r2")
    change = {"expectedVersion": 1, "resourceId": "r1"}
    service.call("PATCH", f"{APPOINTMENTS}/{trim['appointmentId']}", change)
    book(service, day, 10, businessId="leaver", serviceId="s2", resourceId=None, guestName="Grace Hopper")
    for entry in ("resources/r1", "services/s2"):
        service.call("DELETE", f"{catalog}/{entry}")
    calendar = open_calendar(open_page, service, business="leaver")
    calendar.show(day)
    expect(calendar.page.locator("#grid h3")).to_have_text(["Nina", "Olga", "Perm"])
    expect(calendar.column("Perm").get_by_role("button", name="Grace Hopper, Perm, confirmed")).to_be_visible()
    calendar.card("Ada Lovelace, Trim, Olga, confirmed").click()
    calendar.dialog.get_by_text("Change or move").click()
    resource = calendar.dialog.get_by_label("With")
    expect(resource.locator(":checked")).to_have_text("Olga")
    resource.select_option("any that is free")
    calendar.dialog.get_by_role("button", name="Save").click()
    expect(calendar.column("Nina").get_by_role("button", name="Ada Lovelace, Trim, Nina")).to_be_visible()
    assert read(service, trim)["resourceId"] == "r2"
    calendar.card("Ada Lovelace, Trim, Nina").click()
    calendar.dialog.get_by_text("History").click()
    expect(calendar.dialog.get_by_role("listitem").filter(has_text="moved this to Olga")).to_be_visible()


def test_each_guest_of_a_class_can_be_pressed(open_page: Open, service: Service) -> None:
    """Eight guests stand beside each other on one day of a week, whose column grows with them."""
    day = own_day(service)
    for number in range(8):
        book(service, day, 16, serviceId="styling-class", resourceId=None, guestName=f"Guest {number}")
    calendar = open_calendar(open_page, service)
    calendar.show(day, "Week")
    for number in range(8):
        assert box_of(calendar.card(f"Guest {number}"))["width"] >= 64
    assert is_narrow(calendar.page)
    calendar.page.set_viewport_size(PHONE)
    assert is_narrow(calendar.page)
    assert calendar.page.locator("#grid").evaluate("grid => grid.scrollWidth <= grid.clientWidth")


def test_appointments_of_an_hour_that_comes_twice_stand_beside_each_other(open_page: Open, service: Service) -> None:
    """The clock is put back at three o'clock: the last of them begins at the same place as the first."""
    day = date(2027, 10, 31)
    for minutes in (0, 30, 60):
        times = [datetime(2027, 10, 31, tzinfo=UTC) + timedelta(minutes=minutes + more) for more in (0, 60)]
        slot = dict(zip(("slotStart", "slotEnd"), map(datetime.isoformat, times), strict=True))
        book(service, day, 0, serviceId="styling-class", resourceId=None, guestName=f"After {minutes}", **slot)
    calendar = open_calendar(open_page, service)
    calendar.show(day)
    boxes = [box_of(calendar.card(f"After {minutes}")) for minutes in (0, 60)]
    left, right = sorted(boxes, key=lambda box: box["x"])
    assert left["x"] + left["width"] <= right["x"]


def test_dates_on_the_way_are_told_from_those_in_view(open_page: Open, service: Service) -> None:
    """What is shown is pale, until what was asked for is there."""
    day = own_day(service)
    calendar = open_calendar(open_page, service)
    calendar.show(day)
    page, drawn = calendar.page, calendar.page.locator("#drawn")
    expect(drawn).to_have_css("opacity", "1")
    page.route("**/booking/appointments?*", lambda _: None)
    page.get_by_role("button", name="Next").click()
    expect(drawn).to_have_css("opacity", "0.4")
    # The request that waits goes on.
    page.unroute_all()
    expect(drawn).to_have_css("opacity", "1")
    expect(page.locator("[data-date]").first).to_have_attribute("data-date", str(day + timedelta(1)))


def test_letters_of_double_size_fit_a_phone(open_page: Open, service: Service) -> None:
    """Nothing has to be scrolled sideways."""
    calendar = open_calendar(open_page, service, "owner", viewport=PHONE)
    calendar.page.evaluate("document.documentElement.style.fontSize = '200%'")
    calendar.show(own_day(service))
    assert is_narrow(calendar.page)


def test_nights_are_bars_over_their_days(open_page: Open, service: Service) -> None:
    """A row for each room: from the afternoon of the first day to the morning of the last."""
    day = own_day(service)
    night = {"businessId": "hotel", "serviceId": "double", "resourceId": "room-11"}
    book(service, day, 15, slotEnd=at(day + timedelta(2), 11), **night)
    book(service, day + timedelta(2), 15, guestName="Grace Hopper", **night)
    calendar = open_calendar(open_page, service, business="hotel")
    calendar.show(day, "Week")
    expect(calendar.page.locator("#tape h3")).to_have_text(["Room 11", "Room 12", "Room 21"])
    zone = box_of(calendar.column("Room 11").locator(".zone"))
    first, second = (box_of(calendar.card(name)) for name in ("Ada Lovelace", "Grace Hopper"))
    day_width = zone["width"] / 7
    assert first["x"] == pytest.approx(zone["x"] + (1 + 15 / 24) * day_width, abs=3)
    assert first["width"] == pytest.approx((2 - 4 / 24) * day_width, abs=3)
    assert first["x"] + first["width"] < second["x"]
    calendar.show(day + timedelta(1))
    expect(calendar.card("Ada Lovelace")).to_be_visible()
    expect(calendar.card("Grace Hopper")).to_have_count(0)


def test_a_closure_lists_the_appointments_in_it(open_page: Open, service: Service) -> None:
    """The owner opens each from the list; the closure is seen in the calendar, and can be removed."""
    day = own_day(service)
    booked = book(service, day, 10)
    book(service, day, 10, resourceId="maria", guestName="Grace Hopper")
    calendar = open_calendar(open_page, service, "owner")
    calendar.show(day)
    calendar.page.get_by_role("button", name="Closures").click()
    dialog = calendar.dialog
    expect(dialog.get_by_label("From", exact=True)).to_have_value(str(day))
    dialog.get_by_label("With").select_option("Rosa")
    dialog.get_by_label("Reason").fill("Training")
    dialog.get_by_role("button", name="Close then").click()
    expect(dialog.get_by_role("status")).to_contain_text("One appointment stays in this time")
    expect(dialog.get_by_role("listitem").filter(has_text="Rosa, Training")).to_be_visible()
    assert serious_faults(calendar.page) == []
    dialog.get_by_role("status").get_by_role("button").click()
    expect(dialog.get_by_role("heading")).to_have_text("Ada Lovelace")
    dialog.get_by_role("button", name="Close").click()
    expect(calendar.column("Rosa")).to_contain_text("Closed")
    expect(calendar.column("Rosa").locator(".closure")).to_have_text("Training")
    expect(calendar.column("Maria").locator(".closure")).to_have_count(0)
    calendar.page.get_by_role("button", name="Closures").click()
    dialog.get_by_role("button", name="Remove").click()
    expect(dialog.get_by_text("None from now on")).to_be_visible()
    dialog.get_by_role("button", name="Close", exact=True).click()
    expect(calendar.column("Rosa").locator(".closure")).to_have_count(0)
    assert service.call("GET", f"{APPOINTMENTS}/{booked['appointmentId']}")["status"] == "confirmed"


def test_a_closure_whose_answers_were_lost_is_made_and_removed_once(open_page: Open, service: Service) -> None:
    """By the page, and by its user who repeats it."""
    day = own_day(service)
    calendar = open_calendar(open_page, service, "owner")
    calendar.show(day)
    attempts: list[str] = []

    def lose(route: Route) -> None:
        attempts.append(route.request.method)
        if len(attempts) in (1, 5):
            route.fetch()
        if len(attempts) in (1, 2, 3, 5):
            route.abort()
        else:
            route.fallback()

    calendar.page.route("**/closures/*", lose)
    calendar.page.get_by_role("button", name="Closures").click()
    dialog = calendar.dialog
    dialog.get_by_role("button", name="Close then").click()
    expect(dialog.get_by_role("alert")).to_contain_text("can't be reached")
    dialog.get_by_role("button", name="Close then").click()
    expect(dialog.get_by_role("status")).to_have_text("Closed.")
    expect(dialog.get_by_role("button", name="Remove")).to_have_count(1)
    dialog.get_by_role("button", name="Remove").click()
    expect(dialog.get_by_text("None from now on")).to_be_visible()
    assert attempts == ["PUT"] * 4 + ["DELETE"] * 2


def test_a_closure_of_hours(open_page: Open, service: Service) -> None:
    """Of the whole business, from one time to another; an end before the beginning is a fault at the field."""
    day = own_day(service)
    calendar = open_calendar(open_page, service, "owner")
    calendar.show(day)
    calendar.page.get_by_role("button", name="Closures").click()
    first = calendar.dialog.get_by_label("From")
    first.fill("")
    calendar.dialog.get_by_role("button", name="Close then").click()
    expect(first).to_have_attribute("aria-invalid", "true")
    expect(first).to_be_focused()
    first.fill(str(day))
    calendar.dialog.get_by_label("Time, or none").fill("14:00")
    calendar.dialog.get_by_label("Time", exact=True).fill("13:00")
    calendar.dialog.get_by_role("button", name="Close then").click()
    expect(calendar.dialog.get_by_label("Until")).to_have_attribute("aria-invalid", "true")
    expect(first).not_to_have_attribute("aria-invalid", "true")
    expect(first).not_to_have_attribute("aria-describedby", re.compile("."))
    calendar.dialog.get_by_label("Time", exact=True).fill("16:00")
    calendar.dialog.get_by_role("button", name="Close then").click()
    expect(calendar.dialog.get_by_role("status")).to_have_text("Closed.")
    [closure] = service.call("GET", "/api/catalog/businesses/salon/closures")["items"]
    assert (closure["date"], closure["from"], closure["to"]) == (None, utc(at(day, 14)), utc(at(day, 16)))
    service.call("DELETE", f"/api/catalog/businesses/salon/closures/{closure['closureId']}")


def test_it_goes_on_at_midnight(open_page: Open, service: Service) -> None:
    """Where the present day is shown; a page that is loaded again on the next morning shows that, too."""
    page = open_page("/")
    day = own_day(service)
    page.clock.install(time=at(day, 23.99))
    page.goto(f"{service.url}/calendar")
    calendar = sign_in(page, "salon", key_of(service, "staff"))
    shown = page.locator("[data-date]").first
    expect(shown).to_have_attribute("data-date", str(day))
    let_pass(page, timedelta(minutes=2))
    expect(shown).to_have_attribute("data-date", str(day + timedelta(1)))
    page.clock.set_system_time(at(day + timedelta(2), 8))
    page.reload()
    expect(shown).to_have_attribute("data-date", str(day + timedelta(2)))
    calendar.show(day)
    page.clock.set_system_time(at(day + timedelta(3), 8))
    page.reload()
    expect(shown).to_have_attribute("data-date", str(day))


def test_many_columns_keep_the_hours_in_view(open_page: Open, service: Service) -> None:
    """While they are scrolled to the side."""
    calendar = open_calendar(open_page, service, viewport={"width": 720, "height": 600})
    page = calendar.page
    page.get_by_role("button", name="Week", exact=True).click()
    expect(page.locator(".column")).to_have_count(7)
    axis = page.locator(".axis span").first
    before = axis.bounding_box()
    page.locator("#grid").evaluate("grid => { grid.scrollLeft = 300; }")
    assert axis.bounding_box() == before
    page.screenshot(path=SCREENSHOTS / "calendar-scrolled-720.png")


def test_a_printed_day_has_all_its_hours(open_page: Open, service: Service) -> None:
    """And nothing to press but its appointments."""
    day = own_day(service)
    book(service, day, 18, guestName="The last")
    calendar = open_calendar(open_page, service, "owner", viewport={"width": 720, "height": 500})
    calendar.show(day)
    calendar.page.emulate_media(media="print")
    grid = calendar.page.locator("#grid")
    assert grid.evaluate("grid => grid.scrollHeight <= grid.clientHeight")
    expect(calendar.page.get_by_role("button")).to_have_count(1)
    expect(calendar.page.locator("#range")).to_be_visible()
    calendar.page.screenshot(path=SCREENSHOTS / "calendar-printed-720.png", full_page=True)


def test_colours_of_the_system_tell_the_view(open_page: Open, service: Service) -> None:
    """The chosen one, and the closed hours from the open ones."""
    calendar = open_calendar(open_page, service)
    calendar.show(own_day(service))
    page = calendar.page
    page.emulate_media(forced_colors="active")
    day, week = (
        page.get_by_role("button", name=name, exact=True).evaluate("one => getComputedStyle(one).backgroundColor")
        for name in ("Day", "Week")
    )
    assert day != week
    assert page.locator(".shut").first.evaluate("one => getComputedStyle(one).backgroundImage") != "none"
    page.screenshot(path=SCREENSHOTS / "calendar-forced-colours-1280.png")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("business", "view"), [("salon", "Day"), ("salon", "Week"), ("hotel", "Week")])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_a_view_has_no_serious_faults(
    open_page: Open, service: Service, business: str, view: str, size: dict[str, int], scheme: str
) -> None:
    """In both schemes, on a phone and on a desktop; a picture of each is kept to be looked at."""
    day = own_day(service)
    fill_a_week(service, business, day)
    calendar = open_calendar(open_page, service, "owner", business, viewport=size, color_scheme=scheme)
    calendar.show(day, view)
    expect(calendar.card("Ada Lovelace").first).to_be_visible()
    assert serious_faults(calendar.page) == []
    SCREENSHOTS.mkdir(exist_ok=True)
    calendar.page.screenshot(
        path=SCREENSHOTS / f"calendar-{business}-{view.lower()}-{size['width']}-{scheme}.png", full_page=True
    )


@pytest.mark.parametrize("locale", ["en-GB", "de-DE"])
def test_a_small_phone_needs_no_scrolling_to_the_side(open_page: Open, service: Service, locale: str) -> None:
    """Lists of all columns, and the hours of a chosen one; in English and in German."""
    day = own_day(service)
    book(service, day, 10)
    page = open_page("/calendar", viewport=SMALLEST_PHONE, locale=locale)
    names = {"en-GB": ("Business", "Key", "Sign in", "Show"), "de-DE": ("Betrieb", "Schlüssel", "Anmelden", "Anzeigen")}
    business, key, send, show = names[locale]
    page.get_by_label(business).fill("salon")
    page.get_by_label(key).fill(key_of(service, "owner"))
    page.get_by_role("button", name=send).click()
    page.locator("#date").fill(str(day))
    card = page.get_by_role("button", name="Ada Lovelace")
    for choice in ("", "rosa"):
        page.get_by_label(show).select_option(choice)
        expect(card).to_be_visible()
        expect(page.locator(".axis")).to_be_visible(visible=choice != "")
        assert is_narrow(page)
    card.click()
    page.get_by_role("dialog").locator("summary").first.click()
    assert is_narrow(page)
    assert page.get_by_role("dialog").evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")
    assert serious_faults(page) == []


def fill_a_week(service: Service, business: str, day: date) -> None:
    """Books what a picture should show."""
    if business == "hotel":
        night = {"businessId": "hotel", "serviceId": "double"}
        book(service, day, 15, slotEnd=at(day + timedelta(2), 11), resourceId="room-11", **night)
        book(service, day + timedelta(1), 15, resourceId="room-12", guestName="Grace Hopper", **night)
        return
    for offset in range(3):
        book(service, day + timedelta(offset), 9.5)
        book(service, day + timedelta(offset), 10.5, serviceId="colouring", guestName="Grace Hopper")
        book(service, day + timedelta(offset), 14, resourceId="maria", guestName="Emmy Noether")
    for guest in ("Hedy Lamarr", "Lise Meitner"):
        book(service, day, 16, serviceId="styling-class", resourceId=None, guestName=guest, quantity=2)
    slot = {"businessId": "salon", "serviceId": "haircut", "slotStart": at(day, 13), "resourceId": "rosa"}
    service.call("POST", "/api/booking/reserve", slot)


def test_local_times_are_found_around_a_change_of_the_clock(open_page: Open) -> None:
    """Also where the offset of the same digits in UTC is another one, and in a year that was typed with two digits. A
    skipped time is after the gap."""
    page = open_page("/calendar")
    cases = {
        ("Europe/Berlin", "2027-03-28", 60): "2027-03-28T00:00:00.000Z",
        ("Europe/Berlin", "2027-10-31", 1440): "2027-10-31T23:00:00.000Z",
        ("America/Santiago", "2027-09-05", 0): "2027-09-05T04:00:00.000Z",
        ("Africa/Cairo", "2027-04-30", 0): "2027-04-29T22:00:00.000Z",
        ("America/New_York", "2027-03-14", 360): "2027-03-14T10:00:00.000Z",
        ("America/New_York", "2027-11-07", 180): "2027-11-07T08:00:00.000Z",
        ("Pacific/Apia", "2027-06-01", 0): "2027-05-31T11:00:00.000Z",
        ("UTC", "0027-02-15", 600): "0027-02-15T10:00:00.000Z",
    }
    code = """async (cases) => {
        const { instantOf, setZone } = await import("/static/calendar/time.js");
        return cases.map(([zone, date, minutes]) => (setZone(zone), instantOf(date, minutes).toISOString()));
    }"""
    assert page.evaluate(code, [list(case) for case in cases]) == list(cases.values())


def utc(instant: str) -> str:
    """Writes an instant as answers have it."""
    return datetime.fromisoformat(instant).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
