"""Guests at the booking page: what they see and press, by the roles that a screen reader tells."""

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

from playwright.sync_api import Locator, Page, expect

from tests.pages.conftest import Open, Service

ADA: Final = {"Name": "Ada Lovelace", "E-mail": "ada@example.com"}
PICTURES: Final = Path(__file__).parent / "screenshots"


def picture(page: Page, name: str) -> None:
    """Writes a picture of the whole page into the folder of pictures, which is not a part of the repository."""
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def make_business(service: Service, business_id: str, **members: Any) -> str:
    """Makes a business that is always open, with one service of an hour for one guest; returns the path of its page."""
    business = f"/api/catalog/businesses/{business_id}"
    service.call("PUT", business, {"name": f"The {business_id}", "slug": business_id, "timezone": "Europe/Berlin"})
    service.call("PUT", f"{business}/services/visit", {"name": "Visit", "durationMinutes": 60} | members)
    return f"/book/{business_id}"


def free_slots(page: Page) -> Locator:
    """Returns the buttons of the slots that are free, once they are listed."""
    return page.locator("#slots").get_by_role("button", disabled=False)


def slot(page: Page, time: str) -> Locator:
    """Returns the button of the slot at a time of the day."""
    return page.locator("#slots").get_by_role("button", name=re.compile(rf"^{time}"))


def next_month(page: Page, button: str = "Next month") -> None:
    """Turns to the next month, so that the time of the day at which a test runs has no influence, and waits for the
    slots of its first free date."""
    month = page.get_by_role("grid")
    name = month.get_attribute("aria-labelledby")
    shown = page.locator(f"#{name}").inner_text()
    page.get_by_role("button", name=button).click()
    expect(page.locator(f"#{name}")).not_to_have_text(shown)
    expect(month).to_have_attribute("aria-busy", "false")
    expect(page.locator("#day")).to_have_js_property("inert", False)


def open_slots(open_page: Open, path: str) -> Page:
    """Opens a page in a window of its own, with the slots of the first day of the next month."""
    page = open_page(path)
    free_slots(page).first.wait_for()
    next_month(page)
    free_slots(page).first.wait_for()
    return page


def choose(page: Page, service: str, fields: Mapping[str, str] | None = None) -> None:
    """Chooses a service and fills in its fields."""
    page.get_by_role("radio", name=re.compile(f"^{service}")).check()
    for name, value in (fields or {}).items():
        options = page.get_by_role("combobox", name=name, exact=True)
        number = page.get_by_role("spinbutton", name=name, exact=True)
        if options.or_(number).get_attribute("name") == "quantity":
            number.fill(value)
            number.blur()
        else:
            options.select_option(label=value)


def hold(page: Page, which: Locator | None = None) -> None:
    """Presses a free slot, by default the first one, and sees the form."""
    (which or free_slots(page).first).click()
    expect(page.get_by_role("heading", name="Your details")).to_be_visible()


def fill_in(page: Page, fields: Mapping[str, str] = ADA) -> None:
    """Writes into the form."""
    for name, value in fields.items():
        page.get_by_label(name, exact=True).fill(value)


def book(page: Page, button: str = "Book now", heading: str = "You're booked") -> None:
    """Presses the button of the form, and sees the booking."""
    page.get_by_role("button", name=button).click()
    expect(page.get_by_role("heading", name=heading)).to_be_visible()


def booked(page: Page, service: Service) -> Any:
    """Returns the appointment whose ticket is in the address of the page."""
    [appointment_id] = parse_qs(urlsplit(page.url).fragment)["appointment"]
    return service.call("GET", f"/api/booking/appointments/{appointment_id}")


def appointments(service: Service, business_id: str) -> int:
    """Returns the number of appointments of a business."""
    return int(service.database.value("SELECT count(*) FROM booking.appointments WHERE business_id = %s", business_id))


def date_of(page: Page) -> datetime:
    """Returns the date that has the focus."""
    return datetime.fromisoformat(str(page.locator(":focus").get_attribute("data-date")))


def today() -> datetime:
    """Returns the date in the businesses of the demo."""
    return datetime.now(ZoneInfo("Europe/Berlin")).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)


def following_month(day: datetime) -> tuple[int, int]:
    """Returns the year and the number of the month after that of a day."""
    return (day.year + day.month // 12, day.month % 12 + 1)
