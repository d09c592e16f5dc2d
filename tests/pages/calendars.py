"""The calendar page for its tests: keys, days of their own, appointments by the API, and the elements of the page."""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from playwright.sync_api import FloatRect, Locator, Page, Route, expect

from tests.pages.conftest import Open, Service
from tests.serving import wait_until

ZONE: Final = ZoneInfo("Europe/Berlin")
APPOINTMENTS: Final = "/api/booking/appointments"


def own_day(service: Service) -> date:
    """Returns a Tuesday that no other test with this service has, within the year in which guests may book."""
    today = datetime.now(ZONE).date()
    return today - timedelta(days=today.weekday()) + timedelta(weeks=next(service.weeks), days=1)


def at(day: date, hour: float) -> str:
    """Returns an hour of a day, by the clock of the business, as an instant."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZONE)
    return (midnight + timedelta(hours=hour)).isoformat()


def clock_of(instant: str) -> str:
    """Returns the time of day of an instant, by the clock of the business."""
    return datetime.fromisoformat(instant).astimezone(ZONE).strftime("%H:%M")


@cache
def key_of(service: Service, role: str, business_id: str = "salon", name: str = "Front desk") -> str:
    """Returns a key of a business, made once for a service."""
    made = service.call("POST", f"/api/catalog/businesses/{business_id}/keys", {"name": name, "role": role})
    return str(made["key"])


def book(service: Service, day: date, hour: float, **members: Any) -> dict[str, Any]:
    """Books a haircut with Rosa, or what `members` say, and returns the appointment."""
    body = {"businessId": "salon", "serviceId": "haircut", "resourceId": "rosa", "guestName": "Ada Lovelace"}
    made: dict[str, Any] = service.call("POST", APPOINTMENTS, body | {"slotStart": at(day, hour)} | members)
    return made


def read(service: Service, appointment: dict[str, Any]) -> dict[str, Any]:
    """Returns an appointment as it is now."""
    now: dict[str, Any] = service.call("GET", f"{APPOINTMENTS}/{appointment['appointmentId']}")
    return now


@dataclass
class CalendarPage:
    """The page, signed in."""

    page: Page

    def show(self, day: date, view: str = "Day") -> None:
        """Shows the day, or the week with it."""
        self.page.get_by_role("button", name=view, exact=True).click()
        self.page.locator("#date").fill(day.isoformat())
        shown = day if view == "Day" else day - timedelta(day.weekday())
        expect(self.page.locator("[data-date]").first).to_have_attribute("data-date", str(shown))

    def card(self, name: str) -> Locator:
        """The button of the appointment whose label has these words."""
        return self.page.locator("#drawn").get_by_role("button", name=name)

    def card_at(self, time: str, name: str) -> Locator:
        """The button of the appointment that begins at a time of day, and whose label has these words."""
        return self.page.locator("#drawn").get_by_role("button", name=re.compile(f"^[^:]*{time}.*{name}"))

    def column(self, name: str) -> Locator:
        """The column or the row with this heading."""
        return self.page.locator("#drawn").get_by_role("region", name=name)

    @property
    def dialog(self) -> Locator:
        """The dialog that is open."""
        return self.page.get_by_role("dialog")

    @property
    def notice(self) -> Locator:
        """The message above the calendar."""
        return self.page.locator("#notice")

    def press(self, *keys: str) -> None:
        """Presses keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)


def sign_in(page: Page, business: str, key: str) -> CalendarPage:
    """Fills in the form of the page, and sends it."""
    page.get_by_label("Business").fill(business)
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    return CalendarPage(page)


def open_calendar(
    open_page: Open, service: Service, role: str = "staff", business: str = "salon", **options: Any
) -> CalendarPage:
    """Opens the calendar of a business, and signs in with a key of this role."""
    key = key_of(service, role, business.removesuffix("-rosa"))
    calendar = sign_in(open_page("/calendar", **options), business, key)
    expect(calendar.page.get_by_role("button", name="Today")).to_be_visible()
    expect(calendar.page.locator(".zone").first).to_be_attached()
    return calendar


def show_booking(calendar: CalendarPage, service: Service, **members: Any) -> tuple[date, dict[str, Any]]:
    """Books an appointment of Ada's at ten, and shows its day. Returns the day and the appointment."""
    day = own_day(service)
    booked = book(service, day, 10, **members)
    calendar.show(day)
    return day, booked


def show_booking_without_news(calendar: CalendarPage, service: Service) -> tuple[date, dict[str, Any]]:
    """Does the same on a page that does not hear of changes."""
    calendar.page.route("**/api/booking/stream*", lambda route: route.abort())
    calendar.page.reload()
    return show_booking(calendar, service)


def edit(calendar: CalendarPage, guest: str = "Ada Lovelace") -> None:
    """Opens the form of a guest's appointment."""
    calendar.card(guest).click()
    calendar.dialog.get_by_text("Change or move").click()


def cancel(calendar: CalendarPage, reason: str) -> None:
    """Cancels Ada's appointment in its dialog."""
    calendar.card("Ada Lovelace").click()
    calendar.dialog.get_by_text("Cancel the appointment").click()
    calendar.dialog.get_by_label("Reason").fill(reason)
    calendar.dialog.get_by_role("button", name="Cancel it").click()


def box_of(element: Locator) -> FloatRect:
    """Returns the place of an element. At the moment at which the calendar is drawn anew, it has none."""
    found: list[FloatRect] = []

    def look() -> list[FloatRect]:
        if box := element.bounding_box():
            found.append(box)
        return found

    wait_until(look, "the place of an element")
    return found[0]


def drag(page: Page, *way: tuple[float, float]) -> None:
    """Presses the button of the mouse at the first place, and moves it to each of the others in three steps."""
    first, *others = way
    page.mouse.move(*first)
    page.mouse.down()
    for place in others:
        page.mouse.move(*place, steps=3)


def lose_first_answer(calendar: CalendarPage, address: str) -> list[Route]:
    """Lets the answer to the first call of an address get lost, whose effect stays. Returns the calls."""
    calls: list[Route] = []

    def answer(route: Route) -> None:
        calls.append(route)
        if len(calls) == 1:
            route.fetch()
            route.abort()
        else:
            route.fallback()

    calendar.page.route(address, answer)
    return calls
