"""The booking by its link: its terms, its calendar file, a move and a cancellation."""

import re
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from tests.pages.conftest import PHONE, Open, Service, become, serious_faults
from tests.pages.guests import (
    ADA,
    book,
    booked,
    choose,
    fill_in,
    free_slots,
    hold,
    make_business,
    next_month,
    picture,
    slot,
)
from tests.serving import wait_until

MONTHS_MINUTES = 60 * 24 * 90
SLOT = ("slotStart", "slotEnd")
DAY = timedelta(days=1)


def make_booking(open_page: Open, service: Service, business_id: str, **members: Any) -> Page:
    """Books the slot at ten o'clock on the first day of the next month, and returns the page with the booking."""
    page = open_page(make_business(service, business_id, **members))
    free_slots(page).first.wait_for()
    next_month(page)
    hold(page, slot(page, "10:00"))
    fill_in(page)
    book(page)
    return page


def path_of(page: Page, service: Service) -> str:
    """Returns the link of a booking, as the guest keeps it."""
    return page.url.removeprefix(service.url)


def test_a_guest_moves_a_booking_by_its_link(open_page: Open, service: Service) -> None:
    """In another browser. The old slot is kept until the new one is taken, and no address has the token."""
    link = path_of(make_booking(open_page, service, "mover"), service)
    page = open_page("/static/start.html", viewport=PHONE)
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url + str(request.headers.get("referer"))))
    page.goto(service.url + link)
    expect(page.get_by_role("heading", name="Your booking")).to_be_visible()
    expect(page.locator("#booked .panel")).to_contain_text("Ada Lovelace")
    before = booked(page, service)
    page.get_by_role("button", name="Move it").click()
    expect(page.get_by_text("It stays yours until you have the new time")).to_be_visible()
    # On the day of the booking.
    expect(slot(page, "11:00")).to_be_visible()
    expect(slot(page, "10:00")).to_have_text("10:00Your booking")
    picture(page, "move-375")
    assert serious_faults(page) == []
    slot(page, "15:00").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="No, go back").click()
    assert booked(page, service) == before
    slot(page, "15:00").click()
    # Another guest takes the slot first.
    reserved = {"businessId": "mover", "serviceId": "visit"}
    start = str(slot(page, "15:00").get_attribute("data-start"))
    service.call("POST", "/api/booking/reserve", reserved | {"slotStart": start})
    dialog.get_by_role("button", name="Move it").click()
    notice = page.get_by_role("group", name="This time has just been taken")
    assert booked(page, service) == before
    notice.get_by_role("button", name="14:00").click()
    dialog.get_by_role("button", name="Move it").click()
    expect(page.get_by_role("heading", name="Your booking is moved")).to_be_visible()
    expect(page.locator("#booked .panel")).to_contain_text("14:00")
    assert booked(page, service)["slotStart"] == re.sub("T..:", f"T{int(start[11:13]) - 1:02}:", start)
    token = link.partition("token=")[2]
    assert addresses
    assert not [address for address in addresses if token in address.partition("#")[0]]


def test_a_guest_keeps_a_booking_as_it_is(open_page: Open, service: Service) -> None:
    """The button and the browser's own lead back to the booking; and from there to another booking."""
    page = make_booking(open_page, service, "keeper")
    for leave in (page.get_by_role("button", name="Keep it as it is").click, page.go_back):
        page.get_by_role("button", name="Move it").click()
        free_slots(page).first.wait_for()
        leave()
        expect(page.get_by_role("heading", name="Your booking")).to_be_visible()
    page.get_by_role("link", name="Make another booking").click()
    free_slots(page).first.wait_for()
    assert "#" not in page.url


def test_a_stay_is_moved_by_a_night_and_prolonged(open_page: Open, service: Service) -> None:
    """Also to nights of the stay itself, which nobody else has; its own place moves nothing."""
    nights = {"durationMinutes": None, "durationDays": 1, "maxDurationDays": 5, "startTimes": ["14:00"]}
    page = open_page(make_business(service, "inn", endTime="11:00", **nights))
    choose(page, "Visit", {"Length of stay": "3 nights"})
    next_month(page)
    hold(page)
    fill_in(page)
    book(page)
    stay = booked(page, service)

    def move(day: int, heading: str) -> tuple[timedelta, timedelta]:
        date = datetime.fromisoformat(stay["slotStart"]).date() + timedelta(days=day)
        page.locator(f"[data-date='{date}'][aria-disabled=false]").click()
        page.locator(f"#slots [data-start^='{date}'][aria-disabled=false]").click()
        page.get_by_role("dialog").get_by_role("button", name="Move it").click()
        expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
        now = booked(page, service)
        start, end = (datetime.fromisoformat(now[at]) - datetime.fromisoformat(stay[at]) for at in SLOT)
        return start, end

    page.get_by_role("button", name="Move it").click()
    expect(free_slots(page)).to_contain_text("Your booking")
    assert serious_faults(page) == []
    assert move(0, "Your booking") == (0 * DAY, 0 * DAY)
    page.get_by_role("button", name="Move it").click()
    assert move(1, "Your booking is moved") == (DAY, DAY)
    page.get_by_role("button", name="Move it").click()
    page.get_by_role("combobox", name="Length of stay").select_option(label="4 nights")
    assert move(1, "Your booking is moved") == (DAY, 2 * DAY)


def change_lengths(page: Page, service: Service, business_id: str, **members: int) -> None:
    """Changes the lengths of the service of a booking, and waits until the page offers a move by them."""
    visit = f"/api/catalog/businesses/{business_id}/services/visit"
    with page.expect_response(f"**/public/{business_id}*"):
        service.call("PUT", visit, {"name": "Visit"} | members)
    page.get_by_role("button", name="Move it").click()
    free_slots(page).first.wait_for()
    expect(page.locator("#day")).to_have_js_property("inert", False)


def test_a_move_keeps_a_length_between_those_that_are_listed(open_page: Open, service: Service) -> None:
    """It lies within the range of the service, so that the service takes it."""
    page = make_booking(open_page, service, "lasting")
    wait_until(service.open_streams, "the stream")
    lengths = {"durationMinutes": 45, "minDurationMinutes": 45, "maxDurationMinutes": 90, "slotStepMinutes": 45}
    change_lengths(page, service, "lasting", **lengths)
    expect(page.get_by_role("combobox", name="How long").locator(":checked")).to_have_text("1 hr")
    slot(page, "12:00").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).not_to_contain_text("instead")
    dialog.get_by_role("button", name="Move it").click()
    expect(page.get_by_role("heading", name="Your booking is moved")).to_be_visible()
    start, end = (datetime.fromisoformat(booked(page, service)[at]) for at in SLOT)
    assert end - start == timedelta(hours=1)


def test_a_move_to_another_length_says_so_before_the_guest_agrees(open_page: Open, service: Service) -> None:
    """Where the service does not offer that of the booking any more."""
    page = make_booking(open_page, service, "longer")
    wait_until(service.open_streams, "the stream")
    change_lengths(page, service, "longer", durationMinutes=90)
    slot(page, "12:00").click()
    expect(page.get_by_role("dialog")).to_contain_text("It takes 1 hr 30 mins then, instead of 1 hr.")


def test_an_address_that_may_not_be_copied_is_shown(open_page: Open, service: Service) -> None:
    """As in the browser of another app: the guest selects it there."""
    page = make_booking(open_page, service, "copyist")
    refusal = "Promise.reject(new DOMException('no', 'NotAllowedError'))"
    page.evaluate(f"void (navigator.clipboard.writeText = () => {refusal})")
    page.get_by_role("button", name="Copy the address").click()
    expect(page.get_by_role("group", name=page.url)).to_be_focused()


def test_a_guest_cancels_a_booking_by_its_link(open_page: Open, service: Service) -> None:
    """Once the guest has said yes. The link shows that it is cancelled, and the slot is free again."""
    link = path_of(make_booking(open_page, service, "canceller"), service)
    page = open_page(link)
    dialog = page.get_by_role("dialog")
    page.get_by_role("button", name="Cancel it").click()
    expect(dialog).to_contain_text("Cancel this booking for good?")
    # The Enter key, held down a little longer, does not cancel.
    expect(dialog.get_by_role("button", name="No, go back")).to_be_focused()
    assert serious_faults(page) == []
    page.keyboard.press("Escape")
    assert booked(page, service)["status"] == "confirmed"
    page.get_by_role("button", name="Cancel it").click()
    dialog.get_by_role("button", name="Cancel it").click()
    # The button that had the focus is gone.
    expect(page.get_by_role("heading", name="This booking is cancelled")).to_be_focused()
    assert booked(page, service)["status"] == "cancelled"
    for name in ("Cancel it", "Move it"):
        expect(page.get_by_role("button", name=name)).to_be_hidden()
    page.reload()
    expect(page.get_by_role("heading", name="This booking is cancelled")).to_be_visible()


def test_a_window_that_is_closed_is_explained(open_page: Open, service: Service) -> None:
    """In plain words, with the instant until which it was open and what to do now."""
    terms = {"cancellationWindowMinutes": MONTHS_MINUTES, "rescheduleWindowMinutes": 60}
    page = make_booking(open_page, service, "strict", **terms)
    expect(page.locator("#booked")).to_contain_text(re.compile("You can move it online until .* 09:00"))
    expect(page.locator("#booked")).to_contain_text(re.compile("could be cancelled online until .* contact The strict"))
    expect(page.get_by_role("button", name="Move it")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel it")).to_be_hidden()
    both = {"cancellationWindowMinutes": MONTHS_MINUTES}
    page = make_booking(open_page, service, "stricter", **both)
    expect(page.locator("#booked")).to_contain_text(re.compile("could be moved or cancelled online until .*contact"))


def test_a_window_that_closes_meanwhile_refuses(open_page: Open, service: Service) -> None:
    """The page shows what the service says, where it did not watch the change."""
    page = make_booking(open_page, service, "closing")
    become(page, hidden=True)
    members = {"name": "Visit", "durationMinutes": 60, "cancellationWindowMinutes": MONTHS_MINUTES}
    service.call("PUT", "/api/catalog/businesses/closing/services/visit", members)
    page.get_by_role("button", name="Cancel it").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel it").click()
    expect(page.get_by_role("group", name="It is too late to cancel online")).to_be_focused()


def test_a_booking_goes_into_the_guests_own_calendar(open_page: Open, service: Service, tmp_path: Path) -> None:
    """As an iCalendar file: in UTC, escaped, folded, and with the id that the feeds of the business have."""
    name = "Farbe, Schnitt; Föhnen \\ und alles, was sonst noch schön macht in diesem Salon"
    page = make_booking(open_page, service, "dated", name=name)
    appointment = booked(page, service)
    with page.expect_download() as download:
        page.get_by_role("link", name="Add to my calendar").click()
    assert download.value.suggested_filename == "booking.ics"
    download.value.save_as(tmp_path / "booking.ics")
    content = (tmp_path / "booking.ics").read_bytes()
    lines = content.split(b"\r\n")
    assert lines[-1] == b""
    assert max(map(len, lines)) == 75
    unfolded = content.replace(b"\r\n ", b"").decode().split("\r\n")
    start, end = (re.sub(r"[-:]|\.\d+", "", appointment[at]) for at in ("slotStart", "slotEnd"))
    expected = {
        f"UID:{appointment['appointmentId']}@dated",
        f"DTSTART:{start}",
        f"DTEND:{end}",
        "SUMMARY:Farbe\\, Schnitt\\; Föhnen \\\\ und alles\\, was sonst noch schön macht in diesem Salon",
        "LOCATION:The dated",
    }
    assert expected <= set(unfolded)


def test_a_link_that_is_not_complete_is_explained(open_page: Open, service: Service) -> None:
    """The page says so, and shows no booking: also where a messenger has shortened it, or the token is not there."""
    link = path_of(make_booking(open_page, service, "cut"), service)
    for broken in (link[:-5], f"{link[:-5]}\N{HORIZONTAL ELLIPSIS}", link.partition("&")[0]):
        page = open_page(broken)
        expect(page.get_by_role("heading", name="This link to a booking is not complete")).to_be_visible()
        assert ADA["E-mail"] not in page.locator("main").inner_text()


def test_a_booking_that_the_business_cancels_meanwhile(open_page: Open, service: Service) -> None:
    """Its present state is shown to a guest who would move it, also after a reload in the middle of that."""
    page = make_booking(open_page, service, "recalled")
    page.get_by_role("button", name="Move it").click()
    free_slots(page).first.wait_for()
    become(page, hidden=True)
    cancel_at(page, service)
    slot(page, "15:00").click()
    page.get_by_role("dialog").get_by_role("button", name="Move it").click()
    expect(page.get_by_role("heading", name="This booking is cancelled")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="This booking is cancelled")).to_be_visible()


def test_a_booking_that_is_left_open_shows_a_cancellation(open_page: Open, service: Service) -> None:
    """A guest who comes back to the page does not go to an appointment that the business has cancelled."""
    page = make_booking(open_page, service, "patient")
    become(page, hidden=True)
    cancel_at(page, service)
    become(page, hidden=False)
    expect(page.get_by_role("heading", name="This booking is cancelled")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel it")).to_have_count(0)


def test_a_booking_in_view_shows_a_cancellation(open_page: Open, service: Service) -> None:
    """Without a reload: the page watches the slot of the booking, also while the guest chooses another one."""
    for business_id in ("attentive", "wavering"):
        page = make_booking(open_page, service, business_id)
        wait_until(service.open_streams, "the stream")
        if business_id == "wavering":
            page.get_by_role("button", name="Move it").click()
            free_slots(page).first.wait_for()
        else:
            page.get_by_role("button", name="Cancel it").focus()
        cancel_at(page, service)
        expect(page.get_by_role("heading", name="This booking is cancelled")).to_be_focused()
        expect(page.get_by_role("status").filter(has_text="This booking is cancelled")).to_be_attached()
        expect(page.get_by_role("button", name="Cancel it")).to_have_count(0)


def test_a_booking_that_the_business_moves_is_moved_from_there(open_page: Open, service: Service) -> None:
    """The guest goes on with the choice, and the page says which time it is now."""
    page = make_booking(open_page, service, "shifting")
    wait_until(service.open_streams, "the stream")
    page.get_by_role("button", name="Move it").click()
    expect(slot(page, "10:00")).to_contain_text("Your booking")
    expect(page.locator("#day")).to_have_js_property("inert", False)
    appointment = booked(page, service)
    start = datetime.fromisoformat(appointment["slotStart"]) + timedelta(hours=3)
    path = f"/api/booking/appointments/{appointment['appointmentId']}"
    service.call("PATCH", path, {"slotStart": start.isoformat(), "expectedVersion": 1})
    expect(page.locator("#moving")).to_contain_text("13:00")
    expect(slot(page, "13:00")).to_contain_text("Your booking")


def test_a_booking_in_view_is_read_seldom_while_others_book(open_page: Open, service: Service) -> None:
    """Some seconds pass between two reads, by the clock of the page, which the test moves. A booking at another time
    causes none."""
    page = make_booking(open_page, service, "crowded", maxSimultaneousBookings=50)
    start = datetime.fromisoformat(booked(page, service)["slotStart"])
    wait_until(service.open_streams, "the stream")
    page.clock.install()
    page.evaluate(
        """() => {
          window.reads = [];
          const { fetch } = window;
          window.fetch = (address, options) => {
            if (String(address).includes("/appointments/")) window.reads.push(performance.now());
            return fetch(address, options);
          };
        }"""
    )

    def reserve_and_read(slot_start: datetime) -> list[float]:
        body = {"businessId": "crowded", "serviceId": "visit", "slotStart": slot_start.isoformat()}
        service.call("POST", "/api/booking/reserve", body)
        page.clock.run_for(1000)
        reads: list[float] = page.evaluate("reads")
        return reads

    for _ in range(5):
        reserve_and_read(start + timedelta(hours=5))
    assert page.evaluate("reads") == []
    wait_until(lambda: len(reserve_and_read(start)) > 2, "three reads")
    reads = page.evaluate("reads")
    assert min(later - earlier for earlier, later in pairwise(reads)) >= 3000


def test_a_change_of_the_business_leaves_the_month_of_a_move(open_page: Open, service: Service) -> None:
    """The guest goes on where they were looking, and not at the booking."""
    page = make_booking(open_page, service, "steady")
    page.get_by_role("button", name="Move it").click()
    free_slots(page).first.wait_for()
    next_month(page)
    shown = page.locator("#month-name").inner_text()
    chosen = page.get_by_role("grid").get_by_role("button", pressed=True).get_attribute("data-date")
    visit = "/api/catalog/businesses/steady/services/visit"
    with page.expect_response("**/api/booking/availability?*"):
        service.call("PUT", visit, {"name": "Visit", "durationMinutes": 60, "description": "At ours"})
    expect(page.locator("#day")).to_have_js_property("inert", False)
    expect(page.locator("#month-name")).to_have_text(shown)
    expect(page.get_by_role("grid").get_by_role("button", pressed=True)).to_have_attribute("data-date", str(chosen))


def test_a_booking_of_a_service_that_is_withdrawn_is_not_moved(open_page: Open, service: Service) -> None:
    """The guest, who is about to move it, sees the booking again, and no slots of another service."""
    page = make_booking(open_page, service, "shrinking")
    path = "/api/catalog/businesses/shrinking/services"
    service.call("PUT", f"{path}/other", {"name": "Another service", "durationMinutes": 30})
    page.get_by_role("button", name="Move it").click()
    expect(slot(page, "11:00")).to_be_visible()
    service.call("DELETE", f"{path}/visit")
    expect(page.get_by_role("heading", name="Your booking")).to_be_visible()
    expect(page.get_by_role("button", name="Move it")).to_have_count(0)
    expect(page.get_by_role("button", name="Cancel it")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Your booking")).to_be_visible()
    expect(page.locator("#booked .terms")).to_have_text(re.compile(r"^You can cancel it online until [^.]*\.$"))
    expect(page.locator("#booked h3")).to_be_hidden()


def cancel_at(page: Page, service: Service) -> None:
    """Cancels the booking of a page, as its business does."""
    path = f"/api/booking/appointments/{booked(page, service)['appointmentId']}/cancel"
    service.call("POST", path, {"reason": "The power is out"})
