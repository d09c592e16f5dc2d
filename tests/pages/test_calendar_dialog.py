"""The dialog of the calendar page that is closed before the answer to its action."""

from playwright.sync_api import Route, expect

from tests.pages.calendars import APPOINTMENTS, CalendarPage, book, edit, own_day, read, show_booking
from tests.pages.conftest import Service


def hold_back(calendar: CalendarPage, address: str, method: str) -> list[Route]:
    """Lets the calls of a method to an address wait, and returns them."""
    waiting: list[Route] = []

    def wait(route: Route) -> None:
        if route.request.method == method:
            waiting.append(route)
        else:
            route.fallback()

    calendar.page.route(address, wait)
    return waiting


def test_a_change_that_is_answered_late_leaves_the_next_dialog(calendar: CalendarPage, service: Service) -> None:
    """What is entered there stays, and can be saved meanwhile."""
    day, booked = show_booking(calendar, service)
    other = book(service, day, 12, guestName="Grace Hopper")
    waiting = hold_back(calendar, f"**{APPOINTMENTS}/{booked['appointmentId']}?*", "PATCH")
    edit(calendar)
    calendar.dialog.get_by_label("Notes").fill("Short, please")
    calendar.dialog.get_by_role("button", name="Save").click()
    expect(calendar.dialog.get_by_role("alert").filter(visible=True)).to_have_text("Waiting for an answer …")
    calendar.press("Escape")
    edit(calendar, "Grace Hopper")
    expect(calendar.dialog.get_by_role("alert").filter(visible=True)).to_have_count(0)
    calendar.dialog.get_by_label("Notes").fill("By the window")
    waiting.pop().continue_()
    expect(calendar.notice).to_contain_text("Saved")
    expect(calendar.dialog.get_by_label("Notes")).to_have_value("By the window")
    calendar.dialog.get_by_role("button", name="Save").click()
    expect(calendar.dialog).to_be_hidden()
    assert (read(service, booked)["notes"], read(service, other)["notes"]) == ("Short, please", "By the window")


def test_a_booking_that_is_answered_late_is_not_the_one_in_the_dialog(calendar: CalendarPage, service: Service) -> None:
    """The next change is that of the appointment that is shown."""
    day = own_day(service)
    shown = book(service, day, 12, guestName="Grace Hopper")
    calendar.show(day)
    waiting = hold_back(calendar, f"**{APPOINTMENTS}", "POST")
    calendar.column("Maria").get_by_role("button", name="Book Maria").press("Enter")
    calendar.dialog.get_by_label("Name").fill("Emmy Noether")
    calendar.dialog.get_by_role("button", name="Save").click()
    calendar.press("Escape")
    edit(calendar, "Grace Hopper")
    waiting.pop().continue_()
    expect(calendar.notice).to_contain_text("Booked")
    calendar.dialog.get_by_label("Notes").fill("By the window")
    calendar.dialog.get_by_role("button", name="Save").click()
    expect(calendar.dialog).to_be_hidden()
    assert read(service, shown)["notes"] == "By the window"


def test_a_problem_of_a_closed_dialog_is_shown_above_the_calendar(calendar: CalendarPage, service: Service) -> None:
    """And not in the form of another appointment."""
    day, _ = show_booking(calendar, service)
    book(service, day, 12, guestName="Grace Hopper")
    waiting = hold_back(calendar, f"**{APPOINTMENTS}/*", "PATCH")
    edit(calendar)
    calendar.dialog.get_by_label("E-mail").fill("no address")
    calendar.dialog.get_by_role("button", name="Save").click()
    calendar.press("Escape")
    edit(calendar, "Grace Hopper")
    waiting.pop().continue_()
    expect(calendar.notice).not_to_be_empty()
    expect(calendar.dialog.get_by_label("E-mail")).to_have_accessible_description("")
    expect(calendar.dialog.get_by_role("alert").filter(visible=True)).to_have_count(0)
