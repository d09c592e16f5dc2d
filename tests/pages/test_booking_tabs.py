"""The booking page in several tabs of one browser, which know nothing of each other."""

from playwright.sync_api import Page, expect

from tests.pages.conftest import Open, Service, become
from tests.pages.guests import appointments, book, booked, fill_in, hold, make_business, open_slots, slot


def duplicate(page: Page) -> Page:
    """Opens the page in another tab with a copy of what it stores, as the browser does for a duplicate."""
    with page.expect_popup() as opened:
        page.evaluate("window.open(location.href)")
    return opened.value


def open_twice(open_page: Open, service: Service, business_id: str) -> tuple[Page, Page]:
    """Returns the form beside a slot that is held, in a tab and in its duplicate."""
    page = open_slots(open_page, make_business(service, business_id))
    hold(page, slot(page, "10:00"))
    fill_in(page)
    other = duplicate(page)
    expect(other.get_by_role("timer")).not_to_be_empty()
    return page, other


def test_a_slot_that_a_duplicated_tab_keeps_is_booked(open_page: Open, service: Service) -> None:
    """The duplicate has given the hold back and has made another one: nobody else has taken the slot."""
    page, other = open_twice(open_page, service, "doubled")
    other.get_by_role("button", name="Choose another time").click()
    expect(slot(other, "10:00")).to_have_attribute("aria-disabled", "false")
    hold(other, slot(other, "10:00"))
    expect(other.get_by_role("timer")).not_to_be_empty()
    book(page)
    assert appointments(service, "doubled") == 1


def test_a_time_that_overlaps_one_kept_in_another_tab_says_so(open_page: Open, service: Service) -> None:
    """It is the guest's own, and no other's."""
    page = open_slots(open_page, make_business(service, "overlaid", slotStepMinutes=30))
    other = duplicate(page)
    expect(slot(other, "10:30")).to_be_visible()
    # Changes reach this tab late.
    other.route("**/api/booking/availability*", lambda route: route.abort())
    hold(page, slot(page, "10:00"))
    slot(other, "10:30").click()
    expect(other.get_by_role("group", name="You are keeping this time already, in another tab")).to_be_focused()


def test_a_slot_that_a_duplicated_tab_has_booked_is_named_so(open_page: Open, service: Service) -> None:
    """To the guest who comes back to the form. One who sends it sees the booking."""
    page, other = open_twice(open_page, service, "mirrored")
    copy = duplicate(page)
    expect(copy.get_by_role("timer")).not_to_be_empty()
    book(other)
    become(copy, hidden=True)
    become(copy, hidden=False)
    expect(copy.get_by_role("group", name="You have booked this already, in another tab")).to_be_focused()
    expect(slot(copy, "10:00")).to_have_count(0)
    book(page)
    assert booked(page, service) == booked(other, service)
