"""The appearance of the booking page: small screens, large letters, other directions and colours, paper."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Page, Route, expect

from tests.pages.conftest import PHONE, SMALLEST_PHONE, Open, Service, is_narrow
from tests.pages.guests import (
    ADA,
    book,
    date_of,
    fill_in,
    following_month,
    free_slots,
    hold,
    make_business,
    next_month,
    picture,
    today,
)


def test_right_to_left_turns_the_arrows(open_page: Open) -> None:
    """The next date is where the eye sees it."""
    page = open_page("/book/yoga-loft")
    free_slots(page).first.wait_for()
    page.evaluate("document.documentElement.dir = 'rtl'")
    page.get_by_role("grid").get_by_role("button", pressed=True).focus()
    first = date_of(page)
    page.keyboard.press("ArrowLeft")
    assert date_of(page) == first + timedelta(days=1)
    picture(page, "rtl-1280")
    # The signs of the buttons are mirrored by the browser: once more, and they would point inwards.
    for name in ("Previous month", "Next month"):
        expect(page.get_by_role("button", name=name)).to_have_css("transform", "none")


def test_letters_of_double_size_leave_room_for_words(open_page: Open, service: Service) -> None:
    """On a phone, the sentence beside the countdown has more than a letter in each of its lines."""
    page = open_page(make_business(service, "large"), viewport=PHONE)
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    next_month(page)
    hold(page)
    assert is_narrow(page)
    box = page.locator("#held p").bounding_box()
    assert box
    assert box["width"] > PHONE["width"] / 2
    picture(page, "large-375")


@pytest.mark.parametrize("slug", ["lake-hotel", "salon-rosa"])
def test_a_narrow_phone_is_wide_enough(open_page: Open, slug: str) -> None:
    """Nothing has to be scrolled sideways, in any step."""
    page = open_page(f"/book/{slug}", viewport=SMALLEST_PHONE, locale="de-DE")
    free_slots(page).first.wait_for()
    next_month(page, "Nächster Monat")
    free_slots(page).first.click()
    expect(page.get_by_role("heading", name="Ihre Angaben")).to_be_visible()
    picture(page, f"details-{slug}-320")
    assert is_narrow(page)
    fill_in(page, {"Name": "Ada", "E-Mail": "ada@example.com"})
    book(page, "Verbindlich buchen", "Ihre Buchung steht")
    assert is_narrow(page)
    page.get_by_role("button", name="Verschieben").click()
    free_slots(page).first.wait_for()
    assert is_narrow(page)


def test_long_names_are_broken(open_page: Open, service: Service) -> None:
    """On a phone nothing has to be scrolled sideways: of a business, a service, a description and a guest."""
    name = "Donaudampfschifffahrtsgesellschaft" * 5
    path = make_business(service, "wordy", name=name, description=f"https://example.com/{name}")
    business = {"name": name, "slug": "wordy", "timezone": "Europe/Berlin", "description": name}
    service.call("PUT", "/api/catalog/businesses/wordy", business)
    page = open_page(path, viewport=SMALLEST_PHONE)
    next_month(page)
    assert is_narrow(page)
    hold(page)
    assert is_narrow(page)
    fill_in(page, ADA | {"Name": name})
    book(page)
    assert is_narrow(page)
    picture(page, "long-names-320")


def test_long_names_of_double_size_fit_a_phone(open_page: Open, service: Service) -> None:
    """Nothing is wider than its place, and the values of the summary have more than a letter in each of their lines."""
    name = "Donaudampfschifffahrtsgesellschaft" * 3
    path = make_business(service, "wordier", description=name)
    resource = {"name": name, "kind": "Dampfschifffahrtskapitaenskajuete"}
    business = "/api/catalog/businesses/wordier"
    for resource_id in ("one", "two"):
        service.call("PUT", f"{business}/resources/{resource_id}", resource)
    members = {"name": name, "durationMinutes": 60, "maxDurationMinutes": 120, "resourceIds": ["one", "two"]}
    service.call("PUT", f"{business}/services/visit", members)
    page = open_page(path, viewport=SMALLEST_PHONE, locale="de-DE")
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    free_slots(page).first.wait_for()
    assert too_wide(page) == []
    free_slots(page).first.click()
    expect(page.locator("#guest")).to_be_visible()
    assert too_wide(page) == []
    for value in page.locator("#details dd").all():
        assert value.evaluate("dd => dd.clientWidth") > 150
    fill_in(page, {"Name": name, "E-Mail": "ada@example.com"})
    page.locator("#guest .primary").click()
    expect(page.locator("#booked")).to_be_visible()
    assert too_wide(page) == []
    page.set_viewport_size({"width": 1000, "height": 800})
    assert too_wide(page) == []


def too_wide(page: Page) -> list[str]:
    """Returns the elements that do not fit into the window, or whose content does not fit into them."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("main *")]
          .filter(({ tagName }) => !["INPUT", "SELECT"].includes(tagName))
          .filter((one) => one.getBoundingClientRect().right > innerWidth || one.scrollWidth > one.clientWidth + 1)
          .filter((one) => getComputedStyle(one).display !== "inline")
          .map((one) => one.outerHTML.slice(0, 80))"""
    )
    return found


def test_the_present_day_is_marked(open_page: Open, service: Service) -> None:
    """Also where the first day that can be booked is a later one."""
    page = open_page(make_business(service, "planner", minNoticeMinutes=60))
    # In the middle of the next month: the service lists its days, and both dates are in view.
    tenth = datetime(*following_month(today()), 10, 23, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    answered = {"date": format_datetime(tenth.astimezone(UTC), usegmt=True)}

    def at_the_tenth(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, headers=response.headers | answered)

    page.route("**/en.json", at_the_tenth)
    page.reload()
    free_slots(page).first.wait_for()
    expect(page.locator("#month [aria-current=date]")).to_have_attribute("data-date", f"{tenth:%F}")
    eleventh = f"{tenth + timedelta(days=1):%F}"
    expect(page.get_by_role("grid").get_by_role("button", pressed=True)).to_have_attribute("data-date", eleventh)


def test_colours_of_the_system_tell_the_chosen_date(open_page: Open) -> None:
    """And the free dates from the others."""
    page = open_page("/book/salon-rosa")
    page.emulate_media(forced_colors="active")
    next_month(page)
    picture(page, "forced-colours-1280")
    month = page.get_by_role("grid")
    chosen = month.get_by_role("button", pressed=True)
    free = month.get_by_role("button", pressed=False, disabled=False).first
    closed = month.get_by_role("button", disabled=True).first
    looks = [
        one.evaluate("one => [getComputedStyle(one).backgroundColor, getComputedStyle(one).color]")
        for one in (chosen, free, closed)
    ]
    assert looks[0][0] != looks[1][0]
    assert looks[1][1] != looks[2][1]


def test_a_long_list_of_services_keeps_the_month_within_reach(open_page: Open, service: Service) -> None:
    """It scrolls by itself, also by the keys."""
    path = make_business(service, "broad")
    for number in range(30):
        members = {"name": f"Treatment {number:02}", "durationMinutes": 60}
        service.call("PUT", f"/api/catalog/businesses/broad/services/s{number}", members)
    page = open_page(path, viewport=PHONE)
    next_month(page)
    picture(page, "many-services-375")
    box = page.locator("#services").bounding_box()
    assert box
    assert box["height"] < PHONE["height"]
    last = page.get_by_role("radio").last
    last.focus()
    expect(last).to_be_in_viewport()


def test_names_from_right_to_left_keep_their_order(open_page: Open, service: Service) -> None:
    """The punctuation of a name stays at its end, and the length of a service behind its name."""
    path = make_business(service, "tel-aviv", name="תספורת לגברים", durationMinutes=45)
    business = {"name": "מספרת רוזה!", "slug": "tel-aviv", "timezone": "Asia/Jerusalem"}
    service.call("PUT", "/api/catalog/businesses/tel-aviv", business)
    page = open_page(path)
    next_month(page)
    assert left_of(page, "#business", "!") < left_of(page, "#business", "מ")
    hold(page)
    summary = "#details .panel h3"
    assert left_of(page, summary, "ת") < left_of(page, summary, "45") < left_of(page, summary, "mins")
    fill_in(page, ADA | {"Name": "דוד!"})
    book(page)
    assert left_of(page, "#booked dd:last-of-type", "!") < left_of(page, "#booked dd:last-of-type", "ד")
    picture(page, "right-to-left-names-1280")


def left_of(page: Page, selector: str, words: str) -> float:
    """Returns the place of the left edge of words in an element."""
    return float(
        page.locator(selector).evaluate(
            """(element, words) => {
              const range = document.createRange();
              const at = element.firstChild.data.indexOf(words);
              range.setStart(element.firstChild, at);
              range.setEnd(element.firstChild, at + words.length);
              return range.getBoundingClientRect().left;
            }""",
            words,
        )
    )


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_edges_of_fields_are_seen(open_page: Open, colours: str) -> None:
    """With a contrast of three at least, as WCAG 2.2 asks for what only a line shows."""
    page = open_page("/book/yoga-loft", color_scheme=colours)
    hold(page)
    edge, back = page.get_by_label("Name").evaluate(
        "field => [getComputedStyle(field).borderColor, getComputedStyle(document.body).backgroundColor]"
    )
    lighter, darker = sorted((luminance(edge), luminance(back)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 3


def luminance(colour: str) -> float:
    """Returns the relative luminance of a colour such as `rgb(1, 2, 3)`, by WCAG."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_a_booking_is_printed_without_buttons(open_page: Open, service: Service) -> None:
    """They are of no use on paper."""
    page = open_page(make_business(service, "printed"))
    next_month(page)
    hold(page)
    fill_in(page)
    book(page)
    page.emulate_media(media="print")
    expect(page.locator("#booked .panel")).to_be_visible()
    expect(page.get_by_role("button").or_(page.get_by_role("link"))).to_have_count(0)
